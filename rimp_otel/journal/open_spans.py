"""The table of open spans: what has started and not ended yet comes back if the process dies.

It is a file that is mapped into memory. Each open span has an entry of its own there: a word that
says whether it is taken, a word with length and checksum, and the span's ids, start, name and start
attributes as MessagePack. Attributes are there too because they are cheap: encoding a span with 8 of
them takes 0.4 µs, of which they are 0.13 (as OTLP JSON: 1.6). The whole, start and end, adds a fifth
(2 µs) to what a span with 8 attributes costs with no processor; ``python -m
tests.benchmarks.open_spans`` measures it.

Changes of the name or of attributes after the start, and events, are not in the table.

====== =======================================================================
bytes  what
====== =======================================================================
0      header, words of eight bytes: magic number (written last), last sign of
       life (nanoseconds since the epoch), its complement, process id, number
4 Ki   definitions, what the numbers of resource and scope stand for: lines of
       number, checksum, and their texts as a JSON array; then zeros
256 Ki entries of 1 KiB, up to the end of the file
====== =======================================================================

The states of an entry, by its first word:

====== ========================= =============================================
state  written by                a reader, or the next owner, concludes
====== ========================= =============================================
FREE   ``remove``, and at first  no span
OPEN   ``add``, after the entry  the span was interrupted
ENDING ``mark_ending``           its end was being recorded: interrupted, unless
                                 its frame is in a segment
====== ========================= =============================================
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
from rimp_otel.fsutil import CREATE_NEW_FLAGS, preallocate
from rimp_otel.journal.segment import FileMapping
from rimp_otel.journal.slots import JournalFileKind, journal_file_name
from rimp_otel.otlp.lines import Envelope, RecordEnvelopes, resource_envelope, scope_envelope
from rimp_otel.otlp.values import read_back_value, text_json, to_bytes, to_fixed64, trace_id_json
from rimp_otel.process import BoundedCache, Counter

__all__ = [
    "ENDING",
    "ENTRIES_START",
    "ENTRY_HEAD_SIZE",
    "ENTRY_SIZE",
    "FREE",
    "OPEN",
    "TABLE_HEADER_SIZE",
    "TABLE_MAGIC",
    "OpenSpanEntry",
    "OpenSpanTable",
]

TABLE_MAGIC: Final = int.from_bytes(b"RIMPOPN1", "little")
OPEN: Final = int.from_bytes(b"SPANOPEN", "little")
ENDING: Final = int.from_bytes(b"SPANENDS", "little")
FREE: Final = 0

TABLE_HEADER_SIZE: Final = 4_096
ENTRIES_START: Final = 256 * 1024
ENTRY_SIZE: Final = 1_024
ENTRY_HEAD_SIZE: Final = 16
"""Bytes of an entry's two words; what is left is for its span."""

_ROOM = ENTRY_SIZE - ENTRY_HEAD_SIZE
_ENTRY_WORDS = ENTRY_SIZE // 8
_MAX_SPANS = 4_096
_MAX_DEFINITIONS = 1_024
_SMALL = 64
_NAME_ROOM = 600
_ALIVE, _NOT_ALIVE, _PID, _NUMBER = 1, 2, 3, 4
_ALL_ONES = 2**64 - 1
_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x300
_SIZED = frozenset({str, bytes, tuple, list, dict})
# What reading an odd span or a closed table raises. Not all exceptions: a signal handler can raise
# its own here, such as a timeout, and that is the application's.
_ODD = (AttributeError, TypeError, ValueError, ArithmeticError, LookupError, RuntimeError)

_encode = msgspec.msgpack.Encoder().encode


class OpenSpanEntry(msgspec.Struct, array_like=True, frozen=True):
    """The content of an entry, in the order in which it is encoded."""

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
    #: The number that its resource and scope have in the table; 0 where they have none.
    definition: int
    #: W3C's header; empty for none.
    trace_state: str
    #: True if the name is longer than this.
    is_cut: bool
    name: str
    #: Attributes that were lost by the SDK, or were too many for the entry.
    dropped_attributes_count: int
    attributes: dict[Any, Any]


_Fields = tuple[bytes, int, int, int, int, int, int, str, bool, str, int, dict[Any, Any]]


