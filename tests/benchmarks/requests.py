"""Time to decode export requests: ``python -m tests.benchmarks.requests``.

CPU time of ``decode_request`` a record, the fastest of some rounds, for each signal in protobuf and JSON,
beside that of a parser in C that checks nothing and makes no text. The requests are new in each
round, as a receiver meets them: no two have the same ids, times and paths.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from rimp_otel.models.records import Signal
from rimp_otel.otlp.protobuf import line_from_protobuf
from rimp_otel.otlp.requests import RequestFormat, decode_request

__all__ = ["RECORDS", "spans_request"]

RECORDS = 500
"""The records of a request."""


_TIME = 1_767_225_600_000_000_000


def main(given: list[str] | None = None) -> int:
    """Measure, and print a line for each signal and format."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.requests")
    parser.add_argument("--rounds", type=int, default=10, help="of which the fastest counts (10)")
    parser.add_argument("--requests", type=int, default=20, help="in each round (20)")
    arguments = parser.parse_args(given)
    print(f"{'microseconds a record':24} {'decode_request':>14} {'records/s':>10} {'parser':>7}")
    for signal, make in _MAKERS.items():
        for format in RequestFormat:
            ours, parser_alone = _measure(signal, format, make, arguments)
            name = f"{signal.value}, {format.name.lower()}"
            print(f"{name:24} {ours:14.2f} {1e6 / ours:10,.0f} {parser_alone:7.2f}")
    return 0


def spans_request(chance: random.Random, format: RequestFormat) -> bytes:
    """Return a request of spans, no two of them alike."""
    body: bytes = _spans(chance).SerializeToString()
    return line_from_protobuf(Signal.TRACES, body) if format is RequestFormat.JSON else body


def _measure(
    signal: Signal,
    format: RequestFormat,
    make: Callable[[random.Random], Any],
    arguments: argparse.Namespace,
) -> tuple[float, float]:
    chance = random.Random(3)
    fastest = fastest_parser = float("inf")
    for _ in range(arguments.rounds):
        messages = [make(chance) for _ in range(arguments.requests)]
        bodies = [message.SerializeToString() for message in messages]
        parse: Callable[[bytes], Any] = type(messages[0]).FromString
        if format is RequestFormat.JSON:
            bodies = [line_from_protobuf(signal, body) for body in bodies]
            parse = msgspec.json.decode
        fastest = min(fastest, _time_of(lambda body: decode_request(signal, body, format), bodies))
        fastest_parser = min(fastest_parser, _time_of(parse, bodies))
    scale = 1e6 / (RECORDS * arguments.requests)
    return fastest * scale, fastest_parser * scale


def _time_of(decode: Callable[[bytes], object], bodies: list[bytes]) -> float:
    gc.collect()
    start = time.process_time()
    for body in bodies:
        decode(body)
    return time.process_time() - start


def _resource(group: Any) -> None:
    for key, value in (("service.name", "shop"), ("service.version", "1.4.2"), ("host.name", "h1")):
        group.resource.attributes.add(key=key).value.string_value = value


def _attributes(owner: Any, chance: random.Random) -> None:
    """Add six attributes, of which three are hardly ever the same."""
    add = owner.attributes.add
    add(key="http.request.method").value.string_value = chance.choice(("GET", "POST"))
    add(key="http.route").value.string_value = "/api/orders/{id}"
    add(key="http.response.status_code").value.int_value = chance.choice((200, 200, 404))
    add(key="url.path").value.string_value = f"/api/orders/{chance.randrange(10**9)}"
    add(key="enduser.id").value.string_value = f"u-{chance.randrange(10**6)}"
    add(key="db.duration").value.double_value = chance.random() * 100


def _spans(chance: random.Random) -> Any:
    message = trace_pb2.TracesData()
    group = message.resource_spans.add()
    _resource(group)
    scoped = group.scope_spans.add()
    scoped.scope.name = "benchmark"
    for number in range(RECORDS):
        if number % 5 == 0:
            trace_id, root = chance.randbytes(16), chance.randbytes(8)
        start = _TIME + chance.randrange(10**12)
        span = scoped.spans.add(
            trace_id=trace_id,
            span_id=root if number % 5 == 0 else chance.randbytes(8),
            parent_span_id=b"" if number % 5 == 0 else root,
            name="GET /api/orders/{id}",
            kind=trace_pb2.Span.SPAN_KIND_SERVER,
            start_time_unix_nano=start,
            end_time_unix_nano=start + chance.randrange(10**9),
            flags=257,
        )
        _attributes(span, chance)
        span.status.SetInParent()
    return message


def _logs(chance: random.Random) -> Any:
    message = logs_pb2.LogsData()
    group = message.resource_logs.add()
    _resource(group)
    scoped = group.scope_logs.add()
    scoped.scope.name = "benchmark"
    for _ in range(RECORDS):
        now = _TIME + chance.randrange(10**12)
        record = scoped.log_records.add(
            time_unix_nano=now,
            observed_time_unix_nano=now + 1_000,
            severity_number=logs_pb2.SEVERITY_NUMBER_INFO,
            severity_text="INFO",
            trace_id=chance.randbytes(16),
            span_id=chance.randbytes(8),
            flags=1,
        )
        record.body.string_value = f"order {chance.randrange(10**9)} was placed by a customer"
        _attributes(record, chance)
    return message


def _points(chance: random.Random) -> Any:
    """Return points of sums and histograms, with attributes that come again in each request."""
    message = metrics_pb2.MetricsData()
    group = message.resource_metrics.add()
    _resource(group)
    scoped = group.scope_metrics.add()
    scoped.scope.name = "benchmark"
    for number in range(RECORDS // 10):
        metric = scoped.metrics.add(name=f"shop.metric.{number}", unit="1")
        is_sum = number % 2 == 0
        data = metric.sum if is_sum else metric.histogram
        data.aggregation_temporality = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
        for shard in range(10):
            times = {
                "start_time_unix_nano": _TIME,
                "time_unix_nano": _TIME + chance.randrange(10**12),
            }
            if is_sum:
                point: Any = metric.sum.data_points.add(as_int=chance.randrange(10**6), **times)
            else:
                counts = [chance.randrange(100) for _ in range(16)]
                point = metric.histogram.data_points.add(
                    count=sum(counts),
                    sum=chance.random() * 1_000,
                    bucket_counts=counts,
                    explicit_bounds=[float(2**power) for power in range(15)],
                    **times,
                )
            point.attributes.add(key="http.route").value.string_value = f"/api/{number}"
            point.attributes.add(key="shard").value.int_value = shard
    return message


_MAKERS: dict[Signal, Callable[[random.Random], Any]] = {
    Signal.TRACES: _spans,
    Signal.LOGS: _logs,
    Signal.METRICS: _points,
}


if __name__ == "__main__":
    sys.exit(main())
