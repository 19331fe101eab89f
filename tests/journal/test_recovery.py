"""Recovery: what can be read is stored, what cannot is put into quarantine and counted."""

from __future__ import annotations

import json
import os
import resource

import pytest

from rimp_otel.journal.format import HEADER_SIZE, Intent
from rimp_otel.journal.journal import Journal
from rimp_otel.journal.recovery import next_file_number, recover_slot, segment_files
from rimp_otel.journal.slots import LOCK
from rimp_otel.journal.target import End
from rimp_otel.models.records import Signal
from rimp_otel.process import Reporter
from tests.journal.records import FileTarget, append, die


@pytest.fixture
def left(tmp_path):
    """The directory of a journal with ten records of each signal, whose owner died."""
    target = FileTarget(tmp_path)
    journal = Journal(target, 64 * 1024 * 1024, Reporter(), open_spans=False)
    for number in range(10):
        append(journal, number)
    die(journal)
    return tmp_path / "journal"


def take(left, target=None):
    """Return what the next owner finds."""
    target = target or FileTarget(left.parent)
    try:
        return recover_slot(target.take_slot(), target, Reporter())
    finally:
        target.release_slot()


def test_segment_is_found(left):
    """A segment is found as it was left."""
    found = take(left)
    assert [segment.path.name for segment in found.segments] == ["000001.seg"]
    assert found.damaged == 0


def test_twice(left):
    """A recovery that is killed is done again, and changes nothing more."""
    before = (left / "000001.seg").read_bytes()
    take(left)
    take(left)
    assert (left / "000001.seg").read_bytes() == before


def test_damaged_segment_is_quarantined(left, capsys):
    """A damaged segment keeps nothing else from being found."""
    data = (left / "000001.seg").read_bytes()
    (left / "000002.seg").write_bytes(b"\1\2\3" + data[3:])
    found = take(left)
    assert len(found.segments) == 1
    assert found.damaged == 1
    assert (left / "000002.seg.damaged").read_bytes()[3:] == data[3:]
    assert (
        "000002.seg is damaged, renamed to *.damaged: its magic number is wrong"
        in capsys.readouterr().err
    )


def test_unfinished_segment_goes(left):
    """A segment that nothing was ever written into is deleted."""
    (left / "000002.seg").write_bytes(bytes(100_000))
    (left / "000003.tmp").write_bytes(b"half")
    assert len(take(left).segments) == 1
    assert sorted(os.listdir(left)) == ["000001.seg", LOCK]


def test_foreign_files_stay(left):
    """Foreign files and links stay as they are."""
    (left / "notes.txt").write_text("mine")
    (left / "000002.seg").symlink_to(left / "notes.txt")
    assert len(take(left).segments) == 1
    assert (left / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(("whole", "done"), [(True, 5_000), (False, HEADER_SIZE)])
def test_interrupted_append(left, whole, done):
    """The file decides whether an interrupted append is complete."""
    (segment,) = take(left).segments
    segment.header.intend(Intent(Signal.LOGS, HEADER_SIZE, 5_000, End(7, 100), 50))
    segment.header.set_stored_until(Signal.LOGS, 4_500)  # as if it had died right there
    target = FileTarget(left.parent)
    asked = []
    target.resolve_append = lambda *line: asked.append(line) or whole
    target.ends = lambda: {signal: End(7, 150) for signal in Signal}
    done = segment.next_frame_start(done - 1, segment.frames_end()) if whole else done
    segment.header.intend(Intent(Signal.LOGS, HEADER_SIZE, done, End(7, 100), 50))
    (again,) = take(left, target).segments
    assert asked == [(Signal.LOGS, End(7, 100), 50)]
    state = again.state()
    assert (state.stored_until[Signal.LOGS], state.intent) == (done, None)
    if whole:
        assert state.file_ends[Signal.LOGS] == End(7, 150)


def test_stored_until_within_a_frame(left):
    """An offset within a frame is damage: all records are looked for in the files."""
    (segment,) = take(left).segments
    segment.header.set_stored_until(Signal.LOGS, HEADER_SIZE + 17)
    target = FileTarget(left.parent)
    target.lines[Signal.LOGS].append(b"x" * 99)
    segment.header.set_file_ends(target.ends(), 1)
    (again,) = take(left, target).segments
    assert again.header.stored_until(Signal.LOGS) == HEADER_SIZE
    assert again.header.is_doubtful
    assert take(left).may_be_stored


def test_rolled_back_after_a_reboot(left):
    """What was stored after the last sync may not have reached the device."""
    (segment,) = take(left).segments
    position = segment.next_frame_start(HEADER_SIZE, segment.frames_end())
    segment.header.finish(Signal.LOGS, position, End(7, 0), 1)
    assert take(left).segments[0].header.stored_until(Signal.LOGS) == position
    owner = json.loads((left / LOCK).read_text())
    (left / LOCK).write_text(json.dumps({**owner, "boot": "before"}))
    assert take(left).segments[0].header.stored_until(Signal.LOGS) == HEADER_SIZE


def test_rolled_back_where_the_file_is_too_short(left):
    """A header is rolled back where the file is too short, whatever the reason."""
    (segment,) = take(left).segments
    position = segment.next_frame_start(HEADER_SIZE, segment.frames_end())
    segment.header.finish(Signal.LOGS, position, End(7, 100), 1)
    target = FileTarget(left.parent)
    target.ends = lambda: {signal: End(7, 99) for signal in Signal}
    (again,) = take(left, target).segments
    assert again.header.stored_until(Signal.LOGS) == HEADER_SIZE


def test_numbers(left):
    """A new file's number is above all that are there, quarantined ones included."""
    assert next_file_number(left) == 2
    (left / "000009.seg.damaged").write_bytes(b"")
    (left / "000004.open").write_bytes(b"")
    assert next_file_number(left) == 10
    (left / "000002.seg").write_bytes(b"")
    assert [path.name for path in segment_files(left)] == ["000001.seg", "000002.seg"]
    assert segment_files(left / "nowhere") == []


def test_pipes_keep_nobody_waiting(left):
    """Pipes with the names of a journal's files are left out."""
    for name in ("000007.seg", "000007.open", "000008.crash"):
        os.mkfifo(left / name)
    found = take(left)
    assert len(found.segments) == 1
    assert "000007.seg" not in [path.name for path in segment_files(left)]


def test_no_room_for_orphans(left):
    """Without room for the orphans, nothing else is drained before them either."""
    (left / "000007.crash").write_text("Fatal Python error: Aborted\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            take(left)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(take(left).segments) == 2
