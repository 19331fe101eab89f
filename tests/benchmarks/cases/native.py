"""Cases 5 and 6: the native API, against a deque and against loggers that write JSON lines."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from rimp_otel import EventType, TelemetryCollector, TelemetryConfig
from tests.benchmarks import peers
from tests.benchmarks.child import check, measure_work
from tests.benchmarks.loggers import with_loguru, with_stdlib, with_structlog
from tests.benchmarks.model import Case, Contender, Figures, Row, Task
from tests.benchmarks.ours import count_records, finish, recorder


def _memory(task: Task) -> Figures:
    collector = TelemetryCollector(TelemetryConfig(buffer_size=peers.PLENTY))

    def work() -> None:
        collect_event = collector.collect_event
        for _ in range(task.records):
            collect_event("shop", "order placed")

    figures = measure_work(work, task.records)
    check(collector.stats().pending, task.records, "records are in the buffer")
    return figures


def _deque(task: Task) -> Figures:
    buffer: deque[tuple[int, str, str]] = deque()

    def work() -> None:
        append, now = buffer.append, time.time_ns
        for _ in range(task.records):
            append((now(), "shop", "order placed"))

    return measure_work(work, task.records)


def _events(task: Task) -> Figures:
    def work(collector: TelemetryCollector) -> None:
        collect_event = collector.collect_event
        for number in range(task.records):
            collect_event("shop", "order placed", EventType.INFO, {"order": number, "user": "u-1"})

    return _to_files(task, work)


def _metrics(task: Task) -> Figures:
    def work(collector: TelemetryCollector) -> None:
        collect_metric = collector.collect_metric
        for number in range(task.records):
            collect_metric(
                "order.value", number * 0.25, "EUR", {"shop": number % 50, "user": "u-1"}
            )

    return _to_files(task, work)


def _to_files(task: Task, work: Callable[[TelemetryCollector], None]) -> Figures:
    with recorder(task.directory) as stream:

        def all_of_it() -> None:
            work(stream.collector)
            finish(stream)

        figures = measure_work(all_of_it, task.records)
    check(count_records(task.directory), task.records)
    return figures


_OURS = ("rimp-otel, collect_event", "rimp-otel, collect_metric")
_THEIRS = (
    "logging.FileHandler, JSON formatter",
    "loguru, serialize=True",
    "structlog, JSON to a file",
)

CASES = (
    Case(
        5,
        "collect_event into the memory buffer",
        "`collect_event(source, message)` in a loop on one thread, with nobody draining. The peer"
        " does the least that could be called collecting: it appends a tuple with the time to a deque.",
        200_000,
        50_000,
        (Contender("rimp-otel", _memory), Contender("deque.append((time_ns(), …))", _deque)),
        (Row("CPU", "rimp-otel", "deque.append((time_ns(), …))", 2.5),),
    ),
    Case(
        6,
        "Native records, the whole way into JSON lines",
        "Records with two attributes on one thread as fast as they can be made, with the default"
        " configuration, so with the journal; records a second by the clock on the wall until the last"
        " one is in the file. The peers write the same two fields, the time and the level.",
        200_000,
        20_000,
        (
            Contender(_OURS[0], _events),
            Contender(_OURS[1], _metrics),
            Contender(_THEIRS[0], with_stdlib),
            Contender(_THEIRS[1], with_loguru, ("loguru",)),
            Contender(_THEIRS[2], with_structlog, ("structlog",)),
        ),
        tuple(
            Row(ours.partition(", ")[2], ours, peer, 4, at_least=True, quantity="rate", unit="/s")
            for ours in _OURS
            for peer in _THEIRS
        )
        + tuple(
            Row(
                f"{ours.partition(', ')[2]}, on this machine",
                ours,
                None,
                300_000,
                True,
                True,
                "rate",
                "/s",
                smoke=False,
            )
            for ours in _OURS
        ),
    ),
)
