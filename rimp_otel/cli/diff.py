"""``rimp diff``: compare two recordings, or two time ranges of one."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rimp_otel.analysis.activity import Activity, Operation
from rimp_otel.analysis.diff import (
    CallChange,
    Differences,
    DurationChange,
    ErrorRateChange,
    diff_operations,
)
from rimp_otel.cli.options import (
    UsageError,
    add_output_options,
    add_service_option,
    output_width,
    parse_window_argument,
    path_from_args,
    style_from_args,
)
from rimp_otel.cli.output import open_recording_at, read_batches, report_damage
from rimp_otel.models.accessors import service_of, start_of, time_of
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.render.format import format_count, format_time, format_utc
from rimp_otel.render.terminal import Column, Style, format_table, to_json

if TYPE_CHECKING:
    from rimp_otel.batch import TelemetryData
    from rimp_otel.storage.base import Recording

__all__ = ["add_diff_arguments", "differences_json", "format_differences"]

_MAX_ROWS = 20
_OPERATION_COLUMN = Column("OPERATION", max_width=48)

_DESCRIPTION = """\
Compare two recordings, or two time ranges of one: operations that became slower or faster or
fail more or less often, added and removed calls, and new errors. Differences that may be due to
chance are not reported.

  rimp diff yesterday today
  rimp diff --window-a 2h..1h --window-b 1h..now
"""


def add_diff_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp diff``."""
    parser.description = _DESCRIPTION
    parser.add_argument("a", metavar="A", nargs="?", help="first recording (before)")
    parser.add_argument("b", metavar="B", nargs="?", help="second recording (after)")
    for side in "ab":
        parser.add_argument(
            f"--window-{side}",
            metavar="T..T",
            type=parse_window_argument,
            default=Window(),
            help=f"time range of {side.upper()} to compare, such as 2h..1h or 1h..now",
        )
    add_service_option(parser)
    parser.add_argument(
        "--min-change",
        metavar="PERCENT",
        type=_parse_percentage,
        default=0.1,
        help="smallest relative change to report, such as 25%% (default: 10%%)",
    )
    parser.add_argument(
        "--exit-code", action="store_true", help="exit with 1 if anything became worse or is new"
    )
    add_output_options(parser, "the differences")
    parser.set_defaults(command=_run_diff)


