"""Receiving OTLP, beside rotel: ``python -m tests.benchmarks.receiving``.

Both get the same requests, encoded beforehand, from the same sender, as servers of their own: ours durable
when it answers, rotel with its blackhole exporter. What counts is the CPU time of the server's process from
the first request to its end, so that what ours does after its answer counts, too. The rounds are
interleaved; the figures are medians. rotel is found as the tests of the peers find it: `RIMP_PEERS`.
"""

from __future__ import annotations

import argparse
import http.client
import os
import resource
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from rimp_otel import Signal
from rimp_otel.otlp.protobuf import line_from_protobuf
from tests.benchmarks.workload import tracing, varied_spans
from tests.peers.servers import Receiver, rimp_serve, rotel

_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_TYPES = {"protobuf": "application/x-protobuf", "JSON": "application/json"}
_MEMORY = 500_000_000
_TICK = os.sysconf("SC_CLK_TCK")


class Case(NamedTuple):
    """One way to send: its name, the requests, and what sends them to a receiver."""

    name: str
    bodies: Sequence[bytes]
    send: Callable[[Receiver, Sequence[bytes]], None]


class Figures(NamedTuple):
    """CPU time of a server for each span, spans a second of the clock, and the most memory, in bytes."""

    microseconds: float
    rate: float
    memory: int


