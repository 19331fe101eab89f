"""``rimp traces`` and ``rimp trace``: list traces, and show one as a waterfall."""

from __future__ import annotations

import argparse
import heapq
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rimp_otel.analysis.summaries import TraceSummary, count_unique_digits, summarize_traces
from rimp_otel.cli.options import (
    UsageError,
    add_exclusion_options,
    add_filter_options,
    add_min_duration_option,
    add_number_option,
    add_output_options,
    add_sort_option,
    add_stack_option,
    filter_from_args,
    line_test_of,
    output_width,
    parse_trace_prefix,
    path_from_args,
    style_from_args,
    window_from_args,
)
from rimp_otel.cli.output import (
    open_recording_at,
    read_batches,
    record_json,
    report_damage,
    retrieve_records,
)
from rimp_otel.errors import StorageError
from rimp_otel.models.accessors import (
    parent_id_of,
    span_id_of,
    start_of,
    trace_id_of,
)
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.render.format import format_time
from rimp_otel.render.terminal import (
    Column,
    Style,
    clip_text,
    format_table,
    look_of_service,
    to_json,
)
from rimp_otel.render.trace_text import render_trace_text
from rimp_otel.trace import Trace, find_traces

if TYPE_CHECKING:
    from rimp_otel.batch import TelemetryData
    from rimp_otel.cli.record_filter import RecordFilter
    from rimp_otel.storage.base import Recording

__all__ = [
    "add_trace_arguments",
    "add_traces_arguments",
    "find_trace",
    "format_traces",
    "mentions_trace",
    "read_trace",
    "trace_json",
]

_TRACE_LENGTH = 600 * 10**9
"""The time after the start of a trace within which its spans are counted; longer ones are rare."""
_MIN_SPANS, _MAX_NEWEST = 30_000, 10_000
"""How many of the newest spans are read at least, and for how many traces that is tried."""
_MAX_CHOSEN = 1_000
"""How many traces are looked up by their ids; for more, all spans are read."""