def _parse_percentage(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?%?", text):
        raise argparse.ArgumentTypeError(f"expected a percentage such as 25%, got {text!r}")
    return float(text.rstrip("%")) / 100


def _run_diff(args: argparse.Namespace) -> int:
    (path_a, window_a), (path_b, window_b) = _sides_from_args(args)
    # Both are opened before one is read, which can take long.
    recordings = [open_recording_at(path) for path in (path_a, path_b)]
    before = _read_activity(recordings[0], path_a, window_a, args)
    after = _read_activity(recordings[1], path_b, window_b, args)
    found = diff_operations(before, after, args.min_change)
    if args.json:
        print(to_json(differences_json(found, before, after)))
    else:
        names = [str(path) for path in (path_a, path_b)]
        for line in format_differences(
            found, before, after, names, output_width(), style_from_args(args)
        ):
            print(line)
    is_worse = found.slower or found.failing or found.added or found.removed or found.new_failures
    return 1 if args.exit_code and is_worse else 0


def _sides_from_args(args: argparse.Namespace) -> tuple[tuple[Path, Window], tuple[Path, Window]]:
    here = path_from_args(args)
    a, b = Path(args.a or here), Path(args.b or args.a or here)
    if args.a and not args.b and args.path:
        raise UsageError("--path with A alone is ambiguous: give A and B, or --path alone")
    if (a, args.window_a) == (b, args.window_b):
        raise UsageError("nothing to compare: give two recordings, or --window-a and --window-b")
    return (a, args.window_a), (b, args.window_b)


def _read_activity(
    recording: Recording, path: Path, window: Window, args: argparse.Namespace
) -> Activity:
    activity = Activity()
    for data in read_batches(recording, window, (Signal.TRACES, Signal.LOGS)):
        _add_batch(data, activity, window, args.service)
    report_damage(recording)
    if not activity.last:
        from rimp_otel.cli.suggestions import warn_of_unknown_names

        warn_of_unknown_names(args, path, (Signal.TRACES, Signal.LOGS))
        raise UsageError(f"nothing to compare: no records in {path} in that time range")
    return activity


def _add_batch(
    data: TelemetryData, activity: Activity, window: Window, service: str | None
) -> None:
    for span in data.spans:
        if window.contains(start_of(span)) and service in (None, service_of(span)):
            activity.add_span(span)
    for event in data.events:
        if window.contains(time_of(event)) and service in (None, service_of(event)):
            activity.add_event(event)


def format_differences(
    found: Differences,
    before: Activity,
    after: Activity,
    names: Sequence[str],
    width: int,
    style: Style,
) -> list[str]:
    """Return the differences as text, the worst first."""
    arrow = " → " if style.unicode else " -> "
    lines = [_format_side(*side, style) for side in zip("AB", names, (before, after), strict=True)]
    sections = {
        "slower": _duration_rows(found.slower, arrow, width, style),
        "fails more often": _failure_rate_rows(found.failing, arrow, width, style),
        "new errors": _new_error_rows(found, width, style),
        "calls added": _call_rows(found.added, arrow, style),
        "calls removed": _call_rows(found.removed, arrow, style),
        "faster": _duration_rows(found.faster, arrow, width, style),
        "fails less often": _failure_rate_rows(found.recovered, arrow, width, style),
    }
    for title, content in sections.items():
        if content:
            look = "green" if title in ("faster", "fails less often") else "red"
            lines += ["", style.paint(title, "bold", look), *_limit_rows(content)]
    compared = f"{format_count(found.compared, 'operation')} compared"
    if found.too_few:
        compared += f", {found.too_few:,} with too few spans"
    verdict = compared if found else f"no significant difference ({compared})"
    return [*lines, "", style.paint(verdict, "dim")]


def _limit_rows(lines: list[str]) -> list[str]:
    more = len(lines) - _MAX_ROWS - 1
    return lines if more <= 0 else [*lines[: _MAX_ROWS + 1], f"and {more:,} more (see --json)"]


def _format_side(letter: str, name: str, activity: Activity, style: Style) -> str:
    time = f"{format_time(activity.first)} to {format_time(activity.last)}"
    text = f"{style.clean(name)}  {time}  {format_count(activity.spans, 'span')}"
    return f"{style.paint(letter, 'bold')}  {text}"


def _duration_rows(
    changes: list[DurationChange], arrow: str, width: int, style: Style
) -> list[str]:
    if not changes:
        return []
    table = (_OPERATION_COLUMN, Column("SPANS"), Column("P50"), Column("P95"), Column("P"))
    rows = [
        (
            _operation_name(change.operation, style),
            f"{change.counts[0]:,}{arrow}{change.counts[1]:,}",
            _format_duration_change(change.p50, arrow, style),
            _format_duration_change(change.p95, arrow, style),
            _format_p_value(change.p_value),
        )
        for change in changes
    ]
    return format_table(table, rows, width, style)


def _format_duration_change(pair: tuple[int, int], arrow: str, style: Style) -> str:
    before, after = pair
    text = f"{style.duration(before)}{arrow}{style.duration(after)}"
    return f"{text} ({(after - before) / before:+.0%})" if before > 0 else text


def _format_p_value(value: float) -> str:
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _failure_rate_rows(
    changes: list[ErrorRateChange], arrow: str, width: int, style: Style
) -> list[str]:
    if not changes:
        return []
    table = (_OPERATION_COLUMN, Column("ERRORS"), Column("RATE"), Column("P"))
    rows = [
        (
            _operation_name(change.operation, style),
            arrow.join(f"{n:,}/{of:,}" for n, of in zip(change.errors, change.counts, strict=True)),
            arrow.join(f"{n / of:.1%}" for n, of in zip(change.errors, change.counts, strict=True)),
            _format_p_value(change.p_value),
        )
        for change in changes
    ]
    return format_table(table, rows, width, style)


def _new_error_rows(found: Differences, width: int, style: Style) -> list[str]:
    if not found.new_failures:
        return []
    table = (
        Column("TIMES", is_number=True),
        Column("WHERE", max_width=40),
        Column("TRACE"),
        Column("ERROR"),
    )
    rows = [
        (
            f"{one.times:,}",
            _operation_name(Operation(one.failure.service, one.failure.name), style),
            f"{one.trace_id:032x}"[:8] if one.trace_id else "-",
            style.clean(one.failure.text),
        )
        for one in found.new_failures
    ]
    return format_table(table, rows, width, style)


def _call_rows(changes: list[CallChange], arrow: str, style: Style) -> list[str]:
    if not changes:
        return []
    heading = f"CALLER{arrow}CALLED"
    return [
        style.paint(heading, "dim"),
        *(_format_call(change, arrow, style) for change in changes),
    ]


def _format_call(change: CallChange, arrow: str, style: Style) -> str:
    called = _operation_name(change.called, style)
    who = "(a trace begins)" if change.caller is None else _operation_name(change.caller, style)
    return (
        f"{who}{arrow}{called}  {format_count(change.times, 'time')} in {change.caller_counts[0]:,}"
    )


def _operation_name(operation: Operation, style: Style) -> str:
    service = style.clean(operation.service) or "(no service)"
    return f"{service}  {style.clean(operation.name) or '(no name)'}"


def differences_json(found: Differences, before: Activity, after: Activity) -> dict[str, Any]:
    """Return the differences as ``rimp diff --json`` prints them; docs/cli.md describes them."""
    return {
        "a": _side_fields(before),
        "b": _side_fields(after),
        "slower": [_duration_fields(change) for change in found.slower],
        "faster": [_duration_fields(change) for change in found.faster],
        "failing": [_failure_fields(change) for change in found.failing],
        "recovered": [_failure_fields(change) for change in found.recovered],
        "calls_added": [_call_fields(change) for change in found.added],
        "calls_removed": [_call_fields(change) for change in found.removed],
        "new_errors": [
            {
                **one.failure._asdict(),
                "count": one.times,
                "trace_id": f"{one.trace_id:032x}" if one.trace_id else None,
            }
            for one in found.new_failures
        ],
        "compared": found.compared,
        "too_few": found.too_few,
    }


def _side_fields(activity: Activity) -> dict[str, Any]:
    first, last = format_utc(activity.first), format_utc(activity.last)
    return {"first": first, "last": last, "spans": activity.spans}


def _duration_fields(change: DurationChange) -> dict[str, Any]:
    return {
        **change.operation._asdict(),
        "moved": change.moved,
        "counts": change.counts,
        "p50_ns": change.p50,
        "p95_ns": change.p95,
        "p_value": change.p_value,
    }


def _failure_fields(change: ErrorRateChange) -> dict[str, Any]:
    errors = {"counts": change.counts, "errors": change.errors, "p_value": change.p_value}
    return {**change.operation._asdict(), **errors}


def _call_fields(change: CallChange) -> dict[str, Any]:
    caller = change.caller and change.caller._asdict()
    return {
        "caller": caller,
        "called": change.called._asdict(),
        "count": change.times,
        "caller_counts": change.caller_counts,
    }
