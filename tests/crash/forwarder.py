"""A forwarder that is killed at random, under load: nothing is missing, and the ledger is exact.

``python -m tests.crash.forwarder --rounds 300 --backend sqlite``. Programs record, and are killed too; a
receiver of its own process writes down what it acknowledged, and now and then says 503; retention deletes
what was acknowledged. Each round kills the forwarder, which the next one starts again. At the end all
that was collected must be there, what came twice must have been in the last request before a death, and
``recorded = acknowledged`` in the ledger must be the number of records. With ``--expire`` nothing is held, so that
retention deletes much of it unsent, also while no forwarder runs: what is missing must be ``expired``, and
``recorded`` the number of records all the same.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream
from rimp_otel.batch import decode_batch
from rimp_otel.models.records import Signal
from rimp_otel.storage.recording import layout_of
from rimp_otel.transport.forwarding.destination import open_destination
from rimp_otel.transport.forwarding.destination_options import DestinationOptions
from rimp_otel.transport.forwarding.forward_status import SignalStatus, StatusReader
from rimp_otel.transport.forwarding.forwarder import Forwarder, ForwarderOptions
from rimp_otel.transport.forwarding.recovery import recover_dead_journals
from rimp_otel.transport.forwarding.sources import PortionLimits
from tests.crash.running import Outcome, Program, directory, reap

SIGNALS = (Signal.LOGS, Signal.METRICS)
LIMITS = PortionLimits(size=32 * 1024, records=200)
RUN = "x-run"
DEADLINE = 120.0


# The receiver.


class Receiver(ThreadingHTTPServer):
    """Writes down what it acknowledges, before it does."""

    daemon_threads = True

    def __init__(self, path: Path, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.file = path.open("a")
        self.random = random.Random(seed)
        self.lock = threading.Lock()

    def handle_error(self, request: object, address: object) -> None:
        """Say nothing of connections whose sender was killed."""

    def take(self, run: str, body: bytes) -> bool:
        """Write down a request; return False for one that is not acknowledged."""
        with self.lock:
            if self.random.random() < 0.03:
                return False
            data = decode_batch(body)
            marks = [event.message for event in data.events]
            marks += [str(metric.tags["mark"]) for metric in data.metrics]
            self.file.write(json.dumps([int(run), bool(data.metrics), marks]) + "\n")
            self.file.flush()
            return True


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        taken = self.server.take(self.headers[RUN], body)
        self.send_response(200 if taken else 503)
        if not taken:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        """Say nothing."""


# Children of this process, which have everything imported.


def fork(function: Callable[..., object], *args: object) -> int:
    """Run a function in a child; return its pid."""
    pid = os.fork()
    if pid == 0:
        _become(function, args)
    return pid


def _become(function: Callable[..., object], args: tuple[object, ...]) -> NoReturn:
    try:
        function(*args)
        os._exit(0)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    os._exit(1)


def receive(path: Path, seed: int, outward: int) -> None:
    """Be the receiver; write its port to a pipe."""
    server = Receiver(path, seed)
    os.write(outward, str(server.server_address[1]).encode())
    server.serve_forever()


def record(path: Path, name: str, counts: mmap.mmap, retain_size: int) -> None:
    """Record logs and metrics until killed; note how many of each were collected."""
    sizes = {"retain_size": retain_size}
    if not path.suffix:
        sizes["rotate_size"] = 64 * 1024
    config = TelemetryConfig(storage_path=path, flush_interval=0.05, **sizes)
    collector = TelemetryCollector(config)
    TelemetryStream(collector).start()
    number = 0
    while True:
        number += 1
        collector.collect_event("source", f"{name}-{number}")
        collector.collect_metric("metric", number, tags={"mark": f"{name}-{number}"})
        struct.pack_into("<Q", counts, 0, number)
        if number % 50 == 0:
            time.sleep(0.005)


def forward(path: Path, url: str, run: int, once: bool, hold: int) -> None:
    """Forward until killed, or once."""
    options = DestinationOptions(headers={RUN: str(run)}, encoding="json", compression="none")
    forwarder = Forwarder(
        path,
        [open_destination(url, options)],
        ForwarderOptions(once, hold, interval=0.01, signals=SIGNALS, limits=LIMITS),
        recover=recover_dead_journals,
    )
    forwarder.start()
    forwarder.wait(DEADLINE if once else None)
    failures = [outcome.failure for outcome in forwarder.outcomes() if outcome.failure]
    assert forwarder.stop(), "it does not stop"
    assert not failures, failures


# The rounds.


class Scene:
    """Everything that runs, in one directory."""

    def __init__(self, parent: Path, backend: str, seed: int, expires: bool) -> None:
        self.expires = expires
        self.hold = 0 if expires else 10**10
        self.path = parent / ("telemetry.db" if backend == "sqlite" else "telemetry")
        self.acknowledged = parent / "acknowledged"
        self.random = random.Random(seed)
        self.counts = mmap.mmap(-1, mmap.PAGESIZE)
        inward, outward = os.pipe()
        self.receiver = fork(receive, self.acknowledged, seed, outward)
        self.url = f"otlp+http://127.0.0.1:{os.read(inward, 10).decode()}"
        os.close(inward)
        os.close(outward)
        #: How many pairs of records each recorder has collected, by its name.
        self.collected: Counter[str] = Counter()
        self.recorder: tuple[int, str] | None = None

    def start_recorder(self) -> None:
        """Start the next recorder."""
        struct.pack_into("<Q", self.counts, 0, 0)
        name = f"r{len(self.collected)}"
        retain_size = 0 if self.expires else 256 * 1024
        self.recorder = fork(record, self.path, name, self.counts, retain_size), name

    def kill_recorder(self) -> None:
        """Kill it, and note how far it had come."""
        assert self.recorder is not None
        pid, name = self.recorder
        os.kill(pid, signal.SIGKILL)
        reap(pid)
        (self.collected[name],) = struct.unpack_from("<Q", self.counts, 0)

    def run_round(self, run: int) -> None:
        """Start a forwarder, and kill it."""
        pid = fork(forward, self.path, self.url, run, False, self.hold)
        time.sleep(self.random.choice([0.05, 0.2, 0.5]) * self.random.random() + 0.01)
        os.kill(pid, signal.SIGKILL)
        reap(pid)
        if self.random.random() < 0.1:
            self.kill_recorder()
            self.start_recorder()

    def finish(self, run: int) -> Outcome:
        """Forward what is left, and compare."""
        self.kill_recorder()
        pid = fork(forward, self.path, self.url, run, True, self.hold)
        _, status = os.waitpid(pid, 0)
        os.kill(self.receiver, signal.SIGKILL)
        reap(self.receiver)
        failures = [] if status == 0 else [f"the last forwarder ended with {status}"]
        lines = self.acknowledged.read_text().splitlines() if self.acknowledged.exists() else []
        requests = [json.loads(line) for line in lines]
        figures: Counter[str] = Counter(
            deaths=run, requests=len(requests), recorders=len(self.collected)
        )
        ledgers = StatusReader(layout_of(self.path)).read()[0].signals
        for is_metric, which in ((False, Signal.LOGS), (True, Signal.METRICS)):
            own = [(number, marks) for number, metric, marks in requests if metric == is_metric]
            seen = Counter(mark for _, marks in own for mark in marks)
            found = ledgers[which]
            failures += self._missing(which, seen, found.ledger.expired)
            failures += _repeated_elsewhere(which, own)
            failures += self._miscounted(which, seen, found)
            figures[f"{which.value} expired"] += found.ledger.expired
            figures[f"{which.value} forwarded"] += len(seen)
            figures[f"{which.value} repeated"] += seen.total() - len(seen)
        return Outcome(figures, failures)

    def _missing(self, which: Signal, seen: Counter[str], expired: int) -> list[str]:
        expected = {
            f"{name}-{number}"
            for name, count in self.collected.items()
            for number in range(1, count + 1)
        }
        missing = sorted(expected - set(seen))
        if len(missing) <= expired:
            return []
        return [f"{which.value}: {len(missing)} missing, {expired} expired, {missing[:5]}"]

    def _miscounted(self, which: Signal, seen: Counter[str], found: SignalStatus) -> list[str]:
        ledger = found.ledger
        if self.expires:
            # What a recorder that was killed had collected may be one more than it had noted.
            least = self.collected.total()
            is_right = least <= found.recorded <= least + len(self.collected)
            is_right = is_right and ledger.acknowledged <= len(seen)
        else:
            is_right = found.recorded == ledger.acknowledged == len(seen)
        is_right = is_right and found.pending.records == 0
        is_right = is_right and ledger.acknowledged + ledger.expired == found.recorded
        is_right = is_right and found.repeated == 0
        return [] if is_right else [f"{which.value}: {found}, there are {len(seen)}"]


def _repeated_elsewhere(which: Signal, requests: list[tuple[int, list[str]]]) -> list[str]:
    """Return a failure for each repeat that is not in the last request before a death. Each death
    may cost one request, whenever it is that the next forwarders come to its file again."""
    failures = []
    before: set[str] = set()
    allowed: set[str] = set()
    current, previous = -1, list[str]()
    for run, marks in requests:
        if run != current:
            current = run
            allowed.update(previous)
        repeated = before.intersection(marks)
        if not repeated <= allowed:
            failures.append(f"{which.value}: run {run} repeats {sorted(repeated - allowed)[:5]}")
        allowed -= repeated
        before.update(marks)
        previous = marks
    return failures


def run_scene(backend: str, rounds: int, seed: int, expires: bool) -> Outcome:
    """Return what came of so many deaths."""
    with directory() as parent:
        scene = Scene(parent, backend, seed, expires)
        scene.start_recorder()
        for run in range(rounds):
            scene.run_round(run)
            if rounds > 50 and run % 50 == 49:
                print(f"{run + 1} of {rounds}", file=sys.stderr)
        return scene.finish(rounds)


def main(argv: list[str] | None = None) -> Any:
    """Print the figures."""
    program = Program(__doc__, 300, 12)
    program.add("--backend", choices=("file", "sqlite"), default="file")
    program.add(
        "--expire", action="store_true", help="hold nothing, so that much is deleted unsent"
    )
    options = program.options(argv)
    scene = (options.backend, options.rounds, options.seed, options.expire)
    program.finish(run_scene(*scene))


if __name__ == "__main__":
    main()
