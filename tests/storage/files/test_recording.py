"""FileRecording: what it returns at each poll, whatever happens to the files."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter

import pytest
from opentelemetry.sdk.trace import TracerProvider

from rimp_otel import FileStorage, StorageError, TelemetryData, TelemetryEvent
from rimp_otel.journal.reader import Damage
from rimp_otel.models.records import Signal
from rimp_otel.storage.files import snapshot as snapshots
from rimp_otel.storage.files.blocks import Gap, choose_compressor, decompress
from rimp_otel.storage.files.layout import SUFFIXES, Layout, fingerprint
from rimp_otel.storage.files.recording import FileRecording
from rimp_otel.storage.reading import count_line
from tests.contract.samples import everything
from tests.processes import ROOT
from tests.storage.journaled import Journaled
from tests.storage.recordings import batch, files, line


def polled(reader, **arguments):
    """Return the messages of a poll."""
    return [e.message for data in reader.poll(**arguments) for e in data.events]


def everything_in(path):
    """Return the messages that a new reader finds."""
    return polled(FileRecording(path))


@pytest.fixture
def path(tmp_path):
    """The path of the recording."""
    return tmp_path / "t"


@pytest.fixture
def reader(path):
    """A reader of the recording."""
    return FileRecording(path)


@pytest.fixture
def process(path):
    """A process that records into it, through a journal."""
    process = Journaled(path, compression="zstd")
    yield process
    process.close()


def test_nothing_there_yet(reader):
    """No recording yet is no error."""
    assert reader.files() == []
    assert polled(reader) == []


def test_files_that_there_are(path, reader):
    """Files are listed with signal and size."""
    FileStorage(path).store(everything())
    files = reader.files()
    assert [file.signal for file in files] == [Signal.TRACES, Signal.LOGS, Signal.METRICS]
    assert all(file.size == file.path.stat().st_size > 0 for file in files)


def test_all_kinds_of_files(path, reader, process):
    """Sealed files are listed oldest first, then active ones by slot, then journals."""
    process.collect("1")
    storage = FileStorage(path)
    for message in ("2", "3"):
        storage.store(batch(message))
        storage.rotate()
    storage.store(batch("4"))
    found = [(file.signal, file.kind, file.path.parent.name) for file in reader.files()]
    assert found == [
        (Signal.LOGS, "sealed", "sealed"),
        (Signal.LOGS, "sealed", "sealed"),
        (Signal.LOGS, "active", "t"),
        (None, "journal", "journal"),
    ]
    assert polled(reader) == ["2", "3", "4", "1"]


def test_poll_gives_what_is_new(path, reader):
    """A poll continues where the last one stopped."""
    storage = FileStorage(path)
    storage.store(batch("1", "2"))
    assert polled(reader) == ["1", "2"]
    assert polled(reader) == []
    storage.store(batch("3"))
    assert polled(reader) == ["3"]


def test_poll_that_is_broken_off_goes_on(path, reader):
    """The next poll continues after the last line that was returned."""
    storage = FileStorage(path)
    for message in "123":
        storage.store(batch(message))
    first = next(iter(reader.poll()))
    assert [event.message for event in first.events] == ["1"]
    assert polled(reader) == ["2", "3"]


def test_poll_of_a_journal_that_is_broken_off(process, reader):
    """Returned records are not returned again, wherever they are by then; the rest is."""
    process.collect("1", "2")
    process.drain()
    process.collect("3")
    poll = reader.poll()
    assert [event.message for event in next(poll).events] == ["1", "2"]
    assert [event.message for event in next(poll).events] == ["3"]
    poll.close()
    process.collect("4")
    poll = reader.poll()
    assert [event.message for event in next(poll).events] == ["4"]
    poll.close()
    process.drain()
    process.collect("5")
    assert polled(reader) == ["5"]


def test_half_a_line_waits_for_its_end(path, reader):
    """A line without an end waits, unless this is the final poll."""
    FileStorage(path).store(batch("1"))
    with (path / "logs.jsonl").open("ab", buffering=0) as file:
        file.write(line("2")[:20])
        assert polled(reader) == ["1"]
        file.write(line("2")[20:])
        assert polled(reader) == []
        file.write(b"\n")
        assert polled(reader) == ["2"]
        file.write(line("2"))
        assert polled(reader, final=True) == ["2"]
    assert reader.damaged == []


def test_file_that_is_replaced_or_truncated(path, reader):
    """A replaced or truncated file is read from its start."""
    storage = FileStorage(path)
    file = path / "logs.jsonl"
    storage.store(batch("1", "a longer message"))
    assert polled(reader) == ["1", "a longer message"]
    file.rename(path / "logs.jsonl.1")
    storage.store(batch("2"))
    assert polled(reader) == ["2"]
    file.write_bytes(b"")
    assert polled(reader) == []
    storage.store(batch("3"))
    assert polled(reader) == ["3"]


def test_damaged_lines_are_skipped_and_counted(path, reader):
    """Damaged lines are noted with their place; empty lines are ignored."""
    file = path / "logs.jsonl"
    storage = FileStorage(path)
    storage.store(batch("1"))
    with file.open("ab") as opened:
        opened.write(b'\n\nnot json\n{"resourceLogs":7}\n\xff\xfe\n{"foreign":[]}\n')
    storage.store(batch("2"))
    assert polled(reader) == ["1", "2"]
    assert [damaged.line for damaged in reader.damaged] == [4, 5, 6, 7]
    assert {damaged.path for damaged in reader.damaged} == {file}
    assert all(damaged.reason for damaged in reader.damaged)


@pytest.mark.parametrize("compression", ["zstd", "gzip", "none"])
def test_rotation_and_sealing_between_two_polls(path, reader, compression):
    """Rotation and sealing neither lose nor repeat anything."""
    storage = FileStorage(path, compression=compression)
    storage.store(batch("1"))
    assert polled(reader) == ["1"]
    storage.store(batch("2"))
    storage.rotate()
    storage.store(batch("3"))
    storage.rotate()
    assert polled(reader) == ["2", "3"]
    assert polled(reader) == []
    assert everything_in(path) == ["1", "2", "3"]


def test_a_file_that_is_just_being_sealed(path, reader):
    """A file that is there twice while it is sealed is read once."""
    storage = FileStorage(path)
    storage.store(batch("1"))
    active = path / "logs.jsonl"
    text = active.read_bytes()
    storage.rotate()
    (path / "sealed" / f"logs-{fingerprint(text.splitlines()[0])}.jsonl").write_bytes(text)
    assert len(files(path / "sealed")) == 2
    assert polled(reader) == ["1"]


def test_a_damaged_block_of_a_sealed_file(path, reader):
    """A damaged block costs itself, and counts as one line."""
    storage = FileStorage(path)
    for number in range(40):
        storage.store(batch(f"{number} {os.urandom(10_000).hex()}"))
    storage.rotate()
    (sealed,) = files(path / "sealed")
    packed = bytearray(sealed.read_bytes())
    packed[1000] ^= 0xFF
    sealed.write_bytes(packed)
    numbers = [int(message.split()[0]) for message in polled(reader)]
    assert numbers == list(range(13, 40))
    (damaged,) = reader.damaged
    assert (damaged.path, damaged.line) == (sealed, 1)
    assert "cannot be decompressed" in damaged.reason


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
@pytest.mark.parametrize("flip", [0, 0x01, 0xFF])
def test_damage_at_every_offset_of_a_sealed_file(path, compression, flip):
    """Complete blocks are read wherever damage is, and the rest is counted."""
    name, compress = choose_compressor(compression)
    packed = b"".join(compress(line(message) + b"\n") for message in "123")
    path.mkdir()
    (path / "sealed").mkdir()
    sealed = path / "sealed" / f"logs-0-9-{'a' * 16}{SUFFIXES[name]}"
    for offset in range(len(packed)):
        damaged = bytearray(packed if flip else packed[:offset])
        if flip:
            damaged[offset] ^= flip
        sealed.write_bytes(damaged)
        reader = FileRecording(path)
        found = polled(reader)
        expected = [list("123"), list("23"), list("13"), list("12")] if flip else [list("123")]
        assert found in expected or (not flip and "123".startswith("".join(found)))
        whole = len(found) == 3 or (not flip and is_a_block_end(packed, offset, compression))
        assert len(reader.damaged) == 1 or (whole and not reader.damaged)


def is_a_block_end(packed, offset, compression):
    """Return True if a file cut off there looks complete."""
    return not any(isinstance(piece, Gap) for piece in decompress(packed[:offset], compression))


def test_what_has_another_name_or_is_no_file(path, reader):
    """Foreign files are ignored; a pipe keeps nobody waiting."""
    FileStorage(path).store(batch("1"))
    sealed = path / "sealed"
    sealed.mkdir()
    (sealed / "foreign.jsonl").write_bytes(line("2"))
    (sealed / f"logs-{'0' * 16}.jsonl").mkdir()
    os.mkfifo(sealed / f"logs-{'1' * 16}.jsonl")
    assert polled(reader) == ["1"]


def test_journals_of_the_living_and_the_dead(path, reader, process):
    """Each record is returned once, before and after it was drained."""
    other = Journaled(path)
    process.collect("1")
    other.collect("2")
    assert polled(reader) == ["1", "2"]
    process.drain()
    process.collect("3")
    other.collect("4")
    other.die()
    assert polled(reader) == ["3", "4"]
    process.drain()
    heir = Journaled(path)
    heir.recover()
    heir.drain()
    heir.collect("5")
    assert polled(reader) == ["5"]
    assert sorted(everything_in(path)) == list("12345")
    heir.close()
    assert polled(reader) == []
    assert sorted(everything_in(path)) == list("12345")


def test_interrupted_spans(path, reader):
    """Interrupted spans come with their process's death, and once, also after a recovery."""
    process = Journaled(path, open_spans=True)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(process.collector)
    tracer = provider.get_tracer("test")
    interrupted, finished = tracer.start_span("interrupted"), tracer.start_span("finished")
    finished.end()
    assert names_of_spans(reader) == ["finished"]
    process.die()
    assert names_of_spans(reader) == ["interrupted"]
    assert names_of_spans(reader) == []
    heir = Journaled(path)
    heir.recover()
    heir.drain()
    assert names_of_spans(reader) == []
    heir.close()
    assert names_of_spans(reader) == []
    assert sorted(names_of_spans(FileRecording(path))) == ["finished", "interrupted"]
    assert interrupted.is_recording()


