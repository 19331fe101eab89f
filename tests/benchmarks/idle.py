"""Idle connections to ``rimp serve``: ``python -m tests.benchmarks.idle``.

So many are opened that send nothing; then the memory of the server's process, and how long a new request takes
until it is answered.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.transport.serving import DEADLINE, Served, span, traces

_MOST_MEMORY = 500 * 10**6


class Figures(NamedTuple):
    """Bytes of the server's process without and with the connections, and seconds of a request."""

    before: int
    after: int
    seconds: float


def measure(connections: int) -> Figures:
    """Open connections, and send a request on a new one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with (
        tempfile.TemporaryDirectory() as directory,
        Served(Path(directory) / "telemetry") as running,
        contextlib.ExitStack() as opened,
    ):
        assert running.post(traces(span(0))).status == 200
        before = resident_memory(running.process.pid)
        for _ in range(connections):
            opened.enter_context(socket.create_connection(running.address, timeout=DEADLINE))
        start = time.perf_counter()
        assert running.post(traces(span(1))).status == 200
        seconds = time.perf_counter() - start
        return Figures(before, resident_memory(running.process.pid), seconds)


def resident_memory(process: int) -> int:
    """Return the bytes of a process that are in memory."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main() -> int:
    """Measure, print the figures; the exit code is 1 if it takes too much memory."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.idle")
    parser.add_argument("--connections", type=int, default=10_000)
    connections = parser.parse_args().connections
    found = measure(connections)
    print(
        f"{connections:,} idle connections: {found.before / 1e6:,.0f} MB -> {found.after / 1e6:,.0f} MB; "
        f"a new request is answered after {found.seconds * 1e3:,.0f} ms"
    )
    return 0 if found.after < _MOST_MEMORY else 1


if __name__ == "__main__":
    sys.exit(main())
