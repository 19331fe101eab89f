"""Slices: what is stored at once, lines of one signal made of a chunk of a segment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from rimp_otel.batch import decode_batch
from rimp_otel.errors import DecodeError
from rimp_otel.journal.format import (
    FRAME_ENDS,
    HEADER_SIZE,
    TAGGED_SIGNALS,
    Definitions,
    Frame,
    find_frames_end,
    line_of_frames,
    parse_frames,
    readable_frames,
    split_frames,
)
from rimp_otel.journal.segment import Segment
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import LINE_SIZE, RecordEnvelopes, join_line

__all__ = ["Slice", "Slicer", "StoredRecords"]


class Slice(NamedTuple):
    """A chunk of a segment's frames, of one signal."""

    signal: Signal
    #: The chunk, as offsets in the segment.
    start: int
    stop: int
    #: OTLP JSON lines; none where there is no record left to store.
    lines: list[bytes]
    #: Records in the lines.
    records: int
    #: Records in the chunk that could not be read.
    damaged: int


def _join_slices(first: Slice | None, second: Slice) -> Slice:
    if first is None:
        return second
    return second._replace(
        lines=first.lines + second.lines,
        records=first.records + second.records,
        damaged=first.damaged + second.damaged,
    )


_TextsByHead = dict[bytes, tuple[bytes, int]]
"""Of each head the records' texts, joined by commas, and how many they are."""


def _group_by_head(data: bytes) -> _TextsByHead:
    frames = split_frames(data)
    frames.pop()  # after the last frame's end
    size = data.find(b" ") + 1
    head = data[:size]
    # Most chunks are of one head: that takes half of the time.
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


class StoredRecords:
    """Records that are stored already, although no header says so.

    After a loss of power, the files may have reached the device, and the headers not.

    Args:
        lines: of each signal, where they may be.
    """

    def __init__(self, lines: Mapping[Signal, Iterable[bytes]]) -> None:
        # Not the texts: there may be many.
        self._hashes = {
            signal: Counter(hash(text) for line in found for text in _texts_in(signal, line))
            for signal, found in lines.items()
        }

    def remove_from(self, signal: Signal, frames: list[Frame]) -> list[Frame]:
        """Return the frames that are not stored yet. Each stored record counts once."""
        hashes = self._hashes.get(signal)
        return [frame for frame in frames if not _count_down(hashes, frame)] if hashes else frames


def _count_down(hashes: Counter[int], frame: Frame) -> bool:
    """Return True if the frame's record is one of those counted, and count it no more."""
    (text,) = _texts_in(frame.signal, line_of_frames(frame.signal, [frame])) or ("",)
    key = hash(text)
    if not hashes[key]:
        return False
    hashes[key] -= 1
    return True


def _texts_in(signal: Signal, line: bytes) -> list[str]:
    """Return the records' texts as they are after decoding; none of a damaged line."""
    try:
        data = decode_batch(line.strip())
    except DecodeError:
        return []
    return [record.text for record in data.encoded_records(signal)]


