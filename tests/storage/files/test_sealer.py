"""Sealing: rotated files are compressed, and nothing is lost or twice, whatever happens."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import subprocess

import pytest
import zstandard

from rimp_otel import FileStorage, TelemetryData
from rimp_otel.config import DefaultSize, TelemetryConfig
from rimp_otel.models.records import Signal
from rimp_otel.storage.files import blocks as compression
from rimp_otel.storage.files import sealed_file as packing
from rimp_otel.storage.files.layout import Layout, SealedName, fingerprint
from rimp_otel.storage.files.policy import FilePolicy, FileStats
from rimp_otel.storage.files.sealed_file import make_sealed_file
from rimp_otel.storage.files.sealer import Sealer
from tests.contract.samples import everything
from tests.processes import run
from tests.storage.recordings import contents, files, line, messages, names, text_of

POLICY = FilePolicy.of(TelemetryConfig())
SUFFIX = {"zstd": ".jsonl.zst", "gzip": ".jsonl.gz", "none": ".jsonl"}


def rotated(directory, *lines, signal=Signal.LOGS):
    """Make a waiting file of these lines; return its path and its parsed name."""
    directory.mkdir(exist_ok=True)
    name = SealedName(signal, fingerprint(lines[0]))
    path = directory / str(name)
    path.write_bytes(b"".join(one + b"\n" for one in lines))
    return path, name


def timed_line(*times):
    """Return a line of spans that start at these nanoseconds."""
    spans = ",".join(f'{{"startTimeUnixNano":"{time}"}}' for time in times)
    return f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}'.encode()


@pytest.mark.parametrize("how", ["zstd", "gzip", "none"])
def test_named_by_its_times_and_content(tmp_path, how):
    """The sealed file is private, and has the bytes of the waiting one."""
    path, name = rotated(tmp_path, timed_line(30, 10), timed_line(20), signal=Signal.TRACES)
    before = path.read_bytes()
    size = make_sealed_file(path, name, how, syncs=True)
    (made,) = files(tmp_path)
    assert made.name == f"traces-10-30-{name.id}{SUFFIX[how]}"
    assert text_of(made) == before
    assert made.stat().st_size == size
    assert how == "none" or made.stat().st_mode & 0o777 == 0o600


def test_range_holds_all_records(tmp_path):
    """The range holds the records of each signal."""
    for signal in Signal:
        path, name = rotated(tmp_path, *everything().otlp_json(signal), signal=signal)
        make_sealed_file(path, name, "zstd", syncs=False)
    for file in files(tmp_path):
        name = SealedName.parse(file.name)
        data = TelemetryData.from_otlp_json(text_of(file).splitlines())
        times = [encoded.time_unix_nano for encoded in data.encoded_records(name.signal)]
        assert times
        assert name.first <= min(times) <= max(times) <= name.last


def test_damaged_lines_are_kept(tmp_path):
    """Damaged lines are kept as they are; a file with no record has the range 0 to 0."""
    damaged = [b"no json", b"\xff\x00", b"", b'{"resourceLogs":[{"sc']
    path, name = rotated(tmp_path, *damaged)
    make_sealed_file(path, name, "zstd", syncs=False)
    (made,) = files(tmp_path)
    assert made.name == f"logs-0-0-{name.id}.jsonl.zst"
    assert text_of(made) == b"no json\n\xff\x00\n\n" + b'{"resourceLogs":[{"sc\n'


def test_last_line_without_its_end_is_kept(tmp_path):
    """A last line without an end, damaged from outside, is kept."""
    path, name = rotated(tmp_path, line("a"), line("b"))
    text = path.read_bytes()[:-1]
    path.write_bytes(text)
    make_sealed_file(path, name, "gzip", syncs=False)
    (made,) = files(tmp_path)
    assert text_of(made) == text


def test_waiting_file_cut_at_every_byte(tmp_path):
    """The file is sealed as it is, and its range holds the complete records."""
    text = timed_line(10, 20) + b"\n" + timed_line(30) + b"\n"
    for cut in range(1, len(text)):
        path, name = rotated(tmp_path / str(cut), text[:cut], signal=Signal.TRACES)
        path.write_bytes(text[:cut])
        make_sealed_file(path, name, "gzip", syncs=False)
        (made,) = files(tmp_path / str(cut))
        assert text_of(made) == text[:cut]
        found = SealedName.parse(made.name)
        if cut >= len(timed_line(10, 20)):
            assert found.first <= 10
            assert found.last >= 20


def test_empty_file_is_nothing(tmp_path):
    """An empty file, truncated from outside, is removed."""
    path, name = rotated(tmp_path, b"a")
    path.write_bytes(b"")
    assert make_sealed_file(path, name, "zstd", syncs=False) == 0
    assert names(tmp_path) == []


def test_blocks_stand_alone(tmp_path, monkeypatch):
    """Each block has complete lines, its size and a checksum."""
    monkeypatch.setattr(compression, "BLOCK_SIZE", 1_000)
    lines = [b"x" * 400 + b"%d" % i for i in range(10)]
    path, name = rotated(tmp_path, *lines)
    make_sealed_file(path, name, "zstd", syncs=False)
    (made,) = files(tmp_path)
    packed, texts = made.read_bytes(), []
    while packed:
        parameters = zstandard.get_frame_parameters(packed)
        assert parameters.has_checksum
        frame = zstandard.ZstdDecompressor().decompressobj()
        texts.append(frame.decompress(packed))
        assert parameters.content_size == len(texts[-1])
        packed = frame.unused_data
    assert [text.count(b"\n") for text in texts] == [3, 3, 3, 1]
    assert b"".join(texts) == b"".join(one + b"\n" for one in lines)


@pytest.mark.parametrize(("how", "tool"), [("zstd", "zstdcat"), ("gzip", "zcat")])
def test_usual_tools_read_it(tmp_path, how, tool):
    """The usual tools read it, if they are installed."""
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool} here")
    path, name = rotated(tmp_path, *(line(str(i) * 5_000) for i in range(100)))
    before = path.read_bytes()
    make_sealed_file(path, name, how, syncs=False)
    (made,) = files(tmp_path)
    assert subprocess.run([tool, made], capture_output=True, check=True).stdout == before


def test_gzip_where_zstandard_is_missing(tmp_path, monkeypatch):
    """Without zstandard, files are sealed by gzip."""

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(compression.importlib, "import_module", missing)
    path, name = rotated(tmp_path, b"a")
    make_sealed_file(path, name, "zstd", syncs=False)
    (made,) = files(tmp_path)
    assert gzip.decompress(made.read_bytes()) == b"a\n"
    assert made.name == f"logs-0-0-{name.id}.jsonl.gz"


def test_file_that_somebody_else_seals_is_left(tmp_path):
    """A file that another process seals, that is sealed, or that is not regular is left."""
    fcntl = pytest.importorskip("fcntl")
    path, name = rotated(tmp_path, b"a")
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert make_sealed_file(path, name, "zstd", syncs=False) is None
        assert names(tmp_path) == [path.name]
    path.rename(tmp_path / "elsewhere")
    assert make_sealed_file(path, name, "zstd", syncs=False) is None
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        make_sealed_file(path, name, "zstd", syncs=False)
    assert (tmp_path / "elsewhere").read_bytes() == b"a\n"


def test_what_a_dead_one_had_begun_is_done_again(tmp_path):
    """Nothing that a dead process had begun stays: temporary file, spoilt result, other
    compression."""
    path, name = rotated(tmp_path, timed_line(5), signal=Signal.TRACES)
    before = path.read_bytes()
    (tmp_path / f".{name.stem}.tmp-1").write_bytes(b"a part")
    (tmp_path / f".{name.stem}.tmp-{os.getpid()}").write_bytes(b"a part")
    (tmp_path / f"traces-5-5-{name.id}.jsonl.zst").write_bytes(b"spoilt by a loss of power")
    (tmp_path / f"traces-5-5-{name.id}.jsonl.gz").write_bytes(gzip.compress(before))
    (tmp_path / f".traces-{'0' * 16}.tmp-7").write_bytes(b"of another")
    make_sealed_file(path, name, "zstd", syncs=True)
    assert names(tmp_path) == [f".traces-{'0' * 16}.tmp-7", f"traces-5-5-{name.id}.jsonl.zst"]
    assert text_of(tmp_path / f"traces-5-5-{name.id}.jsonl.zst") == before


def sealer(path, clock=lambda: 0.0, **policy):
    """Return a sealer of the recording at this path."""
    return Sealer(Layout(path), POLICY._replace(**policy), clock, clock)


def test_sealer_seals_all_and_counts(tmp_path):
    """All waiting files are sealed, whoever left them; stale temporary files go."""
    directory = Layout(tmp_path).sealed
    sizes = 0
    for i in range(3):
        sizes += rotated(directory, line(str(i)))[0].stat().st_size
    (directory / f".traces-{'0' * 16}.tmp-7").write_bytes(b"of a dead one")
    made = sealer(tmp_path)
    made.run()
    assert sorted(messages(tmp_path)) == ["0", "1", "2"]
    assert all(name.endswith(".jsonl.zst") for name in names(directory))
    left = sum(file.stat().st_size for file in files(directory))
    assert made.stats() == FileStats(sealed=3, sealed_from=sizes, sealed_to=left)


def test_sealer_deletes_what_is_too_much(tmp_path):
    """Files are deleted after sealing: the size that is left counts."""
    directory = Layout(tmp_path).sealed
    for i in range(3):
        rotated(directory, timed_line(10 + i), timed_line(*range(10)), signal=Signal.TRACES)
    made = sealer(tmp_path, retain_size=250)
    made.run()
    stats = made.stats()
    assert stats.sealed == 3
    assert stats.deleted_files == 3 - len(names(directory)) > 0
    assert stats.deleted_bytes == stats.sealed_to - sum(
        file.stat().st_size for file in files(directory)
    )


def test_the_first_deletion_by_default_is_said_once(tmp_path, capsys):
    """A bound that nobody has set is named when it first deletes; one that somebody has set is not."""
    directory = Layout(tmp_path).sealed
    for bound, said in ((DefaultSize(250), 1), (250, 0)):
        made = sealer(tmp_path, retain_size=bound)
        for _ in range(2):
            for i in range(3):
                rotated(directory, timed_line(10 + i), timed_line(*range(10)), signal=Signal.TRACES)
            made.run()
        assert made.stats().deleted_files > 1
        assert capsys.readouterr().err.count("its oldest files are deleted from now on") == said


def test_sealer_that_finds_nothing(tmp_path):
    """A sealer may find nothing, not even a directory."""
    made = sealer(tmp_path)
    made.look()
    made.run()
    assert made.stats() == FileStats()
    assert names(tmp_path) == []


@pytest.mark.parametrize("what", ["open", "write", "rename", "fdatasync"])
def test_failed_sealing_leaves_the_file_and_is_tried_again(tmp_path, monkeypatch, capfd, what):
    """A failure is reported once, the file stays, and sealing is tried again later."""
    directory = Layout(tmp_path).sealed
    path, _ = rotated(directory, line("a"))
    now = [0.0]
    made = sealer(tmp_path, lambda: now[0])

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        if what == "rename":
            broken.setattr(os, "rename", fail)
        elif what == "fdatasync":
            broken.setattr(packing, "sync_file", fail)
        elif what == "write":
            broken.setattr(packing, "choose_compressor", lambda how: (how, fail))
        else:
            real = os.open
            broken.setattr(
                os, "open", lambda p, f, *mode: fail() if f & os.O_CREAT else real(p, f, *mode)
            )
        made.run()
        made.run()
        assert names(directory) == [path.name]
        assert made.stats() == FileStats(seal_failures=2)
    woken = []
    monkeypatch.setattr(made, "wake", lambda: woken.append(now[0]))
    for now[0] in (0.0, 19.0, 20.0):
        made.look_again()
    assert woken == [20.0]
    made.run()
    made.look_again()
    assert (made.stats().sealed, woken) == (1, [20.0])
    said = capfd.readouterr().err
    assert said == (f"rimp: cannot seal {path}: No space left on device; it will be tried again\n")


def test_waiting_files_that_cannot_be_sealed_count_for_the_bound(tmp_path, monkeypatch):
    """They count, so that a full disk does not stay full."""
    directory = Layout(tmp_path).sealed
    for i in range(3):
        path, _ = rotated(directory, line(str(i)))
        os.utime(path, (i, i))
    size = path.stat().st_size

    def fail(how):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packing, "choose_compressor", fail)
    made = sealer(tmp_path, retain_size=2 * size)
    made.run()
    assert made.stats() == FileStats(seal_failures=3, deleted_files=1, deleted_bytes=size)
    assert sorted(messages(tmp_path)) == ["1", "2"]


def test_thread_is_started_where_something_was_left(tmp_path):
    """The thread ends when it is done; it may be woken at any time."""
    directory = Layout(tmp_path).sealed
    rotated(directory, line("a"))
    script = """
    import sys, threading
    from rimp_otel.storage.files.layout import Layout
    from rimp_otel.storage.files.storage import FileStorage
    from rimp_otel.storage.files.sealer import Sealer
    sealer = Sealer(Layout(sys.argv[1]), FileStorage(sys.argv[1]).policy)
    for i in range(200):
        sealer.look()
        sealer.wake()
    for thread in threading.enumerate():
        if thread.name == "rimp-seal":
            thread.join()
    print(sealer.stats().sealed, [t.name for t in threading.enumerate()])
    """
    assert run(script, tmp_path) == "1 ['MainThread']\n"
    assert messages(tmp_path) == ["a"]


KILLED = """
import os, signal, sys
from pathlib import Path
from rimp_otel import FileStorage
from rimp_otel.storage.files.sealer import Sealer
from tests.storage.recordings import batch, messages, names

