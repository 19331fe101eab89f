"""The search for traces in a recording, in files or in a database, while it is written or not."""

from __future__ import annotations

import math
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
    start_of,
    trace_id_of,
)
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.storage.base import Recording, Selection
from rimp_otel.storage.recording import open_recording
from rimp_otel.viewer.questions import PreparingError
from rimp_otel.viewer.rollups.builder import value_type
from rimp_otel.viewer.rollups.rollup import AttributeTable
from rimp_otel.viewer.rollups.store import open_rollups
from rimp_otel.viewer.search.conditions import (
    Condition,
    Scope,
    WholeTrace,
    filter_of,
    make_matcher,
    values_of,
)
from rimp_otel.viewer.search.span_scan import FoundSpans, SpanScan, open_scan

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
_SAMPLE = 5_000
_LARGEST_BATCH = 500


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
        self._rollups = open_rollups(path)

    def find(self, query: TraceQuery) -> FoundTraces:
        """Return the traces with the newest spans that meet the condition.

        Raises:
            ConfigurationError: the condition is impossible.
            StorageError: the recording cannot be read.
        """
        if query.limit <= 0:
            return FoundTraces([], True, 0)
        scan, search = open_scan(self._path), _Ranking(query)
        until = self._monotonic() + query.deadline
        read = 0
        for found in scan.newest_first(query.window, query.condition):
            read += found.looked_at
            search.add(found)
            if search.is_due(found.until):
                search.settle(scan, lambda: self._monotonic() > until)
                if search.is_full:
                    return FoundTraces(search.traces(), True, read)
            if self._monotonic() > until:
                search.settle(scan, lambda: True, all=True)
                return FoundTraces(search.traces(), False, read)
        search.settle(scan, lambda: self._monotonic() > until, all=True)
        return FoundTraces(search.traces(), search.is_settled, read)

    def trace(self, trace_id: int) -> list[ReadableSpan]:
        """Return the spans of a trace, oldest first; none of an unknown one.

        Raises:
            StorageError: the recording cannot be read.
        """
        return open_scan(self._path).traces([trace_id]).get(trace_id, []) if trace_id else []

    def keys(self, signal: Signal = Signal.TRACES, window: Window = Window()) -> list[AttributeKey]:  # noqa: B008
        """Return the keys of attributes, the most frequent first.

        Where there are no rollups yet, those of the newest records.

        Raises:
            StorageError: the recording cannot be read.
        """
        counts: Counter[tuple[str, str, str]] = Counter()
        tables = self._tables(signal, window)
        if tables is not None:
            for table in tables:
                for place, own in table.items():
                    counts[place] += own.records
            return [AttributeKey(*key, count) for key, count in counts.most_common()]
        for record in self._sample(signal, window):
            for scope, attributes in _attributes_in(record, signal):
                counts.update((scope, key, value_type(value)) for key, value in attributes.items())
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
        own_scope = signal_scope(signal) if scope is Scope.SPAN else scope.value
        scopes = ("span", "resource") if scope is Scope.ANY else (own_scope,)
        tables = None if scope is Scope.INTRINSIC else self._tables(signal, window)
        for table in tables or ():
            for (name, own_key, kind), own in table.items():
                if own_key == key and name in scopes:
                    for value, count in own.values.items():
                        if value_text(value).startswith(prefix):
                            counts[kind, value] += count
        if counts:
            return [AttributeValue(*value, count) for value, count in counts.most_common(limit)]
        for record in self._sample(signal, window):
            if signal is Signal.TRACES:
                found = values_of(record, scope, key)
            else:
                found = [
                    attributes[key]
                    for name, attributes in _attributes_in(record, signal)
                    if key in attributes and (name == scope.value or scope is Scope.SPAN)
                ]
            for value in found:
                kind = value_type(value)
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

    def _tables(self, signal: Signal, window: Window) -> list[AttributeTable] | None:
        """Return the attributes of the rollups; None if some have to be made first."""
        try:
            return self._rollups.retry(
                lambda: [one.attributes for one in self._rollups.rollups(signal, window)]
            )
        except PreparingError:
            return None

    def _sample(self, signal: Signal, window: Window) -> list[Any]:
        selection = Selection(window, _SAMPLE, Filter(signals=frozenset({signal})))
        data = self._open().retrieve(selection)
        return [*data.spans, *data.events, *data.metrics]


