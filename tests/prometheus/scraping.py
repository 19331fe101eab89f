"""Eight workers of gunicorn that are killed under load, scraped by a real Prometheus.

``python -m tests.prometheus.scraping`` is the long form. Each request is noted by the application before
it is counted; what Prometheus has is compared with the notes. It needs prometheus on the path, or in the
variable PROMETHEUS.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.processes import ROOT
from tests.prometheus.prometheus_server import DEADLINE, Prometheus, free_port, wait_for

WORKERS = 8
CLIENTS = 4
ORDERS = 'orders_total{job="shop"}'
CHECKPOINT = 0.2
# What was measured in the last seconds of a killed process may be missing: two collections for the
# checkpoint, and what a busy machine adds to that.
_MAY_BE_LOST = 2.0
_MAX_SCRAPE = 1.0
_BETWEEN_REQUESTS = 0.01


class Outcome(NamedTuple):
    """What was counted, and what Prometheus has of it."""

    #: When requests were counted, in nanoseconds since the epoch, by process.
    notes: dict[int, list[int]]
    #: When processes were killed.
    kills: dict[int, int]
    #: The samples of the counter, with their times.
    samples: list[tuple[float, float]]
    #: The increase that Prometheus says, and that of the notes, in the same part of the time.
    increase: tuple[float, float]
    resets: float
    histogram_count: float
    failed_scrapes: int

    @property
    def counted(self) -> int:
        """The number of requests."""
        return sum(map(len, self.notes.values()))

    @property
    def may_be_lost(self) -> int:
        """The number of requests that may have died with their processes."""
        return sum(
            sum(1 for when in self.notes[pid] if when > killed - _MAY_BE_LOST * 1e9)
            for pid, killed in self.kills.items()
        )

    @property
    def lost(self) -> float:
        """The number of requests that Prometheus does not have in the end."""
        return self.counted - self.samples[-1][1]

    def faults(self) -> list[str]:
        """Return what is wrong; nothing if all is right."""
        found = []
        for (_, before), (when, value) in itertools.pairwise(self.samples):
            if value < before:
                found.append(f"at {when} the counter goes back from {before} to {value}")
        for when, value in self.samples:
            # A sample has the time at which its scrape began.
            until = (when + _MAX_SCRAPE) * 1e9
            noted = sum(1 for times in self.notes.values() for one in times if one <= until)
            if value > noted:
                found.append(f"at {when} the counter is {value} after {noted} requests")
        if self.resets:
            found.append(f"Prometheus sees {self.resets} resets")
        if not 0 <= self.lost <= self.may_be_lost:
            found.append(
                f"{self.lost} of {self.counted} are lost, of {self.may_be_lost} that may be"
            )
        if self.histogram_count != self.samples[-1][1]:
            found.append(f"the histogram has {self.histogram_count} values")
        return found


def scrape_workers(directory: Path, seconds: float, pause: float) -> Outcome:
    """Run workers and kill one after the other; return what Prometheus made of it.

    The endpoint is in the workers: the one that has it is killed first.

    Args:
        directory: for all that is written.
        seconds: of load.
        pause: seconds between two deaths.
    """
    notes = directory / "notes"
    notes.mkdir()
    port, metrics_port = free_port(), free_port()
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RIMP_STORAGE_PATH": str(directory / "recording"),
        "RIMP_PROMETHEUS_PORT": str(metrics_port),
        "RIMP_METRIC_INTERVAL": "1",
        "RIMP_METRIC_CHECKPOINT_INTERVAL": str(CHECKPOINT),
        "RIMP_TEST_NOTES": str(notes),
        "HOME": str(directory),  # where gunicorn leaves something
    }
    command = [sys.executable, "-m", "gunicorn", "--workers", str(WORKERS), "--log-level", "error"]
    command += ["--bind", f"127.0.0.1:{port}", "tests.prometheus.counting_app:application"]
    server = subprocess.Popen(command, env=env, cwd=directory)
    address = f"127.0.0.1:{metrics_port}"
    try:
        wait_for(lambda: ask(metrics_port, "/metrics") is not None)
        with Prometheus(directory, address) as prometheus:
            wait_for(lambda: prometheus.value("up") == 1)
            with load(port):
                wait_for(lambda: prometheus.value(ORDERS))
                kills = kill_workers(notes, metrics_port, seconds, pause)
            counted = read_notes(notes)
            least = (
                sum(map(len, counted.values()))
                - Outcome(counted, kills, [], (0, 0), 0, 0, 0).may_be_lost
            )
            wait_for(lambda: (prometheus.value(ORDERS) or 0) >= least)
            settled = wait_for_rest(prometheus)
            window = max(4, int(seconds / 2))
            return Outcome(
                counted,
                kills,
                prometheus.samples(ORDERS),
                increase_of(prometheus, counted, settled - 2 * window / 3, window),
                prometheus.value(f"resets({ORDERS}[1h])") or 0,
                prometheus.value('duration_seconds_count{job="shop"}') or 0,
                sum(1 for _, is_up in prometheus.samples("up") if not is_up),
            )
    finally:
        server.terminate()
        server.wait(DEADLINE)


def ask(port: int, path: str) -> bytes:
    """Return the body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()


