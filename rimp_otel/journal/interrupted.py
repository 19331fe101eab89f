"""Interrupted spans and crashes: what a dead process was doing, as records; and the crash file."""

from __future__ import annotations

import faulthandler
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

import msgspec
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags, TraceState

from rimp_otel.fsutil import CREATE_NEW_FLAGS, READ_FLAGS
from rimp_otel.journal.open_spans import (
    ENDING,
    ENTRIES_START,
    ENTRY_HEAD_SIZE,
    ENTRY_SIZE,
    FREE,
    OPEN,
    TABLE_HEADER_SIZE,
    TABLE_MAGIC,
    OpenSpanEntry,
)
from rimp_otel.journal.slots import JournalFileKind, journal_file_name
from rimp_otel.models.records import EventType, TelemetryEvent
from rimp_otel.otlp.decode_common import bounded_attributes
from rimp_otel.otlp.decode_spans import RecordedSpan
from rimp_otel.otlp.encode_logs import encode_event
from rimp_otel.otlp.encode_spans import encode_span
from rimp_otel.otlp.lines import (
    EncodedRecord,
    Envelope,
    RecordEnvelopes,
    resource_envelope,
    scope_envelope,
)
from rimp_otel.otlp.values import to_bytes

__all__ = [
    "Crash",
    "CrashFile",
    "InterruptedSpan",
    "OpenSpansLeft",
    "encode_crash_event",
    "encode_interrupted_span",
    "encode_interrupted_spans",
    "parse_open_spans",
    "read_crash",
    "read_open_spans",
]

_MAX_CRASH_TEXT: Final = 64 * 1024
_FATAL_SEVERITY: Final = 21
_MAX_TABLE_SIZE: Final = 64 * 1024 * 1024
_ALL_ONES: Final = 2**64 - 1
_DEFINITION = re.compile(rb"([0-9]{1,9}) ([0-9a-f]{8}) (.*)", re.DOTALL)
_WORDS = Struct("=QQ")
_HEADER = Struct("=QQQQQ")
_NO_ENVELOPES: Final[RecordEnvelopes] = (resource_envelope(None), scope_envelope(None), None)
_CHECK_SHIFT, _SIZE_MASK = 32, 0xFFFFFFFF
_TRACE_ID_SIZE = 16
_W3C_FLAGS, _IS_REMOTE = 0xFF, 0x200
_INTERRUPTED = Status(StatusCode.ERROR, "process terminated")

_decode = msgspec.msgpack.Decoder(OpenSpanEntry).decode


class InterruptedSpan(NamedTuple):
    """A span that was open when its process died."""

    entry: OpenSpanEntry
    #: Its resource and scope; None where they are not known.
    envelopes: RecordEnvelopes | None
    #: True if it was being recorded just then. Its end may have been recorded, or not.
    is_ending: bool

    @property
    def span_id(self) -> str:
        """The span's id, 16 hex digits."""
        return f"{self.entry.span_id:016x}"


class OpenSpansLeft(NamedTuple):
    """The content of a table of open spans."""

    #: In the order in which they started.
    spans: list[InterruptedSpan]
    #: Entries that made no sense, and other damage.
    damaged: int
    #: The last sign of life that it has, nanoseconds since the epoch; 0 if none.
    alive_unix_nano: int
    #: Of the process that made it; 0 if unknown.
    pid: int


def read_open_spans(path: Path) -> OpenSpansLeft:
    """Read the spans in the table of a dead process; of a living one, about those that are open.

    Changes nothing, and tolerates any damage: what makes no sense is left out and counted.

    Raises:
        OSError: the file cannot be read.
    """
    return parse_open_spans(_read_at_most(path, _MAX_TABLE_SIZE))


def parse_open_spans(data: bytes) -> OpenSpansLeft:
    """Return the spans in the content of a table's file; see ``read_open_spans``."""
    if len(data) < _HEADER.size:
        return OpenSpansLeft([], int(bool(data)), 0, 0)
    magic, alive, not_alive, pid, _ = _HEADER.unpack_from(data)
    definitions, bad_definitions = _parse_definitions(data[TABLE_HEADER_SIZE:ENTRIES_START])
    spans, bad_entries = _parse_entries(data, definitions)
    damaged = bad_definitions + bad_entries + (magic not in (0, TABLE_MAGIC))
    # If they disagree, by a death between the two stores or by damage, the smaller of them: no
    # span ended in the future.
    return OpenSpansLeft(spans, damaged, min(alive, not_alive ^ _ALL_ONES), pid)


