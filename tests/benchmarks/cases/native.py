"""Cases 5 and 6: the native API, against a deque and against loggers that write JSON lines."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rimp_otel import EventType, TelemetryCollector, TelemetryConfig
from tests.benchmarks import peers
from tests.benchmarks.child import check, took
from tests.benchmarks.model import Case, Contender, Figures, Row, Task
from tests.benchmarks.ours import finish, recorded, recorder


def _memory(task: Task) -> Figures:
    collector = TelemetryCollector(TelemetryConfig(buffer_size=peers.PLENTY))

    def work() -> None:
        collect_event = collector.collect_event
        for _ in range(task.records):
            collect_event("shop", "order placed")

    figures = took(work, task.records)
    check(collector.stats().pending, task.records, "records are in the buffer")
    return figures


def _deque(task: Task) -> Figures:
    buffer: deque[tuple[int, str, str]] = deque()

    def work() -> None:
        append, now = buffer.append, time.time_ns
        for _ in range(task.records):
            append((now(), "shop", "order placed"))

    return took(work, task.records)


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

        figures = took(all_of_it, task.records)
    check(recorded(task.directory), task.records)
    return figures


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "time": record.created,
                "level": record.levelname,
                "logger": record.name,
                "message": record.getMessage(),
                "order": record.__dict__["order"],
                "user": record.__dict__["user"],
            }
        )


def _stdlib(task: Task) -> Figures:
    path = task.directory / "app.jsonl"
    handler = logging.FileHandler(path)
    handler.setFormatter(_JsonFormatter())
    logger = logging.Logger("shop", logging.INFO)
    logger.addHandler(handler)

    def work() -> None:
        for number in range(task.records):
            logger.info("order placed", extra={"order": number, "user": "u-1"})
        handler.close()

    return _lines(task, path, work)


def _loguru(task: Task) -> Figures:
    from loguru import logger

    path = task.directory / "app.jsonl"
    logger.remove()
    logger.add(path, serialize=True, level="INFO")

    def work() -> None:
        for number in range(task.records):
            logger.info("order placed", order=number, user="u-1")
        logger.remove()

    return _lines(task, path, work)


def _structlog(task: Task) -> Figures:
    path = task.directory / "app.jsonl"
    file = path.open("w")
    logger = _structured(file)

    def work() -> None:
        for number in range(task.records):
            logger.info("order placed", order=number, user="u-1")
        file.close()

    return _lines(task, path, work)


def _structured(file: Any) -> Any:
    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=file),
        cache_logger_on_first_use=True,
    )
    return structlog.get_logger().bind(logger="shop")


def _lines(task: Task, path: Path, work: Callable[[], None]) -> Figures:
    figures = took(work, task.records)
    check(peers.count(path, b"\n"), task.records)
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
            Contender(_THEIRS[0], _stdlib),
            Contender(_THEIRS[1], _loguru, ("loguru",)),
            Contender(_THEIRS[2], _structlog, ("structlog",)),
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
