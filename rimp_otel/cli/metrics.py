"""``rimp metrics``: what was measured, as a list, or one metric over time."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

from rimp_otel.cli.choosing import add_choices, chosen
from rimp_otel.cli.metriclist import MetricSummary, format_metrics, summarize_metrics
from rimp_otel.cli.moments import Window
from rimp_otel.cli.options import (
    add_color,
    add_json,
    add_path,
    count,
    output_style,
    output_width,
    recording_path,
    window_of,
)
from rimp_otel.cli.recording import batches, of_signal, open_recording, report_damage
from rimp_otel.cli.render import (
    to_json,
)
from rimp_otel.cli.series import series_of
from rimp_otel.cli.seriestext import format_series, series_json
from rimp_otel.errors import StorageError
from rimp_otel.models import TelemetryMetric
from rimp_otel.otlp.signals import Signal

__all__ = ["add_metrics_parser"]


def add_metrics_parser(subparsers: Any) -> None:
    """``rimp metrics``."""
    parser = subparsers.add_parser(
        "metrics",
        help="list the metrics, or show one over time",
        description="List the metrics that are recorded; or, of one, show each set of attributes "
        "with its newest value, rate, percentiles, and course.",
    )
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="of a metric to show; * stands for anything (default: list all of them)",
    )
    parser.add_argument(
        "-n",
        "--number",
        metavar="N",
        type=count,
        default=50,
        help="how many sets of attributes to show, or all (default: 50)",
    )
    add_choices(parser)
    add_path(parser)
    add_json(parser, "each metric, or each set of attributes,")
    add_color(parser)
    parser.set_defaults(command=_run_metrics)


def _run_metrics(args: argparse.Namespace) -> int:
    reader = open_recording(recording_path(args), is_wanted=of_signal(Signal.METRICS))
    window, wanted = window_of(args), chosen(args, "metrics")
    points = (
        point
        for data in batches(reader, window, (Signal.METRICS,))
        for point in data.metrics
        if window.holds(point.time_unix_nano) and wanted.matches(point)
    )
    if args.name is None:
        lines = _list(summarize_metrics(points), args)
    else:
        lines = _show(list(points), window, args)
    for line in lines:
        print(line)
    report_damage(reader)
    return 0


def _list(metrics: list[MetricSummary], args: argparse.Namespace) -> Iterable[str]:
    if args.json:
        return [to_json(metric.as_json()) for metric in metrics]
    return format_metrics(metrics, output_width(), output_style(args))


def _show(points: list[TelemetryMetric], window: Window, args: argparse.Namespace) -> Iterator[str]:
    if not points:
        raise StorageError(
            f"no points of a metric {args.name} in {recording_path(args)} (that meet the other "
            "conditions); 'rimp metrics' lists what there is"
        )
    times = [point.time_unix_nano for point in points]
    first, last = window.start or min(times), window.end or max(times)
    series = series_of(points, window.start or 0)
    shown = series[: args.number]
    if args.json:
        yield from (to_json(series_json(one, first, last)) for one in shown)
        return
    yield from format_series(shown, first, last, output_width(), output_style(args))
    if len(shown) < len(series):
        yield f"and {len(series) - len(shown):,} more; choose among them with --attr, or see them with -n all"
