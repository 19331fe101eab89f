"""Open spans: what has started and not ended yet, so that it comes back if the process dies.

A table in a file that is mapped into memory. Each span that is open has a place of its own there,
a slot: a word that says whether it is taken, a word with length and checksum, and the span's ids,
start, name and start attributes as MessagePack. Attributes are there too because they are cheap:
encoding a span with 8 of them takes 0.4 µs, of which they are 0.13 (as OTLP JSON: 1.6). The
whole, start and end, adds a fifth (2 µs) to what a span with 8 attributes costs with no processor;
``python -m tests.benchmarks.open_spans`` measures it.

What an attribute, a name or an event became after the start is not noted.

===== ========================================================================
bytes what
===== ========================================================================
0     header, words of eight bytes: magic number (written last), last sign of
      life (nanoseconds since the epoch), its complement, process id, number
4 Ki  definitions, what the numbers of resource and scope stand for: lines of
      number, checksum, and their texts as a JSON array; then zeros
256 Ki slots of 1 KiB, up to the end of the file
===== ========================================================================
"""

from __future__ import annotations

import os
import time
from collections import deque
from itertools import count
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import msgspec
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

from rimp_otel.convert.resources import attributes_from_sdk
from rimp_otel.journal.segment import Mapping
from rimp_otel.otlp.lines import Envelope, Envelopes, resource_envelope, scope_envelope
from rimp_otel.otlp.values import read_back_value, text_json, to_bytes, to_fixed64, trace_id_json
from rimp_otel.process import BoundedCache, Counter

__all__ = [
    "ENDING",
    "FREE",
    "HEADER_SIZE",
    "MAGIC",
    "OPEN",
    "SLOTS_START",
    "SLOT_SIZE",
    "WORDS_SIZE",
    "NotedSpan",
    "OpenSpans",
    "open_spans_name",
]

MAGIC: Final = int.from_bytes(b"RIMPOPN1", "little")
OPEN: Final = int.from_bytes(b"SPANOPEN", "little")
ENDING: Final = int.from_bytes(b"SPANENDS", "little")
FREE: Final = 0

HEADER_SIZE: Final = 4_096
SLOTS_START: Final = 256 * 1024
SLOT_SIZE: Final = 1_024
WORDS_SIZE: Final = 16
"""Bytes of a slot's two words; what is left is for its span."""

_ROOM = SLOT_SIZE - WORDS_SIZE
_SLOT_WORDS = SLOT_SIZE // 8
_MOST_SPANS = 4_096
_MOST_ORIGINS = 1_024
_SMALL = 64
_NAME_ROOM = 600
_ALIVE, _NOT_ALIVE, _PID, _NUMBER = 1, 2, 3, 4
_ALL_ONES = 2**64 - 1
_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x300
_SIZED = frozenset({str, bytes, tuple, list, dict})
# What reading an odd span or a closed table raises. Not all exceptions: a signal handler can raise
# its own here, such as a timeout, and that is the application's.
_ODD = (AttributeError, TypeError, ValueError, ArithmeticError, LookupError, RuntimeError)
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL
_FLAGS |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_ZEROS = bytes(256 * 1024)

_encode = msgspec.msgpack.Encoder().encode


class NotedSpan(msgspec.Struct, array_like=True, frozen=True):
    """What a slot says of its span, in the order in which it says it."""

    #: 16 bytes, the first being the highest.
    trace_id: bytes
    span_id: int
    #: 0 for a root.
    parent_span_id: int
    #: OTLP's: the W3C trace flags, and whether the parent is remote.
    flags: int
    #: OTLP's, which counts from 1.
    kind: int
    start_time_unix_nano: int
    #: The number of its definition; 0 where it has none.
    origin: int
    #: W3C's header; empty for none.
    trace_state: str
    #: Whether the name is longer than this.
    is_cut: bool
    name: str
    #: Of the attributes that it had: lost by the SDK, or too many for the slot.
    dropped_attributes_count: int
    attributes: dict[Any, Any]


_Fields = tuple[bytes, int, int, int, int, int, int, str, bool, str, int, dict[Any, Any]]


def open_spans_name(number: int) -> str:
    """The name of a table's file."""
    return f"{number:06d}.open"


