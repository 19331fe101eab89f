"""``rimp diff``: what is different between two recordings, or two times of one."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rimp_otel.cli.comparing import compare
from rimp_otel.cli.difftext import differences_json, format_differences
from rimp_otel.cli.moments import Window
from rimp_otel.cli.operations import Activity
from rimp_otel.cli.options import (
    UsageError,
    add_color,
    add_json,
    add_path,
    output_style,
    output_width,
    recording_path,
    window,
)
from rimp_otel.cli.recording import batches, of_signal, open_recording, report_damage
from rimp_otel.cli.render import to_json
from rimp_otel.otlp.signals import Signal
from rimp_otel.records import service_of, start_of, time_of

if TYPE_CHECKING:
    from rimp_otel.data import TelemetryData

__all__ = ["add_diff_parser"]

_DESCRIPTION = """\
Compare two recordings, or two times of one: which operations take longer or less, fail more often
or less, which calls came and went, which errors are new. What may be chance is left out.

  rimp diff yesterday today
  rimp diff --window-a 2h..1h --window-b 1h..now
"""


def add_diff_parser(subparsers: Any) -> None:
    """``rimp diff``."""
    parser = subparsers.add_parser(
        "diff",
        help="say what is different: slower, failing, new calls, new errors",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", nargs="?", help="the recording before")
    parser.add_argument("b", metavar="B", nargs="?", help="the recording after")
    for side in "ab":
        parser.add_argument(
            f"--window-{side}",
            metavar="T..T",
            type=window,
            default=Window(),
            help=f"of {side.upper()}, only this time, such as 2h..1h or 1h..now",
        )
    parser.add_argument("--service", metavar="NAME", help="only of this service")
    parser.add_argument(
        "--min-change",
        metavar="PERCENT",
        type=_percent,
        default=0.1,
        help="how much longer or shorter is worth a word, such as 25%% (default: 10%%)",
    )
    parser.add_argument(
        "--exit-code", action="store_true", help="exit with 1 where something got worse or is new"
    )
    add_path(parser)
    add_json(parser, "the differences")
    add_color(parser)
    parser.set_defaults(command=_run_diff)


def _percent(text: str) -> float:
    if not re.fullmatch(r"\d+(\.\d+)?%?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a share: give a percentage such as 25%")
    return float(text.rstrip("%")) / 100


def _run_diff(args: argparse.Namespace) -> int:
    (path_a, window_a), (path_b, window_b) = _sides(args)
    before = _activity(path_a, window_a, args.service)
    after = _activity(path_b, window_b, args.service)
    found = compare(before, after, args.min_change)
    if args.json:
        print(to_json(differences_json(found, before, after)))
    else:
        names = [str(path) for path in (path_a, path_b)]
        for line in format_differences(
            found, before, after, names, output_width(), output_style(args)
        ):
            print(line)
    is_worse = found.slower or found.failing or found.added or found.removed or found.new_failures
    return 1 if args.exit_code and is_worse else 0


def _sides(args: argparse.Namespace) -> tuple[tuple[Path, Window], tuple[Path, Window]]:
    here = recording_path(args)
    a, b = Path(args.a or here), Path(args.b or args.a or here)
    if args.a and not args.b and args.path:
        raise UsageError("--path stands for both: give it, or A and B")
    if (a, args.window_a) == (b, args.window_b):
        raise UsageError(
            "there is nothing to compare: give two recordings, or --window-a and --window-b"
        )
    return (a, args.window_a), (b, args.window_b)


def _activity(path: Path, window: Window, service: str | None) -> Activity:
    reader = open_recording(path, is_wanted=of_signal(Signal.TRACES, Signal.LOGS))
    activity = Activity()
    for data in batches(reader, window, (Signal.TRACES, Signal.LOGS)):
        _count(data, activity, window, service)
    report_damage(reader)
    if not activity.last:
        raise UsageError(f"nothing is recorded in {path} at that time: there is nothing to compare")
    return activity


def _count(data: TelemetryData, activity: Activity, window: Window, service: str | None) -> None:
    for span in data.spans:
        if window.holds(start_of(span)) and service in (None, service_of(span)):
            activity.add_span(span)
    for event in data.events:
        if window.holds(time_of(event)) and service in (None, service_of(event)):
            activity.add_event(event)
