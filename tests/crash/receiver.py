"""``rimp serve``, killed under load: what it has answered with success is there, once.

``python -m tests.crash.receiver``. A round starts one or two servers on one directory, and one to four senders,
over HTTP and gRPC, in JSON and protobuf, compressed and not. Once a random number of requests has been
answered, the servers are killed by SIGKILL. The recording is read as it was left, recovered (the recovering
process is killed too, up to three times in a row), and counted again, by the reader and in the files; then
perhaps the next life begins. A request that was not answered may be there or not, but no record twice.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import rimp_otel.transport.receiving.http_receiver
import rimp_otel.transport.receiving.http_server  # noqa: F401  (each child has them then)
from rimp_otel.cli.main import main as rimp
from rimp_otel.models.records import Signal
from rimp_otel.otlp.protobuf import protobuf_from_line
from tests.crash.backends import BACKENDS, Backend
from tests.crash.kill import DEADLINE, FILE, Round
from tests.crash.marks import check_of
from tests.crash.running import Outcome, Program, directory, each_seed, reap

_HAS_GRPC = find_spec("grpc") is not None
_METHODS = {
    Signal.TRACES: "trace.v1.TraceService",
    Signal.LOGS: "logs.v1.LogsService",
    Signal.METRICS: "metrics.v1.MetricsService",
}
_TIME = "1795521600000000000"


# Requests.


def request_of(signal: Signal, marks: list[str], service: str) -> str:
    """Return an export request with a record for each mark."""
    record = {Signal.TRACES: _span, Signal.LOGS: _log_record, Signal.METRICS: _point}[signal]
    records: list[dict[str, Any]] = [record(mark) for mark in marks]
    if signal is Signal.METRICS:
        records = [{"name": "m", "gauge": {"dataPoints": records}}]
    resource = {"attributes": [_attribute("service.name", service)]}
    scope = {"scope": {"name": "crash"}, signal.record_key: records}
    return json.dumps({signal.resource_key: [{"resource": resource, signal.scope_key: [scope]}]})


def _attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def _attributes(mark: str) -> list[dict[str, Any]]:
    return [_attribute("mark", mark), _attribute("check", check_of(mark))]


def _span(mark: str) -> dict[str, Any]:
    ids = {"traceId": os.urandom(16).hex(), "spanId": os.urandom(8).hex()}
    times = {"startTimeUnixNano": _TIME, "endTimeUnixNano": _TIME}
    return {**ids, "name": mark, **times, "attributes": _attributes(mark)}


def _log_record(mark: str) -> dict[str, Any]:
    return {"timeUnixNano": _TIME, "body": {"stringValue": mark}, "attributes": _attributes(mark)}


def _point(mark: str) -> dict[str, Any]:
    return {"timeUnixNano": _TIME, "asInt": "1", "attributes": _attributes(mark)}


# Processes.


class Child:
    """A forked child that writes lines into a pipe until it ends.

    Args:
        work: what it does, with the descriptor of its end of the pipe.
    """

    def __init__(self, work: Callable[[int], object]) -> None:
        self.pipe, outward = os.pipe()
        self.said = bytearray()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self.pipe)
                work(outward)
                code = 0
            except BaseException:
                os.write(outward, traceback.format_exc().encode())
            finally:
                os._exit(code)
        os.close(outward)

    def hear(self, seconds: float) -> bool:
        """Read what it has said; return False once it has ended."""
        if select.select([self.pipe], [], [], seconds)[0]:
            block = os.read(self.pipe, 65_536)
            self.said += block
            return bool(block)
        return True

    def end(self) -> int:
        """Wait until it has ended, and return its exit code."""
        until = time.monotonic() + DEADLINE
        while self.hear(max(0.0, until - time.monotonic())):
            assert time.monotonic() < until, f"a child goes on: {self.said[-2000:]!r}"
        os.close(self.pipe)
        return reap(self.pid)

    @property
    def lines(self) -> list[str]:
        """What it has said."""
        return self.said.decode(errors="replace").splitlines()


class Server(Child):
    """A ``rimp serve``, ready.

    Args:
        path: of the recording.
        config: fields of a TelemetryConfig, which it gets by its environment.
    """

    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        super().__init__(lambda pipe: _serve(path, config, pipe))
        until = time.monotonic() + DEADLINE
        while b"OTLP/HTTP at" not in self.said or not self.said.endswith(b"\n"):
            is_there = self.hear(max(0.0, until - time.monotonic()))
            assert is_there, f"the server has ended: {self.said!r}"
            assert time.monotonic() < until, f"the server is not ready: {self.said!r}"
        (line,) = [line for line in self.lines if "OTLP/HTTP at" in line]
        self.ports = {
            kind: int(line.partition(f"OTLP/{kind} at ")[2].partition(";")[0].rpartition(":")[2])
            for kind in (("HTTP", "gRPC") if _HAS_GRPC else ("HTTP",))
        }

    def kill(self) -> int:
        """Kill it, and return its exit code."""
        os.kill(self.pid, signal.SIGKILL)
        return self.end()


def _serve(path: Path, config: dict[str, Any], pipe: int) -> None:
    os.dup2(pipe, 2)
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    for name, value in config.items():
        os.environ[f"RIMP_{name.upper()}"] = str(value)
    options = ["--path", str(path), "--http", "127.0.0.1:0", "--retain", "none"]
    rimp(["serve", *options, "--grpc", "127.0.0.1:0" if _HAS_GRPC else "off"])


class Sender(Child):
    """Sends requests to a server until that is gone; says which were answered with success.

    Args:
        server: where to.
        name: of the sender; its marks begin with it.
        seed: of its choices.
    """

    def __init__(self, server: Server, name: str, seed: int) -> None:
        self._name = name
        chance = random.Random(seed)
        use_grpc = _HAS_GRPC and chance.random() < 0.3
        send = _send_grpc if use_grpc else _send_http
        port = server.ports["gRPC" if use_grpc else "HTTP"]
        super().__init__(lambda pipe: send(port, _batches(chance, name), pipe))

    @property
    def answered(self) -> int:
        """The number of requests that were answered with success."""
        return self.said.count(b"\n")

    def marks(self) -> set[str]:
        """Return the marks of the records that were answered with success."""
        found = set()
        for line in self.lines:
            number, records = map(int, line.split())
            found |= set(_marks(self._name, number, records))
        return found


def _marks(name: str, number: int, records: int) -> list[str]:
    return [f"{name}-{number}-{n}" for n in range(records)]


Batch = tuple[int, int, Signal, str]
"""A number, how many records, the signal, and the request in JSON."""


def _batches(chance: random.Random, name: str) -> Iterator[Batch]:
    number = 0
    while True:
        records = int(10 ** chance.uniform(0.0, 2.3))
        kind = chance.choice(list(Signal))
        yield number, records, kind, request_of(kind, _marks(name, number, records), name)
        number += 1


def _send_http(port: int, batches: Iterator[Batch], pipe: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    for number, records, kind, text in batches:
        body, headers = text.encode(), {"Content-Type": "application/json"}
        if number % 3 == 1:
            body = protobuf_from_line(body).SerializeToString()
            headers["Content-Type"] = "application/x-protobuf"
        if number % 2:
            body = gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        try:
            connection.request("POST", f"/v1/{kind.value}", body, headers)
            response = connection.getresponse()
            answer = response.read()
        except (TimeoutError, OSError, http.client.HTTPException):
            return  # the server is gone
        assert response.status == 200, (response.status, answer)
        os.write(pipe, f"{number} {records}\n".encode())


def _send_grpc(port: int, batches: Iterator[Batch], pipe: int) -> None:
    # In this process alone: a channel and fork do not go together.
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for number, records, kind, text in batches:
            method = f"/opentelemetry.proto.collector.{_METHODS[kind]}/Export"
            call = channel.unary_unary(method)
            compression = (grpc.Compression.NoCompression, grpc.Compression.Gzip)[number % 2]
            body = protobuf_from_line(text).SerializeToString()
            try:
                call(body, timeout=DEADLINE, compression=compression)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    return  # the server is gone
                raise
            os.write(pipe, f"{number} {records}\n".encode())


# Rounds.


class ReceiverRound(Round):
    """One round: several lives of servers on one directory."""

    def kill_all(self) -> None:
        """Run servers and senders, and kill the servers, up to three times."""
        for life in range(self.chance.choice([1, 1, 1, 2, 3])):
            self.live(life)
            self.check("read after a death", self.backend.by_reader(self.path))

    def live(self, life: int) -> None:
        """Run servers and senders, and kill the servers."""
        config = {name: value for name, value in self.config.items() if name != "storage_path"}
        servers = [Server(self.path, config) for _ in range(self.chance.choice([1, 1, 2]))]
        senders = [
            Sender(self.chance.choice(servers), f"s{life}.{n}", self.chance.getrandbits(32))
            for n in range(self.chance.choice([1, 2, 3, 4]))
        ]
        wanted = int(10 ** self.chance.uniform(0.0, 1.6 if self.short else 2.5))
        until = time.monotonic() + DEADLINE
        while sum(sender.answered for sender in senders) < wanted:
            assert time.monotonic() < until, "too few requests are answered"
            for sender in senders:
                if not sender.hear(0.002):
                    raise AssertionError(f"a sender has ended: {sender.said[-2000:]!r}")
        for server in servers:
            code = server.kill()
            self.figures[f"servers killed ({code})"] += 1
            self.complaints += "\n".join(server.lines[1:])
        for sender in senders:
            code = sender.end()
            if code:
                self.failures.append(f"a sender failed: {sender.lines[-1:]}")
                continue
            self.figures["requests answered"] += sender.answered
            self.finished |= sender.marks()


def round_of(seed: int, short: bool, backend: str = FILE.name) -> Outcome:
    """Run one round."""
    chance = random.Random(seed)
    with directory() as parent:
        chosen: Backend = BACKENDS[backend]
        return ReceiverRound(chance, parent, short, chosen).run()


def main() -> None:
    """Print the figures."""
    program = Program(__doc__, 190, 8)
    program.add("--backend", choices=BACKENDS, default=FILE.name, help="the storage")
    options = program.options()
    program.finish(each_seed(round_of, options, options.backend))


if __name__ == "__main__":
    main()
