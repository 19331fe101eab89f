"""OTLP JSON lines to tables: what the three signals have in common.

Lines are decoded by the same typed messages as everywhere else. A few hundred kilobytes of them
become arrays at once, while they are in the processor's cache, and their objects are let go; what
stays is compact, so that a batch of a hundred thousand records takes some tens of megabytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from binascii import unhexlify
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from msgspec import Raw

from rimp_otel.models.records import Signal
from rimp_otel.otlp import messages
from rimp_otel.otlp.protobuf import normalize_line
from rimp_otel.sql.columns import (
    Names,
    Pairs,
    attribute_pairs,
    codes,
    flat_numbers,
    spread_maps,
    spread_texts,
)
from rimp_otel.sql.extras import pyarrow

__all__ = ["Builder", "Origins", "are_ids", "are_numbers", "without_zeros"]


# --- Resources and scopes as columns: each is decoded once, and a row has its number.

_SERVICE = "service.name"


class _Resource(NamedTuple):
    attributes: Pairs
    types: Pairs
    service: str
    dropped: int
    schema_url: str


class _Scope(NamedTuple):
    name: str
    version: str
    attributes: Pairs
    types: Pairs
    dropped: int
    schema_url: str


class Origins:
    """The resources and scopes of a batch, and their numbers."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, str, bytes, str], int] = {}
        self._all: list[tuple[_Resource, _Scope]] = []
        self._resources: dict[tuple[bytes, str], _Resource] = {}

    def number(
        self, resource: Raw, resource_url: str | None, scope: Raw, scope_url: str | None
    ) -> int:
        """The number of a resource with a scope.

        Raises:
            DecodeError: one of them is not OTLP JSON.
        """
        key = (bytes(resource), resource_url or "", bytes(scope), scope_url or "")
        number = self._known.get(key)
        if number is None:
            made = self._resource(resource, key[1]), _scope_of(scope, key[3])
            number = self._known[key] = len(self._all)
            self._all.append(made)
        return number

    def services(self) -> list[str]:
        """The service of each number."""
        return [resource.service for resource, _ in self._all]

    def scopes(self) -> list[str]:
        """The scope's name of each number."""
        return [scope.name for _, scope in self._all]

    def columns(self, numbers: Any) -> dict[str, Any]:
        """The columns of a resource and a scope, for rows with these numbers."""
        runs = [(number, len(list(rows))) for number, rows in groupby(numbers.to_pylist())]
        return {
            "ServiceName": spread_texts(self.services(), numbers),
            **_columns("Resource", [resource for resource, _ in self._all], runs, numbers),
            "ScopeName": spread_texts(self.scopes(), numbers),
            "ScopeVersion": spread_texts([scope.version for _, scope in self._all], numbers),
            **_columns("Scope", [scope for _, scope in self._all], runs, numbers),
        }

    def _resource(self, raw: Raw, url: str) -> _Resource:
        key = (bytes(raw), url)
        if key not in self._resources:
            resource = messages.decode_resource(raw)
            pairs, types = attribute_pairs(resource.attributes)
            service = dict(pairs).get(_SERVICE, "")
            dropped = resource.dropped_attributes_count or 0
            self._resources[key] = _Resource(pairs, types, service, dropped, url)
        return self._resources[key]


def _scope_of(raw: Raw, url: str) -> _Scope:
    scope = messages.decode_scope(raw)
    pairs, types = attribute_pairs(scope.attributes)
    dropped = scope.dropped_attributes_count or 0
    return _Scope(scope.name or "", scope.version or "", pairs, types, dropped, url)


def _columns(
    prefix: str,
    things: Sequence[_Resource] | Sequence[_Scope],
    runs: Sequence[tuple[int, int]],
    numbers: Any,
) -> dict[str, Any]:
    dropped = pyarrow.array([thing.dropped for thing in things], pyarrow.uint32())
    return {
        f"{prefix}Attributes": spread_maps([thing.attributes for thing in things], runs),
        f"{prefix}AttributeTypes": spread_maps([thing.types for thing in things], runs),
        f"{prefix}SchemaUrl": spread_texts([thing.schema_url for thing in things], numbers),
        f"{prefix}DroppedAttrCount": dropped.take(numbers),
    }


# --- OTLP JSON lines to tables: what the three signals have in common.

_CHUNK = 256 * 1024
_compute = pyarrow.compute


