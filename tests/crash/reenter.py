"""Collecting inside of collecting: ``python -m tests.crash.reenter``.

A signal handler, on a timer of 300 µs, and a finaliser, run by the garbage collector, collect while
four threads do, and the main thread too, which is the one that they interrupt.
"""

from __future__ import annotations

import gc
import itertools
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream
from tests.crash.burst import judge
from tests.crash.running import Outcome, Program, directory

THREADS = 4
INTERVAL = 300e-6
GARBAGE_EVERY = 64  # records of a thread
SWITCH = 50e-6  # seconds; the interpreter's 5 ms would leave few chances to interrupt


class Reentering:
    """The load.

    Args:
        path: of the recording.
        records: that the four threads collect together; the others come on top.
    """

    def __init__(self, path: Path, records: int) -> None:
        config = TelemetryConfig(journal_size=1024 * 1024 * 1024, flush_timeout=600.0)
        self.collector = TelemetryCollector(config)
        self.stream = TelemetryStream(self.collector, FileStorage(path))
        self.each = records // THREADS
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(self.collector)
        self.tracer = provider.get_tracer("reenter")
        self.marks: list[str] = []  # appended to by one C call
        self.numbers = itertools.count()

    def collect(self, kind: str) -> None:
        """Collect one record: mostly an event, now and then a metric or a span."""
        number = next(self.numbers)
        mark = f"{kind}-{number}"
        if number % 16 == 3:
            self.collector.collect_metric("m", 1.0, tags={"mark": mark})
        elif number % 16 == 7:
            self.tracer.start_span(mark).end()
        else:
            self.collector.collect_event("reenter", mark)
        self.marks.append(mark)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Collect in a signal handler."""
        self.collect("signal")

    def work(self) -> None:
        """Collect in a thread."""
        for i in range(self.each):
            self.collect("thread")
            if i % GARBAGE_EVERY == 0:
                Garbage(self)

    def marks_of(self, kind: str) -> int:
        """Return how many records of a kind were collected."""
        return sum(mark.startswith(kind) for mark in self.marks)

    def run(self) -> None:
        """Run all of it, to the end."""
        threads = [threading.Thread(target=self.work) for _ in range(THREADS)]
        before = signal.signal(signal.SIGALRM, self.on_signal), sys.getswitchinterval()
        sys.setswitchinterval(SWITCH)
        with self.stream:
            signal.setitimer(signal.ITIMER_REAL, INTERVAL, INTERVAL)
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                self.collect("main")
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            # A collection does nothing while another thread is in the middle of one, which the
            # finalisers make possible: so until each of them has run.
            while self.marks_of("finaliser") < THREADS * len(range(0, self.each, GARBAGE_EVERY)):
                gc.collect()
        signal.signal(signal.SIGALRM, before[0])
        sys.setswitchinterval(before[1])


class Garbage:
    """An object that collects a record when the garbage collector finds it."""

    def __init__(self, load: Reentering) -> None:
        self.load: Any = load
        self.cycle = self

    def __del__(self) -> None:
        self.load.collect("finaliser")


def reenter(path: Path, records: int) -> Outcome:
    """Run the load, and count."""
    load = Reentering(path, records)
    load.run()
    outcome = judge(path, load.collector, load.marks, "all")
    kinds = Counter(mark.split("-")[0] for mark in load.marks)
    for kind, count in kinds.items():
        outcome.figures[f"by {kind}"] = count
    return outcome


def main() -> None:
    """Print the figures."""
    program = Program(__doc__, 2_000_000, 50_000)
    options = program.options()
    with directory() as parent:
        outcome = reenter(parent / "telemetry", options.rounds)
    program.finish(outcome)


if __name__ == "__main__":
    main()
