"""FileStorage: what lies on disk."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path
from random import Random

import pytest

from rimp_otel import (
    ConfigurationError,
    FileStorage,
    StorageError,
    TelemetryConfig,
    TelemetryData,
    TelemetryEvent,
    TelemetryMetric,
)
from rimp_otel.models.records import Signal
from tests.contract.samples import everything
from tests.processes import ROOT, run
from tests.storage.recordings import batch, contents, files, messages, names


def retrieved_messages(path):
    """Return what a new storage of this path reads."""
    return [event.message for event in FileStorage(path).retrieve().events]


def mode(path):
    """Return a file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_one_file_for_each_signal(tmp_path):
    """Each signal has a private file, whose lines are OTLP JSON of that signal."""
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
    """No file is made before its signal's first record."""
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
    """A path that ends in .jsonl names three files beside each other."""
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
    """A relative path is in the working directory, a family's too."""
    monkeypatch.chdir(tmp_path)
    FileStorage("telemetry").store(batch("a"))
    FileStorage("x.jsonl").store(batch("b"))
    assert retrieved_messages("telemetry") == ["a"]
    assert retrieved_messages("x.jsonl") == ["b"]
    assert Path("x-logs.jsonl").exists()


def test_symbolic_link_is_refused(tmp_path):
    """A link is refused, and its target untouched."""
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "x-logs.jsonl").symlink_to(target)
    with pytest.raises(StorageError, match=r"cannot append to .*x-logs.jsonl: "):
        FileStorage(tmp_path / "x.jsonl").store(batch("a"))
    assert target.read_text() == "precious"


def test_paths_that_cannot_be_written(tmp_path):
    """The error names the path, the reason and the cure."""
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
    """The error names the path and the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot read .*file: Not a directory"):
        FileStorage(tmp_path / "file").retrieve()
    (tmp_path / "y-logs.jsonl").mkdir()
    storage = FileStorage(tmp_path / "y.jsonl")
    assert not storage.retrieve()
    assert [found[1:] for found in storage.damaged] == [(0, "Is a directory")]


def test_missing_permission_is_named(tmp_path):
    """A missing permission to read or to write is named."""
    FileStorage(tmp_path / "x.jsonl").store(batch("a"))
    tmp_path.chmod(0o755)
    script = """
    import os, sys
    from rimp_otel import FileStorage, StorageError, TelemetryData, TelemetryEvent
    FileStorage(sys.argv[1]).retrieve()  # what it imports, the user may not be able to read
    if os.geteuid() == 0:
        os.setgid(65534), os.setuid(65534)
    else:
        os.chmod(sys.argv[2], 0)
    storage = FileStorage(sys.argv[1])
    storage.retrieve()
    for damaged in storage.damaged:
        print(damaged.path, damaged.reason)
    for act in (lambda s: s.store(TelemetryData([TelemetryEvent("a", "b")])),):
        try:
            act(FileStorage(sys.argv[1]))
        except StorageError as error:
            print(error)
    """
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.owner() == "root" and os.geteuid() == 0 and "pytest" in str(parent):
            parent.chmod(0o755)
    path = tmp_path / "x-logs.jsonl"
    lines = run(script, tmp_path / "x.jsonl", path).splitlines()
    assert lines[0] == f"{path} Permission denied"
    assert lines[-1] == (
        f"cannot record into {tmp_path}: Permission denied; give a path to a directory that can be"
        " written, or a file family ending in .jsonl"
    )


def test_appending_to_what_is_there(tmp_path):
    """A second run, and a second storage at the same time, append."""
    first, second = FileStorage(tmp_path / "t"), FileStorage(tmp_path / "t")
    first.store(batch("1"))
    second.store(batch("2"))
    first.store(batch("3"))
    FileStorage(tmp_path / "t").store(batch("4"))
    assert retrieved_messages(tmp_path / "t") == ["1", "2", "3", "4"]


@pytest.mark.parametrize("act", ["rename", "delete", "delete directory", "replace"])
def test_active_file_that_goes_away(tmp_path, act):
    """A missing file is noticed with the next batch, and made anew."""
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
    assert retrieved_messages(path) == ["after", "again"]


def test_descriptor_that_is_no_longer_ours(tmp_path):
    """Descriptors that a daemon closed and opened anew are left alone."""
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
    assert retrieved_messages(tmp_path / "t") == ["1", "2", "3"]


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
    """Whichever file fails, the batch is taken back; storing goes on once there is room."""
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
    """Each process has files of its own: lines are whole, each batch is there once, in order."""
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
    """The next append does not spoil a last line that lacks its newline."""
    path = tmp_path / "t" / "logs.jsonl"
    storage = FileStorage(tmp_path / "t")
    storage.store(batch("1"))
    path.write_bytes(path.read_bytes()[:-1])
    assert retrieved_messages(tmp_path / "t") == ["1"]
    storage.store(batch("2"))
    assert retrieved_messages(tmp_path / "t") == ["1", "2"]
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
    """Threads may store at once, as exporters of three signals do."""
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
    """A removed directory comes back with the next drain; only what its files held is gone."""
    from rimp_otel import TelemetryCollector, TelemetryStream

    collector = TelemetryCollector()
    path = tmp_path / "t"
    with TelemetryStream(collector, FileStorage(path)):
        collector.collect_event("a", "1")
        assert len(collector.flush()) == 1
        shutil.rmtree(path)
        collector.collect_event("a", "2")
        assert len(collector.flush()) == 1
        assert retrieved_messages(path) == ["2"]
    assert collector.stats().pending == 0


def test_a_file_system_without_locks_is_recorded_on(tmp_path, monkeypatch):
    """Without locks, each writer takes files that nobody has had."""
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


def test_options_are_checked(tmp_path):
    """Options are checked as the configuration's are."""
    for name, value in (
        ("rotate_size", 0),
        ("rotate_age", -1),
        ("compression", "lzma"),
        ("retain_size", -1),
        ("retain_age", 0),
        ("parquet", 1),
        ("sync", "sometimes"),
        ("sync_interval", None),
    ):
        with pytest.raises(ConfigurationError, match=f"^{name} must be .*, got {value!r}$"):
            FileStorage(tmp_path, **{name: value})


