"""From the journal into the storage: once, whatever happens in between."""

from __future__ import annotations

import os

import pytest

from rimp_otel import StorageError, TelemetryCollector, TelemetryConfig, TelemetryMetric
from rimp_otel.batch import TelemetryData, decode_batch
from rimp_otel.collector.collector import CollectorBuffer
from rimp_otel.collector.stats import CollectorStats
from rimp_otel.journal.format import Header
from rimp_otel.journal.journal import Journal
from rimp_otel.journal.reader import read_journal
from rimp_otel.journal.target import DirectoryTarget
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import LINE_SIZE
from rimp_otel.process import Reporter
from rimp_otel.streaming.journal_drain import JournalDrain
from tests.doubles import ListStorage
from tests.journal.records import FileTarget, append, die, log, numbers_of, point

ALL = list(range(500))


def each(numbers):
    """Return the same numbers for every signal."""
    return dict.fromkeys(Signal, numbers)


class RecordedFiles(FileTarget):
    """A target of files that says which records they hold."""

    def recorded(self):
        """Return the numbers of the records in the lines."""
        return numbers_of([decode_batch(line) for lines in self.lines.values() for line in lines])


class Died(BaseException):
    """Ends a test's process."""


class Process:
    """A collector with a journal, that can die."""

    def __init__(self, target, storage=None, size=64 * 1024 * 1024, sync_after=None):
        self.offered = []
        self.storage = storage or ListStorage()
        self.collector = TelemetryCollector(TelemetryConfig())
        self.journal = Journal(target, size, Reporter(), open_spans=False)
        self.buffer = CollectorBuffer(self.collector)
        self.buffer.attach(self, self.journal)
        self.drain = JournalDrain(
            self.journal,
            target,
            self.buffer.counts,
            self.offered.append,
            Reporter(),
            self.buffer,
            self.storage,
            sync_after,
            usual_slice=LINE_SIZE,  # so that a few records take many steps
        )

    def wake(self):
        """Do nothing: the tests drain."""

    @property
    def held(self):
        """The number of records that the drain holds."""
        return self.drain.held

    def append(self, numbers):
        """Append records of all three signals, past the collector."""
        for number in numbers:
            append(self.journal, number)

    def die(self):
        """Die without a word."""
        die(self.journal)

    def run_until_it_dies(self):
        """Drain until a death, after which not even an exception's handler runs."""

        def dead(*_):
            raise Died

        self.drain._give_up_or_wait = dead
        for segment in self.journal.segments:
            segment.header.clear_intent = lambda: None
        with pytest.raises(Died):
            self.drain.run()
        self.die()


@pytest.fixture
def target(tmp_path):
    """A target of files, in memory."""
    return RecordedFiles(tmp_path)


def test_everything_is_stored_once(target):
    """Records are stored in order, and offered to the consumers."""
    process = Process(target)
    process.append(ALL)
    assert process.drain.run()
    assert target.recorded() == each(ALL)
    assert numbers_of(process.offered) == each(ALL)
    process.drain.close()
    assert os.listdir(target.path / "journal") == ["lock"]


def test_killed_before_it_was_drained(target):
    """The next process stores the records, and counts them as recovered."""
    first = Process(target)
    first.append(ALL)
    first.die()
    second = Process(target)
    second.drain.recover()
    second.append([500])
    assert second.drain.run()
    assert target.recorded() == each([*ALL, 500])
    stats = second.collector.stats()
    assert (stats.recovered, stats.collected, stats.pending) == (1_500, 1_500, -3)


@pytest.mark.parametrize(
    ("holes", "whole"),
    [
        ([(0, 32)], range(1, 100)),  # memcpy stores the first bytes last
        ([(0, 32), (20_000, 100_000)], range(1, 37)),
        ([(8_192, 12_288)], [*range(15), *range(24, 100)]),
        ([(30_000, 100_000)], range(56)),
        ([(0, 100_000)], []),
    ],
)
def test_killed_in_the_middle_of_a_write(target, holes, whole):
    """What is there of the last write is stored; the rest was never written, and is not damaged."""
    first = Process(target)
    first.append([1_000])
    segment = first.journal.segments[0]
    start = segment.frames_end()
    assert first.journal.append_all("l", [log(number) for number in range(100)])
    size = segment.frames_end() - start
    for begin, end in holes:
        end = min(end, size)
        segment._memory[start + begin : start + end] = bytes(end - begin)
    first.die()
    expected = {**each([1_000]), Signal.LOGS: [1_000, *whole]}
    contents = read_journal(target.path / "journal", lambda *_: False)
    assert contents.damaged == []
    assert numbers_of([decode_batch(line) for _, line, _ in contents.lines]) == expected
    second = Process(target)
    second.drain.recover()
    assert second.drain.run()
    assert target.recorded() == expected
    assert second.collector.stats().dropped == {}
    second.drain.close()
    assert os.listdir(target.path / "journal") == ["lock"]


