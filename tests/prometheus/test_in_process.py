"""/metrics in the process that records: one of all processes serves it, whatever they do."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress

import pytest

from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream
from rimp_otel.prometheus.in_process import InProcessMetrics
from tests.processes import ROOT, run
from tests.prometheus.prometheus_server import DEADLINE, free_port, wait_for


def get(port, path="/metrics", host="localhost", **headers):
    """Return the status and the body of an answer."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", headers={"Host": host, **headers}
    )
    try:
        with urllib.request.urlopen(asked, timeout=DEADLINE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def value_in(body, name):
    """Return the value of the only series of a name; None if there is none."""
    found = [row for row in body.splitlines() if row.startswith(f"{name}{{")]
    assert len(found) < 2
    return float(found[0].rsplit(" ", 1)[1]) if found else None


@pytest.fixture
def served(tmp_path):
    """Yield a server of an empty recording, and its port."""
    server = InProcessMetrics(tmp_path / "recording", 0)
    server.run()
    yield server, wait_for(lambda: server.port)
    server.stop(DEADLINE)


def test_a_stream_serves_what_it_records(tmp_path):
    """From its start to its stop, also what is not stored yet."""
    port = free_port()
    config = TelemetryConfig(storage_path=tmp_path / "recording", prometheus_port=port)
    collector = TelemetryCollector(config)
    with TelemetryStream(collector):
        collector.collect_metric("queue.size", 7)
        body = wait_for(lambda: get(port)[1])
        assert wait_for(lambda: value_in(get(port)[1], "queue_size")) == 7.0
        assert body is not None
    with pytest.raises(OSError):
        get(port)


def test_answers(served):
    """One page, for who asks by a name of this machine."""
    _, port = served
    assert get(port) == (200, "")
    assert get(port, "/metrics?name=x", f"127.0.0.1:{port}") == (200, "")
    assert get(port, host=f"[::1]:{port}")[0] == 200
    assert get(port, "/") == (404, "the page is /metrics\n")
    assert get(port, host="evil.example") == (403, "the host 'evil.example' is not allowed\n")
    assert get(port, Accept="application/openmetrics-text;version=1.0.0") == (200, "# EOF\n")


def test_nonsense_and_silence(served, capfd):
    """Clients that send no request, or half of one, keep nobody else from the page."""
    _, port = served
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
    with socket.create_connection(("127.0.0.1", port)) as rude:
        rude.sendall(b"\x16\x03\x01\x00nonsense\r\n\r\n")
        rude.recv(1_000)
    assert get(port) == (200, "")
    for connection in silent:
        connection.close()
    assert capfd.readouterr().err == ""


def test_a_port_that_is_taken(tmp_path, capfd):
    """It is said once, and taken as soon as it is free; the program goes on."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = InProcessMetrics(tmp_path / "recording", port, pause=0.01)
        server.run()
        said = wait_for(lambda: capfd.readouterr().err)
        assert f"cannot listen at localhost:{port}: Address already in use" in said
    assert wait_for(lambda: server.port) == port
    assert get(port) == (200, "")
    server.stop(DEADLINE)
    assert capfd.readouterr().err == ""


def test_hosts_that_are_none(tmp_path, capfd):
    """Nothing is raised."""
    server = InProcessMetrics(tmp_path / "recording", 9_464, "no.such.host.invalid", pause=0.01)
    server.run()
    assert "no /metrics for Prometheus" in wait_for(lambda: capfd.readouterr().err)
    server.stop(DEADLINE)
    assert server.port is None


def test_another_process_takes_over(tmp_path):
    """Of two that record into one path one serves, until it ends."""
    path = tmp_path / "recording"
    first, second = (InProcessMetrics(path, 0, pause=0.01) for _ in range(2))
    first.run()
    wait_for(lambda: first.port)
    second.run()
    assert second.port is None
    first.stop(DEADLINE)
    assert get(wait_for(lambda: second.port)) == (200, "")
    second.stop(DEADLINE)


PREFORK = """
import os, signal, sys
import rimp_otel
from opentelemetry import metrics

rimp_otel.install(
    path=sys.argv[1], service_name="shop", quiet=True, metric_interval=0.3,
    metric_checkpoint_interval=0.1, prometheus_port=int(sys.argv[2]),
)
counter = metrics.get_meter("shop").create_counter("orders")
children = []
for number in range(2):
    child = os.fork()
    if not child:
        counter.add(10)
        signal.pause()
    children.append(child)
counter.add(1)
print(*children, flush=True)
signal.pause()
"""


def test_prefork_workers(tmp_path):
    """The page has what all of them count, and the next one has it once the first is killed."""
    port = free_port()
    command = [sys.executable, "-c", PREFORK, str(tmp_path / "recording"), str(port)]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as parent:
        children = [int(pid) for pid in parent.stdout.readline().split()]
        try:
            wait_for(lambda: value_in(get(port)[1], "orders_total") == 21.0)
            parent.kill()
            parent.wait()
            wait_for(lambda: value_in(get(port)[1], "orders_total") == 21.0)
            os.kill(children[0], signal.SIGKILL)
            wait_for(lambda: value_in(get(port)[1], "orders_total") == 21.0)
        finally:
            parent.kill()
            for child in children:
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)


INSTRUMENTED = """
import sys, urllib.request
import rimp_otel
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor

with rimp_otel.install(path=sys.argv[1], quiet=True, prometheus_port=int(sys.argv[2])):
    SQLite3Instrumentor().instrument()
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[2]}/metrics").read()
            break
        except OSError:
            pass
