"""``rimp top``: watch rates, errors and latencies by service and operation."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rimp_otel.analysis.activity import ActivitySnapshot, LiveActivity, LoadStats
from rimp_otel.cli.options import (
    UsageError,
    add_output_options,
    add_service_option,
    add_sort_option,
    output_width,
    parse_duration_argument,
    parse_time_argument,
    path_from_args,
    style_from_args,
)
from rimp_otel.cli.output import open_recording_at, read_batches, report_damage
from rimp_otel.cli.screen import open_screen
from rimp_otel.models.accessors import service_of
from rimp_otel.models.records import EventType, Signal
from rimp_otel.models.times import Window
from rimp_otel.render.format import format_count, format_time, format_utc
from rimp_otel.render.terminal import (
    Column,
    Piece,
    Style,
    clip_text,
    display_width,
    format_table,
    look_of_service,
    pad_text,
    to_json,
    wrap_items,
)

if TYPE_CHECKING:
    from rimp_otel.batch import TelemetryData

__all__ = ["SORT_KEYS", "LiveRecording", "add_top_arguments", "format_snapshot", "snapshot_json"]

_NANOS_PER_SECOND = 10**9

SORT_KEYS: dict[str, Callable[[LoadStats], Any]] = {
    "spans": lambda load: load.spans,
    "errors": lambda load: (load.errors, load.spans),
    "p50": lambda load: load.p50 or 0,
    "p95": lambda load: load.p95 or 0,
    "p99": lambda load: load.p99 or 0,
}
"""The values that frames can be sorted by, greatest first."""
_LOAD_COLUMNS = (
    Column("SERVICE", max_width=20),
    Column("SPANS/S", is_number=True),
    Column("ERRORS", is_number=True),
    Column("P50", is_number=True),
    Column("P95", is_number=True),
    Column("P99", is_number=True),
    Column("OPERATION"),
)


def add_top_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp top``."""
    parser.description = (
        "Watch spans per second, errors and latencies of the last minute by service and operation.\n"
        "Press s to sort by the next column, q to quit."
    )
    parser.add_argument(
        "--once", action="store_true", help="print one frame and exit (default without a terminal)"
    )
    parser.add_argument(
        "--at",
        metavar="T",
        type=parse_time_argument,
        help="print one frame for the time until T and exit",
    )
    parser.add_argument(
        "--window",
        metavar="D",
        type=parse_duration_argument,
        default=60 * _NANOS_PER_SECOND,
        help="length of time to summarize (default: 60s)",
    )
    parser.add_argument(
        "--interval",
        metavar="D",
        type=parse_duration_argument,
        default=2 * _NANOS_PER_SECOND,
        help="time between two frames (default: 2s)",
    )
    add_sort_option(parser, list(SORT_KEYS), "spans, errors, p50, p95 or p99")
    add_service_option(parser)
    add_output_options(parser, "each frame")
    parser.set_defaults(command=_run_top)


def _run_top(args: argparse.Namespace) -> int:
    if not args.window or not args.interval:
        raise UsageError("--window and --interval must be greater than 0")
    is_live = not args.once and args.at is None
    is_terminal = sys.stdout.isatty() and sys.stdin.isatty()
    path = path_from_args(args)
    recording = LiveRecording(path, args.window, args.service, wait=is_live)
    if args.json:
        _print_frames_as_json(recording, args, is_live)
    elif is_live and is_terminal:
        _show_frames(recording, args)
    else:
        snapshot = recording.snapshot(args.at or time.time_ns())
        style, width = style_from_args(args), output_width()
        print("\n".join(format_snapshot(snapshot, str(path), args.sort, width, sys.maxsize, style)))
        recording.report()
        if not snapshot.operations:
            from rimp_otel.cli.suggestions import warn_of_unknown_names

            warn_of_unknown_names(args, path, (Signal.TRACES, Signal.LOGS))
    return 0


def _has_no_metrics(line: bytes) -> bool:
    from rimp_otel.otlp.scan import signal_of_line

    return signal_of_line(line) is not Signal.METRICS


