"""Inserts: each slice of a journal once, whenever the process or the server dies.

A block has the slice's id as its deduplication token, so that the server ignores one that it has inserted
already. It remembers the last 10,000 blocks of a table; that is not enough for a process that comes back after a
day. So the first slice after a start, and each after a failure, is looked for before it is inserted again.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from rimp_otel.batch import TelemetryData
from rimp_otel.errors import StorageError
from rimp_otel.models.records import MetricKind, Signal
from rimp_otel.process import Reporter, call_in_forked_child
from rimp_otel.storage.clickhouse.connection import ClickHouseConnection
from rimp_otel.storage.clickhouse.rows import MAX_TIME, TimedRow, rows_of_line
from rimp_otel.storage.clickhouse.schema import (
    ORDER,
    REST,
    SLICE,
    TABLES,
    ExistingTable,
    create_statements,
    extend_statements,
    quote_name,
)

__all__ = ["ClickHouseTables", "ClickHouseWriter"]

_DEDUPLICATES = ("Replicated", "Shared")
_MOST_JOURNALS = 1_024
_WINDOW = "non_replicated_deduplication_window = "
_ENGINES = (
    "SELECT name, engine, create_table_query FROM system.tables WHERE database = {database:String}"
)
_DATABASE = "SELECT name FROM system.databases WHERE name = {database:String}"
_COLUMNS = "SELECT table, name, type FROM system.columns WHERE database = {database:String}"


class ClickHouseTables:
    """The tables of a database, as they are. Safe for several threads.

    Args:
        connection: to the server.
        retain_age: seconds after which rows of tables that are made here are deleted; None for never.
        warn: called with what somebody should know of a table that others have made.
    """

    def __init__(
        self,
        connection: ClickHouseConnection,
        retain_age: float | None = None,
        warn: Callable[[str], object] | None = None,
    ) -> None:
        self._connection = connection
        self._retain_age = retain_age
        self._warn = warn or (lambda message: Reporter().warn("clickhouse", message))
        self._found: dict[str, ExistingTable] | None = None
        self._made: dict[str, ExistingTable] | None = None
        self._warned: set[str] = set()

    def forget(self) -> None:
        """Forget what the tables are like, since somebody may have changed them."""
        self._found = self._made = None

    def existing(self) -> dict[str, ExistingTable]:
        """Return the tables that there are; empty without the database.

        Raises:
            StorageError: the server cannot be asked, or a table cannot be used.
        """
        found = self._found
        if found is None:
            found = self._look()
            self._found = found if len(found) == len(TABLES) else None
        return found

    def make(self) -> dict[str, ExistingTable]:
        """Return all tables; make those that are missing.

        Raises:
            StorageError: that was not possible.
        """
        if self._made is not None:
            return self._made
        found, address = self.existing(), self._connection.address
        database = {"database": address.database}
        missing = [table for table in TABLES if table.suffix not in found]
        if missing and address.creates:
            cluster = f" ON CLUSTER {quote_name(address.cluster)}" if address.cluster else ""
            # Not every user that may make tables may make a database.
            if not found and not self._connection.ask(_DATABASE, database, in_database=False):
                self._connection.command(
                    f"CREATE DATABASE IF NOT EXISTS {quote_name(address.database)}{cluster}",
                    in_database=False,
                )
            for table in missing:
                for statement in create_statements(
                    table, address.prefix, address.cluster, self._retain_age
                ):
                    self._connection.command(statement)
        if address.extends:
            for existing in found.values():
                for statement in extend_statements(existing):
                    self._connection.command(statement)
        if (missing and address.creates) or address.extends:
            self.forget()
            found = self.existing()
        for existing in found.values():
            self._warn_of(existing)
        self._made = found
        return found

    def _look(self) -> dict[str, ExistingTable]:
        address = self._connection.address
        database = {"database": address.database}
        engines: dict[str, tuple[str, str]] = {}
        for line in self._connection.ask(_ENGINES, database, in_database=False).splitlines():
            name, engine, statement = msgspec.json.decode(line)
            engines[name] = engine, statement
        types: dict[str, dict[str, str]] = {}
        for line in self._connection.ask(_COLUMNS, database, in_database=False).splitlines():
            name, column, type = msgspec.json.decode(line)
            types.setdefault(name, {})[column] = type
        found: dict[str, ExistingTable] = {}
        for table in TABLES:
            name = table.name(address.prefix)
            if name in engines:
                existing = ExistingTable(
                    table, name, types.get(name, {}), _is_deduplicating(name, engines)
                )
                existing.check()
                found[table.suffix] = existing
        return found

    def _warn_of(self, existing: ExistingTable) -> None:
        if existing.name in self._warned:
            return
        self._warned.add(existing.name)
        shown = self._connection.address.shown
        if not existing.has(REST):
            self._warn(
                f"the table {existing.name} of {shown} was made by another program: types of attributes, and"
                f" what else has no column there, are not stored; add extend=yes to the URL to add"
                f" {SLICE}, {ORDER} and {REST}"
            )
        if not existing.is_deduplicating:
            self._warn(
                f"the table {existing.name} of {shown} does not tell a block that is inserted twice: after a"
                " failure records can be there twice; add extend=yes to the URL, or set"
                " non_replicated_deduplication_window"
            )


def _is_deduplicating(name: str, engines: dict[str, tuple[str, str]]) -> bool:
    engine, statement = engines[name]
    if engine == "Distributed":
        name = f"{name}_local"
        if name not in engines:
            return True  # on other servers; nobody here can tell
        engine, statement = engines[name]
    if engine.startswith(_DEDUPLICATES):
        return True
    _, found, value = statement.partition(_WINDOW)
    return bool(found) and not value.startswith("0")


class ClickHouseWriter:
    """Inserts batches. Safe for several threads.

    Args:
        connection: to the server.
        tables: of its database.
        clock: returns nanoseconds since the epoch.
    """

    def __init__(
        self,
        connection: ClickHouseConnection,
        tables: ClickHouseTables,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._connection = connection
        self._tables = tables
        self._clock = clock
        self._last = 0
        # Journals whose next slice was never offered before.
        self._certain: set[str] = set()
        self._renew()
        call_in_forked_child(self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._certain.clear()

    def write(self, data: TelemetryData) -> None:
        """Insert a batch; not again if its slice has been inserted before.

        Raises:
            StorageError: it could not be inserted, or nobody knows.
            RefusedRowsError: the server cannot read it.
            DecodeError: a line of it is not OTLP JSON.
        """
        lines = [line for signal in Signal for line in data.otlp_json(signal)]
        self.write_lines(lines, data.slice_id)

    def write_lines(self, lines: Sequence[bytes], token: str | None) -> None:
        """Insert OTLP JSON lines, as ``write`` does.

        Args:
            lines: the lines.
            token: the same for the same lines that are offered again; None if they never are.
        """
        if not lines:
            return
        digest = 0
        if token:
            digest = int.from_bytes(blake2b(token.encode(), digest_size=8).digest(), "big") or 1
        blocks = self._make_blocks(lines, self._tables.make(), digest)
        # A slice's name ends in where it starts and stops.
        journal = token.rsplit("-", 2)[0] if token else ""
        is_certain = not token or journal in self._certain
        self._certain.discard(journal)
        try:
            for block in blocks:
                if is_certain or not self._has_slice(block, digest):
                    self._insert(block, token)
        except BaseException:
            self._tables.forget()  # perhaps it was that they are not as they were
            raise
        if journal:
            if len(self._certain) >= _MOST_JOURNALS:
                self._certain.clear()
            self._certain.add(journal)

    def _make_blocks(
        self, lines: Sequence[bytes], tables: dict[str, ExistingTable], digest: int
    ) -> list[_RowBlock]:
        """Return the rows of each table, encoded line by line: thousands of lists would keep the garbage
        collector busy."""
        in_seconds = frozenset(
            existing.table.kind
            for existing in tables.values()
            if existing.table.kind is not None and not existing.has_nanoseconds
        )
        blocks: dict[str, _RowBlock] = {}
        for line in lines:
            for signal, kind, timed in rows_of_line(line, in_seconds):
                if not timed:
                    continue
                existing = _find(tables, signal, kind)
                block = blocks.get(existing.name)
                if block is None:
                    block = blocks[existing.name] = _RowBlock(existing)
                number = self._take_order(len(timed))
                for _, row in timed:
                    row[-3], row[-2] = digest, number
                    number += 1
                block.add(timed)
        return list(blocks.values())

    def _insert(self, block: _RowBlock, token: str | None) -> None:
        self._connection.insert(
            quote_name(block.existing.name),
            [column.name for column in block.existing.columns],
            b"".join(block.chunks),
            {"insert_deduplication_token": token or uuid.uuid4().hex},
        )

    def _has_slice(self, block: _RowBlock, digest: int) -> bool:
        existing = block.existing
        if not existing.has(SLICE):
            return False
        # Two seconds more, for tables of whole seconds.
        first, last = max(block.first - 10**9, 0), min(block.last + 10**9, MAX_TIME)
        time = existing.table.time
        query = (
            f"SELECT 1 FROM {quote_name(existing.name)} WHERE {SLICE} = {{slice:UInt64}}"
            f" AND {time} >= fromUnixTimestamp64Nano({{first:Int64}})"
            f" AND {time} <= fromUnixTimestamp64Nano({{last:Int64}}) LIMIT 1"
        )
        found = self._connection.ask(query, {"slice": digest, "first": first, "last": last})
        return bool(found.strip())

    def _take_order(self, number: int) -> int:
        """Return the first of so many numbers, larger than all before."""
        with self._lock:
            first = max(self._clock(), self._last)
            self._last = first + number
            return first


_encode_lines = msgspec.json.Encoder().encode_lines


class _RowBlock:
    """What is inserted into one table at once."""

    def __init__(self, existing: ExistingTable) -> None:
        self.existing = existing
        #: JSON arrays, one a line.
        self.chunks: list[bytes] = []
        #: The times of the first and the last row.
        self.first, self.last = MAX_TIME, 0
        lacks = len(existing.columns) < len(existing.table.columns)
        self._must_fit = lacks or not existing.has_nanoseconds

    def add(self, timed: list[TimedRow]) -> None:
        """Add rows."""
        times = [when for when, _ in timed]
        self.first, self.last = min(self.first, *times), max(self.last, *times)
        rows = [row for _, row in timed]
        self.chunks.append(
            _encode_lines(_fit_rows(self.existing, rows) if self._must_fit else rows)
        )


def _find(
    found: dict[str, ExistingTable], signal: Signal, kind: MetricKind | None
) -> ExistingTable:
    for existing in found.values():
        if existing.table.signal is signal and existing.table.kind is kind:
            return existing
    what = signal.value if kind is None else f"metrics of the kind {kind.value}"
    raise StorageError(f"there is no table for {what}, and the URL says create=no")


def _fit_rows(existing: ExistingTable, rows: list[list[Any]]) -> list[list[Any]]:
    """Return rows as a table of another program has columns for them."""
    taken: list[tuple[int, bool]] = []
    for number, column in enumerate(existing.table.columns):
        type = existing.types.get(column.name)
        if type is not None:
            in_seconds = "DateTime64(9)" in column.type and "DateTime64" not in type
            taken.append((number, in_seconds))
    return [
        [_to_seconds(row[number]) if in_seconds else row[number] for number, in_seconds in taken]
        for row in rows
    ]


_LAST_SECOND = 2**32 - 1


def _to_seconds(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_seconds(item) for item in value]
    return min(int(value.partition(".")[0]), _LAST_SECOND)
