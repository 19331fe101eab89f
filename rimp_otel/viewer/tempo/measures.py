"""Series of a TraceQL query that measures, of the numbers of spans by step and group.

As Tempo makes them: labels, powers of two as the buckets of histograms and quantiles, durations in
seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rimp_otel.viewer.search.trace_search import Cell, bucket_of
from rimp_otel.viewer.tempo.traceql_tree import (
    INTRINSICS,
    Attribute,
    Measure,
    TopSeries,
    format_expression,
)

__all__ = [
    "WITH_BUCKETS",
    "MeasuredSeries",
    "SpanExemplar",
    "add_exemplar",
    "keep_top",
    "series_of",
]


class SpanExemplar(NamedTuple):
    """One of the spans that a series is about."""

    trace_id: int
    #: The span's start, in nanoseconds since the epoch.
    time: int
    value: float


class MeasuredSeries(NamedTuple):
    """A line of a diagram: its labels, and a value for each step; None for no value."""

    labels: tuple[tuple[str, Any], ...]
    values: list[float | None]
    exemplars: tuple[SpanExemplar, ...] = ()


WITH_BUCKETS = frozenset({"quantile_over_time", "histogram_over_time"})
_SECOND = 1e9


def series_of(
    measure: Measure, cells: Sequence[Cell], step: int, steps: int
) -> list[MeasuredSeries]:
    """Return the series of a measure.

    Args:
        measure: what is measured.
        cells: of the spans, with buckets for the functions ``WITH_BUCKETS``.
        step: the length of a step in nanoseconds.
        steps: how many there are.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        if 0 <= cell.step < steps:
            groups.setdefault(repr(cell.group), []).append(cell)
    unit = _SECOND if _is_duration(measure.attribute) else 1.0
    names = [format_expression(attribute) for attribute in measure.by]
    found: list[MeasuredSeries] = []
    for own in groups.values():
        labels = tuple(zip(names, own[0].group, strict=True))
        if measure.function == "quantile_over_time":
            found += _quantile_series(own, measure.quantiles, labels, unit, steps)
        elif measure.function == "histogram_over_time":
            found += _histogram_series(own, labels, unit, steps)
        else:
            named = labels or (("__name__", measure.function),)
            found.append(
                MeasuredSeries(named, _step_values(measure.function, own, unit, step, steps))
            )
    return found


def add_exemplar(
    series: list[MeasuredSeries],
    measure: Measure,
    group: Sequence[Any],
    number: float,
    one: SpanExemplar,
) -> None:
    """Add an exemplar to the series that its span counts in.

    Args:
        series: of the measure; the one in question is replaced.
        measure: what is measured.
        group: the span's values of what the measure is by.
        number: what is measured of the span, which becomes the exemplar's value.
        one: the exemplar.
    """
    unit = _SECOND if _is_duration(measure.attribute) else 1.0
    names = [format_expression(attribute) for attribute in measure.by]
    labels = tuple(zip(names, group, strict=True)) or (("__name__", measure.function),)
    if measure.function == "histogram_over_time":
        labels = (*labels[: len(names)], ("__bucket", 2.0 ** bucket_of(number) / unit))
    elif measure.function == "quantile_over_time":
        labels = (*labels[: len(names)], ("p", measure.quantiles[0]))
    for at, own in enumerate(series):
        if own.labels == labels:
            exemplars = (*own.exemplars, one._replace(value=number / unit))
            series[at] = own._replace(exemplars=exemplars)


def _is_duration(attribute: Attribute | None) -> bool:
    return (
        attribute is not None
        and attribute.scope == "intrinsic"
        and INTRINSICS[attribute.key] == "duration"
    )


def _step_values(
    function: str, cells: Sequence[Cell], unit: float, step: int, steps: int
) -> list[float | None]:
    is_count = function in ("rate", "count_over_time")
    values: list[float | None] = [0.0 if is_count else None] * steps
    for cell in cells:
        values[cell.step] = _step_value(function, cell, unit, step)
    return values


def _step_value(function: str, cell: Cell, unit: float, step: int) -> float:
    if function == "rate":
        return cell.count * _SECOND / step
    if function == "count_over_time":
        return float(cell.count)
    if function == "avg_over_time":
        return cell.sum / cell.count / unit
    numbers = {"sum_over_time": cell.sum, "min_over_time": cell.min, "max_over_time": cell.max}
    return numbers[function] / unit


def _quantile_series(
    cells: Sequence[Cell],
    quantiles: Sequence[float],
    labels: tuple[tuple[str, Any], ...],
    unit: float,
    steps: int,
) -> Iterator[MeasuredSeries]:
    for quantile in quantiles:
        values: list[float | None] = [None] * steps
        for cell in cells:
            values[cell.step] = _quantile_of(cell, quantile) / unit
        yield MeasuredSeries((*labels, ("p", quantile)), values)


def _quantile_of(cell: Cell, quantile: float) -> float:
    """Return a quantile as Tempo estimates it: within powers of two, on a logarithmic scale."""
    wanted = quantile * cell.count
    below = 0
    for exponent, count in sorted(cell.buckets.items()):
        if below + count >= wanted:
            fraction = max(wanted - below, 0.0) / count
            return float(min(max(2.0 ** (exponent - 1 + fraction), cell.min), cell.max))
        below += count
    return float(cell.max)


def _histogram_series(
    cells: Sequence[Cell], labels: tuple[tuple[str, Any], ...], unit: float, steps: int
) -> Iterator[MeasuredSeries]:
    for exponent in sorted({exponent for cell in cells for exponent in cell.buckets}):
        values: list[float | None] = [0.0] * steps
        for cell in cells:
            values[cell.step] = float(cell.buckets.get(exponent, 0))
        yield MeasuredSeries((*labels, ("__bucket", 2.0**exponent / unit)), values)


def keep_top(series: Sequence[MeasuredSeries], top: TopSeries, steps: int) -> list[MeasuredSeries]:
    """Return the series that have one of the largest or smallest values, with those values alone."""
    kept = [MeasuredSeries(one.labels, [None] * steps) for one in series]
    for step in range(steps):
        ranked = [
            (value, -at) for at, one in enumerate(series) if (value := one.values[step]) is not None
        ]
        ranked.sort(reverse=top.function == "topk")
        for value, negative in ranked[: top.number]:
            kept[-negative].values[step] = value
    return [one for one in kept if any(value is not None for value in one.values)]
