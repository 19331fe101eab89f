"""A real Prometheus takes the page, and makes of it what was counted."""

from __future__ import annotations

import time

import pytest

from rimp_otel import TelemetryData
from rimp_otel.prometheus.in_process import InProcessMetrics
from rimp_otel.storage.recording import open_storage
from tests.processes import skip_without
from tests.prometheus.prometheus_server import DEADLINE, PROMETHEUS, Prometheus, wait_for
from tests.prometheus.scraping import scrape_workers
from tests.prometheus.test_table import line, point, text
from tests.transport.serving import Served

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed")


@pytest.mark.timeout(180)
def test_workers_that_are_killed_under_load(tmp_path):
    """Nothing goes back, nothing is counted twice, and what is missing died with its worker."""
    skip_without("gunicorn")
    found = scrape_workers(tmp_path, 3.0, 0.6)
    assert found.faults() == []
    assert found.counted > 50
    assert len(found.kills) >= 3


@pytest.fixture
def recorded(tmp_path):
    """Return the path of a recording with an exponential histogram, an exemplar, and hostile text."""
    now = time.time_ns()
    nasty = 'a"b\\c\nd{e}'
    exponential = {
        "scale": 0,
        "count": "8",
        "sum": 40.0,
        "positive": {"offset": 1, "bucketCounts": ["4", "0", "4"]},
    }
    exemplar = {"timeUnixNano": str(now), "asDouble": 1.0, "traceId": "ab" * 16}
    lines = [
        line("exponentialHistogram", point(None, now, now - 10**10, **exponential), name="size"),
        line("sum", point(5, now, now - 10**10, exemplars=[exemplar]), name="orders"),
        line("gauge", point(7, now) | {"attributes": [text(nasty, nasty)]}, name="queue"),
    ]
    with open_storage(tmp_path / "recording") as storage:
        storage.store(TelemetryData.from_otlp_json(lines))
    return tmp_path / "recording"


def test_native_histograms(recorded, tmp_path):
    """In protobuf, which Prometheus asks for then, out of the process that records."""
    server = InProcessMetrics(recorded, 0)
    server.run()
    address = f"127.0.0.1:{wait_for(lambda: server.port)}"
    option = "--enable-feature=native-histograms"
    try:
        with Prometheus(tmp_path, address, option, interval="250ms") as prometheus:
            wait_for(lambda: prometheus.value("histogram_count(size)") == 8.0)
            assert prometheus.failed_scrapes() == []
            assert prometheus.value("histogram_sum(size)") == 40.0
            # The values are in (2, 4] and (8, 16].
            assert prometheus.value("histogram_quantile(0.25, size)") == 3.0
            assert prometheus.value("histogram_quantile(1, size)") == 16.0
            assert prometheus.value("size_count") is None
            assert prometheus.value('orders_total{job="shop"}') == 5.0
            assert prometheus.value('queue{job="shop"}') == 7.0
    finally:
        server.stop(DEADLINE)


def test_openmetrics_with_exemplars(recorded, tmp_path):
    """Out of `rimp serve`; exponential histograms are buckets."""
    with Served(recorded) as served:
        address = ":".join(map(str, served.address))
        option = "--enable-feature=exemplar-storage"
        with Prometheus(tmp_path, address, option, interval="250ms") as prometheus:
            wait_for(lambda: prometheus.value('orders_total{job="shop"}') == 5.0)
            assert prometheus.failed_scrapes() == []
            assert prometheus.value("size_count") == 8.0
            assert prometheus.value('size_bucket{le="4.0"}') == 4.0
            assert prometheus.value('queue{job="shop"}') == 7.0
            assert prometheus.exemplars("orders_total") == [({"trace_id": "ab" * 16}, 1.0)]
