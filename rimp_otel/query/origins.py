"""Resources and scopes as columns: each is decoded once, and a row has its number."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from msgspec import Raw

from rimp_otel.otlp import wire
from rimp_otel.query.arrays import Pairs, spread_maps, spread_texts
from rimp_otel.query.attributes import attribute_pairs
from rimp_otel.query.extras import pyarrow

__all__ = ["Origins"]

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
            resource = wire.load_resource(raw)
            pairs, types = attribute_pairs(resource.attributes)
            service = dict(pairs).get(_SERVICE, "")
            dropped = resource.dropped_attributes_count or 0
            self._resources[key] = _Resource(pairs, types, service, dropped, url)
        return self._resources[key]


def _scope_of(raw: Raw, url: str) -> _Scope:
    scope = wire.load_scope(raw)
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
