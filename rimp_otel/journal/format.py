"""The bytes of a segment: a header of 4 KiB, then frames of text, then zeros.

A frame is the signal's tag and a number, a space, a record's OTLP JSON. The number stands for a resource,
a scope and perhaps a metric; a definition before its first use says which. A line is what was written
at once: a frame, or more of them, with an ASCII record separator (0x1E) between two.

A death in the middle of a write leaves NULs anywhere in its line, and whole frames around them: memcpy
copies in no certain order, and mostly stores the first bytes last. Since one thread writes at a time,
that is the last line. NULs in a line before it are damage.

The header says how much of the segment has been stored, in words of eight bytes. Each word is one
aligned store, which a death of the process cannot cut in half. Order does the rest: an intent is
written before a line is stored, and cleared after everything that follows from it has been written. Whoever
finds a valid intent asks the journal's target whether the line is complete.

===== ==================================================================
word  what
===== ==================================================================
0     magic number; written last, once the segment is complete
1     the segment's number
2     generation: grows with each change, over all segments of a journal
3     records that have no room on disk, and wait in memory
4-6   stored until: frames before this offset are stored, for each signal
7-9   the complements of 4-6, so that a damaged word shows
10-15 where the active file of each signal ended then: inodes, offsets
16-22 intent: signal, start, stop, inode, offset, length, check
23    valid, if the intent is
24-33 4-6 and 10-15 as they were at the last sync, and a check
34    a check of 2 and 10-15
35    not 0 once it was rolled back: records may be stored that it does not know of
511   a random number, which tells the segment from all others
===== ==================================================================
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from collections.abc import Iterable, MutableSequence, Sequence
from typing import Final, NamedTuple

import msgspec

from rimp_otel.errors import DecodeError
from rimp_otel.journal.target import End
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import EncodedRecord, Envelope, RecordEnvelopes, join_line
from rimp_otel.otlp.values import to_bytes
from rimp_otel.process import importing

__all__ = [
    "FRAME_ENDS",
    "FRAME_SEPARATOR",
    "HEADER_SIZE",
    "SEGMENT_MAGIC",
    "SIGNAL_TAGS",
    "TAGGED_SIGNALS",
    "Definitions",
    "Frame",
    "Frames",
    "FramesEnd",
    "Header",
    "HeaderState",
    "Intent",
    "encode_definition",
    "encode_frames",
    "find_frames_end",
    "is_segment_magic",
    "line_of_frames",
    "parse_frames",
    "read_header",
    "read_waiting_in_memory",
    "readable_frames",
    "split_frames",
]


# Frames.

SIGNAL_TAGS: Final = {Signal.TRACES: "t", Signal.LOGS: "l", Signal.METRICS: "m"}
"""The first character of each signal's frames."""

TAGGED_SIGNALS: Final = {tag.encode(): signal for signal, tag in SIGNAL_TAGS.items()}
"""The signals by their tags."""

FRAME_SEPARATOR: Final = "\x1e"
"""Ends each frame of a write but the last one, which ends in a line end. JSON has neither."""

_SEPARATOR: Final = FRAME_SEPARATOR.encode()

FRAME_ENDS: Final = (b"\n", _SEPARATOR)
"""The bytes that end a frame."""

_DEFINITION_TAG = b"d"


def encode_definition(number: int, envelopes: RecordEnvelopes) -> str:
    """Return the frame that says what a number stands for, to be followed by one that uses it."""
    # Repaired as in a line: JSON with a lone surrogate could not be read.
    parts = [to_bytes(part).decode() for envelope in envelopes if envelope for part in envelope]
    return f"d{number} {json.dumps(parts)}{FRAME_SEPARATOR}"


def encode_frames(records: Iterable[tuple[Signal, EncodedRecord]]) -> bytes:
    """Return the frames of records, each definition before its first use."""
    numbers: dict[RecordEnvelopes, int] = {}
    texts = []
    for signal, record in records:
        envelopes = (record.resource, record.scope, record.metric)
        number = numbers.get(envelopes)
        if number is None:
            number = numbers[envelopes] = len(numbers) + 1
            texts.append(encode_definition(number, envelopes))
        texts.append(f"{SIGNAL_TAGS[signal]}{number} {record.text}\n")
    return to_bytes("".join(texts))


class Frame(NamedTuple):
    """A record's frame."""

    #: Where it begins in the segment.
    offset: int
    signal: Signal
    envelopes: RecordEnvelopes
    text: str


