"""Slices: what is stored at once, a line of one signal made of a stretch of a segment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rimp_otel.batch import decode_batch
from rimp_otel.errors import DecodeError
from rimp_otel.journal.format import (
    HEADER_SIZE,
    LETTERS,
    Frame,
    Origins,
    end_of_frames,
    frames_in,
    line_of_frames,
    readable,
)
from rimp_otel.journal.segment import Segment
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import LINE_SIZE, Envelopes, join_line

__all__ = ["Slice", "Slices", "Twins"]

_SIGNALS = {letter.encode(): signal for signal, letter in LETTERS.items()}


class Slice(NamedTuple):
    """A stretch of a segment's frames, of one signal."""

    signal: Signal
    #: Positions in the segment.
    since: int
    stop: int
    #: OTLP JSON lines; none where there is no record left to store.
    lines: list[bytes]
    #: Records in the lines.
    records: int
    #: Records in the stretch that could not be read.
    damaged: int


def _joined(first: Slice | None, second: Slice) -> Slice:
    if first is None:
        return second
    return second._replace(
        lines=first.lines + second.lines,
        records=first.records + second.records,
        damaged=first.damaged + second.damaged,
    )


_ByHead = dict[bytes, tuple[bytes, int]]
"""Of each head the records' texts, joined by commas, and how many they are."""


def _by_head(data: bytes) -> _ByHead:
    frames = data.split(b"\n")
    frames.pop()  # after the last line end
    size = data.find(b" ") + 1
    head = data[:size]
    # Most stretches are of one origin: that takes half of the time.
    if {frame[:size] for frame in frames} == {head}:
        return {head[:-1]: (b",".join([frame[size:] for frame in frames]), len(frames))}
    found: dict[bytes, list[bytes]] = {}
    for frame in frames:
        head, _, text = frame.partition(b" ")
        if head in found:
            found[head].append(text)
        else:
            found[head] = [text]
    return {head: (b",".join(texts), len(texts)) for head, texts in found.items()}


class Twins:
    """Records that are in the files already, although no header says so: after a loss of power,
    the files may have reached the device, and the headers not.

    Args:
        lines: of each signal, where they may be.
    """

    def __init__(self, lines: Mapping[Signal, Iterable[bytes]]) -> None:
        # Not the texts: there may be many.
        self._hashes = {
            signal: Counter(hash(text) for line in found for text in _texts_in(signal, line))
            for signal, found in lines.items()
        }

    def without(self, signal: Signal, frames: list[Frame]) -> list[Frame]:
        """The frames that are not in the files yet."""
        hashes = self._hashes.get(signal)
        return [frame for frame in frames if not _take(hashes, frame)] if hashes else frames


def _take(hashes: Counter[int], frame: Frame) -> bool:
    (text,) = _texts_in(frame.signal, line_of_frames(frame.signal, [frame])) or ("",)
    key = hash(text)
    if not hashes[key]:
        return False
    hashes[key] -= 1
    return True


def _texts_in(signal: Signal, line: bytes) -> list[str]:
    """The records' texts, as they are after decoding; none of a damaged line."""
    try:
        data = decode_batch(line.strip())
    except DecodeError:
        return []
    return [fragment.text for fragment in data.encoded_records(signal)]


