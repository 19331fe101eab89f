"""OTLP JSON lines to Arrow tables: what the three signals have in common.

Lines are decoded to the same typed messages as everywhere else. A few hundred kilobytes of them
become arrays at once, while they are in the processor's cache, and their objects are freed: a table
of a hundred thousand records takes some tens of megabytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from binascii import unhexlify
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, ClassVar, NamedTuple

from msgspec import Raw

from rimp_otel.models.records import Signal
from rimp_otel.otlp import messages
from rimp_otel.otlp.protobuf import normalize_line
from rimp_otel.sql.columns import (
    MapEntries,
    TextCodes,
    attribute_entries,
    int32_array,
    int32_column,
    repeat_maps,
    repeat_texts,
)
from rimp_otel.sql.extras import pyarrow

__all__ = ["ResourceScopes", "TableBuilder", "are_hex_ids", "are_integers", "replace_zero_ids"]


# Resources and scopes: each pair is decoded once, and a row has its number.


class _ResourceColumns(NamedTuple):
    attributes: MapEntries
    types: MapEntries
    service: str
    dropped: int
    schema_url: str


class _ScopeColumns(NamedTuple):
    name: str
    version: str
    attributes: MapEntries
    types: MapEntries
    dropped: int
    schema_url: str


class ResourceScopes:
    """The resources and scopes of a table, numbered in pairs."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[bytes, str, bytes, str], int] = {}
        self._pairs: list[tuple[_ResourceColumns, _ScopeColumns]] = []
        self._resources: dict[tuple[bytes, str], _ResourceColumns] = {}

    def number_of(
        self, resource: Raw, resource_url: str | None, scope: Raw, scope_url: str | None
    ) -> int:
        """Return the number of a resource with a scope.

        Raises:
            DecodeError: one of them is not OTLP JSON.
        """
        key = (bytes(resource), resource_url or "", bytes(scope), scope_url or "")
        number = self._numbers.get(key)
        if number is None:
            pair = self._decode_resource(resource, key[1]), _decode_scope(scope, key[3])
            number = self._numbers[key] = len(self._pairs)
            self._pairs.append(pair)
        return number

    def services(self) -> list[str]:
        """Return the service of each number."""
        return [resource.service for resource, _ in self._pairs]

    def columns(self, numbers: Any) -> dict[str, Any]:
        """Return the columns of resources and scopes, for rows with these numbers."""
        runs = [(number, len(list(rows))) for number, rows in groupby(numbers.to_pylist())]
        resources = [resource for resource, _ in self._pairs]
        scopes = [scope for _, scope in self._pairs]
        return {
            "ServiceName": repeat_texts(self.services(), numbers),
            **_common_columns("Resource", resources, runs, numbers),
            "ScopeName": repeat_texts([scope.name for scope in scopes], numbers),
            "ScopeVersion": repeat_texts([scope.version for scope in scopes], numbers),
            **_common_columns("Scope", scopes, runs, numbers),
        }

    def _decode_resource(self, raw: Raw, url: str) -> _ResourceColumns:
        key = (bytes(raw), url)
        if key not in self._resources:
            resource = messages.decode_resource(raw)
            entries, types = attribute_entries(resource.attributes)
            service = dict(entries).get("service.name", "")
            dropped = resource.dropped_attributes_count or 0
            self._resources[key] = _ResourceColumns(entries, types, service, dropped, url)
        return self._resources[key]


def _decode_scope(raw: Raw, url: str) -> _ScopeColumns:
    scope = messages.decode_scope(raw)
    entries, types = attribute_entries(scope.attributes)
    dropped = scope.dropped_attributes_count or 0
    return _ScopeColumns(scope.name or "", scope.version or "", entries, types, dropped, url)


def _common_columns(
    prefix: str,
    values: Sequence[_ResourceColumns] | Sequence[_ScopeColumns],
    runs: Sequence[tuple[int, int]],
    numbers: Any,
) -> dict[str, Any]:
    """Return the columns that resources and scopes have in common."""
    dropped = pyarrow.array([value.dropped for value in values], pyarrow.uint32())
    return {
        f"{prefix}Attributes": repeat_maps([value.attributes for value in values], runs),
        f"{prefix}AttributeTypes": repeat_maps([value.types for value in values], runs),
        f"{prefix}SchemaUrl": repeat_texts([value.schema_url for value in values], numbers),
        f"{prefix}DroppedAttrCount": dropped.take(numbers),
    }


# Tables.

_CHUNK_SIZE = 256 * 1024
_compute = pyarrow.compute

_FIELDS = {
    Signal.TRACES: ("resource_spans", "scope_spans", "spans"),
    Signal.LOGS: ("resource_logs", "scope_logs", "log_records"),
    Signal.METRICS: ("resource_metrics", "scope_metrics", "metrics"),
}
"""The names of OTLP's three nested lists."""


