"""A segment's header: what of it has been stored already, in words of eight bytes.

Each word is one aligned store, which a death of the process cannot cut in half. Order does the
rest: an intent is written before a line is, and cleared after all that follows from the line has
been noted. Whoever finds a valid intent asks the storage whether the line is whole.

===== ==================================================================
word  what
===== ==================================================================
0     magic number; written last, once the segment is complete
1     the segment's number
2     cycle: grows with each change, over all segments of a journal
3     nothing
4-6   done: frames before this position are stored, for each signal
7-9   the complements of 4-6, so that a damaged word shows
10-15 where the active file of each signal ended then: inodes, offsets
16-22 intent: signal, old done, new done, inode, offset, length, check
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
import zlib
from collections.abc import Iterable, MutableSequence, Sequence
from typing import Final, NamedTuple

import msgspec

from rimp_otel.errors import DecodeError
from rimp_otel.journal.target import End
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import Envelope, Envelopes, join_line
from rimp_otel.otlp.values import to_bytes
from rimp_otel.process import importing

__all__ = [
    "HEADER_SIZE",
    "LETTERS",
    "MAGIC",
    "SIGNALS",
    "Frame",
    "Frames",
    "Header",
    "Intent",
    "Origins",
    "State",
    "definition",
    "end_of_frames",
    "frames_in",
    "is_magic",
    "line_of_frames",
    "read_state",
    "readable",
]


# --- Frames, the text that a segment consists of, and the lines that are made of them.

LETTERS: Final = {Signal.TRACES: "t", Signal.LOGS: "l", Signal.METRICS: "m"}
_SIGNALS = {letter.encode(): signal for signal, letter in LETTERS.items()}
_DEFINITION = b"d"


def definition(number: int, origin: Envelopes) -> str:
    """The frame that says what a number stands for."""
    # Repaired as in a line: JSON with a lone surrogate could not be read.
    parts = [to_bytes(part).decode() for wrapping in origin if wrapping for part in wrapping]
    return f"d{number} {json.dumps(parts)}\n"


class Frame(NamedTuple):
    """A record's frame."""

    #: In the segment.
    position: int
    signal: Signal
    origin: Envelopes
    text: str


class Origins:
    """What the numbers of one segment stand for."""

    def __init__(self) -> None:
        self._by_number: dict[bytes, Envelopes] = {}

    def define(self, number: bytes, text: bytes) -> bool:
        """Takes in a definition; False if it is damaged."""
        try:
            parts = msgspec.json.decode(text, type=list[str])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        if len(parts) not in (4, 6):
            return False
        metric = Envelope(*parts[4:]) if parts[4:] else None
        self._by_number[number] = Envelope(*parts[:2]), Envelope(*parts[2:4]), metric
        return True

    def get(self, number: bytes) -> Envelopes | None:
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
    groups: dict[Envelopes, list[str]] = {}
    for frame in frames:
        groups.setdefault(frame.origin, []).append(frame.text)
    return join_line(
        signal, {origin: to_bytes(",".join(texts)) for origin, texts in groups.items()}
    )


def readable(signal: Signal, frames: list[Frame]) -> tuple[list[Frame], list[int]]:
    """The frames that can be decoded, and the positions of those that cannot."""
    if not frames or _is_readable(line_of_frames(signal, frames), len(frames)):
        return frames, []
    kept = [frame for frame in frames if _is_readable(line_of_frames(signal, [frame]), 1)]
    places = {frame.position for frame in kept}
    return kept, [frame.position for frame in frames if frame.position not in places]


def _is_readable(line: bytes, records: int) -> bool:
    """Whether a line can be decoded, into so many records."""
    with importing():
        from rimp_otel.otlp.decode import decode_line
        from rimp_otel.otlp.scan import count_records
    try:
        return len(decode_line(line).records) == records == count_records(line)
    except DecodeError:
        return False


# --- A segment's header: what of it has been stored already, in words of eight bytes.

HEADER_SIZE: Final = 4_096
"""Bytes; the frames begin after them."""

