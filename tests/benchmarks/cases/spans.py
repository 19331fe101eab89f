"""Cases 1, 2 and 9: the cost of recording a span from end to end, and how many are lost in a burst."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from tests.benchmarks import peers
from tests.benchmarks.child import check, measure_work
from tests.benchmarks.model import Case, Contender, Figures, Row, Task
from tests.benchmarks.ours import count_records, finish, recorder
from tests.benchmarks.sink import read_bodies, sink
from tests.benchmarks.workload import in_threads, spans, tracing

_SPAN = b'"spanId":"'


def _none(task: Task, threads: int) -> Figures:
    return _run(task, threads, None, lambda: None)


def _ours(task: Task, threads: int, open_spans: bool) -> Figures:
    with recorder(task.directory, record_open_spans=open_spans) as stream:
        figures = _run(task, threads, stream.collector, lambda: finish(stream))
    check(count_records(task.directory), task.records)
    return figures


def _json(task: Task, threads: int) -> Figures:
    path = task.directory / "traces.jsonl"
    processor = peers.batch_spans(peers.span_file(path))
    figures = _run(task, threads, processor, processor.shutdown)
    check(peers.count_text(path, _SPAN), task.records)
    return figures


def _http(task: Task, threads: int) -> Figures:
    with sink() as url:
        processor = peers.batch_spans(peers.span_http(url))
        figures = _run(task, threads, processor, processor.shutdown)
        check(sum(map(_spans_in, read_bodies(url))), task.records, "spans have arrived")
    return figures


def _run(
    task: Task, threads: int, processor: SpanProcessor | None, finish: Callable[[], object]
) -> Figures:
    tracer = tracing(processor)

    def work() -> None:
        in_threads(partial(spans, tracer), task.records, threads)
        finish()

    return measure_work(work, task.records)


def _spans_in(body: bytes) -> int:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    return sum(
        len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans
    )


def _case(number: int, peer: str, needs: str, run: Callable[..., Figures]) -> Case:
    contenders, rows = [], []
    for threads in (1, 4):
        of = f"{threads} thread{'s'[: threads > 1]}"
        none, other = f"no processor · {of}", f"{peer} · {of}"
        contenders += [
            Contender(none, partial(_none, threads=threads)),
            Contender(other, partial(run, threads=threads), (needs,)),
        ]
        for noted, limit in ((False, 1 / 7), (True, 1 / 4)):
            words = "open spans recorded" if noted else "open spans not recorded"
            name = f"rimp-otel · {words} · {of}"
            contenders.append(Contender(name, partial(_ours, threads=threads, open_spans=noted)))
            rows.append(Row(f"{of}, {words}", name, other, limit, minus=none))
    return Case(
        number,
        f"CPU that recording adds to a span, against {peer}",
        "CPU time of the whole process, all threads, for starting and ending spans with 8 attributes"
        " until all are where they should be, less that of the same spans with no processor. The"
        " peer's queue is large enough that it drops nothing.",
        20_000,
        4_000,
        tuple(contenders),
        tuple(rows),
    )


def _burst_ours(task: Task, threads: int) -> Figures:
    with recorder(task.directory) as stream:
        in_threads(partial(spans, tracing(stream.collector)), task.records, threads)
    return {"lost": task.records - count_records(task.directory)}


def _burst_default(task: Task, threads: int) -> Figures:
    path = task.directory / "traces.jsonl"
    processor = BatchSpanProcessor(peers.span_file(path))
    in_threads(partial(spans, tracing(processor)), task.records, threads)
    processor.shutdown()
    return {"lost": task.records - peers.count_text(path, _SPAN)}


def _burst() -> Case:
    contenders, rows = [], []
    for threads in (1, 4):
        of = f"{threads} thread{'s'[: threads > 1]}"
        ours, peer = f"rimp-otel · {of}", f"BSP defaults + JSON file · {of}"
        contenders += [
            Contender(ours, partial(_burst_ours, threads=threads)),
            Contender(peer, partial(_burst_default, threads=threads), (peers.JSON_FILE,)),
        ]
        rows.append(Row(of, ours, peer, 0, True, quantity="lost", unit="spans"))
    return Case(
        9,
        "Spans lost in a burst",
        "So many spans as fast as they can be made, with default settings on both sides: what is not"
        " in the files after a shutdown is lost.",
        100_000,
        10_000,
        tuple(contenders),
        tuple(rows),
        3,
    )


CASES = (
    _case(1, "BSP + JSON file", peers.JSON_FILE, _json),
    _case(2, "BSP + OTLP/HTTP", peers.PROTO_HTTP, _http),
    _burst(),
)