@contextmanager
def load(port: int) -> Iterator[None]:
    """Send requests from some threads, without taking all of the machine."""
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(_BETWEEN_REQUESTS):
            try:
                ask(port, "/")
            except OSError:  # its worker was killed
                pass

    threads = [threading.Thread(target=send) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(DEADLINE)


def kill_workers(notes: Path, metrics_port: int, seconds: float, pause: float) -> dict[int, int]:
    """Kill a worker now and then; return when each was killed."""
    kills: dict[int, int] = {}
    chance = random.Random(1)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        living = [int(file.name) for file in notes.iterdir() if int(file.name) not in kills]
        serving = [pid for pid in living if listens(pid, metrics_port)]
        victim = serving[0] if serving and not kills else chance.choice(living)
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            pass
        kills[victim] = time.time_ns()
        time.sleep(pause)
    return kills


def listens(pid: int, port: int) -> bool:
    """Return True if a process listens at a port."""
    try:
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        sockets = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}")}
        return any(os.readlink(file) in sockets for file in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def read_notes(notes: Path) -> dict[int, list[int]]:
    """Return the times of requests, by process."""
    return {
        int(file.name): [when for (when,) in struct.iter_unpack("<q", file.read_bytes())]
        for file in notes.iterdir()
    }


def wait_for_rest(prometheus: Prometheus) -> float:
    """Wait until the counter stays as it is, for some scrapes; return the time of the last change."""

    def has_settled() -> float | None:
        samples = prometheus.samples(ORDERS)
        same = [when for when, value in samples if value == samples[-1][1]]
        return same[0] if same[-1] - same[0] > 3.0 else None

    return float(wait_for(has_settled))


def increase_of(
    prometheus: Prometheus, notes: dict[int, list[int]], end: float, window: int
) -> tuple[float, float]:
    """Return the increase that Prometheus says, and that of the notes, up to a time."""
    said = prometheus.value(f"increase({ORDERS}[{window}s])", end) or 0.0
    noted = [when / 1e9 for times in notes.values() for when in times]
    return said, sum(1 for when in noted if end - window < when <= end)


def main() -> int:
    """Run the long form; return 1 if something is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.prometheus.scraping", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="of load (120)")
    parser.add_argument("--pause", type=float, default=1.5, help="seconds between two deaths (1.5)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rimp-scraping-") as directory:
        found = scrape_workers(Path(directory), arguments.seconds, arguments.pause)
    said, noted = found.increase
    print(
        f"{found.counted:,} requests, {len(found.kills)} workers killed, {len(found.samples)} scrapes"
        f" ({found.failed_scrapes} failed)\n"
        f"Prometheus has {found.samples[-1][1]:,.0f}: {found.lost:,.0f} died with their workers"
        f" (up to {found.may_be_lost:,} may), {found.resets:.0f} resets\n"
        f"increase() in the middle: {said:,.0f} of {noted:,} ({said / noted - 1:+.2%})"
    )
    faults = found.faults()
    if abs(said / noted - 1) > 0.1:
        faults.append("increase() is off by more than a tenth")
    print(*(faults or ["all right"]), sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