class Slicer:
    """Cuts one segment into slices.

    Args:
        segment: nobody else may drain it.
        stored: of a segment that was recovered: what is stored already.
    """

    def __init__(self, segment: Segment, stored: StoredRecords | None = None) -> None:
        self._segment = segment
        self._stored = stored
        self._definitions = Definitions()
        # The next chunk; its end, once ``cut`` has found it.
        self._start = HEADER_SIZE
        self._stop = HEADER_SIZE
        # Where the write begins that the death of the segment's owner broke off.
        self._torn = segment.size
        if segment.is_recovered:
            self._skip_stored()

    def _skip_stored(self) -> None:
        """Go to the first frame that is not stored, and learn the definitions before it."""
        first = min(self._segment.header.stored_until(signal) for signal in Signal)
        if not HEADER_SIZE < first <= self._segment.size:
            return
        before = self._segment.read(HEADER_SIZE, first)
        if before.endswith(FRAME_ENDS):
            parse_frames(before, HEADER_SIZE, self._definitions)
            self._start = first

    def end(self) -> int:
        """Return where the frames end that can be drained now."""
        segment = self._segment
        if not segment.is_recovered:
            return segment.frames_end()
        end, self._torn = find_frames_end(segment.read(HEADER_SIZE, segment.size), HEADER_SIZE)
        return end

    def cut(self, end: int, most: int = LINE_SIZE) -> list[Slice]:
        """Return the slices of the next chunk, one for each signal in it.

        Each must be stored, or given up, before ``advance`` is called. The list is empty where no
        record is left.

        Args:
            end: where the chunk ends at the latest.
            most: its bytes, about.
        """
        start = self._start
        found: dict[Signal, Slice] = {}
        while self._start < end and (not found or self._start - start < most):
            stop = self._stop = self._stop_before(end)
            data = self._segment.read(self._start, stop)
            pieces = self._recover(data) if self._segment.is_recovered else self._cut_own(data)
            for piece in pieces:
                found[piece.signal] = _join_slices(found.get(piece.signal), piece)
            if not found:
                self.advance()
                start = stop
            elif self._is_intended(stop):
                break
            self._start = stop
        self._start = start
        return [piece._replace(start=start, stop=self._stop) for piece in found.values()]

    def _is_intended(self, stop: int) -> bool:
        intent = self._segment.state().intent if self._segment.is_recovered else None
        return intent is not None and intent.stop == stop

    def _stop_before(self, end: int) -> int:
        intent = self._segment.state().intent if self._segment.is_recovered else None
        if intent is not None and self._start < intent.stop <= end:
            return intent.stop  # the same slice again, for a storage that knows it by its id
        if end - self._start <= LINE_SIZE:
            return end
        stop = self._start + LINE_SIZE
        return self._segment.next_frame_start(stop - 1, end)

    def _cut_own(self, data: bytes) -> list[Slice]:
        """Cut a chunk of a segment of ours, whose frames are known to be whole."""
        groups: dict[Signal, dict[RecordEnvelopes, bytes]] = {}
        records: Counter[Signal] = Counter()
        for head, (texts, count) in _group_by_head(data).items():
            tag, number = head[:1], head[1:]
            if tag == b"d":
                self._definitions.add(number, texts)
                continue
            envelopes = self._definitions.get(number)
            assert envelopes is not None, head
            signal = TAGGED_SIGNALS[tag]
            records[signal] += count
            of_signal = groups.setdefault(signal, {})
            # Two threads may have defined the same envelopes at once.
            before = of_signal.get(envelopes)
            of_signal[envelopes] = texts if before is None else b"%b,%b" % (before, texts)
        return [
            Slice(signal, self._start, self._stop, [join_line(signal, found)], records[signal], 0)
            for signal, found in groups.items()
        ]

    def _recover(self, data: bytes) -> list[Slice]:
        """Cut a chunk of a segment that another process left, perhaps torn by a loss of power."""
        frames = parse_frames(data, self._start, self._definitions, self._torn)
        found = [
            self._recover_signal(signal, frames.of_signal(signal, self._stored_until(signal)))
            for signal in Signal
        ]
        lost = len(frames.damaged)
        slices = [slice_ for slice_ in found if slice_ is not None]
        if lost and not slices:
            slices = [Slice(Signal.TRACES, self._start, self._stop, [], 0, 0)]
        if lost:
            slices[0] = slices[0]._replace(damaged=slices[0].damaged + lost)
        return slices

    def _stored_until(self, signal: Signal) -> int:
        return self._segment.header.stored_until(signal)

    def _recover_signal(self, signal: Signal, frames: list[Frame]) -> Slice | None:
        if not frames:
            return None
        kept, damaged = readable_frames(signal, frames)
        if self._stored is not None:
            kept = self._stored.remove_from(signal, kept)
        lines = [line_of_frames(signal, kept)] if kept else []
        return Slice(signal, self._start, self._stop, lines, len(kept), len(damaged))

    def advance(self) -> None:
        """Note that the chunk is dealt with, and go to the next one."""
        header = self._segment.header
        for signal in Signal:
            if header.stored_until(signal) < self._stop:
                header.set_stored_until(signal, self._stop)
        self._start = self._stop
