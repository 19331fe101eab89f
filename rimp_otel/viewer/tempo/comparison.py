"""What differs between spans that a filter selects and the others: TraceQL's ``compare()``.

All values of all attributes are counted, by one pass over the spans, or by SQL over Parquet copies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

from rimp_otel.errors import MissingExtraError, QueryError
from rimp_otel.models.accessors import start_of
from rimp_otel.models.times import Window
from rimp_otel.storage.base import Selection
from rimp_otel.viewer.answers.sql import SqlAnswers
from rimp_otel.viewer.questions import PreparingError, open_watched
from rimp_otel.viewer.search.conditions import (
    Condition,
    Scope,
    filter_of,
    make_matcher,
    to_sql,
    values_of,
)
from rimp_otel.viewer.tempo.measures import MeasuredSeries
from rimp_otel.viewer.tempo.span_numbers import typed_group_value
from rimp_otel.viewer.tempo.traceql_tree import Attribute, format_expression

__all__ = ["ComparedSpans", "SpanComparison"]

# Seconds.
_QUICK, _LONG = 0.3, 20.0
_MAX_ROWS = 200_000
_INTRINSICS = {
    "name": "SpanName",
    "kind": "lower(SpanKind)",
    "status": "lower(StatusCode)",
    "statusMessage": "StatusMessage",
}


class ComparedSpans(NamedTuple):
    """Which spans are compared."""

    #: With both ends.
    window: Window
    #: In nanoseconds.
    step: int
    #: What all of them meet, and what the selected ones meet besides.
    base: Condition | None
    selection: Condition | None
    #: In which spans are selected.
    selected: Window
    #: How many values of each attribute are of interest.
    top: int


class SpanComparison:
    """Answers comparisons. Thread-safe.

    Args:
        path: of the recording.
        sql: asks DuckDB; None to do without.
        monotonic: returns seconds that never go back, for deadlines.
    """

    def __init__(
        self,
        path: Path,
        sql: SqlAnswers | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._sql = sql
        self._monotonic = monotonic

    def compare(self, wanted: ComparedSpans) -> list[MeasuredSeries] | None:
        """Return series as Tempo does: the most frequent values of both sides, and their totals.

        None if there are too many spans to count in time.

        Raises:
            ConfigurationError: a condition is impossible.
            PreparingError: the time was too short, and would be enough once copies are made.
            StorageError: the recording cannot be read.
        """
        counts = self._read(wanted, _QUICK if self._sql else _LONG)
        if counts is not None:
            return counts.series()
        if self._sql is None:
            return None
        preparing: PreparingError | None = None
        try:
            rows = self._sql.fetch(*_statement_of(wanted), _MAX_ROWS)
            if len(rows) < _MAX_ROWS:
                return _counts_of(wanted, rows).series()
        except PreparingError as error:
            preparing = error
        except (MissingExtraError, QueryError):
            pass
        counts = self._read(wanted, _LONG)
        if counts is None and preparing is not None:
            raise preparing
        return None if counts is None else counts.series()

    def _read(self, wanted: ComparedSpans, deadline: float) -> _Counts | None:
        until = self._monotonic() + deadline
        counts = _Counts(wanted)
        is_base = _matcher(wanted.base)
        is_selected = _matcher(wanted.selection)
        selection = Selection(wanted.window, None, filter_of(wanted.base))
        start = wanted.window.start or 0
        for batch in open_watched(self._path).batches(selection):
            for span in batch.spans:
                time = start_of(span)
                if wanted.window.contains(time) and is_base(span):
                    is_chosen = wanted.selected.contains(time) and is_selected(span)
                    step = (time - start) // wanted.step
                    for attribute, value in _values_in(span):
                        counts.add(attribute, is_chosen, value, step, 1)
                        counts.add_total(attribute, is_chosen, step, 1)
            if self._monotonic() > until:
                return None
        return counts


def _matcher(condition: Condition | None) -> Callable[[ReadableSpan], bool]:
    return (lambda span: True) if condition is None else make_matcher(condition)


def _values_in(span: ReadableSpan) -> Iterator[tuple[Attribute, Any]]:
    for key in _INTRINSICS:
        for value in values_of(span, Scope.INTRINSIC, key):
            if value != "":
                yield Attribute("intrinsic", key), value
    scope = span.instrumentation_scope
    owners: list[tuple[str, Mapping[str, Any] | None]] = [
        ("span", span.attributes),
        ("resource", span.resource.attributes),
        ("instrumentation", scope.attributes if scope else None),
        *(("event", event.attributes) for event in span.events),
        *(("link", link.attributes) for link in span.links),
    ]
    for name, attributes in owners:
        for key, value in (attributes or {}).items():
            if isinstance(value, (str, int, float)) and value != "":
                yield Attribute(name, key), value


class _Counts:
    """Counts of values by attribute, of the selected spans and of the others."""

    def __init__(self, wanted: ComparedSpans) -> None:
        start, end = wanted.window.start or 0, wanted.window.end or 0
        self._steps = -(-(end - start) // wanted.step)
        self._top = wanted.top
        self._values: dict[tuple[Attribute, bool], dict[Any, list[float]]] = {}
        self._totals: dict[tuple[Attribute, bool], list[float]] = {}

    def add(
        self, attribute: Attribute, is_selected: bool, value: Any, step: int, count: int
    ) -> None:
        """Add spans that have a value."""
        own = self._values.setdefault((attribute, is_selected), {})
        own.setdefault((type(value), value), [0.0] * self._steps)[step] += count

    def add_total(self, attribute: Attribute, is_selected: bool, step: int, count: int) -> None:
        """Add spans that have any value."""
        own = self._totals.setdefault((attribute, is_selected), [0.0] * self._steps)
        own[step] += count

    def series(self) -> list[MeasuredSeries]:
        """Return what was counted; an attribute with more values than are of interest is marked."""
        found = []
        for attribute in sorted({attribute for attribute, _ in self._totals}):
            name, most = format_expression(attribute), 0
            for is_selected, kind in ((False, "baseline"), (True, "selection")):
                values = self._values.get((attribute, is_selected), {})
                most = max(most, len(values))
                ranked = sorted(values.items(), key=lambda item: (-sum(item[1]), str(item[0][1])))
                for (_, value), counts in ranked[: self._top]:
                    found.append(_compared_series(kind, name, value, counts))
                if total := self._totals.get((attribute, is_selected)):
                    found.append(_compared_series(f"{kind}_total", name, None, total))
            if most > self._top:
                labels = (("__meta_error", "__too_many_values__"), (name, None))
                found.append(MeasuredSeries(labels, []))
        return found


def _compared_series(kind: str, name: str, value: Any, counts: Sequence[float]) -> MeasuredSeries:
    return MeasuredSeries((("__meta_type", kind), (name, value)), list(counts))


# By SQL.

_ATTRIBUTE_COLUMNS = {
    "span": ("SpanAttributes", "SpanAttributeTypes"),
    "resource": ("ResourceAttributes", "ResourceAttributeTypes"),
    "instrumentation": ("ScopeAttributes", "ScopeAttributeTypes"),
}
_ITEM_COLUMNS = {"event": "Events", "link": "Links"}


def _statement_of(wanted: ComparedSpans) -> tuple[str, list[Any]]:
    """Return the query for rows of step, side, scope, key, value, type and count.

    Of each attribute and side, one value more than are of interest; with a type of "total", the sum of all.
    """
    start, end = wanted.window
    base, base_values = ("true", []) if wanted.base is None else to_sql(wanted.base)
    chosen, values = ("true", []) if wanted.selection is None else to_sql(wanted.selection)
    times: list[Any] = []
    for bound, operator in ((wanted.selected.start, ">="), (wanted.selected.end, "<")):
        if bound is not None:
            chosen += f" AND Timestamp {operator} make_timestamp_ns(?)"
            times.append(bound)
    spans = (
        f"SELECT CAST((epoch_ns(Timestamp) - ?) // ? AS BIGINT) AS step, ({chosen}) AS sel, *"
        " FROM otel_traces WHERE Timestamp >= make_timestamp_ns(?)"
        f" AND Timestamp < make_timestamp_ns(?) AND {base}"
    )
    text = (
        f"WITH s AS NOT MATERIALIZED ({spans}),"
        f" g AS MATERIALIZED (SELECT step, sel, scope, k, v, t, count(*) AS n FROM ({_SOURCES})"
        " WHERE v <> '' AND coalesce(t, '') NOT IN ('array', 'kvlist', 'bytes') GROUP BY ALL),"
        " r AS (SELECT *, sum(n) OVER (PARTITION BY scope, k, sel, v, t) AS total FROM g),"
        " q AS (SELECT *, dense_rank() OVER (PARTITION BY scope, k, sel"
        " ORDER BY total DESC, v, t) AS place FROM r)"
        f" SELECT step, sel, scope, k, v, t, n FROM q WHERE place <= {wanted.top + 1}"
        " UNION ALL SELECT step, sel, scope, k, NULL, 'total', CAST(sum(n) AS BIGINT) FROM g"
        f" GROUP BY step, sel, scope, k LIMIT {_MAX_ROWS}"
    )
    return text, [start, wanted.step, *values, *times, start, end, *base_values]


_SOURCES = " UNION ALL ".join(
    [
        *(
            f"SELECT step, sel, 'intrinsic' AS scope, '{key}' AS k, {column} AS v, NULL AS t FROM s"
            for key, column in _INTRINSICS.items()
        ),
        *(
            f"SELECT step, sel, '{scope}', e.key, e.value, m[e.key] FROM (SELECT step, sel,"
            f" {types} AS m, unnest(map_entries({column})) AS e FROM s)"
            for scope, (column, types) in _ATTRIBUTE_COLUMNS.items()
        ),
        *(
            f"SELECT step, sel, '{scope}', e.key, e.value, p[2][e.key] FROM (SELECT step, sel, p,"
            " unnest(map_entries(p[1])) AS e FROM (SELECT step, sel, unnest(list_zip("
            f"{items}.Attributes, {items}.AttributeTypes)) AS p FROM s))"
            for scope, items in _ITEM_COLUMNS.items()
        ),
    ]
)


def _counts_of(wanted: ComparedSpans, rows: Sequence[Sequence[Any]]) -> _Counts:
    counts = _Counts(wanted)
    for step, is_selected, scope, key, value, kind, number in rows:
        attribute = Attribute(scope, key)
        if kind == "total":
            counts.add_total(attribute, bool(is_selected), step, number)
        else:
            typed = typed_group_value(value, kind)
            counts.add(attribute, bool(is_selected), typed, step, number)
    return counts
