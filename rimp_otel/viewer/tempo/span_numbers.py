"""Numbers of many spans: by reading them where that is quick, else by SQL over their Parquet copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rimp_otel.errors import MissingExtraError, QueryError
from rimp_otel.viewer.answers.sql import SqlAnswers
from rimp_otel.viewer.questions import PreparingError
from rimp_otel.viewer.search.conditions import INTRINSICS, Scope, to_sql
from rimp_otel.viewer.search.trace_search import Aggregation, Cell, SpanField, TraceSearch

__all__ = ["SpanNumbers", "typed_group_value"]

_QUICK = 0.3  # seconds
_MAX_ROWS = 200_000


class SpanNumbers:
    """Answers aggregations. Thread-safe.

    Args:
        search: reads the spans.
        sql: asks DuckDB; None to do without.
    """

    def __init__(self, search: TraceSearch, sql: SqlAnswers | None = None) -> None:
        self._search = search
        self._sql = sql

    def aggregate(self, wanted: Aggregation, with_buckets: bool = False) -> tuple[list[Cell], bool]:
        """Return the cells of an aggregation, and True if all spans were looked at in time.

        Raises:
            ConfigurationError: the condition is impossible.
            PreparingError: the time was too short, and would be enough once copies are made.
            StorageError: the recording cannot be read.
        """
        statement = None if self._sql is None else _statement_of(wanted, with_buckets)
        if self._sql is None or statement is None:
            return self._search.aggregate(wanted, with_buckets)
        quick = wanted._replace(deadline=min(_QUICK, wanted.deadline))
        cells, is_complete = self._search.aggregate(quick, with_buckets)
        if is_complete:
            return cells, True
        preparing: PreparingError | None = None
        try:
            rows = self._sql.fetch(statement.text, statement.values, _MAX_ROWS)
            if len(rows) < _MAX_ROWS:
                return _cells_of(rows, len(wanted.by)), True
        except PreparingError as error:
            preparing = error
        except (MissingExtraError, QueryError):
            pass
        cells, is_complete = self._search.aggregate(wanted, with_buckets)
        if preparing is not None and not is_complete:
            raise preparing
        return cells, is_complete


class _Parameterized(NamedTuple):
    text: str
    values: list[Any]


_MAPS = {
    Scope.SPAN: ("SpanAttributes", "SpanAttributeTypes"),
    Scope.RESOURCE: ("ResourceAttributes", "ResourceAttributeTypes"),
    Scope.INSTRUMENTATION: ("ScopeAttributes", "ScopeAttributeTypes"),
}


def _statement_of(wanted: Aggregation, with_buckets: bool) -> _Parameterized | None:
    """Return the query for an aggregation; None if one of its fields is in events or links."""
    start, end = wanted.window
    columns: list[str] = []
    values: list[Any] = [start, wanted.step]
    for field in wanted.by:
        found = _field_in_sql(field)
        if found is None:
            return None
        columns += [found.text, _type_in_sql(field)]
        values += [*found.values, *_type_values(field)]
    number = _Parameterized("0.0", [])
    if wanted.value is not None:
        found = _number_in_sql(wanted.value)
        if found is None:
            return None
        number = found
    condition, parameters = ("true", []) if wanted.condition is None else to_sql(wanted.condition)
    names = [f"g{at}" for at in range(len(columns))]
    groups = "".join(f"{column} AS {name}, " for column, name in zip(columns, names, strict=True))
    inner = (
        f"SELECT CAST((epoch_ns(Timestamp) - ?) // ? AS BIGINT) AS step, {groups}"
        f"CAST({number.text} AS DOUBLE) AS v FROM otel_traces"
        f" WHERE Timestamp >= make_timestamp_ns(?) AND Timestamp < make_timestamp_ns(?) AND {condition}"
    )
    keys = ", ".join(["step", *names, _BUCKET if with_buckets else "0"])
    text = (
        f"SELECT {keys}, count(*), sum(v), min(v), max(v) FROM ({inner})"
        f" WHERE isfinite(v) GROUP BY ALL LIMIT {_MAX_ROWS}"
    )
    return _Parameterized(text, [*values, *number.values, start, end, *parameters])


# The smallest exponent of a power of two that is no less; the logarithm may be off by one.
_E = "CAST(ceil(log2(v)) AS INTEGER)"
_BUCKET = (
    f"CASE WHEN v <= 1 THEN 0 WHEN pow(2, {_E} - 1) >= v THEN {_E} - 1"
    f" WHEN pow(2, {_E}) < v THEN {_E} + 1 ELSE {_E} END"
)


_SERVICE = SpanField(Scope.RESOURCE, "service.name")  # which has a column of its own


def _field_in_sql(field: SpanField) -> _Parameterized | None:
    scope, key = field
    if field == _SERVICE:
        return _Parameterized("nullif(ServiceName, '')", [])
    if scope is Scope.INTRINSIC:
        intrinsic = INTRINSICS.get(key)
        if intrinsic is None:
            return None
        return _Parameterized(f"({intrinsic.sql}){'[1]' if intrinsic.is_list else ''}", [])
    if scope is Scope.ANY:
        text = (
            "CASE WHEN map_contains(SpanAttributes, ?) THEN SpanAttributes[?]"
            " ELSE ResourceAttributes[?] END"
        )
        return _Parameterized(text, [key] * 3)
    return _Parameterized(f"{_MAPS[scope][0]}[?]", [key]) if scope in _MAPS else None


def _type_in_sql(field: SpanField) -> str:
    """Return the type of a field's value, as the views have it: NULL for a text."""
    scope, key = field
    if field == _SERVICE:
        return "NULL"
    if scope is Scope.INTRINSIC:
        return "NULL" if INTRINSICS[key].is_text else "'int'"
    if scope is Scope.ANY:
        return (
            "CASE WHEN map_contains(SpanAttributes, ?) THEN SpanAttributeTypes[?]"
            " ELSE ResourceAttributeTypes[?] END"
        )
    return f"{_MAPS[scope][1]}[?]"


