"""``rimp trace ID``: one trace as a waterfall."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rimp_otel.cli.choosing import trace_prefix
from rimp_otel.cli.moments import Window
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
    batches,
    open_recording,
    record_json,
    report_damage,
    retrieve,
)
from rimp_otel.cli.render import to_json
from rimp_otel.cli.waterfall import render_trace
from rimp_otel.errors import StorageError
from rimp_otel.otlp.signals import Signal
from rimp_otel.trace import Trace, traces_like

if TYPE_CHECKING:
    from rimp_otel.cli.recording import Reader
    from rimp_otel.data import TelemetryData

__all__ = ["add_trace_parser", "find_trace", "mentions", "read_trace", "trace_json"]


def trace_json(trace: Trace) -> dict[str, Any]:
    """The trace as ``rimp trace --json`` prints it."""
    return {
        "trace_id": f"{trace.trace_id:032x}",
        "spans": [record_json(span) for span in trace.spans],
        "logs": [record_json(event) for event in trace.events],
    }


def add_trace_parser(subparsers: Any) -> None:
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
    parser.set_defaults(command=_run_trace)


def _run_trace(args: argparse.Namespace) -> int:
    path = recording_path(args)
    reader = open_recording(path, is_wanted=mentions(args.id))
    trace = find_trace(read_trace(reader, args.id), args.id, path)
    if args.json:
        print(to_json(trace_json(trace)))
    else:
        lines = render_trace(trace.spans, trace.events, output_width(), output_style(args))
        print("\n".join(lines))
    report_damage(reader)
    return 0


def read_trace(reader: Reader, trace_id: str) -> Iterable[TelemetryData]:
    """The batches that hold the traces whose ids start so, and perhaps more."""
    from rimp_otel.cli.chosen import Chosen

    signals = (Signal.TRACES, Signal.LOGS)
    if len(trace_id) < 32 or not int(trace_id, 16):
        return batches(reader, signals=signals)
    # A whole id is what a storage can look up.
    return [retrieve(reader, Window(), Chosen.by(signals, trace=trace_id))]


_OTHER_ID = re.compile(rb'"traceId"\s*:\s*"(?!"|[0-9a-fA-F]{32}")')


def mentions(prefix: str) -> Callable[[bytes], bool]:
    """Whether a line can hold records of the trace. Looking at its text takes a tenth of the time
    of decoding it; one with ids in base64 has to be decoded."""
    digits = prefix.encode()
    return lambda line: digits in line.lower() or _OTHER_ID.search(line) is not None


def find_trace(batches: Iterable[TelemetryData], prefix: str, path: Path) -> Trace:
    """The one trace whose id starts with ``prefix``.

    Raises:
        UsageError: several do.
        StorageError: none does.
    """
    found = traces_like(prefix, ((data.spans, data.events) for data in batches))
    if not found:
        raise StorageError(f"no trace {prefix} in {path}; 'rimp traces' lists what there is")
    if len(found) > 1:
        raise UsageError(_ambiguous(prefix, [trace.trace_id for trace in found]))
    return found[0]


def _ambiguous(prefix: str, found: Iterable[int]) -> str:
    ids = [f"{trace_id:032x}" for trace_id in found]
    more = f" and {len(ids) - 5:,} more" if len(ids) > 5 else ""
    return f"{prefix} is the start of {', '.join(ids[:5])}{more}: give more digits"
