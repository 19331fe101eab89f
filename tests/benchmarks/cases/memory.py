"""Case 8: the memory of a waiting span, and whether memory grows with the number of records."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from rimp_otel import (
    EventType,
    TelemetryCollector,
    TelemetryConfig,
    TelemetryData,
    TelemetryStorage,
    TelemetryStream,
)
from tests.benchmarks import peers
from tests.benchmarks.child import check
from tests.benchmarks.model import Case, Contender, Figures, Row, Task
from tests.benchmarks.ours import count_records, recorder
from tests.benchmarks.workload import tracing, varied_spans

_SAMPLES = 20
_MOST_PENDING = 20_000


class _Down(TelemetryStorage):
    def store(self, data: TelemetryData) -> None:
        raise OSError("the storage is down")

    def retrieve(self, start_time: Any = None, end_time: Any = None, limit: Any = None) -> Any:
        return TelemetryData()


class _Hanging(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        threading.Event().wait()
        return SpanExportResult.SUCCESS


def _pending_ours(task: Task) -> Figures:
    collector = TelemetryCollector(TelemetryConfig(journal_path=task.directory))
    TelemetryStream(collector, _Down()).start()
    figures = _grown(tracing(collector), task.records)
    check(collector.stats().pending, task.records, "spans wait")
    return figures


def _pending_peer(task: Task) -> Figures:
    return _grown(tracing(peers.batch_spans(_Hanging())), task.records)


def _grown(tracer: trace.Tracer, records: int) -> Figures:
    varied_spans(tracer, records // 10, seed=1)
    gc.collect()
    before = _resident()
    varied_spans(tracer, records - records // 10)
    gc.collect()
    after, share = _resident(), records - records // 10
    return {
        "bytes": (sum(after.values()) - sum(before.values())) / share,
        "anonymous": (after["RssAnon"] - before["RssAnon"]) / share,
    }


def _resident() -> dict[str, int]:
    """Return the bytes in RAM: of the process, and of files that it has mapped."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: int(found[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile", "RssShmem")}


def _sustained(task: Task) -> Figures:
    with recorder(task.directory, retain_size=256 * 1024 * 1024) as stream:
        collector = stream.collector
        course, begun = [], 0
        for sample in range(1, _SAMPLES + 1):
            end = task.records * sample // _SAMPLES
            _collect(collector, begun, end)
            begun = end
            gc.collect()
            course.append((end, sum(_resident().values()) / 1e6))
    check(collector.stats().stored, task.records, "records are stored")
    check(count_records(task.directory) > 0, True, "is whether there are files")
    # What the caches and the allocator take at first is no growth.
    middle = [size for _, size in course[_SAMPLES // 4 : _SAMPLES // 2]]
    last = [size for _, size in course[-_SAMPLES // 4 :]]
    return {"growth": max(last) / max(middle), "course": course}


def _collect(collector: TelemetryCollector, begun: int, end: int) -> None:
    for number in range(begun, end):
        if number % 2:
            collector.collect_event(
                "shop", f"order {number} placed", EventType.INFO, {"order": number, "user": "u-1"}
            )
        else:
            collector.collect_metric("order.value", number * 0.25, "EUR", {"shop": number % 50})
        if not number % 1_000:
            _wait_for(lambda: collector.stats().pending < _MOST_PENDING)


def _wait_for(done: Callable[[], bool]) -> None:
    while not done():
        time.sleep(0.001)


_OURS, _PEER, _LONG = "rimp-otel · pending", "BSP queue", "rimp-otel · sustained"

CASES = (
    Case(
        8,
        "Memory of a span that waits",
        "What resident memory grows by, per span, while nothing can be stored: ours in the journal, with"
        " a storage that is down, pages of its files included (the kernel can take those back, which"
        " *of its own* leaves out); the peer's in the queue of BatchSpanProcessor. The spans are"
        " varied, as of a web shop.",
        50_000,
        5_000,
        (Contender(_OURS, _pending_ours), Contender(_PEER, _pending_peer)),
        (
            Row("all resident", _OURS, _PEER, 1 / 3, quantity="bytes", unit="B", smoke=False),
            Row("of its own", _OURS, _PEER, quantity="anonymous", unit="B"),
        ),
        3,
    ),
    Case(
        8,
        "Memory over a long run",
        "Resident memory, pages of files included, while native events and metrics are recorded, with"
        " never more than 20,000 pending: the highest of the last quarter of the run over the highest"
        " of the second one. Ten million records (`--full`), or two.",
        2_000_000,
        40_000,
        (Contender(_LONG, _sustained),),
        (
            Row(
                "last quarter / second quarter",
                _LONG,
                None,
                1.1,
                True,
                quantity="growth",
                unit="times",
                smoke=False,
            ),
        ),
        1,
        10_000_000,
    ),
)
