"""``rimp metrics``: the list, and the series of one metric."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.analysis.metrics import combine_series, metric_series
from rimp_otel.analysis.summaries import summarize_metrics
from rimp_otel.batch import TelemetryData
from rimp_otel.cli.metrics import format_metrics, format_series
from rimp_otel.models.records import (
    Buckets,
    ExponentialHistogramPoint,
    HistogramPoint,
    MetricKind,
    ResourceInfo,
    SummaryPoint,
    TelemetryMetric,
    Temporality,
)
from rimp_otel.render.terminal import Style
from tests.cli.records import HOSTILE, HOSTILE_SHOWN, T0, without_our_colour

S = 10**9
SHOP = ResourceInfo({"service.name": "shop"})


def requests(
    values: tuple[int, ...], pid: int = 1, unit: str = "{request}"
) -> list[TelemetryMetric]:
    """Return points of a counter every ten seconds."""
    return [
        TelemetryMetric(
            "requests",
            value,
            unit,
            {"route": "/"},
            T0 + 10 * i * S,
            T0 - 10 * S,
            MetricKind.SUM,
            Temporality.CUMULATIVE,
            True,
            "Requests that were handled.",
            resource=ResourceInfo({"service.name": "shop", "process.pid": pid}),
        )
        for i, value in enumerate(values)
    ]


def distribution(
    kind: MetricKind, point: Any, unit: str = "s", value: float = 2.0
) -> TelemetryMetric:
    """Return a point of a histogram or summary."""
    return TelemetryMetric(
        "latency",
        value,
        unit,
        {},
        T0,
        T0 - S,
        kind,
        Temporality.CUMULATIVE,
        point=point,
        resource=SHOP,
    )


def test_list(rimp: Any, shop: Path) -> None:
    """Metrics are listed by name."""
    assert rimp("metrics") == (
        0,
        """\
NAME                  KIND       UNIT   SERIES  POINTS  LAST                SERVICES
http.server.duration  histogram  s           1       1  11-18 11:06:40.250  shop
queue.length          gauge      {job}       1       1  11-18 11:06:40.000  shop
""",
        "",
    )


def test_list_as_json(rimp: Any, shop: Path) -> None:
    """Each line is one JSON object."""
    first, _ = map(json.loads, rimp("metrics", "--json").out.splitlines())
    assert first == {
        "name": "http.server.duration",
        "kind": "histogram",
        "unit": "s",
        "description": "",
        "series": 1,
        "points": 1,
        "first": "2026-11-18T11:06:40.250000000Z",
        "last": "2026-11-18T11:06:40.250000000Z",
        "services": ["shop"],
    }


def test_no_metrics(rimp: Any, record: Any) -> None:
    """An empty list is a success; so is an unknown metric, and the nearest is named."""
    record(TelemetryData(metrics=requests((1,))))
    hint = "rimp: no service 'x' in telemetry: there is 'shop'\n"
    assert rimp("metrics", "--service", "x") == (0, "no metrics\n", hint)
    assert rimp("metrics", "requests", "--service", "x") == (0, "no data points\n", hint)
    hint = "rimp: no name 'request\\x1b' in telemetry: did you mean 'requests'?\n"
    assert rimp("metrics", "request\x1b") == (0, "no data points\n", hint)
    assert rimp("metrics", "reqest", "--json").out == ""


def test_counter(rimp: Any, record: Any) -> None:
    """A counter has its newest value, rate and course; differing resource attributes are shown."""
    record(TelemetryData(metrics=[*requests((10, 30, 70)), *requests((5,), pid=2)]))
    assert rimp("metrics", "requests", "--by", "instance") == (
        0,
        """\
requests
sum · cumulative · monotonic · {request} · 2026-11-18 11:06:40.000 to 2026-11-18 11:07:00.000 (20 s)
Requests that were handled.
shop  route=/  process.pid=1
  70 {request}  2.33 {request}/s  ▁                  ▃                   █
shop  route=/  process.pid=2
  5 {request}  0.5 {request}/s