MAGIC: Final = int.from_bytes(b"RIMPJNL1", "little")
SIGNALS: Final = tuple(Signal)
_NUMBERS = {signal: number for number, signal in enumerate(SIGNALS)}

_NUMBER, _CYCLE, _DONE, _MIRROR, _INODE, _OFFSET, _INTENT, _VALID = (
    *(1, 2, 4, 7, 10, 13),
    *(16, 23),
)
_SYNCED: Final = 24
_ENDS_CHECK: Final = 34
_DOUBTFUL: Final = 35
_WORDS: Final = 36
_IS_VALID: Final = int.from_bytes(b"INTENDED", "little")
_ALL_ONES: Final = 2**64 - 1


class Intent(NamedTuple):
    """A line that was about to be stored."""

    signal: Signal
    #: ``done`` before it, and after it.
    since: int
    done: int
    #: Where it was to start.
    start: End
    #: In bytes, its end included; 0 where the storage is none of files.
    length: int


class State(NamedTuple):
    """What a header says."""

    number: int
    cycle: int
    #: 0 for a signal where the word and its complement disagree; see ``either``.
    done: dict[Signal, int]
    #: None of them where they are damaged, or were being changed.
    ends: dict[Signal, End]
    intent: Intent | None
    #: ``done`` and ``ends`` at the last sync; from the start on, where that is not known.
    synced_done: dict[Signal, int]
    synced_ends: dict[Signal, End]
    #: What the word says, and what its complement says.
    either: dict[Signal, tuple[int, int]]


class Header:
    """The header of a segment that is ours to write.

    Args:
        words: the segment's memory as words of eight bytes.
    """

    def __init__(self, words: MutableSequence[int]) -> None:
        self._words = words

    def start(self, number: int) -> None:
        """Writes the header of a new segment, all but its magic number."""
        self._words[_NUMBER] = number
        for signal in SIGNALS:
            self.set_done(signal, HEADER_SIZE)
        self.set_synced(dict.fromkeys(SIGNALS, HEADER_SIZE), {})
        self.set_ends({}, 0)

    def complete(self) -> None:
        """Says that the segment may be used from now on."""
        self._words[0] = MAGIC

    def done(self, signal: Signal) -> int:
        """Up to where the signal's frames are stored."""
        return self._words[_DONE + _NUMBERS[signal]]

    def end(self, signal: Signal) -> End:
        """Where the signal's file ended then."""
        number = _NUMBERS[signal]
        return End(self._words[_INODE + number], self._words[_OFFSET + number])

    def set_done(self, signal: Signal, position: int) -> None:
        """The signal's frames before this position are stored."""
        number = _NUMBERS[signal]
        self._words[_DONE + number] = position
        self._words[_MIRROR + number] = position ^ _ALL_ONES

    def set_ends(self, ends: dict[Signal, End], cycle: int) -> None:
        """Where the active files end, from this cycle on."""
        for signal, end in ends.items():
            number = _NUMBERS[signal]
            self._words[_INODE + number] = end.file_id
            self._words[_OFFSET + number] = end.offset
        self._words[_CYCLE] = cycle
        self._words[_ENDS_CHECK] = _check_of_ends(self._words)

    def intend(self, intent: Intent) -> None:
        """Notes that a line is about to be stored."""
        fields = _fields(intent)
        self._words[_VALID] = 0
        for index, field in enumerate(fields):
            self._words[_INTENT + index] = field
        self._words[_INTENT + len(fields)] = _check_of(fields)
        self._words[_VALID] = _IS_VALID

    def finish(self, signal: Signal, done: int, end: End, cycle: int) -> None:
        """Notes that it has been stored."""
        self.set_done(signal, done)
        self.set_ends({signal: end}, cycle)
        self._words[_VALID] = 0

    def set_synced(self, done: dict[Signal, int], ends: dict[Signal, End]) -> None:
        """What was stored before is on the device, and so survives a loss of power."""
        words = self._words
        for signal, position in done.items():
            words[_SYNCED + _NUMBERS[signal]] = position
        for signal, end in ends.items():
            words[_SYNCED + 3 + _NUMBERS[signal]] = end.file_id
            words[_SYNCED + 6 + _NUMBERS[signal]] = end.offset
        words[_SYNCED + 9] = _check_of(list(words[_SYNCED : _SYNCED + 9]))

    def roll_back(self) -> None:
        """What was stored after the last sync may not be there: it will be stored again."""
        state = self.state()
        self._words[_DOUBTFUL] = 1  # first: also whoever recovers after a death half way must know
        for signal, done in state.synced_done.items():
            self.set_done(signal, done)
        self.set_ends(state.synced_ends, state.cycle)

    @property
    def is_doubtful(self) -> bool:
        """Whether it was rolled back."""
        return self._words[_DOUBTFUL] != 0

    def give_up(self) -> None:
        """The line was not stored."""
        self._words[_VALID] = 0

    def state(self) -> State:
        """What it says now."""
        return _state_of(self._words)


