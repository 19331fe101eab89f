"""Errors of a recording by type and place: how often, from when to when, and an example of each.

Memory is bounded: by the number of kinds, and by the number of spans in which an exception that
passes through several spans is recognized.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

# A lazy package: it loads the SDK only for `typing.get_type_hints`.
import rimp_otel.models as models
from rimp_otel.models.accessors import (
    StackFrame,
    exception_in,
    has_failed,
    innermost_frame,
    parent_id_of,
    service_of,
    span_id_of,
    start_of,
    time_of,
    trace_id_of,
)
from rimp_otel.models.records import TelemetryEvent
from rimp_otel.models.times import Window
from rimp_otel.render.format import format_utc

__all__ = ["ErrorCollection", "ErrorKind", "ErrorSummary"]

_MAX_KINDS = 10_000
_MAX_OCCURRENCES = 200_000
_MAX_TYPE_LENGTH = 200
_MAX_EXAMPLE_LENGTH = 100_000
# How long after it has left a span an exception is logged outside of all traces: servers such as
# uvicorn log it when the span has ended. Nanoseconds.
_LONGEST_WAY_TO_LOG = 10**9


class ErrorKind(NamedTuple):
    """Errors of one type at one place."""

    service: str
    #: The type of the exception; of a failed span without one, its ``error.type``, or empty.
    type: str
    #: The innermost frame of the stack; None if no stack is recorded.
    frame: StackFrame | None
    #: Without a frame, the name of the span, or the source of the log record; else empty.
    name: str


@dataclass
class ErrorSummary:
    """An error in a few words. Times are in nanoseconds since the epoch.

    Message, stack and ids are those of the newest occurrence of those that have a stack, and among these
    a trace; where there are none, of the newest.
    """

    kind: ErrorKind
    count: int = 0
    first: int = 0
    last: int = 0
    message: str = ""
    stack: str = ""
    #: 0 if it happened outside of any trace.
    trace_id: int = 0
    span_id: int = 0
    #: Whether the example has a stack, whether it has a trace, and its time.
    _example: tuple[bool, bool, int] = field(default=(False, False, -1), init=False, repr=False)

    def note(self, error: _Occurrence) -> None:
        """Extend the time of the error, and take over the occurrence as an example if it is a better
        one."""
        self.first = min(self.first or error.time, error.time)
        self.last = max(self.last, error.time)
        rank = (bool(error.stack), bool(error.trace_id), error.time)
        if rank > self._example:
            self._example = rank
            self.message = error.message[:_MAX_EXAMPLE_LENGTH]
            self.stack = error.stack[-_MAX_EXAMPLE_LENGTH:]
            self.trace_id, self.span_id = error.trace_id, error.span_id

    def as_json(self) -> dict[str, Any]:
        """Return the error as ``rimp errors --json`` prints it."""
        kind, frame = self.kind, self.kind.frame
        return {
            "type": kind.type,
            "message": self.message,
            "service": kind.service,
            "name": kind.name or None,
            "function": frame.function if frame else None,
            "file": frame.file if frame else None,
            "line": frame.line if frame else None,
            "count": self.count,
            "first": format_utc(self.first),
            "last": format_utc(self.last),
            "trace_id": f"{self.trace_id:032x}" if self.trace_id else None,
            "span_id": f"{self.span_id:016x}" if self.span_id else None,
            "stack": self.stack,
        }


class _Occurrence(NamedTuple):
    """An error in a record."""

    time: int
    kind: ErrorKind
    message: str
    stack: str
    trace_id: int
    span_id: int


_Place = tuple[int, int, ErrorKind]
"""Trace id, span id and kind."""

_Said = tuple[ErrorKind, int]
"""A kind, and the hash of the message."""


class ErrorCollection:
    """The errors of spans and log records that are added in any order.

    An exception that leaves several nested spans, or that is also logged in the trace in which it is
    recorded, counts once; so does one that is logged with the same message outside of all traces
    within a second after it has left a span. Use it in one thread.

    Args:
        window: errors outside of this time are left out.
        max_kinds: how many kinds are told apart; further ones are counted in ``left_out`` alone.
        max_occurrences: how many occurrences are remembered to recognize repetitions.
    """

    def __init__(
        self,
        window: Window = Window(),  # noqa: B008 (immutable)
        max_kinds: int = _MAX_KINDS,
        max_occurrences: int = _MAX_OCCURRENCES,
    ) -> None:
        self._window = window
        self._max_kinds, self._max_occurrences = max_kinds, max_occurrences
        self._errors: dict[ErrorKind, ErrorSummary] = {}
        #: How many occurrences are of no kind that is told apart.
        self.left_out = 0
        # By place, how often; and the parents of the spans at these places.
        self._in_spans: Counter[_Place] = Counter()
        self._parents: dict[_Place, None] = {}
        self._in_logs: Counter[_Place] = Counter()
        # Of each message, when it was logged outside of traces, and when it left which traces' spans.
        self._logged_outside: defaultdict[_Said, list[int]] = defaultdict(list)
        self._left_spans: defaultdict[_Said, dict[int, int]] = defaultdict(dict)
        self._outside = 0

    def add_span(self, span: models.ReadableSpan) -> None:
        """Add the exceptions of a span's events; without any, the failure of the span itself."""
        found = False
        for error in _exceptions_of(span):
            found = True
            self._add_in_span(span, error)
        if not found and has_failed(span):
            self._add_in_span(span, _failure_of(span))

    def add_event(self, event: TelemetryEvent) -> None:
        """Add the exception of a log record, if it has one."""
        raised = exception_in(event.metadata)
        if raised is None:
            return
        frame = innermost_frame(raised.stack)
        name = "" if frame else event.source
        kind = ErrorKind(service_of(event), raised.type[:_MAX_TYPE_LENGTH], frame, name)
        ids = event.trace_id, event.span_id
        error = _Occurrence(time_of(event), kind, raised.message, raised.stack, *ids)
        if self._note(error):
            if event.trace_id:
                self._in_logs[event.trace_id, event.span_id, kind] += 1
                self._settle_oldest()
            else:
                self._logged_outside[kind, hash(raised.message)].append(error.time)
                self._outside += 1
                self._settle_oldest()

    def errors(self) -> list[ErrorSummary]:
        """Return the errors, each kind once, in no particular order."""
        self._settle_outside()
        self._settle(self._in_logs, len(self._in_logs))
        self._settle(self._in_spans, len(self._in_spans))
        return [error for error in self._errors.values() if error.count]

    def _add_in_span(self, span: models.ReadableSpan, error: _Occurrence) -> None:
        if self._note(error):
            self._in_spans[error.trace_id, error.span_id, error.kind] += 1
            if error.stack and error.trace_id:
                left = self._left_spans[error.kind, hash(error.message)]
                left[error.trace_id] = max(error.time, left.get(error.trace_id, 0))
            if parent_id := parent_id_of(span):
                self._parents[error.trace_id, parent_id, error.kind] = None
            self._settle_oldest()

    def _note(self, error: _Occurrence) -> bool:
        """Return True if the error is to be counted."""
        if not self._window.contains(error.time):
            return False
        known = self._errors.get(error.kind)
        if known is None:
            if len(self._errors) >= self._max_kinds:
                self.left_out += 1
                return False
            known = self._errors[error.kind] = ErrorSummary(error.kind)
        known.note(error)
        self.on_occurrence(error.kind, error.time)
        return True

    def on_occurrence(self, kind: ErrorKind, time: int) -> None:
        """Called for each occurrence that is counted, repetitions too; for subclasses.

        Args:
            kind: of the error.
            time: when, in nanoseconds since the epoch.
        """

    def _settle_oldest(self) -> None:
        if len(self._in_logs) + len(self._in_spans) + self._outside > self._max_occurrences:
            self._settle_outside()
            self._settle(self._in_logs, (len(self._in_logs) + 1) // 2)
            self._settle(self._in_spans, (len(self._in_spans) + 1) // 2)
            for place in list(islice(self._parents, len(self._parents) // 2)):
                del self._parents[place]

    def _settle_outside(self) -> None:
        """Count what was logged outside of traces, unless it has just left the spans of a trace."""
        for said, logged in self._logged_outside.items():
            left = sorted(self._left_spans.get(said, {}).values())
            for time in sorted(logged):
                newest = bisect_left(left, time + 1) - 1
                if newest >= 0 and time - left[newest] <= _LONGEST_WAY_TO_LOG:
                    del left[newest]
                else:
                    self._errors[said[0]].count += 1
        self._logged_outside.clear()
        self._left_spans.clear()
        self._outside = 0

    def _settle(self, places: Counter[_Place], number: int) -> None:
        """Count the first ``number`` places, unless the same error is counted elsewhere."""
        recorded = None
        if places is self._in_logs:
            recorded = {(trace_id, kind) for trace_id, _, kind in self._in_spans}
        for place in list(islice(places, number)):
            times = places.pop(place)
            trace_id, _, kind = place
            if recorded is None:
                is_repeated = bool(trace_id) and place in self._parents
            else:
                is_repeated = (trace_id, kind) in recorded
            if not is_repeated:
                self._errors[kind].count += times


def _exceptions_of(span: models.ReadableSpan) -> Iterator[_Occurrence]:
    for event in span.events:
        raised = exception_in(event.attributes or {})
        if raised is not None:
            frame = innermost_frame(raised.stack)
            kind = _kind_in_span(span, raised.type, frame)
            ids = trace_id_of(span), span_id_of(span)
            yield _Occurrence(event.timestamp, kind, raised.message, raised.stack, *ids)


def _failure_of(span: models.ReadableSpan) -> _Occurrence:
    attributes: Mapping[str, Any] = span.attributes or {}
    kind = _kind_in_span(span, str(attributes.get("error.type", "")), None)
    message = span.status.description or ""
    time = span.end_time or start_of(span)
    return _Occurrence(time, kind, message, "", trace_id_of(span), span_id_of(span))


def _kind_in_span(span: models.ReadableSpan, type: str, frame: StackFrame | None) -> ErrorKind:
    return ErrorKind(service_of(span), type[:_MAX_TYPE_LENGTH], frame, "" if frame else span.name)