class OpenSpans:
    """The table of the spans that are open in this process.

    ``opened``, ``ending`` and ``ended`` take no lock, and raise nothing of their own. They may be
    called from any thread, signal handler or finaliser, but only by the process that made the
    table: after a fork the child calls ``abandon``. (It is not looked at here, since the journal
    has just looked.)

    Args:
        path: of the file.
        head: the mapping of its header and definitions.
        memory: the mapping of its slots.
    """

    # Why no interruption spoils it: each step is one call into C, which neither another thread nor
    # a signal handler nor a finaliser interrupts, and they follow each other so that
    #
    # - a slot is written by one owner at a time. It is the caller's alone from ``_free.pop`` to
    #   ``_places.setdefault``, and again from ``_places.pop`` to ``_free.append``; each of the four
    #   gives a place to one caller only, whoever else is half way.
    # - what a slot's state says is true. Content comes before OPEN; FREE before the slot can be
    #   taken again. A death in between leaves a free slot, or an open span.
    # - OPEN is written before the place is known: whoever ends the span finds the place later, so
    #   that OPEN never comes after FREE. A processor that stands before ours can hand a span
    #   to a thread that ends it before it is noted; ``opened`` looks for that last of all.
    # - of two spans with the same ids the second is not noted, and the end of either is taken for
    #   that of the first. ``ending`` may then mark a slot that has just got another owner. That
    #   does no harm: of a span that is ending it is looked up whether it has ended.
    #
    # An exception that a signal handler raises between two steps (a timeout, KeyboardInterrupt)
    # goes to the application, as it should, and may cost one slot until the process ends.

    def __init__(self, path: Path, head: Mapping, memory: Mapping) -> None:
        self.path = path
        #: Bytes on disk.
        self.size = len(head) + len(memory)
        self._pid = os.getpid()
        self._head, self._memory = head, memory
        self._header = memoryview(head)[:HEADER_SIZE].cast("Q")
        self._words = memoryview(memory).cast("Q")
        # The first words of slots: of those that are free (the last one freed is taken first, its
        # memory is in the processor's cache), and by the ids of the span that has it.
        self._free = deque(range(len(self._words) - _SLOT_WORDS, -1, -_SLOT_WORDS))
        self._places: dict[tuple[int, int], int] = {}
        self._untracked = Counter()
        self._numbers = count(1)
        self._origins: dict[Envelopes, int] = {}
        # By the scope's identity; it is held, so that no other object gets that.
        self._by_scope: BoundedCache[int, tuple[Any, Any, int]] = BoundedCache(256)

    @classmethod
    def create(cls, directory: Path, number: int, most: int = _MOST_SPANS) -> OpenSpans:
        """Makes an empty table.

        Args:
            directory: of the journal.
            number: of the file.
            most: spans that can be open at the same time; others are not noted.

        Raises:
            OSError: it could not be made, such as on a full disk. It never is a hole in a file,
                a write into which would kill the process.
        """
        path = directory / open_spans_name(number)
        file = os.open(path, _FLAGS, 0o600)
        try:
            _fill(file, SLOTS_START + most * SLOT_SIZE)
            head = Mapping.of(file, SLOTS_START)
            memory = Mapping.of(file, most * SLOT_SIZE, offset=SLOTS_START)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(file)
        table = cls(path, head, memory)
        table._start(number)
        return table

    def _start(self, number: int) -> None:
        self._head.seek(HEADER_SIZE)
        self._header[_PID], self._header[_NUMBER] = self._pid, number
        self.alive(time.time_ns())
        self._header[0] = MAGIC

    @property
    def untracked(self) -> int:
        """Spans that were not noted: too many were open, or others had the same ids."""
        return self._untracked.value

    @property
    def tracked(self) -> int:
        """Spans that are open now, as far as they were noted."""
        return len(self._places)

    @property
    def is_ending(self) -> bool:
        """Whether the end of a span is being recorded right now."""
        try:
            # A copy, made in one step: a finaliser that ends a span would disturb an iteration.
            places = self._places.copy().values()
            return any(self._words[place] == ENDING for place in places)
        except ValueError:  # closed
            return False

    def opened(self, span: Any) -> None:
        """Notes an SDK span that has started. It is on record from when this returns."""
        try:
            key = _key(span)
            content = self._quick_content(span) or self._content(span)
            place = self._free.pop()
        except _ODD:  # a table that is full or closed; a span that cannot be read at all
            self._untracked.add_one()
            return
        start, size = place * 8 + WORDS_SIZE, len(content)
        try:
            self._memory[start : start + size] = content
            self._words[place + 1] = crc32(content) << 32 | size
            self._words[place] = OPEN
        except ValueError:  # closed meanwhile
            return
        if self._places.setdefault(key, place) != place:
            self._untracked.add_one()
            self._set_free(place)
        elif getattr(span, "_end_time", None) is not None:
            self.ended(span)

    def ending(self, span: Any) -> tuple[int, int] | None:
        """Says that the span's end is about to be recorded.

        Returns:
            What to ``free`` once it is; None for a span that was not noted.
        """
        try:
            key = _key(span)
            place = self._places.get(key)
            if place is None:
                return None
            self._words[place] = ENDING
        except _ODD:  # closed, or no ids
            return None
        return key

    def free(self, key: tuple[int, int]) -> None:
        """Says that the end of a span has been recorded."""
        place = self._places.pop(key, None)
        if place is not None:
            self._set_free(place)

    def ended(self, span: Any) -> None:
        """The same for a span. Does nothing for one that was not noted."""
        try:
            key = _key(span)
        except _ODD:
            return
        self.free(key)

    def _set_free(self, place: int) -> None:
        try:
            self._words[place] = FREE
        except ValueError:  # closed
            return
        self._free.append(place)

    def alive(self, time_unix_nano: int) -> None:
        """Notes that the process lives: an interrupted span ends then."""
        try:
            self._header[_ALIVE] = time_unix_nano
            self._header[_NOT_ALIVE] = time_unix_nano ^ _ALL_ONES
        except ValueError:  # closed
            pass

    def close(self, delete: bool = True) -> None:
        """Lets go of the file; spans that start later are counted as untracked.

        Args:
            delete: also remove it. A process that did not make it never does.
        """
        self._free.clear()
        self._places.clear()
        self._header.release()
        self._words.release()
        for memory in (self._head, self._memory):
            try:
                memory.close()
            except BufferError:  # another thread is writing; gone with the last reference
                pass
        if delete and self._pid == os.getpid():
            self.path.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Lets go of it in a forked child, whose parent goes on with it."""
        self.close(delete=False)

    def _quick_content(self, span: Any) -> bytes | None:
        """Of a span as nearly all are: of a scope that is known, and small; None of another."""
        try:
            context, parent, attributes = span._context, span._parent, span._attributes
            known = self._by_scope.entries[id(span._instrumentation_scope)]
            name, start = span._name, span._start_time
            is_usual = known[1] is span._resource and context[4] is DEFAULT_TRACE_STATE
            if not is_usual or type(name) is not str or type(start) is not int:
                return None
            # In one tuple, in one call: this is what recording open spans costs.
            content = _encode(
                (
                    context[0].to_bytes(16, "big"),
                    context[1],
                    0 if parent is None else parent[1],
                    context[3] & 0xFF
                    | (_HAS_IS_REMOTE if parent is None or not parent[2] else _IS_REMOTE),
                    span._kind._value_ + 1 | 0,  # raises for what is no int
                    start,
                    known[2],
                    "",
                    False,
                    name,
                    attributes.dropped,
                    attributes._dict,
                )
            )
            return content if len(content) <= _ROOM else None
        except _ODD:
            return None

    def _content(self, span: Any) -> bytes:
        try:
            fields = _fields_fast(
                span, self._origin_number(span._resource, span._instrumentation_scope)
            )
            content = _encode(fields)
        except _ODD:
            fields = self._fields_anyhow(span)
            content = _encode(fields)
        return content if len(content) <= _ROOM else _cut(fields)

    def _fields_anyhow(self, span: Any) -> _Fields:
        try:
            number = self._origin_number(span.resource, span.instrumentation_scope)
            return _fields_safely(span, number)
        except Exception as error:  # whatever an object of the application's raises
            raise ValueError("the span cannot be read") from error

    def _origin_number(self, resource: Any, scope: Any) -> int:
        entry = self._by_scope.get(id(scope))
        if entry is not None and entry[1] is resource:
            return entry[2]
        number = self._number_of_new(resource, scope)
        self._by_scope[id(scope)] = (scope, resource, number)
        return number

    def _number_of_new(self, resource: Any, scope: Any) -> int:
        origin = (_clean(resource_envelope(resource)), _clean(scope_envelope(scope)), None)
        number = self._origins.get(origin)
        if number is not None:
            return number
        if len(self._origins) >= _MOST_ORIGINS:
            return 0
        number = next(self._numbers)
        try:
            self._head.write(_definition(number, origin))
        except ValueError:  # no room left
            number = 0
        # Only now: another thread may use the number at once. It may also have defined the same
        # origin meanwhile; then it has two numbers, each of them good.
        return self._origins.setdefault(origin, number)


def _key(span: Any) -> tuple[int, int]:
    try:
        context = span._context
    except AttributeError:
        context = span.context
    return context[0], context[1]


def _fields_fast(span: Any, origin: int) -> _Fields:
    """From the SDK's private fields. Raises one of _ODD for what is not as it is nearly always."""
    context, parent, attributes = span._context, span._parent, span._attributes
    state, name, start = context[4], span._name, span._start_time
    if type(name) is not str or type(start) is not int:
        raise TypeError("an odd name or start")
    return (
        context[0].to_bytes(16, "big"),
        context[1],
        0 if parent is None else parent[1],
        context[3] & 0xFF | (_IS_REMOTE if parent is not None and parent[2] else _HAS_IS_REMOTE),
        span._kind._value_ + 1 | 0,  # raises for what is no int
        start,
        origin,
        "" if state is DEFAULT_TRACE_STATE or not state else state.to_header(),
        False,
        name,
        attributes.dropped,
        attributes._dict,
    )