class Definitions:
    """The meanings of the numbers in one segment."""

    def __init__(self) -> None:
        self._by_number: dict[bytes, RecordEnvelopes] = {}

    def add(self, number: bytes, text: bytes) -> bool:
        """Add a definition; return False if it is damaged."""
        try:
            parts = msgspec.json.decode(text, type=list[str])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        if len(parts) not in (4, 6):
            return False
        metric = Envelope(*parts[4:]) if parts[4:] else None
        self._by_number[number] = Envelope(*parts[:2]), Envelope(*parts[2:4]), metric
        return True

    def get(self, number: bytes) -> RecordEnvelopes | None:
        """Return what a number stands for; None if that is not defined."""
        return self._by_number.get(number)


class Frames(NamedTuple):
    """The frames of a chunk of a segment."""

    records: list[Frame]
    #: Offsets of what could not be read.
    damaged: list[int]

    def of_signal(self, signal: Signal, since: int) -> list[Frame]:
        """Return the records of one signal from an offset on."""
        return [frame for frame in self.records if frame.signal is signal and frame.offset >= since]


class FramesEnd(NamedTuple):
    """Where the frames end in what a process has left of a segment."""

    #: After the last frame that has an end.
    stop: int
    #: Where the write begins that a death broke off: what is no frame from here on is not damaged, but was
    #: never written. ``stop`` if there is none.
    torn: int


def parse_frames(
    data: bytes, offset: int, definitions: Definitions, torn: int = sys.maxsize
) -> Frames:
    """Return the frames of a chunk that begins at a frame's start.

    Tolerates anything: what is no frame is damaged, and ends at the next frame's start.

    Args:
        data: the chunk.
        offset: where it begins in its segment.
        definitions: those of the frames before it; those in it are added.
        torn: what is no frame is not damaged from this offset in the segment on; see ``FramesEnd``.
    """
    frames = Frames([], [])
    for raw in split_frames(data):
        if raw and not _parse_frame(raw, offset, definitions, frames) and offset < torn:
            frames.damaged.append(offset)
        offset += len(raw) + 1
    return frames


def split_frames(data: bytes) -> list[bytes]:
    """Return the frames of a chunk without their ends, and what follows the last end."""
    return data.replace(_SEPARATOR, b"\n").split(b"\n")


def find_frames_end(data: bytes, offset: int = 0) -> FramesEnd:
    """Return where the frames end in what a process that is gone has left of a segment.

    That is not the first NUL: after a loss of power, pages may be missing in the middle. The last
    line was being written when the process died if it has no line end, or a NUL within.

    Args:
        data: all of the frames.
        offset: where they begin in the segment.
    """
    line_end = data.rfind(b"\n") + 1
    separated = data.rfind(_SEPARATOR, line_end) + 1
    if separated:
        return FramesEnd(offset + separated, offset + line_end)
    last = data.rfind(b"\n", 0, max(line_end - 1, 0)) + 1
    is_torn = data.find(b"\0", last, line_end) >= 0
    return FramesEnd(offset + line_end, offset + (last if is_torn else line_end))


def _parse_frame(raw: bytes, offset: int, definitions: Definitions, frames: Frames) -> bool:
    """Add a frame, or learn a definition; return False if it is neither."""
    head, _, text = raw.partition(b" ")
    tag, number = head[:1], head[1:]
    signal, envelopes = TAGGED_SIGNALS.get(tag), definitions.get(number)
    if signal is not None and envelopes is not None and b"\0" not in text:
        try:
            frames.records.append(Frame(offset, signal, envelopes, text.decode()))
            return True
        except UnicodeDecodeError:
            pass
    return tag == _DEFINITION_TAG and definitions.add(number, text)


def line_of_frames(signal: Signal, frames: Iterable[Frame]) -> bytes:
    """Return one OTLP JSON line with the records of one signal."""
    groups: dict[RecordEnvelopes, list[str]] = {}
    for frame in frames:
        groups.setdefault(frame.envelopes, []).append(frame.text)
    return join_line(
        signal, {envelopes: to_bytes(",".join(texts)) for envelopes, texts in groups.items()}
    )


def readable_frames(signal: Signal, frames: list[Frame]) -> tuple[list[Frame], list[int]]:
    """Return the frames that can be decoded, and the offsets of those that cannot."""
    if not frames or _is_readable(line_of_frames(signal, frames), len(frames)):
        return frames, []
    kept = [frame for frame in frames if _is_readable(line_of_frames(signal, [frame]), 1)]
    offsets = {frame.offset for frame in kept}
    return kept, [frame.offset for frame in frames if frame.offset not in offsets]


def _is_readable(line: bytes, records: int) -> bool:
    """Return True if a line can be decoded into so many records."""
    with importing():
        from rimp_otel.otlp.decode import decode_line
        from rimp_otel.otlp.scan import count_records
    try:
        return len(decode_line(line).records) == records == count_records(line)
    except DecodeError:
        return False


# The header.

HEADER_SIZE: Final = 4_096
"""Bytes; the frames begin after them."""