class LiveRecording:
    """The recent spans and log records of a recording, and those that are added to it.

    Args:
        path: path of the recording.
        window: the time to summarize, in nanoseconds.
        service: the service whose records count; None for all services.
        wait: True to wait for a recording that does not exist yet.
    """

    def __init__(
        self, path: Any, window: int, service: str | None = None, wait: bool = False
    ) -> None:
        self._live = LiveActivity(window)
        self._service = service
        # Records added before the first snapshot are read twice; `LiveActivity` counts them once.
        self._recording = open_recording_at(path, wait, _has_no_metrics)
        self._recording.skip()
        self._has_past = False

    def snapshot(self, now: int) -> ActivitySnapshot:
        """Return the summary of the time until ``now``, in nanoseconds since the epoch."""
        if not self._has_past:
            self._has_past = True
            window = Window(now - 2 * self._live.window - 60 * _NANOS_PER_SECOND, now)
            for data in read_batches(self._recording, window, (Signal.TRACES, Signal.LOGS)):
                self._add_batch(data)
        for data in self._recording.poll():
            self._add_batch(data)
        return self._live.snapshot(now)

    def _add_batch(self, data: TelemetryData) -> None:
        one = self._service
        self._live.add(
            (span for span in data.spans if one in (None, service_of(span))),
            (event for event in data.events if one in (None, service_of(event))),
        )

    def report(self) -> None:
        """Warn about lines that could not be read."""
        report_damage(self._recording)


def _print_frames_as_json(
    recording: LiveRecording, args: argparse.Namespace, is_live: bool
) -> None:
    while True:
        print(to_json(snapshot_json(recording.snapshot(args.at or time.time_ns()))), flush=True)
        if not is_live:
            return
        time.sleep(args.interval / _NANOS_PER_SECOND)


def _show_frames(recording: LiveRecording, args: argparse.Namespace) -> None:
    style, order = style_from_args(args), args.sort
    with open_screen() as screen:
        due = 0.0
        while True:
            if time.monotonic() >= due:
                snapshot = recording.snapshot(time.time_ns())
                due = time.monotonic() + args.interval / _NANOS_PER_SECOND
            screen.show(
                format_snapshot(snapshot, str(path_from_args(args)), order, *screen.size(), style)
            )
            key = screen.key(due - time.monotonic())
            if key in ("q", "Q", "\x04"):
                return
            if key == "s":
                orders = list(SORT_KEYS)
                order = orders[(orders.index(order) + 1) % len(orders)]


def _format_window(snapshot: ActivitySnapshot, style: Style) -> str:
    return style.duration(snapshot.window).removesuffix(" 0 s")


def format_snapshot(
    snapshot: ActivitySnapshot, path: str, order: str, width: int, height: int, style: Style
) -> list[str]:
    """Return a frame of at most ``height`` lines: totals, then services with their operations."""
    head = [
        _frame_title(snapshot, path, order, width, style),
        *_total_lines(snapshot, width, style),
        "",
    ]
    if not snapshot.operations:
        nothing = f"no spans ended in the last {_format_window(snapshot, style)}"
        return [*head, style.paint(nothing, "dim")][:height]
    loads = _sorted_loads(snapshot, order)
    room = height - len(head) - 1
    rows = [_load_row(load, snapshot, style) for load in loads]
    lines = format_table(_LOAD_COLUMNS, rows, width, style, [_load_looks(load) for load in loads])
    if len(loads) > room:
        shown = max(room - 1, 0)
        rest = style.paint(f"and {len(loads) - shown:,} more", "dim")
        lines = [*lines[: shown + 1], rest]
    return [*head, *lines][:height]


def _frame_title(
    snapshot: ActivitySnapshot, path: str, order: str, width: int, style: Style
) -> str:
    between = style.glyphs.between
    end = f"{format_time(snapshot.now, '%H:%M:%S')[:8]}{between}last {_format_window(snapshot, style)}{between}by {order}"
    name = clip_text(
        f"rimp top  {style.clean(path)}",
        max(width - display_width(end) - 2, 8),
        style.glyphs.ellipsis,
    )
    gap = max(width - display_width(name) - display_width(end), 1)
    return style.paint(name, "bold") + " " * gap + style.paint(end, "dim")


