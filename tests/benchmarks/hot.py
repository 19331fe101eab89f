"""The hot paths, each run many times; ``tests.benchmarks.instructions`` counts their instructions.

Each is a pair: what is counted, and an empty run, with all that is not ours, which is taken off.
"""

from __future__ import annotations

import ctypes
import gc
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from rimp_otel import (
    EventType,
    FileStorage,
    TelemetryCollector,
    TelemetryConfig,
    TelemetryData,
    TelemetryStream,
)
from rimp_otel.batch import decode_batch
from rimp_otel.models.records import Signal
from rimp_otel.otlp.outgoing import request_from_lines
from rimp_otel.otlp.requests import RequestFormat, decode_request
from tests.benchmarks.peers import span_file
from tests.benchmarks.requests import RECORDS, spans_request
from tests.benchmarks.workload import spans, tracing, varied_spans

Loop = Callable[[int], object]
_NEVER = 10_000_000
_streams: list[TelemetryStream] = []


def _collector(directory: Path, **config: Any) -> TelemetryCollector:
    """Return a collector whose journal nobody drains, so that there is no thread."""
    collector = TelemetryCollector(TelemetryConfig(buffer_size=_NEVER, **config))
    _streams.append(TelemetryStream(collector, FileStorage(directory)))
    return collector


def _span(directory: Path, **config: Any) -> tuple[Loop, Loop]:
    recording, bare = tracing(_collector(directory, **config)), tracing()
    return lambda records: spans(recording, records), lambda records: spans(bare, records)


def _span_unnoted(directory: Path) -> tuple[Loop, Loop]:
    return _span(directory, record_open_spans=False)


def _emit(directory: Path) -> tuple[Loop, Loop]:
    kept: list[Any] = []

    class Keeping(LogRecordProcessor):
        def on_emit(self, log_record: Any) -> None:
            kept.append(log_record)

        def shutdown(self) -> None:
            pass

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return True

    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(Keeping())
    attributes = {"order.id": 17, "enduser.id": "u-1234"}
    provider.get_logger("shop.orders").emit(
        LogRecord(
            timestamp=1_767_225_600_000_000_000,
            severity_number=SeverityNumber.INFO,
            severity_text="INFO",
            body="order 17 placed",
            attributes=attributes,
        )
    )
    return _called(_collector(directory).on_emit, kept[0])


def _event(directory: Path) -> tuple[Loop, Loop]:
    collect, attributes = _collector(directory).collect_event, {"order": 17, "user": "u-1"}
    return _called(collect, "shop", "order placed", EventType.INFO, attributes)


def _event_in_memory(directory: Path) -> tuple[Loop, Loop]:
    collector = TelemetryCollector(TelemetryConfig(buffer_size=_NEVER))
    return _called(collector.collect_event, "shop", "order placed")


def _metric(directory: Path) -> tuple[Loop, Loop]:
    collect, tags = _collector(directory).collect_metric, {"shop": 17, "user": "u-1"}
    return _called(collect, "order.value", 12.25, "EUR", tags)


def _called(function: Callable[..., object], *arguments: Any) -> tuple[Loop, Loop]:
    def loop(function: Callable[..., object], records: int) -> None:
        for _ in range(records):
            function(*arguments)

    return lambda records: loop(function, records), lambda records: loop(_nothing, records)


def _nothing(*arguments: Any) -> None:
    pass


def _drain(directory: Path) -> tuple[Loop, Loop]:
    collector = _collector(directory)
    tracer = tracing(collector)

    def loop(records: int) -> None:
        spans(tracer, records)
        collector.flush()

    return loop, lambda records: spans(tracer, records)


