"""Reading a journal changes nothing, and meets no half of anything."""

from __future__ import annotations

import pytest

from rimp_otel.batch import decode_batch
from rimp_otel.journal.format import HEADER_SIZE, Intent
from rimp_otel.journal.journal import Journal
from rimp_otel.journal.reader import read_journal
from rimp_otel.journal.target import End
from rimp_otel.models.records import Signal
from rimp_otel.process import Reporter
from tests.journal.records import FileTarget, append, numbers_of


@pytest.fixture
def journal(tmp_path):
    """A living journal with ten records of each signal."""
    journal = Journal(FileTarget(tmp_path), 64 * 1024 * 1024, Reporter(), open_spans=False)
    for number in range(10):
        append(journal, number)
    yield journal
    journal.reset_after_fork()


def read(journal, whole=lambda *_: False):
    """Return a journal's contents, and the numbers of the records in them."""
    contents = read_journal(journal.segments[0].path.parent, whole)
    return contents, numbers_of([decode_batch(line) for _, line, _ in contents.lines])


def test_all_that_is_not_stored(journal):
    """All that is not stored is read, with the number of records of each line."""
    contents, numbers = read(journal)
    assert numbers == {signal: list(range(10)) for signal in Signal}
    assert sum(records for _, _, records in contents.lines) == 30
    assert contents.damaged == []
    journal.segments[0].header.set_stored_until(Signal.LOGS, journal.segments[0].frames_end())
    _, numbers = read(journal)
    assert numbers[Signal.LOGS] == []
    assert numbers[Signal.TRACES] == list(range(10))


def test_nothing_is_changed(journal):
    """Reading changes not a byte."""
    before = journal.segments[0].path.read_bytes()
    read(journal)
    assert journal.segments[0].path.read_bytes() == before


def test_no_journal(tmp_path):
    """A missing journal holds nothing."""
    contents = read_journal(tmp_path / "nowhere", lambda *_: False)
    assert contents == ({}, [], [], 0, [], 0)


@pytest.mark.parametrize("whole", [True, False])
def test_a_line_that_is_being_stored(journal, whole):
    """A line is read from the file if it is complete there, else from the journal."""
    segment = journal.segments[0]
    stop = segment.frames_end()
    segment.header.intend(Intent(Signal.LOGS, HEADER_SIZE, stop, End(7, 100), 50))
    contents, numbers = read(journal, lambda *_: whole)
    assert numbers[Signal.LOGS] == ([] if whole else list(range(10)))
    assert contents.ends[Signal.LOGS] == End(7, 150 if whole else 100)


def test_two_segments(journal):
    """The segment that was changed last says where the files end."""
    first = journal.segments[0]
    first.header.set_file_ends({Signal.LOGS: End(7, 10)}, 5)
    second = journal._create_segment(journal._segment_size)
    journal.segments.append(second)
    second.header.set_file_ends({Signal.LOGS: End(7, 20)}, 6)
    assert read(journal)[0].ends[Signal.LOGS] == End(7, 20)
    first.header.set_file_ends({Signal.LOGS: End(7, 30)}, 7)
    assert read(journal)[0].ends[Signal.LOGS] == End(7, 30)


def test_damage(journal):
    """Damage is reported with its place; all else is read."""
    segment = journal.segments[0]
    data = bytearray(segment.path.read_bytes())
    place = data.index(b"l1 ")
    segment._memory[place] = ord("?")
    contents, numbers = read(journal)
    assert numbers[Signal.LOGS] == list(range(1, 10))
    (damage,) = contents.damaged
    assert (damage.path, damage.offset, damage.reason) == (segment.path, place, "it is no frame")


def test_damaged_line_end_before_what_is_not_stored(journal):
    """A damaged line end costs nothing: what follows begins where the header says."""
    segment = journal.segments[0]
    position = segment.next_frame_start(HEADER_SIZE + 20_000 // 2, segment.frames_end())
    for signal in Signal:
        segment.header.set_stored_until(signal, position)
    _, before = read(journal)
    segment._memory[position - 1] = ord("?")
    contents, numbers = read(journal)
    assert contents.damaged == []
    assert numbers == before
    assert numbers[Signal.LOGS]


def test_header_that_says_nonsense(journal):
    """A damaged header costs its signal, until it is recovered."""
    journal.segments[0].header.set_stored_until(Signal.LOGS, 2**40)
    contents, numbers = read(journal)
    assert numbers[Signal.LOGS] == []
    assert numbers[Signal.METRICS] == list(range(10))
    assert [damage.reason for damage in contents.damaged] == [
        "its header does not say which logs are stored"
    ]


def test_damaged_magic_number(journal):
    """A damaged magic number is reported; a segment that is only being made is not."""
    directory = journal.segments[0].path.parent
    data = journal.segments[0].path.read_bytes()
    (directory / "000008.seg").write_bytes(bytes(8) + data[8:])
    (directory / "000009.seg").write_bytes(bytes(100_000))
    contents, _ = read(journal)
    assert [(d.path.name, d.reason) for d in contents.damaged] == [
        ("000008.seg", "its header is damaged")
    ]


def test_frame_that_is_being_written(journal):
    """A frame that is being written is not read yet, and is no damage."""
    segment = journal.segments[0]
    end = segment.frames_end()
    segment._memory[end : end + 6] = b"l1 {\0\n"
    contents, numbers = read(journal)
    assert contents.damaged == []
    assert numbers[Signal.LOGS] == list(range(10))
