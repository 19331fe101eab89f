"""Reading a journal that somebody else may be writing, without changing anything.

Headers and files fit together exactly: a header's file ends say up to where a file is to be read, its
"stored until" from where on the journal. So each record is read once, while the owner drains, and
after it died in the middle of that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from rimp_otel.fsutil import READ_FLAGS, describe_obstacle, find_obstacle, list_directory
from rimp_otel.journal.checkpoint import join_points, read_checkpoint
from rimp_otel.journal.format import (
    FRAME_ENDS,
    HEADER_SIZE,
    Definitions,
    Frame,
    Frames,
    HeaderState,
    find_frames_end,
    line_of_frames,
    parse_frames,
    read_header,
    read_waiting_in_memory,
    readable_frames,
)
from rimp_otel.journal.orphans import read_orphans
from rimp_otel.journal.recovery import journal_files, segment_files
from rimp_otel.journal.slots import (
    DATA_KINDS,
    JournalFileKind,
    classify_journal_file,
    is_owned,
)
from rimp_otel.journal.target import End
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import LINE_SIZE

__all__ = [
    "Damage",
    "JournalContents",
    "JournalEnds",
    "read_backlog",
    "read_journal",
    "read_journal_ends",
]

_NEEDED_KINDS = {*DATA_KINDS, JournalFileKind.LOCK}
_MAX_SNAPSHOTS = 50
_MAX_REREADS = 3

IsComplete = Callable[[Signal, End, int], bool]
"""Returns True if a signal's active file, opened by the caller, holds a write that starts there in
full; the integer is its length in bytes."""


class Damage(NamedTuple):
    """Something in a journal that cannot be read."""

    path: Path
    #: In bytes.
    offset: int
    reason: str


class JournalContents(NamedTuple):
    """The records of a journal that the files do not hold."""

    #: Read an active file up to this offset if its inode is this; any other file to its end.
    ends: dict[Signal, End]
    #: OTLP JSON lines without their ends, and how many records each holds.
    lines: list[tuple[Signal, bytes, int]]
    damaged: list[Damage]
    #: Bytes of its files.
    size: int
    #: What a living process has measured and not stored: OTLP JSON lines of data points. What it
    #: measures next takes their place, so that nothing that is read later need have them.
    measured: list[bytes]
    #: Records that have no room on disk, and wait in the memory of its owner; they are lost if it is
    #: dead.
    in_memory: int = 0


class JournalEnds(NamedTuple):
    """Up to where the active files of a slot are certain, whatever becomes of its owner."""

    #: Empty where the headers do not say.
    ends: dict[Signal, End]
    #: Of each segment, by its path: before which offset the frames of each signal are stored.
    stored_until: dict[Path, dict[Signal, int]]


class _SegmentSnapshot(NamedTuple):
    """A segment as it was at one moment."""

    path: Path
    state: HeaderState
    data: bytes
    #: Where the write begins that is, or was, being made; the end if there is none.
    torn: int
    in_memory: int


def read_journal(directory: Path, is_complete: IsComplete) -> JournalContents:
    """Return what a journal holds that the active files do not.

    Args:
        directory: of the journal; it need not exist.
        is_complete: asked where the owner is, or died, in the middle of storing a line.
    """
    obstacles = _find_obstacles(directory)
    if any(damage.path == directory for damage in obstacles):
        return JournalContents({}, [], obstacles, 0, [])
    damaged: list[Damage] = []
    for _ in range(_MAX_REREADS):
        # First: what is stored meanwhile is in the segments then.
        measured, paths = _read_checkpoints(directory)
        segments = _take_snapshot(directory, damaged)
        if all(path.exists() for path in paths):
            break  # else it was stored, or made a segment of, and may be in what was read too
    size = sum(len(segment.data) for segment in segments)
    in_memory = max((segment.in_memory for segment in segments), default=0)
    contents = JournalContents({}, [], damaged, size, [], in_memory)
    if segments:
        newest = max(segments, key=attrgetter("state.generation"))
        contents.ends.update(newest.state.file_ends)
    is_living = is_owned(directory)
    for segment in segments:
        # What a living owner writes is whole; to decode it for that costs as much as to read it.
        _read_segment(segment, is_complete, contents, check=not is_living)
    if is_living:
        contents.measured.extend(measured)
    else:
        orphans = read_orphans(directory, [segment.data for segment in segments])
        contents.lines.extend(orphans.lines)
        known = {damage.path for damage in obstacles}
        damaged.extend(
            Damage(path, 0, _describe_damage(path)) for path in orphans.damaged if path not in known
        )
    damaged.extend(obstacles)
    return contents


def read_journal_ends(directory: Path) -> JournalEnds:
    """Return up to where the active files of a journal's slot are certain, by its headers alone.

    What was being appended at that moment is not: a death would have it cut off, and stored again.

    Args:
        directory: of the journal; it need not exist.
    """
    for _ in range(_MAX_SNAPSHOTS):
        headers = _read_headers(directory)
        if _is_unchanged(headers, _read_headers(directory)):
            break
    states = {path: state for path in headers if (state := read_header(headers[path])) is not None}
    newest = max(states.values(), key=attrgetter("generation"), default=None)
    ends = {} if newest is None else dict(newest.file_ends)
    for state in states.values():
        if state.intent is not None:
            ends[state.intent.signal] = state.intent.file_end
    return JournalEnds(ends, {path: state.stored_until for path, state in states.items()})


def read_backlog(directory: Path) -> dict[Path, dict[Signal, int]]:
    """Return what a journal holds that is not stored yet: of each segment, by its path, the offset
    of the last frame of each signal that has any."""
    found: dict[Path, dict[Signal, int]] = {}
    for segment in _take_snapshot(directory, []):
        frames = _parse_segment(segment, segment.state.stored_until)
        last = {frame.signal: frame.offset for frame in frames.records}
        stored_until = segment.state.stored_until
        left = {signal: offset for signal, offset in last.items() if offset >= stored_until[signal]}
        if left:
            found[segment.path] = left
    return found


def _find_obstacles(directory: Path) -> list[Damage]:
    """Return what is in the place of the directory, or of its files, and cannot be read."""
    try:
        names = list_directory(directory)
    except OSError as error:
        reason = describe_obstacle(error)
        return [] if reason is None else [Damage(directory, 0, reason)]
    return [
        Damage(directory / name, 0, reason)
        for name in sorted(names)
        if classify_journal_file(name).kind in _NEEDED_KINDS
        and (reason := find_obstacle(directory / name)) is not None
    ]


def _read_checkpoints(directory: Path) -> tuple[list[bytes], list[Path]]:
    """Return the measurements in a journal's checkpoints, as lines, and their files."""
    lines: list[bytes] = []
    paths = journal_files(directory, JournalFileKind.CHECKPOINT)
    for path in paths:
        try:
            records = read_checkpoint(path).records
        except OSError:
            continue
        lines += [line for line, _ in join_points(records)]
    return lines, paths


