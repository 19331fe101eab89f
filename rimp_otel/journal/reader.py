"""Reading a journal that somebody else may be writing, without changing anything.

What a header says and what the files hold fit together exactly: the header's ``ends`` say up to
where a file is to be read, its ``done`` from where on the journal. So each record is read once,
while the owner drains, and after it died in the middle of that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from rimp_otel.journal.format import (
    HEADER_SIZE,
    Frame,
    Frames,
    Origins,
    State,
    end_of_frames,
    frames_in,
    line_of_frames,
    read_state,
    readable,
)
from rimp_otel.journal.orphans import read_leftovers
from rimp_otel.journal.recovery import segment_files
from rimp_otel.journal.slots import is_owned
from rimp_otel.journal.target import End
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import LINE_SIZE

__all__ = ["Damage", "JournalContents", "read_journal"]

_ATTEMPTS = 50
_REREADS = 3
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

Whole = Callable[[Signal, End, int], bool]
"""Whether an opened active file holds a line, given by its begin and its length, in full."""


class Damage(NamedTuple):
    """Something in a journal that cannot be read."""

    path: Path
    #: In bytes.
    offset: int
    reason: str


class JournalContents(NamedTuple):
    """What a journal holds that the files do not."""

    #: Read an active file up to this offset if its inode is this; any other file to its end.
    ends: dict[Signal, End]
    #: OTLP JSON lines without their ends, and how many records each holds.
    lines: list[tuple[Signal, bytes, int]]
    damaged: list[Damage]
    #: Bytes of its files.
    size: int


class _Segment(NamedTuple):
    """A segment as it was at one moment."""

    path: Path
    state: State
    data: bytes


def read_journal(directory: Path, whole: Whole) -> JournalContents:
    """What the journal in ``directory`` holds that the active files, which are open, do not.

    Args:
        directory: of the journal; there need be none.
        whole: asked where the owner is, or died, in the middle of storing a line.
    """
    damaged: list[Damage] = []
    segments = _snapshot(directory, damaged)
    contents = JournalContents({}, [], damaged, sum(len(segment.data) for segment in segments))
    if segments:
        newest = max(segments, key=lambda segment: segment.state.cycle)
        contents.ends.update(newest.state.ends)
    is_living = is_owned(directory)
    for segment in segments:
        # What a living owner writes is whole; to decode it for that costs as much as to read it.
        _read_segment(segment, whole, contents, check=not is_living)
    if not is_living:
        left = read_leftovers(directory, [segment.data for segment in segments])
        contents.lines.extend(left.lines)
        damaged.extend(Damage(path, 0, "open spans in it are damaged") for path in left.damaged)
    return contents


def _snapshot(directory: Path, damaged: list[Damage]) -> list[_Segment]:
    """All segments as they were at one moment: nothing was stored while they were looked at."""
    for _ in range(_ATTEMPTS):
        damaged.clear()
        before = _headers(directory)
        segments = [segment for path in before if (segment := _read(path, before[path], damaged))]
        if _same(before, _headers(directory)):
            break
    return segments


def _headers(directory: Path) -> dict[Path, bytes]:
    found = {}
    for path in segment_files(directory):
        try:
            found[path] = _read_bytes(path, HEADER_SIZE)
        except OSError:
            continue  # stored, and gone
    return found


def _same(before: dict[Path, bytes], after: dict[Path, bytes]) -> bool:
    """Whether nothing was stored in between; signs of life, and new segments, do not matter."""
    states = [
        {
            path: state
            for path, header in headers.items()
            if (state := read_state(header)) or path in before
        }
        for headers in (before, after)
    ]
    return all(states[1].get(path) == state for path, state in states[0].items())


def _read(path: Path, header: bytes, damaged: list[Damage]) -> _Segment | None:
    state = read_state(header)
    try:
        data = _read_frames(path) if state is not None or _is_damaged(path) else b""
    except OSError:
        return None
    if state is not None:
        return _Segment(path, state, data)
    if data:
        damaged.append(Damage(path, 0, "its header is damaged"))
    return None


def _read_frames(path: Path) -> bytes:
    """A segment's bytes. A NUL between frames is damage if it stays: a living owner may have been
    at that very frame while we copied."""
    for _ in range(_REREADS):
        data = _read_bytes(path)
        end = HEADER_SIZE + end_of_frames(data[HEADER_SIZE:])
        if b"\0" not in data[HEADER_SIZE:end]:
            break
    return data[:end]


def _is_damaged(path: Path) -> bool:
    """Whether there is something in a segment without a header, so that it is not a new one."""
    return bool(_read_bytes(path)[HEADER_SIZE:].strip(b"\0"))


def _read_bytes(path: Path, size: int = -1) -> bytes:
    # Not mapped: a file that is cut off meanwhile would be a SIGBUS.
    with os.fdopen(os.open(path, _FLAGS), "rb") as file:
        return file.read(size)


def _read_segment(segment: _Segment, whole: Whole, contents: JournalContents, check: bool) -> None:
    done = dict(segment.state.done)
    _settle(segment.state, whole, done, contents.ends)
    frames = _frames(segment, done)
    for signal in Signal:
        known = _known(segment, signal, done[signal], frames)
        if known is None:
            del done[signal]
            reason = f"its header does not say which {signal.value} are stored"
            contents.damaged.append(Damage(segment.path, 0, reason))
        else:
            done[signal] = known
    first = min(done.values(), default=len(segment.data))
    damaged = [position for position in frames.damaged if position >= first]
    for signal in done:
        for piece in _pieces(frames.of(signal, done[signal])):
            kept, unreadable = readable(signal, piece) if check else (piece, [])
            damaged += unreadable
            if kept:
                contents.lines.append((signal, line_of_frames(signal, kept), len(kept)))
    contents.damaged.extend(
        Damage(segment.path, position, "it is no frame") for position in damaged
    )


def _frames(segment: _Segment, done: dict[Signal, int]) -> Frames:
    """All frames. One begins wherever ``done`` is, also where the line end before it is damaged."""
    size = max(len(segment.data), HEADER_SIZE)
    cuts = sorted({HEADER_SIZE, size, *(cut for cut in done.values() if HEADER_SIZE < cut < size)})
    found, origins = Frames([], []), Origins()
    for start, stop in pairwise(cuts):
        frames = frames_in(segment.data[start:stop], start, origins)
        found.records.extend(frames.records)
        found.damaged.extend(frames.damaged)
    return found


def _known(segment: _Segment, signal: Signal, done: int, frames: Frames) -> int | None:
    """From where on the signal's frames are not stored; None if that cannot be told."""
    if HEADER_SIZE <= done <= max(len(segment.data), HEADER_SIZE):
        return done
    either = sorted(segment.state.either[signal])
    possible = [position for position in either if _is_boundary(segment, position)]
    if not possible:
        return None
    # A death between two stores leaves two positions with none of its frames between them.
    between = [frame for frame in frames.of(signal, possible[0]) if frame.position < possible[-1]]
    return None if between else possible[0]


def _is_boundary(segment: _Segment, position: int) -> bool:
    data = segment.data
    return position == HEADER_SIZE or data[max(position - 1, 0) : position] == b"\n"


def _settle(state: State, whole: Whole, done: dict[Signal, int], ends: dict[Signal, End]) -> None:
    """Finds out how far the line got that is, or was, about to be stored."""
    intent = state.intent
    if intent is None:
        return
    if intent.length and whole(intent.signal, intent.start, intent.length):
        done[intent.signal] = intent.done
        ends[intent.signal] = End(intent.start.file_id, intent.start.offset + intent.length)
    else:
        done[intent.signal] = intent.since
        ends[intent.signal] = intent.start


def _pieces(frames: list[Frame]) -> list[list[Frame]]:
    """The frames of one line each."""
    pieces: list[list[Frame]] = []
    size = LINE_SIZE
    for frame in frames:
        if size >= LINE_SIZE:
            pieces.append([])
            size = 0
        pieces[-1].append(frame)
        size += len(frame.text)
    return pieces