print(len(rimp_otel.SQLiteStorage(sys.argv[1]).retrieve().spans))
"""


def test_no_spans_of_its_own(tmp_path):
    """What reads a database here is not traced, also where the program's queries are."""
    pytest.importorskip("opentelemetry.instrumentation.sqlite3")
    assert run(INSTRUMENTED, tmp_path / "recording.db", free_port()) == "0\n"


@pytest.mark.parametrize(
    ("variables", "port", "host"),
    [
        ({"RIMP_PROMETHEUS_PORT": "9000"}, 9_000, "localhost"),
        ({"RIMP_PROMETHEUS_PORT": "9000", "RIMP_PROMETHEUS_HOST": "0.0.0.0"}, 9_000, "0.0.0.0"),
        ({"OTEL_EXPORTER_PROMETHEUS_PORT": "9001"}, None, "localhost"),
        ({"OTEL_METRICS_EXPORTER": "otlp, prometheus"}, 9_464, "localhost"),
        (
            {
                "OTEL_METRICS_EXPORTER": "prometheus",
                "OTEL_EXPORTER_PROMETHEUS_PORT": "9001",
                "OTEL_EXPORTER_PROMETHEUS_HOST": "0.0.0.0",
            },
            9_001,
            "0.0.0.0",
        ),
        (
            {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "none"},
            9_464,
            "localhost",
        ),
    ],
)
def test_the_environment(variables, port, host):
    """Ours, and OpenTelemetry's where its exporter is asked for; off by default."""
    config = TelemetryConfig.from_env(variables)
    assert (config.prometheus_port, config.prometheus_host) == (port, host)


def test_without_a_path_there_is_nothing_to_serve(capsys):
    """It is said."""
    config = TelemetryConfig(prometheus_port=9_464)
    with TelemetryStream(TelemetryCollector(config)):
        pass
    assert "the setting prometheus_port has no effect" in capsys.readouterr().err


def test_nothing_of_it_is_loaded_without_need(tmp_path):
    """A recorder without a port has no server."""
    code = (
        "import sys, rimp_otel; rimp_otel.install(path=sys.argv[1], quiet=True);"
        "print([m for m in sys.modules if 'prometheus' in m or m == 'http.server'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "recording")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=DEADLINE,
    )
    assert done.stdout == "[]\n", done.stderr
