"""Recovery: what the last owner of a slot left in its journal is taken over by the next one.

It is done before anything is drained or appended. Doing it again, after a death half way, ends the
same.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from rimp_otel.journal.format import HEADER_SIZE
from rimp_otel.journal.segment import Segment, quarantine_file
from rimp_otel.journal.slices import StoredRecords
from rimp_otel.journal.slots import JournalFileKind, Slot, classify_journal_file
from rimp_otel.journal.target import NO_FILE, End, JournalTarget
from rimp_otel.models.records import Signal
from rimp_otel.process import Reporter, importing

__all__ = [
    "Recovered",
    "find_stored_records",
    "journal_files",
    "newest_file_ends",
    "next_file_number",
    "recover_slot",
    "segment_files",
]

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TIMES = rb'imeUnixNano":"([0-9]{1,20})"'
# What ``orphans`` makes segments of, or removes.
_ORPHANS = {
    JournalFileKind.OPEN_SPANS,
    JournalFileKind.CRASH,
    JournalFileKind.CHECKPOINT,
    JournalFileKind.TEMPORARY,
}


class Recovered(NamedTuple):
    """The files that the last owner of a slot left."""

    #: Oldest first.
    segments: list[Segment]
    #: Segments and other files that could not be read, and were put into quarantine.
    damaged: int
    #: True if records of the segments may be in files already, of any age: after a loss of power.
    may_be_stored: bool = False


def recover_slot(slot: Slot, target: JournalTarget, reporter: Reporter) -> Recovered:
    """Open the segments in the journal of a slot that has been taken.

    Raises:
        StorageError: the target's files cannot be read or repaired.
        OSError: the device has no room for what has to be written first.
    """
    ends = target.ends()
    segments, damaged = [], _convert_orphans(slot, target, reporter)
    for path in segment_files(slot.directory):
        try:
            segment = Segment.open(path)
        except (OSError, ValueError) as error:
            damaged += 1
            reporter.warn("damaged", f"{path} is damaged, renamed to *.damaged: {error}")
            quarantine_file(path)
            continue
        if segment is None:
            path.unlink(missing_ok=True)  # its owner died while it was made
        else:
            segments.append(segment)
    for segment in segments:
        _resolve_intent(segment, target)
    _roll_back(segments, all_of_them=_has_lost_power(slot, ends, segments))
    doubtful = any(segment.header.is_doubtful for segment in segments)
    return Recovered(segments, damaged, doubtful)


def _roll_back(segments: list[Segment], all_of_them: bool) -> None:
    """Roll back headers that do not say what was stored: all of their records may have been, or
    less than they say. From here on each is looked for in the files before it is stored."""
    for segment in segments:
        stored_until = segment.state().stored_until
        if all_of_them or not all(map(segment.is_frame_start, stored_until.values())):
            segment.header.roll_back()
        for signal in Signal:
            if not segment.is_frame_start(segment.header.stored_until(signal)):
                segment.header.set_stored_until(signal, HEADER_SIZE)


def find_stored_records(recovered: Recovered, target: JournalTarget) -> StoredRecords:
    """Return what of the recovered segments is stored already, although no header says so."""
    if recovered.may_be_stored:
        first = min((_first_time(segment) for segment in recovered.segments), default=0)
        return StoredRecords({signal: target.lines_since(signal, first) for signal in Signal})
    return StoredRecords(
        {
            signal: target.lines_after(signal, end)
            for signal, end in newest_file_ends(recovered.segments).items()
        }
    )


def _first_time(segment: Segment) -> int:
    """Return the time of the segment's oldest record, or an earlier one."""
    data = segment.read(HEADER_SIZE, segment.size)
    return min(map(int, re.findall(_TIMES, data)), default=0)


def _convert_orphans(slot: Slot, target: JournalTarget, reporter: Reporter) -> int:
    """Make segments of the other files of a dead process; return how many were damaged."""
    directory = slot.directory
    if not any(
        classify_journal_file(name).kind in _ORPHANS for name in _names_in_journal(directory)
    ):
        return 0
    with importing():
        from rimp_otel.journal.orphans import convert_orphans
    stored = partial(target.lines_since, Signal.TRACES) if slot.rebooted else None
    try:
        damaged = convert_orphans(directory, stored)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise  # then nothing can be drained either; it must not come before
        reporter.warn(
            "open spans", f"cannot recover open spans and measurements in {directory} now: {error}"
        )
        return 0
    if damaged:
        reporter.warn(
            "damaged",
            f"{damaged} open spans or checkpoints of measurements in {directory} are damaged, renamed"
            " to *.damaged",
        )
    return damaged


def _has_lost_power(slot: Slot, ends: dict[Signal, End], segments: list[Segment]) -> bool:
    """Return True if the files may hold less than the headers say."""
    expected = newest_file_ends(segments) if segments else {}
    return slot.rebooted or any(
        expected.get(signal, NO_FILE).file_id == end.file_id
        and end.offset < expected[signal].offset
        for signal, end in ends.items()
        if end.file_id
    )


def newest_file_ends(segments: list[Segment]) -> dict[Signal, End]:
    """Return where the files ended, as the newest of the headers says."""
    return max((segment.state() for segment in segments), key=attrgetter("generation")).file_ends


def _resolve_intent(segment: Segment, target: JournalTarget) -> None:
    """Find out how far the last write got that a header announces."""
    state = segment.state()
    intent = state.intent
    if intent is None or not intent.length:
        return  # none; or of a target without files, which is offered the same slice again
    start, length = intent.file_end, intent.length
    if target.resolve_append(intent.signal, start, length):
        end = End(start.file_id, start.offset + length)
        segment.header.finish(intent.signal, intent.stop, end, state.generation)
    else:
        segment.header.set_stored_until(intent.signal, intent.start)
        segment.header.clear_intent()


def segment_files(directory: Path) -> list[Path]:
    """Return the segments in a journal's directory, oldest first; never a link, nor a pipe."""
    return [
        path for path in journal_files(directory, JournalFileKind.SEGMENT) if _may_be_segment(path)
    ]


def journal_files(directory: Path, kind: JournalFileKind) -> list[Path]:
    """Return what is named as a file of that kind in a journal's directory, oldest first."""
    found = [
        (file.number or 0, directory / name)
        for name in _names_in_journal(directory)
        if (file := classify_journal_file(name)).kind is kind
    ]
    return [path for _, path in sorted(found)]


def _may_be_segment(path: Path) -> bool:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISDIR(
        mode
    )  # a directory is damage, and goes into quarantine


def _names_in_journal(directory: Path) -> Iterator[str]:
    try:
        yield from os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return


def next_file_number(directory: Path) -> int:
    """Return a number that is higher than that of any file in a journal's directory."""
    numbers = [classify_journal_file(name).number or 0 for name in _names_in_journal(directory)]
    return max(numbers, default=0) + 1
