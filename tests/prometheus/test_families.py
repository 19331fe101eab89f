"""Names, labels and types that collide, and what is said of the services."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("prometheus_client")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from rimp_otel import TelemetryData
from rimp_otel.models.records import Signal
from rimp_otel.prometheus.families import Families
from rimp_otel.prometheus.pages import Pages
from rimp_otel.prometheus.table import SeriesTable
from tests.prometheus.lines import EXPONENTIAL, OPENMETRICS, collect, page, read_openmetrics
from tests.prometheus.test_table import line, point, text


def test_names_and_labels_that_collide():
    """Labels are joined, a second type or series is left out and counted, help is one of them."""
    both = point(1) | {"attributes": [text("a.b", "2"), text("a_b", "1")]}
    lines = (
        line("gauge", both, name="joined"),
        line("sum", point(1), name="requests", description="b"),
        line("sum", point(2), name="requests.total", description="a"),
        line("gauge", point(1), name="twice"),
        line("histogram", point(None, count="1", sum=1.0), name="twice"),
    )
    _, dropped = collect(*lines)
    body = page(*lines).body.decode()
    assert 'joined{a_b="2;1",job="shop",otel_scope_name="test"} 1.0' in body
    assert "# HELP requests_total a\n" in body
    assert dropped == {"same_name_and_labels": 1, "type_conflict": 1}
    assert body.count("# TYPE requests_total ") == body.count("# TYPE twice ") == 1


def test_several_services():
    """The job tells them apart; target_info has the rest of their resources, once each."""
    body = page(line("sum", point(1)), line("sum", point(2), service="db"), accept=OPENMETRICS).body
    text = body.decode()
    assert 'm_total{job="shop",otel_scope_name="test"} 1.0' in text
    assert 'm_total{job="db",otel_scope_name="test"} 2.0' in text
    assert 'target_info{job="db"} 1.0' in text
    assert text.count("target_info{") == 2


def test_labels_that_prometheus_needs():
    """An attribute that is named like one of them is renamed, as Prometheus does it."""
    own = [text("job", "a"), text("le", "b"), text("otel.scope.name", "c")]
    families, _ = collect(
        line("histogram", point(None, count="1", sum=1.0) | {"attributes": own}),
    )
    assert families[0].members[0].labels == (
        ("exported_job", "a"),
        ("exported_le", "b"),
        ("exported_otel_scope_name", "c"),
        ("job", "shop"),
        ("otel_scope_name", "test"),
    )


def test_what_the_official_exporter_gets_wrong():
    """Version 0.66b2 of it: a view with exponential histograms fails the scrape, two instruments make
    two types of one name, a ratio is not named so, and only one resource is told of."""
    lines = []
    for service in ("shop", "db"):
        reader = InMemoryMetricReader()
        provider = MeterProvider(
            [reader],
            Resource({"service.name": service, "host.name": "box"}),
            views=[
                View(instrument_name="size", aggregation=ExponentialBucketHistogramAggregation())
            ],
            shutdown_on_exit=False,
        )
        meter = provider.get_meter("test")
        meter.create_histogram("size", "By").record(3.0)
        meter.create_counter("requests").add(1)
        meter.create_counter("requests.total").add(2)
        meter.create_gauge("cpu.utilization", "1").set(0.5)
        data = TelemetryData.from_metrics_data(reader.get_metrics_data())
        lines += data.otlp_json(Signal.METRICS)
    table, families = SeriesTable(), Families()
    for one in lines:
        table.add_line(one)
    body = Pages().write(families.collect(table, time.time_ns()), OPENMETRICS).body.decode()
    found = {family.name: family for family in read_openmetrics(body)}
    assert {name: family.type for name, family in found.items()} == {
        "size_bytes": "histogram",
        "requests": "counter",
        "cpu_utilization_ratio": "gauge",
        "target": "info",
    }
    assert families.dropped == {"same_name_and_labels": 2}
    assert [sample.labels["job"] for sample in found["target"].samples] == ["db", "shop"]
    assert {sample.labels["host_name"] for sample in found["target"].samples} == {"box"}
    sizes = [s.value for s in found["size_bytes"].samples if s.name == "size_bytes_count"]
    assert sizes == [1.0, 1.0]


def test_names_of_samples_that_collide():
    """A metric that is named like a sample of another one is left out, and counted."""
    families, dropped = collect(
        line("histogram", point(None, count="1", sum=1.0), name="latency"),
        line("gauge", point(1), name="latency.count"),
        line("gauge", point(1), name="target.info"),
    )
    assert [family.name for family in families] == ["latency", "target_info"]
    assert families[1].kind == "info"
    assert dropped == {"name_conflict": 2}


def test_labels_without_a_value():
    """They are none to Prometheus: a series with one is the same as without."""
    empty = point(1) | {"attributes": [text("a", ""), text("b", "c")]}
    families, _ = collect(line("gauge", empty))
    assert [name for name, _ in families[0].members[0].labels] == ["b", "job", "otel_scope_name"]


def test_too_coarse():
    """Prometheus has no exponential histogram of a scale below -4: it is left out, and counted."""
    coarse = EXPONENTIAL | {"scale": -5}
    families, dropped = collect(line("exponentialHistogram", point(None, **coarse)))
    assert (families, dropped) == ([], {"scale_below_-4": 1})


def test_gauges_of_each_process():
    """By the policy "all" they stay apart, by their instance."""
    lines = [
        line("gauge", point(4.0), process="1", name="queue"),
        line("gauge", point(1.0), process="2", name="queue"),
        line("gauge", point(2.0), process="2", name="other"),
    ]
    families, _ = collect(*lines, gauges={"queue": "all"})
    assert {
        (family.name, dict(member.labels).get("service_instance_id")): member.value
        for family in families
        for member in family.members
    } == {("queue", "1"): 4.0, ("queue", "2"): 1.0, ("other", None): 2.0, ("target_info", None): 1}
