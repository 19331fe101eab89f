"""What a dead process leaves of what it was doing: the spans that were open, and its crash."""

from __future__ import annotations

import faulthandler
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags, TraceState

from rimp_otel.journal.open_spans import (
    ENDING,
    FREE,
    HEADER_SIZE,
    MAGIC,
    OPEN,
    SLOT_SIZE,
    SLOTS_START,
    WORDS_SIZE,
    NotedSpan,
)
from rimp_otel.models.records import EventType, TelemetryEvent
from rimp_otel.otlp.decode_spans import RecordedSpan
from rimp_otel.otlp.encode_logs import encode_event
from rimp_otel.otlp.encode_spans import encode_span
from rimp_otel.otlp.lines import (
    EncodedRecord,
    Envelope,
    Envelopes,
    resource_envelope,
    scope_envelope,
)
from rimp_otel.otlp.values import to_bytes

__all__ = [
    "Crash",
    "CrashFile",
    "InterruptedSpan",
    "OpenSpansLeft",
    "crash_event_fragment",
    "crash_name",
    "interrupted_fragment",
    "interrupted_fragments",
    "open_spans_in",
    "read_crash",
    "read_open_spans",
]


# --- What a dead process leaves of what it was doing: the spans that were open, and its crash.

_MOST_CRASH_TEXT: Final = 64 * 1024
_FATAL: Final = 21
_MOST_BYTES: Final = 64 * 1024 * 1024
_ALL_ONES: Final = 2**64 - 1
_DEFINITION = re.compile(rb"([0-9]{1,9}) ([0-9a-f]{8}) (.*)", re.DOTALL)
_WORDS = Struct("=QQ")
_HEADER = Struct("=QQQQQ")
_NO_ORIGIN: Final[Envelopes] = (resource_envelope(None), scope_envelope(None), None)
_CHECK_SHIFT, _SIZE_MASK = 32, 0xFFFFFFFF
_TRACE_ID_SIZE = 16
_W3C_FLAGS, _IS_REMOTE = 0xFF, 0x200
_INTERRUPTED = Status(StatusCode.ERROR, "process terminated")
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# A pipe of that name must keep nobody waiting.
_SAFELY |= getattr(os, "O_NONBLOCK", 0)

_decode = msgspec.msgpack.Decoder(NotedSpan).decode


class InterruptedSpan(NamedTuple):
    """A span that was open when its process died."""

    noted: NotedSpan
    #: What it belongs to; None where that is not known.
    origin: Envelopes | None
    #: Whether it was being recorded just then. Its end may have been recorded, or not.
    is_ending: bool

    @property
    def span_id(self) -> str:
        """Its id, 16 hex digits."""
        return f"{self.noted.span_id:016x}"


class OpenSpansLeft(NamedTuple):
    """What a table of open spans holds."""

    #: In the order in which they started.
    spans: list[InterruptedSpan]
    #: Slots that made no sense, and other damage.
    damaged: int
    #: The last sign of life that it has, nanoseconds since the epoch; 0 if none.
    alive_unix_nano: int
    #: Of the process that made it; 0 if unknown.
    pid: int


def read_open_spans(path: Path) -> OpenSpansLeft:
    """The spans in the table of a dead process; of a living one, about those that are open.

    Changes nothing, and tolerates any damage: what makes no sense is left out and counted.

    Raises:
        OSError: the file cannot be read.
    """
    return open_spans_in(_read(path, _MOST_BYTES))


def open_spans_in(data: bytes) -> OpenSpansLeft:
    """The same, of a file's content."""
    if len(data) < _HEADER.size:
        return OpenSpansLeft([], int(bool(data)), 0, 0)
    magic, alive, not_alive, pid, _ = _HEADER.unpack_from(data)
    origins, bad_origins = _read_origins(data[HEADER_SIZE:SLOTS_START])
    spans, bad_slots = _read_slots(data, origins)
    damaged = bad_origins + bad_slots + (magic not in (0, MAGIC))
    # If they disagree, by a death between the two stores or by damage, the smaller of them: no
    # span ended in the future.
    return OpenSpansLeft(spans, damaged, min(alive, not_alive ^ _ALL_ONES), pid)


def _read(path: Path, most: int) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | _SAFELY), "rb") as file:
        return file.read(most)


def _read_origins(data: bytes) -> tuple[dict[int, Envelopes], int]:
    """By their numbers, and how many of the definitions made no sense."""
    origins: dict[int, Envelopes] = {}
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
            origins[int(found[1])] = Envelope(*texts[:2]), Envelope(*texts[2:]), None
    return origins, damaged


def _read_slots(data: bytes, origins: dict[int, Envelopes]) -> tuple[list[InterruptedSpan], int]:
    """The spans, and how many slots made no sense."""
    spans, damaged = [], 0
    for place in range(SLOTS_START, len(data) - SLOT_SIZE + 1, SLOT_SIZE):
        state, word = _WORDS.unpack_from(data, place)
        if state == FREE:
            continue
        start, size = place + WORDS_SIZE, min(word & _SIZE_MASK, SLOT_SIZE)
        noted = _read_content(data[start : start + size], word >> _CHECK_SHIFT)
        if noted is None or state not in (OPEN, ENDING):
            damaged += 1
        else:
            spans.append(InterruptedSpan(noted, origins.get(noted.origin), state == ENDING))
    return sorted(spans, key=lambda span: span.noted.start_time_unix_nano), damaged


def _read_content(content: bytes, check: int) -> NotedSpan | None:
    if crc32(content) != check:
        return None
    try:
        noted = _decode(content)
    except (ValueError, TypeError, RecursionError):  # only of a damage that the checksum misses
        return None
    return noted if len(noted.trace_id) == _TRACE_ID_SIZE else None