def main() -> int:
    """Measure, print a table; the exit code is 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.receiving")
    parser.add_argument("--spans", type=int, default=100_000, help="of a round")
    parser.add_argument("--batch", type=int, default=512, help="spans of a request")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--alone", action="store_true", help="without rotel")
    parser.add_argument("--idle", type=int, default=10_000, help="connections that wait")
    arguments = parser.parse_args()
    bodies = make_requests(arguments.spans, arguments.batch)
    cases = [
        case
        for case in make_cases(bodies, arguments.connections)
        if arguments.only.lower() in case.name.lower()
    ]
    contenders = {"ours": rimp_serve_into} if arguments.alone else _CONTENDERS
    figures = {(case.name, who): [] for case in cases for who in contenders}
    for _ in range(arguments.rounds):
        for case in cases:
            for who, serve in contenders.items():
                figures[case.name, who].append(measure(serve, case, arguments.spans))
    missed = _report(cases, figures)
    memory, seconds = measure_idle(arguments.idle, bodies[0])
    print(
        f"\n{arguments.idle:,} idle connections: {memory / 1e6:.0f} MB; a new request is answered in "
        f"{seconds * 1e3:.0f} ms"
    )
    return 1 if missed or memory > _MEMORY else 0


def make_requests(spans: int, batch: int) -> list[bytes]:
    """Return requests in protobuf by the official encoder, of so many spans in all."""
    collected: list[ReadableSpan] = []

    class _Keep(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            collected.extend(spans)
            return SpanExportResult.SUCCESS

    varied_spans(tracing(SimpleSpanProcessor(_Keep())), spans)
    return [
        encode_spans(collected[start : start + batch]).SerializeToString()
        for start in range(0, len(collected), batch)
    ]


def make_cases(bodies: Sequence[bytes], connections: int) -> list[Case]:
    """Return the ways to send: both formats over HTTP, and gRPC."""
    json = [line_from_protobuf(Signal.TRACES, body) for body in bodies]
    return [
        Case("HTTP, protobuf", bodies, http_sender("protobuf", connections)),
        Case("HTTP, JSON", json, http_sender("JSON", connections)),
        Case("gRPC", bodies, grpc_sender(connections)),
    ]


def measure(serve: Callable[[Path], Iterator[Receiver]], case: Case, spans: int) -> Figures:
    """Start a server, send, stop it; return its figures."""
    with (
        tempfile.TemporaryDirectory(prefix="rimp-receiving-") as name,
        serve(Path(name)) as receiver,
    ):
        case.send(receiver, case.bodies[:2])
        process = receiver.running.process
        before, start = cpu_seconds(process.pid), time.perf_counter()
        case.send(receiver, case.bodies[2:])
        elapsed = time.perf_counter() - start
        memory = memory_of(process.pid, "VmHWM")
        process.send_signal(signal.SIGTERM)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        used = usage.ru_utime + usage.ru_stime - before
    sent = spans * (len(case.bodies) - 2) / len(case.bodies)
    return Figures(used / sent * 1e6, sent / elapsed, memory)


def measure_idle(connections: int, body: bytes) -> tuple[int, float]:
    """Return the memory of our server with so many idle connections, in bytes, and the seconds that a
    request on a new one takes."""
    with tempfile.TemporaryDirectory(prefix="rimp-idle-") as name, ExitStack() as stack:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        receiver = stack.enter_context(rimp_serve_into(Path(name)))
        for _ in range(connections):
            waiting = socket.create_connection(("127.0.0.1", receiver.http), 60)
            stack.callback(waiting.close)
        start = time.perf_counter()
        http_sender("protobuf", 1)(receiver, [body])
        seconds = time.perf_counter() - start
        return memory_of(receiver.running.process.pid, "VmRSS"), seconds


def memory_of(pid: int, name: str) -> int:
    """Return the memory of a process, in bytes: ``VmRSS`` now, ``VmHWM`` the most so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has taken, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def http_sender(form: str, connections: int) -> Callable[[Receiver, Sequence[bytes]], None]:
    """Return what posts bodies over connections that are kept."""

    def send(receiver: Receiver, bodies: Sequence[bytes]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", receiver.http, timeout=60)
        for body in bodies:
            connection.request("POST", "/v1/traces", body, {"Content-Type": _TYPES[form]})
            response = connection.getresponse()
            answer = response.read()
            assert response.status == 200, answer
        connection.close()

    return lambda receiver, bodies: _at_once(send, receiver, bodies, connections)


def grpc_sender(connections: int) -> Callable[[Receiver, Sequence[bytes]], None]:
    """Return what calls the gRPC method with bodies, over channels of their own."""

    def send(receiver: Receiver, bodies: Sequence[bytes]) -> None:
        import grpc

        with grpc.insecure_channel(
            f"127.0.0.1:{receiver.grpc}", [("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            call = channel.unary_unary(_METHOD)
            for body in bodies:
                call(body, timeout=60)

    return lambda receiver, bodies: _at_once(send, receiver, bodies, connections)


def _at_once(
    send: Callable[[Receiver, Sequence[bytes]], None],
    receiver: Receiver,
    bodies: Sequence[bytes],
    connections: int,
) -> None:
    failures: list[BaseException] = []

    def work(share: Sequence[bytes]) -> None:
        try:
            send(receiver, share)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=work, args=(bodies[n::connections],)) for n in range(connections)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@contextmanager
def rimp_serve_into(directory: Path) -> Iterator[Receiver]:
    """Run our receiver over a recording in a directory."""
    with rimp_serve(directory / "recording", directory / "serve.log") as receiver:
        yield receiver


_CONTENDERS = {"ours": rimp_serve_into, "rotel": rotel}


def _report(cases: Sequence[Case], figures: dict[tuple[str, str], list[Figures]]) -> int:
    missed = 0
    columns = ("sent as", "CPU of ours, µs a span", "of rotel", "ratio", "spans a second of CPU")
    print("|", " | ".join((*columns, "of the clock", "memory")), "|")
    print("|" + "---|" * (len(columns) + 2))
    for case in cases:
        ours = figures[case.name, "ours"]
        cpu = statistics.median(one.microseconds for one in ours)
        rate = statistics.median(one.rate for one in ours)
        theirs = [one.microseconds for one in figures.get((case.name, "rotel"), [])]
        their_cpu = f"{statistics.median(theirs):.2f}" if theirs else ""
        ratio = cpu / statistics.median(theirs) if theirs else 0.0
        a_second = 1e6 / cpu
        wanted = 100_000 if "JSON" in case.name else 50_000
        missed += a_second < wanted or ratio > 2
        shown = f"{ratio:.2f}" if theirs else ""
        memory = max(one.memory for one in ours)
        row = (case.name, f"{cpu:.2f}", their_cpu, shown, f"{a_second:,.0f}", f"{rate:,.0f}")
        print("|", " | ".join((*row, f"{memory / 1e6:.0f} MB")), "|")
    return missed


if __name__ == "__main__":
    sys.exit(main())
