"""The search for traces in a recording, in files or in a database, while it is written or not."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

from rimp_otel.analysis.summaries import TraceSummary
from rimp_otel.models.accessors import (
    has_failed,
    is_interrupted,
    service_of,
    span_id_of,
    start_of,
    trace_id_of,
)
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.storage.base import Recording, Selection
from rimp_otel.storage.recording import open_recording
from rimp_otel.viewer.conditions import (
    Condition,
    Scope,
    WholeTrace,
    filter_of,
    make_matcher,
    values_of,
)

__all__ = [
    "Aggregation",
    "AttributeKey",
    "AttributeValue",
    "Cell",
    "FoundTrace",
    "FoundTraces",
    "SpanField",
    "TraceQuery",
    "TraceSearch",
    "summarize_trace",
]

_DEADLINE = 10.0
_PAGE, _LARGEST_PAGE = 1_000, 16_000
_SAMPLE = 5_000
_TRACES = frozenset({Signal.TRACES})


class TraceQuery(NamedTuple):
    """Which traces are asked for: those with a span in the window that meets the condition."""

    window: Window = Window()
    condition: Condition | None = None
    #: Traces, the newest.
    limit: int = 20
    #: The most matching spans of each trace that are returned.
    spans_per_trace: int = 3
    #: Seconds that the search may take.
    deadline: float = _DEADLINE


class ServiceCounts(NamedTuple):
    """A service's part of a trace."""

    spans: int
    errors: int


class FoundTrace(NamedTuple):
    """A trace that has a span as asked for. Times are in nanoseconds."""

    trace_id: int
    root_service: str
    root_name: str
    #: Since the epoch.
    start: int
    duration: int
    #: Numbers of spans, and of failed ones.
    spans: int
    errors: int
    services: Mapping[str, ServiceCounts]
    #: The spans that meet the condition, oldest first, as many as were asked for.
    matched: list[ReadableSpan]
    #: How many there are.
    matched_count: int
    #: True if one of its spans was open when its process died.
    is_interrupted: bool
    #: All of its spans, oldest first.
    all_spans: list[ReadableSpan]


class FoundTraces(NamedTuple):
    """What a search found."""

    #: Newest first.
    traces: list[FoundTrace]
    #: False if the time was over before all was searched.
    is_complete: bool
    #: Spans that were looked at.
    spans_read: int


@dataclass(frozen=True)
class AttributeKey:
    """A key that records have."""

    scope: str
    key: str
    #: "string", "int", "double", "bool", "array", "kvlist" or "bytes".
    type: str
    #: In how many of the records that were looked at.
    count: int


@dataclass(frozen=True)
class AttributeValue:
    """A value that records have of a key."""

    type: str
    value: Any
    count: int


class SpanField(NamedTuple):
    """Something that spans have a value of."""

    scope: Scope
    key: str


class Aggregation(NamedTuple):
    """A question for numbers: matching spans by step of time and by the values of fields."""

    #: With both ends.
    window: Window
    #: In nanoseconds.
    step: int
    condition: Condition | None = None
    by: tuple[SpanField, ...] = ()
    #: Whose numbers are summed up; None to count only.
    value: SpanField | None = None
    #: Seconds that it may take.
    deadline: float = _DEADLINE


@dataclass(frozen=True)
class Cell:
    """The spans of one step and one group."""

    #: Counted from 0, from the window's start.
    step: int
    #: The values of ``by``; None for what a span has not.
    group: tuple[Any, ...]
    count: int
    sum: float
    min: float
    max: float
    #: By exponent e, how many values are in (2**(e-1), 2**e]; empty unless asked for.
    buckets: Mapping[int, int]


