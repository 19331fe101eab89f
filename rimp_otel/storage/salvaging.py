"""Segments of a journal that a recovery put aside: what is only in them is stored after all."""

from __future__ import annotations

import os
from pathlib import Path

from rimp_otel.journal.frames import (
    Frame,
    Origins,
    end_of_frames,
    frames_in,
    line_of_frames,
    readable,
)
from rimp_otel.journal.header import HEADER_SIZE, State, read_state
from rimp_otel.journal.slices import Twins
from rimp_otel.otlp.signals import Signal
from rimp_otel.storage.slotstorage import SlotStorage

__all__ = ["salvage"]

_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_SLICE = 90


def salvage(path: Path, storage: SlotStorage) -> int:
    """Stores the records of a damaged segment that are in no file yet.

    Args:
        path: of the segment.
        storage: the files of the slot that it belonged to.

    Returns:
        How many there were.

    Raises:
        OSError: it cannot be read.
        StorageError: they could not be stored, or the recording cannot be read.
    """
    stored = 0
    for signal, frames in _frames(path).items():
        # Not if there are none: all files of the recording are read for this.
        if frames:
            frames = Twins({signal: storage.lines_since(signal, 0)}).without(signal, frames)
        for start in range(0, len(frames), _SLICE):
            line = line_of_frames(signal, frames[start : start + _SLICE])
            storage.append_line(signal, line)
        stored += len(frames)
    return stored


def _frames(path: Path) -> dict[Signal, list[Frame]]:
    """The records in it that can be read, and are not known to be stored."""
    with os.fdopen(os.open(path, _FLAGS), "rb") as file:
        data = file.read()
    text = data[HEADER_SIZE:]
    found = frames_in(text[: end_of_frames(text)], HEADER_SIZE, Origins())
    state = read_state(data[:HEADER_SIZE])
    return {
        signal: readable(signal, found.of(signal, _done(state, signal, data)))[0]
        for signal in Signal
    }


def _done(state: State | None, signal: Signal, data: bytes) -> int:
    """Up to where its records are stored; 0 where the header does not say it any more."""
    done = state.done[signal] if state else 0
    return done if data[max(done - 1, 0) : done] == b"\n" else 0
