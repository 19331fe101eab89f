"""``rimp demo``: records a small web shop, kills it, and shows the recording."""

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
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

from rimp_otel.analysis.metrics import combine_series, metric_series
from rimp_otel.cli.demo_service import DemoService, ServiceError
from rimp_otel.cli.metrics import format_series
from rimp_otel.cli.options import UsageError, add_color_option, output_width, style_from_args
from rimp_otel.cli.output import Progress, open_recording_at
from rimp_otel.cli.run import is_installed
from rimp_otel.cli.signals import exit_on_signal, handle_signals
from rimp_otel.cli.stats import count_recording, format_stats
from rimp_otel.cli.tail import format_log
from rimp_otel.errors import MissingExtraError
from rimp_otel.journal.slots import is_owned
from rimp_otel.models.accessors import (
    duration_of,
    is_interrupted,
    parent_id_of,
    start_of,
    time_of,
    trace_id_of,
)
from rimp_otel.render.format import format_count
from rimp_otel.render.terminal import Style, clip_text, display_width, pad_text, to_json
from rimp_otel.render.trace_text import EVENT_MARKS, render_trace_text

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from rimp_otel.batch import TelemetryData
    from rimp_otel.models.records import TelemetryEvent
    from rimp_otel.storage.base import Recording

__all__ = [
    "REQUESTS",
    "DemoResult",
    "add_demo_arguments",
    "format_demo",
    "prepare_directory",
    "send_demo_requests",
]

