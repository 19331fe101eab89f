"""/metrics over a recording that processes write, die in, and begin anew in."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("starlette")

from prometheus_client.parser import text_string_to_metric_families

from rimp_otel import StorageError, TelemetryData
from rimp_otel.prometheus.recording_metrics import RecordingMetrics
from rimp_otel.storage.recording import open_storage
from tests.processes import ROOT
from tests.prometheus.test_table import line, point
from tests.transport.serving import Served

DEADLINE = 60.0
WORKER = """
import sys
import rimp_otel
from opentelemetry import metrics

rimp_otel.install(path=sys.argv[1], service_name="shop", quiet=True, metric_interval=0.5)
counter = metrics.get_meter("shop").create_counter("orders")
counter.add(1)
print("ready", flush=True)
for line in sys.stdin:
    counter.add(int(line))
    print("counted", flush=True)
"""


class Worker:
    """A process that counts what it is told."""

    def __init__(self, path):
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def count(self, number):
        """Have it count; return once it has."""
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "counted\n"

    def end(self, number=signal.SIGKILL):
        """Kill it, or let it end in order."""
        self.process.send_signal(number)
        if not self.process.stdout.closed:
            self.process.communicate(timeout=DEADLINE)


@pytest.fixture
def start():
    """Yield a function that starts a worker; all are killed at the end."""
    workers = []

    def start_worker(path):
        workers.append(Worker(path))
        return workers[-1]

    yield start_worker
    for worker in workers:
        worker.end()


def orders(page):
    """Return the value of the counter in a page; 0 if it is not there."""
    families = text_string_to_metric_families(page.body.decode())
    found = [s.value for f in families for s in f.samples if s.name == "orders_total"]
    assert len(found) < 2
    return found[0] if found else 0.0


def wait_for_orders(metrics, number):
    """Scrape until the counter is there; it never goes back, and never beyond."""
    deadline, before = time.monotonic() + DEADLINE, 0.0
    while before < number:
        assert time.monotonic() < deadline, before
        now = orders(metrics.write_page())
        assert before <= now <= number
        before = now


@pytest.mark.parametrize("name", ["recording", "recording.db"])
def test_workers_that_die(tmp_path, start, name):
    """What killed and ended workers had counted stays in the sum, also for who asks only now."""
    path = tmp_path / name
    metrics = RecordingMetrics(path)
    assert metrics.write_page().body == b""
    workers = [start(path) for _ in range(2)]
    for worker in workers:
        worker.count(10)
    wait_for_orders(metrics, 22)
    workers[0].end()
    workers[0] = start(path)
    workers[0].count(100)
    wait_for_orders(metrics, 123)
    for worker in workers:
        worker.process.communicate(timeout=DEADLINE)  # it ends with its input
    wait_for_orders(metrics, 123)
    assert orders(RecordingMetrics(path).write_page()) == 123


@pytest.mark.parametrize("name", ["recording", "recording.db"])
def test_retention_takes_nothing_from_the_counters(tmp_path, name):
    """Who serves them next goes on where the one before was, also if what was counted is deleted."""
    path, now = tmp_path / name, time.time_ns()

    def store(number, process):
        with open_storage(path) as storage:
            one = line("sum", point(number, now, now), name="orders", process=process)
            storage.store(TelemetryData.from_otlp_json([one]))

    def serve():
        return RecordingMetrics(path, keeps_state=True)

    metrics = serve()
    store(5, "1")
    assert orders(metrics.write_page()) == 5
    store(7, "2")
    assert orders(metrics.write_page()) == 12
    metrics.save()
    if name == "recording":
        for file in path.rglob("metrics*"):
            file.unlink()
    else:
        with sqlite3.connect(path) as db:
            db.execute("DELETE FROM records")
        db.close()
    metrics = serve()
    assert orders(metrics.write_page()) == 12
    store(9, "3")
    assert orders(metrics.write_page()) == 21
    assert orders(serve().write_page()) == 21
    assert orders(RecordingMetrics(path).write_page()) == 9


def test_another_database_is_read_anew(tmp_path):
    """A state beside it is of the one that is gone."""
    path = tmp_path / "recording.db"
    for number in (5, 7):
        with open_storage(path) as storage:
            one = line("sum", point(number), name="orders", process=str(number))
            storage.store(TelemetryData.from_otlp_json([one]))
        metrics = RecordingMetrics(path, clock=lambda: 1_000 * 10**9, keeps_state=True)
        assert orders(metrics.write_page()) == number
        metrics.save()
        path.rename(tmp_path / f"{number}.old")


def test_who_asks_while_it_is_being_read(tmp_path):
    """The answer comes in time, and says to ask again."""
    metrics = RecordingMetrics(tmp_path / "recording", patience=0.01)
    with metrics._reading(), pytest.raises(StorageError, match="are being read: ask again"):
        metrics.write_page()
    assert metrics.write_page().body == b""


def test_following(tmp_path):
    """What is stored between two pages is read then, while somebody asks for pages."""
    path = tmp_path / "recording"
    metrics = RecordingMetrics(path, clock=lambda: 1_000 * 10**9)
    assert metrics.follow() is None
    metrics.write_page()
    with open_storage(path) as storage:
        storage.store(TelemetryData.from_otlp_json([line("sum", point(5), name="orders")]))
    assert metrics.follow() == 1.0
    (path / "metrics.jsonl").unlink()
    assert orders(metrics.write_page()) == 5


def test_what_cannot_be_read_costs_itself(tmp_path):
    """A damaged line between others is left out."""
    path = tmp_path / "recording"
    with open_storage(path) as storage:
        storage.store(TelemetryData.from_otlp_json([line("sum", point(5), name="orders")]))
    with (path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"resourceMetrics":[{"scopeMetrics":7}]}\\nnonsense\\n'.replace(b"\\n", b"\n"))
        file.write(line("sum", point(3), name="orders", process="2") + b"\n")
    metrics = RecordingMetrics(path, clock=lambda: 1_000 * 10**9)
    assert orders(metrics.write_page()) == 8


def test_left_out_series_are_counted(tmp_path):
    """The last page's are public."""
    path = tmp_path / "recording"
    with open_storage(path) as storage:
        for kind in ("gauge", "sum"):
            one = line(
                kind,
                point(5),
                name="orders.total",
                monotonic=False,
                unit="" if kind == "sum" else "1",
            )
            storage.store(TelemetryData.from_otlp_json([one]))
        again = line("gauge", point(5), name="orders_total")
        storage.store(TelemetryData.from_otlp_json([again]))
    metrics = RecordingMetrics(path, clock=lambda: 1_000 * 10**9)
    metrics.write_page()
    assert metrics.dropped == {"same_name_and_labels": 1}


def test_in_the_server(tmp_path, start):
    """`rimp serve` has the page, in the format that is asked for, and for nobody without its token."""
    tokens = tmp_path / "tokens"
    tokens.write_text("secret-token\n")
    start(tmp_path / "recording")
    with Served(tmp_path / "recording", "--token-file", str(tokens)) as server:
        assert server.request("GET", "/metrics", headers={}).status == 401
        headers = {
            "Authorization": "Bearer secret-token",
            "Accept": "application/openmetrics-text;version=1.0.0",
        }
        deadline, body = time.monotonic() + DEADLINE, ""
        while "orders_total" not in body:
            assert time.monotonic() < deadline
            found = server.request("GET", "/metrics", headers=headers)
            body = found.body.decode()
        assert found.headers["content-type"].startswith(
            "application/openmetrics-text; version=1.0.0"
        )
        assert 'orders_total{job="shop",otel_scope_name="shop"} 1.0\n' in body
        assert server.request("POST", "/metrics", b"", headers).status == 405