def names_of_spans(reader):
    """Return the names of the spans of a poll."""
    return [span.name for data in reader.poll() for span in data.spans]


def test_equal_records(reader, process):
    """Equal records are as many as were collected, also if some came out of the journal."""
    collect_the_same(process, 3)
    assert polled(reader) == ["same"] * 3
    collect_the_same(process, 1)
    process.drain()
    collect_the_same(process, 1)
    assert polled(reader) == ["same"] * 2
    process.drain()
    assert polled(reader) == []


def collect_the_same(process, times):
    """Collect records that are equal in all, times included."""
    event = TelemetryEvent("a", "same", time_unix_nano=1, observed_time_unix_nano=1)
    (encoded,) = TelemetryData(events=[event]).encoded_records(Signal.LOGS)
    process.recover()
    assert all(process.journal.append("l", encoded) for _ in range(times))


def test_a_line_of_which_a_part_is_known(process, reader):
    """The other records of a line are returned."""
    process.collect("1", "2")
    assert polled(reader) == ["1", "2"]
    process.collect("3")
    process.drain()
    assert polled(reader) == ["3"]


def test_rotated_after_it_was_given_out_of_the_journal(path, process, reader):
    """A record that was returned out of the journal may be rotated and sealed."""
    process.collect("1")
    assert polled(reader) == ["1"]
    process.drain()
    process.storage.rotate()
    process.collect("2")
    process.drain()
    process.storage.rotate()
    assert polled(reader) == ["2"]
    assert everything_in(path) == ["1", "2"]


