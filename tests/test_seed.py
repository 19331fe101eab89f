"""The code samples that the package began with, as they stand."""

from __future__ import annotations

import json

from rimp_otel import (
    EventType,
    FileStorage,
    TelemetryCollector,
    TelemetryConfig,
    TelemetryData,
    TelemetryStorage,
)
from rimp_otel.storage import MemoryStorage
from rimp_otel.streaming.stream import TelemetryStream


def test_simple_collection():
    """Events and metrics are collected, flushed and read."""
    collector = TelemetryCollector()
    collector.collect_event("user_service", "User logged in", EventType.INFO, {"user_id": "123"})
    collector.collect_event(
        source="db", message="slow", event_type=EventType.WARNING, metadata={"ms": 900}
    )
    collector.collect_metric("response_time", 45.2, "ms", {"endpoint": "/api"})
    collector.collect_metric(name="load", value=1)
    data = collector.flush()
    assert [f"{e.source}: {e.message}" for e in data.events[:3]] == [
        "user_service: User logged in",
        "db: slow",
    ]
    assert [f"{m.name}: {m.value} {m.unit or ''}".strip() for m in data.metrics] == [
        "response_time: 45.2 ms",
        "load: 1",
    ]
    assert data.events[0].timestamp.isoformat().endswith("+00:00")


def test_realtime_monitoring():
    """A listener gets each value over 80 at once."""
    alerts = []

    def alert(data: TelemetryData) -> None:
        alerts.extend(f"{m.name} {m.value}" for m in data.metrics if m.value > 80)

    collector = TelemetryCollector(TelemetryConfig(realtime_mode=True))
    collector.add_listener(alert)
    for value in (50, 85, 79, 99.5):
        collector.collect_metric("cpu_usage", value, "%")
    assert alerts == ["cpu_usage 85", "cpu_usage 99.5"]


def test_persistent_storage(tmp_path):
    """Ten events and ten metrics go through a buffer of five, and another storage reads them."""
    path = tmp_path / "telemetry_data.jsonl"
    collector = TelemetryCollector(TelemetryConfig(buffer_size=5))
    stream = TelemetryStream(collector, FileStorage(path), interval=1.0)
    stream.start()
    for i in range(10):
        collector.collect_event("app", f"Event {i}", EventType.INFO)
        collector.collect_metric("counter", float(i), "count")
    stream.stop()
    data = FileStorage(path).retrieve()
    assert [event.message for event in data.events] == [f"Event {i}" for i in range(10)]
    assert [metric.value for metric in data.metrics] == [float(i) for i in range(10)]


def test_several_consumers():
    """Each consumer gets every batch."""
    collector = TelemetryCollector()
    storage = MemoryStorage()
    stream = TelemetryStream(collector, storage, interval=1.0)
    printed, counted = [], []
    stream.add_consumer(lambda data: printed.extend(e.message for e in data.events))
    stream.add_consumer(lambda data: counted.append(len(data)))
    stream.start()
    for i in range(5):
        collector.collect_event("app", str(i))
    stream.stop()
    assert printed == ["0", "1", "2", "3", "4"]
    assert sum(counted) == 5
    assert len(storage.retrieve().events) == 5


def test_configuration():
    """The configuration has its fields by their names."""
    config = TelemetryConfig(
        enabled=True,
        buffer_size=100,
        flush_interval=5.0,
        realtime_mode=True,
        storage_backend="memory",
        storage_path=None,
    )
    stream = TelemetryStream(TelemetryCollector(config))
    assert type(stream.storage) is MemoryStorage
    assert stream.interval == 5.0
    TelemetryConfig(storage_backend="file", storage_path="/tmp/telemetry.jsonl")
    TelemetryConfig(enabled=False)


def test_custom_storage():
    """A storage needs two methods, and gets the objects of a batch."""

    class DatabaseStorage(TelemetryStorage):
        def __init__(self):
            self.rows = []

        def store(self, data):
            for event in data.events:
                row = [event.timestamp.isoformat(), event.source, event.message]
                self.rows.append([*row, event.event_type.value, json.dumps(event.metadata)])
            for metric in data.metrics:
                self.rows.append([metric.timestamp.isoformat(), metric.name, metric.value])

        def retrieve(self, start_time=None, end_time=None, limit=None):
            return TelemetryData(events=[], metrics=[])

    collector = TelemetryCollector()
    storage = DatabaseStorage()
    with TelemetryStream(collector, storage):
        collector.collect_event("app", "hello", EventType.ERROR, {"k": [1]})
        collector.collect_metric("m", 2)
    assert [row[1:] for row in storage.rows] == [
        ["app", "hello", "error", '{"k": [1]}'],
        ["m", 2],
    ]
    assert not storage.retrieve()