class Slices:
    """Cuts one segment into slices.

    Args:
        segment: nobody else may drain it.
        twins: of a segment that was recovered: what is in the files already.
    """

    def __init__(self, segment: Segment, twins: Twins | None = None) -> None:
        self._segment = segment
        self._twins = twins
        self._origins = Origins()
        self._position = HEADER_SIZE
        self._stop = HEADER_SIZE
        if segment.recovered:
            self._skip_stored()

    def _skip_stored(self) -> None:
        """Goes to the first frame that is not stored, and learns the origins before it."""
        first = min(self._segment.header.done(signal) for signal in Signal)
        if not HEADER_SIZE < first <= self._segment.size:
            return
        before = self._segment.read(HEADER_SIZE, first)
        if before.endswith(b"\n"):
            frames_in(before, HEADER_SIZE, self._origins)
            self._position = first

    def end(self) -> int:
        """Where the frames end that can be drained now."""
        segment = self._segment
        if not segment.recovered:
            return segment.end()
        return HEADER_SIZE + end_of_frames(segment.read(HEADER_SIZE, segment.size))

    def cut(self, end: int, most: int = LINE_SIZE) -> list[Slice]:
        """The slices of the next stretch before ``end``, of about ``most`` bytes; each must be
        stored, or given up, and then ``advance`` be called. Where no record is left, none."""
        start = self._position
        found: dict[Signal, Slice] = {}
        while self._position < end and (not found or self._position - start < most):
            stop = self._stop = self._stop_before(end)
            data = self._segment.read(self._position, stop)
            pieces = self._recover(data) if self._segment.recovered else self._cut(data)
            for piece in pieces:
                found[piece.signal] = _joined(found.get(piece.signal), piece)
            if not found:
                self.advance()
                start = stop
            elif self._is_intended(stop):
                break
            self._position = stop
        self._position = start
        return [piece._replace(since=start, stop=self._stop) for piece in found.values()]

    def _is_intended(self, stop: int) -> bool:
        intent = self._segment.state().intent if self._segment.recovered else None
        return intent is not None and intent.done == stop

    def _stop_before(self, end: int) -> int:
        intent = self._segment.state().intent if self._segment.recovered else None
        if intent is not None and self._position < intent.done <= end:
            return intent.done  # the same slice again, for a storage that knows it by its id
        if end - self._position <= LINE_SIZE:
            return end
        stop = self._position + LINE_SIZE
        return self._segment.find_newline(stop - 1, end) + 1 or end

    def _cut(self, data: bytes) -> list[Slice]:
        """Of a segment of ours, whose frames are known to be whole."""
        groups: dict[Signal, dict[Envelopes, bytes]] = {}
        records: Counter[Signal] = Counter()
        for head, (texts, count) in _by_head(data).items():
            kind, number = head[:1], head[1:]
            if kind == b"d":
                self._origins.define(number, texts)
                continue
            origin = self._origins.get(number)
            assert origin is not None, head
            signal = _SIGNALS[kind]
            records[signal] += count
            of_signal = groups.setdefault(signal, {})
            # Two threads may have defined the same origin at once.
            before = of_signal.get(origin)
            of_signal[origin] = texts if before is None else b"%b,%b" % (before, texts)
        return [
            Slice(
                signal, self._position, self._stop, [join_line(signal, found)], records[signal], 0
            )
            for signal, found in groups.items()
        ]

    def _recover(self, data: bytes) -> list[Slice]:
        """Of a segment that somebody left, who may have been torn away by a loss of power."""
        frames = frames_in(data, self._position, self._origins)
        found = [
            self._recover_signal(signal, frames.of(signal, self._done(signal))) for signal in Signal
        ]
        lost = len(frames.damaged)
        slices = [slice_ for slice_ in found if slice_ is not None]
        if lost and not slices:
            slices = [Slice(Signal.TRACES, self._position, self._stop, [], 0, 0)]
        if lost:
            slices[0] = slices[0]._replace(damaged=slices[0].damaged + lost)
        return slices

    def _done(self, signal: Signal) -> int:
        return self._segment.header.done(signal)

    def _recover_signal(self, signal: Signal, frames: list[Frame]) -> Slice | None:
        if not frames:
            return None
        kept, damaged = readable(signal, frames)
        if self._twins is not None:
            kept = self._twins.without(signal, kept)
        lines = [line_of_frames(signal, kept)] if kept else []
        return Slice(signal, self._position, self._stop, lines, len(kept), len(damaged))

    def advance(self) -> None:
        """The stretch is dealt with."""
        header = self._segment.header
        for signal in Signal:
            if header.done(signal) < self._stop:
                header.set_done(signal, self._stop)
        self._position = self._stop