def _histogram(directory: Path) -> tuple[Loop, Loop]:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("benchmark")
    histogram = meter.create_histogram("shop.duration", "ms")
    for number in range(100):
        histogram.record(number * 7.5, {"http.route": f"/api/{number}", "shard": number})
    data = reader.get_metrics_data()

    def loop(records: int) -> None:
        for _ in range(records // 100):
            TelemetryData.from_metrics_data(data).otlp_json(Signal.METRICS)

    return loop, lambda records: None


def _decode(directory: Path) -> tuple[Loop, Loop]:
    collector = _collector(directory)
    spans(tracing(collector), 100)
    collector.flush()
    (line, *_) = (directory / "traces.jsonl").read_bytes().splitlines()
    records = len(decode_batch(line).spans)

    def loop(wanted: int) -> None:
        for _ in range(wanted // records):
            _ = decode_batch(line).spans

    return loop, lambda records: None


def _request(format: RequestFormat) -> tuple[Loop, Loop]:
    chance = random.Random(3)

    def loop(records: int) -> None:
        # As many requests as two runs need, made before: a receiver meets no request twice.
        for _ in range(records // RECORDS):
            decode_request(Signal.TRACES, bodies.pop(), format)

    bodies = [spans_request(chance, format) for _ in range(20)]
    return loop, lambda records: None


def _protobuf_request(directory: Path) -> tuple[Loop, Loop]:
    return _request(RequestFormat.PROTOBUF)


def _json_request(directory: Path) -> tuple[Loop, Loop]:
    return _request(RequestFormat.JSON)


def _forwarded(format: RequestFormat, directory: Path) -> tuple[Loop, Loop]:
    with FileStorage(directory) as storage:
        recorder = _Ended()
        varied_spans(tracing(recorder), _FORWARDED)
        storage.store(TelemetryData(spans=recorder.spans))
    lines = (directory / "traces.jsonl").read_bytes().splitlines()

    def loop(wanted: int) -> None:
        for _ in range(wanted // _FORWARDED):
            request_from_lines(Signal.TRACES, lines, format)

    return loop, lambda records: None


_FORWARDED = 1_000


def _protobuf_forwarded(directory: Path) -> tuple[Loop, Loop]:
    return _forwarded(RequestFormat.PROTOBUF, directory)


def _json_forwarded(directory: Path) -> tuple[Loop, Loop]:
    return _forwarded(RequestFormat.JSON, directory)


def _whole_span(directory: Path, **config: Any) -> tuple[Loop, Loop]:
    collector = _collector(directory, **config)
    recording, bare = tracing(collector), tracing()

    def loop(records: int) -> None:
        spans(recording, records)
        collector.flush()

    return loop, lambda records: spans(bare, records)


def _whole_span_unnoted(directory: Path) -> tuple[Loop, Loop]:
    return _whole_span(directory, record_open_spans=False)


class _Ended(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def _json_file_span(directory: Path) -> tuple[Loop, Loop]:
    # Batches of the size that the SDK's processor makes, on this thread: callgrind cannot tell the
    # instructions of two threads apart. So the processor's own queue and thread come free.
    exporter, ended = span_file(directory / "spans.jsonl"), _Ended()
    recording, bare = tracing(ended), tracing()

    def loop(records: int) -> None:
        spans(recording, records)
        for first in range(0, len(ended.spans), 512):
            exporter.export(ended.spans[first : first + 512])
        ended.spans.clear()

    return loop, lambda records: spans(bare, records)


PATHS: dict[str, Callable[[Path], tuple[Loop, Loop]]] = {
    "span, open spans noted": _span,
    "span, open spans not noted": _span_unnoted,
    "on_emit": _emit,
    "collect_event": _event,
    "collect_event, in memory": _event_in_memory,
    "collect_metric": _metric,
    "drain, a span": _drain,
    "encode a histogram point": _histogram,
    "decode a span": _decode,
    "receive a span, protobuf": _protobuf_request,
    "receive a span, JSON": _json_request,
    "forward a span, protobuf": _protobuf_forwarded,
    "forward a span, JSON": _json_forwarded,
}


COMPARED: dict[str, Callable[[Path], tuple[Loop, Loop]]] = {
    "official JSON file exporter": _json_file_span,
    "ours, the default": _whole_span,
    "ours, open spans not noted": _whole_span_unnoted,
}
"""A span's whole way into a file, what the SDK does anyway taken off: the peer's first."""


def main(library: str, records: int, wanted: list[str]) -> None:
    """Run each path under the control of the library that ``instructions`` has compiled."""
    control = ctypes.CDLL(library)
    for name in wanted:
        with tempfile.TemporaryDirectory() as directory:
            for loop, what in zip(
                {**PATHS, **COMPARED}[name](Path(directory)), ("all", "empty"), strict=True
            ):
                loop(records)  # caches, and what is made at first
                gc.collect()
                control.begin()
                loop(records)
                control.end(f"{name}/{what}".encode())
            while _streams:
                _streams.pop().stop(60)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
