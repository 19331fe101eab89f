"""Metrics of forwarding: what the ledger says, when they are collected."""

from __future__ import annotations

import threading

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from rimp_otel.batch import TelemetryData
from rimp_otel.models.records import TelemetryEvent
from rimp_otel.storage.files.storage import FileStorage
from rimp_otel.transport.forwarding.destination import Delivered, Refused, RetryLater
from rimp_otel.transport.forwarding.forward_metrics import observe_forwarders
from rimp_otel.transport.forwarding.forwarder import Forwarder, ForwarderOptions
from tests.doubles import DEADLINE
from tests.transport.doubles import ScriptedDestination


def test_metrics_say_what_the_ledger_says(tmp_path):
    """Acknowledged and refused ones by reason, those that are pending, and their age."""
    with FileStorage(tmp_path / "t") as storage:
        events = [TelemetryEvent("source", message) for message in ("a", "bad", "c")]
        storage.store(TelemetryData(events))
        destination = ScriptedDestination()
        destination.otherwise = lambda batch: (
            Refused("400") if b'"bad"' in b"".join(batch.lines) else Delivered()
        )
        forwarder = Forwarder(tmp_path / "t", [destination], ForwarderOptions(interval=0.01))
        reader = InMemoryMetricReader()
        provider = MeterProvider([reader])
        observe_forwarders(forwarder, provider)
        forwarder.start()
        destination.wait_for(lambda: len(destination.messages) == 2)
        is_offered = threading.Event()
        destination.otherwise = lambda batch: is_offered.set() or RetryLater("503", 600.0)
        storage.store(TelemetryData([TelemetryEvent("source", "later")]))
        assert is_offered.wait(DEADLINE)
        found = collect(reader)
        assert forwarder.stop()
    provider.shutdown()
    assert found["rimp.forward.records", "logs", "acknowledged", None] == 2
    assert found["rimp.forward.records", "logs", "refused", "by_destination"] == 1
    assert found["rimp.forward.pending", "logs", None, None] == 1
    assert found["rimp.forward.pending", "traces", None, None] == 0
    assert found["rimp.forward.lag", "logs", None, None] > 0


def collect(reader):
    """Return the values by name, signal, outcome and reason."""
    data = reader.get_metrics_data()
    (scope,) = data.resource_metrics[0].scope_metrics
    return {
        (
            metric.name,
            point.attributes["rimp.signal"],
            point.attributes.get("rimp.outcome"),
            point.attributes.get("error.type"),
        ): point.value
        for metric in scope.metrics
        for point in metric.data.data_points
    }
