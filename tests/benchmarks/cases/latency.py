"""Case 3: the time that a thread waits for when it makes a span."""

from __future__ import annotations

import time
from array import array
from functools import partial

from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tests.benchmarks import peers
from tests.benchmarks.model import Case, Contender, Figures, Row, Task
from tests.benchmarks.ours import recorder
from tests.benchmarks.workload import ATTRIBUTES, NAME, tracing

_BURST, _PAUSE = 50, 0.01


def _ours(task: Task, paced: bool, opened: bool = True) -> Figures:
    with recorder(task.directory, record_open_spans=opened) as stream:
        return _run(task, stream.collector, paced)


def _peer(task: Task, paced: bool) -> Figures:
    processor = BatchSpanProcessor(peers.span_file(task.directory / "traces.jsonl"))
    try:
        return _run(task, processor, paced)
    finally:
        processor.shutdown()


def _run(task: Task, processor: SpanProcessor, paced: bool) -> Figures:
    bare, recording = tracing(), tracing(processor)
    _timed(bare), _timed(recording)
    without, with_ = array("q"), array("q")
    while len(with_) < task.records:
        # In turns, so that both meet the same noise: that of a shared machine is larger than what
        # is to be seen.
        without += _timed(bare)
        with_ += _timed(recording)
        if paced:
            time.sleep(_PAUSE)
    added = _figures(with_)["median"] - _figures(without)["median"]
    bare_slowest = _figures(without)["p99.9"]
    return {"added": added, **_figures(with_), "bare p99.9": bare_slowest}


def _timed(tracer: trace.Tracer) -> array[int]:
    times = array("q", bytes(8 * _BURST))
    start, now = tracer.start_span, time.perf_counter_ns
    for number in range(_BURST):
        begun = now()
        start(NAME, attributes=ATTRIBUTES).end()
        times[number] = now() - begun
    return times


def _figures(times: array[int]) -> Figures:
    ordered = sorted(times)
    return {
        "median": ordered[len(ordered) // 2] / 1e3,
        "p99.9": ordered[int(len(ordered) * 0.999)] / 1e3,
    }


def _case() -> Case:
    contenders: list[Contender] = []
    rows: list[Row] = []
    for way in ("in bursts", "flat out"):
        ours, peer = f"rimp-otel · {way}", f"BSP defaults + JSON file · {way}"
        paced = way == "in bursts"
        finished = f"{ours}, open spans not recorded"
        contenders += [
            Contender(ours, partial(_ours, paced=paced)),
            Contender(finished, partial(_ours, paced=paced, opened=False)),
            Contender(peer, partial(_peer, paced=paced), (peers.JSON_FILE,)),
        ]
        rows += [
            Row(f"{way}, added, median", ours, peer, 3, quantity="added"),
            Row(f"{way}, the same, open spans not recorded", finished, peer, 3, quantity="added"),
            Row(f"{way}, p99.9 of the whole call", ours, peer, 1, quantity="p99.9", smoke=False),
            Row(f"{way}, p99.9 of those without", ours, peer, quantity="bare p99.9"),
        ]
    return Case(
        3,
        "Time on the calling thread, of a span with 8 attributes",
        f"Each `start_span` and `end` is timed by the clock on the wall. *In bursts*: {_BURST} spans,"
        f" then {_PAUSE * 1e3:.0f} ms of nothing, as of a service that answers requests; background"
        " threads work meanwhile, and this is the one that matters. *Flat out*: one after another,"
        " where the peer's queue of 2,048 is full and most of what it does is to drop. *Added* is less"
        " the median of spans without a processor, which take turns with the others in the same"
        " process. The slowest of one kind are not those of the other, so p99.9 is of the whole call;"
        " that of the spans without a processor beside it says how much of it is the machine's.",
        10_000,
        1_000,
        tuple(contenders),
        tuple(rows),
    )


CASES = (_case(),)