class TraceSearch:
    """Searches the spans of a recording. Thread-safe: each question looks at it anew.

    Args:
        path: of the recording, which need not exist yet.
        monotonic: returns seconds that never go back, for deadlines.
    """

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic

    def find(self, query: TraceQuery) -> FoundTraces:
        """Return the traces with the newest spans that meet the condition.

        Raises:
            ConfigurationError: the condition is impossible.
            StorageError: the recording cannot be read.
        """
        is_match = None if query.condition is None else make_matcher(query.condition)
        until = self._monotonic() + query.deadline
        recording = self._open()
        found: list[FoundTrace] = []
        seen: set[int] = set()
        read = 0
        if query.limit <= 0:
            return FoundTraces([], True, 0)
        for spans in self._newest_first(recording, query.window, filter_of(query.condition)):
            for span in spans:
                read += 1
                trace_id = trace_id_of(span)
                if not trace_id or trace_id in seen or (is_match and not is_match(span)):
                    continue
                seen.add(trace_id)
                trace = summarize_trace(self._spans_of(recording, trace_id), query)
                if trace is not None:
                    found.append(trace)
                if len(found) >= query.limit:
                    return FoundTraces(_newest(found), True, read)
                if self._monotonic() > until:
                    return FoundTraces(_newest(found), False, read)
            if self._monotonic() > until:
                return FoundTraces(_newest(found), False, read)
        return FoundTraces(_newest(found), True, read)

    def trace(self, trace_id: int) -> list[ReadableSpan]:
        """Return the spans of a trace, oldest first; none of an unknown one.

        Raises:
            StorageError: the recording cannot be read.
        """
        return self._spans_of(self._open(), trace_id) if trace_id else []

    def keys(self, signal: Signal = Signal.TRACES, window: Window = Window()) -> list[AttributeKey]:  # noqa: B008
        """Return the keys of attributes, the most frequent first.

        Raises:
            StorageError: the recording cannot be read.
        """
        counts: Counter[tuple[str, str, str]] = Counter()
        for record in self._sample(signal, window):
            for scope, attributes in _attributes_of(record, signal):
                counts.update((scope, key, _type_of(value)) for key, value in attributes.items())
        return [AttributeKey(*key, count) for key, count in counts.most_common()]

    def values(
        self,
        scope: Scope,
        key: str,
        window: Window = Window(),  # noqa: B008 (immutable)
        prefix: str = "",
        limit: int = 100,
        signal: Signal = Signal.TRACES,
    ) -> list[AttributeValue]:
        """Return the values of an attribute or of an intrinsic key, the most frequent first.

        Args:
            scope, key: of the attribute; of log records and points, ``Scope.SPAN`` stands for their own.
            window: in which records are looked at.
            prefix: with which the values' texts begin.
            limit: the most values.
            signal: whose.

        Raises:
            ConfigurationError: the key is not intrinsic.
            StorageError: the recording cannot be read.
        """
        counts: Counter[tuple[str, Any]] = Counter()
        for record in self._sample(signal, window):
            if signal is Signal.TRACES:
                found = values_of(record, scope, key)
            else:
                found = [
                    attributes[key]
                    for name, attributes in _attributes_of(record, signal)
                    if key in attributes and (name == scope.value or scope is Scope.SPAN)
                ]
            for value in found:
                kind = _type_of(value)
                if kind in _PLAIN_TYPES and value_text(value).startswith(prefix):
                    counts[kind, value] += 1
        return [AttributeValue(*value, count) for value, count in counts.most_common(limit)]

    def aggregate(self, wanted: Aggregation, with_buckets: bool = False) -> tuple[list[Cell], bool]:
        """Return the cells of an aggregation, and True if all spans were looked at in time.

        Raises:
            ConfigurationError: the condition is impossible, or the window has an open end.
            StorageError: the recording cannot be read.
        """
        start, end = wanted.window
        assert start is not None
        assert end is not None
        is_match = None if wanted.condition is None else make_matcher(wanted.condition)
        until = self._monotonic() + wanted.deadline
        cells: dict[tuple[int, tuple[Any, ...]], _CellSum] = {}
        selection = Selection(wanted.window, None, filter_of(wanted.condition))
        is_complete = True
        for batch in self._open().batches(selection):
            for span in batch.spans:
                if wanted.window.contains(start_of(span)) and (is_match is None or is_match(span)):
                    step = (start_of(span) - start) // wanted.step
                    _add_to_cells(cells, step, span, wanted)
            if self._monotonic() > until:
                is_complete = False
                break
        made = [cell.finish(with_buckets) for cell in cells.values()]
        return sorted(made, key=lambda cell: (cell.step, repr(cell.group))), is_complete

    def _open(self) -> Recording:
        return open_recording(self._path, must_exist=False)

    def _spans_of(self, recording: Recording, trace_id: int) -> list[ReadableSpan]:
        selection = Selection(filter=Filter(signals=_TRACES, trace_id=trace_id))
        return list(recording.retrieve(selection).spans)

    def _sample(self, signal: Signal, window: Window) -> list[Any]:
        selection = Selection(window, _SAMPLE, Filter(signals=frozenset({signal})))
        data = self._open().retrieve(selection)
        return [*data.spans, *data.events, *data.metrics]

    def _newest_first(
        self, recording: Recording, window: Window, wanted: Filter
    ) -> Iterator[list[ReadableSpan]]:
        """Iterate over the spans of a window that match a filter, in pages, the newest first."""
        page, end = _PAGE, window.end
        at_end: set[tuple[int, int]] = set()  # what was returned of the time at which the next ends
        while True:
            selection = Selection(Window(window.start, end), page, wanted)
            spans = list(recording.retrieve(selection).spans)
            fresh = [span for span in spans if _identity(span) not in at_end]
            yield fresh[::-1]
            if len(spans) < page:
                return
            oldest = start_of(spans[0])
            last = {_identity(span) for span in spans if start_of(span) == oldest}
            at_end = last | at_end if end == oldest + 1 else last
            page = page * 4 if end == oldest + 1 else min(page * 2, max(page, _LARGEST_PAGE))
            end = oldest + 1