_REQUIRED = {
    "flask": "flask",
    "requests": "requests",
    "opentelemetry-instrumentation": "opentelemetry.instrumentation.auto_instrumentation",
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


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp demo``."""
    parser.description = _DESCRIPTION
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
    from rimp_otel.cli.demo_service import run_service

    for package, module in _REQUIRED.items():
        if not is_installed(module):
            raise MissingExtraError(package, "demo")
    prepare_directory(args.path, args.keep)
    # Imported before signals are handled: a C extension that is interrupted while it is imported
    # may swallow the exception that a handler raises.
    import_module("rimp_otel.storage.files.recording")
    # SIGTERM and SIGHUP must unwind the stack, so that the service ends, too.
    with (
        handle_signals({signal.SIGTERM: exit_on_signal, signal.SIGHUP: exit_on_signal}),
        Progress("sending requests to a small shop") as progress,
        run_service(args.path) as service,
    ):
        progress.show()
        result = send_demo_requests(service)
    recording = open_recording_at(args.path)
    for line in format_demo(recording, result, args.path, output_width(), style_from_args(args)):
        print(line)
    return 0


# The directory, which is emptied only if a demo made all that is in it.

_MARKER = ".rimp-demo"
_OWN_NAME = re.compile(
    r"(traces|logs|metrics)\.[\w.]+|journal[\w.]*|sealed|damaged|" + re.escape(_MARKER)
)


def prepare_directory(path: Path, keep: bool) -> None:
    """Create the directory to record in; remove the recording of an earlier demo, if not ``keep``.

    Raises:
        UsageError: something else is at ``path``.
    """
    if os.path.lexists(path):
        _require_own(path)
        if keep:
            return
        shutil.rmtree(path)
    path.mkdir(mode=0o700, parents=True)
    (path / _MARKER).touch(mode=0o600)


def _require_own(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        raise UsageError(f"{path} exists and is not a directory: give another --path")
    names = sorted(entry.name for entry in path.iterdir())
    if names and _MARKER not in names:
        raise UsageError(f"{path} exists and was not made by a demo: give another --path")
    if foreign := [name for name in names if not _OWN_NAME.fullmatch(name)]:
        raise UsageError(
            f"{path / foreign[0]} was not made by a demo, and would be deleted: "
            "move it, or give another --path"
        )


# The requests, the last of which is never answered.

_ORDERS_METRIC = "shop.orders"
_LATENCY_METRIC = "shop.checkout.duration"
_LAST_LOG_MESSAGE = "the bank does not answer"
_MAX_WAIT, _POLL_SECONDS = 15.0, 0.005


class ShopRequest(NamedTuple):
    """A request to the shop: a path to get, or with a card, a product to order."""

    path: str
    card: str = ""
    quantity: int = 1


def _make_requests() -> Iterator[ShopRequest]:
    for number in range(10):
        yield ShopRequest("/products")
        yield ShopRequest(f"/products/{('tea', 'mug', 'kettle')[number % 3]}")
        card = "1881" if number in (3, 7) else "0069" if number == 5 else "4242"
        yield ShopRequest("tea" if number % 2 else "mug", card, 1 + number % 3)
        if number % 3 == 0:
            yield ShopRequest("/products/toaster")
            yield ShopRequest("kettle", "4242", 2)
        elif number % 4 == 0:
            yield ShopRequest("tea", "4242", 3)


REQUESTS = tuple(_make_requests())
"""The same in every demo: some are slow, some ask for unknown products, one card is refused."""

_NEVER_ANSWERED = ShopRequest("mug", "0404")
_LAST_ANSWERED = (
    ShopRequest("/products"),
    ShopRequest("/products/tea"),
    ShopRequest("/products/mug"),
)


class DemoResult(NamedTuple):
    """What became of the requests of a demo."""

    #: When the first was sent, in nanoseconds since the epoch.
    start: int
    #: The HTTP status codes of the answers.
    statuses: Counter[int]
    seconds: float


def send_demo_requests(service: DemoService) -> DemoResult:
    """Send the requests one by one, then kill the service in the middle of another.

    It is killed right after it has answered three more, so that nothing but the journal can have
    saved their records.

    Raises:
        ServiceError: the service did not do what the demo expects.
    """
    start, started = time.time_ns(), time.monotonic()
    watcher = _RecordingWatcher(service.path)
    statuses = Counter(_send(service.address, request) for request in REQUESTS)
    orders = sum(bool(request.card) for request in REQUESTS)
    watcher.wait_for("record its metrics", lambda: watcher.orders == orders)
    # The answer never comes: whoever would give it is killed.
    threading.Thread(
        target=_send_without_answer, args=(service.address, _NEVER_ANSWERED), daemon=True
    ).start()
    watcher.wait_for("start the last order", lambda: watcher.is_charging)
    statuses += Counter(_send(service.address, request) for request in _LAST_ANSWERED)
    service.kill()
    watcher.wait_for("end", watcher.has_no_writer)
    return DemoResult(start, statuses, time.monotonic() - started)


def _send(address: str, request: ShopRequest) -> int:
    """Send a request, and return the status code of the answer."""
    path, body = request.path, None
    if request.card:
        order = {"sku": request.path, "quantity": request.quantity, "card": request.card}
        path, body = "/checkout", to_json(order).encode()
    # Loopback needs no proxy, whatever the environment says.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address + path, body, timeout=_MAX_WAIT) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def _send_without_answer(address: str, request: ShopRequest) -> None:
    try:
        _send(address, request)
    except (OSError, http.client.HTTPException):
        pass


class _RecordingWatcher:
    """Reads in the recording what the service does, while it does it."""

    def __init__(self, path: Path) -> None:
        from rimp_otel.storage.recording import open_recording

        self._recording = open_recording(path, must_exist=False)
        self._recording.skip()
        self._outcomes: dict[str, float] = {}
        #: True once the service waits for the bank.
        self.is_charging = False

    @property
    def orders(self) -> float:
        """The number of orders that the service has counted."""
        return sum(self._outcomes.values())

    def has_no_writer(self) -> bool:
        """Return True if no process writes the recording any more."""
        from rimp_otel.storage.recording import layout_of

        layout = layout_of(self._recording.path)
        return not any(is_owned(layout.journal(slot)) for slot in layout.slots())

    def wait_for(self, action: str, is_done: Callable[[], bool]) -> None:
        """Wait until the service has done something.

        Raises:
            ServiceError: it takes too long.
        """
        deadline = time.monotonic() + _MAX_WAIT
        while not is_done():
            if time.monotonic() > deadline:
                raise ServiceError(f"the service did not {action} within {_MAX_WAIT:g} s")
            time.sleep(_POLL_SECONDS)
            for data in self._recording.poll():
                self._update(data)

    def _update(self, data: TelemetryData) -> None:
        for metric in data.metrics:
            if metric.name == _ORDERS_METRIC:
                self._outcomes[str(metric.tags["outcome"])] = metric.value
        self.is_charging |= any(event.message == _LAST_LOG_MESSAGE for event in data.events)


# The report: what the other commands show of the recording.


def format_demo(
    recording: Recording, result: DemoResult, path: Path, width: int, style: Style
) -> list[str]:
    """Return the report of a demo as lines of text.

    Args:
        recording: the recording of the demo, of which nothing has been polled.
        result: what became of the requests.
        path: path of the recording, to be shown in commands.
        width: columns of the terminal.
        style: what the terminal can show.
    """
    from rimp_otel.batch import TelemetryData

    data = TelemetryData.concat(recording.poll(final=True))
    roots = [span for span in data.spans if not parent_id_of(span)]
    finished = [span for span in roots if not is_interrupted(span)]
    slowest = max(finished, key=lambda span: duration_of(span) or 0, default=None)
    failure = next((event for event in data.events if "exception.type" in event.metadata), None)
    page = _Page(data, width, style)
    sections = [
        _request_lines(result, page),
        _stats_lines(recording, page),
        _slowest_lines(slowest, page),
        _failure_lines(failure, page),
        _killed_lines(roots, result, page),
        _latency_lines(page),
        _next_lines(trace_id_of(slowest) if slowest else 0, path, page),
    ]
    return [line for section in sections for line in ("", *section)][1:]


class _Page(NamedTuple):
    data: TelemetryData
    width: int
    style: Style

    def title(self, text: str, remark: str = "") -> str:
        ellipsis = self.style.glyphs.ellipsis
        remark = clip_text(remark, self.width - display_width(text) - 2, ellipsis)
        title = self.style.paint(text, "bold", "cyan")
        return f"{title}  {self.style.paint(remark, 'dim')}".rstrip()

    def events(self, trace_id: int) -> list[TelemetryEvent]:
        events = [event for event in self.data.events if event.trace_id == trace_id]
        return sorted(events, key=time_of)

    def waterfall(self, trace_id: int) -> list[str]:
        spans = [span for span in self.data.spans if trace_id_of(span) == trace_id]
        return render_trace_text(spans, self.events(trace_id), self.width, self.style)


def _request_lines(result: DemoResult, page: _Page) -> Iterator[str]:
    yield page.title("A small shop", "Flask, SQLite, an HTTP call, logging, and no recording code")
    answers = [
        page.style.paint(
            f"{count} {HTTPStatus(status).phrase}", *(["red"] if status >= 500 else [])
        )
        for status, count in sorted(result.statuses.items())
    ]
    between = page.style.glyphs.between
    total = format_count(result.statuses.total(), "request")
    yield f"{total} in {result.seconds:.1f} s{between}{between.join(answers)}"


def _stats_lines(recording: Recording, page: _Page) -> Iterator[str]:
    stats = count_recording(recording, [page.data])
    yield page.title("Recorded", "rimp stats")
    # The last line says that nothing is damaged.
    yield from format_stats(stats, page.style)[: None if stats.damaged else -1]


def _slowest_lines(root: ReadableSpan | None, page: _Page) -> Iterator[str]:
    if root is not None:
        trace_id = trace_id_of(root)
        yield page.title("The slowest request", f"rimp trace {_short_id(trace_id)}")
        yield from page.waterfall(trace_id)


def _short_id(trace_id: int) -> str:
    return f"{trace_id:032x}"[:8]


def _failure_lines(failure: TelemetryEvent | None, page: _Page) -> Iterator[str]:
    if failure is not None:
        yield page.title(
            "The request that failed", f"rimp logs --trace {_short_id(failure.trace_id)}"
        )
        plain = page.style._replace(color=False)
        for event in page.events(failure.trace_id):
            looks = EVENT_MARKS[event.event_type][1]
            for line in wrap(format_log(event, plain), page.width, subsequent_indent=" " * 20):
                yield page.style.paint(line, *looks)


def _killed_lines(roots: list[ReadableSpan], result: DemoResult, page: _Page) -> Iterator[str]:
    requests = [
        span for span in roots if span.kind.name == "SERVER" and start_of(span) >= result.start
    ]
    interrupted = [trace_id_of(span) for span in requests if is_interrupted(span)]
    command = f"rimp trace {_short_id(interrupted[0])}" if interrupted else ""
    yield page.title("Killed by SIGKILL in the middle of a request", command)
    answered, recorded = result.statuses.total(), len(requests) - len(interrupted)
    looks = ("green", "bold") if answered == recorded else ("red", "bold")
    verdict = page.style.paint(f"{recorded:,} recorded", *looks)
    yield f"{format_count(answered, 'request')} answered, {verdict}; the unanswered request:"
    for trace_id in interrupted[:1]:
        yield from page.waterfall(trace_id)


def _latency_lines(page: _Page) -> Iterator[str]:
    points = [metric for metric in page.data.metrics if metric.name == _LATENCY_METRIC]
    if points:
        times = [point.time_unix_nano for point in points]
        yield page.title("A metric", f"rimp metrics {_LATENCY_METRIC}")
        series = combine_series(metric_series(points))
        yield from format_series(series, min(times), max(times), page.width, page.style)


def _next_lines(trace_id: int, path: Path, page: _Page) -> Iterator[str]:
    path_option = f"--path {shlex.quote(str(path))}"
    commands = [
        (f"rimp ui {path_option}", "look at all of it in the browser"),
        (f"rimp traces {path_option}", "list all requests, the newest first"),
        (f"rimp trace {_short_id(trace_id)} {path_option}", "show one of them"),
        (f"rimp tail {path_option}", "print all records in the order of time; -f follows"),
        (f"rimp verify {path_option}", "check every line and the journal"),
        ("rimp run -- python app.py", "record your own program"),
    ]
    width = max(display_width(command) for command, _ in commands)
    yield page.title("What next")
    for command, remark in commands:
        yield f"  {pad_text(command, width)}   {page.style.paint(remark, 'dim')}"
