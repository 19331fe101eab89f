"""What is measured, against whom."""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from rimp_otel import EventType, FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream
from tests.benchmarks.measure import Case, Contender, Work

_PLENTY = 10_000_000
_ATTRIBUTES = {
    "http.request.method": "GET",
    "http.route": "/api/users/{id}",
    "http.response.status_code": 200,
    "client.address": "10.0.0.1",
    "user.id": "u-1234",
    "cache.hit": False,
    "db.duration": 12.5,
    "db.rows": 17,
}


def all_cases(scale: float) -> list[Case]:
    """The cases; ``scale`` 1 is what the published figures were measured with."""
    cases = [
        Case(
            "collect_event into the memory buffer",
            "event",
            int(200_000 * scale),
            Contender("rimp-otel", _native_memory),
            Contender("deque.append((time_ns(), ...))", _bare_deque),
            None,
            1 / 8,
            True,
            "wall",
        ),
        Case(
            "collect_event, whole way into JSONL",
            "event",
            int(100_000 * scale),
            Contender("rimp-otel", _native_file),
            Contender("logging.FileHandler with a JSON formatter", _stdlib_logging),
            None,
            1.5,
            True,
            "wall",
        ),
    ]
    exporter = _official_exporter()
    if exporter is not None:
        cases.append(_span_case(int(20_000 * scale), exporter))
    return cases


def _span_case(records: int, exporter: Callable[[Path], SpanExporter]) -> Case:
    return Case(
        "added CPU of a span with 8 attributes, whole way to disk",
        "span",
        records,
        Contender("rimp-otel", _spans_ours),
        Contender(
            "BatchSpanProcessor + official JSON file exporter", lambda: _spans_official(exporter)
        ),
        Contender("no processor", lambda: _spans(None, lambda: None)),
        1 / 3,
        False,
        "cpu",
    )


def _directory() -> Path:
    return Path(tempfile.mkdtemp(prefix="rimp-benchmark-"))


def _collect(collector: TelemetryCollector, records: int) -> None:
    collect_event = collector.collect_event
    for number in range(records):
        collect_event("shop", "order placed", EventType.INFO, {"order": number, "user": "u-1"})


def _native_memory() -> Work:
    collector = TelemetryCollector(TelemetryConfig(buffer_size=_PLENTY))

    def work(records: int) -> None:
        collect_event = collector.collect_event
        for _ in range(records):
            collect_event("shop", "order placed")

    return work


def _bare_deque() -> Work:
    buffer: deque[tuple[int, str, str]] = deque()

    def work(records: int) -> None:
        append, now = buffer.append, time.time_ns
        for _ in range(records):
            append((now(), "shop", "order placed"))

    return work


def _native_file() -> Work:
    collector = TelemetryCollector(TelemetryConfig(buffer_limit=_PLENTY))
    stream = TelemetryStream(collector, FileStorage(_directory()))
    stream.start()

    def work(records: int) -> None:
        _collect(collector, records)
        stream.stop(600)
        _check(collector.stats().stored, records)

    return work


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


def _stdlib_logging() -> Work:
    path = _directory() / "app.jsonl"
    handler = logging.FileHandler(path)
    handler.setFormatter(_JsonFormatter())
    logger = logging.Logger("shop", logging.INFO)
    logger.addHandler(handler)

    def work(records: int) -> None:
        for number in range(records):
            logger.info("order placed", extra={"order": number, "user": "u-1"})
        handler.close()
        with path.open("rb") as lines:
            _check(sum(1 for _ in lines), records)

    return work


def _spans_ours() -> Work:
    collector = TelemetryCollector(TelemetryConfig(buffer_limit=_PLENTY))
    stream = TelemetryStream(collector, FileStorage(_directory()))
    stream.start()
    return _spans(collector, lambda: stream.stop(600))


def _spans_official(exporter: Callable[[Path], SpanExporter]) -> Work:
    # A queue large enough that it drops nothing: both write every span.
    processor = BatchSpanProcessor(
        exporter(_directory() / "traces.jsonl"), max_queue_size=_PLENTY, schedule_delay_millis=1_000
    )
    return _spans(processor, processor.shutdown)


def _spans(processor: SpanProcessor | None, finish: Callable[[], object]) -> Work:
    provider = TracerProvider(shutdown_on_exit=False)
    if processor is not None:
        provider.add_span_processor(processor)
    tracer = provider.get_tracer("benchmark")

    def work(records: int) -> None:
        for _ in range(records):
            tracer.start_span("GET /api/users/{id}", attributes=_ATTRIBUTES).end()
        finish()

    return work


def _official_exporter() -> Callable[[Path], SpanExporter] | None:
    try:
        from opentelemetry.exporter.otlp.json.file.trace_exporter import FileSpanExporter
    except ImportError:
        return None
    return FileSpanExporter


def _check(stored: int, records: int) -> None:
    if stored != records:
        raise AssertionError(f"{records} records were collected and {stored} are in the file")