class _Ranking:
    """The traces that a search has met, by their newest matching spans."""

    def __init__(self, query: TraceQuery) -> None:
        self._query = query
        self._is_match = None if query.condition is None else make_matcher(query.condition)
        #: The time of the newest matching span of each trace that was not looked at as a whole yet.
        self._candidates: dict[int, int] = {}
        self._settled: set[int] = set()
        # With the time of the newest matching span of each.
        self._found: list[tuple[int, FoundTrace]] = []
        self._batch = 1
        self._until = 0

    def add(self, found: FoundSpans) -> None:
        """Add the spans that match."""
        is_match, candidates, settled = self._is_match, self._candidates, self._settled
        for span in found.spans:
            trace_id = trace_id_of(span)
            if trace_id and trace_id not in settled and (is_match is None or is_match(span)):
                start = start_of(span)
                if start >= candidates.get(trace_id, 0):
                    candidates[trace_id] = start

    @property
    def _missing(self) -> int:
        return self._query.limit - len(self._found)

    @property
    def is_full(self) -> bool:
        """True if there are as many traces as were asked for."""
        return self._missing <= 0

    def is_due(self, until: int) -> bool:
        """Return True if enough candidates are certain to be the newest.

        Args:
            until: no span that follows starts later than this.
        """
        self._until = until
        candidates = self._candidates
        if len(candidates) < self._missing:
            return False
        return sum(start >= until for start in candidates.values()) >= self._missing

    @property
    def is_settled(self) -> bool:
        """True if there are enough traces, or no candidates left."""
        return self.is_full or not self._candidates

    def settle(self, scan: SpanScan, is_over: Callable[[], bool], all: bool = False) -> None:
        """Look at the newest candidates as a whole, until there are enough or it is over.

        Args:
            scan: reads them.
            is_over: returns True when no more is to be read than once.
            all: False for only those that are certain to be the newest.
        """
        while not self.is_settled:
            ranked = sorted(self._candidates.items(), key=lambda item: item[1], reverse=True)
            most = max(self._missing, self._batch)
            due = {one: at for one, at in ranked[:most] if all or at >= self._until}
            if not due:
                return
            for trace_id in due:
                del self._candidates[trace_id]
            self._settled.update(due)
            before = len(self._found)
            for trace_id, spans in scan.traces(due).items():
                trace = summarize_trace(spans, self._query)
                if trace is not None:
                    self._found.append((due[trace_id], trace))
            # Of conditions on whole traces, few candidates may meet them.
            is_rare = len(self._found) == before
            self._batch = min(2 * most, _LARGEST_BATCH) if is_rare else self._batch
            if is_over():
                return

    def traces(self) -> list[FoundTrace]:
        """Return the traces that were found, the newest first."""
        ranked = sorted(self._found, key=lambda found: found[0], reverse=True)
        traces = [trace for _, trace in ranked[: self._query.limit]]
        return sorted(traces, key=lambda trace: trace.start, reverse=True)


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


# Attributes of any record.

_PLAIN_TYPES = frozenset({"string", "bool", "int", "double"})


def signal_scope(signal: Signal) -> str:
    """Return the scope of the attributes that records of a signal have themselves."""
    return {Signal.TRACES: "span", Signal.LOGS: "log", Signal.METRICS: "metric"}[signal]


def value_text(value: Any) -> str:
    """Return a plain value as text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _attributes_in(record: Any, signal: Signal) -> Iterator[tuple[str, Mapping[str, Any]]]:
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
        found = [v for v in values_of(span, *wanted.value) if _is_numeric(v)]
        if not found:
            return
        number = found[0]
    group = tuple(next(iter(values_of(span, *field)), None) for field in wanted.by)
    # A tuple would take 1, 1.0 and True for one.
    key = step, tuple((type(value), value) for value in map(_as_dict_key, group))
    cell = cells.get(key)
    if cell is None:
        cell = cells[key] = _CellSum(step, group)
    cell.add(number)


def _as_dict_key(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bytes, type(None))) else repr(value)


def _is_numeric(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