def _type_values(field: SpanField) -> list[str]:
    if field == _SERVICE:
        return []
    return [field.key] * {Scope.INTRINSIC: 0, Scope.ANY: 3}.get(field.scope, 1)


def _number_in_sql(field: SpanField) -> _Parameterized | None:
    found = _field_in_sql(field)
    if found is None or field.scope is Scope.INTRINSIC:
        is_text = found is not None and INTRINSICS[field.key].is_text
        return _Parameterized("NULL", []) if is_text else found
    kind = _type_in_sql(field)
    text = f"CASE WHEN {kind} IN ('int', 'double') THEN TRY_CAST({found.text} AS DOUBLE) END"
    return _Parameterized(text, [*_type_values(field), *found.values])


def _cells_of(rows: Sequence[Sequence[Any]], fields: int) -> list[Cell]:
    """Return the cells of rows that have one bucket each."""
    found: dict[tuple[Any, ...], list[Sequence[Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[: 1 + 2 * fields]), []).append(row[1 + 2 * fields :])
    return [_cell_of(key, parts) for key, parts in found.items()]


def _cell_of(key: Sequence[Any], parts: Sequence[Sequence[Any]]) -> Cell:
    step, *pairs = key
    group = tuple(map(typed_group_value, pairs[::2], pairs[1::2]))
    buckets: dict[int, int] = {}
    for exponent, count, *_ in parts:
        buckets[exponent] = buckets.get(exponent, 0) + count
    return Cell(
        step,
        group,
        sum(part[1] for part in parts),
        sum(part[2] for part in parts),
        min(part[3] for part in parts),
        max(part[4] for part in parts),
        buckets,
    )


def typed_group_value(value: Any, kind: str | None) -> Any:
    """Return a value of the views as what it was recorded as, by its type there: None for a text."""
    if value is None or not isinstance(value, str):
        return value
    if kind == "bool":
        return value == "true"
    if kind in ("int", "double"):
        try:
            return int(value) if kind == "int" else float(value)
        except ValueError:
            return value
    return value
