"""A burst of spans as fast as the machine goes: ``python -m tests.crash.burst``.

100,000 spans, from one thread and from four. What was collected is counted, and is in the files.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from pathlib import Path

from opentelemetry.sdk.trace import TracerProvider

from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream
from tests.crash.audit import by_reader, compare, in_files
from tests.crash.marks import check_of
from tests.crash.running import Outcome, Program, directory


def burst(path: Path, threads: int, spans: int) -> Outcome:
    """Record spans from many threads; fail if one is missing."""
    collector = TelemetryCollector(TelemetryConfig(flush_timeout=300.0))
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(collector)
    tracer = provider.get_tracer("burst")
    together = threading.Barrier(threads + 1)

    def work(thread: int) -> None:
        together.wait()
        for i in range(spans // threads):
            mark = f"{thread}-{i}"
            attributes = {"mark": mark, "check": check_of(mark)}
            with tracer.start_as_current_span("span", attributes=attributes):
                pass

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    with TelemetryStream(collector, FileStorage(path)):
        for worker in workers:
            worker.start()
        together.wait()
        began = time.perf_counter()
        for worker in workers:
            worker.join()
        seconds = time.perf_counter() - began
    marks = [f"{thread}-{i}" for thread in range(threads) for i in range(spans // threads)]
    return judge(path, collector, marks, f"{threads} threads", spans / seconds)


def judge(
    path: Path, collector: TelemetryCollector, marks: list[str], name: str, rate: float = 0.0
) -> Outcome:
    """Check that exactly these records were collected, stored, and are in the files."""
    stats, failures = collector.stats(), []
    if (stats.collected, stats.stored, stats.pending) != (len(marks), len(marks), 0):
        failures.append(f"{name}: {stats}")
    if stats.dropped:
        failures.append(f"{name}: dropped {stats.dropped}")
    files, read = in_files(path), by_reader(path)
    for found in (files, read):
        wrong = compare(found, marks, maybe=False)
        failures += [f"{name}: {what}: {which[:5]}" for what, which in wrong.items() if which]
    figures = {"collected": stats.collected, "in the files": sum(files.finished.values())}
    if rate:
        figures["a second"] = int(rate)
    figures["dropped"] = sum(stats.dropped.values())
    return Outcome(Counter({f"{name}: {k}": v for k, v in figures.items()}), failures)


def main() -> None:
    """Print the figures."""
    program = Program(__doc__, 100_000, 10_000)
    options = program.options()
    total = Outcome(Counter(), [])
    for threads in (1, 4):
        with directory() as parent:
            total += burst(parent / "telemetry", threads, options.rounds)
    program.finish(total)


if __name__ == "__main__":
    main()
