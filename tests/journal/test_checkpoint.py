"""The checkpoint: what it holds, whatever cut it off, and what becomes of it after a death."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rimp_otel.batch import decode_batch
from rimp_otel.journal.checkpoint import (
    MetricCheckpoint,
    encode_checkpoint,
    parse_checkpoint,
    read_checkpoint,
)
from rimp_otel.journal.journal import Journal
from rimp_otel.journal.orphans import convert_orphans
from rimp_otel.journal.reader import read_journal
from rimp_otel.models.records import Signal
from rimp_otel.process import Reporter
from tests.journal.records import FileTarget, append, die, point

WORDS = 80
"""Bytes of the header that are used."""


def frames(*numbers):
    """Return the frames of these points."""
    return encode_checkpoint(point(number) for number in numbers)


def numbers_of(records):
    """Return the numbers of points."""
    return [int(record.text.split('"')[3]) for record in records]


def numbers_in(path):
    """Return the numbers of the points in a checkpoint that is whole."""
    left = read_checkpoint(path)
    assert not left.is_damaged
    return numbers_of(left.records)


@pytest.fixture
def checkpoint(tmp_path):
    """An empty checkpoint."""
    made = MetricCheckpoint.create(tmp_path, 7, 100)
    yield made
    made.close()


def test_file_is_private_and_whole(tmp_path):
    """All pages are allocated, so that no write can fail; nobody else can read it."""
    made = MetricCheckpoint.create(tmp_path, 7, 100_000)
    status = made.path.stat()
    assert made.path.name == "000007.metrics"
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_size == 4_096 + 2 * made.room
    assert status.st_blocks * 512 >= status.st_size
    assert made.room >= 200_000
    made.close()
    assert list(tmp_path.iterdir()) == []


def test_no_link_is_followed(tmp_path):
    """What somebody put in its place is left alone."""
    (tmp_path / "elsewhere").write_text("x")
    (tmp_path / "000007.metrics").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="exists"):
        MetricCheckpoint.create(tmp_path, 7, 100)
    with pytest.raises(OSError, match="symbolic"):
        read_checkpoint(tmp_path / "000007.metrics")
    assert (tmp_path / "elsewhere").read_text() == "x"


def test_the_last_write_counts(checkpoint):
    """Each write takes the place of the one before; an empty one says that nothing is left."""
    assert numbers_in(checkpoint.path) == []
    for numbers in ([1], [1, 2], [3], [], [4, 5, 6]):
        checkpoint.write(frames(*numbers))
        assert numbers_in(checkpoint.path) == numbers


def test_what_is_too_large_is_refused(checkpoint):
    """Points that do not fit leave those from before."""
    checkpoint.write(frames(1))
    with pytest.raises(ValueError, match="no room"):
        checkpoint.write(b"x" * (checkpoint.room + 1))
    assert numbers_in(checkpoint.path) == [1]


def test_closed_file_is_not_written(checkpoint):
    """Whoever writes late writes nowhere."""
    checkpoint.close()
    with pytest.raises(ValueError, match="released"):
        checkpoint.write(frames(1))


def test_a_child_leaves_the_file_to_its_parent(checkpoint):
    """A forked child closes it, and deletes nothing."""
    checkpoint.write(frames(1))
    child = os.fork()
    if child == 0:
        checkpoint.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert numbers_in(checkpoint.path) == [1]


def steps_of(path, checkpoint, new):
    """Return the file's content after each store of a write, the last one being complete."""
    states = []
    words, memory = checkpoint._words, checkpoint._memory

    class Recording:
        def __init__(self, target):
            self.target = target

        def __setitem__(self, place, value):
            if isinstance(place, slice) and len(value) > 1:  # half of it first
                half = len(value) // 2
                self.target[place.start : place.start + half] = value[:half]
                states.append(path.read_bytes())
            self.target[place] = value
            states.append(path.read_bytes())

        def __getattr__(self, name):
            return getattr(self.target, name)

    checkpoint._words, checkpoint._memory = Recording(words), Recording(memory)
    checkpoint.write(new)
    checkpoint._words, checkpoint._memory = words, memory
    return states


