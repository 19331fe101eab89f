"""Reading a recording: ``python -m tests.benchmarks.reading``.

Makes a recording of sealed spans (10 million take about 1 GB and some minutes; ``--path`` keeps and
finds it again), and asks it questions, each in turns with a full scan of a share of it. Figures are
ratios to the full scan, which is extrapolated from that share. Times are of the processor.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rimp_otel import FileStorage
from rimp_otel.models.records import Signal
from rimp_otel.storage.files.layout import Layout, SealedName, fingerprint
from rimp_otel.storage.files.recording import FileRecording
from rimp_otel.storage.files.sealed_file import make_sealed_file

_BEGIN = 1_795_521_600_000_000_000
_A_SECOND = 1_000
_A_LINE, _A_TRACE = 90, 5
_LINES = 1_000
_ATTRIBUTES = ",".join(
    [
        '{"key":"http.request.method","value":{"stringValue":"GET"}}',
        '{"key":"http.route","value":{"stringValue":"/api/users/{id}"}}',
        '{"key":"http.response.status_code","value":{"intValue":"%d"}}',
        '{"key":"client.address","value":{"stringValue":"10.0.%d.%d"}}',
        '{"key":"user.id","value":{"stringValue":"u-%d"}}',
        '{"key":"cache.hit","value":{"boolValue":false}}',
        '{"key":"db.duration","value":{"doubleValue":%.3f}}',
        '{"key":"db.rows","value":{"intValue":"%d"}}',
    ]
)
_SPAN = (
    '{"traceId":"%032x","spanId":"%016x","parentSpanId":"%016x","flags":257,"name":"%s","kind":2,'
    f'"startTimeUnixNano":"%d","endTimeUnixNano":"%d","attributes":[{_ATTRIBUTES}],"status":{{}}}}'
)


def main() -> int:
    """Measure, and print the results."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.reading", description=__doc__)
    parser.add_argument("--spans", type=int, default=10_000_000, help="in the recording")
    parser.add_argument("--path", type=Path, help="where it is made, or was")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that are counted (5)")
    parser.add_argument("--duckdb", action="store_true", help="ask DuckDB's read_json too")
    arguments = parser.parse_args()
    path = arguments.path or Path(tempfile.mkdtemp(prefix="rimp-reading-"))
    try:
        make_recording(path, arguments.spans)
        measure_questions(path, arguments.spans, arguments.rounds)
        if arguments.duckdb:
            measure_duckdb(path, arguments.spans)
    finally:
        if arguments.path is None:
            shutil.rmtree(path)
    return 0


def make_recording(path: Path, spans: int) -> None:
    """Make a recording of sealed spans, a thousand a second and five a trace, unless it exists."""
    sealed = Layout(path).sealed
    if sealed.exists():
        return
    sealed.mkdir(parents=True)
    chance = random.Random(1)
    lines = _lines(spans, chance)
    while text := [line for _, line in zip(range(_LINES), lines, strict=False)]:
        name = SealedName(Signal.TRACES, fingerprint(text[0]))
        waiting = sealed / str(name)
        waiting.write_bytes(b"".join(line + b"\n" for line in text))
        make_sealed_file(waiting, name, "zstd", syncs=False)
        print(f"\r{len(list(sealed.iterdir())) // 2} files", end="", file=sys.stderr)
    print(file=sys.stderr)


def _lines(spans: int, chance: random.Random) -> Iterator[bytes]:
    resource = '{"attributes":[{"key":"service.name","value":{"stringValue":"shop-%d"}}]}'
    for start in range(0, spans, _A_LINE):
        texts = [_span(number, chance) for number in range(start, min(start + _A_LINE, spans))]
        service = resource % (start // _A_LINE // 500 % 7)
        yield (
            f'{{"resourceSpans":[{{"resource":{service},"scopeSpans":[{{"scope":{{"name":"shop"}},'
            f'"spans":[{",".join(texts)}]}}]}}]}}'
        ).encode()


def trace_of(number: int) -> int:
    """Return the trace id of a span."""
    return random.Random(number // _A_TRACE).getrandbits(128)


def _span(number: int, chance: random.Random) -> str:
    start = _BEGIN + number * 1_000_000_000 // _A_SECOND
    took = int(chance.expovariate(1 / 20e6))
    return _SPAN % (
        trace_of(number),
        chance.getrandbits(64),
        chance.getrandbits(64),
        f"GET /api/{number % 20}",
        start - took,
        start,
        chance.choice((200, 200, 200, 404, 500)),
        chance.randrange(256),
        chance.randrange(256),
        chance.randrange(10_000),
        chance.random() * 100,
        chance.randrange(1_000),
    )


def measure_questions(path: Path, spans: int, rounds: int) -> None:
    """Measure each question in turns with a scan of a hundredth of the recording."""
    storage = FileStorage(path)
    begin, seconds = _BEGIN // 10**9, spans // _A_SECOND
    middle = begin + seconds // 2
    some = random.Random(2)
    share = max(spans // 100, _A_LINE)
    questions: dict[str, Callable[[], int]] = {
        "one minute": lambda: len(storage.retrieve(middle, middle + 60)),
        "one second": lambda: len(storage.retrieve(middle, middle + 1)),
        "the newest 100": lambda: len(storage.retrieve(limit=100)),
        "the newest 100 of a service": lambda: len(storage.retrieve(limit=100, service="shop-3")),
        "a trace": lambda: len(storage.retrieve(trace_id=trace_of(some.randrange(spans)))),
        "a trace that is not there": lambda: len(storage.retrieve(trace_id=7)),
        "longer than 300 ms": lambda: len(storage.retrieve(min_duration=0.3)),
    }
    times: dict[str, list[float]] = {name: [] for name in questions}
    ratios: dict[str, list[float]] = {name: [] for name in questions}
    found: dict[str, int] = {}
    for _ in range(rounds):
        scan = _seconds(lambda: _scan(path, share)) * spans / share
        for name, ask in questions.items():
            began = time.process_time()
            found[name] = ask()
            times[name].append(time.process_time() - began)
            ratios[name].append(scan / times[name][-1])
    print(f"{spans:,} spans; a full scan takes about {scan:.0f} s")
    for name in questions:
        print(
            f"{name:28} {found[name]:9,} spans {statistics.median(times[name]) * 1e3:9.1f} ms, "
            f"a full scan takes {statistics.median(ratios[name]):9,.0f} times as long"
        )
    print(f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB of memory")


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _scan(path: Path, records: int) -> None:
    """Decode records as a scan of the whole recording would, and keep none."""
    for batch in FileRecording(path).poll():
        records -= len(batch.spans)
        if records <= 0:
            return


def measure_duckdb(path: Path, spans: int) -> None:
    """Measure DuckDB's answer for one minute over the unpacked text of two files, extrapolated."""
    import duckdb

    files = sorted(Layout(path).sealed.glob("*.jsonl.zst"))[:2]
    query = f"""
        select count(*) from (
            select unnest(ss.spans) span from (
                select unnest(rs.scopeSpans) ss from (
                    select unnest(resourceSpans) rs
                    from read_json({[str(file) for file in files]}, format='newline_delimited',
                                   maximum_object_size=4000000))))
        where span.startTimeUnixNano::bigint between {_BEGIN} and {_BEGIN + 60 * 10**9}
    """
    began = time.process_time()
    duckdb.sql(query).fetchall()
    took = (time.process_time() - began) * spans / (len(files) * _LINES * _A_LINE)
    print(f"DuckDB's read_json takes about {took:.0f} s for the minute")


if __name__ == "__main__":
    sys.exit(main())
