"""Traces and numbers that a TraceQL query asks for, of a recording.

What conditions on single spans can say is left to `TraceSearch`; for all else the traces that may
match are evaluated as a whole.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.accessors import start_of
from rimp_otel.models.times import Window
from rimp_otel.viewer.questions import check_time
from rimp_otel.viewer.search.conditions import TRACE_INTRINSICS, Condition, Scope
from rimp_otel.viewer.search.trace_search import (
    Aggregation,
    Cell,
    FoundTrace,
    SpanField,
    TraceQuery,
    TraceSearch,
    bucket_of,
)
from rimp_otel.viewer.tempo.comparison import ComparedSpans, SpanComparison
from rimp_otel.viewer.tempo.measures import (
    WITH_BUCKETS,
    MeasuredSeries,
    SpanExemplar,
    add_exemplar,
    keep_top,
    series_of,
)
from rimp_otel.viewer.tempo.span_numbers import SpanNumbers
from rimp_otel.viewer.tempo.span_sets import (
    NeededCondition,
    SpanSet,
    TraceTree,
    attributes_in,
    condition_of,
    field_of,
    find_sets,
    is_about_roots,
    is_about_traces,
    needs_trace,
    root_condition,
    root_field,
)
from rimp_otel.viewer.tempo.traceql_tree import (
    Attribute,
    Compare,
    FilterStage,
    Measure,
    Query,
    Select,
    SpansetFilter,
)

__all__ = ["MatchedSpan", "MatchedTrace", "SearchBounds", "TraceQLSearch"]

_DEADLINE = 20.0
_EXEMPLARS_DEADLINE = 2.0
_MAX_CANDIDATES = 5_000
_MAX_MEASURED_TRACES = 5_000


class SearchBounds(NamedTuple):
    """Which traces of those that match are wanted."""

    window: Window = Window()
    limit: int = 20
    #: The most spans of each set that are returned.
    spans_per_set: int = 3
    deadline: float = _DEADLINE


class MatchedSpan(NamedTuple):
    """A span with the values of the attributes that the query mentions."""

    span: ReadableSpan
    values: Mapping[Attribute, Any]


class MatchedSet(NamedTuple):
    """Spans of a trace that belong together."""

    spans: list[MatchedSpan]
    #: How many there are.
    matched: int
    #: Numbers and values of the set as a whole, such as ``count()``.
    attributes: Sequence[tuple[str, Any]]


class MatchedTrace(NamedTuple):
    """A trace that matches a query."""

    trace: FoundTrace
    sets: list[MatchedSet]


class TraceQLSearch:
    """Answers TraceQL queries. Thread-safe.

    Args:
        search: finds traces of the recording.
        numbers: aggregates its spans.
        comparison: compares them.
        monotonic: returns seconds that never go back, for deadlines.
    """

    def __init__(
        self,
        search: TraceSearch,
        numbers: SpanNumbers,
        comparison: SpanComparison,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._search = search
        self._numbers = numbers
        self._comparison = comparison
        self._monotonic = monotonic

    def find(self, query: Query, selection: SearchBounds) -> tuple[list[MatchedTrace], bool]:
        """Return the newest traces that match, and True if all of the window was searched in time.

        Raises:
            ConfigurationError: the query measures, or cannot be answered.
            StorageError: the recording cannot be read.
        """
        if query.measure is not None:
            raise ConfigurationError("this query makes numbers of spans: ask /api/metrics for them")
        attributes = attributes_in(query)
        needed = _needed(query)
        if needed.is_enough and _is_simple(query):
            return self._find_directly(needed.condition, selection, attributes)
        found: list[MatchedTrace] = []
        is_complete = True
        for candidate in self._candidates(needed.condition, selection):
            if candidate is None:
                is_complete = False
                break
            check_time()
            tree = TraceTree(candidate.all_spans)
            sets = find_sets(query.stages, tree)
            if sets:
                found.append(_matched_trace(candidate, sets, tree, attributes, selection))
                if len(found) >= selection.limit:
                    break
        return found, is_complete

    def _find_directly(
        self,
        condition: Condition | None,
        selection: SearchBounds,
        attributes: Sequence[Attribute],
    ) -> tuple[list[MatchedTrace], bool]:
        found = self._search.find(
            TraceQuery(
                selection.window,
                condition,
                selection.limit,
                selection.spans_per_set,
                selection.deadline,
            )
        )
        return [_directly_matched(trace, attributes) for trace in found.traces], found.is_complete

    def _candidates(
        self, condition: Condition | None, selection: SearchBounds
    ) -> Iterator[FoundTrace | None]:
        """Yield the traces that may match, the newest first, and None at last if time was too short."""
        until = self._monotonic() + selection.deadline
        seen: set[int] = set()
        number = max(selection.limit, 20)
        while True:
            left = until - self._monotonic()
            found = self._search.find(
                TraceQuery(selection.window, condition, number, 0, max(left, 0.0))
            )
            for trace in found.traces:
                if trace.trace_id not in seen:
                    seen.add(trace.trace_id)
                    yield trace
            if not found.is_complete or number >= _MAX_CANDIDATES:
                yield None
                return
            if len(found.traces) < number:
                return
            number = min(4 * number, _MAX_CANDIDATES)

    def measure(
        self, query: Query, window: Window, step: int, exemplars: int = 0
    ) -> list[MeasuredSeries]:
        """Return the series of a query that measures.

        Args:
            query: the query.
            window: the times, in nanoseconds; a span counts when it starts in it.
            step: the length of a step in nanoseconds.
            exemplars: the most spans to name, of measures of a number.

        Raises:
            ConfigurationError: the query does not measure, or cannot be answered (in time).
            StorageError: the recording cannot be read.
        """
        assert window.start is not None
        assert window.end is not None
        steps = -(-(window.end - window.start) // step)
        if query.measure is None:
            raise ConfigurationError("this query makes no numbers: add one such as | rate()")
        if isinstance(query.measure, Compare):
            return self._compare(query, query.measure, window, step)
        cells = self._cells(query, query.measure, window, step)
        series = series_of(query.measure, cells, step, steps)
        for top in query.tops:
            series = keep_top(series, top, steps)
        if exemplars and series and query.measure.attribute is not None:
            self._add_exemplars(series, query, query.measure, window, exemplars)
        return series

    def _add_exemplars(
        self,
        series: list[MeasuredSeries],
        query: Query,
        measure: Measure,
        window: Window,
        number: int,
    ) -> None:
        assert measure.attribute is not None
        shown = Select((measure.attribute, *measure.by))
        traces, _ = self.find(
            Query((*query.stages, shown)), SearchBounds(window, number, 1, _EXEMPLARS_DEADLINE)
        )
        for trace in traces:
            for found in trace.sets[0].spans:
                value, start = found.values.get(measure.attribute), start_of(found.span)
                if isinstance(value, (int, float)) and window.contains(start):
                    group = [found.values.get(attribute) for attribute in measure.by]
                    one = SpanExemplar(trace.trace.trace_id, start, 0.0)
                    add_exemplar(series, measure, group, value, one)

    def _cells(self, query: Query, measure: Measure, window: Window, step: int) -> list[Cell]:
        needed = _needed(query)
        aggregation = _aggregation_of(needed.condition, measure, window, step)
        if aggregation is not None and needed.is_enough and _is_simple(query):
            return self._aggregate(aggregation, measure.function in WITH_BUCKETS)
        return self._cells_of_traces(query, measure, window, step, needed)

    def _aggregate(self, aggregation: Aggregation, with_buckets: bool = False) -> list[Cell]:
        cells, is_complete = self._numbers.aggregate(aggregation, with_buckets)
        if not is_complete:
            raise _too_much("spans")
        return cells

    def _cells_of_traces(
        self, query: Query, measure: Measure, window: Window, step: int, needed: NeededCondition
    ) -> list[Cell]:
        question = TraceQuery(window, needed.condition, _MAX_MEASURED_TRACES + 1, 0, _DEADLINE)
        found = self._search.find(question)
        if not found.is_complete or len(found.traces) > _MAX_MEASURED_TRACES:
            raise _too_much("traces")
        assert window.start is not None
        sums: dict[Any, _Sum] = {}
        for trace in found.traces:
            check_time()
            tree = TraceTree(trace.all_spans)
            for at in {at for one in find_sets(query.stages, tree) for at in one.positions}:
                start = start_of(tree.spans[at])
                if window.contains(start):
                    _add_span(sums, measure, tree, at, (start - window.start) // step)
        return [one.finish() for one in sums.values()]

    def _compare(
        self, query: Query, wanted: Compare, window: Window, step: int
    ) -> list[MeasuredSeries]:
        base, chosen = _needed(query), condition_of(wanted.selection)
        is_enough = base.is_enough and _is_simple(query) and chosen.is_enough
        if not is_enough:
            raise _about_traces()
        start, end = wanted.start or None, wanted.end or None
        conditions = [base.condition, chosen.condition]
        if is_about_roots(base.condition):
            conditions = [None if c is None else root_condition(c) for c in conditions]
        if any(map(is_about_traces, conditions)):
            raise _about_traces()
        everything, selected = conditions
        spans = ComparedSpans(window, step, everything, selected, Window(start, end), wanted.top)
        series = self._comparison.compare(spans)
        if series is None:
            raise _too_much("spans")
        return series


def _aggregation_of(
    condition: Condition | None, measure: Measure, window: Window, step: int
) -> Aggregation | None:
    """Return the aggregation of single spans that measures the same; None if there is none."""
    fields = []
    for attribute in (*measure.by, *([] if measure.attribute is None else [measure.attribute])):
        field = field_of(attribute)
        if field is None or attribute == Attribute("intrinsic", "nestedSetParent"):
            return None
        fields.append(field)
    if condition is not None and is_about_roots(condition):
        condition = root_condition(condition)
        fields = [root_field(*field) for field in fields]
    is_of_traces = any(s is Scope.INTRINSIC and key in TRACE_INTRINSICS for s, key in fields)
    if is_of_traces or is_about_traces(condition):
        return None
    names = [SpanField(*field) for field in fields]
    value = None if measure.attribute is None else names.pop()
    return Aggregation(window, step, condition, tuple(names), value, _DEADLINE)


def _about_traces() -> ConfigurationError:
    return ConfigurationError("compare() takes filters that look at single spans only")


def _too_much(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"too many {what} to measure in time: ask for a shorter time, or filter"
    )


def _needed(query: Query) -> NeededCondition:
    first = query.stages[0]
    return (
        condition_of(first.spanset)
        if isinstance(first, FilterStage)
        else NeededCondition(None, False)
    )


def _is_simple(query: Query) -> bool:
    """Return True if all that a query does to spans is one filter."""
    first, *others = query.stages
    is_filter = isinstance(first, FilterStage) and isinstance(first.spanset, SpansetFilter)
    return is_filter and all(isinstance(stage, Select) for stage in others)


def _directly_matched(trace: FoundTrace, attributes: Sequence[Attribute]) -> MatchedTrace:
    tree = TraceTree(trace.all_spans)
    if needs_trace(attributes):
        positions = {id(span): at for at, span in enumerate(tree.spans)}
        spans = [_matched_span(tree, positions[id(span)], attributes) for span in trace.matched]
    else:
        single = TraceTree(trace.matched)
        single.facts = tree.facts
        spans = [_matched_span(single, at, attributes) for at in range(len(trace.matched))]
    return MatchedTrace(trace, [MatchedSet(spans, trace.matched_count, ())])


def _matched_trace(
    trace: FoundTrace,
    sets: Sequence[SpanSet],
    tree: TraceTree,
    attributes: Sequence[Attribute],
    selection: SearchBounds,
) -> MatchedTrace:
    made = [
        MatchedSet(
            [
                _matched_span(tree, at, attributes)
                for at in one.positions[: selection.spans_per_set]
            ],
            len(one.positions),
            one.attributes,
        )
        for one in sets
    ]
    return MatchedTrace(trace, made)


def _matched_span(tree: TraceTree, at: int, attributes: Sequence[Attribute]) -> MatchedSpan:
    values = {}
    for attribute in attributes:
        found = tree.values(at, attribute)
        if found:
            values[attribute] = found[0]
    return MatchedSpan(tree.spans[at], values)


# Numbers of spans.


class _Sum:
    """The sum of one step and group, of spans that were evaluated as parts of their traces."""

    def __init__(self, step: int, group: tuple[Any, ...]) -> None:
        self._step, self._group = step, group
        self._numbers: list[float] = []
        self._buckets: Counter[int] = Counter()

    def add(self, number: float) -> None:
        self._numbers.append(number)
        self._buckets[bucket_of(number)] += 1

    def finish(self) -> Cell:
        numbers = self._numbers
        return Cell(
            self._step,
            self._group,
            len(numbers),
            math.fsum(numbers),
            min(numbers),
            max(numbers),
            self._buckets,
        )


def _add_span(sums: dict[Any, _Sum], measure: Measure, tree: TraceTree, at: int, step: int) -> None:
    number = 0.0
    if measure.attribute is not None:
        values = [
            value
            for value in tree.values(at, measure.attribute)
            if isinstance(value, (int, float))
            and not isinstance(value, bool)
            and math.isfinite(value)
        ]
        if not values:
            return
        number = values[0]
    group = tuple(next(iter(tree.values(at, attribute)), None) for attribute in measure.by)
    key = step, repr(group)
    if key not in sums:
        sums[key] = _Sum(step, group)
    sums[key].add(number)
