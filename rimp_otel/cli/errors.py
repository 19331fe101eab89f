"""``rimp errors``: the exceptions of a recording by type and place."""

from __future__ import annotations

import argparse
import heapq
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rimp_otel.analysis.errors import ErrorCollection, ErrorSummary
from rimp_otel.cli.options import (
    add_filter_options,
    add_number_option,
    add_output_options,
    add_sort_option,
    add_stack_option,
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
from rimp_otel.cli.tail import format_stack
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.render.format import format_count, format_time
from rimp_otel.render.terminal import (
    Style,
    clip_text,
    display_width,
    look_of_service,
    to_json,
)

__all__ = ["add_errors_arguments", "format_errors", "may_have_errors"]

_LONGEST_SPAN = 3_600 * 10**9
"""How long before ``--since`` a span may have started whose exceptions are found."""

# A line without any of this has no exception and no failed span. An escape can stand for any letter.
_MAY_HAVE_ERRORS = re.compile(rb'exception|"code"\s*:\s*(?![\s01]|"STATUS_CODE_(?:UNSET|OK)")|\\u')

_SORT_KEYS: dict[str, Callable[[ErrorSummary], Any]] = {
    "count": lambda error: (error.count, error.last),
    "last": lambda error: error.last,
    "first": lambda error: error.first,
}


def add_errors_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp errors``."""
    parser.description = (
        "List exceptions and failed spans by type and place: how often they happened, first and last,\n"
        "and an example of each."
    )
    add_number_option(parser, "number of errors to list, or all (default: 20)", 20)
    add_sort_option(parser, list(_SORT_KEYS), "count, last or first")
    add_filter_options(parser, "select errors in spans of this name; * matches any text")
    add_stack_option(parser)
    add_output_options(parser, "each error")
    parser.set_defaults(command=_run_errors)


def _run_errors(args: argparse.Namespace) -> int:
    path, window, wanted = (
        path_from_args(args),
        window_from_args(args),
        filter_from_args(args, "traces", "logs"),
    )
    may_match = line_test_of(wanted)

    def is_wanted(line: bytes) -> bool:
        return may_have_errors(line) and (may_match is None or may_match(line))

    recording = open_recording_at(path, is_wanted=is_wanted)
    errors = ErrorCollection(window)
    # A recording is searched by the start of spans, and this window is about exceptions in them.
    wide = Window(window.start and window.start - _LONGEST_SPAN, window.end)
    for data in read_batches(recording, wide, (Signal.TRACES, Signal.LOGS)):
        for span in filter(wanted.matches, data.spans):
            errors.add_span(span)
        for event in filter(wanted.matches, data.events):
            errors.add_event(event)
    found = errors.errors()
    first = heapq.nlargest(args.number, found, key=_SORT_KEYS[args.sort])
    if args.json:
        lines: Iterator[str] = (to_json(error.as_json()) for error in first)
    else:
        lines = format_errors(first, output_width(), style_from_args(args), args.stack)
    for line in lines:
        print(line)
    if not args.json and (more := len(found) - len(first)):
        print(f"and {more:,} more: select some with --service or --name, or show all with -n all")
    if errors.left_out:
        print(f"and {format_count(errors.left_out, 'occurrence')} of too many further kinds")
    report_damage(recording)
    if not found:
        from rimp_otel.cli.suggestions import warn_of_unknown_names

        warn_of_unknown_names(args, path, (Signal.TRACES, Signal.LOGS))
    return 0


def may_have_errors(line: bytes) -> bool:
    """Return True if the line may have an exception or a failed span."""
    return _MAY_HAVE_ERRORS.search(line) is not None


def format_errors(
    errors: Sequence[ErrorSummary], width: int, style: Style, with_stacks: bool = False
) -> Iterator[str]:
    """Yield two lines for each error: count, exception and place; service, times and example. With
    its stack, the lines of that follow."""
    if not errors:
        yield "no errors"
        return
    counts = [f"{error.count:,}" for error in errors]
    digits = max(map(len, counts))
    for count, error in zip(counts, errors, strict=True):
        yield _head_line(error, f"{count:>{digits}}", width, style)
        yield " " * (digits + 2) + _detail_line(error, style)
        if with_stacks:
            yield from format_stack({"exception.stacktrace": error.stack}, style)


def _head_line(error: ErrorSummary, count: str, width: int, style: Style) -> str:
    kind, ellipsis = error.kind, style.glyphs.ellipsis
    text = ": ".join(filter(None, (style.clean(kind.type), style.clean(error.message)))) or "error"
    place = f"  ({style.clean(kind.frame or kind.name or '(no name)')})"
    place = clip_text(place, max(width // 2, 20), ellipsis)
    room = max(width - len(count) - 2 - display_width(place), 20)
    shown = style.paint(clip_text(text, room, ellipsis), "red")
    return f"{style.paint(count, 'bold')}  {shown}{place}"


def _detail_line(error: ErrorSummary, style: Style) -> str:
    service = style.clean(error.kind.service) or "(no service)"
    layout = "%m-%d %H:%M:%S"
    facts = [f"first {format_time(error.first, layout)}", f"last {format_time(error.last, layout)}"]
    if error.trace_id:
        facts.append(f"rimp trace {error.trace_id:032x}")
    between = style.glyphs.between
    return style.paint(service, look_of_service(error.kind.service)) + style.paint(
        between + between.join(facts), "dim"
    )
