"""Slices: each record once, in order, in lines of about 64 KiB."""

from __future__ import annotations

import pytest

from rimp_otel.batch import decode_batch
from rimp_otel.journal.format import HEADER_SIZE
from rimp_otel.journal.journal import Journal
from rimp_otel.journal.segment import Segment
from rimp_otel.journal.slices import Slicer, StoredRecords
from rimp_otel.models.records import Signal
from rimp_otel.process import Reporter
from tests.journal.records import FileTarget, append, log, numbers_of

ALL = list(range(300))


@pytest.fixture
def segment(tmp_path):
    """A segment of 300 records of each signal."""
    journal = Journal(FileTarget(tmp_path), 64 * 1024 * 1024, Reporter(), open_spans=False)
    for number in ALL:
        append(journal, number)
    (segment,) = journal.segments
    yield segment
    journal.reset_after_fork()


def cut_all(slicer):
    """Return all slicer."""
    found = []
    while pieces := slicer.cut(slicer.end()):
        found += pieces
        slicer.advance()
    return found


def read(pieces):
    """Return the numbers of the records in the slicer."""
    return numbers_of([decode_batch(line) for piece in pieces for line in piece.lines])


def reopened(segment):
    """Return the segment as the next owner finds it."""
    return Segment.open(segment.path)


@pytest.mark.parametrize("again", [False, True])
def test_all_records_once(segment, again):
    """Each record comes once, of a segment that is being written and of one that was left."""
    segment = reopened(segment) if again else segment
    pieces = cut_all(Slicer(segment))
    assert read(pieces) == dict.fromkeys(Signal, ALL)
    assert sum(piece.records for piece in pieces) == 900
    assert max(len(line) for piece in pieces for line in piece.lines) < 70_000
    assert all(segment.header.stored_until(signal) == segment.frames_end() for signal in Signal)


def test_larger_chunks(segment):
    """A larger chunk holds several lines of the usual size."""
    slicer = Slicer(segment)
    pieces = slicer.cut(slicer.end(), 200_000)
    assert [piece.signal for piece in pieces] == [Signal.LOGS, Signal.TRACES, Signal.METRICS]
    assert [len(piece.lines) for piece in pieces] == [4, 4, 4]
    assert max(len(line) for piece in pieces for line in piece.lines) < 70_000
    slicer.advance()
    rest = read(cut_all(slicer))
    assert [read(pieces)[signal] + rest[signal] for signal in Signal] == [ALL] * 3


def test_chunks_follow_one_another(segment):
    """Each chunk begins where the one before ended."""
    pieces = [piece for piece in cut_all(Slicer(segment)) if piece.signal is Signal.LOGS]
    assert pieces[0].start == HEADER_SIZE
    assert [piece.stop for piece in pieces[:-1]] == [piece.start for piece in pieces[1:]]


def test_only_up_to_an_end(segment):
    """Records after the given end are for the next time."""
    slicer = Slicer(segment)
    end = segment.next_frame_start(HEADER_SIZE + 100_000, segment.frames_end())
    first = []
    while pieces := slicer.cut(end):
        first += pieces
        slicer.advance()
    before = read(first)
    rest = read(cut_all(slicer))
    assert [before[signal] + rest[signal] for signal in Signal] == [ALL] * 3
    assert before[Signal.LOGS]
    assert rest[Signal.LOGS]


def test_what_was_stored_is_left_out(segment):
    """Stored records are left out, also where one signal was stored further than another."""
    slicer = Slicer(segment)
    first = slicer.cut(slicer.end())
    segment.header.set_stored_until(Signal.LOGS, first[0].stop)
    again = cut_all(Slicer(reopened(segment)))
    logs = read([piece for piece in first if piece.signal is Signal.LOGS])[Signal.LOGS]
    assert read(again)[Signal.LOGS] == ALL[len(logs) :]
    assert read(again)[Signal.TRACES] == ALL


def test_damage_costs_itself(segment):
    """A damaged byte costs one record, which is counted."""
    data = bytearray(segment.path.read_bytes())
    place = data.index(b'"100 x')
    data[place] = 0
    segment.path.write_bytes(data)
    pieces = cut_all(Slicer(reopened(segment)))
    found = read(pieces)
    assert found[Signal.LOGS] == [number for number in ALL if number != 100]
    assert found[Signal.TRACES] == ALL
    assert sum(piece.damaged for piece in pieces) == 1


def test_missing_page(segment):
    """After a loss of power, what lies around a missing page is there."""
    data = bytearray(segment.path.read_bytes())
    data[40_960:45_056] = bytes(4_096)
    segment.path.write_bytes(data)
    found = read(cut_all(Slicer(reopened(segment))))
    assert found[Signal.LOGS][:20] == ALL[:20]
    assert found[Signal.LOGS][-200:] == ALL[-200:]
    assert len(ALL) - 12 < len(found[Signal.LOGS]) < len(ALL)


def test_half_written_frame_at_the_end(segment):
    """A half-written frame at the end is no damage: its append had not returned."""
    data = segment.path.read_bytes()
    segment.path.write_bytes(
        data[: segment.frames_end() - 5] + bytes(len(data) - segment.frames_end() + 5)
    )
    pieces = cut_all(Slicer(reopened(segment)))
    assert read(pieces)[Signal.METRICS] == ALL[:-1]
    assert sum(piece.damaged for piece in pieces) == 0


def test_stored_records(segment):
    """What is stored beyond what the header knows of is not stored again."""
    pieces = cut_all(Slicer(segment))
    lines = [line for piece in pieces if piece.signal is Signal.LOGS for line in piece.lines]
    for signal in Signal:
        segment.header.set_stored_until(signal, HEADER_SIZE)
    stored_records = StoredRecords({Signal.LOGS: lines[:2]})
    stored = len(numbers_of([decode_batch(line) for line in lines[:2]])[Signal.LOGS])
    found = read(cut_all(Slicer(reopened(segment), stored_records)))
    assert found[Signal.LOGS] == ALL[stored:]
    assert found[Signal.TRACES] == ALL


def test_stored_records_are_counted(tmp_path):
    """Two equal records are two."""
    journal = Journal(FileTarget(tmp_path), 64 * 1024 * 1024, Reporter(), open_spans=False)
    for _ in range(3):
        journal.append("l", log(1))
    (segment,) = journal.segments
    (piece,) = cut_all(Slicer(segment))
    segment.header.set_stored_until(Signal.LOGS, HEADER_SIZE)
    stored_records = StoredRecords({Signal.LOGS: [*piece.lines, b"damaged"]})
    journal.append("l", log(1))
    assert read(cut_all(Slicer(reopened(segment), stored_records)))[Signal.LOGS] == [1]
    journal.reset_after_fork()