def _describe_damage(path: Path) -> str:
    is_checkpoint = classify_journal_file(path.name).kind is JournalFileKind.CHECKPOINT
    return "measurements in it are damaged" if is_checkpoint else "open spans in it are damaged"


def _take_snapshot(directory: Path, damaged: list[Damage]) -> list[_SegmentSnapshot]:
    """Return all segments as they were at one moment: nothing was stored while they were read."""
    for _ in range(_MAX_SNAPSHOTS):
        damaged.clear()
        before = _read_headers(directory)
        segments = [
            segment
            for path in before
            if (segment := _read_snapshot(path, before[path], damaged)) is not None
        ]
        if _is_unchanged(before, _read_headers(directory)):
            break
    return segments


def _read_headers(directory: Path) -> dict[Path, bytes]:
    found = {}
    for path in segment_files(directory):
        try:
            found[path] = _read_bytes(path, HEADER_SIZE)
        except OSError:
            continue  # stored, and gone
    return found


def _is_unchanged(before: dict[Path, bytes], after: dict[Path, bytes]) -> bool:
    """Return True if nothing was stored in between; new segments do not matter."""
    states = [
        {
            path: state
            for path, header in headers.items()
            if (state := read_header(header)) or path in before
        }
        for headers in (before, after)
    ]
    return all(states[1].get(path) == state for path, state in states[0].items())


def _read_snapshot(path: Path, header: bytes, damaged: list[Damage]) -> _SegmentSnapshot | None:
    state = read_header(header)
    try:
        data, torn = _read_frames(path) if state is not None or _has_content(path) else (b"", 0)
    except OSError:
        return None
    if state is not None:
        return _SegmentSnapshot(path, state, data, torn, read_waiting_in_memory(header))
    if data:
        damaged.append(Damage(path, 0, "its header is damaged"))
    return None


