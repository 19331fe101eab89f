"""Case 13: one scrape of the metrics of many processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from rimp_otel import FileStorage, TelemetryData
from rimp_otel.prometheus.recording_metrics import RecordingMetrics
from tests.benchmarks.child import check
from tests.benchmarks.model import Case, Contender, Figures, Row, Task

_PROCESSES = 48
# Of the processes, so many store their metrics in the second before a scrape, each in ten seconds.
_LATE = 5
_TIMES = 5
_CLIENT = "prometheus-client"
_OPENMETRICS = "application/openmetrics-text;version=1.0.0"
_NANOS = 10**9
_BOUNDS = [0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000]
# Of 5,000 series of Prometheus: 1,000 counters, 400 gauges, and 200 histograms of 18 series each.
_COUNTERS, _GAUGES, _HISTOGRAMS = 0.2, 0.08, 0.04
_METRICS = 4


def _sizes(series: int) -> dict[str, int]:
    """Return how many sets of attributes each metric has, by its kind."""
    shares = {"counter": _COUNTERS, "gauge": _GAUGES, "histogram": _HISTOGRAMS}
    return {kind: max(1, int(series * share) // _METRICS) for kind, share in shares.items()}


# Ours: what processes store every ten seconds is read on, once a second, while somebody scrapes.


def _ours(task: Task) -> Figures:
    metrics = RecordingMetrics(task.directory / "recording")
    return _scrape(task, metrics, lambda: metrics.write_page(_OPENMETRICS).body, _LATE)


def _ours_unfollowed(task: Task) -> Figures:
    metrics = RecordingMetrics(task.directory / "recording")
    return _scrape(task, metrics, lambda: metrics.write_page(_OPENMETRICS).body, _PROCESSES)


def _collector(task: Task) -> Figures:
    from prometheus_client import CollectorRegistry
    from prometheus_client.openmetrics.exposition import generate_latest

    from rimp_otel.prometheus.collector import to_metric

    metrics = RecordingMetrics(task.directory / "recording")

    class Collector:
        def collect(self) -> Iterable[Any]:
            return [to_metric(family) for family in metrics.collect()]

    registry = CollectorRegistry()
    collector: Any = Collector()
    registry.register(collector)
    return _scrape(task, metrics, lambda: generate_latest(registry), _LATE)


def _scrape(
    task: Task, metrics: RecordingMetrics, make_page: Callable[[], bytes], late: int
) -> Figures:
    cpu = []
    with FileStorage(task.directory / "recording") as storage:
        for number in range(_TIMES + 1):
            lines = [_line(process, number, task.records) for process in range(_PROCESSES)]
            _store(storage, lines[late:])
            metrics.follow()
            _store(storage, lines[:late])
            begun = time.process_time()
            page = make_page()
            cpu.append(time.process_time() - begun)
            _check_page(page, task.records, sum(range(_PROCESSES)) + _PROCESSES * number)
    return {"cpu": sum(cpu[1:]) / _TIMES * 1e3, "first": cpu[0] * 1e3}


def _store(storage: FileStorage, lines: list[bytes]) -> None:
    for line in lines:
        storage.store(TelemetryData.from_otlp_json([line]))


def _line(process: int, number: int, series: int) -> bytes:
    """Return all metrics of a process, as it stores them for the ``number``-th time."""
    times = {"startTimeUnixNano": "1000", "timeUnixNano": str(time.time_ns())}
    sizes = _sizes(series)

    def points(kind: str, **value: Any) -> list[dict[str, Any]]:
        return [{"attributes": _attributes(n), **times, **value} for n in range(sizes[kind])]

    count = str(process + number)
    buckets = [str(process), str(number)] + ["1"] * (len(_BOUNDS) - 1)
    histogram = {
        "count": str(process + number + len(_BOUNDS) - 1),
        "sum": 1.5 * number,
        "bucketCounts": buckets,
        "explicitBounds": _BOUNDS,
    }
    metrics: list[dict[str, Any]] = []
    for n in range(_METRICS):
        counted = {"dataPoints": points("counter", asInt=count), "aggregationTemporality": 2}
        timed = {"dataPoints": points("histogram", **histogram), "aggregationTemporality": 2}
        metrics += [
            {"name": f"shop.orders.{n}", "unit": "1", "sum": {**counted, "isMonotonic": True}},
            {"name": f"shop.queue.{n}", "gauge": {"dataPoints": points("gauge", asInt=count)}},
            {"name": f"shop.duration.{n}", "unit": "ms", "histogram": timed},
        ]
    attributes = [
        _attribute("service.name", "shop"),
        _attribute("service.instance.id", str(process)),
    ]
    scope = {"scope": {"name": "shop"}, "metrics": metrics}
    group = {"resource": {"attributes": attributes}, "scopeMetrics": [scope]}
    return msgspec.json.encode({"resourceMetrics": [group]})


def _attributes(number: int) -> list[dict[str, Any]]:
    return [_attribute("http.route", f"/api/{number}"), _attribute("http.request.method", "GET")]


def _attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


# The peer: files of all processes, read anew at each scrape.


def _multiprocess(task: Task) -> Figures:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(task.directory)
    from prometheus_client import CollectorRegistry, multiprocess
    from prometheus_client.openmetrics.exposition import generate_latest

    for process in range(_PROCESSES):
        _run_aside(lambda process=process: _count(process, task.records))  # type: ignore[misc]
    cpu = []
    for _ in range(_TIMES):
        begun = time.process_time()
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        page = generate_latest(registry)
        cpu.append(time.process_time() - begun)
        _check_page(page, task.records, sum(range(_PROCESSES)))
    return {"cpu": sum(cpu) / _TIMES * 1e3, "first": cpu[0] * 1e3}


def _count(process: int, series: int) -> None:
    from prometheus_client import Counter, Gauge, Histogram

    sizes, names = _sizes(series), ["http_route", "http_request_method"]
    for n in range(_METRICS):
        counter = Counter(f"shop_orders_{n}", "", names)
        gauge = Gauge(f"shop_queue_{n}", "", names, multiprocess_mode="mostrecent")
        histogram = Histogram(f"shop_duration_{n}_milliseconds", "", names, buckets=_BOUNDS)
        for number in range(sizes["counter"]):
            counter.labels(f"/api/{number}", "GET").inc(process)
        for number in range(sizes["gauge"]):
            gauge.labels(f"/api/{number}", "GET").set(process)
        for number in range(sizes["histogram"]):
            histogram.labels(f"/api/{number}", "GET").observe(process * 7.5)


def _run_aside(work: Callable[[], None]) -> None:
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def _check_page(page: bytes, series: int, total: int) -> None:
    counter = next(row for row in page.splitlines() if row.startswith(b"shop_orders_0_total{"))
    check(int(float(counter.rsplit(b" ", 1)[1])), total, "is the value of a counter")
    sizes = _sizes(series)
    wanted = _METRICS * (sizes["counter"] + sizes["gauge"] + 18 * sizes["histogram"])
    rows = [row for row in page.splitlines() if row.startswith(b"shop_")]
    check(sum(b"_created{" not in row for row in rows), wanted, "series are on the page")


_OURS, _UNFOLLOWED = "/metrics", "/metrics · all is new"
_COLLECTED, _PEER = "RecordingCollector", "prometheus-client · multiprocess"

CASES = (
    Case(
        13,
        "A scrape of 48 processes with 5,000 series",
        "CPU time of one scrape in OpenMetrics, whose 5,000 series (1,000 counters, 400 gauges, 200"
        " histograms with 15 bounds) each of 48 processes has, and has changed since the last scrape. Ours"
        " reads on between two scrapes, once a second: what a tenth of the processes has stored is left for"
        " the scrape; *all is new* is the scrape that reads it all. *RecordingCollector* has the same"
        " values written by prometheus-client. Its multiprocess mode reads the files of all processes"
        " each time.",
        5_000,
        1_000,
        (
            Contender(_OURS, _ours),
            Contender(_UNFOLLOWED, _ours_unfollowed),
            Contender(_COLLECTED, _collector, (_CLIENT,)),
            Contender(_PEER, _multiprocess, (_CLIENT,)),
        ),
        (
            Row("a scrape", _OURS, _PEER, 1 / 10, unit="ms"),
            Row("a scrape, all is new", _UNFOLLOWED, _PEER, unit="ms"),
            Row("written by prometheus-client", _COLLECTED, _PEER, unit="ms"),
        ),
        3,
    ),
)
