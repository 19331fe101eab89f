"""Many processes on one recording: ``python -m tests.crash.workers``.

Eight forked workers collect 50,000 records each, and rotate every MB. Children of multiprocessing,
by fork, spawn and forkserver. And gunicorn with four workers under the load of four clients,
which recycles its workers, and one of which is killed now and then: of every request that was
answered the span is there, once.
"""

from __future__ import annotations

import contextlib
import http.client
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream
from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.protobuf import protobuf_from_line
from rimp_otel.storage.files.layout import Layout
from tests.crash.audit import by_reader, compare, in_files, texts
from tests.crash.kill import recover
from tests.crash.marks import check_of
from tests.crash.running import Outcome, Program, call_in_child, directory, reap
from tests.processes import ROOT

WORKERS = 8
SERVER = """
import os
from opentelemetry import trace
import rimp_otel
from tests.crash.marks import check_of

telemetry = rimp_otel.install()
tracer = trace.get_tracer("server")

def application(environ, start_response):
    mark = environ["PATH_INFO"][1:]
    attributes = {"mark": mark, "check": check_of(mark)}
    with tracer.start_as_current_span("request", attributes=attributes):
        telemetry.collector.collect_event("server", mark + "-event")
    start_response("200 OK", [("Content-Length", "0"), ("X-Worker", str(os.getpid()))])
    return [b""]
"""


def forked(path: Path, records: int, rotate_size: int) -> Outcome:
    """Run eight workers that share a stream from before the fork."""
    collector = TelemetryCollector(TelemetryConfig(flush_interval=0.05, flush_timeout=300.0))
    stream = TelemetryStream(collector, FileStorage(path, rotate_size=rotate_size))
    stream.start()
    collector.collect_event("parent", "before")
    children = []
    for worker in range(WORKERS):
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(Exception):
                for i in range(records):
                    mark = f"w{worker}-{i}"
                    collector.collect_event("w", mark, metadata={"check": check_of(mark)})
                stats = collector.stats()
                good = stream.stop() and stats.collected == records and not stats.dropped
                code = 0 if good else 2
            os._exit(code)
        children.append(child)
    codes = [reap(child) for child in children]
    stream.stop()
    marks = [f"w{worker}-{i}" for worker in range(WORKERS) for i in range(records)]
    outcome = judge("forked", path, [*marks, "before"])
    if any(codes):
        outcome.failures.append(f"forked: workers ended with {codes}")
    return outcome + valid(path)


def judge(name: str, path: Path, marks: list[str], maybe: bool = False) -> Outcome:
    """Check that exactly these records are there."""
    found = in_files(path)
    failures = []
    for which in (found, by_reader(path)):
        for mark in [mark for mark in which.finished if mark.endswith(".")]:
            del which.finished[mark]  # gunicorn's own log records
        wrong = compare(which, marks, maybe=maybe)
        failures += [f"{name}: {w}: {len(m)}: {m[:5]}" for w, m in wrong.items() if m]
    figures = {"expected": len(marks), "in the files": sum(found.finished.values())}
    return Outcome(Counter({f"{name}: {k}": v for k, v in figures.items()}), failures)


def valid(path: Path) -> Outcome:
    """Check that each line is OTLP JSON for protobuf's parser, and each sealed file whole for zstd."""
    figures: Counter[str] = Counter()
    failures = []
    for number, (where, line) in enumerate(texts(path)):
        figures["lines"] += 1
        decode_line(line)
        if number % 16 == 0:
            protobuf_from_line(line)
            figures["lines parsed by protobuf"] += 1
        if len(line) > 8 * 1024 * 1024:
            failures.append(f"{where}: {len(line)} bytes")
    sealed = list(Layout(path).sealed.glob("*.zst"))
    figures["sealed files"] = len(sealed)
    if shutil.which("zstd") and sealed:
        done = subprocess.run(["zstd", "-t", "-q", *map(str, sealed)], capture_output=True)
        figures["sealed files tested by zstd"] = len(sealed)
        if done.returncode:
            failures.append(done.stderr.decode())
    return Outcome(figures, failures)


def child(path: Path, name: str, records: int) -> None:
    """Record in a child of multiprocessing, with a recorder of its own or its parent's."""
    config = TelemetryConfig(flush_interval=600.0)
    collector = TelemetryCollector(config)
    TelemetryStream(collector, FileStorage(path, rotate_size=64 * 1024)).start()
    for i in range(records):
        collector.collect_event(name, f"{name}-{i}")


def with_multiprocessing(path: Path, method: str, records: int) -> Outcome:
    """Run four children that end by themselves, and never call stop()."""
    context = multiprocessing.get_context(method)
    names = [f"{method}{number}" for number in range(4)]
    children = [context.Process(target=child, args=(path, name, records)) for name in names]
    for process in children:
        process.start()
    for process in children:
        process.join()
    outcome = judge(method, path, [f"{name}-{i}" for name in names for i in range(records)])
    codes = [process.exitcode for process in children]
    if any(codes):
        outcome.failures.append(f"{method}: children ended with {codes}")
    return outcome


