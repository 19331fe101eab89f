"""Case 7: OpenTelemetry's instruments, collected and encoded."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader

from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryData, TelemetryStream
from rimp_otel.models.records import Signal
from tests.benchmarks import peers
from tests.benchmarks.child import check
from tests.benchmarks.model import Case, Contender, Figures, Row, Task
from tests.benchmarks.ours import count_records, finish

_INSTRUMENTS, _TIMES = 10, 5
_NEVER = 3_600.0


def _encode_ours(task: Task) -> Figures:
    return _encoding(task, lambda data: sum(map(len, _lines(data))))


def _lines(data: Any) -> list[bytes]:
    return TelemetryData.from_metrics_data(data).otlp_json(Signal.METRICS)


def _encode_peer(task: Task) -> Figures:
    def encode(data: Any) -> int:
        text = io.StringIO()
        peers.metric_file(stream=text).export(data)
        return len(text.getvalue())

    return _encoding(task, encode)


def _encoding(task: Task, encode: Callable[[Any], int]) -> Figures:
    reader = InMemoryMetricReader()
    measure = _instruments(MeterProvider([reader], shutdown_on_exit=False), task.records)
    cpu, size = [], 0
    for number in range(_TIMES):
        measure(number)
        data = reader.get_metrics_data()
        begun = time.process_time()
        size += encode(data)
        cpu.append(time.process_time() - begun)
    check(size > 100 * task.records, True, "is whether there is a text")
    return _per_series(cpu, task.records)


def _whole_ours(task: Task) -> Figures:
    config = TelemetryConfig(
        storage_backend="file", storage_path=task.directory, metric_interval=_NEVER
    )
    stream = TelemetryStream(TelemetryCollector(config))
    figures = _whole(task, stream, lambda: check(stream.force_flush(60_000), True, "is the answer"))
    finish(stream)
    check(count_records(task.directory), 2 * task.records * (_TIMES + 1), "points are in the files")
    return figures


def _whole_peer(task: Task) -> Figures:
    path = task.directory / "metrics.jsonl"
    exporter = peers.metric_file(path=path)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=_NEVER * 1e3)
    figures = _whole(task, reader, lambda: check(reader.force_flush(60_000), True, "is the answer"))
    check(
        peers.count_text(path, b'"startTimeUnixNano"'),
        2 * task.records * _TIMES,
        "points are there",
    )
    return figures


def _whole(task: Task, reader: Any, flush: Callable[[], None]) -> Figures:
    measure = _instruments(MeterProvider([reader], shutdown_on_exit=False), task.records)
    if isinstance(reader, TelemetryStream):
        reader.start()
    cpu = []
    for number in range(_TIMES):
        measure(number)
        begun = time.process_time()
        flush()
        cpu.append(time.process_time() - begun)
    return _per_series(cpu, task.records)


def _instruments(provider: MeterProvider, series: int) -> Callable[[int], None]:
    """Return a function that measures each series of counters and histograms once."""
    meter = provider.get_meter("benchmark", "1.0")
    each = series // _INSTRUMENTS
    counters = [meter.create_counter(f"shop.orders.{n}", "1") for n in range(_INSTRUMENTS)]
    histograms = [meter.create_histogram(f"shop.duration.{n}", "ms") for n in range(_INSTRUMENTS)]
    attributes = [
        {"http.route": f"/api/{n}", "http.request.method": "GET", "shard": n} for n in range(each)
    ]

    def measure(number: int) -> None:
        for counter, histogram in zip(counters, histograms, strict=True):
            for position, given in enumerate(attributes):
                counter.add(1, given)
                histogram.record(number * 7.5 + position, given)

    return measure


def _per_series(cpu: list[float], series: int) -> Figures:
    # The first time something is made that is kept, on both sides.
    rest = cpu[1:]
    return {"cpu": sum(rest) / len(rest) / (2 * series) * 1e6}


_ENCODE, _WHOLE = "TelemetryData · encoding", "TelemetryStream · whole"
_PEER_ENCODE, _PEER_WHOLE = "JSON file exporter · encoding", "PEMR + JSON file · whole"

CASES = (
    Case(
        7,
        "Instruments: 1,000 counter and 1,000 histogram series",
        "CPU time a series. *Encoding*: the same collected metrics made into OTLP JSON, by us into"
        " lines, by the official JSON file exporter into memory. *Whole*: a forced flush, which collects"
        " the instruments (the SDK's part, the same for both and most of it), encodes and writes; ours"
        " through the journal. The peer is PeriodicExportingMetricReader (PEMR).",
        1_000,
        200,
        (
            Contender(_ENCODE, _encode_ours),
            Contender(_PEER_ENCODE, _encode_peer, (peers.JSON_FILE,)),
            Contender(_WHOLE, _whole_ours),
            Contender(_PEER_WHOLE, _whole_peer, (peers.JSON_FILE,)),
        ),
        (
            Row("encoding, per series", _ENCODE, _PEER_ENCODE, 1 / 4),
            Row("whole, per series", _WHOLE, _PEER_WHOLE),
        ),
    ),
)
