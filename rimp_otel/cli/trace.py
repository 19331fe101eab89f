"""``rimp trace ID``: one trace as a waterfall."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rimp_otel.cli.choosing import trace_prefix
from rimp_otel.cli.options import (
    UsageError,
    add_color,
    add_json,
    add_path,
    output_style,
    output_width,
    recording_path,
)
from rimp_otel.cli.recording import (
    open_recording,
    record_json,
    report_damage,
    start_of,
    time_of,
    trace_id_of,
)
from rimp_otel.cli.render import to_json
from rimp_otel.cli.waterfall import render_trace
from rimp_otel.errors import StorageError
from rimp_otel.models import TelemetryEvent

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from rimp_otel.data import TelemetryData

__all__ = ["Trace", "add_parser", "find_trace"]


class Trace(NamedTuple):
    """What is recorded of one trace, each list in the order of time."""

    trace_id: int
    spans: list[ReadableSpan]
    events: list[TelemetryEvent]

    def as_json(self) -> dict[str, Any]:
        """The trace as ``rimp trace --json`` prints it."""
        return {
            "trace_id": f"{self.trace_id:032x}",
            "spans": [record_json(span) for span in self.spans],
            "logs": [record_json(event) for event in self.events],
        }


def add_parser(subparsers: Any) -> None:
    """``rimp trace``."""
    parser = subparsers.add_parser(
        "trace",
        help="show one trace as a waterfall",
        description="Show one trace as a waterfall, with its log records in place.",
    )
    parser.add_argument(
        "id",
        metavar="ID",
        type=trace_prefix,
        help="the trace's id, or as many of its first digits as tell it from the others",
    )
    add_path(parser)
    add_json(parser, "the trace")
    add_color(parser)
    parser.set_defaults(command=_run)


def _run(args: argparse.Namespace) -> int:
    path = recording_path(args)
    reader = open_recording(path)
    trace = find_trace(reader.poll(final=True), args.id, path)
    if args.json:
        print(to_json(trace.as_json()))
    else:
        lines = render_trace(trace.spans, trace.events, output_width(), output_style(args))
        print("\n".join(lines))
    report_damage(reader)
    return 0


def find_trace(batches: Iterable[TelemetryData], prefix: str, path: Path) -> Trace:
    """The one trace whose id starts with ``prefix``.

    Raises:
        UsageError: several do.
        StorageError: none does.
    """
    matches = _matcher(prefix)
    found: dict[int, Trace] = {}
    for data in batches:
        for span in data.spans:
            if matches(trace_id_of(span)):
                _among(found, trace_id_of(span)).spans.append(span)
        for event in data.events:
            if matches(event.trace_id):
                _among(found, event.trace_id).events.append(event)
    if not found:
        raise StorageError(f"no trace {prefix} in {path}; 'rimp traces' lists what there is")
    if len(found) > 1:
        raise UsageError(_ambiguous(prefix, found))
    (trace,) = found.values()
    trace.spans.sort(key=start_of)
    trace.events.sort(key=time_of)
    return trace


def _matcher(prefix: str) -> Callable[[int], bool]:
    start, shift = int(prefix, 16), 128 - 4 * len(prefix)
    # No trace has the id 0: it stands for records outside of any.
    return lambda trace_id: trace_id != 0 and trace_id >> shift == start


def _among(found: dict[int, Trace], trace_id: int) -> Trace:
    return found.setdefault(trace_id, Trace(trace_id, [], []))


def _ambiguous(prefix: str, found: Iterable[int]) -> str:
    ids = [f"{trace_id:032x}" for trace_id in found]
    more = f" and {len(ids) - 5:,} more" if len(ids) > 5 else ""
    return f"{prefix} is the start of {', '.join(ids[:5])}{more}: give more digits"
