"""The program that is killed: ``victim.py NAME PIPE CONFIG``. It says what it has done on a pipe.

Four threads of nested spans with attributes and events, logging, native events and metrics. After
``start_span`` has returned it writes ``S mark`` to the pipe, and after a record has been collected
``F mark``. What is read from standard input makes it die, in one of several ways.
"""

from __future__ import annotations

import ctypes
import json
import logging
import mmap
import os
import resource
import sys
import tempfile
import threading
import time
from typing import Any

from opentelemetry import trace

import rimp_otel
from tests.crash.marks import check_of

THREADS = 4


def say(pipe: int, kind: str, mark: str) -> None:
    """Announce a record; atomically, since it is short."""
    os.write(pipe, f"{kind} {mark}\n".encode())


class Worker:
    """The work of one thread."""

    def __init__(self, telemetry: Any, name: str, pipe: int) -> None:
        self.name = name
        self.pipe = pipe
        self.collector = telemetry.collector
        self.tracer = trace.get_tracer(f"victim.{name[-1]}")
        self.logger = logging.getLogger("victim")
        self.number = 0

    def mark(self, kind: str) -> str:
        """Return the next record's mark."""
        self.number += 1
        return f"{self.name}{kind}{self.number}"

    def run(self) -> None:
        """Work until the process dies."""
        while True:
            with self.span("long"):
                for _ in range(10):
                    self.request()

    def request(self) -> None:
        """Do what one request does."""
        with self.span("request") as outer:
            outer.add_event("received", {"bytes": 4711})
            with self.span("query"):
                self.log()
            self.event()
        self.metric()
        with self.span("after"):
            pass

    def span(self, kind: str) -> Span:
        """Return a span that announces its start and its end."""
        return Span(self, self.mark(kind))

    def log(self) -> None:
        mark = self.mark("log")
        self.logger.warning(mark, extra={"check": check_of(mark)})
        say(self.pipe, "F", mark)

    def event(self) -> None:
        mark = self.mark("event")
        self.collector.collect_event("victim", mark, metadata={"check": check_of(mark)})
        say(self.pipe, "F", mark)

    def metric(self) -> None:
        mark = self.mark("metric")
        tags = {"mark": mark, "check": check_of(mark)}
        self.collector.collect_metric("queue", float(self.number), "1", tags)
        say(self.pipe, "F", mark)


class Span:
    """A context manager around a span."""

    def __init__(self, worker: Worker, mark: str) -> None:
        self.worker, self.mark = worker, mark

    def __enter__(self) -> Any:
        attributes = {"mark": self.mark, "check": check_of(self.mark), "user": 7}
        self.context = self.worker.tracer.start_as_current_span(self.mark, attributes=attributes)
        span = self.context.__enter__()
        say(self.worker.pipe, "S", self.mark)
        return span

    def __exit__(self, *exc: object) -> None:
        self.context.__exit__(*exc)
        say(self.worker.pipe, "F", self.mark)


def segfault() -> None:
    """Write through a null pointer."""
    ctypes.memset(0, 0, 1)


def bus_error() -> None:
    """Write into a mapped file that has been truncated."""
    with tempfile.TemporaryFile() as file:
        file.truncate(8192)
        memory = mmap.mmap(file.fileno(), 8192)
        file.truncate(0)
        memory[4097] = 1


WAYS = {
    "exit": lambda: os._exit(3),
    "segv": segfault,
    "bus": bus_error,
    "abort": os.abort,
}


def main() -> None:
    """Start the threads, and wait for death."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    name, pipe, config = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    telemetry = rimp_otel.install(rimp_otel.TelemetryConfig(**config))
    for number in range(THREADS):
        worker = Worker(telemetry, f"{name}-{number}-", pipe)
        threading.Thread(target=worker.run, daemon=True).start()
    way = sys.stdin.readline().strip()
    if way:
        # From another thread than the first.
        threading.Thread(target=WAYS[way], daemon=True).start()
    while True:
        time.sleep(60.0)


if __name__ == "__main__":
    main()