def meanwhile(monkeypatch, name, happens, when):
    """Let something happen just before or after the reader looks at something, once."""
    original, pending = getattr(snapshots, name), [happens]

    def interrupted(*arguments):
        if when == "before" and pending:
            pending.pop()()
        found = original(*arguments)
        if when == "after" and pending:
            pending.pop()()
        return found

    monkeypatch.setattr(snapshots, name, interrupted)


def drain_and_rotate(process):
    """Do all that may move a record."""
    process.drain()
    process.storage.rotate()
    process.collect("new")
    process.drain()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "name", ["read_journal", "list_data_files", "fingerprint_of", "open_regular_file"]
)
@pytest.mark.parametrize("happens", ["drain", "rotate", "both", "twice", "die", "seal"])
def test_what_happens_while_it_is_looked(path, process, reader, monkeypatch, name, when, happens):
    """Whatever happens while a reader looks, it sees what was there before, and nothing twice."""
    process.collect("0")
    process.drain()
    process.collect("1")
    process.drain()
    process.storage.rotate()
    process.collect("2")
    process.drain()
    process.collect("3")
    actions = {
        "drain": process.drain,
        "rotate": process.storage.rotate,
        "both": lambda: drain_and_rotate(process),
        "twice": lambda: (drain_and_rotate(process), drain_and_rotate(process)),
        "die": process.die,
        "seal": lambda: FileStorage(path).rotate(),
    }
    meanwhile(monkeypatch, name, actions[happens], when)
    first = polled(reader)
    assert set(first) >= set("0123")
    assert len(first) - first.count("new") == 4
    second = polled(reader)
    process.recover()
    process.collect("4")
    process.drain()
    third = polled(reader)
    found = first + second + third
    expected = ["0", "1", "2", "3", "4", *["new"] * {"both": 1, "twice": 2}.get(happens, 0)]
    assert sorted(found) == expected
    assert sorted(everything_in(path)) == expected
    assert reader.damaged == []