def add_traces_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp traces``."""
    parser.description = "List the newest traces that meet all conditions."
    add_number_option(parser, "number of traces to list, or all (default: 20)", 20)
    add_sort_option(parser, list(_SORT_KEYS), "time, duration, errors or spans")
    add_min_duration_option(parser, "traces")
    parser.add_argument("--errors", action="store_true", help="select traces with failed spans")
    add_filter_options(parser, "select traces with a span of this name; * matches any text")
    add_output_options(parser, "each trace")
    parser.set_defaults(command=_run_traces)


def _run_traces(args: argparse.Namespace) -> int:
    path, window, wanted = (
        path_from_args(args),
        window_from_args(args),
        filter_from_args(args, "traces"),
    )
    recording = open_recording_at(path)
    # The window is about the starts of traces, whose spans may start later.
    wide = window.widened(_TRACE_LENGTH)

    # A trace has the name of its root; what else it holds may have any name.
    left_out, wanted = wanted.not_names, replace(wanted, not_names=())

    def is_wanted(trace: TraceSummary) -> bool:
        if any(name.fullmatch(trace.name) for name in left_out):
            return False
        return window.contains(trace.start) and _is_selected(trace, args)

    summaries = _traces_by_text(path, wide, wanted)
    if summaries is None and args.sort == "time" and args.number < _MAX_NEWEST:
        summaries = _newest_traces(recording, wide, wanted, is_wanted, args.number)
    if summaries is None:
        read = read_batches(recording, wide, (Signal.TRACES,))
        summaries = summarize_traces((span for data in read for span in data.spans), wanted.matches)
    first = heapq.nlargest(args.number, filter(is_wanted, summaries), key=_SORT_KEYS[args.sort])
    if args.json:
        lines = [to_json(trace.as_json()) for trace in first]
    else:
        digits = count_unique_digits(trace.trace_id for trace in summaries)
        lines = format_traces(first, output_width(), style_from_args(args), digits)
    for line in lines:
        print(line)
    report_damage(recording)
    if not first:
        from rimp_otel.cli.suggestions import warn_of_unknown_names

        warn_of_unknown_names(args, path, (Signal.TRACES,))
    return 0


def _traces_by_text(path: Path, window: Window, wanted: RecordFilter) -> list[TraceSummary] | None:
    """Return the traces that are wanted, if the text of a line tells that few of them are.

    Of the spans, only those in lines that may match are decoded, and then those of their traces.
    Returns None if too many traces are wanted for that.
    """
    # Names and services are those of most lines.
    is_wanted = line_test_of(wanted) if wanted.attribute_texts else None
    if is_wanted is None:
        return None
    from rimp_otel.cli.line_filter import may_have_trace

    found: set[int] = set()
    recording = open_recording_at(path, is_wanted=is_wanted)
    for data in read_batches(recording, window, (Signal.TRACES,)):
        found.update(trace_id_of(span) for span in data.spans if wanted.matches(span))
        if len(found) > _MAX_CHOSEN:
            return None
    recording = open_recording_at(path, is_wanted=may_have_trace(frozenset(found)))
    spans = (
        span
        for data in read_batches(recording, window, (Signal.TRACES,))
        for span in data.spans
        if trace_id_of(span) in found
    )
    return summarize_traces(spans, wanted.matches)


def _newest_traces(
    recording: Recording,
    window: Window,
    wanted: RecordFilter,
    is_wanted: Callable[[TraceSummary], bool],
    number: int,
) -> list[TraceSummary] | None:
    """Return traces that include the newest ``number`` wanted ones, from the newest spans alone.

    Returns None if more spans must be read to know which traces are the newest.
    """
    from rimp_otel.models.filters import Filter

    limit = max(_MIN_SPANS, 100 * number)
    spans = retrieve_records(recording, window, Filter.of(signals=["traces"]), limit).spans
    summaries = summarize_traces(spans, wanted.matches)
    if len(spans) < limit:
        return summaries
    oldest = start_of(spans[0])
    # Earlier spans of a trace without its root may not have been read.
    whole = [one for one in summaries if one.has_root or one.start > oldest + _TRACE_LENGTH]
    return whole if sum(map(is_wanted, whole)) >= number else None


def _is_selected(trace: TraceSummary, args: argparse.Namespace) -> bool:
    if args.errors and not trace.errors:
        return False
    is_long = args.min_duration is None or trace.end - trace.start >= args.min_duration
    return trace.is_chosen and is_long


_SORT_KEYS: dict[str, Callable[[TraceSummary], Any]] = {
    "time": lambda trace: trace.start,
    "duration": lambda trace: trace.end - trace.start,
    "errors": lambda trace: (trace.errors, trace.start),
    "spans": lambda trace: (trace.spans, trace.start),
}

_TRACE_COLUMNS = (
    Column("START"),
    Column("TRACE"),
    Column("DURATION", is_number=True),
    Column("SPANS", is_number=True),
    Column("ERRORS", is_number=True),
    Column("SERVICE"),
    Column("NAME"),
)


def format_traces(
    traces: Sequence[TraceSummary], width: int, style: Style, digits: int = 32
) -> list[str]:
    """Return a table of the traces, with the first ``digits`` of each id."""
    if not traces:
        return ["no traces"]
    rows = [_trace_cells(trace, style, digits) for trace in traces]
    return format_table(
        _TRACE_COLUMNS, rows, width, style, [_trace_looks(trace) for trace in traces]
    )


def _trace_cells(trace: TraceSummary, style: Style, digits: int) -> tuple[str, ...]:
    return (
        format_time(trace.start),
        f"{trace.trace_id:032x}"[:digits],
        style.duration(trace.end - trace.start),
        f"{trace.spans:,}",
        f"{trace.errors:,}" if trace.errors else "",
        clip_text(style.clean(trace.service), 24, style.glyphs.ellipsis),
        style.clean(trace.name),
    )


def _trace_looks(trace: TraceSummary) -> tuple[str, ...]:
    bad = "red" if trace.errors else ""
    return ("dim", "", "", "", bad, look_of_service(trace.service), bad)


def trace_json(trace: Trace) -> dict[str, Any]:
    """Return the trace as ``rimp trace --json`` prints it."""
    return {
        "trace_id": f"{trace.trace_id:032x}",
        "spans": [record_json(span) for span in trace.spans],
        "logs": [record_json(event) for event in trace.events],
    }


def add_trace_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp trace``."""
    parser.description = "Show one trace as a waterfall, with its log records in place."
    parser.add_argument(
        "id",
        metavar="ID",
        type=parse_trace_prefix,
        help="trace id, or enough of its first digits to be unique",
    )
    add_exclusion_options(parser)
    add_stack_option(parser)
    add_output_options(parser, "the trace")
    parser.set_defaults(command=_run_trace)