def test_storage_of_a_configuration(tmp_path):
    """A configuration's options are taken over; the defaults are the same."""
    options = {
        "rotate_size": 1,
        "rotate_age": 2.0,
        "compression": "gzip",
        "retain_size": 3,
        "retain_age": 4.0,
        "parquet": True,
        "sync": "never",
        "sync_interval": 6.0,
    }
    storage = FileStorage.from_config(TelemetryConfig(storage_path=tmp_path / "t", **options))
    assert storage.policy._asdict() == options
    assert storage.layout.path == tmp_path / "t"
    assert FileStorage.from_config(TelemetryConfig()).policy == FileStorage("t").policy


def test_storages_of_one_path_share_their_files(tmp_path, monkeypatch):
    """Storages of one path share a slot, however the path is written."""
    monkeypatch.chdir(tmp_path)
    first, second, third = FileStorage("t"), FileStorage("./t/"), FileStorage(tmp_path / "t")
    for storage in (first, second, third):
        storage.store(batch("a"))
    assert names(tmp_path / "t") == ["journal", "logs.jsonl"]
    assert first.stats() == third.stats()
    assert first.stats().lines == 3
    second.close()
    third.store(batch("b"))
    assert names(tmp_path / "t") == ["journal", "logs.jsonl"]
    other = FileStorage(tmp_path / "t", rotate_size=1)
    other.store(batch("c"))
    assert names(tmp_path / "t") == ["journal", "journal.1", "logs.1.jsonl", "logs.jsonl"]


