"""The cost of forwarding: ``python -m tests.benchmarks.forwarding``.

CPU time a span, of all threads of this process, of forwarding what is stored into a server in another
process that discards it: as protobuf and as JSON, from the files to the acknowledged cursor. Beside it
the official OTLP/HTTP exporter (protobuf, batches of 512), to which the same spans are given as
objects, as its processor does. The contenders take turns, round by round; medians over the rounds, and
a ratio is the median of the rounds'. Needs ``pip install -r tests/benchmarks/requirements.txt``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rimp_otel import FileStorage, TelemetryData
from rimp_otel.models.records import Signal
from rimp_otel.transport.forwarding.destination import open_destination
from rimp_otel.transport.forwarding.destination_options import DestinationOptions
from rimp_otel.transport.forwarding.forwarder import Forwarder, ForwarderOptions
from tests.benchmarks.peers import span_http
from tests.benchmarks.sink import sink
from tests.benchmarks.workload import spans as equal_spans
from tests.benchmarks.workload import tracing, varied_spans

_BATCH = 512
TARGETS = {"protobuf": 1 / 3, "json": 1 / 10}
EXPORTER = "exporter"


def make_spans(number: int, are_varied: bool) -> Sequence[ReadableSpan]:
    """Return ended spans of the workload."""
    exporter = InMemorySpanExporter()
    tracer = tracing(SimpleSpanProcessor(exporter))
    (varied_spans if are_varied else equal_spans)(tracer, number)
    return exporter.get_finished_spans()


def store(path: Path, spans: Sequence[ReadableSpan]) -> None:
    """Record the spans."""
    with closing(FileStorage(path)) as storage:
        for first in range(0, len(spans), _BATCH):
            storage.store(TelemetryData(spans=list(spans[first : first + _BATCH])))


def forward(path: Path, url: str, name: str) -> None:
    """Forward a recording to a destination of a new name, and so all of it."""
    destination = open_destination(f"{url}#{name}", DestinationOptions())
    options = ForwarderOptions(once=True, signals=[Signal.TRACES])
    with closing(Forwarder(path, [destination], options)) as forwarder:
        forwarder.start()
        forwarder.wait()
        (outcome,) = forwarder.outcomes()
    if outcome.failure:
        raise SystemExit(f"forwarding has failed: {outcome.failure}")


def export(exporter: Any, spans: Sequence[ReadableSpan]) -> None:
    """Export the spans as the SDK's batching processor does."""
    for first in range(0, len(spans), _BATCH):
        exporter.export(spans[first : first + _BATCH])


def cpu_time(work: Callable[[], object]) -> float:
    """Return the seconds of CPU that a work takes, in all threads."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> int:
    """Measure, and print a table; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.forwarding")
    parser.add_argument("--spans", type=int, default=100_000, help="how many (100,000)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (7)")
    parser.add_argument("--equal", action="store_true", help="spans that differ in nothing but ids")
    arguments = parser.parse_args()
    spans = make_spans(arguments.spans, are_varied=not arguments.equal)
    found: dict[str, list[float]] = {name: [] for name in (EXPORTER, *TARGETS)}
    with (
        tempfile.TemporaryDirectory(prefix="rimp-forwarding-") as name,
        sink(keeps=False) as address,
        sink(keeps=False) as peers_address,  # each takes one connection at a time
    ):
        path = Path(name) / "recording"
        store(path, spans)
        exporter = span_http(peers_address)
        base = f"otlp+{address.removesuffix('/v1/traces')}"
        for turn in range(arguments.rounds + 1):
            works: dict[str, Callable[[], object]] = {EXPORTER: lambda: export(exporter, spans)}
            for encoding in TARGETS:
                works[encoding] = lambda encoding=encoding, turn=turn: forward(  # type: ignore[misc]
                    path, f"{base}?encoding={encoding}", f"{encoding}-{turn}"
                )
            for contender, work in works.items():
                seconds = cpu_time(work)
                if turn:  # the first turn fills caches, and loads what is imported late
                    found[contender].append(seconds)
        exporter.shutdown()
    return _report(found, arguments.spans)


def _report(found: dict[str, list[float]], spans: int) -> int:
    print(f"{'CPU a span':12} {'median':>9} {'ratio':>7} {'target':>7}")
    missed = 0
    for name, seconds in found.items():
        ratios = [ours / theirs for ours, theirs in zip(seconds, found[EXPORTER], strict=True)]
        ratio, target = statistics.median(ratios), TARGETS.get(name)
        micros = statistics.median(seconds) / spans * 1e6
        print(f"{name:12} {micros:6.2f} µs {ratio:7.3f} {f'{target:7.3f}' if target else ''}")
        missed += target is not None and ratio > target
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