def _run_trace(args: argparse.Namespace) -> int:
    path = path_from_args(args)
    recording = open_recording_at(path, is_wanted=mentions_trace(args.id))
    trace = find_trace(read_trace(recording, args.id), args.id, path)
    if args.not_name or args.not_scope:
        trace = _without_left_out(trace, args)
    if args.json:
        print(to_json(trace_json(trace)))
    else:
        style = style_from_args(args)
        lines = render_trace_text(trace.spans, trace.events, output_width(), style, args.stack)
        print("\n".join(lines))
    report_damage(recording)
    return 0


def _without_left_out(trace: Trace, args: argparse.Namespace) -> Trace:
    """Return the trace without what ``--not-name`` and ``--not-scope`` leave out, except for spans
    that others are below of."""
    from rimp_otel.cli.record_filter import RecordFilter

    wanted = RecordFilter.from_options(
        (Signal.TRACES, Signal.LOGS), not_names=args.not_name, not_scopes=args.not_scope
    )
    parents = {span_id_of(span): parent_id_of(span) for span in trace.spans}
    kept: set[int] = set()
    for span in filter(wanted.matches, trace.spans):
        span_id = span_id_of(span)
        while span_id not in kept:  # up to an ancestor that is kept already
            kept.add(span_id)
            span_id = parents.get(span_id, span_id)
    spans = [span for span in trace.spans if span_id_of(span) in kept]
    return trace._replace(spans=spans, events=list(filter(wanted.matches, trace.events)))


def read_trace(recording: Recording, trace_id: str) -> Iterable[TelemetryData]:
    """Return batches with all records of the traces whose id starts with ``trace_id``, and others.

    Raises:
        UsageError: several do, and no records had to be read to know that.
    """
    from rimp_otel.cli.record_filter import RecordFilter

    signals = (Signal.TRACES, Signal.LOGS)
    if len(trace_id) < 32 or not int(trace_id, 16):
        found = recording.trace_ids(trace_id)
        if found is None:
            return read_batches(recording, signals=signals)
        if len(found) > 1:
            raise UsageError(_ambiguity(trace_id, sorted(found)))
        if not found:
            return []
        (number,) = found
        trace_id = f"{number:032x}"
    # A storage can look up a whole id.
    return [
        retrieve_records(recording, Window(), RecordFilter.from_options(signals, trace=trace_id))
    ]


_ID_NOT_HEX = re.compile(rb'"traceId"\s*:\s*"(?!"|[0-9a-fA-F]{32}")')


def mentions_trace(prefix: str) -> Callable[[bytes], bool]:
    """Return a function that returns True for lines that may have records of the trace.

    It searches the text of a line, which takes a tenth of the time of decoding it. A line with ids
    in base64 has to be decoded.
    """
    digits = prefix.encode()
    return lambda line: digits in line.lower() or _ID_NOT_HEX.search(line) is not None


def find_trace(batches: Iterable[TelemetryData], prefix: str, path: Path) -> Trace:
    """Return the trace whose id starts with ``prefix``.

    Raises:
        UsageError: several traces do.
        StorageError: no trace does.
    """
    found = find_traces(prefix, ((data.spans, data.events) for data in batches))
    if not found:
        raise StorageError(f"no trace {prefix} in {path}: list its traces with 'rimp traces'")
    if len(found) > 1:
        raise UsageError(_ambiguity(prefix, [trace.trace_id for trace in found]))
    return found[0]


def _ambiguity(prefix: str, found: Iterable[int]) -> str:
    ids = [f"{trace_id:032x}" for trace_id in found]
    more = ", ..." if len(ids) > 5 else ""
    return (
        f"trace id {prefix!r} is ambiguous: {len(ids):,} trace ids start with it "
        f"({', '.join(ids[:5])}{more}); give more digits"
    )