@pytest.mark.parametrize("before", [[], [[1]], [[1], [2]], [[1], []], [[1], [2], [3]]])
def test_death_in_the_middle_of_a_write(checkpoint, before):
    """After a death at any step the file holds the new points, or those from before; no damage."""
    for numbers in before:
        checkpoint.write(frames(*numbers))
    old = before[-1] if before else []
    states = steps_of(checkpoint.path, checkpoint, frames(8, 9))
    found = []
    for data in states:
        left = parse_checkpoint(data)
        assert not left.is_damaged
        found.append(numbers_of(left.records))
    assert len(found) == 7
    assert found == [*[old] * found.count(old), *[[8, 9]] * found.count([8, 9])]
    assert found[-1] == [8, 9]


@given(offset=st.integers(0, 4_096 + 2 * 32 * 1024 - 1), bit=st.integers(0, 7))
def test_flipped_bit(offset, bit):
    """A flipped bit never makes a point that was not measured; where it costs one, it is said."""
    data = bytearray(WHOLE)
    data[offset] ^= 1 << bit
    left = parse_checkpoint(bytes(data))
    numbers = numbers_of(left.records)
    assert numbers in ([3, 4], [2], [])
    assert left.is_damaged or numbers == [3, 4]


def test_every_byte_of_what_is_used():
    """The same, of every byte that says anything."""
    lines = len(frames(3, 4))
    half = 4_096 + 32 * 1024
    for offset in [*range(WORDS), *range(half, half + lines)]:
        data = bytearray(WHOLE)
        data[offset] ^= 0x41
        left = parse_checkpoint(bytes(data))
        numbers = numbers_of(left.records)
        assert left.is_damaged or numbers == [3, 4], offset
        assert numbers in ([3, 4], [2]), offset


def test_cut_file():
    """A file that was cut off never raises, and says that it is damaged if it lost the points."""
    for size in [*range(4_200), *range(4_200, len(WHOLE), 997)]:
        left = parse_checkpoint(WHOLE[:size])
        numbers = numbers_of(left.records)
        assert numbers == [3, 4] or left.is_damaged or size == 0


def test_never_completed():
    """A file whose owner died while it was made holds nothing, and is not damaged."""
    assert parse_checkpoint(b"") == ([], False)
    assert parse_checkpoint(bytes(8_192)) == ([], False)
    assert parse_checkpoint(b"something else" * 1_000) == ([], True)


@pytest.fixture
def journal(tmp_path):
    """A journal that is not open yet."""
    journal = Journal(FileTarget(tmp_path), 64 * 1024 * 1024, Reporter(), open_spans=False)
    yield journal
    journal.reset_after_fork()


def values_in(lines):
    """Return the values of the points in lines."""
    return [metric.value for line in lines for metric in decode_batch(line).metrics]


def test_readers_see_it_of_the_living_and_of_the_dead(journal, tmp_path):
    """It is apart while its owner lives, and among the journal's records once that is dead."""
    append(journal, 1)
    assert journal.checkpoint([point(5), point(6)])
    directory = tmp_path / "journal"
    contents = read_journal(directory, lambda *_: False)
    assert values_in(contents.measured) == [5, 6]
    assert values_in(line for s, line, _ in contents.lines if s is Signal.METRICS) == [1]
    die(journal)
    contents = read_journal(directory, lambda *_: False)
    assert contents.measured == []
    lines = [(line, count) for s, line, count in contents.lines if s is Signal.METRICS]
    assert values_in(line for line, _ in lines) == [1, 5, 6]
    assert [count for _, count in lines] == [1, 2]