def test_killed_while_the_first_record_was_written(target):
    """Nobody learns what the number of a record stands for; it was never written."""
    first = Process(target)
    assert first.journal.append("l", log(1))
    segment = first.journal.segments[0]
    start = segment.frames_end()
    assert first.journal.append("m", point(2))
    segment._memory[start : start + 32] = bytes(32)
    first.die()
    contents = read_journal(target.path / "journal", lambda *_: False)
    assert (len(contents.lines), contents.damaged) == (1, [])
    second = Process(target)
    second.drain.recover()
    assert second.drain.run()
    assert target.recorded() == {**each([]), Signal.LOGS: [1]}
    assert second.collector.stats().dropped == {}


def test_gap_before_the_last_write(target):
    """What is missing of a write that another one follows is damage."""
    first = Process(target)
    assert first.journal.append_all("l", [log(number) for number in range(10)])
    segment = first.journal.segments[0]
    assert first.journal.append("l", log(10))
    place = segment.path.read_bytes().index(b'"3 x')
    segment._memory[place : place + 32] = bytes(32)
    first.die()
    (damage,) = read_journal(target.path / "journal", lambda *_: False).damaged
    assert damage.reason == "it is no frame"
    second = Process(target)
    second.drain.recover()
    assert second.drain.run()
    assert target.recorded() == {**each([]), Signal.LOGS: [0, 1, 2, *range(4, 11)]}
    assert second.collector.stats().dropped == {"damaged": 1}


def test_many_records_at_once_are_stored_in_slices(target):
    """A write of many records becomes lines of the usual size, in their order, as if written one by one."""
    first = Process(target)
    first.append([0])
    assert first.journal.append_all("l", [log(number) for number in range(1, 500)])
    assert first.journal.append("l", log(500))
    assert first.drain.run()
    lines = target.lines[Signal.LOGS]
    assert numbers_of([decode_batch(line) for line in lines])[Signal.LOGS] == list(range(501))
    assert len(lines) > 3
    assert max(map(len, lines)) < 70_000
    assert b"\x1e" not in b"".join(lines)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("line", range(1, 16))
def test_killed_while_a_line_was_stored(target, line, moment):
    """Killed before a line was there, or after: it is stored once."""
    left = line

    def die_at_last():
        nonlocal left
        left -= 1
        if not left:
            raise Died

    first = Process(target)
    first.append(ALL)
    setattr(target, moment, die_at_last)
    # What happens to a process that is killed here: nothing.
    first.drain._give_up_or_wait = lambda *_: (_ for _ in ()).throw(Died)
    kept = dict.fromkeys(first.journal.segments)
    for segment in kept:
        segment.header.clear_intent = lambda: None
    with pytest.raises(Died):
        first.drain.run()
    first.die()
    target.before = target.after = lambda: None
    second = Process(target)
    second.drain.recover()
    assert second.drain.run()
    assert target.recorded() == each(ALL)


def test_killed_again_and_again(target):
    """Each process takes over from the one before."""
    for number in range(5):
        process = Process(target)
        process.append(range(100 * number, 100 * number + 100))
        process.die()
    last = Process(target)
    last.drain.recover()
    assert len(last.journal.segments) == 6
    assert last.drain.run()
    assert target.recorded() == each(ALL)
    assert len(last.journal.segments) == 1


def test_storage_that_is_down(target):
    """Nothing is lost as long as there is room, and then storing goes on."""
    process = Process(target)
    target.failing = True
    process.append(ALL[:250])
    assert not process.drain.run()
    process.append(ALL[250:])
    assert not process.drain.run()
    assert target.recorded() == each([])
    target.failing = False
    assert process.drain.run()
    assert target.recorded() == each(ALL)