""",
        "",
    )


def test_instances_are_added_up(rimp: Any, record: Any) -> None:
    """The counters of a service's processes are one series, and ``--by`` says what is not."""
    record(TelemetryData(metrics=[*requests((10, 30, 70)), *requests((5, 7, 9), pid=2)]))
    out = rimp("metrics", "requests").out.splitlines()
    assert out[3:] == [
        "shop  route=/  (2 instances)",
        "  79 {request}  2.63 {request}/s  ▁                  ▃                   █",
    ]
    (line,) = rimp("metrics", "requests", "--json").out.splitlines()
    found = json.loads(line)
    assert (found["value"], found["instances"], found["points"]) == (79, 2, 6)
    assert (found["attributes"], found["resource"]) == ({"route": "/"}, {"service.name": "shop"})
    by_pid = rimp("metrics", "requests", "--by", "process.pid", "--json").out.splitlines()
    assert [json.loads(line)["value"] for line in by_pid] == [70, 9]


def test_by_needs_a_name(rimp: Any, shop: Path) -> None:
    """The list of all metrics has no series to keep apart."""
    assert rimp("metrics", "--by", "route")[0] == 2


def test_counter_of_a_window(rimp: Any, record: Any) -> None:
    """The rate excludes what was counted before --since."""
    record(TelemetryData(metrics=requests((1_000, 1_030, 1_070))))
    (line,) = rimp("metrics", "requests", "--since", "2026-11-18", "--json").out.splitlines()
    assert json.loads(line)["rate_per_second"] == 1070 / 30
    (line,) = rimp("metrics", "req*", "--since", "2026-11-18T11:06:45Z", "--json").out.splitlines()
    assert json.loads(line)["rate_per_second"] == 4


def shown(*points: TelemetryMetric) -> list[str]:
    """Return the lines without headings."""
    first, last = points[0].time_unix_nano, points[-1].time_unix_nano
    lines = format_series(combine_series(metric_series(points)), first, last, 100, Style())
    return [line.strip() for line in lines if line.startswith("  ")]


def test_gauge() -> None:
    """A gauge has its newest value and extremes, in readable units."""
    points = [TelemetryMetric("m", v, "By", {}, T0 + i * S) for i, v in enumerate((5e6, 1e6, 2e6))]
    (line,) = shown(*points)
    assert line.startswith("2.0 MB  min 1.0 MB  max 5.0 MB  █")
    assert shown(TelemetryMetric("m", -1_500, "By", time_unix_nano=T0)) == ["-1.5 kB"]
    assert shown(TelemetryMetric("m", 0.25, "1", time_unix_nano=T0)) == ["0.25"]
    assert shown(TelemetryMetric("m", 0.25, "s", time_unix_nano=T0)) == ["250 ms"]
    assert shown(TelemetryMetric("m", float("inf"), "s", time_unix_nano=T0)) == ["inf s"]
    assert shown(TelemetryMetric("m", -1e308, "s", time_unix_nano=T0)) == ["-1e+308 s"]
    assert shown(TelemetryMetric("m", 1e308, "By", time_unix_nano=T0)) == ["1e+308 By"]
    assert shown(TelemetryMetric("m", 0, flags=1, time_unix_nano=T0)) == ["no value"]


@pytest.mark.parametrize("kind", [MetricKind.GAUGE, MetricKind.SUM, MetricKind.HISTOGRAM])
@pytest.mark.parametrize("unit", ["s", "By", "1"])
def test_values_without_bounds(rimp: Any, record: Any, kind: MetricKind, unit: str) -> None:
    """Infinite values, those that are no numbers, and the largest ones are shown, and are JSON."""
    values = [float("inf"), float("-inf"), float("nan"), 1e308, -1e308]
    record(
        TelemetryData(
            metrics=[
                TelemetryMetric(
                    "m",
                    value,
                    unit,
                    time_unix_nano=T0 + number * S,
                    kind=kind,
                    point=HistogramPoint(number + 1, value, min=-value, max=value)
                    if kind is MetricKind.HISTOGRAM
                    else None,
                )
                for number, value in enumerate(values)
            ]
        )
    )
    for arguments in (["metrics"], ["metrics", "m"], ["tail", "-n", "all"], ["stats"]):
        code, out, err = rimp(*arguments)
        assert (code, err) == (0, "")
        assert out
        assert max(map(len, out.splitlines())) < 200
        for line in rimp(*arguments, "--json").out.splitlines():
            json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_histograms() -> None:
    """Histograms have percentiles; without buckets, only count, mean and extremes."""
    explicit = HistogramPoint(10, 2.0, (5, 4, 1), (0.1, 0.5), max=0.7)
    assert shown(distribution(MetricKind.HISTOGRAM, explicit)) == [
        "n=10  10/s  mean 200 ms  p50 100 ms  p95 600 ms  p99 680 ms  max 700 ms"
    ]
    exponential = ExponentialHistogramPoint(4, 2.0, 0, 0, 0.0, Buckets(-1, (2, 2)))
    assert shown(distribution(MetricKind.EXPONENTIAL_HISTOGRAM, exponential)) == [
        "n=4  4/s  mean 500 ms  p50 1 s  p95 1.87 s  p99 1.97 s"
    ]
    bare, empty = HistogramPoint(4, 2.0), HistogramPoint(0)
    assert shown(distribution(MetricKind.HISTOGRAM, bare)) == ["n=4  4/s  mean 500 ms"]
    assert shown(distribution(MetricKind.HISTOGRAM, empty)) == ["n=0"]