def _total_lines(snapshot: ActivitySnapshot, width: int, style: Style) -> list[str]:
    total = snapshot.total
    logs = _format_rate_value(snapshot.rate(sum(snapshot.logs.values())))
    latencies = [(name, value) for name, value in _percentiles(total) if value is not None]
    pieces: list[Piece] = [
        (f"{_format_rate_value(snapshot.rate(total.spans))} spans/s", ()),
        (f"{_error_rate(total)} errors", ("red",) if total.errors else ()),
        *((f"{name} {style.duration(value)}", ()) for name, value in latencies),
        (f"{logs} logs/s", ()),
        *(
            (format_count(snapshot.logs[kind], f"logged {kind.value}"), (look,))
            for kind, look in ((EventType.ERROR, "red"), (EventType.WARNING, "yellow"))
            if snapshot.logs[kind]
        ),
    ]
    course = style.sparkline([float(count) for count in snapshot.spans_over_time], low=0)
    services = f"  {format_count(len(snapshot.services), 'service')}"
    return [*wrap_items(pieces, "  ", width, style), style.paint(course, "cyan") + services]


def _percentiles(load: LoadStats) -> list[tuple[str, int | None]]:
    return [("p50", load.p50), ("p95", load.p95), ("p99", load.p99)]


def _format_rate_value(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _error_rate(load: LoadStats) -> str:
    return f"{load.errors / load.spans:.1%}" if load.spans else "0.0%"


def _sorted_loads(snapshot: ActivitySnapshot, order: str) -> list[LoadStats]:
    """Return each service, followed by its operations."""
    key = SORT_KEYS[order]
    loads: list[LoadStats] = []
    own: dict[str, list[LoadStats]] = {}
    for load in sorted(snapshot.operations, key=_operation_key):
        own.setdefault(load.service, []).append(load)
    for service in sorted(sorted(snapshot.services, key=_operation_key), key=key, reverse=True):
        loads += [service, *sorted(own[service.service], key=key, reverse=True)]
    return loads


def _operation_key(load: LoadStats) -> tuple[str, str]:
    return load.service, load.name or ""


def _load_row(load: LoadStats, snapshot: ActivitySnapshot, style: Style) -> tuple[str, ...]:
    service = clip_text(style.clean(load.service) or "(no service)", 20, style.glyphs.ellipsis)
    latencies = ["-" if value is None else style.duration(value) for _, value in _percentiles(load)]
    return (
        pad_text(service, 1) if load.name is None else "",
        _format_rate_value(snapshot.rate(load.spans)),
        _error_rate(load) if load.errors else "",
        *latencies,
        "" if load.name is None else style.clean(load.name) or "(no name)",
    )


def _load_looks(load: LoadStats) -> tuple[str, ...]:
    look = look_of_service(load.service) if load.name is None else ""
    bold = "bold" if load.name is None else ""
    return (look, bold, "red", bold, bold, bold, "")


def snapshot_json(snapshot: ActivitySnapshot) -> dict[str, Any]:
    """Return a frame as ``rimp top --json`` prints it; docs/cli.md describes it."""
    return {
        "time": format_utc(snapshot.now),
        "window_ns": snapshot.window,
        "total": _load_fields(snapshot.total, snapshot),
        "services": [
            {"service": load.service, **_load_fields(load, snapshot)}
            for load in _sorted_by_spans(snapshot.services)
        ],
        "operations": [
            {"service": load.service, "name": load.name, **_load_fields(load, snapshot)}
            for load in _sorted_by_spans(snapshot.operations)
        ],
        "logs": {kind.value: snapshot.logs[kind] for kind in EventType},
    }


def _sorted_by_spans(loads: list[LoadStats]) -> list[LoadStats]:
    return sorted(loads, key=lambda load: load.spans, reverse=True)


def _load_fields(load: LoadStats, snapshot: ActivitySnapshot) -> dict[str, Any]:
    return {
        "spans": load.spans,
        "spans_per_second": snapshot.rate(load.spans),
        "errors": load.errors,
        "p50_ns": load.p50,
        "p95_ns": load.p95,
        "p99_ns": load.p99,
    }
