"""A recording in a registry of prometheus-client."""

from __future__ import annotations

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from rimp_otel import TelemetryData
from rimp_otel.prometheus import RecordingCollector
from rimp_otel.storage.recording import open_storage
from tests.prometheus.lines import LINES, read_openmetrics, samples
from tests.prometheus.test_table import line, point


def test_beside_what_a_program_counts_itself(tmp_path):
    """All kinds are in it, and what was recorded since the last scrape."""
    registry = CollectorRegistry()
    Counter("own", "of the program", registry=registry).inc(3)
    registry.register(RecordingCollector(tmp_path / "recording", clock=lambda: 1_000 * 10**9))
    assert b"own_total 3.0\n" in generate_latest(registry)
    with open_storage(tmp_path / "recording") as storage:
        storage.store(TelemetryData.from_otlp_json(LINES))
        families = list(read_openmetrics(generate_openmetrics(registry).decode()))
        found = {key: sample.value for key, sample in samples(families).items()}
        assert found["own_total",] == 3.0
        assert found["http_requests_total",] == 5.0
        assert found["latency_seconds_bucket", ("le", "2.5")] == 3.0
        assert found["size_bytes_count",] == 7.0
        assert found["old", ("quantile", "0.5")] == 2.0
        storage.store(
            TelemetryData.from_otlp_json([line("sum", point(9, 1_001), name="http.requests")])
        )
        assert b" 9.0\n" in generate_latest(registry)