def test_summary() -> None:
    """A summary has its own quantiles."""
    point = SummaryPoint(4, 2.0, ((0.5, 0.25), (0.999, 1.5)))
    assert shown(distribution(MetricKind.SUMMARY, point)) == ["n=4  4/s  p50 250 ms  p99.9 1.5 s"]


def test_json_of_a_histogram(rimp: Any, record: Any) -> None:
    """JSON has the documented fields."""
    explicit = HistogramPoint(10, 2.0, (5, 4, 1), (0.1, 0.5), max=0.7)
    record(TelemetryData(metrics=[distribution(MetricKind.HISTOGRAM, explicit)]))
    (line,) = rimp("metrics", "latency", "--json").out.splitlines()
    found = json.loads(line)
    assert found["history"].pop("values")[0] is not None
    assert found == {
        "name": "latency",
        "kind": "histogram",
        "unit": "s",
        "description": "",
        "temporality": "cumulative",
        "monotonic": False,
        "service": "shop",
        "scope": "",
        "attributes": {},
        "resource": {"service.name": "shop"},
        "instances": 1,
        "points": 1,
        "time": "2026-11-18T11:06:40.000000000Z",
        "value": 2.0,
        "rate_per_second": 10.0,
        "distribution": {
            "count": 10, "sum": 2.0, "mean": 0.2, "max": 0.7,
            "p50": 0.1, "p90": 0.5, "p95": pytest.approx(0.6), "p99": pytest.approx(0.68),
        },
        "quantiles": None,
        "history": {
            "start": "2026-11-18T11:06:40.000000000Z",
            "end": "2026-11-18T11:06:40.000000000Z",
        },
    }  # fmt: skip


def test_many_series(rimp: Any, record: Any) -> None:
    """The number of series is limited."""
    points = [
        TelemetryMetric("m", i, tags={"user": f"{i:02}"}, time_unix_nano=T0) for i in range(60)
    ]
    record(TelemetryData(metrics=points))
    lines = rimp("metrics", "m").out.splitlines()
    assert lines[-1] == "and 10 more: select some with --attr, or show all with -n all"
    assert sum("user=" in line for line in lines) == 50
    assert rimp("metrics", "m", "-n", "all").out.count("user=") == 60
    assert rimp("metrics", "m", "--attr", "user=07").out.splitlines()[-2:] == [
        "(no service)  user=07",
        "  7",
    ]


@pytest.mark.parametrize("color", [False, True])
def test_hostile_metrics(color: bool) -> None:
    """Names, units, descriptions, services, keys and values are escaped."""
    point = TelemetryMetric(
        HOSTILE,
        1,
        HOSTILE,
        {HOSTILE: HOSTILE},
        T0,
        description=HOSTILE,
        resource=ResourceInfo({"service.name": HOSTILE}),
    )
    lines = format_series(combine_series(metric_series([point])), T0, T0, 300, Style(color))
    lines += format_metrics(summarize_metrics([point]), 300, Style(color))
    for line in map(without_our_colour, lines):
        assert line.isprintable() or not line
    assert sum(HOSTILE_SHOWN in line for line in lines) == 6


def test_sparkline() -> None:
    """A sparkline goes from the smallest to the greatest value, with blanks for none."""
    assert Style().sparkline([0, None, 7, 3.5]) == "▁ █▅"
    assert Style().sparkline([2, 2]) == "▄▄"
    assert Style().sparkline([None, float("nan")]) == "  "
    assert Style().sparkline([-1.7e308, 1.7e308]) == "▁█"
    assert Style(unicode=False).sparkline([0, 7]) == "_#"