def _read_frames(path: Path) -> tuple[bytes, int]:
    """Return a segment's bytes up to where its frames end, and where its torn write begins.

    A NUL between frames is damage if it stays: a living owner may have been at that very frame
    while we copied.
    """
    for _ in range(_MAX_REREADS):
        data = _read_bytes(path)
        end, torn = find_frames_end(data[HEADER_SIZE:], HEADER_SIZE)
        if torn == end and b"\0" not in data[HEADER_SIZE:end]:
            break
    return data[:end], torn


def _has_content(path: Path) -> bool:
    """Return True if a segment without a header holds anything, so that it is not a new one."""
    return bool(_read_bytes(path)[HEADER_SIZE:].strip(b"\0"))


def _read_bytes(path: Path, size: int = -1) -> bytes:
    # Not mapped: a file that is cut off meanwhile would be a SIGBUS.
    with os.fdopen(os.open(path, READ_FLAGS), "rb") as file:
        return file.read(size)


def _read_segment(
    segment: _SegmentSnapshot, is_complete: IsComplete, contents: JournalContents, check: bool
) -> None:
    stored_until = dict(segment.state.stored_until)
    _apply_intent(segment.state, is_complete, stored_until, contents.ends)
    frames = _parse_segment(segment, stored_until)
    for signal in Signal:
        found = _find_stored_until(segment, signal, stored_until[signal], frames)
        if found is None:
            del stored_until[signal]
            reason = f"its header does not say which {signal.value} are stored"
            contents.damaged.append(Damage(segment.path, 0, reason))
        else:
            stored_until[signal] = found
    first = min(stored_until.values(), default=len(segment.data))
    damaged = [offset for offset in frames.damaged if offset >= first]
    for signal, offset in stored_until.items():
        for piece in _split_into_lines(frames.of_signal(signal, offset)):
            kept, unreadable = readable_frames(signal, piece) if check else (piece, [])
            damaged += unreadable
            if kept:
                contents.lines.append((signal, line_of_frames(signal, kept), len(kept)))
    contents.damaged.extend(Damage(segment.path, offset, "it is no frame") for offset in damaged)


def _parse_segment(segment: _SegmentSnapshot, stored_until: dict[Signal, int]) -> Frames:
    """Return all frames.

    One begins wherever a signal is stored until, also where the line end before it is damaged.
    """
    size = max(len(segment.data), HEADER_SIZE)
    inside = {offset for offset in stored_until.values() if HEADER_SIZE < offset < size}
    found, definitions = Frames([], []), Definitions()
    for start, stop in pairwise(sorted({HEADER_SIZE, size, *inside})):
        frames = parse_frames(segment.data[start:stop], start, definitions, segment.torn)
        found.records.extend(frames.records)
        found.damaged.extend(frames.damaged)
    return found


def _find_stored_until(
    segment: _SegmentSnapshot, signal: Signal, stored_until: int, frames: Frames
) -> int | None:
    """Return from where on the signal's frames are not stored; None if that cannot be told."""
    if HEADER_SIZE <= stored_until <= max(len(segment.data), HEADER_SIZE):
        return stored_until
    candidates = sorted(segment.state.candidates[signal])
    possible = [offset for offset in candidates if _is_frame_start(segment, offset)]
    if not possible:
        return None
    # A death between two stores leaves two offsets with none of its frames between them.
    after_first = frames.of_signal(signal, possible[0])
    between = [frame for frame in after_first if frame.offset < possible[-1]]
    return None if between else possible[0]


def _is_frame_start(segment: _SegmentSnapshot, offset: int) -> bool:
    return offset == HEADER_SIZE or segment.data[max(offset - 1, 0) : offset] in FRAME_ENDS


def _apply_intent(
    state: HeaderState,
    is_complete: IsComplete,
    stored_until: dict[Signal, int],
    ends: dict[Signal, End],
) -> None:
    """Find out how far the write got that is, or was, about to be made."""
    intent = state.intent
    if intent is None:
        return
    start, length = intent.file_end, intent.length
    if length and is_complete(intent.signal, start, length):
        stored_until[intent.signal] = intent.stop
        ends[intent.signal] = End(start.file_id, start.offset + length)
    else:
        stored_until[intent.signal] = intent.start
        ends[intent.signal] = start


def _split_into_lines(frames: list[Frame]) -> list[list[Frame]]:
    """Return the frames of one line each."""
    pieces: list[list[Frame]] = []
    size = LINE_SIZE
    for frame in frames:
        if size >= LINE_SIZE:
            pieces.append([])
            size = 0
        pieces[-1].append(frame)
        size += len(frame.text)
    return pieces