SEGMENT_MAGIC: Final = int.from_bytes(b"RIMPJNL1", "little")

_SIGNALS: Final = tuple(Signal)
_SIGNAL_NUMBERS = {signal: number for number, signal in enumerate(_SIGNALS)}

# The words, as above.
_NUMBER, _GENERATION, _IN_MEMORY, _STORED, _COMPLEMENT, _INODE, _OFFSET = 1, 2, 3, 4, 7, 10, 13
_INTENT, _VALID, _SYNCED, _ENDS_CHECK, _DOUBTFUL = 16, 23, 24, 34, 35
_WORDS: Final = 36
_IS_VALID: Final = int.from_bytes(b"INTENDED", "little")
_ALL_ONES: Final = 2**64 - 1


class Intent(NamedTuple):
    """A chunk of a segment that is about to be stored, for one signal."""

    signal: Signal
    #: The chunk: the signal is stored until here before it is stored, and until ``stop`` after it.
    start: int
    stop: int
    #: Where the write to the file is to start.
    file_end: End
    #: Bytes of the write, line ends included; 0 if the target has no files.
    length: int


class HeaderState(NamedTuple):
    """The content of a header."""

    number: int
    generation: int
    #: 0 for a signal where the word and its complement disagree; see ``candidates``.
    stored_until: dict[Signal, int]
    #: Empty where they are damaged, or were being changed.
    file_ends: dict[Signal, End]
    intent: Intent | None
    #: ``stored_until`` and ``file_ends`` at the last sync; from the start on, if not known.
    synced_until: dict[Signal, int]
    synced_ends: dict[Signal, End]
    #: What the word says, and what its complement says.
    candidates: dict[Signal, tuple[int, int]]


class Header:
    """The header of a segment that is ours to write.

    Args:
        words: the segment's memory as words of eight bytes.
    """

    def __init__(self, words: MutableSequence[int]) -> None:
        self._words = words

    def initialize(self, number: int) -> None:
        """Write the header of a new segment, all but its magic number."""
        self._words[_NUMBER] = number
        for signal in _SIGNALS:
            self.set_stored_until(signal, HEADER_SIZE)
        self.set_synced(dict.fromkeys(_SIGNALS, HEADER_SIZE), {})
        self.set_file_ends({}, 0)

    def complete(self) -> None:
        """Note that the segment may be used from now on."""
        self._words[0] = SEGMENT_MAGIC

    def stored_until(self, signal: Signal) -> int:
        """Return the offset before which the signal's frames are stored."""
        return self._words[_STORED + _SIGNAL_NUMBERS[signal]]

    def file_end(self, signal: Signal) -> End:
        """Return where the signal's file ended when it was last written."""
        number = _SIGNAL_NUMBERS[signal]
        return End(self._words[_INODE + number], self._words[_OFFSET + number])

    def set_stored_until(self, signal: Signal, offset: int) -> None:
        """Note that the signal's frames before an offset are stored."""
        number = _SIGNAL_NUMBERS[signal]
        self._words[_STORED + number] = offset
        self._words[_COMPLEMENT + number] = offset ^ _ALL_ONES

    def set_file_ends(self, ends: dict[Signal, End], generation: int) -> None:
        """Note where active files end, from this generation on."""
        for signal, end in ends.items():
            number = _SIGNAL_NUMBERS[signal]
            self._words[_INODE + number] = end.file_id
            self._words[_OFFSET + number] = end.offset
        self._words[_GENERATION] = generation
        self._words[_ENDS_CHECK] = _checksum_of_ends(self._words)

    def intend(self, intent: Intent) -> None:
        """Note that a chunk is about to be stored."""
        fields = _intent_words(intent)
        self._words[_VALID] = 0
        for index, field in enumerate(fields):
            self._words[_INTENT + index] = field
        self._words[_INTENT + len(fields)] = _checksum(fields)
        self._words[_VALID] = _IS_VALID

    def finish(self, signal: Signal, stored_until: int, end: End, generation: int) -> None:
        """Note that the chunk has been stored."""
        self.set_stored_until(signal, stored_until)
        self.set_file_ends({signal: end}, generation)
        self._words[_VALID] = 0

    def clear_intent(self) -> None:
        """Note that the chunk was not stored."""
        self._words[_VALID] = 0

    def set_synced(self, stored_until: dict[Signal, int], ends: dict[Signal, End]) -> None:
        """Note that what was stored before is on the device, and so survives a loss of power."""
        words = self._words
        for signal, offset in stored_until.items():
            words[_SYNCED + _SIGNAL_NUMBERS[signal]] = offset
        for signal, end in ends.items():
            words[_SYNCED + 3 + _SIGNAL_NUMBERS[signal]] = end.file_id
            words[_SYNCED + 6 + _SIGNAL_NUMBERS[signal]] = end.offset
        words[_SYNCED + 9] = _checksum(list(words[_SYNCED : _SYNCED + 9]))

    def roll_back(self) -> None:
        """Go back to the last sync: what was stored after it may be lost, and is stored again."""
        state = self.state()
        self._words[_DOUBTFUL] = 1  # first: also whoever recovers after a death half way must know
        for signal, offset in state.synced_until.items():
            self.set_stored_until(signal, offset)
        self.set_file_ends(state.synced_ends, state.generation)

    @property
    def is_doubtful(self) -> bool:
        """True if the header was rolled back."""
        return self._words[_DOUBTFUL] != 0

    @property
    def waiting_in_memory(self) -> int:
        """The number of records that wait in the memory of the segment's owner."""
        return self._words[_IN_MEMORY]

    @waiting_in_memory.setter
    def waiting_in_memory(self, records: int) -> None:
        self._words[_IN_MEMORY] = records

    def state(self) -> HeaderState:
        """Return what the header says now."""
        return _state_of(self._words)


