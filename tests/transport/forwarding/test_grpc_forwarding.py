"""`rimp forward` over gRPC, into a recording of another place."""

from __future__ import annotations

import json
import sys

import grpc

from rimp_otel.batch import TelemetryData
from rimp_otel.models.records import TelemetryEvent, TelemetryMetric
from rimp_otel.storage import FileStorage
from rimp_otel.storage.recording import open_recording
from rimp_otel.transport.grpc_wire import encode_details
from rimp_otel.transport.receiving.security import ServerSecurity
from tests.processes import run_process
from tests.transport.grpc_peers import TOKEN, StubServer, receiving, refusing


def forward(path, *arguments, **env):
    """Run ``rimp forward`` over a recording; return its exit code and what it has said."""
    command = [sys.executable, "-m", "rimp_otel", "forward", "--path", str(path), *arguments]
    done = run_process(command, **env)
    return done.returncode, done.stdout + done.stderr


def store(path, events, metrics=()):
    """Store records into files."""
    with FileStorage(path) as storage:
        storage.store(TelemetryData(events, list(metrics)))


def messages(path):
    """Return the messages of the events in a recording."""
    return sorted(event.message for event in open_recording(path).retrieve().events)


def test_all_of_a_recording_arrives(tmp_path):
    """Once, with a token from the environment, which nothing shows; more than a request may have."""
    events = [TelemetryEvent("source", f"{number} " + "x" * 9_000) for number in range(1_000)]
    store(tmp_path / "here", events, [TelemetryMetric("size", 5)])
    env = {"OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{TOKEN}"}
    with receiving(tmp_path / "there", ServerSecurity(tokens=(TOKEN,))) as peer:
        url = f"otlp+grpc://{peer.address}"
        code, text = forward(tmp_path / "here", "--once", url)
        assert code == 1
        assert "UNAUTHENTICATED" in text
        code, text = forward(tmp_path / "here", "--once", url, **env)
        assert code == 0, text
        assert peer.intake.stats().requests >= 3
        assert forward(tmp_path / "here", "--once", url, **env)[0] == 0
        code, text = forward(tmp_path / "here", "--status", "--json")
        signals = json.loads(text)["signals"]
        assert signals["logs"]["acknowledged"] == signals["logs"]["recorded"] == 1_000
        assert TOKEN not in text
    assert messages(tmp_path / "there") == messages(tmp_path / "here")
    assert [metric.value for metric in open_recording(tmp_path / "there").retrieve().metrics] == [5]


def test_the_record_that_is_to_blame_is_set_aside(tmp_path):
    """The others arrive, whatever of the three statuses it is that says no."""
    for code in ("INVALID_ARGUMENT", "INTERNAL", "RESOURCE_EXHAUSTED"):
        refuse = refusing(grpc.StatusCode[code])

        def answer(body, context, refuse=refuse):
            return refuse(body, context) if b"guilty" in body else b""

        path = tmp_path / code
        names = [f"good {number}" for number in range(50)]
        store(path, [TelemetryEvent("source", name) for name in [*names, "guilty"]])
        with StubServer(answer) as server:
            assert forward(path, "--once", server.url)[0] == 0
            _, text = forward(path, "--status", "--json")
        logs = json.loads(text)["signals"]["logs"]
        assert (logs["acknowledged"], logs["pending"]) == (50, 0)
        assert sum(logs["refused"].values()) == 1


def test_a_destination_that_is_full_is_waited_for(tmp_path):
    """As long as it asks."""
    refuse = refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, details=encode_details(8, "full", 0.01))

    def answer(body, context):
        return refuse(body, context) if len(server.bodies) < 3 else b""

    store(tmp_path, [TelemetryEvent("source", "a")])
    with StubServer(answer) as server:
        assert forward(tmp_path, "--once", server.url)[0] == 0
        assert len(server.bodies) == 3