class Client(threading.Thread):
    """Sends one request after the other, and keeps what was answered."""

    def __init__(self, port: int, name: str, requests: int) -> None:
        super().__init__()
        self.port, self.prefix, self.requests = port, name, requests
        self.answered: list[str] = []
        self.workers: Counter[str] = Counter()
        self.failed = 0

    def run(self) -> None:
        for i in range(self.requests):
            mark = f"{self.prefix}-{i}"
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60.0)
                connection.request("GET", f"/{mark}")
                response = connection.getresponse()
                response.read()
                worker = response.headers["X-Worker"]
                connection.close()
            except (OSError, http.client.HTTPException):
                self.failed += 1  # its worker was killed
                continue
            if response.status == 200:
                self.answered.append(mark)
                self.workers[worker] += 1


def served(path: Path, requests: int, kills: int, preload: bool) -> Outcome:
    """Run Gunicorn under load."""
    name = "preloaded" if preload else "gunicorn"
    program = path.parent / "server.py"
    program.write_text(SERVER)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{path.parent}",
        "RIMP_STORAGE_PATH": str(path),
        "RIMP_ROTATE_SIZE": str(256 * 1024),
        "RIMP_FLUSH_INTERVAL": "0.05",
    }
    command = [sys.executable, "-m", "gunicorn", "server:application", "-w", "4"]
    options = ["--max-requests", str(max(20, requests // 5)), "--bind", "127.0.0.1:0"]
    options += ["--graceful-timeout", "10", "--no-control-socket"] if _has_control() else []
    errors = tempfile.TemporaryFile()  # noqa: SIM115
    server = subprocess.Popen(
        [*command, *options, *(["--preload"] if preload else [])],
        cwd=path.parent,
        env=environment,
        stderr=errors,
    )
    try:
        clients = _load(server, errors, requests, kills)
    finally:
        server.terminate()
        server.wait(60.0)
    answered = [mark for client in clients for mark in client.answered]
    slots = max(1, len(Layout(path).slots()))
    call_in_child(recover, {"storage_backend": "file", "storage_path": path}, slots)
    marks = [*answered, *(f"{mark}-event" for mark in answered)]
    outcome = judge(name, path, marks, maybe=True)
    figures = {
        "requests answered": len(answered),
        "requests that failed with their worker": sum(client.failed for client in clients),
        "workers": len({worker for client in clients for worker in client.workers}),
        "workers killed": kills,
    }
    if len(answered) < requests * 2:
        outcome.failures.append(f"{name}: only {len(answered)} requests were answered")
    return outcome + Outcome(Counter({f"{name}: {k}": v for k, v in figures.items()}), [])


def _has_control() -> bool:
    done = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--help"], capture_output=True, text=True
    )
    return "--no-control-socket" in done.stdout


def _load(
    server: subprocess.Popen[bytes], errors: object, requests: int, kills: int
) -> list[Client]:
    port = _port_of(server, errors)
    clients = [Client(port, f"client{n}", requests) for n in range(4)]
    for client in clients:
        client.start()
    chance = random.Random(requests)
    for number in range(kills):
        _wait_for(lambda n=number: _answered(clients) > (n + 1) * 3 * requests // (kills + 1))
        workers = _children_of(server.pid)
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(chance.choice(workers), signal.SIGKILL)
    for client in clients:
        client.join()
    return clients


def _answered(clients: list[Client]) -> int:
    return sum(len(client.answered) + client.failed for client in clients)


def _wait_for(condition: object) -> None:
    until = time.monotonic() + 60.0
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until, "nothing happens"
        threading.Event().wait(0.002)


def _port_of(server: subprocess.Popen[bytes], errors: object) -> int:
    found: list[str] = []

    def listens() -> bool:
        errors.seek(0)  # type: ignore[attr-defined]
        text = errors.read().decode(errors="replace")  # type: ignore[attr-defined]
        assert server.poll() is None, text
        found[:] = re.findall(r"Listening at: http://127\.0\.0\.1:(\d+)", text)
        return bool(found)

    _wait_for(listens)
    port = int(found[0])
    with socket.create_connection(("127.0.0.1", port), 20.0):
        return port


def _children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def main() -> None:
    """Print the figures."""
    program = Program(__doc__, 50_000, 1_000)
    options = program.options()
    records, total = options.rounds, Outcome(Counter(), [])
    with directory() as parent:
        rotate_size = 64 * 1024 if options.short else 1024 * 1024
        total += forked(parent / "telemetry", records, rotate_size)
    for method in ("fork", "spawn", "forkserver"):
        with directory() as parent:
            total += with_multiprocessing(parent / "telemetry", method, records // 10)
    for preload in (False, True):
        with directory() as parent:
            requests, kills = (40, 1) if options.short else (records // 10, 5)
            total += served(parent / "telemetry", requests, kills, preload)
    program.finish(total)


if __name__ == "__main__":
    main()
