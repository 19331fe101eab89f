"""Pages of lines, and what is read of them."""

from __future__ import annotations

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from rimp_otel.prometheus.families import Families
from rimp_otel.prometheus.pages import Pages
from rimp_otel.prometheus.table import SeriesTable
from tests.prometheus.test_table import NOW, S, line, point, text

__all__ = [
    "EXEMPLAR",
    "EXPONENTIAL",
    "LINES",
    "OPENMETRICS",
    "PROTOBUF",
    "collect",
    "page",
    "read_openmetrics",
    "read_text",
    "samples",
]

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3"
PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)
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
"""A metric of each kind."""


def collect(*lines, gauges=None, **options):
    """Return the families of these lines, and what was left out, by reason."""
    table = SeriesTable(gauges)
    for one in lines:
        table.add_line(one)
    families = Families(**options)
    return families.collect(table, NOW), families.dropped


def page(*lines, accept="", **options):
    """Return the page of these lines."""
    families, _ = collect(*lines, **options)
    return Pages().write(families, accept)


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