def interrupted_fragments(
    left: OpenSpansLeft,
    last_record_unix_nano: int,
    is_finished: Callable[[str], bool],
) -> Iterator[EncodedRecord]:
    """The spans that really were interrupted, as fragments.

    Args:
        left: what was found.
        last_record_unix_nano: when the process recorded something for the last time, as far as
            the journal says; 0 if that is not known.
        is_finished: whether a span of that id, 16 hex digits, was recorded with its end. Called
            only for those that were being recorded when the process died, which are few.
    """
    sign = max(left.alive_unix_nano, last_record_unix_nano)
    for span in left.spans:
        if not (span.is_ending and is_finished(span.span_id)):
            yield interrupted_fragment(span, sign)


def interrupted_fragment(span: InterruptedSpan, end_time_unix_nano: int) -> EncodedRecord:
    """A span that ended with its process, in error.

    Args:
        span: as it was found.
        end_time_unix_nano: the last sign of life. The span ends then, or when it started, if that
            is later.
    """
    resource, scope, _ = span.origin or _NO_ORIGIN
    fragment = encode_span(_sdk_span(span.noted, end_time_unix_nano))
    return fragment._replace(resource=resource, scope=scope)


def _sdk_span(noted: NotedSpan, end: int) -> ReadableSpan:
    context = _context(noted, noted.span_id, False, noted.trace_state)
    is_remote = bool(noted.flags & _IS_REMOTE)
    span = RecordedSpan(
        noted.name,
        context,
        _context(noted, noted.parent_span_id, is_remote) if noted.parent_span_id else None,
        attributes=_attributes(noted),
        status=_INTERRUPTED,
        start_time=noted.start_time_unix_nano,
        end_time=max(noted.start_time_unix_nano, end),
    )
    span.otlp_flags, span.otlp_kind = noted.flags, noted.kind
    return span


def _context(noted: NotedSpan, span_id: int, is_remote: bool, state: str = "") -> SpanContext:
    return SpanContext(
        int.from_bytes(noted.trace_id, "big"),
        span_id,
        is_remote,
        TraceFlags(noted.flags & _W3C_FLAGS),
        TraceState.from_header([state]) if state else None,
    )


class _Attributes(dict[Any, Any]):
    """With a count of those that are lost, as the SDK's have it."""

    dropped = 0


def _attributes(noted: NotedSpan) -> _Attributes:
    attributes = _Attributes(noted.attributes)
    attributes["rimp.interrupted"] = True
    if noted.is_cut:
        attributes["rimp.name_cut"] = True
    attributes.dropped = noted.dropped_attributes_count
    return attributes


class Crash(NamedTuple):
    """What faulthandler wrote when a process died."""

    text: str
    #: When it was written, nanoseconds since the epoch.
    time_unix_nano: int


def read_crash(path: Path) -> Crash | None:
    """What a crash's file holds, the first 64 KiB of it; None if there was no crash.

    Raises:
        OSError: it cannot be read.
    """
    text = _read(path, _MOST_CRASH_TEXT).decode(errors="replace")
    return Crash(text, path.stat().st_mtime_ns) if text else None


def crash_event_fragment(
    text: str, resource: Envelope, time_unix_nano: int, pid: int
) -> EncodedRecord:
    """A crash as a log record: event ``rimp.crash``, severity FATAL.

    Args:
        text: faulthandler's; what is longer than 64 KiB is cut.
        resource: of the process that died.
        time_unix_nano: when it died.
        pid: its number; 0 if unknown.
    """
    text = to_bytes(text)[:_MOST_CRASH_TEXT].decode(errors="ignore")
    first = text.strip().partition("\n")[0]
    metadata = {"exception.stacktrace": text, **({"process.pid": pid} if pid else {})}
    event = TelemetryEvent(
        "rimp_otel",
        f"process crashed: {first}",
        EventType.ERROR,
        metadata,
        time_unix_nano=time_unix_nano,
        severity_number=_FATAL,
        severity_text="FATAL",
        event_name="rimp.crash",
    )
    return encode_event(event)._replace(resource=resource)


# --- The file that a crash of the process is written into.

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_FLAGS |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def crash_name(number: int) -> str:
    """The name of a crash's file."""
    return f"{number:06d}.crash"


class CrashFile:
    """Where faulthandler writes the stacks of all threads, if the process dies of a fatal signal.

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
        """Makes an empty file, and enables faulthandler with it.

        Raises:
            OSError: it could not be made.
        """
        path = directory / crash_name(number)
        file = os.open(path, _FLAGS, 0o600)
        try:
            return cls(path, file)
        except BaseException:
            os.close(file)
            path.unlink()
            raise

    def close(self) -> None:
        """Puts faulthandler back: off, or writing to standard error if it was on before. Deletes
        the file if it is empty."""
        if self._file < 0:
            return
        self.abandon()
        try:
            if not self.path.stat().st_size:
                self.path.unlink()
        except FileNotFoundError:  # somebody removed it
            pass

    def abandon(self) -> None:
        """The same in a forked child, whose parent goes on with the file."""
        file, self._file = self._file, -1
        if file < 0:
            return
        _restore(self._was_enabled)
        try:
            # A program that makes itself a daemon closes all descriptors, and opens others.
            if os.path.samestat(os.fstat(file), self._opened):
                os.close(file)
        except OSError:
            pass


def _restore(was_enabled: bool) -> None:
    faulthandler.disable()
    if was_enabled:
        try:
            faulthandler.enable(sys.__stderr__ or 2)
        except (RuntimeError, OSError, ValueError):  # a standard error that is no file, or closed
            pass
