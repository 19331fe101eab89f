"""Frames, the text that a segment consists of, and the lines that are made of them.

A frame is one line of text. A record's is its signal's letter, the number of its origin, a space,
and its OTLP JSON: ``t12 {"traceId":…}``. An origin's is ``d``, its number, a space, and the texts
that stand around a record of that resource, scope and metric, as a JSON array; it comes before the
first record that uses it, in the same segment. JSON escapes NUL and line ends, so that a frame
holds neither; after the last one comes NUL.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from rimp_otel.errors import DecodeError
from rimp_otel.lazy import lazy
from rimp_otel.otlp.fragment import Origin, Wrapping, line_of
from rimp_otel.otlp.signals import Signal
from rimp_otel.otlp.values import to_bytes

if TYPE_CHECKING:
    from rimp_otel.otlp import decode
else:
    decode = lazy("rimp_otel.otlp.decode")

__all__ = [
    "LETTERS",
    "Frame",
    "Frames",
    "Origins",
    "definition",
    "end_of_frames",
    "frames_in",
    "line_of_frames",
    "readable",
]

LETTERS: Final = {Signal.TRACES: "t", Signal.LOGS: "l", Signal.METRICS: "m"}
_SIGNALS = {letter.encode(): signal for signal, letter in LETTERS.items()}
_DEFINITION = b"d"


def definition(number: int, origin: Origin) -> str:
    """The frame that says what a number stands for."""
    # Repaired as in a line: JSON with a lone surrogate could not be read.
    parts = [to_bytes(part).decode() for wrapping in origin if wrapping for part in wrapping]
    return f"d{number} {json.dumps(parts)}\n"


class Frame(NamedTuple):
    """A record's frame."""

    #: In the segment.
    position: int
    signal: Signal
    origin: Origin
    text: str


class Origins:
    """What the numbers of one segment stand for."""

    def __init__(self) -> None:
        self._by_number: dict[bytes, Origin] = {}

    def define(self, number: bytes, text: bytes) -> bool:
        """Takes in a definition; False if it is damaged."""
        try:
            parts = msgspec.json.decode(text, type=list[str])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        if len(parts) not in (4, 6):
            return False
        metric = Wrapping(*parts[4:]) if parts[4:] else None
        self._by_number[number] = Wrapping(*parts[:2]), Wrapping(*parts[2:4]), metric
        return True

    def get(self, number: bytes) -> Origin | None:
        """The origin of that number."""
        return self._by_number.get(number)


class Frames(NamedTuple):
    """What a stretch of a segment holds."""

    records: list[Frame]
    #: Positions of what could not be read.
    damaged: list[int]

    def of(self, signal: Signal, done: int) -> list[Frame]:
        """The records of one signal from a position on."""
        return [
            frame for frame in self.records if frame.signal is signal and frame.position >= done
        ]


def frames_in(data: bytes, position: int, origins: Origins) -> Frames:
    """The frames of ``data``, which begins at ``position`` of its segment, at a frame's begin.

    Tolerates anything: what is no frame is damaged, and ends at the next line end.
    """
    frames = Frames([], [])
    for raw in data.split(b"\n"):
        if raw:
            _read_frame(raw, position, origins, frames)
        position += len(raw) + 1
    return frames


def end_of_frames(data: bytes) -> int:
    """Where the frames end in what a process that is gone has left of a segment.

    That is not the first NUL: after a loss of power, pages may be missing in the middle. The last
    frame was being written when the process died if it has no line end, or a NUL within.
    """
    end = data.rfind(b"\n") + 1
    last = data.rfind(b"\n", 0, max(end - 1, 0)) + 1
    return last if b"\0" in data[last:end] else end


def _read_frame(raw: bytes, position: int, origins: Origins, frames: Frames) -> None:
    head, _, text = raw.partition(b" ")
    kind, number = head[:1], head[1:]
    signal, origin = _SIGNALS.get(kind), origins.get(number)
    if signal is not None and origin is not None and b"\0" not in text:
        try:
            frames.records.append(Frame(position, signal, origin, text.decode()))
            return
        except UnicodeDecodeError:
            pass
    if kind != _DEFINITION or not origins.define(number, text):
        frames.damaged.append(position)


def line_of_frames(signal: Signal, frames: Iterable[Frame]) -> bytes:
    """One OTLP JSON line of records of one signal."""
    groups: dict[Origin, list[str]] = {}
    for frame in frames:
        groups.setdefault(frame.origin, []).append(frame.text)
    return line_of(signal, {origin: to_bytes(",".join(texts)) for origin, texts in groups.items()})


def readable(signal: Signal, frames: list[Frame]) -> tuple[list[Frame], list[int]]:
    """The frames that can be decoded, and the positions of those that cannot."""
    if not frames or _is_readable(line_of_frames(signal, frames), len(frames)):
        return frames, []
    kept = [frame for frame in frames if _is_readable(line_of_frames(signal, [frame]), 1)]
    places = {frame.position for frame in kept}
    return kept, [frame.position for frame in frames if frame.position not in places]


def _is_readable(line: bytes, records: int) -> bool:
    """Whether a line can be decoded, into so many records."""
    try:
        return len(decode.decode_line(line).records) == records == decode.count_records(line)
    except DecodeError:
        return False