root, how = Path(sys.argv[1]), sys.argv[2]
Sealer.wake = lambda self: None
prefix = os.sep + os.path.join("rimp_otel", "storage") + os.sep

def act(path):
    FileStorage(path, compression=how, rotate_size=1).rotate()

def killed_at(line, path):
    # True if there is such a line.
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    count = [line]
    def trace(frame, event, arg):
        if prefix not in frame.f_code.co_filename:
            return None
        if event == "line":
            count[0] -= 1
            if not count[0]:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)
    act(path)
    os._exit(0)

line = -1
while True:
    line += 3  # every third one is fast enough for every day
    path = root / str(line)
    storage = FileStorage(path)
    storage.store(batch("a", "b"))
    storage.store(batch("c"))
    storage.close()
    was_killed = killed_at(line, path)
    assert messages(path) == ["a", "b", "c"], (line, messages(path))
    # Whoever comes next is killed as well, a bit later.
    if line % 3 == 0:
        killed_at(line + 7, path)
        assert messages(path) == ["a", "b", "c"], (line, "again", messages(path))
    act(path)
    assert messages(path) == ["a", "b", "c"], (line, "after", messages(path))
    (name,) = names(path / "sealed")
    assert name.startswith("logs-") and name.count("-") == 3, (line, name)
    if not was_killed:
        break