def test_working_directory_that_changes(tmp_path, monkeypatch):
    """A new working directory moves no recording."""
    monkeypatch.chdir(tmp_path)
    storage = FileStorage("t")
    storage.store(batch("a"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    storage.close()
    storage.store(batch("b"))
    assert messages(tmp_path / "t") == ["a", "b"]
    assert names(tmp_path / "elsewhere") == []


def test_journals_have_slots_of_their_own(tmp_path):
    """Each journal has a slot of its own, and none the one that batches are stored to."""
    storage = FileStorage(tmp_path / "t")
    first, second = storage.journal_target(), FileStorage(tmp_path / "t").journal_target()
    assert [first.take_slot().number, second.take_slot().number] == [0, 1]
    storage.store(batch("stored"))
    for target, message in ((first, "0"), (second, "1")):
        target.store(Signal.LOGS, batch(message), lambda end, length: None)
    assert [path.name for path in sorted((tmp_path / "t").glob("logs*"))] == [
        "logs.1.jsonl",
        "logs.2.jsonl",
        "logs.jsonl",
    ]
    assert sorted(messages(tmp_path / "t")) == ["0", "1", "stored"]
    storage.close()
    assert first.take_slot().number == 0
    other = FileStorage(tmp_path / "t", sync="never")
    assert other.journal_target().take_slot().number == 2
    first.release_slot()
    second.release_slot()
    assert second.take_slot().number == 0
    second.release_slot()


def test_rotate_seals_what_there_is(tmp_path):
    """Files of each signal and of the journal are sealed, nothing twice."""
    storage = FileStorage(tmp_path / "t")
    storage.rotate()
    assert names(tmp_path) == []
    target = storage.journal_target()
    target.store(Signal.LOGS, batch("journaled"), lambda end, length: None)
    storage.store(everything())
    storage.rotate()
    storage.rotate()
    assert [name.partition("-")[0] for name in names(tmp_path / "t" / "sealed")] == [
        "logs",
        "logs",
        "metrics",
        "traces",
    ]
    assert not list((tmp_path / "t").glob("*.jsonl"))
    stats = storage.stats()
    assert (stats.rotated, stats.sealed) == (4, 4)
    assert stats.sealed_from == stats.bytes
    target.release_slot()


def test_what_an_earlier_run_left_is_sealed(tmp_path):
    """Rotating seals what an earlier run left, although nothing was stored since."""
    FileStorage(tmp_path / "t").store(batch("a"))
    FileStorage(tmp_path / "t").rotate()
    (name,) = names(tmp_path / "t" / "sealed")
    assert name.endswith(".jsonl.zst")
    assert messages(tmp_path / "t") == ["a"]


def test_retention_keeps_the_newest(tmp_path):
    """Retention deletes the oldest sealed files; active ones stay."""
    storage = FileStorage(tmp_path / "t", rotate_size=1, retain_size=0)
    for message in "abc":
        storage.store(batch(message))
    storage.rotate()
    assert messages(tmp_path / "t") == []
    storage.store(batch("d"))
    assert messages(tmp_path / "t") == ["d"]
    stats = storage.stats()
    assert (stats.deleted_files, stats.deleted_bytes) == (3, stats.sealed_to)


WORKERS = """
import os, sys
from rimp_otel import FileStorage, TelemetryData, TelemetryEvent
children = []
for n in range(4):
    if (child := os.fork()) == 0:
        storage = FileStorage(sys.argv[1], rotate_size=20_000, compression=sys.argv[2])
        for i in range(500):
            storage.store(TelemetryData([TelemetryEvent("a", f"{n} {i}")]))
        assert storage.stats().rotated > 3, storage.stats()
        os._exit(0)
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
"""


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_workers_that_rotate(tmp_path, compression):
    """Workers that rotate at once, and end before all is sealed, leave each record once."""
    run(WORKERS, tmp_path / "t", compression)
    expected = sorted(f"{n} {i}" for n in range(4) for i in range(500))
    assert sorted(messages(tmp_path / "t")) == expected
    FileStorage(tmp_path / "t", compression=compression).rotate()
    assert sorted(messages(tmp_path / "t")) == expected
    assert not [name for name in names(tmp_path / "t" / "sealed") if name.count("-") != 3]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", path]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


def test_full_disk(small_disk):
    """On a full disk files stay whole and counts exact; recording goes on once there is room."""
    path = small_disk / "t"
    storage = FileStorage(path, rotate_size=100_000, compression="none", retain_size=None)
    expected = []
    for i in range(300):
        try:
            storage.store(batch(f"{i} " + "x" * (i % 7 * 2_000)))
            expected.append(str(i))
        except StorageError as error:
            assert "No space left on device" in str(error)  # noqa: PT017
    assert 50 < len(expected) < 300

    def found():
        return [message.partition(" ")[0] for message in messages(path)]

    assert sorted(found()) == sorted(expected)
    assert storage.stats().lines == len(expected)
    storage.close()
    (small_disk / "t" / "sealed" / names(path / "sealed")[0]).unlink()
    before = found()
    storage.store(batch("after"))
    assert sorted(found()) == sorted([*before, "after"])


def test_full_disk_that_retention_frees(small_disk):
    """Where there is no room to seal a file, retention deletes the oldest."""
    path = small_disk / "t"
    storage = FileStorage(path, rotate_size=50_000, retain_size=300_000)
    incompressible = [os.urandom(9_000).hex() for _ in range(40)]
    for text in incompressible:
        try:
            storage.store(batch(text))
        except StorageError:
            storage.rotate()
            storage.store(batch(text))
    storage.rotate()
    found = messages(path)
    assert set(found) <= set(incompressible)
    assert len(set(found)) == len(found) > 5
    assert sum(file.stat().st_size for file in files(path / "sealed")) <= 300_000


def test_read_only_file_system(small_disk):
    """The error says so; recording goes on when the file system can be written again."""
    storage = FileStorage(small_disk / "t")
    storage.store(batch("a"))
    storage.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StorageError, match=r"cannot record into .*Read-only file system"):
        storage.store(batch("b"))
    with pytest.raises(StorageError, match="Read-only file system"):
        storage.rotate()
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    storage.store(batch("c"))
    assert messages(small_disk / "t") == ["a", "c"]


STEADY = """
import os, sys
from rimp_otel import FileStorage
from tests.storage.recordings import batch
storage = FileStorage(sys.argv[1], rotate_size=3_000, compression=sys.argv[2])
for i in range(1_000_000):
    storage.store(batch(f"{sys.argv[3]} {i}"))
    os.write(1, b"%d\\n" % i)
"""


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_killed_while_storing_rotating_and_sealing(tmp_path, compression):
    """What was stored is there once, and at most one more batch of each run."""
    path, random = tmp_path / "t", Random(7)
    told = {}
    for number in range(12):
        command = [sys.executable, "-c", STEADY, path, compression, str(number)]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=env) as process:
            for _ in range(random.randrange(1, 400)):
                process.stdout.readline()
            process.kill()
            rest = process.stdout.read().split(b"\n")
        last = [int(text) for text in rest if text.isdigit()]
        told[number] = last[-1] if last else None
    for _ in range(2):
        found = messages(path)
        assert len(found) == len(set(found))
        for number, last in told.items():
            count = len([message for message in found if message.startswith(f"{number} ")])
            assert last is None or count in {last + 1, last + 2}
        FileStorage(path, compression=compression).rotate()
    assert not [name for name in names(path / "sealed") if name.count("-") != 3]


