"""Segments: bytes are in the file at once, none past its end; no foreign descriptor is closed."""

from __future__ import annotations

import os
import resource

import pytest

from rimp_otel.journal.format import HEADER_SIZE
from rimp_otel.journal.segment import FileMapping, Segment
from rimp_otel.otlp.lines import Envelope

ORIGIN = Envelope("{", "}"), Envelope("{", "}"), None
SIZE = 64 * 1024


@pytest.fixture
def segment(tmp_path):
    """A new segment."""
    segment = Segment.create(tmp_path, 1, SIZE)
    yield segment
    segment.close()


def test_written_bytes_are_in_the_file(segment):
    """Bytes are in the file as soon as write returns."""
    segment.write(b"t1 {}\n")
    data = segment.path.read_bytes()
    assert data[HEADER_SIZE : HEADER_SIZE + 7] == b"t1 {}\n\0"
    assert len(data) == SIZE
    assert segment.frames_end() == HEADER_SIZE + 6


def test_private(segment):
    """A segment is readable by its owner alone."""
    assert segment.path.stat().st_mode & 0o777 == 0o600


def test_space_is_there(segment):
    """Space is allocated first: a full disk must not be met by a write into memory."""
    assert segment.path.stat().st_blocks * 512 >= SIZE


def test_full(segment):
    """What does not fit is refused whole; what is smaller still fits."""
    segment.write(b"a" * (SIZE - HEADER_SIZE - 10))
    with pytest.raises(ValueError, match="out of range"):
        segment.write(b"b" * 11)
    segment.write(b"c" * 10)
    assert segment.frames_end() == SIZE


def test_frozen(segment):
    """Late writers are refused until the segment is unfrozen."""
    segment.write(b"one\n")
    segment.freeze()
    with pytest.raises(ValueError):
        segment.write(b"two\n")
    assert segment.frames_end() == HEADER_SIZE + 4
    segment.unfreeze()
    segment.write(b"three\n")
    assert segment.read(HEADER_SIZE, segment.frames_end()) == b"one\nthree\n"


def test_heads(segment):
    """A definition comes until it is known to be written."""
    head, definition = segment.frame_head("t", ORIGIN)
    assert (head, definition) == ("t1 ", 'd1 ["{", "}", "{", "}"]\x1e')
    assert segment.frame_head("t", ORIGIN)[0] == "t2 "
    segment.set_head("t", ORIGIN, head)
    assert segment.frame_head("t", ORIGIN) == ("t1 ", "")


def test_opened_by_another(segment):
    """Another process finds the segment frozen, with the same content."""
    segment.write(b"t1 {}\n")
    other = Segment.open(segment.path)
    assert other.is_recovered
    assert other.identity == segment.identity
    assert other.read(HEADER_SIZE, other.frames_end()) == b"t1 {}\n"
    with pytest.raises(ValueError):
        other.write(b"x")
    other.close()


def test_incomplete_segment(tmp_path):
    """A segment whose owner died while making it is none."""
    for size in (0, 100, HEADER_SIZE, SIZE):
        path = tmp_path / f"{size:06d}.seg"
        path.write_bytes(bytes(size))
        assert Segment.open(path) is None


def test_damaged_segment(segment, tmp_path):
    """Damage is refused with the reason; one byte of the magic number may be wrong."""
    segment.write(b"t1 {}\n")
    path = tmp_path / "000009.seg"
    path.write_bytes(b"\1" + segment.path.read_bytes()[1:])
    Segment.open(path).close()
    path.write_bytes(b"\1\1" + segment.path.read_bytes()[2:])
    with pytest.raises(ValueError, match="its magic number is wrong"):
        Segment.open(path)
    path.write_bytes(segment.path.read_bytes()[:100])
    with pytest.raises(ValueError, match="it is cut off within its header"):
        Segment.open(path)


def test_name_is_taken(segment, tmp_path):
    """A file or link of that name is never written over, nor followed."""
    with pytest.raises(FileExistsError):
        Segment.create(tmp_path, 1, SIZE)
    (tmp_path / "000002.seg").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        Segment.create(tmp_path, 2, SIZE)
    with pytest.raises(OSError):
        Segment.open(tmp_path / "000002.seg")


def test_no_room_on_disk(tmp_path):
    """A full disk leaves nothing behind."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, hard))
    try:
        with pytest.raises(OSError):
            Segment.create(tmp_path, 1, SIZE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


def test_deleted(tmp_path):
    """A segment can be deleted although its file is gone."""
    segment = Segment.create(tmp_path, 1, SIZE)
    segment.path.unlink()
    segment.delete()
    with pytest.raises(ValueError):
        segment.write(b"x")


def test_closed_while_somebody_looks_at_its_header(tmp_path):
    """A forked child can close a segment whose header a thread of its parent was reading."""
    segment = Segment.create(tmp_path, 1, SIZE)
    view = memoryview(segment._memory)
    segment.close()
    with pytest.raises(ValueError):
        segment.write(b"x")
    view.release()


def test_sync(segment):
    """A sync goes through the file, and fails if that is gone."""
    segment.sync()
    segment.path.unlink()
    with pytest.raises(FileNotFoundError):
        segment.sync()


@pytest.fixture
def opened(tmp_path):
    """A file of a page."""
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(file, 4_096)
    yield file
    os.close(file)


def descriptors():
    """Return the open descriptors."""
    return {int(name) for name in os.listdir("/proc/self/fd")}


def test_written_through(opened):
    """What is written to a mapping can be read from the file at once."""
    memory = FileMapping.of(opened, 4_096)
    memory.write(b"text")
    assert os.pread(opened, 4, 0) == b"text"
    memory.close()
    assert memory.closed
    memory.close()


def test_releases_its_descriptor(opened):
    """A mapping releases its descriptor, if it has one."""
    before = descriptors()
    FileMapping.of(opened, 4_096).close()
    assert descriptors() == before


def test_closes_nobody_elses_descriptor(opened, tmp_path):
    """A descriptor that a program closed and opened anew is left alone."""
    before = descriptors()
    memory = FileMapping.of(opened, 4_096)
    own = descriptors() - before
    (tmp_path / "other").touch()
    other = os.open(tmp_path / "other", os.O_RDWR)
    for number in own:
        os.dup2(other, number)
    memory.close()
    assert own <= descriptors()
    with pytest.raises(ValueError):
        memory.write(b"late")
    for number in {other, *own}:
        os.close(number)