def test_full_journal(tmp_path):
    """Records that do not fit are dropped and counted; the others are stored."""
    target = RecordedFiles(tmp_path)
    process = Process(target, size=1024 * 1024)
    for number in range(4_000):
        process.collector.collect_event("a", f"{number} {'x' * 500}")
    stats = process.collector.stats()
    assert set(stats.dropped) == {"journal_full"}
    assert stats.pending + stats.dropped["journal_full"] == 4_000
    assert process.drain.run()
    kept = 4_000 - stats.dropped["journal_full"]
    assert target.recorded()[Signal.LOGS] == list(range(kept))
    assert process.collector.stats().stored == kept
    process.collector.collect_event("a", "4000")
    assert process.drain.run()
    assert target.recorded()[Signal.LOGS][-1] == 4_000


def test_storage_of_another_kind_gets_the_same_slice_again(tmp_path):
    """A storage without files gets the same slice again, with the same id."""
    seen = []

    def dies(data):
        seen.append((data.slice_id, len(data)))
        if len(seen) == 2:
            raise Died

    first = Process(DirectoryTarget.at(ListStorage(dies).store, tmp_path))
    first.append(ALL)
    first.run_until_it_dies()
    storage = ListStorage(lambda data: seen.append((data.slice_id, len(data))))
    second = Process(DirectoryTarget.at(storage.store, tmp_path), storage)
    second.drain.recover()
    second.append([500])
    assert second.drain.run()
    assert seen[1] == seen[2]
    assert len({slice_id for slice_id, _ in seen}) == len(seen) - 1
    assert all(slice_id for slice_id, _ in seen)
    assert sum(map(len, storage.stored.batches)) == 1_503 - seen[0][1]


def test_batch_that_cannot_be_stored(tmp_path):
    """A batch is given up after three attempts, and counted; the rest is stored."""

    def refuses(data):
        if data.events and data.events[0].message == "bad":
            raise ValueError

    storage = ListStorage(refuses)
    process = Process(DirectoryTarget.at(storage.store, tmp_path), storage)
    process.collector.collect_event("a", "bad")
    assert not process.drain.run()
    process.collector.collect_event("a", "good")
    assert not process.drain.run()
    assert process.drain.run()
    assert storage.stored.messages == ["good"]
    assert process.collector.stats().dropped == {"storage_error": 1}
    assert process.collector.stats().pending == 0


@pytest.mark.parametrize("where", ["finish", "set_stored_until", "set_file_ends"])
def test_no_memory_to_note_what_is_stored(target, monkeypatch, where):
    """What is stored, and could not be noted, is not stored again."""
    process = Process(target)
    process.collector.collect_event("a", "first")
    method = getattr(Header, where)

    def fail(*arguments):
        monkeypatch.undo()
        raise MemoryError

    monkeypatch.setattr(Header, where, fail)
    with pytest.raises(MemoryError):
        process.drain.run()
    assert getattr(Header, where) is method
    process.collector.collect_event("a", "second")
    assert process.drain.run()
    assert process.collector.stats() == CollectorStats(2, 2, 0, {}, 0)
    lines = b"".join(target.lines[Signal.LOGS])
    assert lines.count(b'"first"') == lines.count(b'"second"') == 1


def test_segments_are_deleted_once_they_are_synced(target):
    """With a sync policy, segments are kept until the sync."""
    process = Process(target, size=1024 * 1024, sync_after=600.0)
    process.drain.sync()
    process.append(range(300))
    assert process.drain.run()
    segments = len(process.journal.finished)
    assert segments == 2
    process.drain.sync()
    assert len(process.journal.finished) == 0


def test_closed_with_a_storage_that_is_down(target):
    """The journal stays for the next process."""
    process = Process(target)
    process.append([1])
    target.failing = True
    process.drain.close()
    assert process.journal.is_open
    process.die()
    target.failing = False
    second = Process(target)
    second.drain.recover()
    assert second.drain.run()
    assert target.recorded() == each([1])


def test_reader_at_any_moment(target, tmp_path):
    """Files up to their ends, and the journal from there, hold each record once."""
    process = Process(target)
    process.append(ALL)
    checks = []

    def whole(signal, start, length):
        return target.resolve_append(signal, start, length)

    def look():
        contents = read_journal(tmp_path / "journal", whole)
        batches = [decode_batch(line) for _, line, _ in contents.lines]
        for signal in Signal:
            offset = 0
            for line in target.lines[signal]:
                if offset < contents.ends[signal].offset:
                    batches.insert(0, decode_batch(line))
                offset += len(line) + 1
        found = numbers_of(batches)
        checks.append({signal: sorted(found[signal]) for signal in Signal} == each(ALL))

    look()
    target.before = target.after = look
    assert process.drain.run()
    look()
    assert len(checks) > 20
    assert all(checks)