@pytest.mark.parametrize("seed", range(40))
def test_random_history(tmp_path, seed):
    """Any history of storages, torn tails and moved files agrees with a list in memory."""
    random, path, expected = Random(seed), tmp_path / "t", []
    options = [
        {"rotate_size": random.choice([1, 500, 10_000]), "compression": how, "sync": sync}
        for how in ("zstd", "gzip", "none")
        for sync in ("never", "interval")
    ]
    storages = [FileStorage(path, **random.choice(options)) for _ in range(3)]
    for i in range(60):
        storage = random.choice(storages)
        act = random.choice(["store"] * 6 + ["close", "rotate", "tear", "new", "lock"])
        if act == "store":
            some = [f"{i} {n}" for n in range(random.randrange(1, 4))]
            storage.store(batch(*some))
            expected += some
        elif act == "new":
            storages[random.randrange(3)] = FileStorage(path, **random.choice(options))
        elif act == "tear":
            for file in path.glob("logs*.jsonl"):
                if file.read_bytes().endswith(b"\n"):
                    with file.open("ab") as opened:
                        opened.write(b'{"resourceLogs":[]}')
        elif act == "lock":
            for lock in path.glob("journal*/lock"):
                lock.unlink()
        else:
            getattr(storage, act)()
    for _ in range(2):
        assert sorted(messages(path)) == sorted(expected)
        for storage in storages:
            storage.rotate()
