"""FileStorage: what lies on disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import threading
from pathlib import Path

import pytest

from rimp_otel import (
    FileStorage,
    StorageError,
    TelemetryData,
    TelemetryEvent,
    TelemetryMetric,
)
from rimp_otel.otlp.signals import Signal

from ..contract.samples import everything
from ..processes import run
from .recordings import batch, contents, names


def messages(path):
    """What a new storage of this path reads."""
    return [event.message for event in FileStorage(path).retrieve().events]


def mode(path):
    """Its permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_one_file_for_each_signal(tmp_path):
    """Private to their owner; each line is OTLP JSON of that signal."""
    FileStorage(tmp_path / "telemetry").store(everything())
    directory = tmp_path / "telemetry"
    assert mode(directory) == 0o700
    assert {path.name: mode(path) for path in directory.iterdir()} == {
        "journal": 0o700,
        "traces.jsonl": 0o600,
        "logs.jsonl": 0o600,
        "metrics.jsonl": 0o600,
    }
    for name, key in (
        ("traces", "resourceSpans"),
        ("logs", "resourceLogs"),
        ("metrics", "resourceMetrics"),
    ):
        text = (directory / f"{name}.jsonl").read_text()
        assert text.endswith("\n")
        assert [list(json.loads(line)) for line in text.splitlines()] == [[key]]


def test_no_file_before_the_first_record(tmp_path):
    """Nor of a signal that has none."""
    storage = FileStorage(tmp_path / "telemetry")
    assert not storage.retrieve()
    assert list(tmp_path.iterdir()) == []
    storage.store(batch("a"))
    assert names(tmp_path / "telemetry") == ["journal", "logs.jsonl"]
    assert names(tmp_path / "telemetry" / "journal") == ["lock"]


def test_umask_of_the_process_opens_nothing(tmp_path):
    """Files are as private under a umask of 0."""
    before = os.umask(0)
    try:
        FileStorage(tmp_path / "deep" / "telemetry").store(batch("a"))
    finally:
        os.umask(before)
    assert mode(tmp_path / "deep" / "telemetry") == 0o700
    assert mode(tmp_path / "deep" / "telemetry" / "logs.jsonl") == 0o600


def test_family_of_files(tmp_path):
    """A path that ends in .jsonl names three beside each other."""
    FileStorage(tmp_path / "made" / "telemetry.jsonl").store(everything())
    assert names(tmp_path / "made") == [
        "telemetry-journal",
        "telemetry-logs.jsonl",
        "telemetry-metrics.jsonl",
        "telemetry-traces.jsonl",
    ]
    assert len(FileStorage(str(tmp_path / "made" / "telemetry.jsonl")).retrieve()) == len(
        everything()
    )


def test_relative_path(tmp_path, monkeypatch):
    """In the working directory; a family without a directory too."""
    monkeypatch.chdir(tmp_path)
    FileStorage("telemetry").store(batch("a"))
    FileStorage("x.jsonl").store(batch("b"))
    assert messages("telemetry") == ["a"]
    assert messages("x.jsonl") == ["b"]
    assert Path("x-logs.jsonl").exists()


def test_symbolic_link_is_refused(tmp_path):
    """And its target is untouched."""
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "x-logs.jsonl").symlink_to(target)
    with pytest.raises(StorageError, match=r"cannot append to .*x-logs.jsonl: "):
        FileStorage(tmp_path / "x.jsonl").store(batch("a"))
    assert target.read_text() == "precious"


def test_paths_that_cannot_be_written(tmp_path):
    """Are named, with the reason and the cure."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        FileStorage(tmp_path / "file").store(batch("a"))
    assert str(caught.value) == (
        f"cannot record into {tmp_path / 'file'}: File exists; "
        "give a path to a directory that can be written, or a file family ending in .jsonl"
    )
    (tmp_path / "y-logs.jsonl").mkdir()
    with pytest.raises(StorageError, match=r"cannot append to .*y-logs.jsonl: Is a directory"):
        FileStorage(tmp_path / "y.jsonl").store(batch("a"))


def test_paths_that_cannot_be_read(tmp_path):
    """Are named, with the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot read .*file/traces.jsonl: Not a directory"):
        FileStorage(tmp_path / "file").retrieve()
    (tmp_path / "y-logs.jsonl").mkdir()
    with pytest.raises(StorageError, match=r"cannot read .*y-logs.jsonl: Is a directory"):
        FileStorage(tmp_path / "y.jsonl").retrieve()


