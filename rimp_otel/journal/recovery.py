"""Taking over what the last owner of a slot left in its journal.

Done before anything is drained or appended. Doing it again, after a death half way, ends the same.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rimp_otel.journal.format import HEADER_SIZE
from rimp_otel.journal.segment import Segment, put_aside, segment_number
from rimp_otel.journal.slices import Twins
from rimp_otel.journal.slots import Slot
from rimp_otel.journal.target import NO_FILE, End, JournalTarget
from rimp_otel.models.records import Signal
from rimp_otel.process import Reporter, importing

__all__ = ["Recovered", "newest_ends", "next_number", "recover", "segment_files", "twins_of"]

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_TIMES = rb'imeUnixNano":"([0-9]{1,20})"'
_NUMBERED = r"([0-9]{6,})\."
# What ``leftovers`` makes segments of, or removes.
_BESIDE = (".open", ".crash", ".tmp")


class Recovered(NamedTuple):
    """What the last owner left."""

    #: Oldest first.
    segments: list[Segment]
    #: Segments that could not be read, and were put aside.
    damaged: int
    #: Whether records of the segments may be in files already, of any kind: after a loss of power.
    may_be_stored: bool = False


def recover(slot: Slot, target: JournalTarget, reporter: Reporter) -> Recovered:
    """Opens the segments in the journal directory of a slot that has been taken."""
    ends = target.ends()
    segments, damaged = [], _convert(slot, target, reporter)
    for path in segment_files(slot.directory):
        try:
            segment = Segment.open(path)
        except (OSError, ValueError) as error:
            damaged += 1
            reporter.say("damaged", f"{path} is damaged, and put aside: {error}")
            put_aside(path)
            continue
        if segment is None:
            path.unlink(missing_ok=True)  # its owner died while it was made
        else:
            segments.append(segment)
    for segment in segments:
        _settle(segment, target.resolve_append)
    _roll_back(segments, all_of_them=_has_lost_power(slot, ends, segments))
    doubtful = any(segment.header.is_doubtful for segment in segments)
    return Recovered(segments, damaged, doubtful)


def _roll_back(segments: list[Segment], all_of_them: bool) -> None:
    """Where a header does not say what was stored, all of its records may have been, or less than
    it says: from here on each is looked for in the files before it is stored."""
    for segment in segments:
        done = segment.state().done
        damaged = [signal for signal in Signal if not segment.is_boundary(done[signal])]
        if all_of_them or damaged:
            segment.header.roll_back()
        for signal in Signal:
            if not segment.is_boundary(segment.header.done(signal)):
                segment.header.set_done(signal, HEADER_SIZE)


def twins_of(recovered: Recovered, target: JournalTarget) -> Twins:
    """What is in the files already of what the segments hold."""
    if recovered.may_be_stored:
        first = min((_first_time(segment) for segment in recovered.segments), default=0)
        return Twins({signal: target.lines_since(signal, first) for signal in Signal})
    return Twins(
        {
            signal: target.lines_after(signal, end)
            for signal, end in newest_ends(recovered.segments).items()
        }
    )


def _first_time(segment: Segment) -> int:
    """The time of its oldest record, or an earlier one."""
    data = segment.read(HEADER_SIZE, segment.size)
    return min(map(int, re.findall(_TIMES, data)), default=0)


def _convert(slot: Slot, target: JournalTarget, reporter: Reporter) -> int:
    """Makes segments of what is beside them; returns how much of it was damaged."""
    directory = slot.directory
    if not any(name.endswith(_BESIDE) for name in _names(directory)):
        return 0
    with importing():
        from rimp_otel.journal.orphans import convert_leftovers
    stored = partial(target.lines_since, Signal.TRACES) if slot.rebooted else None
    try:
        damaged = convert_leftovers(directory, stored)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise  # then nothing can be drained either; it must not come before
        reporter.say("open spans", f"open spans in {directory} wait for the next time: {error}")
        return 0
    if damaged:
        reporter.say("damaged", f"{damaged} open spans in {directory} are damaged, and put aside")
    return damaged


def _has_lost_power(slot: Slot, ends: dict[Signal, End], segments: list[Segment]) -> bool:
    """Whether the files may hold less than the headers say."""
    noted = newest_ends(segments) if segments else {}
    return slot.rebooted or any(
        noted.get(signal, NO_FILE).file_id == end.file_id and end.offset < noted[signal].offset
        for signal, end in ends.items()
        if end.file_id
    )


def newest_ends(segments: list[Segment]) -> dict[Signal, End]:
    """Where the files ended, as the newest of the headers says."""
    return max((segment.state() for segment in segments), key=lambda state: state.cycle).ends


def _settle(segment: Segment, settle: Callable[[Signal, End, int], bool]) -> None:
    """Finds out how far the last line got that was about to be stored."""
    state = segment.state()
    intent = state.intent
    if intent is None or not intent.length:
        return  # none; or of a storage that is no file, which is offered the same slice again
    if settle(intent.signal, intent.start, intent.length):
        end = End(intent.start.file_id, intent.start.offset + intent.length)
        segment.header.finish(intent.signal, intent.done, end, state.cycle)
    else:
        segment.header.set_done(intent.signal, intent.since)
        segment.header.give_up()


def segment_files(directory: Path) -> list[Path]:
    """The segments in a journal's directory, oldest first; never a link, nor a pipe."""
    found = []
    for name in _names(directory):
        number = segment_number(name)
        if number is not None and _may_be_segment(directory / name):
            found.append((number, directory / name))
    return [path for _, path in sorted(found)]


def _may_be_segment(path: Path) -> bool:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)  # a directory is damage, and put aside


def _names(directory: Path) -> Iterator[str]:
    try:
        yield from os.listdir(directory)
    except FileNotFoundError:
        return


def next_number(directory: Path) -> int:
    """A number that no file in the directory has."""
    found = [int(match[1]) for name in _names(directory) if (match := re.match(_NUMBERED, name))]
    return max(found, default=0) + 1