def test_metrics_of_instruments(target):
    """Data points of instruments go through the journal too."""
    process = Process(target)
    process.drain.accept_points(
        TelemetryData(metrics=[TelemetryMetric("m", 1), TelemetryMetric("m", 2)])
    )
    assert process.collector.stats().pending == 2
    process.die()
    second = Process(target)
    second.drain.recover()
    assert second.drain.run()
    assert target.recorded()[Signal.METRICS] == [1, 2]


def test_refused_by_the_storage_for_good(target):
    """StorageErrors are waited out for ever: the journal has room."""
    process = Process(target)
    target.failing = True
    process.append([1])
    for _ in range(10):
        assert not process.drain.run()
    with pytest.raises(StorageError):
        target.store(Signal.LOGS, TelemetryData(), lambda *_: None)
    target.failing = False
    assert process.drain.run()
    assert target.recorded() == each([1])


def test_metrics_that_the_journal_takes_in_part(target):
    """The rest waits in memory; a point that cannot be encoded is counted once."""
    process = Process(target)
    points = [TelemetryMetric("m", number) for number in range(5)]
    points[3].value = object()
    append_to_journal = process.journal.append
    room = iter([True, True])
    process.journal.append = lambda *given: next(room, False) and append_to_journal(*given)
    process.drain.accept_points(TelemetryData(metrics=points))
    stats = process.collector.stats()
    assert (stats.collected, stats.pending, stats.dropped) == (5, 4, {"encoding": 1})
    process.journal.append = append_to_journal
    assert process.drain.run()
    assert process.collector.stats().stored == 4
    stored = [metric.value for data in process.storage.stored.batches for metric in data.metrics]
    assert sorted(stored + target.recorded()[Signal.METRICS]) == [0, 1, 2, 4]


def test_metrics_are_counted_before_they_can_be_stored(target):
    """The pending count is never negative."""
    process = Process(target)
    append_to_journal = process.journal.append

    def append_and_drain(*given):
        taken = append_to_journal(*given)
        process.drain.run()
        assert process.collector.stats().pending >= 0
        return taken

    process.journal.append = append_and_drain
    process.drain.accept_points(TelemetryData(metrics=[TelemetryMetric("m", n) for n in range(3)]))
    assert process.collector.stats().stored == 3


def test_exit_does_not_wait_for_a_record_that_never_comes(target):
    """A thread that the exit stopped had counted a record, and not appended it."""
    process = Process(target)
    process.buffer.counts.collected.add_one()
    process.append([1])
    process.buffer.counts.collect_points(3)
    process.drain.run_if_free()
    assert process.collector.stats().pending == 1
    assert target.recorded() == each([1])


def test_record_in_memory_when_the_journal_closes(target):
    """A record that a finaliser collects then is stored before the storage is closed."""
    process = Process(target)
    process.append([1])
    process.drain.run()
    release = target.release_slot

    def collect_and_release():
        del target.release_slot
        process.collector.collect_event("finaliser", "late")
        release()

    target.release_slot = collect_and_release
    process.drain.close()
    assert process.storage.stored.messages == ["late"]


def test_kept_records_are_reported(target, capsys):
    """Records in the journal are reported as kept for the next process."""
    target.failing = True
    process = Process(target)
    process.drain.report_unstored()
    process.collector.collect_event("a", "in the journal")
    process.drain.report_unstored()
    kept = "rimp: 1 record could not be stored, but kept in the journal, for the next process"
    assert capsys.readouterr().err == f"{kept} that records here\n"


def test_lost_records_are_reported(target, capsys):
    """Of a journal that could not be written, records in memory are reported as lost."""
    target.failing = True
    process = Process(target)
    process.collector.collect_event("a", "in the journal")
    process.journal.append = process.journal.append_known = lambda *_: False
    process.storage.before = lambda data: 1 / 0
    for number in range(3):
        process.collector.collect_event("a", f"in memory {number}")
    process.drain.accept_points(TelemetryData(metrics=[TelemetryMetric("m", 1.0)]))
    assert not process.drain.run()
    capsys.readouterr()
    process.drain.report_unstored()
    assert capsys.readouterr().err.splitlines() == [
        "rimp: 1 record could not be stored, but kept in the journal, for the next process"
        " that records here",
        "rimp: 4 records could not be stored and are lost",
    ]