def test_next_owner_makes_a_segment_of_it_once(journal, tmp_path):
    """Killed half way, the conversion is done again, and the points come once."""
    assert journal.checkpoint([point(5), point(6)])
    die(journal)
    directory = tmp_path / "journal"
    content = (directory / "000002.metrics").read_bytes()
    assert convert_orphans(directory) == 0
    (directory / "000002.metrics").write_bytes(content)
    contents = read_journal(directory, lambda *_: False)
    assert values_in(line for _, line, _ in contents.lines) == [5, 6]
    assert convert_orphans(directory) == 0
    assert sorted(os.listdir(directory)) == ["000001.seg", "000002.seg", "lock"]


def test_what_is_stored_leaves_nothing(journal, tmp_path):
    """An empty checkpoint gives no segment."""
    assert journal.checkpoint([])
    assert sorted(os.listdir(tmp_path)) == []
    assert journal.checkpoint([point(5)])
    assert journal.checkpoint([])
    die(journal)
    assert convert_orphans(tmp_path / "journal") == 0
    assert sorted(os.listdir(tmp_path / "journal")) == ["000001.seg", "lock"]


def test_it_grows(journal, tmp_path):
    """Points that do not fit go into a larger file, and the smaller one is removed."""
    assert journal.checkpoint([point(1)])
    assert journal.checkpoint([point(number) for number in range(3_000)])
    directory = tmp_path / "journal"
    assert sorted(os.listdir(directory)) == ["000001.seg", "000003.metrics", "lock"]
    contents = read_journal(directory, lambda *_: False)
    assert values_in(contents.measured) == list(range(3_000))


def test_removed_directory(journal, tmp_path):
    """If somebody removes the directory, the points are kept in the new one."""
    append(journal, 1)
    assert journal.checkpoint([point(5)])
    (tmp_path / "journal").rename(tmp_path / "moved")
    journal.prepare()
    contents = read_journal(tmp_path / "journal", lambda *_: False)
    assert values_in(contents.measured) == [5]
    assert journal.checkpoint([point(6)])
    assert values_in(read_journal(tmp_path / "journal", lambda *_: False).measured) == [6]


def test_closed_journal_leaves_nothing(journal, tmp_path):
    """A journal that is stored to its end removes it."""
    assert journal.checkpoint([point(5)])
    assert journal.close()
    assert os.listdir(tmp_path / "journal") == ["lock"]


def test_full_disk(journal, tmp_path, monkeypatch):
    """What cannot be made larger is kept as it was, and the failure is said."""
    said = []
    journal._reporter = Reporter(write=said.append)
    assert journal.checkpoint([point(1)])
    monkeypatch.setattr(os, "posix_fallocate", _no_room)
    assert not journal.checkpoint([point(number) for number in range(3_000)])
    assert said == ["measurements are not safe yet: [Errno 28] No space left on device"]
    assert values_in(read_journal(tmp_path / "journal", lambda *_: False).measured) == [1]


def _no_room(*_):
    raise OSError(28, "No space left on device")


def test_damage_is_told_and_kept(journal, tmp_path):
    """A damaged checkpoint is reported, counted and put into quarantine."""
    assert journal.checkpoint([point(5)])
    die(journal)
    path = tmp_path / "journal" / "000002.metrics"
    data = bytearray(path.read_bytes())
    data[data.index(b"asInt")] ^= 1
    path.write_bytes(data)
    (damage,) = read_journal(path.parent, lambda *_: False).damaged
    assert damage == (path, 0, "measurements in it are damaged")
    assert convert_orphans(path.parent) == 1
    assert path.with_name("000002.metrics.damaged").read_bytes() == bytes(data)


def _whole() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        made = MetricCheckpoint.create(Path(directory), 7, 100)
        made.write(frames(1))
        made.write(frames(2))
        made.write(frames(3, 4))
        data = made.path.read_bytes()
        made.close()
    return data


WHOLE = _whole()
"""A file whose last write is of the points 3 and 4, and the one before of 2."""