def _read_at_most(path: Path, size: int) -> bytes:
    with os.fdopen(os.open(path, READ_FLAGS), "rb") as file:
        return file.read(size)


def _parse_definitions(data: bytes) -> tuple[dict[int, RecordEnvelopes], int]:
    """Return the definitions by their numbers, and how many made no sense."""
    definitions: dict[int, RecordEnvelopes] = {}
    damaged = 0
    for line in data.partition(b"\0")[0].split(b"\n")[:-1]:
        found = _DEFINITION.fullmatch(line)
        try:
            if found is None or crc32(found[3]) != int(found[2], 16):
                raise ValueError
            texts = msgspec.json.decode(found[3], type=tuple[str, str, str, str])
        except ValueError:
            damaged += 1
        else:
            definitions[int(found[1])] = Envelope(*texts[:2]), Envelope(*texts[2:]), None
    return definitions, damaged


def _parse_entries(
    data: bytes, definitions: dict[int, RecordEnvelopes]
) -> tuple[list[InterruptedSpan], int]:
    """Return the spans, and how many entries made no sense."""
    spans, damaged = [], 0
    for offset in range(ENTRIES_START, len(data) - ENTRY_SIZE + 1, ENTRY_SIZE):
        state, word = _WORDS.unpack_from(data, offset)
        if state == FREE:
            continue
        start, size = offset + ENTRY_HEAD_SIZE, min(word & _SIZE_MASK, ENTRY_SIZE)
        entry = _decode_entry(data[start : start + size], word >> _CHECK_SHIFT)
        if entry is None or state not in (OPEN, ENDING):
            damaged += 1
        else:
            envelopes = definitions.get(entry.definition)
            spans.append(InterruptedSpan(entry, envelopes, state == ENDING))
    return sorted(spans, key=lambda span: span.entry.start_time_unix_nano), damaged


def _decode_entry(content: bytes, check: int) -> OpenSpanEntry | None:
    if crc32(content) != check:
        return None
    try:
        entry = _decode(content)
    except (ValueError, TypeError, RecursionError):  # only of a damage that the checksum misses
        return None
    return entry if len(entry.trace_id) == _TRACE_ID_SIZE else None


def encode_interrupted_spans(
    left: OpenSpansLeft,
    last_record_unix_nano: int,
    is_finished: Callable[[str], bool],
) -> Iterator[EncodedRecord]:
    """Encode the spans that really were interrupted. None ends before one that is open below it started.

    Args:
        left: what was found.
        last_record_unix_nano: when the process recorded something for the last time, as far as
            the journal says; 0 if that is not known.
        is_finished: returns True if a span of that id, 16 hex digits, was recorded with its end.
            Called only for those that were being recorded when the process died, which are few.
    """
    sign = max(left.alive_unix_nano, last_record_unix_nano)
    # By span id, when the last open one below it started: a parent starts, and stands, before its children.
    below: dict[int, int] = {}
    for span in reversed(left.spans):
        entry = span.entry
        started = max(entry.start_time_unix_nano, below.get(entry.span_id, 0))
        if entry.parent_span_id:
            below[entry.parent_span_id] = max(started, below.get(entry.parent_span_id, 0))
    for span in left.spans:
        if not (span.is_ending and is_finished(span.span_id)):
            yield encode_interrupted_span(span, max(sign, below.get(span.entry.span_id, 0)))


def encode_interrupted_span(span: InterruptedSpan, end_time_unix_nano: int) -> EncodedRecord:
    """Encode a span that ended with its process, in error.

    Args:
        span: as it was found.
        end_time_unix_nano: the last sign of life. The span ends then, or when it started, if that
            is later.
    """
    resource, scope, _ = span.envelopes or _NO_ENVELOPES
    record = encode_span(_sdk_span_of(span.entry, end_time_unix_nano))
    return record._replace(resource=resource, scope=scope)


def _sdk_span_of(entry: OpenSpanEntry, end: int) -> ReadableSpan:
    context = _span_context(entry, entry.span_id, False, entry.trace_state)
    is_remote = bool(entry.flags & _IS_REMOTE)
    span = RecordedSpan(
        entry.name,
        context,
        _span_context(entry, entry.parent_span_id, is_remote) if entry.parent_span_id else None,
        attributes=_interrupted_attributes(entry),
        status=_INTERRUPTED,
        start_time=entry.start_time_unix_nano,
        end_time=max(entry.start_time_unix_nano, end),
    )
    span.otlp_flags, span.otlp_kind = entry.flags, entry.kind
    return span


