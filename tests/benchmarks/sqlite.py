"""The cost of SQLiteStorage: ``python -m tests.benchmarks.sqlite``.

Spans with 8 attributes, stored in batches of 256, against what one would write by hand: the SDK's
``to_json`` and an INSERT, one transaction a batch, into a table without any index, with the same
settings of SQLite. Also from OTLP JSON lines, as the journal gives them, where ours encodes nothing.
Then what an index is good for: one trace, and a word, against looking at everything. The contenders
take turns, round by round; medians over the rounds, and the ratio is the median of the rounds'.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext

from rimp_otel import SQLiteStorage, TelemetryData, TelemetryEvent
from rimp_otel.batch import batch_of_lines, set_slice_id
from rimp_otel.models.records import Signal
from tests.benchmarks.workload import ATTRIBUTES

_BATCH = 256
_SPANS_A_TRACE = 10
_RESOURCE = Resource({"service.name": "shop", "service.instance.id": "1", "host.name": "web"})
_SCOPE = InstrumentationScope("shop", "1.0")
_WORDS = [
    "connection",
    "refused",
    "by",
    "peer",
    "timed",
    "out",
    "while",
    "waiting",
    "for",
    "reply",
    "from",
    "cache",
]


def spans(number: int) -> Iterator[ReadableSpan]:
    """Yield spans of traces of ten."""
    trace_id = 0
    for i in range(number):
        if i % _SPANS_A_TRACE == 0:
            trace_id = random.getrandbits(128) | 1
        context = SpanContext(trace_id, random.getrandbits(64) | 1, False, 1)  # type: ignore[arg-type]
        start = 1_795_521_600_000_000_000 + i * 1_000
        yield ReadableSpan(
            "GET /api/users/{id}",
            context,
            resource=_RESOURCE,
            attributes=ATTRIBUTES,
            start_time=start,
            end_time=start + 250_000,
            instrumentation_scope=_SCOPE,
        )


def events(number: int) -> list[TelemetryEvent]:
    """Return log records of seven words."""
    return [
        TelemetryEvent("app", f"{' '.join(random.choices(_WORDS, k=6))} {i}", time_unix_nano=i + 1)
        for i in range(number)
    ]


def batches(records: list[ReadableSpan]) -> list[list[ReadableSpan]]:
    """Yield batches of the size that a stream stores at once."""
    return [records[i : i + _BATCH] for i in range(0, len(records), _BATCH)]


def insert_spans(path: Path, records: list[ReadableSpan]) -> None:
    """Store spans by ``to_json`` and INSERT."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("CREATE TABLE spans (json TEXT)")
        for batch in batches(records):
            with database:
                texts = [(span.to_json(indent=None),) for span in batch]
                database.executemany("INSERT INTO spans VALUES (?)", texts)


def store_spans(path: Path, records: list[ReadableSpan]) -> None:
    """Store spans as an exporter does."""
    storage = SQLiteStorage(path)
    for batch in batches(records):
        storage.store(TelemetryData(spans=batch))
    storage.close()


def encode_lines(records: list[ReadableSpan]) -> list[list[bytes]]:
    """Return the lines that a journal would hand over."""
    return [TelemetryData(spans=batch).otlp_json(Signal.TRACES) for batch in batches(records)]


def store_lines(path: Path, records: list[list[bytes]]) -> None:
    """Store lines as a stream does."""
    storage = SQLiteStorage(path)
    for number, lines in enumerate(records):
        data = batch_of_lines(Signal.TRACES, lines, _BATCH)
        set_slice_id(data, f"segment-traces-{number}-{number + 1}")
        storage.store(data)
    storage.close()


def insert_lines(path: Path, records: list[list[bytes]]) -> None:
    """INSERT whole lines, which cannot be queried."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("CREATE TABLE lines (json TEXT)")
        for lines in records:
            with database:
                texts = [(line.decode(),) for line in lines]
                database.executemany("INSERT INTO lines VALUES (?)", texts)


def cpu_seconds(action: Callable[[], object]) -> float:
    """Return the CPU time of all threads."""
    started = time.process_time()
    action()
    return time.process_time() - started


def compare(
    name: str, unit: int, rounds: int, ours: Callable[[], object], other: Callable[[], object]
) -> None:
    """Print one line: microseconds for each unit, and the ratio."""
    times: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        if number % 2:
            own, theirs = cpu_seconds(ours), cpu_seconds(other)
        else:
            theirs, own = cpu_seconds(other), cpu_seconds(ours)
        times.append((own, theirs))
    kept = times[1:]  # the first one warms up
    own = statistics.median(own for own, _ in kept) / unit * 1e6
    theirs = statistics.median(theirs for _, theirs in kept) / unit * 1e6
    ratio = statistics.median(own / theirs for own, theirs in kept)
    print(f"{name:<52} {own:>10.2f} {theirs:>10.2f} {ratio:>8.3f}")


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.sqlite")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--records", type=int, default=20_000, help="of a round")
    parser.add_argument("--kept", type=int, default=100_000, help="in the file that is searched")
    options = parser.parse_args()
    print(f"{'CPU, µs each':<52} {'ours':>10} {'other':>10} {'ratio':>8}")
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        measure_storing(root, options.rounds, options.records)
        measure_answers(root, options.rounds, options.kept)


def measure_storing(root: Path, rounds: int, number: int) -> None:
    """Measure the cost of storing a record."""
    records = list(spans(number))
    lines = encode_lines(records)
    names = (root / f"{i}.db" for i in range(1_000_000))
    comparisons: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "a span: store / to_json and INSERT": (
            lambda: store_spans(next(names), records),
            lambda: insert_spans(next(names), records),
        ),
        "a span out of the journal: store / to_json and INSERT": (
            lambda: store_lines(next(names), lines),
            lambda: insert_spans(next(names), records),
        ),
        "the same / INSERT of whole lines": (
            lambda: store_lines(next(names), lines),
            lambda: insert_lines(next(names), lines),
        ),
    }
    for name, (ours, theirs) in comparisons.items():
        compare(name, number, rounds, ours, theirs)


def measure_answers(root: Path, rounds: int, number: int) -> None:
    """Measure the cost of an answer."""
    storage = SQLiteStorage(root / "asked.db")
    for batch in batches(list(spans(number))):
        storage.store(TelemetryData(spans=batch))
    logs = events(number // 4)
    for i in range(0, len(logs), _BATCH):
        storage.store(TelemetryData(events=logs[i : i + _BATCH]))
    trace_id = storage.retrieve(limit=1).spans[0].context.trace_id
    wanted = str(len(logs) // 2)
    compare(
        f"one trace of {number // _SPANS_A_TRACE:,}: trace_id= / attributes=",
        1,
        rounds,
        lambda: storage.retrieve(trace_id=trace_id),
        lambda: storage.retrieve(attributes={"no": "such"}),
    )
    compare(
        f"a word in {len(logs):,} messages: search / all logs",
        1,
        rounds,
        lambda: storage.search(wanted),
        lambda: [e for e in storage.retrieve(signals="logs").events if wanted in e.message],
    )


if __name__ == "__main__":
    main()
