"""Case 12: finding few records in a large recording."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rimp_otel import FileStorage
from rimp_otel.storage.base import with_times
from rimp_otel.storage.files.recording import FileRecording
from tests.benchmarks.child import check
from tests.benchmarks.model import Case, Contender, Figures, Row, Task
from tests.benchmarks.ours import count_records
from tests.benchmarks.recording import DAY, START, recording_path, sample_path

_MINUTE, _HOUR, _NEWEST = 60, 3_600, 100
_MOST_SAMPLED = 200_000


def _range(task: Task, seconds: int) -> Figures:
    # In the middle of the day, and within no more of it than there is.
    begin = START + DAY // 2 + 17
    storage = FileStorage(recording_path(task.cache, task.records))
    figures = _wall(lambda: storage.retrieve(begin, begin + seconds).spans, task)
    check(abs(figures["found"] - task.records * seconds / DAY) <= 1, True, "is whether it is right")
    return figures


def _newest(task: Task) -> Figures:
    storage = FileStorage(recording_path(task.cache, task.records))
    figures = _wall(lambda: storage.retrieve(limit=_NEWEST).spans, task)
    check(figures["found"], min(_NEWEST, task.records), "spans were found")
    return figures


def _wall(find: Callable[[], list[Any]], task: Task) -> Figures:
    begun = time.perf_counter()
    found = find()
    return {"wall": (time.perf_counter() - begun) * 1e3, "found": len(found)}


def _scan(task: Task) -> Figures:
    """Decode every record of a sample and look at its time; return the time scaled up to the whole."""
    path, factor = _sample(task)
    begin = (START + 60) * 10**9
    begun = time.perf_counter()
    found = 0
    for data in FileRecording(path).poll():
        found += sum(time_ >= begin for time_, _, _ in with_times(data))
    return {"wall": (time.perf_counter() - begun) * 1e3 * factor, "found": found}


def _duckdb(task: Task, condition: str) -> Figures:
    import duckdb

    path, factor = _sample(task)
    connection = duckdb.connect()
    begun = time.perf_counter()
    rows = connection.execute(_QUERY.format(files=path / "sealed", rest=condition)).fetchall()
    wall = (time.perf_counter() - begun) * 1e3 * factor
    check(len(rows) > 0, True, "is whether anything was found")
    return {"wall": wall, "found": len(rows)}


_QUERY = """
SELECT span.* FROM (
    SELECT unnest(scope.spans) AS span FROM (
        SELECT unnest(resource.scopeSpans) AS scope FROM (
            SELECT unnest(resourceSpans) AS resource FROM read_json(
                '{files}/*.zst', format='newline_delimited', compression='zstd',
                columns={{'resourceSpans': 'STRUCT(resource JSON, scopeSpans STRUCT(scope JSON,
                    spans STRUCT(traceId VARCHAR, spanId VARCHAR, parentSpanId VARCHAR, name VARCHAR,
                    kind INTEGER, startTimeUnixNano UBIGINT, endTimeUnixNano UBIGINT,
                    attributes JSON, status JSON)[])[])[]'}}
            )
        )
    )
) {rest}
"""
_OF_A_MINUTE = (
    f"WHERE span.startTimeUnixNano >= {START}000000000"
    f" AND span.startTimeUnixNano < {START + _MINUTE}000000000"
)
_THE_NEWEST = f"ORDER BY span.startTimeUnixNano DESC LIMIT {_NEWEST}"


def _sample(task: Task) -> tuple[Path, float]:
    """Return a part of the recording, and the factor of its time to that of the whole."""
    whole = recording_path(task.cache, task.records)
    path = sample_path(whole, task.records, _MOST_SAMPLED)
    return path, task.records / count_records(path)


_OURS = "retrieve · one minute", "retrieve · one hour", "retrieve · the newest 100"
_DUCKDB = "DuckDB read_json · one minute", "DuckDB read_json · the newest 100"
_SCAN = "our own full scan"

CASES = (
    Case(
        12,
        "Finding little in a recording of one day, sealed",
        "Time by the clock on the wall until the spans are there as objects. DuckDB reads the same"
        " compressed files with a schema given, so that it need not guess, and gives back tuples; our"
        " full scan decodes every span and looks at its time. Both are given the oldest files only, of"
        " about 200,000 spans, and their time is multiplied up to the whole: both take time in"
        " proportion. Ten million spans (`--full`), or one.",
        1_000_000,
        20_000,
        (
            Contender(_OURS[0], partial(_range, seconds=_MINUTE)),
            Contender(_OURS[1], partial(_range, seconds=_HOUR)),
            Contender(_OURS[2], _newest),
            Contender(_DUCKDB[0], partial(_duckdb, condition=_OF_A_MINUTE), ("duckdb",)),
            Contender(_DUCKDB[1], partial(_duckdb, condition=_THE_NEWEST), ("duckdb",)),
            Contender(_SCAN, _scan),
        ),
        (
            *(
                Row(what, ours, peer, limit, quantity="wall", unit="ms", smoke=False)
                for what, ours, peer, limit in (
                    ("one minute", _OURS[0], _DUCKDB[0], 1 / 100),
                    ("one minute", _OURS[0], _SCAN, None),
                    ("one hour", _OURS[1], _DUCKDB[0], None),
                    ("one hour", _OURS[1], _SCAN, None),
                    ("the newest 100", _OURS[2], _DUCKDB[1], 1 / 100),
                    ("the newest 100", _OURS[2], _SCAN, None),
                )
            ),
        ),
        3,
        10_000_000,
    ),
)