def test_missing_permission_is_named(tmp_path):
    """To read and to write."""
    FileStorage(tmp_path / "x.jsonl").store(batch("a"))
    tmp_path.chmod(0o755)
    script = """
    import os, sys
    from rimp_otel import FileStorage, StorageError, TelemetryData, TelemetryEvent
    if os.geteuid() == 0:
        os.setgid(65534), os.setuid(65534)
    else:
        os.chmod(sys.argv[2], 0)
    for act in (FileStorage.retrieve, lambda s: s.store(TelemetryData([TelemetryEvent("a", "b")]))):
        try:
            act(FileStorage(sys.argv[1]))
        except StorageError as error:
            print(error)
    """
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.owner() == "root" and os.geteuid() == 0 and "pytest" in str(parent):
            parent.chmod(0o755)
    path = tmp_path / "x-logs.jsonl"
    assert run(script, tmp_path / "x.jsonl", path).splitlines() == [
        f"cannot read {path}: Permission denied",
        f"cannot record into {tmp_path}: Permission denied; give a path to a directory that can be"
        " written, or a file family ending in .jsonl",
    ]


def test_appending_to_what_is_there(tmp_path):
    """A second run, and a second storage at the same time."""
    first, second = FileStorage(tmp_path / "t"), FileStorage(tmp_path / "t")
    first.store(batch("1"))
    second.store(batch("2"))
    first.store(batch("3"))
    FileStorage(tmp_path / "t").store(batch("4"))
    assert messages(tmp_path / "t") == ["1", "2", "3", "4"]


@pytest.mark.parametrize("act", ["rename", "delete", "delete directory", "replace"])
def test_active_file_that_goes_away(tmp_path, act):
    """Is noticed with the next batch, and made anew."""
    path = tmp_path / "t"
    storage = FileStorage(path)
    storage.store(batch("before"))
    file = path / "logs.jsonl"
    if act == "rename":
        file.rename(path / "logs.jsonl.1")
    elif act == "delete":
        file.unlink()
    elif act == "delete directory":
        shutil.rmtree(path)
    else:
        (path / "new").write_text("")
        (path / "new").replace(file)
    storage.store(batch("after"))
    storage.store(batch("again"))
    assert messages(path) == ["after", "again"]


def test_descriptor_that_is_no_longer_ours(tmp_path):
    """A daemon closes all descriptors, and opens others: those are left alone."""
    script = """
    import os, sys
    from rimp_otel import FileStorage, TelemetryData, TelemetryEvent
    storage = FileStorage(sys.argv[1])
    storage.store(TelemetryData([TelemetryEvent("a", "1")]))
    os.closerange(3, 100)
    others = [open(os.devnull) for _ in range(20)]
    storage.store(TelemetryData([TelemetryEvent("a", "2")]))
    storage.close()
    for other in others:
        os.fstat(other.fileno())
    os.closerange(3, 100)
    storage.store(TelemetryData([TelemetryEvent("a", "3")]))
    os._exit(0)
    """
    run(script, tmp_path / "t")
    assert messages(tmp_path / "t") == ["1", "2", "3"]


FULL = """
import resource, sys
from rimp_otel import FileStorage, StorageError, TelemetryData, TelemetryEvent, TelemetryMetric

storage = FileStorage(sys.argv[1])
small = TelemetryData([TelemetryEvent("a", "small")], [TelemetryMetric("m", 1)])
mixed = TelemetryData([TelemetryEvent("a", "x")], [TelemetryMetric("m" * 5_000, 2)])
big = TelemetryData([TelemetryEvent("a", "x" * 5_000)], [TelemetryMetric("m", 2)])
storage.store(small)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))
for batch in (mixed, big):
    try:
        storage.store(batch)
    except StorageError as error:
        print(str(error).rpartition("/")[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
storage.store(small)
data = storage.retrieve()
print([e.message for e in data.events], [m.value for m in data.metrics], storage.damaged)
"""


def test_full_disk_takes_a_batch_back_whole(tmp_path):
    """Whichever of its files fails; the storage goes on once there is room."""
    assert run(FULL, tmp_path / "t").splitlines() == [
        "metrics.jsonl: File too large",
        "logs.jsonl: File too large",
        "['small', 'small'] [1, 1] []",
    ]


APPEND = """
import sys
from rimp_otel import FileStorage, TelemetryData, TelemetryEvent, TelemetryMetric
storage = FileStorage(sys.argv[1])
for i in range(int(sys.argv[3])):
    storage.store(TelemetryData([TelemetryEvent(sys.argv[2], str(i))], [TelemetryMetric("m", i)]))
"""


