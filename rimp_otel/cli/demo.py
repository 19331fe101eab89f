"""``rimp demo``: records a real service, and shows the recording."""

from __future__ import annotations

import argparse
import http.client
import os
import re
import shlex
import shutil
import signal
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rimp_otel.analysis.metrics import distribution_of
from rimp_otel.cli.demo_service import Service, ServiceError
from rimp_otel.cli.options import UsageError, add_color_option, output_width, style_from_args
from rimp_otel.cli.output import Progress, open_recording_at
from rimp_otel.cli.run import is_installed
from rimp_otel.cli.stats import count_recording, format_stats
from rimp_otel.errors import MissingExtraError
from rimp_otel.journal.slots import is_owned
from rimp_otel.models.accessors import (
    brief_attributes,
    duration_of,
    is_interrupted,
    parent_id_of,
    start_of,
    time_of,
    trace_id_of,
)
from rimp_otel.models.records import HistogramPoint, TelemetryEvent
from rimp_otel.render.format import format_count
from rimp_otel.render.terminal import Style, clip_text, display_width, pad_text, to_json
from rimp_otel.render.trace_text import EVENT_MARKS, render_trace_text

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from rimp_otel.batch import TelemetryData
    from rimp_otel.storage.recording import Recording

__all__ = [
    "ORDERS",
    "REQUESTS",
    "Visit",
    "add_demo_parser",
    "format_demo",
    "format_histogram",
    "visit",
]


# --- ``rimp demo``: records a real service, and shows the recording.

_REQUIRED = {
    "flask": "flask",
    "requests": "requests",
    "opentelemetry-instrumentation": "opentelemetry.instrumentation.auto_instrumentation",
    "opentelemetry-instrumentation-logging": "opentelemetry.instrumentation.logging",
    "opentelemetry-instrumentation-flask": "opentelemetry.instrumentation.flask",
    "opentelemetry-instrumentation-requests": "opentelemetry.instrumentation.requests",
    "opentelemetry-instrumentation-sqlite3": "opentelemetry.instrumentation.sqlite3",
}

_DESCRIPTION = """\
Run a small web shop under `rimp run`, send it requests, kill it in the middle of one, and show the
recording.

The shop is a Flask service with an SQLite database, an outgoing HTTP call and logging, and without
any code for rimp. It listens on 127.0.0.1 only, and stops with this command.
"""

_MARK = ".rimp-demo"
_OWN = re.compile(
    r"(traces|logs|metrics)\.[\w.]+|journal[\w.]*|sealed|damaged|cursors|" + re.escape(_MARK)
)


def add_demo_parser(subparsers: Any) -> None:
    """Add ``rimp demo`` to the commands."""
    parser = subparsers.add_parser(
        "demo",
        help="record a small example service and show the recording",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--path",
        metavar="DIR",
        type=Path,
        default=Path("rimp-demo"),
        help="directory to record in (default: rimp-demo)",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="add to the recording of an earlier demo instead of replacing it",
    )
    add_color_option(parser)
    parser.set_defaults(command=_run_demo)


def _run_demo(args: argparse.Namespace) -> int:
    from rimp_otel.cli.demo_service import serving

    for package, module in _REQUIRED.items():
        if not is_installed(module):
            raise MissingExtraError(package, "demo")
    make_room(args.path, args.keep)
    # Now, since code in C that is interrupted while it is imported may swallow what a signal raises.
    import_module("rimp_otel.storage.files.recording")
    with (
        _ended_by_signals(),
        Progress("a small shop is being visited") as progress,
        serving(args.path) as service,
    ):
        progress.show()
        visited = visit(service)
    recording = open_recording_at(args.path)
    look = shlex.quote(str(args.path))
    for line in format_demo(recording, visited, look, output_width(), style_from_args(args)):
        print(line)
    return 0


def make_room(path: Path, keep: bool) -> None:
    """Makes the directory, or empties it of an earlier demo.

    Raises:
        UsageError: there is something else.
    """
    if os.path.lexists(path):
        _require_own(path)
        if keep:
            return
        shutil.rmtree(path)
    path.mkdir(mode=0o700, parents=True)
    (path / _MARK).touch(mode=0o600)


