"""Envoy between `rimp forward` and a receiver, with faults: nothing is lost, and the ledger says so."""

from __future__ import annotations

import json
import sys

import pytest

from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream
from tests.peers.records import read_recording
from tests.peers.servers import envoy_proxy, rimp_serve
from tests.processes import run_process

EVENTS = 300

FAULTS = {
    "unavailable": {"abort_percent": 25, "abort": {"grpc_status": 14}},
    "aborted": {"abort_percent": 25, "abort": {"grpc_status": 10}},
    "503": {"abort_percent": 25, "abort": {"http_status": 503}},
    "429": {"abort_percent": 25, "abort": {"http_status": 429}},
    "504": {"abort_percent": 25, "abort": {"http_status": 504}},
    "slow": {"abort_percent": 50, "delay": "0.3s"},
    "one request a connection": {"max_requests": 1},
    "short connections": {"max_connection": "0.05s"},
}


def record(path):
    """Record some events that say their number."""
    collector = TelemetryCollector(TelemetryConfig(service_name="shop"))
    with FileStorage(path) as storage:
        stream = TelemetryStream(collector, storage)
        stream.start()
        for number in range(EVENTS):
            collector.collect_event("shop", f"event {number}", metadata={"text": "x" * 200})
        assert stream.stop()


def ledger(path):
    """Return what `rimp forward --status --json` prints."""
    command = [sys.executable, "-m", "rimp_otel", "forward", "--path", str(path)]
    done = run_process([*command, "--status", "--json"])
    assert done.returncode == 0, done
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("protocol", "fault"),
    [
        (protocol, fault)
        for protocol in ("http", "grpc")
        for fault in FAULTS
        if protocol == "http" or not fault.isdigit()
        if protocol == "grpc" or "abort" not in FAULTS[fault] or fault.isdigit()
    ],
)
def test_nothing_is_lost(tmp_path, protocol, fault):
    """Every record arrives, those of a request that Envoy did not hand on once; the ledger adds up."""
    source, target = tmp_path / "source", tmp_path / "target"
    record(source)
    command = [sys.executable, "-m", "rimp_otel", "forward", "--path", str(source), "--once"]
    command += ["--max-request-size", "20kB"]
    with rimp_serve(target, tmp_path / "serve.log") as receiver:
        port = receiver.http if protocol == "http" else receiver.grpc
        is_http2 = protocol == "grpc"
        with envoy_proxy(tmp_path, port, is_http2=is_http2, **FAULTS[fault]) as proxy:
            done = run_process([*command, f"otlp+{protocol}://127.0.0.1:{proxy}"], timeout=120)
            assert done.returncode == 0, done
    events = sorted(event.message for event in read_recording(target).events)
    assert events == sorted(f"event {number}" for number in range(EVENTS))
    found = ledger(source)["signals"]["logs"]
    names = ("recorded", "acknowledged", "pending", "expired", "refused", "repeated")
    assert {name: found[name] for name in names} == {
        "recorded": EVENTS,
        "acknowledged": EVENTS,
        "pending": 0,
        "expired": 0,
        "refused": {},
        "repeated": 0,
    }