def read_header(header: bytes) -> HeaderState | None:
    """Return what the first bytes of a segment say; None if they are no complete header."""
    if len(header) < HEADER_SIZE:
        return None
    words = struct.unpack_from(f"={_WORDS}Q", header)
    return _state_of(words) if is_segment_magic(words[0]) else None


def read_waiting_in_memory(header: bytes) -> int:
    """Return how many records the first bytes of a segment say to wait in memory; 0 if they are no
    complete header."""
    if read_header(header) is None:
        return 0
    number: int = struct.unpack_from("=Q", header, 8 * _IN_MEMORY)[0]
    return number


def is_segment_magic(word: int) -> bool:
    """Return True if it is the magic number, or was, before one byte was damaged."""
    return any((word ^ SEGMENT_MAGIC) & ~(0xFF << shift) == 0 for shift in range(0, 64, 8))


def _state_of(words: Sequence[int]) -> HeaderState:
    return HeaderState(
        words[_NUMBER],
        words[_GENERATION],
        {signal: _read_stored_until(words, number) for number, signal in enumerate(_SIGNALS)},
        _file_ends(words),
        _intent_of(words),
        *_synced_state(words),
        {signal: _candidates(words, number) for number, signal in enumerate(_SIGNALS)},
    )


def _candidates(words: Sequence[int], number: int) -> tuple[int, int]:
    return words[_STORED + number], words[_COMPLEMENT + number] ^ _ALL_ONES


def _file_ends(words: Sequence[int]) -> dict[Signal, End]:
    if words[_ENDS_CHECK] != _checksum_of_ends(words) and _intent_of(words) is None:
        return {}
    return {
        signal: End(words[_INODE + number], words[_OFFSET + number])
        for number, signal in enumerate(_SIGNALS)
    }


def _checksum_of_ends(words: Sequence[int]) -> int:
    return _checksum([words[_GENERATION], *words[_INODE : _INODE + 6]])


def _synced_state(words: Sequence[int]) -> tuple[dict[Signal, int], dict[Signal, End]]:
    synced = list(words[_SYNCED : _SYNCED + 9])
    if words[_SYNCED + 9] != _checksum(synced):
        synced = [HEADER_SIZE] * 3 + list(words[_INODE : _INODE + 3]) + [0] * 3
    return (
        {signal: synced[number] for number, signal in enumerate(_SIGNALS)},
        {signal: End(synced[3 + n], synced[6 + n]) for n, signal in enumerate(_SIGNALS)},
    )


def _read_stored_until(words: Sequence[int], number: int) -> int:
    """Return 0 if the word and its complement disagree by damage.

    A death between the two stores leaves a valid intent, or no frame of the signal between them.
    """
    stored, mirrored = _candidates(words, number)
    return stored if stored == mirrored or _intent_of(words) is not None else 0


def _intent_of(words: Sequence[int]) -> Intent | None:
    fields = list(words[_INTENT : _INTENT + 6])
    if words[_VALID] != _IS_VALID or words[_INTENT + 6] != _checksum(fields):
        return None
    if fields[0] >= len(_SIGNALS):
        return None
    signal, start, stop, file_id, offset, length = fields
    return Intent(_SIGNALS[signal], start, stop, End(file_id, offset), length)


def _intent_words(intent: Intent) -> list[int]:
    number = _SIGNAL_NUMBERS[intent.signal]
    return [number, intent.start, intent.stop, *intent.file_end, intent.length]


def _checksum(fields: Sequence[int]) -> int:
    return SEGMENT_MAGIC ^ zlib.crc32(struct.pack(f"={len(fields)}Q", *fields))