def _require_own(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        raise UsageError(f"{path} is there, and is no directory: name another with --path")
    names = sorted(entry.name for entry in path.iterdir())
    if names and _MARK not in names:
        raise UsageError(f"{path} is there, and is not from a demo: name another with --path")
    if foreign := [name for name in names if not _OWN.fullmatch(name)]:
        raise UsageError(
            f"{path / foreign[0]} is not from a demo, and would be deleted: "
            "move it, or name another directory with --path"
        )


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Has SIGTERM and SIGHUP unwind the stack, so that the service ends too."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- The customers of ``rimp demo``'s shop, the last of whom never gets an answer.

ORDERS = "shop.orders"
"""The metric that counts them."""

_LONGEST_WAIT, _PAUSE = 15.0, 0.005
"""Seconds to wait for a sign, and between two looks."""


class Request(NamedTuple):
    """What a customer asks for; an order, where there is a card."""

    path: str
    card: str = ""
    quantity: int = 1


def _requests() -> Iterator[Request]:
    for number in range(10):
        yield Request("/products")
        yield Request(f"/products/{('tea', 'mug', 'kettle')[number % 3]}")
        card = "1881" if number in (3, 7) else "0069" if number == 5 else "4242"
        yield Request("tea" if number % 2 else "mug", card, 1 + number % 3)
        if number % 3 == 0:
            yield Request("/products/toaster")
            yield Request("kettle", "4242", 2)
        elif number % 4 == 0:
            yield Request("tea", "4242", 3)


REQUESTS = tuple(_requests())
"""The same every time: some are slow, some ask for what there is not, one card is refused."""

_ENDLESS = Request("mug", "0404")
_LAST = (Request("/products"), Request("/products/tea"), Request("/products/mug"))
_SIGN = "the bank does not answer"


class Visit(NamedTuple):
    """How the requests went."""

    #: Nanoseconds since the epoch.
    began: int
    #: Of those that were answered.
    statuses: Counter[int]
    seconds: float


def visit(service: Service) -> Visit:
    """Sends the requests, one after the other; then kills the service while it handles one, at the
    very moment at which it has answered the last of the others.

    Raises:
        ServiceError: the service did not do what it should.
    """
    began, started = time.time_ns(), time.monotonic()
    watcher = _Watcher(service.path)
    statuses = Counter(_status(service.address, request) for request in REQUESTS)
    ordered = sum(bool(request.card) for request in REQUESTS)
    watcher.wait_for("its metrics", lambda: watcher.orders == ordered)
    never_answered = threading.Thread(target=_wait, args=(service.address, _ENDLESS), daemon=True)
    never_answered.start()
    watcher.wait_for("the last order", lambda: watcher.is_charging)
    statuses += Counter(_status(service.address, request) for request in _LAST)
    service.kill()
    watcher.wait_for("its end", watcher.is_alone)
    return Visit(began, statuses, time.monotonic() - started)


def _wait(address: str, request: Request) -> None:
    try:
        _status(address, request)
    except (OSError, http.client.HTTPException):
        pass  # as it must be: who would answer has been killed


def _status(address: str, request: Request) -> int:
    path, body = request.path, None
    if request.card:
        order = {"sku": request.path, "quantity": request.quantity, "card": request.card}
        path, body = "/checkout", to_json(order).encode()
    # Loopback needs no proxy, whatever the environment says.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address + path, body, timeout=_LONGEST_WAIT) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


class _Watcher:
    """Sees in the recording what the service does, while it does it."""

    def __init__(self, path: Path) -> None:
        from rimp_otel.storage.files.recording import FileRecording

        self._recording = FileRecording(path)
        self._recording.skip()
        self._outcomes: dict[str, float] = {}
        #: Whether it waits for the bank.
        self.is_charging = False

    @property
    def orders(self) -> float:
        """How many it has counted."""
        return sum(self._outcomes.values())

    def is_alone(self) -> bool:
        """Whether nobody records there any more."""
        layout = self._recording.layout
        return not any(is_owned(layout.journal(slot)) for slot in layout.slots())

    def wait_for(self, what: str, is_there: Callable[[], bool]) -> None:
        """Looks again and again, until it is there.

        Raises:
            ServiceError: that takes too long.
        """
        deadline = time.monotonic() + _LONGEST_WAIT
        while not is_there():
            if time.monotonic() > deadline:
                raise ServiceError(f"the service did not show {what} in {_LONGEST_WAIT:g} s")
            time.sleep(_PAUSE)
            for data in self._recording.poll():
                self._see(data)

    def _see(self, data: TelemetryData) -> None:
        for metric in data.metrics:
            if metric.name == ORDERS:
                self._outcomes[str(metric.tags["outcome"])] = metric.value
        self.is_charging |= any(event.message == _SIGN for event in data.events)


# --- What ``rimp demo`` shows: the recording at a glance.

LATENCY = "shop.checkout.duration"


class _Page(NamedTuple):
    data: TelemetryData
    width: int
    style: Style

    def title(self, text: str, remark: str = "") -> str:
        remark = clip_text(remark, self.width - display_width(text) - 2, self.style.glyphs.ellipsis)
        return (
            f"{self.style.paint(text, 'bold', 'cyan')}  {self.style.paint(remark, 'dim')}".rstrip()
        )

    def spans(self, trace_id: int) -> list[ReadableSpan]:
        return [span for span in self.data.spans if trace_id_of(span) == trace_id]

    def events(self, trace_id: int) -> list[TelemetryEvent]:
        events = [event for event in self.data.events if event.trace_id == trace_id]
        return sorted(events, key=time_of)


def format_demo(
    recording: Recording, visit: Visit, look: str, width: int, style: Style
) -> list[str]:
    """The recording of the demo as lines of text.

    Args:
        recording: of which nothing was polled yet.
        visit: how the requests went that were recorded.
        look: how ``--path`` names the recording on a command line.
        width: columns of the terminal.
        style: what the terminal can show.
    """
    from rimp_otel.batch import TelemetryData

    data = TelemetryData.concat(recording.poll(final=True))
    page = _Page(data, width, style)
    finished = (span for span in _roots(data) if not is_interrupted(span))
    slowest = max(finished, key=lambda span: duration_of(span) or 0, default=None)
    failure = next((event for event in data.events if "exception.type" in event.metadata), None)
    sections = [
        _visit(visit, page),
        _stats(recording, page),
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
    total = format_count(visit.statuses.total(), "request")
    yield f"{total} in {visit.seconds:.1f} s{between}{between.join(answers)}"


def _stats(recording: Recording, page: _Page) -> Iterator[str]:
    stats = count_recording(recording, [page.data])
    yield page.title("Recorded", "rimp stats")
    # The last line says that nothing is damaged.
    yield from format_stats(stats, page.style)[: None if stats.damaged else -1]


def _slowest(root: ReadableSpan | None, page: _Page) -> Iterator[str]:
    if root is None:
        return
    trace_id = trace_id_of(root)
    yield page.title("The slowest request", f"rimp trace {trace_id:032x}"[:19])
    yield from render_trace_text(
        page.spans(trace_id), page.events(trace_id), page.width, page.style
    )


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
    yield head + clip_text("  ".join(rest), page.width - 19, style.glyphs.ellipsis)
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
    yield f"{format_count(answered, 'request')} were answered, {verdict}; and of the one that was not:"
    for span in cut[:1]:
        trace_id = trace_id_of(span)
        lines = render_trace_text(
            page.spans(trace_id), page.events(trace_id), page.width, page.style
        )
        # Without what stands above the axis, and below: the title says it.
        start, end = lines.index(""), len(lines) - lines[::-1].index("")
        yield from lines[start : end - 1]


_FRAME = re.compile(r'^  File "([^"\n]+)", line (\d+), in (.+)\n    (.*)$', re.MULTILINE)


def _exception(event: TelemetryEvent, page: _Page) -> Iterator[str]:
    style, attributes = page.style, event.metadata
    indent = " " * 19
    text = f"{attributes['exception.type']}: {attributes.get('exception.message', '')}"
    yield indent + style.paint(clip_text(style.clean(text), page.width - 19), "red", "bold")
    frames = _FRAME.findall(str(attributes.get("exception.stacktrace", "")))
    for file, line, function, code in frames:
        if file == frames[-1][0]:  # not those of the libraries on the way there
            place = f"{file.rpartition('/')[2]}:{line}"
            shown = style.clean(f"{pad_text(place, 12)}  {pad_text(function, 10)}  {code}")
            yield indent + style.paint(
                clip_text(shown, page.width - 19, style.glyphs.ellipsis), "dim"
            )


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
    distribution = distribution_of(point)
    values = [(f"p{share}", distribution.quantile(share / 100)) for share in (50, 90, 99)]
    shown = [
        f"{style.paint(name, 'bold')} {style.duration(_nanos(seconds))}"
        for name, seconds in [*values, ("max", point.max)]
        if seconds is not None
    ]
    return [*lines, f"{'':>14}        " + "   ".join(shown)]


def _nanos(seconds: float) -> int:
    return round(seconds * 1e9)


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
    wide = max(display_width(command) for command, _ in commands)
    yield page.title("What next")
    for command, remark in commands:
        yield f"  {pad_text(command, wide)}   {page.style.paint(remark, 'dim')}"
