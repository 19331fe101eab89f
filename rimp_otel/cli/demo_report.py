"""What ``rimp demo`` shows: the recording at a glance."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from rimp_otel.cli.demo_visit import ORDERS, Visit
from rimp_otel.cli.recording import (
    duration_of,
    is_interrupted,
    parent_id_of,
    start_of,
    time_of,
    trace_id_of,
)
from rimp_otel.cli.render import Style, clip, columns, pad, plural
from rimp_otel.cli.stats import count_recording, format_stats
from rimp_otel.cli.waterfall import EVENT_MARKS, render_trace
from rimp_otel.models import HistogramPoint, TelemetryEvent
from rimp_otel.records import brief_attributes

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from rimp_otel.cli.recording import Reader
    from rimp_otel.data import TelemetryData

__all__ = ["format_demo", "format_histogram", "quantile"]

LATENCY = "shop.checkout.duration"


class _Page(NamedTuple):
    data: TelemetryData
    width: int
    style: Style

    def title(self, text: str, remark: str = "") -> str:
        remark = clip(remark, self.width - columns(text) - 2, self.style.glyphs.ellipsis)
        return (
            f"{self.style.paint(text, 'bold', 'cyan')}  {self.style.paint(remark, 'dim')}".rstrip()
        )

    def spans(self, trace_id: int) -> list[ReadableSpan]:
        return [span for span in self.data.spans if trace_id_of(span) == trace_id]

    def events(self, trace_id: int) -> list[TelemetryEvent]:
        events = [event for event in self.data.events if event.trace_id == trace_id]
        return sorted(events, key=time_of)


def format_demo(reader: Reader, visit: Visit, look: str, width: int, style: Style) -> list[str]:
    """The recording of the demo as lines of text.

    Args:
        reader: of the recording, from its start.
        visit: how the requests went that were recorded.
        look: how ``--path`` names the recording on a command line.
        width: columns of the terminal.
        style: what the terminal can show.
    """
    from rimp_otel.data import TelemetryData

    data = TelemetryData.concat(reader.poll(final=True))
    page = _Page(data, width, style)
    finished = (span for span in _roots(data) if not is_interrupted(span))
    slowest = max(finished, key=lambda span: duration_of(span) or 0, default=None)
    failure = next((event for event in data.events if "exception.type" in event.metadata), None)
    sections = [
        _visit(visit, page),
        _stats(reader, page),
        _slowest(slowest, page),
        _failure(failure, page),
        _killed(visit, page),
        _latency(page),
        _next(trace_id_of(slowest) if slowest else 0, look, page),
    ]
    return [line for section in sections for line in ("", *section)][1:]


def _roots(data: TelemetryData) -> Iterator[ReadableSpan]:
    return (span for span in data.spans if not parent_id_of(span))


def _visit(visit: Visit, page: _Page) -> Iterator[str]:
    yield page.title("A small shop", "Flask, SQLite, an HTTP call, logging, and no recording code")
    answers = [
        page.style.paint(
            f"{count} {HTTPStatus(status).phrase}", *(["red"] if status >= 500 else [])
        )
        for status, count in sorted(visit.statuses.items())
    ]
    between = page.style.glyphs.between
    total = plural(visit.statuses.total(), "request")
    yield f"{total} in {visit.seconds:.1f} s{between}{between.join(answers)}"


def _stats(reader: Reader, page: _Page) -> Iterator[str]:
    stats = count_recording(reader, [page.data])
    yield page.title("Recorded", "rimp stats")
    # The last line says that nothing is damaged.
    yield from format_stats(stats, page.style)[: None if stats.damaged else -1]


def _slowest(root: ReadableSpan | None, page: _Page) -> Iterator[str]:
    if root is None:
        return
    trace_id = trace_id_of(root)
    yield page.title("The slowest request", f"rimp trace {trace_id:032x}"[:19])
    yield from render_trace(page.spans(trace_id), page.events(trace_id), page.width, page.style)


def _failure(failure: TelemetryEvent | None, page: _Page) -> Iterator[str]:
    if failure is None:
        return
    spans = page.spans(failure.trace_id)
    start = min(map(start_of, spans), default=time_of(failure))
    name = next((span.name for span in spans if not parent_id_of(span)), "")
    trace = f"rimp trace {failure.trace_id:032x}"[:19]
    yield page.title("The request that failed", f"{page.style.clean(name)}   {trace}")
    for event in page.events(failure.trace_id) or [failure]:
        yield from _event(event, start, page)


def _event(event: TelemetryEvent, start: int, page: _Page) -> Iterator[str]:
    style = page.style
    word, looks = EVENT_MARKS[event.event_type]
    after = "+" + style.duration(time_of(event) - start)
    head = f"{after:>10}  {style.paint(f'{word:5}', *looks)}  "
    rest = [style.clean(event.message), *style.pairs(brief_attributes(event.metadata))]
    yield head + clip("  ".join(rest), page.width - 19, style.glyphs.ellipsis)
    if "exception.type" in event.metadata:
        yield from _exception(event, page)


def _killed(visit: Visit, page: _Page) -> Iterator[str]:
    requests = [
        span
        for span in _roots(page.data)
        if span.kind.name == "SERVER" and start_of(span) >= visit.began
    ]
    cut = [span for span in requests if is_interrupted(span)]
    trace = f"rimp trace {trace_id_of(cut[0]):032x}"[:19] if cut else ""
    yield page.title("Killed by SIGKILL in the middle of a request", trace)
    answered, recorded = visit.statuses.total(), len(requests) - len(cut)
    looks = ("green", "bold") if answered == recorded else ("red", "bold")
    verdict = page.style.paint(f"{recorded:,} are recorded", *looks)
    yield f"{plural(answered, 'request')} were answered, {verdict}; and of the one that was not:"
    for span in cut[:1]:
        trace_id = trace_id_of(span)
        lines = render_trace(page.spans(trace_id), page.events(trace_id), page.width, page.style)
        # Without what stands above the axis, and below: the title says it.
        start, end = lines.index(""), len(lines) - lines[::-1].index("")
        yield from lines[start : end - 1]


_FRAME = re.compile(r'^  File "([^"\n]+)", line (\d+), in (.+)\n    (.*)$', re.MULTILINE)


def _exception(event: TelemetryEvent, page: _Page) -> Iterator[str]:
    style, attributes = page.style, event.metadata
    indent = " " * 19
    text = f"{attributes['exception.type']}: {attributes.get('exception.message', '')}"
    yield indent + style.paint(clip(style.clean(text), page.width - 19), "red", "bold")
    frames = _FRAME.findall(str(attributes.get("exception.stacktrace", "")))
    for file, line, function, code in frames:
        if file == frames[-1][0]:  # not those of the libraries on the way there
            place = f"{file.rpartition('/')[2]}:{line}"
            shown = style.clean(f"{pad(place, 12)}  {pad(function, 10)}  {code}")
            yield indent + style.paint(clip(shown, page.width - 19, style.glyphs.ellipsis), "dim")


def _latency(page: _Page) -> Iterator[str]:
    newest = {
        (metric.name, str(sorted(metric.tags.items()))): metric
        for metric in sorted(page.data.metrics, key=time_of)
    }
    points = [metric for (name, _), metric in newest.items() if name == LATENCY]
    if not points or not isinstance(points[0].point, HistogramPoint):
        return
    orders = [metric for (name, _), metric in newest.items() if name == ORDERS]
    ended = [f"{metric.value} {page.style.clean(metric.tags['outcome'])}" for metric in orders]
    yield page.title(f"A metric: {LATENCY}", f"orders: {', '.join(sorted(ended))}")
    yield from format_histogram(points[0].point, page.width, page.style)


def format_histogram(point: HistogramPoint, width: int, style: Style) -> list[str]:
    """A histogram of seconds: a bar for each bucket, and percentiles."""
    counts = point.bucket_counts
    filled = [index for index, count in enumerate(counts) if count] or [0]
    bounds = [f"{style.duration(_nanos(bound))}" for bound in point.explicit_bounds]
    labels = [*(f"up to {bound}" for bound in bounds), f"over {bounds[-1]}" if bounds else "all"]
    room = width - 24
    lines = []
    for index in range(filled[0], filled[-1] + 1):
        bar = style.glyphs.bar * round(room * counts[index] / max(counts))
        lines.append(
            f"{labels[index]:>14}  {counts[index]:>4}  {style.paint(bar, 'green')}".rstrip()
        )
    quantiles = [(f"p{share}", quantile(point, share / 100)) for share in (50, 90, 99)]
    if point.max is not None:
        quantiles.append(("max", point.max))
    shown = [f"{style.paint(name, 'bold')} {style.duration(_nanos(s))}" for name, s in quantiles]
    return [*lines, f"{'':>14}        " + "   ".join(shown)]


def _nanos(seconds: float) -> int:
    return round(seconds * 1e9)


def quantile(point: HistogramPoint, share: float) -> float:
    """The value below which ``share`` of the measurements lie, evenly spread in their bucket."""
    least = point.min if point.min is not None else 0.0
    most = point.max if point.max is not None else max(point.explicit_bounds, default=least)
    edges = [least, *(min(max(bound, least), most) for bound in point.explicit_bounds), most]
    wanted = share * point.count
    for index, reached in enumerate(accumulate(point.bucket_counts)):
        if reached and reached >= wanted:
            count = point.bucket_counts[index]
            part = (wanted - (reached - count)) / count
            return edges[index] + part * (edges[index + 1] - edges[index])
    return most


def _next(trace_id: int, look: str, page: _Page) -> Iterator[str]:
    commands = [
        (f"rimp traces --path {look}", "all requests, the newest first"),
        (f"rimp trace {trace_id:032x}"[:19] + f" --path {look}", "one of them"),
        (f"rimp tail --path {look}", "everything in the order of time; -f follows"),
        (
            f"rimp verify --path {look}",
            "whether every line is whole, and what waits in the journal",
        ),
        ("rimp run -- python app.py", "your own program"),
    ]
    wide = max(columns(command) for command, _ in commands)
    yield page.title("What next")
    for command, remark in commands:
        yield f"  {pad(command, wide)}   {page.style.paint(remark, 'dim')}"
