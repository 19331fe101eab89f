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

pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed")


@pytest.mark.timeout(180)
def test_workers_that_are_killed_under_load(tmp_path):
    """Nothing goes back, nothing is counted twice, and what is missing died with its worker."""
    skip_without("gunicorn")
    found = scrape_workers(tmp_path, 3.0, 0.6)
    assert found.faults() == []
    assert found.counted > 50
    assert len(found.kills) >= 3


def test_all_formats(tmp_path):
    """Native histograms where they are asked for, buckets where not; hostile text in both."""
    now = time.time_ns()
    nasty = 'a"b\\c\nd{e}'
    exponential = {
        "scale": 0,
        "count": "8",
        "sum": 40.0,
        "positive": {"offset": 1, "bucketCounts": ["4", "0", "4"]},
    }
    lines = [
        line("exponentialHistogram", point(None, now, now - 10**10, **exponential), name="size"),
        line("sum", point(5, now, now - 10**10), name="orders"),
        line("gauge", point(7, now) | {"attributes": [text(nasty, nasty)]}, name="queue"),
    ]
    with open_storage(tmp_path / "recording") as storage:
        storage.store(TelemetryData.from_otlp_json(lines))
    server = InProcessMetrics(tmp_path / "recording", 0)
    server.run()
    address = f"127.0.0.1:{wait_for(lambda: server.port)}"
    try:
        for option in ("native-histograms", "exemplar-storage"):
            directory = tmp_path / option
            directory.mkdir()
            with Prometheus(
                directory, address, f"--enable-feature={option}", interval="250ms"
            ) as prometheus:
                wait_for(lambda: prometheus.value('orders_total{job="shop"}') == 5.0)
                assert prometheus.failed_scrapes() == []
                assert prometheus.value('queue{job="shop"}') == 7.0
                if option == "native-histograms":
                    assert prometheus.value("histogram_count(size)") == 8.0
                    assert prometheus.value("histogram_sum(size)") == 40.0
                    # The values are in (2, 4] and (8, 16].
                    assert prometheus.value("histogram_quantile(0.25, size)") == 3.0
                    assert prometheus.value("histogram_quantile(1, size)") == 16.0
                    assert prometheus.value("size_count") is None
                else:
                    assert prometheus.value("size_count") == 8.0
                    assert prometheus.value('size_bucket{le="4.0"}') == 4.0
    finally:
        server.stop(DEADLINE)
