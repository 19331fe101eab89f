"""The cost that noting open spans adds to a span: ``python -m tests.benchmarks.open_spans``.

A span with 8 attributes that starts and ends, with no processor and with one that only notes it;
the two take turns, round by round. Medians over the rounds; the ratio is that of one round.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import tempfile
import time
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from rimp_otel.journal.open_spans import OpenSpanTable
from tests.benchmarks.workload import ATTRIBUTES, NAME

_TARGET = 3.0


class _Bare(SpanProcessor):
    """A span processor that does nothing."""


class _Noting(SpanProcessor):
    def __init__(self, table: OpenSpanTable) -> None:
        self._table = table

    def on_start(self, span, parent_context=None) -> None:
        self._table.add(span)

    def on_end(self, span: ReadableSpan) -> None:
        self._table.mark_ending(span)
        self._table.remove_span(span)


def main() -> int:
    """Measure, and print the medians."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.open_spans")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--spans", type=int, default=20_000, help="of a round")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        table = OpenSpanTable.create(Path(directory), 1)
        none, bare, noted = measure(table, arguments.rounds, arguments.spans)
        table.close()
    added = [ours - base for ours, base in zip(noted, bare, strict=True)]
    ratios = [ours / base for ours, base in zip(noted, none, strict=True)]
    print(f"no processor            {statistics.median(none):6.2f} µs a span")
    print(f"a processor of nothing  {statistics.median(bare):6.2f} µs")
    print(f"noting open spans       {statistics.median(noted):6.2f} µs")
    print(
        f"the table adds          {statistics.median(added):+6.2f} µs to the processor of nothing"
    )
    print(f"with / no processor     {statistics.median(ratios):6.2f}")
    total = statistics.median([ours - base for ours, base in zip(noted, none, strict=True)])
    return 0 if total <= _TARGET else 1


def measure(table: OpenSpanTable, rounds: int, spans: int) -> tuple[list[float], ...]:
    """Return microseconds a span of each round: without a processor, with one that does nothing,
    with the table."""
    works = [_tracer(None), _tracer(_Bare()), _tracer(_Noting(table))]
    times: tuple[list[float], ...] = ([], [], [])
    for number in range(rounds + 1):
        order = range(3) if number % 2 else range(2, -1, -1)
        for which in order:
            took = _time(works[which], spans)
            if number:  # the first round warms up
                times[which].append(took)
    return times


def _tracer(processor: SpanProcessor | None):
    provider = TracerProvider(shutdown_on_exit=False)
    if processor is not None:
        provider.add_span_processor(processor)
    return provider.get_tracer("benchmark")


def _time(tracer, spans: int) -> float:
    gc.collect()
    start = time.process_time()
    for _ in range(spans):
        tracer.start_span(NAME, attributes=ATTRIBUTES).end()
    return (time.process_time() - start) / spans * 1e6


if __name__ == "__main__":
    sys.exit(main())