def test_rotated_faster_than_we_look(path, process, reader, monkeypatch):
    """All records are seen, and nothing twice."""
    original = snapshots.read_journal

    def interrupted(*arguments):
        found = original(*arguments)
        process.drain()
        process.storage.rotate()
        process.collect("new")
        process.drain()
        return found

    process.collect("1")
    process.drain()
    process.collect("2")
    with monkeypatch.context() as patched:
        patched.setattr(snapshots, "read_journal", interrupted)
        first = polled(reader)
    assert {"1", "2"} <= set(first)
    assert first.count("1") == first.count("2") == 1
    assert sorted(first + polled(reader)) == sorted(everything_in(path))


def test_deleted_by_retention_while_it_is_read(path, reader, monkeypatch):
    """A file that retention deletes meanwhile is no error."""
    storage = FileStorage(path)
    for message in "12":
        storage.store(batch(message))
        storage.rotate()
    poll = reader.poll()
    assert [event.message for event in next(poll).events] == ["1"]
    for file in files(path / "sealed"):
        file.unlink()
    assert [data.events[0].message for data in poll] == []
    assert polled(reader) == []


def test_sealed_while_it_is_read(path, reader):
    """The sealed file is found."""
    storage = FileStorage(path, compression="none")
    storage.store(batch("0"))
    storage.rotate()
    for message in "12":
        storage.store(batch(message))
    Layout(path).sealed.mkdir(exist_ok=True)
    storage._writer.rotate()
    poll = reader.poll()
    assert next(poll).events[0].message == "0"
    storage.rotate()
    assert [data.events[0].message for data in poll] == ["1", "2"]


def test_many_slots(path, reader, monkeypatch):
    """Only a few files are held open, and a rotated one is found again."""
    monkeypatch.setattr(snapshots, "_MAX_OPEN", 2)
    storages = [Journaled(path) for _ in range(5)]
    for number, storage in enumerate(storages):
        storage.collect(str(number))
        storage.drain()
    poll = reader.poll()
    assert next(poll).events[0].message == "0"
    storages[4].storage.rotate()
    storages[3].storage.rotate()
    assert [data.events[0].message for data in poll] == ["1", "2", "3", "4"]
    assert polled(reader) == []
    for storage in storages:
        storage.close()


def test_skip(path, process, reader):
    """What comes after is returned, wherever it and the rest move to."""
    storage = FileStorage(path)
    storage.store(batch("1"))
    storage.rotate()
    storage.store(batch("2"))
    process.collect("3")
    reader.skip()
    assert polled(reader) == []
    process.collect("4")
    process.drain()
    process.storage.rotate()
    storage.store(batch("5"))
    storage.rotate()
    assert sorted(polled(reader)) == ["4", "5"]


def test_skip_within_a_line(path, reader):
    """The line that is just being written is new."""
    FileStorage(path).store(batch("1"))
    with (path / "logs.jsonl").open("ab", buffering=0) as file:
        file.write(line("2")[:20])
        reader.skip()
        file.write(line("2")[20:] + b"\n")
    assert polled(reader) == ["2"]