def summarize_trace(spans: list[ReadableSpan], query: TraceQuery) -> FoundTrace | None:
    """Return the summary of the spans of one trace; None if it is not as asked for."""
    if not spans:
        return None
    summary = TraceSummary(trace_id_of(spans[0]))
    counts: dict[str, list[int]] = {}
    for span in spans:
        summary.add(span)
        own = counts.setdefault(service_of(span), [0, 0])
        own[0] += 1
        own[1] += has_failed(span)
    duration = summary.end - summary.start
    matched = spans
    if query.condition is not None:
        facts = WholeTrace(summary.name, summary.service, duration)
        is_match = make_matcher(query.condition, facts)
        matched = [span for span in spans if is_match(span)]
    if not matched:
        return None
    return FoundTrace(
        summary.trace_id,
        summary.service,
        summary.name,
        summary.start,
        duration,
        summary.spans,
        summary.errors,
        {service: ServiceCounts(*own) for service, own in counts.items()},
        matched[: query.spans_per_trace],
        len(matched),
        any(map(is_interrupted, spans)),
        spans,
    )


def _newest(traces: list[FoundTrace]) -> list[FoundTrace]:
    return sorted(traces, key=lambda trace: trace.start, reverse=True)


def _identity(span: ReadableSpan) -> tuple[int, int]:
    return trace_id_of(span), span_id_of(span)


# Attributes of any record.

_TYPES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (str, "string"),
    (bool, "bool"),
    (int, "int"),
    (float, "double"),
    (bytes, "bytes"),
    (Mapping, "kvlist"),
    ((list, tuple), "array"),
)
_PLAIN_TYPES = frozenset({"string", "bool", "int", "double"})


def _type_of(value: Any) -> str:
    return next((name for kind, name in _TYPES if isinstance(value, kind)), "empty")


def value_text(value: Any) -> str:
    """Return a plain value as text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _attributes_of(record: Any, signal: Signal) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the attributes of a record, its resource, its scope, its events and links, by scope."""
    scope = record.instrumentation_scope if signal is Signal.TRACES else record.scope
    if signal is Signal.TRACES:
        yield "span", record.attributes or {}
        for event in record.events:
            yield "event", event.attributes or {}
        for link in record.links:
            yield "link", link.attributes or {}
    elif signal is Signal.LOGS:
        yield "log", record.metadata
    else:
        yield "metric", record.tags
    yield "resource", record.resource.attributes if record.resource else {}
    yield "instrumentation", (scope.attributes or {}) if scope else {}


# Aggregation.


class _CellSum:
    def __init__(self, step: int, group: tuple[Any, ...]) -> None:
        self._step, self._group = step, group
        self._count, self._sum = 0, 0.0
        self._min, self._max = float("inf"), float("-inf")
        self._buckets: Counter[int] = Counter()

    def add(self, value: float) -> None:
        self._count += 1
        self._sum += value
        self._min, self._max = min(self._min, value), max(self._max, value)
        self._buckets[bucket_of(value)] += 1

    def finish(self, with_buckets: bool) -> Cell:
        buckets = dict(self._buckets) if with_buckets else {}
        return Cell(self._step, self._group, self._count, self._sum, self._min, self._max, buckets)


def bucket_of(value: float) -> int:
    """Return the smallest exponent of a power of two that is no less than a value; 0 for none."""
    if value <= 1:
        return 0
    whole = int(value) - (value == int(value))
    return whole.bit_length()


def _add_to_cells(
    cells: dict[tuple[int, tuple[Any, ...]], _CellSum],
    step: int,
    span: ReadableSpan,
    wanted: Aggregation,
) -> None:
    number = 0.0
    if wanted.value is not None:
        found = [v for v in values_of(span, *wanted.value) if _is_number(v)]
        if not found:
            return
        number = found[0]
    group = tuple(next(iter(values_of(span, *field)), None) for field in wanted.by)
    # A tuple would take 1, 1.0 and True for one.
    key = step, tuple((type(value), value) for value in map(_hashable, group))
    cell = cells.get(key)
    if cell is None:
        cell = cells[key] = _CellSum(step, group)
    cell.add(number)


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bytes, type(None))) else repr(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
