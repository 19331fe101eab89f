"""``rimp metrics``: list the metrics, or show the series of one over time."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rimp_otel.analysis.metrics import (
    CombinedSeries,
    Distribution,
    combine_series,
    metric_series,
)
from rimp_otel.analysis.summaries import MetricSummary, summarize_metrics
from rimp_otel.cli.options import (
    UsageError,
    add_filter_options,
    add_number_option,
    add_output_options,
    filter_from_args,
    line_test_of,
    output_width,
    path_from_args,
    style_from_args,
    window_from_args,
)
from rimp_otel.cli.output import (
    open_recording_at,
    read_batches,
    report_damage,
)
from rimp_otel.models.accessors import service_of
from rimp_otel.models.records import MetricKind, Signal, SummaryPoint, TelemetryMetric
from rimp_otel.models.times import Window
from rimp_otel.render.format import format_bytes, format_number, format_time, format_utc
from rimp_otel.render.terminal import (
    Column,
    Style,
    clip_text,
    display_width,
    format_table,
    look_of_service,
    to_json,
)

__all__ = [
    "HISTORY_LENGTH",
    "add_metrics_arguments",
    "format_metrics",
    "format_series",
    "series_json",
]

HISTORY_LENGTH = 40
"""The number of equal parts of time that a series' history is divided into."""
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

_METRIC_COLUMNS = (
    Column("NAME", look="bold"),
    Column("KIND"),
    Column("UNIT"),
    Column("SERIES", is_number=True),
    Column("POINTS", is_number=True),
    Column("LAST", look="dim"),
    Column("SERVICES"),
)