def test_counting(path):
    """Records are counted without decoding."""
    FileStorage(path).store(everything())
    with (path / "logs.jsonl").open("ab") as file:
        file.write(b'{"resourceLogs":7}\n')
    reader = FileRecording(path, count_line)
    found = list(reader.poll())
    assert [len(data) for data in found] == [len(data) for data in FileRecording(path).poll()]
    assert [damaged.line for damaged in reader.damaged] == [2]


def test_damage_in_a_journal(process, reader, monkeypatch):
    """Damage in a journal is listed once."""
    process.collect("1")
    original = snapshots.read_journal

    def damaged(*arguments):
        found = original(*arguments)
        path = process.journal.segments[0].path
        return found._replace(damaged=[Damage(path, 4096, "it is no frame")])

    monkeypatch.setattr(snapshots, "read_journal", damaged)
    assert polled(reader) == ["1"]
    assert polled(reader) == []
    (found,) = reader.damaged
    assert found[1:] == (0, "at byte 4096: it is no frame")


def test_what_cannot_be_read(tmp_path):
    """The error names the path."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot read .*file: Not a directory"):
        list(FileRecording(tmp_path / "file").poll())


def test_nothing_is_changed(path, process, reader):
    """Reading changes no byte and no name."""
    storage = FileStorage(path)
    storage.store(TelemetryData.concat([everything()]))
    storage.rotate()
    storage.store(batch("1"))
    process.collect("2")
    before = contents_of(path)
    polled(reader, final=True)
    reader.files()
    FileStorage(path).retrieve()
    assert contents_of(path) == before


def contents_of(path):
    """Return each file's content and time."""
    return {
        file: (file.read_bytes(), file.stat().st_mtime_ns)
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }


# Several processes write, rotate and seal; some of them are killed.

WRITER = """
import random, sys
from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream
path, name, number, compression = sys.argv[1:]
config = TelemetryConfig(
    storage_backend="file", storage_path=path, flush_interval=0.01, rotate_size=4_000,
    compression=compression, sync="never",
)
stream = TelemetryStream(TelemetryCollector(config))
stop = False
with stream:
    for i in range(int(number)):
        stream.collector.collect_event(name, f"{name}:{i}", metadata={"x": "y" * (i % 100)})
        # Also the pace: the reader takes a line before each look.
        print(i, flush=True)
"""


class Process:
    """A process that writes, and says which number it has collected last."""

    def __init__(self, path, name, number, compression):
        command = [sys.executable, "-c", WRITER, str(path), name, str(number), compression]
        self.name = name
        self.last = -1
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, env=env)

    def go_on(self, lines):
        """Read what it says; return False once it says nothing more."""
        for _ in range(lines):
            line = self._process.stdout.readline()
            if not line.endswith(b"\n"):
                return False
            self.last = int(line)
        return True

    def kill(self):
        """Kill it by SIGKILL. What it said before counts."""
        self._process.kill()
        while self.go_on(1):
            pass
        self.wait()

    def wait(self):
        """Wait until it has ended."""
        self._process.stdout.close()
        self._process.wait()


def missing_and_doubled(found, processes):
    """Return what was collected and is not found, and what is found twice."""
    expected = {f"{p.name}:{i}" for p in processes for i in range(p.last + 1)}
    return expected - set(found), [message for message, times in found.items() if times > 1]


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_each_record_once_at_any_time(tmp_path, compression):
    """Polls and retrievals have no error, no record missing or twice, and no damaged line."""
    chance = random.Random(1)
    path = tmp_path / "t"
    processes = [Process(path, f"p{i}", 3_000, compression) for i in range(3)]
    alive, polled, reader = list(processes), Counter(), FileRecording(path)
    looks = 0
    while alive:
        for process in list(alive):
            if not process.go_on(chance.randrange(200)):
                process.wait()
                alive.remove(process)
        looks += 1
        if looks == 8:
            alive.pop(0).kill()
            processes.append(Process(path, "heir", 1_000, compression))
            alive.append(processes[-1])
        polled.update(event.message for data in reader.poll() for event in data.events)
        assert missing_and_doubled(polled, processes) == (set(), [])
        storage = FileStorage(path)
        retrieved = Counter(event.message for event in storage.retrieve().events)
        assert missing_and_doubled(retrieved, processes) == (set(), [])
        assert reader.damaged == storage.damaged == []
    assert reader.files()[0].kind == "sealed"
    assert sum(polled.values()) >= 7_000