def _span_context(
    entry: OpenSpanEntry, span_id: int, is_remote: bool, state: str = ""
) -> SpanContext:
    return SpanContext(
        int.from_bytes(entry.trace_id, "big"),
        span_id,
        is_remote,
        TraceFlags(entry.flags & _W3C_FLAGS),
        TraceState.from_header([state]) if state else None,
    )


def _interrupted_attributes(entry: OpenSpanEntry) -> BoundedAttributes:
    attributes = {**entry.attributes, "rimp.interrupted": True}
    if entry.is_cut:
        attributes["rimp.name_cut"] = True
    return bounded_attributes(attributes, entry.dropped_attributes_count)


class Crash(NamedTuple):
    """A report that faulthandler wrote when a process died."""

    text: str
    #: When it was written, nanoseconds since the epoch.
    time_unix_nano: int


def read_crash(path: Path) -> Crash | None:
    """Read the first 64 KiB of a crash file; return None if there was no crash.

    Raises:
        OSError: it cannot be read.
    """
    text = _read_at_most(path, _MAX_CRASH_TEXT).decode(errors="replace")
    return Crash(text, path.stat().st_mtime_ns) if text else None


def encode_crash_event(
    text: str, resource: Envelope, time_unix_nano: int, pid: int
) -> EncodedRecord:
    """Encode a crash as a log record: event ``rimp.crash``, severity FATAL.

    Args:
        text: what faulthandler wrote; cut to 64 KiB.
        resource: of the process that died.
        time_unix_nano: when it died.
        pid: its id; 0 if unknown.
    """
    text = to_bytes(text)[:_MAX_CRASH_TEXT].decode(errors="ignore")
    first = text.strip().partition("\n")[0]
    metadata = {"exception.stacktrace": text, **({"process.pid": pid} if pid else {})}
    event = TelemetryEvent(
        "rimp_otel",
        f"process crashed: {first}",
        EventType.ERROR,
        metadata,
        time_unix_nano=time_unix_nano,
        severity_number=_FATAL_SEVERITY,
        severity_text="FATAL",
        event_name="rimp.crash",
    )
    return encode_event(event)._replace(resource=resource)


class CrashFile:
    """A file that faulthandler writes the stacks of all threads into if a fatal signal arrives.

    That installs signal handlers (of SIGSEGV, SIGFPE, SIGABRT, SIGBUS and SIGILL), so it is only
    done where it is asked for. It is one for a process: faulthandler writes to one file.

    Args:
        path: of the file.
        file: its descriptor, for writing. It must stay open, or a crash is written into whatever
            gets its number.
    """

    def __init__(self, path: Path, file: int) -> None:
        self.path = path
        self._file = file
        self._opened = os.fstat(file)
        self._was_enabled = faulthandler.is_enabled()
        faulthandler.enable(file=file, all_threads=True)

    @classmethod
    def create(cls, directory: Path, number: int) -> CrashFile:
        """Make an empty file, and enable faulthandler with it.

        Raises:
            OSError: it could not be made.
        """
        path = directory / journal_file_name(number, JournalFileKind.CRASH)
        file = os.open(path, CREATE_NEW_FLAGS, 0o600)
        try:
            return cls(path, file)
        except BaseException:
            os.close(file)
            path.unlink()
            raise

    def close(self) -> None:
        """Disable faulthandler, or have it write to standard error if it was enabled before.

        Deletes the file if it is empty.
        """
        if self._file < 0:
            return
        self.release()
        try:
            if not self.path.stat().st_size:
                self.path.unlink()
        except FileNotFoundError:  # somebody removed it
            pass

    def release(self) -> None:
        """Close the file in a forked child, whose parent goes on with it."""
        file, self._file = self._file, -1
        if file < 0:
            return
        _restore_faulthandler(self._was_enabled)
        try:
            # A program that makes itself a daemon closes all descriptors, and opens others.
            if os.path.samestat(os.fstat(file), self._opened):
                os.close(file)
        except OSError:
            pass


def _restore_faulthandler(was_enabled: bool) -> None:
    faulthandler.disable()
    if was_enabled:
        try:
            faulthandler.enable(sys.__stderr__ or 2)
        except (RuntimeError, OSError, ValueError):  # a standard error that is no file, or closed
            pass