def test_several_processes_append_at_once(tmp_path):
    """Each to files of its own: every line is whole, each batch there once, in its order."""
    threads = [
        threading.Thread(target=run, args=(APPEND, tmp_path / "t", name, 2_000)) for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for signal in (Signal.LOGS, Signal.METRICS):
        lines = [row for text in contents(tmp_path / "t", signal) for row in text.splitlines()]
        assert len(lines) == 8_000
        assert all(json.loads(line) for line in lines)
    data = FileStorage(tmp_path / "t").retrieve()
    for name in "abcd":
        found = [e.message for e in data.events if e.source == name]
        assert found == [str(i) for i in range(2_000)]


def test_torn_tail_of_a_killed_writer(tmp_path):
    """The next append starts on a new line; the torn one is reported, the rest is read."""
    path = tmp_path / "t" / "logs.jsonl"
    FileStorage(tmp_path / "t").store(batch("1"))
    with path.open("ab") as file:
        file.write(b'{"resourceLogs":[{"scopeLo')
    storage = FileStorage(tmp_path / "t")
    assert [event.message for event in storage.retrieve().events] == ["1"]
    assert [(d.path, d.line) for d in storage.damaged] == [(path, 2)]
    storage.store(batch("2"))
    storage.store(batch("3"))
    assert [event.message for event in storage.retrieve().events] == ["1", "2", "3"]
    assert [(d.path, d.line) for d in storage.damaged] == [(path, 2)]
    assert storage.damaged[0].reason


def test_last_line_without_its_end_is_read(tmp_path):
    """It is whole but for the newline; the next append does not spoil it."""
    path = tmp_path / "t" / "logs.jsonl"
    storage = FileStorage(tmp_path / "t")
    storage.store(batch("1"))
    path.write_bytes(path.read_bytes()[:-1])
    assert messages(tmp_path / "t") == ["1"]
    storage.store(batch("2"))
    assert messages(tmp_path / "t") == ["1", "2"]
    assert len(path.read_bytes().splitlines()) == 2


def test_fork_while_appending(tmp_path):
    """Child and parent go on, each with descriptors of its own."""
    script = """
    import os, sys
    from rimp_otel import FileStorage, TelemetryData, TelemetryEvent
    storage = FileStorage(sys.argv[1])
    def store(who):
        for i in range(200):
            storage.store(TelemetryData([TelemetryEvent(who, str(i))]))
    store("before")
    children = []
    for n in range(3):
        if (child := os.fork()) == 0:
            store(f"child {n}")
            os._exit(0)
        children.append(child)
    store("parent")
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    """
    run(script, tmp_path / "t")
    events = FileStorage(tmp_path / "t").retrieve().events
    for who in ("before", "parent", "child 0", "child 1", "child 2"):
        assert [e.message for e in events if e.source == who] == [str(i) for i in range(200)]


def test_threads_that_store_at_once(tmp_path):
    """As exporters of three signals do."""
    storage = FileStorage(tmp_path / "t")

    def store(name):
        for i in range(200):
            storage.store(TelemetryData([TelemetryEvent(name, str(i))], [TelemetryMetric(name, i)]))

    threads = [threading.Thread(target=store, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = storage.retrieve()
    assert (len(data.events), len(data.metrics), storage.damaged) == (800, 800, [])


def test_directory_removed_while_recording(tmp_path):
    """Comes back with the next drain; what a removed file held is gone, no more."""
    from rimp_otel import TelemetryCollector, TelemetryStream

    collector = TelemetryCollector()
    path = tmp_path / "t"
    with TelemetryStream(collector, FileStorage(path)):
        collector.collect_event("a", "1")
        assert len(collector.flush()) == 1
        shutil.rmtree(path)
        collector.collect_event("a", "2")
        assert len(collector.flush()) == 1
        assert messages(path) == ["2"]
    assert collector.stats().pending == 0


def test_a_file_system_without_locks_is_recorded_on(tmp_path, monkeypatch):
    """Such as some network ones: each writer takes files that nobody has had."""
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    first = FileStorage(tmp_path)
    first.store(batch("a"))
    second = FileStorage(tmp_path, sync="never")
    second.store(batch("b"))
    assert names(tmp_path) == ["journal", "journal.1", "logs.1.jsonl", "logs.jsonl"]
    second.rotate()
    assert sorted(m for text in contents(tmp_path) for m in ("a", "b") if f'"{m}"' in str(text))