def add_metrics_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp metrics``."""
    parser.description = (
        "List the recorded metrics, or show each series of one metric: its newest value, rate,\n"
        "percentiles and course over time, of all instances of a service together."
    )
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="metric to show; * matches any text (default: list all metrics)",
    )
    add_number_option(parser, "number of series to show, or all (default: 50)", 50)
    parser.add_argument(
        "--by",
        metavar="ATTR",
        action="append",
        help="add up series, except by this attribute, or by 'instance'; repeatable",
    )
    add_filter_options(parser)
    add_output_options(parser, "each metric or series")
    parser.set_defaults(command=_run_metrics)


def _run_metrics(args: argparse.Namespace) -> int:
    path = path_from_args(args)
    window, wanted = window_from_args(args), filter_from_args(args, "metrics")
    if args.by and args.name is None:
        raise UsageError("--by needs the NAME of a metric: list them with 'rimp metrics'")
    recording = open_recording_at(path, is_wanted=line_test_of(wanted))
    points = (
        point
        for data in read_batches(recording, window, (Signal.METRICS,))
        for point in data.metrics
        if window.contains(point.time_unix_nano) and wanted.matches(point)
    )
    if args.name is None:
        metrics = summarize_metrics(points)
        has_points, lines = bool(metrics), _metric_lines(metrics, args)
    else:
        found = list(points)
        has_points, lines = bool(found), _series_lines(found, window, args)
    for line in lines:
        print(line)
    report_damage(recording)
    if not has_points:
        from rimp_otel.cli.suggestions import warn_of_unknown_names

        warn_of_unknown_names(args, path, (Signal.METRICS,))
    return 0


def _metric_lines(metrics: list[MetricSummary], args: argparse.Namespace) -> Iterable[str]:
    if args.json:
        return [to_json(metric.as_json()) for metric in metrics]
    return format_metrics(metrics, output_width(), style_from_args(args))


def _series_lines(
    points: list[TelemetryMetric], window: Window, args: argparse.Namespace
) -> Iterator[str]:
    if not points:
        if not args.json:
            yield "no data points"
        return
    times = [point.time_unix_nano for point in points]
    first, last = window.start or min(times), window.end or max(times)
    series = combine_series(metric_series(points, window.start or 0), args.by)
    shown = series[: args.number]
    if args.json:
        yield from (to_json(series_json(one, first, last)) for one in shown)
        return
    yield from format_series(shown, first, last, output_width(), style_from_args(args))
    if len(shown) < len(series):
        more = len(series) - len(shown)
        yield f"and {more:,} more: select some with --attr, or show all with -n all"


def format_metrics(metrics: list[MetricSummary], width: int, style: Style) -> list[str]:
    """Return a table of the metrics."""
    if not metrics:
        return ["no metrics"]
    rows = [
        (
            style.clean(metric.name) or "(no name)",
            metric.kind.replace("_", " "),
            style.clean(metric.unit),
            f"{len(metric.series):,}",
            f"{metric.points:,}",
            format_time(metric.last, "%m-%d %H:%M:%S"),
            ", ".join(style.clean(service) or "(no service)" for service in metric.services),
        )
        for metric in metrics
    ]
    return format_table(_METRIC_COLUMNS, rows, width, style)


def format_series(
    series: Sequence[CombinedSeries], first: int, last: int, width: int, style: Style
) -> list[str]:
    """Return two lines for each series, under a heading for each metric."""
    lines: list[str] = []
    before, resources = None, _resources_by_label(series)
    for one in series:
        metric = one.last
        if (metric.name, metric.kind, metric.unit) != before:
            before = (metric.name, metric.kind, metric.unit)
            lines += [*([""] if lines else []), *_metric_heading(one, first, last, width, style)]
        lines += _format_one_series(one, resources, first, last, width, style)
    return lines


def _metric_heading(
    one: CombinedSeries, first: int, last: int, width: int, style: Style
) -> list[str]:
    metric, between = one.last, style.glyphs.between
    facts = [metric.kind.value.replace("_", " ")]
    if metric.temporality:
        facts.append(metric.temporality.name.lower())
    if metric.kind is MetricKind.SUM and metric.is_monotonic:
        facts.append("monotonic")
    if metric.unit:
        facts.append(style.clean(metric.unit))
    facts.append(f"{format_time(first)} to {format_time(last)} ({style.duration(last - first)})")
    head = style.paint(style.clean(metric.name) or "(no name)", "bold")
    about = clip_text(style.clean(metric.description), width, style.glyphs.ellipsis)
    return [head, style.paint(between.join(facts), "dim"), *([about] if about else [])]


def _format_one_series(
    one: CombinedSeries, resources: _Resources, first: int, last: int, width: int, style: Style
) -> list[str]:
    service = style.clean(service_of(one.last)) or "(no service)"
    pairs = style.pairs({**one.attributes, **_distinguishing_attributes(one, resources)})
    label = "  ".join([style.paint(service, look_of_service(service_of(one.last))), *pairs])
    if one.instances > 1:
        label += style.paint(f"  ({one.instances:,} instances)", "dim")
    facts = "  ".join(_series_statistics(one, style))
    used = display_width("  ".join(_series_statistics(one, style._replace(color=False))))
    cells = min(HISTORY_LENGTH, max(width - used - 4, 8))
    spark = style.sparkline(one.history(first, last, cells)) if one.points > 1 else ""
    return [label, f"  {facts}  {style.paint(spark, 'cyan')}".rstrip()]


_Resources = dict[tuple[str, str, str], list[Mapping[str, Any]]]


def _resources_by_label(series: Sequence[CombinedSeries]) -> _Resources:
    """Return the resources of the series that share metric, service and attributes."""
    found: _Resources = {}
    for one in series:
        found.setdefault(_series_label(one), []).append(one.resource)
    return found


def _series_label(one: CombinedSeries) -> tuple[str, str, str]:
    return one.last.name, service_of(one.last), repr(one.attributes)


def _distinguishing_attributes(one: CombinedSeries, resources: _Resources) -> Mapping[str, Any]:
    """Return the attributes of the resource, such as the process id, that similar series lack."""
    others = resources[_series_label(one)]
    return {
        key: value
        for key, value in one.resource.items()
        if any(key not in other or other[key] != value for other in others)
    }


def _series_statistics(one: CombinedSeries, style: Style) -> list[str]:
    metric, unit = one.last, one.last.unit
    if one.is_distribution:
        return _distribution_statistics(one, unit, style)
    if isinstance(metric.point, SummaryPoint):
        quantiles = [
            f"p{share * 100:g} {_format_amount(q, unit, style)}"
            for share, q in _quantiles_of(one).items()
        ]
        count = sum(_count_of_summary(member.last) for member in one.members)
        return [f"n={count:,}", *_format_rate(one, "", style), *quantiles]
    newest = one.value()
    value = "no value" if newest is None else _format_amount(newest, unit, style)
    return [
        "mean " * one.is_mean + style.paint(value, "bold"),
        *(_format_rate(one, unit, style) or _format_extremes(one, unit, style)),
    ]


def _quantiles_of(one: CombinedSeries) -> dict[float, float]:
    """Return the quantiles of a summary; those of several cannot be told from theirs."""
    point = one.last.point
    is_alone = len(one.members) == 1
    return dict(point.quantiles) if is_alone and isinstance(point, SummaryPoint) else {}


def _count_of_summary(metric: TelemetryMetric) -> int:
    return metric.point.count if metric.point else 0


def _distribution_statistics(one: CombinedSeries, unit: str, style: Style) -> list[str]:
    total = one.distribution()
    if total is None or not total.count:
        return ["n=0"]
    facts = [f"n={total.count:,}", *_format_rate(one, "", style)]
    if total.mean is not None:
        facts.append(f"mean {_format_amount(total.mean, unit, style)}")
    quantiles = {name: total.quantile(share) for name, share in _QUANTILES.items() if name != "p90"}
    facts += [
        style.paint(f"{name} {_format_amount(value, unit, style)}", "bold")
        for name, value in quantiles.items()
        if value is not None
    ]
    return facts if total.max is None else [*facts, f"max {_format_amount(total.max, unit, style)}"]


def _format_rate(one: CombinedSeries, unit: str, style: Style) -> list[str]:
    rate = one.rate() if one.adds_up else None
    return [] if rate is None else [f"{_format_amount(_round_rate(rate), unit, style)}/s"]


def _format_extremes(one: CombinedSeries, unit: str, style: Style) -> list[str]:
    extremes = one.extremes()
    if one.adds_up or extremes is None or one.points < 2:
        return []
    low, high = (_format_amount(value, unit, style) for value in extremes)
    return [f"min {low}", f"max {high}"]


# No duration and no size; a number of 300 digits would read as neither.
_LARGEST = 2.0**64

_NANOS_PER_UNIT = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def _format_amount(value: float, unit: str, style: Style) -> str:
    """Return a value with its UCUM unit; durations and bytes in a readable size."""
    if not math.isfinite(value):
        return f"{value} {style.clean(unit)}".rstrip()
    is_readable = abs(value) < _LARGEST
    if unit in _NANOS_PER_UNIT and is_readable:
        return style.duration(round(value * _NANOS_PER_UNIT[unit]))
    if unit == "By" and is_readable:
        return "-" * (value < 0) + format_bytes(abs(round(value)))
    # UCUM's 1 stands for no unit; after a number it would read as another one.
    return format_number(value) + (f" {style.clean(unit)}" if unit not in ("", "1") else "")


def _round_rate(rate: float) -> float:
    return float(f"{rate:.3g}")


def series_json(one: CombinedSeries, first: int, last: int) -> dict[str, Any]:
    """Return a series as ``rimp metrics NAME --json`` prints it; docs/cli.md describes it."""
    metric, total = one.last, one.distribution()
    history = one.history(first, last, HISTORY_LENGTH)
    return {
        "name": metric.name,
        "kind": metric.kind.value,
        "unit": metric.unit,
        "description": metric.description,
        "temporality": metric.temporality.name.lower(),
        "monotonic": metric.is_monotonic,
        "service": service_of(metric),
        "scope": metric.scope.name if metric.scope else "",
        "attributes": one.attributes,
        "resource": one.resource,
        "instances": one.instances,
        "points": one.points,
        "time": format_utc(metric.time_unix_nano),
        "value": one.value(),
        "rate_per_second": one.rate() if one.adds_up else None,
        "distribution": None if total is None else _distribution_values(total),
        "quantiles": _quantiles_of(one) if isinstance(metric.point, SummaryPoint) else None,
        "history": {"start": format_utc(first), "end": format_utc(last), "values": history},
    }


def _distribution_values(total: Distribution) -> dict[str, Any]:
    quantiles = {name: total.quantile(share) for name, share in _QUANTILES.items()}
    return {
        "count": total.count,
        "sum": total.sum,
        "mean": total.mean,
        "max": total.max,
        **quantiles,
    }
