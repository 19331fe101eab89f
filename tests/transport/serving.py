"""A ``rimp serve`` in a process of its own, and requests to send to it."""

from __future__ import annotations

import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rimp_otel.models.records import Signal
from rimp_otel.storage.recording import open_recording
from tests.processes import ROOT

JSON = {"Content-Type": "application/json"}
PROTOBUF = {"Content-Type": "application/x-protobuf"}
DEADLINE = 60.0


class Response(NamedTuple):
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Served:
    """A ``rimp serve`` that is ready; a context manager that kills it at its end.

    Args:
        path: of the recording.
        options: of the command; ports are free ones unless they say otherwise.
        env: further variables.
        grpc: False for no gRPC.
    """

    def __init__(
        self,
        path: Path | str,
        *options: str,
        env: Mapping[str, str] | None = None,
        grpc: bool = False,
        before: Sequence[str] = (),
    ) -> None:
        command = [*before, sys.executable, "-m", "rimp_otel", "serve", "--path", str(path)]
        if "--http" not in options:
            command += ["--http", "127.0.0.1:0"]
        if "--grpc" not in options:
            command += ["--grpc", "127.0.0.1:0" if grpc else "off"]
        self.path = Path(path)
        self.process = subprocess.Popen(
            [*command, *options],
            env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.said: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.ready_line = self.wait_for("rimp: recording into")
        self.http = _address_after("OTLP/HTTP at ", self.ready_line)
        self.grpc = _address_after("OTLP/gRPC at ", self.ready_line)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            self._lines.put(line)
        self._lines.put("")

    def wait_for(self, start: str) -> str:
        """Return the next line on standard error that begins so.

        Raises:
            AssertionError: it ended first.
        """
        while line := self._lines.get(timeout=DEADLINE):
            if line.startswith(start):
                return line
        self.process.wait(DEADLINE)
        raise AssertionError(f"exit code {self.process.returncode}: {''.join(self.said)}")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of OTLP/HTTP."""
        host, _, port = self.http.rpartition("://")[2].rpartition(":")
        return host.strip("[]"), int(port)

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection."""
        return http.client.HTTPConnection(*self.address, timeout=DEADLINE)

    def post(
        self,
        body: bytes | str,
        signal: Signal = Signal.TRACES,
        headers: Mapping[str, str] = JSON,
        connection: http.client.HTTPConnection | None = None,
    ) -> Response:
        """Send a request of a signal."""
        return self.request("POST", f"/v1/{signal.value}", body, headers, connection)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | str | Iterator[bytes] | None = None,
        headers: Mapping[str, str] = JSON,
        connection: http.client.HTTPConnection | None = None,
    ) -> Response:
        """Send any request."""
        used = connection or self.connect()
        try:
            used.request(method, path, body, dict(headers))
            response = used.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Response(response.status, fields, response.read())
        finally:
            if connection is None:
                used.close()

    def end(self, number: int = signal.SIGTERM) -> str:
        """End it by a signal, and return what it says at its end."""
        self.process.send_signal(number)
        assert self.process.wait(DEADLINE) == 0, self.said
        return self.wait_for("rimp: received")

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait(DEADLINE)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.kill()
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


def _address_after(words: str, line: str) -> str:
    return line.partition(words)[2].partition(";")[0].strip().removesuffix(" with TLS")


def span(number: int, **fields: Any) -> dict[str, Any]:
    """Return a span of OTLP JSON."""
    return {
        "traceId": f"{number + 1:032x}",
        "spanId": f"{number + 1:016x}",
        "name": f"span-{number}",
        "kind": 2,
        "startTimeUnixNano": str(1_795_521_600_000_000_000 + number),
        "endTimeUnixNano": str(1_795_521_600_000_000_500 + number),
        **fields,
    }


def traces(*spans: dict[str, Any], service: str = "sender") -> str:
    """Return an export request of spans."""
    attributes = [{"key": "service.name", "value": {"stringValue": service}}]
    scopes = [{"scope": {"name": "test"}, "spans": list(spans)}]
    return json.dumps(
        {"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": scopes}]}
    )


def logs(*bodies: str) -> str:
    """Return an export request of log records."""
    records = [{"timeUnixNano": "1795521600000000000", "body": {"stringValue": b}} for b in bodies]
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]})


def gauges(*values: int) -> str:
    """Return an export request of data points."""
    points = [{"timeUnixNano": "1795521600000000000", "asInt": str(value)} for value in values]
    metrics = [{"name": "m", "gauge": {"dataPoints": points}}]
    return json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]})


def span_names(path: Path) -> list[str]:
    """Return the names of all spans of a recording, sorted; also those in journals."""
    recording = open_recording(path)
    return sorted(span.name for data in recording.batches() for span in data.spans)
