"""From a recording through rotel into another recording: the same records, field for field."""

from __future__ import annotations

import sys

import pytest

from tests.peers.processes import wait_until
from tests.peers.records import SIGNALS, read_recording, records_of
from tests.peers.senders import send_node, send_python
from tests.peers.servers import rimp_serve, rotel
from tests.processes import run_process


def forward(path, *destinations):
    """Run `rimp forward --once`, which must succeed."""
    command = [sys.executable, "-m", "rimp_otel", "forward", "--path", str(path), "--once"]
    done = run_process([*command, *destinations], timeout=120)
    assert done.returncode == 0, done
    return done


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_through_rotel(tmp_path, protocol):
    """Forwarded into rotel, and by rotel into a second receiver of ours."""
    first, last = tmp_path / "first", tmp_path / "last"
    with rimp_serve(first, tmp_path / "first.log") as receiver:
        send_python(receiver, protocol)
        assert receiver.running.end() == 0
    sent = records_of(read_recording(first))

    def arrived():
        return records_of(read_recording(last))

    with rimp_serve(last, tmp_path / "last.log") as receiver:
        port = receiver.http if protocol == "http" else receiver.grpc
        target = ["--exporter", "otlp", "--otlp-exporter-endpoint", f"http://127.0.0.1:{port}"]
        with rotel(tmp_path, *target, "--otlp-exporter-protocol", protocol) as middle:
            port = middle.http if protocol == "http" else middle.grpc
            forward(first, f"otlp+{protocol}://127.0.0.1:{port}")
            wait_until(
                lambda: all(len(arrived()[s]) >= len(sent[s]) for s in SIGNALS),
                lambda: (arrived(), middle.running.output, receiver.running.output),
            )
        assert receiver.running.end() == 0
    assert arrived() == sent


def test_senders_through_rotel(tmp_path):
    """Node's SDK sends to rotel, and rotel to a receiver of ours: each span once."""
    path = tmp_path / "recording"
    with rimp_serve(path, tmp_path / "serve.log") as receiver:
        target = ["--exporter", "otlp"]
        target += ["--otlp-exporter-endpoint", f"http://127.0.0.1:{receiver.grpc}"]
        with rotel(tmp_path, *target, "--otlp-exporter-protocol", "grpc") as middle:
            ids = send_node(middle, "proto")
            wait_until(lambda: len(read_recording(path).spans) >= len(ids))
    spans = read_recording(path).spans
    assert sorted((s.context.trace_id, s.context.span_id) for s in spans) == sorted(ids)
