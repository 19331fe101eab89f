"""The page's metrics."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("starlette")

from rimp_otel import TelemetryData
from rimp_otel.storage.recording import open_storage
from tests.viewer.shown import Shown

S = 10**9
START = 1_795_521_600 * S
MINUTE = 60 * S


def attributes(**texts):
    """Return attributes of text."""
    return [
        {"key": key.replace("__", "."), "value": {"stringValue": v}} for key, v in texts.items()
    ]


def line(name, kind, points, service="shop", instance="1", unit="1", **fields):
    """Return a line of a metric."""
    resource = {"attributes": attributes(service__name=service, host=instance)}
    metric = {
        "name": name,
        "unit": unit,
        "description": f"about {name}",
        kind: {"dataPoints": points, **fields},
    }
    scopes = [{"scope": {}, "metrics": [metric]}]
    return json.dumps({"resourceMetrics": [{"resource": resource, "scopeMetrics": scopes}]})


def point(minute, start=0, **fields):
    """Return a data point of a minute."""
    return {
        "timeUnixNano": str(START + minute * MINUTE),
        "startTimeUnixNano": str(START + start * MINUTE),
        **fields,
    }


CUMULATIVE = {"aggregationTemporality": 2, "isMonotonic": True}
EXEMPLAR = {
    "timeUnixNano": str(START + 3 * MINUTE),
    "asDouble": 0.3,
    "traceId": "0a" * 16,
    "spanId": "0b" * 8,
    "filteredAttributes": attributes(user="ada"),
}


def counts(minute, *buckets, **fields):
    """Return a point of an explicit histogram."""
    texts = [str(count) for count in buckets]
    return point(
        minute,
        count=str(sum(buckets)),
        sum=1.0,
        bucketCounts=texts,
        explicitBounds=[0.1, 1.0],
        **fields,
    )


LINES = [
    # 60 each minute, one process; 120 each minute, another, which starts anew after minute 3.
    line(
        "requests",
        "sum",
        [point(m, asInt=str(60 * m), attributes=attributes(route="/a")) for m in range(1, 6)],
        **CUMULATIVE,
    ),
    line(
        "requests",
        "sum",
        [point(m, asInt=str(120 * m), attributes=attributes(route="/b")) for m in range(1, 4)],
        instance="2",
        **CUMULATIVE,
    ),
    line(
        "requests",
        "sum",
        [
            point(m, 3, asInt=str(120 * (m - 3)), attributes=attributes(route="/b"))
            for m in range(4, 6)
        ],
        instance="2",
        **CUMULATIVE,
    ),
    line("memory", "gauge", [point(m, asDouble=10.0 * m) for m in range(1, 6)], unit="By"),
    line(
        "memory",
        "gauge",
        [point(m, asDouble=20.0 * m) for m in range(1, 6)],
        instance="2",
        unit="By",
    ),
    line(
        "took",
        "histogram",
        [counts(m, 6 * m, 3 * m, m, exemplars=[EXEMPLAR]) for m in range(1, 6)],
        unit="s",
        aggregationTemporality=2,
    ),
    line(
        "sizes",
        "exponentialHistogram",
        [
            point(
                m,
                count=str(3 * m),
                sum=1.0,
                scale=0,
                zeroCount=str(m),
                positive={"offset": 1, "bucketCounts": [str(m), "0", str(m)]},
            )
            for m in range(1, 6)
        ],
        aggregationTemporality=2,
    ),
    line(
        "waits",
        "sum",
        [point(m, asInt="5") for m in range(1, 6)],
        service="bank",
        aggregationTemporality=2,
    ),
]
WINDOW = {"from": START, "to": START + 5 * MINUTE + 1, "step": MINUTE}


@pytest.fixture(scope="module", params=["recording", "recording.db"])
def shown(request, tmp_path_factory):
    """Show a recording of a few metrics."""
    path = tmp_path_factory.mktemp("metrics") / request.param
    with open_storage(path) as storage:
        for one in LINES:
            storage.store(TelemetryData.from_otlp_json([one]))
    with Shown(path) as running:
        yield running


def test_list(shown):
    """Each metric once, with what it is."""
    found = {metric["name"]: metric for metric in shown.get("/api/metrics")["metrics"]}
    assert list(found) == ["memory", "requests", "sizes", "took", "waits"]
    assert found["requests"] == {
        "name": "requests",
        "unit": "1",
        "description": "about requests",
        "type": "sum",
        "is_monotonic": True,
        "temporality": "cumulative",
        "services": ["shop"],
        "series": 2,
        "points": 10,
    }
    assert (found["sizes"]["type"], found["memory"]["temporality"]) == (
        "exponential_histogram",
        "unspecified",
    )
    early = shown.get("/api/metrics", **{"from": START, "to": START + MINUTE + 1})["metrics"]
    assert {metric["points"] for metric in early} == {1, 2}


def test_rates_of_a_counter(shown):
    """Of all processes together; one that starts anew is no fall."""
    answer = shown.get("/api/metrics/series", name="requests", **WINDOW)
    assert (answer["from"], answer["step"], answer["type"]) == (str(START), MINUTE, "sum")
    (one,) = answer["series"]
    assert one["labels"] == {}
    assert one["values"] == [pytest.approx(3.0)] * 5 + [None]
    assert (answer["quantiles"], answer["heatmap"], answer["exemplars"]) == (None, None, [])
    later = {**WINDOW, "from": START + 2 * MINUTE}
    (one,) = shown.get("/api/metrics/series", name="requests", **later)["series"]
    assert one["values"] == [pytest.approx(3.0)] * 3 + [None]


def test_lines_by_attributes(shown):
    """Of points or of their resources; conditions leave some out."""
    answer = shown.get("/api/metrics/series", name="requests", by=["route", "host"], **WINDOW)
    assert [(one["labels"], one["values"][0]) for one in answer["series"]] == [
        ({"route": "/a", "host": "1"}, pytest.approx(1.0)),
        ({"route": "/b", "host": "2"}, pytest.approx(2.0)),
    ]
    wanted = {"name": "requests", "attr": "metric.route = /b", **WINDOW}
    (one,) = shown.get("/api/metrics/series", **wanted)["series"]
    assert one["values"][:5] == [pytest.approx(2.0)] * 5


def test_values(shown):
    """Of gauges the mean, of other sums the sum."""
    (one,) = shown.get("/api/metrics/series", name="memory", **WINDOW)["series"]
    assert one["values"] == [None, 15.0, 30.0, 45.0, 60.0, 75.0]
    (one,) = shown.get("/api/metrics/series", name="waits", service="bank", **WINDOW)["series"]
    assert one["values"] == [None, 5.0, 5.0, 5.0, 5.0, 5.0]


def test_histogram(shown):
    """A line of the rate, percentiles, a heat map, and exemplars with their trace, each once."""
    answer = shown.get("/api/metrics/series", name="took", **WINDOW)
    assert answer["series"][0]["values"] == [pytest.approx(10 / 60)] * 5 + [None]
    assert answer["heatmap"]["bounds"] == [0.1, 1.0]
    assert answer["heatmap"]["counts"][:5] == [[6.0, 3.0, 1.0]] * 5
    assert answer["quantiles"]["p50"] == [pytest.approx(0.1 * 5 / 6)] * 5 + [None]
    assert answer["quantiles"]["p90"][:5] == [pytest.approx(1.0)] * 5
    assert answer["quantiles"]["p99"][:5] == [1.0] * 5  # the last bucket has no end
    assert answer["exemplars"] == [
        {
            "time": str(START + 3 * MINUTE),
            "value": 0.3,
            "trace_id": "0a" * 16,
            "span_id": "0b" * 8,
            "attributes": {"user": "ada"},
        }
    ]


def test_exponential_histogram(shown):
    """Its bounds are powers of the base; zeros are below all."""
    answer = shown.get("/api/metrics/series", name="sizes", **WINDOW)
    assert answer["heatmap"]["bounds"] == [2.0, 4.0, 8.0, 16.0]
    # 0; (2, 4]; (8, 16].
    assert answer["heatmap"]["counts"][0] == [1.0, 1.0, 0.0, 1.0, 0.0]


def test_what_is_wrong(shown):
    """A name that is not there, and a step that is too short."""
    assert "no points of a metric 'x'" in shown.get("/api/metrics/series", 404, name="x")["error"]
    assert "parameter 'name' is missing" in shown.get("/api/metrics/series", 400)["error"]
    wanted = {**WINDOW, "step": 1_000}
    said = shown.get("/api/metrics/series", 400, name="took", **wanted)["error"]
    assert "give a longer one, for 2000 at most" in said
