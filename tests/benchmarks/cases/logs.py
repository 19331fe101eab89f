"""Case 4: log records through the standard library's logging."""

from __future__ import annotations

import logging
from collections.abc import Callable

import rimp_otel
from rimp_otel import TelemetryConfig
from tests.benchmarks import peers
from tests.benchmarks.child import check, measure_work
from tests.benchmarks.model import Case, Contender, Figures, Row, Task
from tests.benchmarks.ours import count_records

_NONE, _OURS, _PEER = "logging alone", "rimp-otel", "BLRP + JSON file"


def _none(task: Task) -> Figures:
    return _run(task, lambda: None)


def _ours(task: Task) -> Figures:
    config = TelemetryConfig(storage_backend="file", storage_path=task.directory)
    telemetry = rimp_otel.install(config)

    def finish() -> None:
        check(telemetry.shutdown(600), True, "is what the shutdown says")

    figures = _run(task, finish)
    check(count_records(task.directory), task.records)
    return figures


def _peer(task: Task) -> Figures:
    from opentelemetry.instrumentation.logging.handler import LoggingHandler
    from opentelemetry.sdk._logs import LoggerProvider

    path = task.directory / "logs.jsonl"
    processor = peers.batch_logs(peers.log_file(path))
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    logging.getLogger().addHandler(LoggingHandler(logger_provider=provider))
    figures = _run(task, processor.shutdown)
    check(peers.count_text(path, b'"severityNumber"'), task.records)
    return figures


def _run(task: Task, finish: Callable[[], object]) -> Figures:
    # So that logging itself has somebody to give the records to, in all of them.
    logging.getLogger().addHandler(logging.NullHandler())
    logger = logging.getLogger("shop.orders")
    logger.setLevel(logging.INFO)

    def work() -> None:
        info = logger.info
        for number in range(task.records):
            info("order %s placed", number, extra={"order.id": number, "enduser.id": "u-1234"})
        finish()

    return measure_work(work, task.records)


CASES = (
    Case(
        4,
        "CPU that recording adds to a log record through `logging`",
        "`logger.info` with an argument and two extra fields. Ours as `rimp_otel.install()` does it; the"
        " peer with the handler of opentelemetry-instrumentation-logging, the SDK's batching processor"
        " and the official JSON file exporter. Less what logging takes alone.",
        20_000,
        4_000,
        (
            Contender(_NONE, _none),
            Contender(_OURS, _ours, (peers.LOGGING,)),
            Contender(_PEER, _peer, (peers.LOGGING, peers.JSON_FILE)),
        ),
        (Row("added CPU", _OURS, _PEER, 1 / 5, minus=_NONE),),
    ),
)