def read_state(header: bytes) -> State | None:
    """What the header of a segment says; None where it is none, or not complete."""
    if len(header) < HEADER_SIZE:
        return None
    words = struct.unpack_from(f"={_WORDS}Q", header)
    return _state_of(words) if is_magic(words[0]) else None


def is_magic(word: int) -> bool:
    """Whether it is the magic number, or was, before one byte was damaged."""
    return any((word ^ MAGIC) & ~(0xFF << shift) == 0 for shift in range(0, 64, 8))


def _state_of(words: Sequence[int]) -> State:
    return State(
        words[_NUMBER],
        words[_CYCLE],
        {signal: _done_of(words, number) for number, signal in enumerate(SIGNALS)},
        _ends_of(words),
        _intent_of(words),
        *_synced_of(words),
        {signal: _either(words, number) for number, signal in enumerate(SIGNALS)},
    )


def _either(words: Sequence[int], number: int) -> tuple[int, int]:
    return words[_DONE + number], words[_MIRROR + number] ^ _ALL_ONES


def _ends_of(words: Sequence[int]) -> dict[Signal, End]:
    if words[_ENDS_CHECK] != _check_of_ends(words) and _intent_of(words) is None:
        return {}
    return {
        signal: End(words[_INODE + number], words[_OFFSET + number])
        for number, signal in enumerate(SIGNALS)
    }


def _check_of_ends(words: Sequence[int]) -> int:
    return _check_of([words[_CYCLE], *words[_INODE : _INODE + 6]])


def _synced_of(words: Sequence[int]) -> tuple[dict[Signal, int], dict[Signal, End]]:
    synced = list(words[_SYNCED : _SYNCED + 9])
    if words[_SYNCED + 9] != _check_of(synced):
        synced = [HEADER_SIZE] * 3 + list(words[_INODE : _INODE + 3]) + [0] * 3
    return (
        {signal: synced[number] for number, signal in enumerate(SIGNALS)},
        {signal: End(synced[3 + n], synced[6 + n]) for n, signal in enumerate(SIGNALS)},
    )


def _done_of(words: Sequence[int], number: int) -> int:
    """0 where the word and its complement disagree: a death between the two stores leaves a valid
    intent, or no frame of the signal between them; else it is damage."""
    done, mirrored = _either(words, number)
    return done if done == mirrored or _intent_of(words) is not None else 0


def _intent_of(words: Sequence[int]) -> Intent | None:
    fields = list(words[_INTENT : _INTENT + 6])
    if words[_VALID] != _IS_VALID or words[_INTENT + 6] != _check_of(fields):
        return None
    if fields[0] >= len(SIGNALS):
        return None
    signal, since, done, file_id, offset, length = fields
    return Intent(SIGNALS[signal], since, done, End(file_id, offset), length)


def _fields(intent: Intent) -> list[int]:
    return [_NUMBERS[intent.signal], intent.since, intent.done, *intent.start, intent.length]


def _check_of(fields: Sequence[int]) -> int:
    return MAGIC ^ zlib.crc32(struct.pack(f"={len(fields)}Q", *fields))