def _fields_safely(span: Any, origin: int) -> _Fields:
    """From what every SDK has, repaired as ``otlp.values`` says."""
    context, parent, attributes = span.context, span.parent, span.attributes
    state = context.trace_state
    name = msgspec.json.decode(to_bytes(text_json(span.name)), type=str)
    return (
        bytes.fromhex(trace_id_json(context.trace_id)),
        to_fixed64(context.span_id),
        0 if parent is None else to_fixed64(parent.span_id),
        context.trace_flags & 0xFF
        | (_IS_REMOTE if parent is not None and parent.is_remote else _HAS_IS_REMOTE),
        to_fixed64(getattr(span.kind, "value", -1)) + 1,
        to_fixed64(span.start_time),
        origin,
        to_bytes(state.to_header()).decode() if state else "",
        False,
        name,
        getattr(getattr(span, "_attributes", None), "dropped", 0),
        _repaired(attributes),
    )


def _repaired(attributes: Any) -> dict[Any, Any]:
    """The attributes as whoever reads the span's OTLP JSON gets them."""
    as_read: dict[Any, Any] = read_back_value(attributes_from_sdk(attributes))
    return as_read


def _cut(fields: _Fields) -> bytes:
    """With what fits into a slot: no long attributes, or none; the name to its first 600 bytes."""
    *ids, state, _, name, dropped, attributes = fields
    small = {k: v for k, v in attributes.items() if type(v) not in _SIZED or len(v) <= _SMALL}
    for kept in (small, {}):
        lost = dropped + len(attributes) - len(kept)
        content = _encode((*ids, state, False, name, lost, kept))
        if len(content) <= _ROOM:
            return content
    start, is_cut = name.encode(), False
    if len(start) > _NAME_ROOM:
        name, is_cut = start[:_NAME_ROOM].decode(errors="ignore") + "…", True
    content = _encode((*ids, state, is_cut, name, lost, {}))
    return content if len(content) <= _ROOM else _encode((*ids, "", is_cut, name, lost, {}))


def _clean(wrapping: Envelope) -> Envelope:
    """Without lone surrogates, which are the one thing that cannot be read again."""
    return Envelope(*[to_bytes(text).decode() for text in wrapping])


def _definition(number: int, origin: Envelopes) -> bytes:
    """A line; read by ``interrupted``."""
    text = msgspec.json.encode((*origin[0], *origin[1]))
    return b"%d %08x %s\n" % (number, crc32(text), text)


def _fill(file: int, size: int) -> None:
    """Makes every page be there, on the device and in memory."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    offset = 0
    while offset < size:
        offset += os.pwrite(file, memoryview(_ZEROS)[: size - offset], offset)
