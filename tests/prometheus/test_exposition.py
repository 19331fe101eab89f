"""The page is what Prometheus' own parsers read, strictly."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from rimp_otel.prometheus.exposition import write_page
from rimp_otel.prometheus.names import TranslationStrategy
from rimp_otel.prometheus.series import SeriesTable
from tests.prometheus.test_series import NOW, S, line, point, text

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3"
NATIVE = "application/openmetrics-text;version=2.0.0"
PROMTOOL = shutil.which("promtool") or os.environ.get("PROMTOOL")
EXEMPLAR = {
    "timeUnixNano": str(900 * S),
    "asDouble": 1.5,
    "traceId": "AB" * 16,
    "spanId": "cd" * 8,
    "filteredAttributes": [text("user.id", "ann"), text("long", "x" * 200)],
}
BUCKETS = {
    "explicitBounds": [1.0, 2.5],
    "bucketCounts": ["1", "2", "3"],
    "count": "6",
    "sum": 20.5,
    "exemplars": [EXEMPLAR],
}
EXPONENTIAL = {
    "scale": 1,
    "count": "7",
    "sum": 12.0,
    "zeroCount": "1",
    "positive": {"offset": 1, "bucketCounts": ["1", "2", "0", "3"]},
}


def page(*lines, accept="", **options):
    """Return the page of these lines."""
    table = SeriesTable()
    for one in lines:
        table.add_line(one)
    return write_page(table, accept, NOW, **options)


def samples(families):
    """Return the samples by their names and labels, without those of the service and the scope."""
    return {
        (
            sample.name,
            *sorted(i for i in sample.labels.items() if i[0] not in ("job", "otel_scope_name")),
        ): sample
        for family in families
        for sample in family.samples
    }


LINES = [
    line("sum", point(5, exemplars=[EXEMPLAR]), name="http.requests", description="All requests"),
    line("gauge", point(0.5) | {"attributes": [text("cpu.id", "1")]}, name="cpu.use", unit="1"),
    line("sum", point(-3), name="queue", monotonic=False),
    line("histogram", point(None, **BUCKETS), name="latency", unit="s"),
    line("exponentialHistogram", point(None, **EXPONENTIAL), name="size", unit="By"),
    line(
        "summary",
        point(None, count="3", sum=6.0, quantileValues=[{"quantile": 0.5, "value": 2}]),
        name="old",
    ),
]


def test_text():
    """The format 0.0.4 is what everybody gets who does not ask for another."""
    found = page(*LINES)
    assert found.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert found.dropped == {}
    families = list(read_text(found.body.decode()))
    assert {family.name: family.type for family in families} == {
        "http_requests": "counter",
        "cpu_use_ratio": "gauge",
        "queue": "gauge",
        "latency_seconds": "histogram",
        "size_bytes": "histogram",
        "old": "summary",
        "target_info": "gauge",
    }
    values = {key: sample.value for key, sample in samples(families).items()}
    assert values == {
        ("http_requests_total",): 5.0,
        ("cpu_use_ratio", ("cpu_id", "1")): 0.5,
        ("queue",): -3.0,
        ("latency_seconds_bucket", ("le", "1.0")): 1.0,
        ("latency_seconds_bucket", ("le", "2.5")): 3.0,
        ("latency_seconds_bucket", ("le", "+Inf")): 6.0,
        ("latency_seconds_count",): 6.0,
        ("latency_seconds_sum",): 20.5,
        ("size_bytes_bucket", ("le", "0.0")): 1.0,
        ("size_bytes_bucket", ("le", "2.0")): 2.0,
        ("size_bytes_bucket", ("le", "2.8284271247461903")): 4.0,
        ("size_bytes_bucket", ("le", "5.656854249492381")): 7.0,
        ("size_bytes_bucket", ("le", "+Inf")): 7.0,
        ("size_bytes_count",): 7.0,
        ("size_bytes_sum",): 12.0,
        ("old", ("quantile", "0.5")): 2.0,
        ("old_count",): 3.0,
        ("old_sum",): 6.0,
        ("target_info",): 1.0,
    }


def test_openmetrics():
    """It has exemplars, units and times of creation; its own parser takes all of it."""
    found = page(*LINES, accept=OPENMETRICS)
    assert found.content_type.startswith("application/openmetrics-text; version=1.0.0")
    body = found.body.decode()
    assert body.endswith("# EOF\n")
    assert "# UNIT latency_seconds seconds\n" in body
    families = list(read_openmetrics(body))
    read = samples(families)
    assert read["http_requests_created",].value == 1.0
    exemplar = read["latency_seconds_bucket", ("le", "2.5")].exemplar
    assert exemplar.labels == {"trace_id": "ab" * 16, "span_id": "cd" * 8, "user_id": "ann"}
    assert exemplar.value == 1.5
    assert float(exemplar.timestamp) == 900.0
    assert read["http_requests_total",].exemplar is not None
    assert read["latency_seconds_bucket", ("le", "1.0")].exemplar is None


def test_native_histograms():
    """OpenMetrics 2.0 has exponential histograms as they are, bucket by upper bound."""
    body = page(LINES[4], accept=NATIVE).body.decode()
    assert "size_bytes_bucket" not in body
    native = next(row for row in body.splitlines() if row.startswith("size_bytes{"))
    assert native.endswith(
        "{count:7,sum:12.0,schema:1,zero_threshold:1e-128,zero_count:1,"
        "positive_spans:[2:2,1:1],positive_deltas:[1,1,1]}"
    )


def test_names_and_labels_that_collide():
    """Labels are joined, a second type or series is left out and counted, help is one of them."""
    both = point(1) | {"attributes": [text("a.b", "2"), text("a_b", "1")]}
    found = page(
        line("gauge", both, name="joined"),
        line("sum", point(1), name="requests", description="b"),
        line("sum", point(2), name="requests.total", description="a"),
        line("gauge", point(1), name="twice"),
        line("histogram", point(None, **BUCKETS), name="twice"),
    )
    body = found.body.decode()
    assert 'joined{a_b="2;1",job="shop",otel_scope_name="test"} 1.0' in body
    assert "# HELP requests_total a\n" in body
    assert found.dropped == {"same_name_and_labels": 1, "type_conflict": 1}
    assert body.count("# TYPE requests_total ") == body.count("# TYPE twice ") == 1


def test_several_services():
    """The job tells them apart; target_info has the rest of their resources, once each."""
    body = page(line("sum", point(1)), line("sum", point(2), service="db"), accept=OPENMETRICS).body
    text = body.decode()
    assert 'm_total{job="shop",otel_scope_name="test"} 1.0' in text
    assert 'm_total{job="db",otel_scope_name="test"} 2.0' in text
    assert 'target_info{job="db"} 1.0' in text
    assert text.count("target_info{") == 2


def test_strategies():
    """Names can stay as they are, for a Prometheus that takes any character."""
    accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8"
    found = page(LINES[1], accept=accept, strategy=TranslationStrategy.NONE).body.decode()
    assert '{"cpu.use","cpu.id"="1",job="shop",otel_scope_name="test"} 0.5' in found
    legacy = page(LINES[1], strategy=TranslationStrategy.NONE).body.decode()
    assert 'cpu_use{cpu_id="1",' in legacy


def test_scales():
    """One that is too fine becomes coarser, one that is too coarse is left out."""
    fine = EXPONENTIAL | {"scale": 12, "positive": {"offset": 0, "bucketCounts": ["1"] * 160}}
    body = page(line("exponentialHistogram", point(None, **fine)), accept=NATIVE).body.decode()
    assert "schema:8" in body
    few = page(line("exponentialHistogram", point(None, **fine))).body.decode()
    assert few.count("m_bucket{") <= 42
    coarse = EXPONENTIAL | {"scale": -5}
    found = page(line("exponentialHistogram", point(None, **coarse)))
    assert found.dropped == {"scale_below_-4": 1}


def test_hostile_text():
    """Quotes, line ends and braces in names, labels and help do not break the page."""
    nasty = 'a"b\\c\nd{e}'
    hostile = point(None, asDouble="Infinity") | {"attributes": [text(nasty, nasty)]}
    lines = [line("gauge", hostile, name=nasty, description=nasty, service=nasty)]
    assert len(list(read_text(page(*lines).body.decode()))) == 2
    assert len(list(read_openmetrics(page(*lines, accept=OPENMETRICS).body.decode()))) == 2


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_promtool():
    """Prometheus' own linter reads it, and misses nothing but help."""
    body = page(*LINES).body
    done = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=body, capture_output=True, timeout=60
    )
    assert b"error while linting" not in done.stderr, done.stderr
    complaints = [row for row in done.stdout.decode().splitlines() if "no help text" not in row]
    assert complaints == []