class Builder(ABC):
    """Makes tables of lines of one signal. Not safe for several threads."""

    #: What is built.
    signal: Signal

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.origins = Origins()
        #: The numbers of attributes' keys.
        self.keys = Names()
        #: The numbers of what rows are sorted by, within a service.
        self.names = Names()
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

    def add(self, text: bytes) -> None:
        """Adds the records of a line.

        Raises:
            DecodeError: it is not OTLP JSON of this signal. Then none of them is added.
        """
        signal, line = messages.parse_line(text)
        blocks = list(self._blocks(line)) if signal is self.signal else []
        records = [record for _, block in blocks for record in block]
        if not self._is_strict(records):
            blocks = list(self._blocks(messages.parse_line(normalize_line(text))[1]))
            records = [record for _, block in blocks for record in block]
        self._pending += records
        self._runs += [(origin, len(block)) for origin, block in blocks]
        self.rows += len(records)
        self.size += len(text)
        self._pending_size += len(text)
        if self._pending_size >= _CHUNK:
            self._make_chunk()

    def take(self, is_sorted: bool) -> Any:
        """The table of what was added since the last one; its columns are those of ``schema``.

        Args:
            is_sorted: by service, name and time; otherwise as the records came.
        """
        self._make_chunk()
        rows = pyarrow.Table.from_batches(self._chunks).combine_chunks() if self._chunks else None
        if rows is None:
            return self.schema().empty_table()
        self._chunks = []
        if is_sorted:
            rows = rows.take(self._order(rows))
        found = {name: _whole(rows.column(name)) for name in rows.column_names}
        columns = {**self.origins.columns(found["origin"]), **self._finish(found)}
        self._begin()
        schema = self.schema()
        made = {name: columns[name] for name in schema.names}
        return pyarrow.table(list(made.values()), names=list(made))

    @classmethod
    @abstractmethod
    def schema(cls) -> Any:
        """The columns of the tables, and the types that they have in Parquet."""

    @abstractmethod
    def _blocks(self, line: messages.OtlpLine) -> Iterable[tuple[int, list[Any]]]:
        """The records of a line, by the numbers of what they belong to."""

    @abstractmethod
    def _is_strict(self, records: Sequence[Any]) -> bool:
        """Whether ids are lower-case hex and enumerations numbers, as OTLP JSON has them."""

    @abstractmethod
    def _columns(self, records: Sequence[Any]) -> dict[str, Any]:
        """Arrays that can be sorted. Among them are "name" (a number) and "time"."""

    @abstractmethod
    def _finish(self, columns: dict[str, Any]) -> dict[str, Any]:
        """The columns of the schema, but for those of resource and scope."""

    def _make_chunk(self) -> None:
        if not self._pending:
            return
        columns = self._columns(self._pending)
        origins = [array("i", [origin]) * count for origin, count in self._runs]
        columns["origin"] = flat_numbers(b"".join(map(bytes, origins)))
        self._chunks.append(pyarrow.record_batch(list(columns.values()), names=list(columns)))
        self._drop_pending()

    def _order(self, rows: Any) -> Any:
        """The rows' numbers, sorted by service, name and time."""
        keys = pyarrow.table(
            {
                "service": _ranks(self.origins.services()).take(rows.column("origin")),
                "name": _ranks(self.names.texts()).take(rows.column("name")),
                "time": rows.column("time"),
            }
        )
        return _compute.sort_indices(
            keys, [(column, "ascending") for column in ("service", "name", "time")]
        )


def _ranks(texts: Sequence[str]) -> Any:
    """For each number of a text, the place of the text in their order."""
    rank = {text: place for place, text in enumerate(sorted(set(texts)))}
    return codes([rank[text] for text in texts])


def _whole(column: Any) -> Any:
    """A column's one array."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def are_ids(ids: Iterable[str | None], size: int) -> bool:
    """Whether these are ids of ``size`` bytes in lower-case hex; none is allowed, too."""
    there = [id for id in ids if id]
    joined = "".join(there)
    if set(map(len, there)) - {2 * size}:
        return False
    try:
        return unhexlify(joined).hex() == joined
    except ValueError:
        return False


def are_numbers(values: Iterable[int | str | None]) -> bool:
    """Whether these values of an enumeration are numbers; none is allowed, too."""
    return not any(isinstance(value, str) for value in values)


def without_zeros(ids: Any, size: int) -> Any:
    """Ids of zeros stand for none: they become empty texts."""
    zeros = _compute.equal(ids, "0" * (2 * size))
    return _compute.if_else(zeros, "", ids) if _compute.any(zeros).as_py() else ids