class TableBuilder(ABC):
    """Makes tables of the lines of one signal. Use it in one thread.

    Args:
        chunk_size: how many bytes of lines become arrays at once.
    """

    signal: ClassVar[Signal]
    #: The columns of the tables, with the types that they have in Parquet.
    schema: ClassVar[Any]

    def __init__(self, chunk_size: int = _CHUNK_SIZE) -> None:
        self._chunk_size = chunk_size
        self._begin()

    def _begin(self) -> None:
        self.resource_scopes = ResourceScopes()
        #: Codes of attributes' keys.
        self.key_codes = TextCodes()
        #: Codes of what rows are sorted by within a service.
        self.name_codes = TextCodes()
        #: Records that were added since the last table.
        self.rows = 0
        #: Bytes of the lines that were added since the last table.
        self.size = 0
        self._chunks: list[Any] = []
        self._drop_pending()

    def _drop_pending(self) -> None:
        self._pending: list[Any] = []
        self._pending_size = 0
        self._runs: list[tuple[int, int]] = []

    def add_line(self, text: bytes) -> None:
        """Add the records of a line.

        Raises:
            DecodeError: it is not OTLP JSON of this signal. Then none of them is added.
        """
        signal, line = messages.decode_messages(text)
        blocks = list(self._blocks_of(line)) if signal is self.signal else []
        records = [record for _, block in blocks for record in block]
        if not self._is_strict(records):
            blocks = list(self._blocks_of(messages.decode_messages(normalize_line(text))[1]))
            records = [record for _, block in blocks for record in block]
        self._pending += records
        self._runs += [(number, len(block)) for number, block in blocks]
        self.rows += len(records)
        self.size += len(text)
        self._pending_size += len(text)
        if self._pending_size >= self._chunk_size:
            self._make_chunk()

    def take_table(self, is_sorted: bool) -> Any:
        """Return the table of what was added since the last one, with the columns of ``schema``.

        Args:
            is_sorted: True for rows in the order of service, name and time; False for rows in the
                order in which they were added.
        """
        self._make_chunk()
        rows = pyarrow.Table.from_batches(self._chunks).combine_chunks() if self._chunks else None
        if rows is None:
            return self.schema.empty_table()
        self._chunks = []
        if is_sorted:
            rows = rows.take(self._sort_indices(rows))
        arrays = {name: _single_array(rows.column(name)) for name in rows.column_names}
        resource_scope = self.resource_scopes.columns(arrays["resource_scope"])
        columns = {**resource_scope, **self._finish_columns(arrays)}
        self._begin()
        return pyarrow.table([columns[name] for name in self.schema.names], self.schema.names)

    def _blocks_of(self, line: messages.OtlpLine) -> Iterable[tuple[int, list[Any]]]:
        """Yield the records of a line, by the number of their resource and scope."""
        resources, scopes, records = _FIELDS[self.signal]
        for group in getattr(line, resources) or ():
            for scoped in getattr(group, scopes) or ():
                number = self.resource_scopes.number_of(
                    group.resource, group.schema_url, scoped.scope, scoped.schema_url
                )
                yield number, self._records_of(getattr(scoped, records) or [])

    def _records_of(self, of_scope: list[Any]) -> list[Any]:
        """Return the records that a scope holds: one makes a row."""
        return of_scope

    @abstractmethod
    def _is_strict(self, records: Sequence[Any]) -> bool:
        """Return True if ids are lower-case hex and enumerations numbers, as OTLP JSON has them."""

    @abstractmethod
    def _make_columns(self, records: Sequence[Any]) -> dict[str, Any]:
        """Return arrays that can be sorted; among them "name", a code, and "time"."""

    @abstractmethod
    def _finish_columns(self, columns: dict[str, Any]) -> dict[str, Any]:
        """Return the columns of the schema, but for those of resource and scope."""

    def _make_chunk(self) -> None:
        if not self._pending:
            return
        columns = self._make_columns(self._pending)
        numbers = [array("i", [number]) * count for number, count in self._runs]
        columns["resource_scope"] = int32_array(b"".join(map(bytes, numbers)))
        self._chunks.append(pyarrow.record_batch(list(columns.values()), names=list(columns)))
        self._drop_pending()

    def _sort_indices(self, rows: Any) -> Any:
        services = _ranks_of(self.resource_scopes.services())
        keys = pyarrow.table(
            {
                "service": services.take(rows.column("resource_scope")),
                "name": _ranks_of(self.name_codes.texts()).take(rows.column("name")),
                "time": rows.column("time"),
            }
        )
        order = [(column, "ascending") for column in ("service", "name", "time")]
        return _compute.sort_indices(keys, order)


def _ranks_of(texts: Sequence[str]) -> Any:
    """Return each text's place in the order of the texts."""
    rank = {text: place for place, text in enumerate(sorted(set(texts)))}
    return int32_column([rank[text] for text in texts])


def _single_array(column: Any) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def are_hex_ids(ids: Iterable[str | None], size: int) -> bool:
    """Return True if all ids are ``size`` bytes in lower-case hex, or missing."""
    there = [id for id in ids if id]
    joined = "".join(there)
    if set(map(len, there)) - {2 * size}:
        return False
    try:
        return unhexlify(joined).hex() == joined
    except ValueError:
        return False


def are_integers(values: Iterable[int | str | None]) -> bool:
    """Return True if all values of an enumeration are numbers, or missing."""
    return not any(isinstance(value, str) for value in values)


def replace_zero_ids(ids: Any, size: int) -> Any:
    """Return the ids with those of zeros, which stand for none, as empty texts."""
    zeros = _compute.equal(ids, "0" * (2 * size))
    return _compute.if_else(zeros, "", ids) if _compute.any(zeros).as_py() else ids