print(line)
"""


@pytest.mark.one_python
@pytest.mark.parametrize("how", ["zstd", "none"])
def test_killed_at_each_step_of_rotating_and_sealing(tmp_path, how):
    """Killed by SIGKILL at any step, nothing is lost or twice, and the next one cleans up."""
    lines = int(run(KILLED, tmp_path, how, timeout=110.0))
    assert lines > 90


def test_two_processes_seal_the_same_recording(tmp_path):
    """Each file is sealed once."""
    directory = Layout(tmp_path).sealed
    for i in range(40):
        rotated(directory, line(str(i)), line("x" * 10_000))
    script = """
    import os, sys
    from rimp_otel import FileStorage
    children = []
    for n in range(4):
        if (child := os.fork()) == 0:
            storage = FileStorage(sys.argv[1])
            storage.rotate()
            os.write(1, b"%d\\n" % storage.stats().sealed)
            os._exit(0)
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
    """
    counts = [int(text) for text in run(script, tmp_path).split()]
    assert sum(counts) == 40
    assert len(contents(tmp_path)) == len(names(directory)) == 40
    assert all(name.endswith(".zst") for name in names(directory))


def test_child_forked_while_its_parent_seals(tmp_path):
    """The child keeps the file neither locked nor open after the parent's death."""
    pytest.importorskip("fcntl")
    rotated(Layout(tmp_path).sealed, line("a"))
    script = """
    import fcntl, os, sys
    from rimp_otel import FileStorage
    from rimp_otel.storage.files import sealed_file as packing, sealer as sealing
    real = packing.choose_compressor
    def compressor(how):
        # In the middle of sealing, and in the thread that does it.
        descriptors = os.listdir("/proc/self/fd")
        if os.fork():
            os._exit(0)
        # The waiting file is closed; the temporary one was not opened yet.
        assert len(os.listdir("/proc/self/fd")) == len(descriptors) - 1
        (name,) = os.listdir(os.path.join(sys.argv[1], "sealed"))
        with open(os.path.join(sys.argv[1], "sealed", name)) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # waits for the parent's death, and no longer
        packing.choose_compressor = real
        storage = FileStorage(sys.argv[1])
        storage.rotate()
        os.write(1, b"%d" % storage.stats().sealed)
        os._exit(0)
    packing.choose_compressor = compressor
    storage = FileStorage(sys.argv[1])
    sealing.Sealer(storage.layout, storage.policy).run()
    """
    assert run(script, tmp_path) == "1"
    assert messages(tmp_path) == ["a"]
    (name,) = names(Layout(tmp_path).sealed)
    assert name.endswith(".zst")


def test_range_of_a_real_recording_prunes_nothing_that_matches(tmp_path):
    """A recording that is rotated with each batch gives by time what a whole one gives."""
    storage = FileStorage(tmp_path / "t", rotate_size=1)
    storage.store(everything())
    storage.rotate()
    assert storage.stats().rotated == storage.stats().sealed == 3
    for file in files(Layout(tmp_path / "t").sealed):
        assert not SealedName.parse(file.name).is_waiting