class OpenSpanTable:
    """The table of the spans that are open in this process.

    ``add``, ``mark_ending`` and ``remove`` take no lock, and raise nothing of their own. They may be
    called from any thread, signal handler or finaliser, but only by the process that made the
    table: after a fork the child calls ``release``. (It is not checked here, since the journal has
    just checked.)

    Args:
        path: of the file.
        head: the mapping of its header and definitions.
        memory: the mapping of its entries.
    """

    # Why no interruption spoils it: each step is one call into C, which neither another thread nor
    # a signal handler nor a finaliser interrupts, and they follow each other so that
    #
    # - an entry is written by one owner at a time. It is the caller's alone from ``_free.pop`` to
    #   ``_entries.setdefault``, and again from ``_entries.pop`` to ``_free.append``; each of the four
    #   gives an entry to one caller only, whoever else is half way.
    # - what an entry's state says is true. Content comes before OPEN; FREE before the entry can be
    #   taken again. A death in between leaves a free entry, or an open span.
    # - OPEN is written before the entry is known: whoever ends the span finds the entry later, so
    #   that OPEN never comes after FREE. A processor that stands before ours can hand a span
    #   to a thread that ends it before it is added; ``add`` looks for that last of all.
    # - of two spans with the same ids the second is not added, and the end of either is taken for
    #   that of the first. ``mark_ending`` may then mark an entry that has just got another owner.
    #   That does no harm: of a span that is ending it is looked up whether it has ended.
    #
    # An exception that a signal handler raises between two steps (a timeout, KeyboardInterrupt)
    # goes to the application, as it should, and may cost one entry until the process ends.

    def __init__(self, path: Path, head: FileMapping, memory: FileMapping) -> None:
        self.path = path
        #: Bytes on disk.
        self.size = len(head) + len(memory)
        self._pid = os.getpid()
        self._head, self._memory = head, memory
        self._header = memoryview(head)[:TABLE_HEADER_SIZE].cast("Q")
        self._words = memoryview(memory).cast("Q")
        # The first words of entries: of those that are free (the last one freed is taken first, its
        # memory is in the processor's cache), and by the ids of the span that has it.
        self._free = deque(range(len(self._words) - _ENTRY_WORDS, -1, -_ENTRY_WORDS))
        self._entries: dict[tuple[int, int], int] = {}
        self._untracked = Counter()
        self._numbers = count(1)
        self._definitions: dict[RecordEnvelopes, int] = {}
        # By the scope's identity; it is held, so that no other object gets that.
        self._by_scope: BoundedCache[int, tuple[Any, Any, int]] = BoundedCache(256)

    @classmethod
    def create(cls, directory: Path, number: int, most: int = _MAX_SPANS) -> OpenSpanTable:
        """Make an empty table.

        Args:
            directory: of the journal.
            number: of the file.
            most: spans that can be open at the same time; others are not added.

        Raises:
            OSError: it could not be made, such as on a full disk. It never is a hole in a file,
                a write into which would kill the process.
        """
        path = directory / journal_file_name(number, JournalFileKind.OPEN_SPANS)
        file = os.open(path, CREATE_NEW_FLAGS, 0o600)
        try:
            preallocate(file, ENTRIES_START + most * ENTRY_SIZE)
            head = FileMapping.of(file, ENTRIES_START)
            memory = FileMapping.of(file, most * ENTRY_SIZE, offset=ENTRIES_START)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(file)
        table = cls(path, head, memory)
        table._start(number)
        return table

    def _start(self, number: int) -> None:
        self._head.seek(TABLE_HEADER_SIZE)
        self._header[_PID], self._header[_NUMBER] = self._pid, number
        self.mark_alive(time.time_ns())
        self._header[0] = TABLE_MAGIC

    @property
    def untracked(self) -> int:
        """The number of spans that were not added: too many were open, or had the same ids."""
        return self._untracked.value

    @property
    def tracked(self) -> int:
        """The number of spans in the table."""
        return len(self._entries)

    @property
    def is_ending(self) -> bool:
        """True if the end of a span is being recorded right now."""
        try:
            # A copy, made in one step: a finaliser that ends a span would disturb an iteration.
            entries = self._entries.copy().values()
            return any(self._words[entry] == ENDING for entry in entries)
        except ValueError:  # closed
            return False

    def add(self, span: Any) -> None:
        """Add an SDK span that has started. It survives the process from when this returns."""
        try:
            key = _ids_of(span)
            content = self._encode_quickly(span) or self._encode_any(span)
            entry = self._free.pop()
        except _ODD:  # a table that is full or closed; a span that cannot be read at all
            self._untracked.add_one()
            return
        start, size = entry * 8 + ENTRY_HEAD_SIZE, len(content)
        try:
            self._memory[start : start + size] = content
            self._words[entry + 1] = crc32(content) << 32 | size
            self._words[entry] = OPEN
            known = self._entries.setdefault(key, entry)
        except ValueError:  # closed meanwhile
            return
        except (RecursionError, MemoryError):
            self._words[entry] = FREE
            self._free.append(entry)
            return
        if known != entry:
            self._free_entry(entry)
            self._untracked.add_one()
        elif getattr(span, "_end_time", None) is not None:
            self.remove_span(span)

    def mark_ending(self, span: Any) -> tuple[int, int] | None:
        """Note that the span's end is about to be recorded.

        Returns:
            What to ``remove`` once it is; None for a span that was not added.
        """
        try:
            key = _ids_of(span)
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._words[entry] = ENDING
        except _ODD:  # closed, or no ids
            return None
        return key

    def remove(self, key: tuple[int, int]) -> None:
        """Free a span's entry, since its end has been recorded."""
        # No call that goes deeper: where there was room on the stack to record the span's end, there is
        # room for this.
        entry = self._entries.pop(key, None)
        if entry is not None:
            try:
                self._words[entry] = FREE
            except ValueError:  # closed
                return
            self._free.append(entry)

    def remove_span(self, span: Any) -> None:
        """Free a span's entry. Does nothing for a span that was not added."""
        try:
            key = _ids_of(span)
        except _ODD:
            return
        self.remove(key)

    def _free_entry(self, entry: int) -> None:
        try:
            self._words[entry] = FREE
        except ValueError:  # closed
            return
        self._free.append(entry)

    def mark_alive(self, time_unix_nano: int) -> None:
        """Note that the process lives: an interrupted span ends then."""
        try:
            self._header[_ALIVE] = time_unix_nano
            self._header[_NOT_ALIVE] = time_unix_nano ^ _ALL_ONES
        except ValueError:  # closed
            pass

    def close(self, delete: bool = True) -> None:
        """Close the file. Spans that start later are counted as untracked.

        Args:
            delete: also remove it. A process that did not make it never does.
        """
        self._free.clear()
        self._entries.clear()
        self._header.release()
        self._words.release()
        for memory in (self._head, self._memory):
            try:
                memory.close()
            except BufferError:  # another thread is writing; gone with the last reference
                pass
        if delete and self._pid == os.getpid():
            self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Close the file in a forked child, whose parent goes on with it."""
        self.close(delete=False)

    def _encode_quickly(self, span: Any) -> bytes | None:
        """Encode a span as nearly all are: of a known scope, and small. Return None for another."""
        try:
            context, parent, attributes = span._context, span._parent, span._attributes
            known = self._by_scope.entries[id(span._instrumentation_scope)]
            state, name, start = context[4], span._name, span._start_time
            if known[1] is not span._resource or type(name) is not str or type(start) is not int:
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
                    "" if state is DEFAULT_TRACE_STATE or not state else state.to_header(),
                    False,
                    name,
                    attributes.dropped,
                    attributes._dict,
                )
            )
            return content if len(content) <= _ROOM else None
        except _ODD:
            return None

    def _encode_any(self, span: Any) -> bytes:
        """Encode a span of a new scope, one with odd fields, or one that is too large."""
        try:
            self._definition_number(span._resource, span._instrumentation_scope)
        except _ODD:
            pass  # of another SDK
        content = self._encode_quickly(span)
        if content is not None:
            return content
        fields = self._read_fields(span)
        content = _encode(fields)
        return content if len(content) <= _ROOM else _encode_cut(fields)

    def _read_fields(self, span: Any) -> _Fields:
        try:
            number = self._definition_number(span.resource, span.instrumentation_scope)
            return _fields_of(span, number)
        except Exception as error:  # whatever an object of the application's raises
            raise ValueError("the span cannot be read") from error

    def _definition_number(self, resource: Any, scope: Any) -> int:
        entry = self._by_scope.get(id(scope))
        if entry is not None and entry[1] is resource:
            return entry[2]
        number = self._define(resource, scope)
        self._by_scope[id(scope)] = (scope, resource, number)
        return number

    def _define(self, resource: Any, scope: Any) -> int:
        envelopes = (
            _without_surrogates(resource_envelope(resource)),
            _without_surrogates(scope_envelope(scope)),
            None,
        )
        number = self._definitions.get(envelopes)
        if number is not None:
            return number
        if len(self._definitions) >= _MAX_DEFINITIONS:
            return 0
        number = next(self._numbers)
        try:
            self._head.write(_encode_scope_definition(number, envelopes))
        except ValueError:  # no room left
            number = 0
        # Only now: another thread may use the number at once. It may also have defined the same
        # envelopes meanwhile; then they have two numbers, each of them good.
        return self._definitions.setdefault(envelopes, number)


def _ids_of(span: Any) -> tuple[int, int]:
    try:
        context = span._context
    except AttributeError:
        context = span.context
    return context[0], context[1]


def _fields_of(span: Any, definition: int) -> _Fields:
    """Return an entry's fields from what every SDK has, repaired as ``otlp.values`` says."""
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
        definition,
        to_bytes(state.to_header()).decode() if state else "",
        False,
        name,
        getattr(getattr(span, "_attributes", None), "dropped", 0),
        _repair_attributes(attributes),
    )


def _repair_attributes(attributes: Any) -> dict[Any, Any]:
    """Return the attributes as whoever reads the span's OTLP JSON gets them."""
    as_read: dict[Any, Any] = read_back_value(attributes_from_sdk(attributes))
    return as_read


def _encode_cut(fields: _Fields) -> bytes:
    """Encode what fits into an entry: no long attributes, or none; 600 bytes of the name."""
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


def _without_surrogates(envelope: Envelope) -> Envelope:
    """Replace lone surrogates, which are the one thing that cannot be read again."""
    return Envelope(*[to_bytes(text).decode() for text in envelope])


def _encode_scope_definition(number: int, envelopes: RecordEnvelopes) -> bytes:
    """Return a line of the definitions; ``interrupted`` reads it."""
    text = msgspec.json.encode((*envelopes[0], *envelopes[1]))
    return b"%d %08x %s\n" % (number, crc32(text), text)
