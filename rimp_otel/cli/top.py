"""``rimp top``: what goes on now, by service and operation."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

from rimp_otel.cli.live import Live, Picture
from rimp_otel.cli.moments import Window
from rimp_otel.cli.options import (
    UsageError,
    add_color,
    add_json,
    add_path,
    duration,
    output_style,
    output_width,
    point_in_time,
    recording_path,
)
from rimp_otel.cli.picture import ORDERS, format_picture, picture_json
from rimp_otel.cli.recording import batches, of_signal, open_recording, reader_of, report_damage
from rimp_otel.cli.render import (
    to_json,
)
from rimp_otel.cli.screen import open_screen
from rimp_otel.otlp.signals import Signal
from rimp_otel.records import service_of

if TYPE_CHECKING:
    from rimp_otel.data import TelemetryData

__all__ = ["Watched", "add_top_parser"]

_S = 10**9


def add_top_parser(subparsers: Any) -> None:
    """``rimp top``."""
    parser = subparsers.add_parser(
        "top",
        help="watch services and operations: rates, errors, latencies",
        description="Watch what goes on: spans a second, errors and latencies of the last minute, "
        "by service and operation. q quits; s sorts by the next column.",
    )
    parser.add_argument(
        "--once", action="store_true", help="print one frame (default where there is no terminal)"
    )
    parser.add_argument(
        "--at", metavar="T", type=point_in_time, help="print one frame, of the time until T"
    )
    parser.add_argument(
        "--window",
        metavar="D",
        type=duration,
        default=60 * _S,
        help="how much of the past is looked at (default: 60s)",
    )
    parser.add_argument(
        "--interval",
        metavar="D",
        type=duration,
        default=2 * _S,
        help="how often the frame is drawn anew (default: 2s)",
    )
    parser.add_argument(
        "--sort", choices=list(ORDERS), default="spans", help="the greatest first (default: spans)"
    )
    parser.add_argument("--service", metavar="NAME", help="only of this service")
    add_path(parser)
    add_json(parser, "each frame")
    add_color(parser)
    parser.set_defaults(command=_run_top)


def _run_top(args: argparse.Namespace) -> int:
    if not args.window or not args.interval:
        raise UsageError("--window and --interval must be longer than nothing")
    is_live = not args.once and args.at is None
    is_terminal = sys.stdout.isatty() and sys.stdin.isatty()
    path = recording_path(args)
    watched = Watched(path, args.window, args.service, wait=is_live)
    if args.json:
        _print_json(watched, args, is_live)
    elif is_live and is_terminal:
        _watch(watched, args)
    else:
        picture = watched.picture(args.at or time.time_ns())
        style, width = output_style(args), output_width()
        print("\n".join(format_picture(picture, str(path), args.sort, width, sys.maxsize, style)))
        watched.report()
    return 0


class Watched:
    """A recording that is watched: what it holds of the last time, and what is recorded now.

    Args:
        path: of the recording.
        window: how much of the past counts, in nanoseconds.
        service: only of this one; None for all.
        wait: whether to go on where there is no recording yet.
    """

    def __init__(
        self, path: Any, window: int, service: str | None = None, wait: bool = False
    ) -> None:
        self._live = Live(window)
        self._service = service
        wanted = of_signal(Signal.TRACES, Signal.LOGS)
        # What is recorded between the two readers' first looks, both give; it counts once.
        self._reader = open_recording(path, wait, wanted)
        self._reader.skip()
        self._past = reader_of(path, wanted)
        self._has_past = False

    def picture(self, now: int) -> Picture:
        """What goes on now."""
        if not self._has_past:
            self._has_past = True
            window = Window(now - 2 * self._live.window - 60 * _S, now)
            for data in batches(self._past, window, (Signal.TRACES, Signal.LOGS)):
                self._add(data)
        for data in self._reader.poll():
            self._add(data)
        return self._live.picture(now)

    def _add(self, data: TelemetryData) -> None:
        one = self._service
        self._live.add(
            (span for span in data.spans if one in (None, service_of(span))),
            (event for event in data.events if one in (None, service_of(event))),
        )

    def report(self) -> None:
        """Says what could not be read."""
        report_damage(self._past)


def _print_json(watched: Watched, args: argparse.Namespace, is_live: bool) -> None:
    while True:
        print(to_json(picture_json(watched.picture(args.at or time.time_ns()))), flush=True)
        if not is_live:
            return
        time.sleep(args.interval / _S)


def _watch(watched: Watched, args: argparse.Namespace) -> None:
    style, order = output_style(args), args.sort
    with open_screen() as screen:
        due = 0.0
        while True:
            if time.monotonic() >= due:
                picture = watched.picture(time.time_ns())
                due = time.monotonic() + args.interval / _S
            screen.show(
                format_picture(picture, str(recording_path(args)), order, *screen.size(), style)
            )
            key = screen.key(due - time.monotonic())
            if key in ("q", "Q", "\x04"):
                return
            if key == "s":
                orders = list(ORDERS)
                order = orders[(orders.index(order) + 1) % len(orders)]
