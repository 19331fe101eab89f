"""The peers that are commands: each sends something, and ends."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from tests.peers.environment import find_command, node_directory, python_with
from tests.peers.servers import Receiver

__all__ = [
    "METHODS",
    "PROFILES",
    "call_with_buf",
    "call_with_grpcurl",
    "run_k6",
    "send_node",
    "send_python",
]

METHODS = {
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService/Export",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}
PROFILES = "opentelemetry.proto.collector.profiles.v1development.ProfilesService/Export"
_HERE = Path(__file__).parent
_K6 = """\
import { Counter } from "k6/metrics";
import { sleep } from "k6";
const orders = new Counter("orders");
export const options = { vus: 1, iterations: 20 };
export default function () { orders.add(1, { kind: "tea" }); sleep(0.05); }
// What was counted last is exported within this time, and not at the end.
export function teardown() { sleep(1); }
"""


def send_python(
    receiver: Receiver, protocol: str, compression: str = "none"
) -> dict[str, list[bytes]]:
    """Send all signals with Python's official exporters; return the requests by signal."""
    python = python_with(f"opentelemetry.exporter.otlp.proto.{protocol}")
    port = receiver.http if protocol == "http" else receiver.grpc
    done = _run([python, str(_HERE / "send_python.py"), protocol, str(port), compression])
    assert (done.returncode, done.stderr) == (0, ""), done
    sent = json.loads(done.stdout)
    return {signal: [base64.b64decode(body) for body in bodies] for signal, bodies in sent.items()}


def send_node(receiver: Receiver, protocol: str) -> list[tuple[int, int]]:
    """Send all signals with the SDK of Node; return the ids of the traces and spans."""
    port = receiver.grpc if protocol == "grpc" else receiver.http
    command = ["node", str(_HERE / "send_node.js"), protocol, str(port)]
    done = _run(command, directory=node_directory())
    assert (done.returncode, done.stderr) == (0, ""), done
    return [(int(trace, 16), int(span, 16)) for trace, span in json.loads(done.stdout)]


def run_k6(receiver: Receiver, directory: Path) -> None:
    """Let k6 count 20 orders and send its metrics over gRPC."""
    (directory / "orders.js").write_text(_K6)
    command = [
        find_command("k6"),
        "run",
        "--quiet",
        "--no-usage-report",
        "--address",
        "127.0.0.1:0",
    ]
    command += ["--out", "experimental-opentelemetry", str(directory / "orders.js")]
    done = _run(
        command,
        K6_NO_USAGE_REPORT="true",
        K6_OTEL_GRPC_EXPORTER_ENDPOINT=f"127.0.0.1:{receiver.grpc}",
        K6_OTEL_GRPC_EXPORTER_INSECURE="true",
        K6_OTEL_FLUSH_INTERVAL="100ms",
        K6_OTEL_EXPORT_INTERVAL="200ms",
    )
    assert done.returncode == 0, done


def call_with_grpcurl(
    port: int, method: str, request: dict[str, Any], directory: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    """Call a gRPC method with grpcurl; the request is in protobuf's own JSON mapping."""
    (directory / "otlp.binpb").write_bytes(_schema())
    command = [find_command("grpcurl"), "-plaintext", "-format-error", *options]
    command += ["-protoset", str(directory / "otlp.binpb"), "-d", json.dumps(request)]
    return _run([*command, f"127.0.0.1:{port}", method])


def call_with_buf(
    port: int, method: str, request: dict[str, Any], directory: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    """Call a gRPC method with ``buf curl``; the request is in protobuf's own JSON mapping."""
    (directory / "otlp.binpb").write_bytes(_schema())
    command = [
        find_command("buf"),
        "curl",
        "--protocol",
        "grpc",
        "--http2-prior-knowledge",
        *options,
    ]
    command += ["--schema", str(directory / "otlp.binpb"), "-d", json.dumps(request)]
    cache_of_buf = {"BUF_CACHE_DIR": str(directory)}
    return _run([*command, f"http://127.0.0.1:{port}/{method}"], **cache_of_buf)


@cache
def _schema() -> bytes:
    found = FileDescriptorSet()
    names: set[str] = set()

    def add(file: Any) -> None:
        if file.name not in names:
            names.add(file.name)
            for needed in file.dependencies:
                add(needed)
            file.CopyToProto(found.file.add())
            for message in found.file[-1].message_type:
                name_fields(message)

    def name_fields(message: Any) -> None:
        for field in message.field:
            first, *others = field.name.split("_")
            field.json_name = first + "".join(word.capitalize() for word in others)
        for nested in message.nested_type:
            name_fields(nested)

    for module in (
        trace_service_pb2,
        logs_service_pb2,
        metrics_service_pb2,
        profiles_service_pb2,
    ):
        add(module.DESCRIPTOR)
    return found.SerializeToString()


def _run(
    command: Sequence[str], directory: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
