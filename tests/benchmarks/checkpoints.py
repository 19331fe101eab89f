"""What a checkpoint of the instruments costs: ``python -m tests.benchmarks.checkpoints``.

CPU time of one collection between two regular ones, on the thread that is made for it: the SDK's part,
which collects the instruments; and all of it, where each series was measured since the one before, one
in ten, or none. Medians. A collection in a second takes so much of one core's time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream

_MOST = 1.0
"""Percent of a core that a checkpoint in a second may take, with 100 series that all change."""

Measure = Callable[[int], None]
"""Measures once in so many series, the first ones."""


def main() -> int:
    """Measure, and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.checkpoints")
    parser.add_argument("--series", type=int, default=100, help="half counters, half histograms")
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    series, rounds = arguments.series, arguments.rounds
    sdk = measure_sdk(series, rounds)
    print(f"{series} series                    CPU    of one core, at one a second")
    print(f"the SDK's collection      {sdk:6.2f} ms {sdk / 10:6.2f} %")
    with tempfile.TemporaryDirectory() as directory:
        costs = [
            measure_checkpoint(Path(directory, str(changing)), series, changing, rounds)
            for changing in (series, series // 10, 0)
        ]
    for name, cost in zip(("every", "one in ten", "no"), costs, strict=True):
        print(f"{name + ' series changes':25} {cost:6.2f} ms {cost / 10:6.2f} %")
    return 0 if series != 100 or costs[0] / 10 <= _MOST else 1


def measure_sdk(series: int, rounds: int) -> float:
    """Return milliseconds of CPU time of one collection by the SDK."""
    reader = InMemoryMetricReader()
    measure = _make_series(reader, series)
    return _median(rounds, lambda: measure(series), lambda: reader.get_metrics_data())


def measure_checkpoint(path: Path, series: int, changing: int, rounds: int) -> float:
    """Return milliseconds of CPU time of one checkpoint, with so many series that change."""
    config = TelemetryConfig(
        flush_interval=3_600.0, metric_interval=3_600.0, metric_checkpoint_interval=1_800.0
    )
    stream = TelemetryStream(TelemetryCollector(config), FileStorage(path))
    measure = _make_series(stream, series)
    stream.start()

    def checkpoint() -> None:
        stream._worker.run_aside(stream._collect_between).wait(time.monotonic() + 60.0)

    try:
        measure(series)
        checkpoint()
        return _median(rounds, lambda: measure(changing), checkpoint)
    finally:
        stream.stop()


def _make_series(reader, series: int) -> Measure:
    """Return a function that measures; half of the series are of counters."""
    meter = MeterProvider(metric_readers=[reader], shutdown_on_exit=False).get_meter("benchmark")
    counters = [meter.create_counter(f"counter.{n}") for n in range(5)]
    histograms = [meter.create_histogram(f"histogram.{n}", "s") for n in range(5)]
    attributes = [
        {
            "http.request.method": "GET",
            "http.route": f"/orders/{n}",
            "http.response.status_code": 200,
        }
        for n in range(series)
    ]

    def measure(changing: int) -> None:
        for n in range(changing):
            if n % 2:
                counters[n % 5].add(1, attributes[n])
            else:
                histograms[n % 5].record(n, attributes[n])

    return measure


def _median(rounds: int, before: Callable[[], object], work: Callable[[], object]) -> float:
    times = []
    for number in range(rounds + 5):
        before()
        start = time.process_time()
        work()
        if number >= 5:  # the first ones warm up
            times.append(time.process_time() - start)
    return statistics.median(times) * 1e3


if __name__ == "__main__":
    sys.exit(main())
