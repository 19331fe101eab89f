"""Questions to the tables: selections as SQL with parameters, and rows as records."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from rimp_otel.batch import TelemetryData
from rimp_otel.models.records import Signal
from rimp_otel.storage.base import TIMES, Selection, without_times
from rimp_otel.storage.clickhouse.connection import ClickHouseConnection
from rimp_otel.storage.clickhouse.records import RowDecoder, selected_columns
from rimp_otel.storage.clickhouse.rows import MAX_TIME
from rimp_otel.storage.clickhouse.schema import ORDER, ExistingTable, quote_name
from rimp_otel.storage.clickhouse.writer import ClickHouseTables

__all__ = ["ClickHouseQuery", "TableQuery"]

_LISTS = {Signal.TRACES: "spans", Signal.LOGS: "events", Signal.METRICS: "metrics"}
_NAMES = {Signal.TRACES: "SpanName", Signal.LOGS: "EventName", Signal.METRICS: "MetricName"}
_ATTRIBUTES = {
    Signal.TRACES: "SpanAttributes",
    Signal.LOGS: "LogAttributes",
    Signal.METRICS: "Attributes",
}
_Found = tuple[tuple[int, int], str, Any]
"""The time and the order of a record, the name of its list in a batch, and the record."""


class TableQuery:
    """A selection of one table's rows as SQL. What SQL cannot express is left to ``Filter.matches``.

    Args:
        existing: the table.
        selection: of which records.
    """

    def __init__(self, existing: ExistingTable, selection: Selection) -> None:
        self._existing = existing
        self._conditions: list[str] = []
        #: The values of the statement's parameters.
        self.parameters: dict[str, Any] = {}
        #: True if every row that SQL finds is selected.
        self.is_exact = True
        self._add_times(selection)
        self._add_columns(selection)
        for number, (key, value) in enumerate(selection.filter.attributes):
            self._add_attribute(number, key, value)

    def sql(self, newest_first: bool, limit: int | None = None) -> str:
        """Return the statement.

        Args:
            newest_first: whether the newest rows come first, or the oldest ones.
            limit: the most rows; None for all.
        """
        existing = self._existing
        where = f" WHERE {' AND '.join(self._conditions)}" if self._conditions else ""
        direction = " DESC" if newest_first else ""
        order = f"{self._time}{direction}"
        if existing.has(ORDER):
            order += f", {quote_name(ORDER)}{direction}"
        most = "" if limit is None else f" LIMIT {limit}"
        return (
            f"SELECT {selected_columns(existing)} FROM {quote_name(existing.name)}{where}"
            f" ORDER BY {order}{most}"
        )

    @property
    def _time(self) -> str:
        return quote_name(self._existing.table.time)

    def _add(self, condition: str, **parameters: Any) -> None:
        self._conditions.append(condition)
        self.parameters.update(parameters)

    def _add_times(self, selection: Selection) -> None:
        start, end = selection.window
        whole = not self._existing.has_nanoseconds
        if start is not None and start > 0:
            start = start // 10**9 * 10**9 if whole else start
            self._add(
                f"{self._time} >= fromUnixTimestamp64Nano({{start:Int64}})",
                start=min(start, MAX_TIME),
            )
        if end is not None:
            # Times that the column cannot hold count as the last one that it can.
            self._add(
                f"{self._time} <= fromUnixTimestamp64Nano({{end:Int64}})",
                end=min(max(end - 1, -1), MAX_TIME),
            )
        if whole and (start is not None or end is not None):
            self.is_exact = False

    def _add_columns(self, selection: Selection) -> None:
        wanted, signal = selection.filter, self._existing.table.signal
        if wanted.trace_id is not None:
            self._add("TraceId = {trace_id:String}", trace_id=f"{wanted.trace_id:032x}")
        if wanted.service is not None:
            self._add("ServiceName = {service:String}", service=wanted.service)
        if wanted.name is not None:
            self._add_name(_NAMES[signal], wanted.name)
        if wanted.min_duration is not None:
            self._add("Duration >= {duration:UInt64}", duration=min(wanted.min_duration, 2**64 - 1))
            # A span that has not begun or ended has no duration, and one of 0 in the table.
            self.is_exact = self.is_exact and wanted.min_duration > 0
        if wanted.severity is not None:
            self._add("SeverityNumber >= {severity:Int32}", severity=wanted.severity)

    def _add_name(self, column: str, name: str) -> None:
        if self._existing.has(column):
            self._add(f"{column} = {{name:String}}", name=name)
        else:
            self._add("false")

    def _add_attribute(self, number: int, key: str, value: Any) -> None:
        column = _ATTRIBUTES[self._existing.table.signal]
        name, wanted = f"key{number}", f"value{number}"
        self.is_exact = False  # a text does not tell 1 from "1"
        self._add(f"mapContains({column}, {{{name}:String}})", **{name: key})
        found = f"{column}[{{{name}:String}}]"
        if isinstance(value, str):
            self._add(f"{found} = {{{wanted}:String}}", **{wanted: value})
        elif isinstance(value, bool):
            self._add(f"{found} = {{{wanted}:String}}", **{wanted: str(value).lower()})
        elif isinstance(value, (int, float)) and math.isfinite(value) and abs(value) < 2**63:
            self._add(f"toFloat64OrNull({found}) = {{{wanted}:Float64}}", **{wanted: float(value)})


class ClickHouseQuery:
    """Asks the tables of a database.

    Args:
        connection: to the server.
        tables: of the database.
    """

    def __init__(self, connection: ClickHouseConnection, tables: ClickHouseTables) -> None:
        self._connection = connection
        self._tables = tables
        #: Why rows that a foreign program wrote were skipped so far.
        self.damaged: list[str] = []

    def select(self, selection: Selection) -> TelemetryData:
        """Return the selected records, oldest first.

        Raises:
            StorageError: the server cannot be asked, or a table not be read.
        """
        limit = selection.limit
        found: list[_Found] = []
        if limit == 0:
            return TelemetryData()
        for existing in self._tables_of(selection):
            number = 0
            for batch in self._ask(existing, selection, newest_first=limit is not None):
                found += batch
                number += len(batch)
                if limit is not None and number >= limit:
                    break
        found.sort(key=itemgetter(0))
        return _to_batch(found if limit is None else found[-limit:])

    def iter_select(self, selection: Selection, batch_size: int) -> Iterator[TelemetryData]:
        """Iterate over the selected records, oldest first, in batches of ``batch_size``.

        Raises:
            StorageError: the server cannot be asked, or a table not be read.
        """
        streams = [
            self._iter_records(existing, selection) for existing in self._tables_of(selection)
        ]
        batch: list[_Found] = []
        for found in heapq.merge(*streams, key=itemgetter(0)):
            batch.append(found)
            if len(batch) == batch_size:
                yield _to_batch(batch)
                batch = []
        if batch:
            yield _to_batch(batch)

    def _tables_of(self, selection: Selection) -> list[ExistingTable]:
        signals = selection.filter.signals
        found = self._tables.existing()
        return [existing for existing in found.values() if existing.table.signal in signals]

    def _iter_records(self, existing: ExistingTable, selection: Selection) -> Iterator[_Found]:
        for batch in self._ask(existing, selection, newest_first=False):
            yield from batch

    def _ask(
        self, existing: ExistingTable, selection: Selection, newest_first: bool
    ) -> Iterator[list[_Found]]:
        query = TableQuery(existing, selection)
        limit = selection.limit if newest_first and query.is_exact else None
        decoder = RowDecoder(existing, self.damaged.append)
        name = _LISTS[existing.table.signal]
        time_of, window, filter = TIMES[name], selection.window, selection.filter
        for lines in self._connection.stream(query.sql(newest_first, limit), query.parameters):
            found: list[_Found] = []
            for order, record in decoder.decode(lines):
                time = time_of(record)
                if window.contains(time) and (not filter or filter.matches(record)):
                    found.append(((time, order), name, record))
            if not newest_first:
                found.sort(key=itemgetter(0))
            yield found


def _to_batch(found: list[_Found]) -> TelemetryData:
    return without_times((time, name, record) for (time, _), name, record in found)
