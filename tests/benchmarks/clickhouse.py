"""The cost of storing into ClickHouse: ``python -m tests.benchmarks.clickhouse``.

Rows a second of spans, from OTLP JSON lines as a journal has them to rows that the server has acknowledged, in
slices of 4 MiB. Beside it the client library's own bulk insert (``clickhouse_connect``'s ``insert``, by columns,
in its Native format) of the same columns, prepared before. The server is chDB in a process of its own, on the
same cores; both go over HTTP. The contenders take turns, round by round; medians over the rounds, and the ratio is
the median of the rounds'.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from operator import sub
from pathlib import Path
from typing import Any, NamedTuple

import clickhouse_connect

from rimp_otel import ClickHouseStorage, TelemetryData
from rimp_otel.batch import batch_of_lines, set_slice_id
from rimp_otel.models.records import Signal
from rimp_otel.storage.clickhouse.rows import rows_of_line
from rimp_otel.storage.clickhouse.schema import TABLES
from tests.benchmarks.forwarding import make_spans
from tests.clickhouse import ClickHouse, start_clickhouse

OURS, THEIRS = "ClickHouseStorage", "clickhouse-connect"
TARGET = 0.5
_SLICE = 4 * 1024 * 1024
_TABLE = TABLES[0]


class Times(NamedTuple):
    """Seconds that a round took."""

    wall: float
    #: Of CPU, of this process and of the server.
    client: float
    server: float


def cut_slices(lines: Sequence[bytes]) -> list[list[bytes]]:
    """Return lines in the portions in which a journal is stored."""
    slices: list[list[bytes]] = []
    size = _SLICE
    for line in lines:
        if size >= _SLICE:
            slices.append([])
            size = 0
        slices[-1].append(line)
        size += len(line)
    return slices


def prepare_columns(lines: Sequence[bytes]) -> list[list[Any]]:
    """Return the columns of lines as the client library takes them."""
    rows = [row for line in lines for *_, timed in rows_of_line(line) for _, row in timed]
    columns: list[list[Any]] = [list(column) for column in zip(*rows, strict=True)]
    for column, definition in zip(columns, _TABLE.columns, strict=True):
        if "DateTime64" in definition.type:
            column[:] = map(_to_nanoseconds, column)
    return columns


def _to_nanoseconds(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_nanoseconds(item) for item in value]
    return int(value.replace(".", ""))


def store(storage: ClickHouseStorage, slices: Sequence[Sequence[bytes]], turn: int) -> None:
    """Store the slices as a journal's drain does."""
    for number, lines in enumerate(slices):
        data = batch_of_lines(Signal.TRACES, list(lines), 1)
        set_slice_id(data, f"benchmark-traces-{turn}-{number}")
        storage.store(data)


def insert(client: Any, table: str, blocks: Sequence[list[list[Any]]]) -> None:
    """Insert prepared columns, block by block."""
    names = [column.name for column in _TABLE.columns]
    types = [column.type for column in _TABLE.columns]
    for columns in blocks:
        client.insert(
            table, columns, column_names=names, column_type_names=types, column_oriented=True
        )


def measure(server: ClickHouse, spans: int, rounds: int) -> dict[str, list[Times]]:
    """Return the seconds of each round, and those of this process's and of the server's CPU."""
    data = TelemetryData(spans=list(make_spans(spans, are_varied=True)))
    slices = cut_slices(data.otlp_json(Signal.TRACES))
    found: dict[str, list[Times]] = {OURS: [], THEIRS: []}
    client = clickhouse_connect.get_client(host="127.0.0.1", port=server.port, compress=False)
    with (
        ClickHouseStorage(server.url("ours")) as ours,
        ClickHouseStorage(server.url("theirs")) as theirs,
    ):
        for storage in (ours, theirs):
            storage.store(TelemetryData(spans=data.spans[:1]))
        for turn in range(rounds + 1):
            blocks = [prepare_columns(lines) for lines in slices]
            works: dict[str, Callable[[], object]] = {
                OURS: lambda turn=turn: store(ours, slices, turn),  # type: ignore[misc]
                THEIRS: lambda blocks=blocks: insert(client, "theirs.otel_traces", blocks),  # type: ignore[misc]
            }
            for name, work in works.items():
                for database in ("ours", "theirs"):
                    server.clear(database)
                before = Times(time.perf_counter(), time.process_time(), server.cpu_time())
                work()
                if turn:  # the first turn fills caches, and loads what is imported late
                    now = Times(time.perf_counter(), time.process_time(), server.cpu_time())
                    found[name].append(Times(*map(sub, now, before)))
                database = "ours" if name == OURS else "theirs"
                assert server.ask(f"SELECT count() FROM {database}.otel_traces") == [[spans]]
    client.close()
    return found


def main() -> int:
    """Measure, and print a table; return 1 if the target is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.clickhouse")
    parser.add_argument("--spans", type=int, default=100_000, help="how many (100,000)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds (7)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rimp-clickhouse-") as name:
        server = start_clickhouse(Path(name))
        try:
            found = measure(server, arguments.spans, arguments.rounds)
        finally:
            server.kill()
    return _report(found, arguments.spans)


def _report(found: dict[str, list[Times]], spans: int) -> int:
    print(
        f"{'spans':20} {'rows/s':>9} {'CPU a row: client':>18} {'server':>9} {'ratio':>7} {'by CPU':>7}"
        f" {'target':>7}"
    )
    pairs = list(zip(found[OURS], found[THEIRS], strict=True))
    ratio = statistics.median(theirs.wall / ours.wall for ours, theirs in pairs)
    by_cpu = statistics.median(
        (theirs.client + theirs.server) / (ours.client + ours.server) for ours, theirs in pairs
    )
    for name, rounds in found.items():
        wall, client, server = (statistics.median(column) for column in zip(*rounds, strict=True))
        shown = f"{ratio:7.3f} {by_cpu:7.3f} {TARGET:7.3f}" if name == OURS else ""
        print(
            f"{name:20} {spans / wall:9,.0f} {client / spans * 1e6:15.2f} µs"
            f" {server / spans * 1e6:6.2f} µs {shown}"
        )
    return 1 if ratio < TARGET else 0


if __name__ == "__main__":
    sys.exit(main())
