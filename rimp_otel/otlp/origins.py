"""Where records come from: resources and scopes, as the SDK's types and as our own.

A line repeats its resource, and so do all lines of a process. So both are looked up by their JSON
text: records of equal resources share one object, and a resource is decoded once. Neither may be
changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from msgspec import Raw
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from rimp_otel.models import ResourceInfo, ScopeInfo
from rimp_otel.otlp import wire
from rimp_otel.otlp.scalars import attributes_of

__all__ = [
    "Cache",
    "RecordedResource",
    "RecordedScope",
    "bounded",
    "remember",
    "resource_info",
    "scope_info",
    "sdk_resource",
    "sdk_scope",
]


class RecordedResource(Resource):
    """A resource that had lost attributes before it was recorded."""

    dropped_attributes_count: int = 0


class RecordedScope(InstrumentationScope):
    """A scope that had lost attributes before it was recorded."""

    dropped_attributes_count: int = 0


T = TypeVar("T")
Cache = dict[tuple[bytes, str], T]
"""Objects by their JSON text and schema URL."""

_MAX_CACHED = 1_024
_MAX_CACHED_SIZE = 16_384
# The public constructor checks each value again, and logs and drops what other languages allow.
# It is what is left if an SDK should keep its values elsewhere.
_SETS_ATTRIBUTES = isinstance(getattr(BoundedAttributes(), "_dict", None), dict)

_resources: Cache[Resource] = {}
_scopes: Cache[InstrumentationScope] = {}
_resource_infos: Cache[ResourceInfo] = {}
_scope_infos: Cache[ScopeInfo] = {}


def sdk_resource(raw: Raw, schema_url: str) -> Resource:
    """The SDK's Resource."""
    return _look_up(_resources, raw, schema_url, _make_resource)


def sdk_scope(raw: Raw, schema_url: str) -> InstrumentationScope:
    """The SDK's InstrumentationScope."""
    return _look_up(_scopes, raw, schema_url, _make_scope)


def resource_info(raw: Raw, schema_url: str) -> ResourceInfo:
    """Our own resource."""
    return _look_up(_resource_infos, raw, schema_url, _make_resource_info)


def scope_info(raw: Raw, schema_url: str) -> ScopeInfo:
    """Our own scope."""
    return _look_up(_scope_infos, raw, schema_url, _make_scope_info)


def bounded(pairs: list[wire.KeyValue] | None, dropped: int | None) -> BoundedAttributes:
    """Attributes as the SDK keeps them, with the number of those that it lost."""
    values = attributes_of(pairs, tuple)
    if _SETS_ATTRIBUTES:
        attributes = BoundedAttributes()
        attributes._dict = values
    else:
        attributes = BoundedAttributes(attributes=values)
    if dropped:
        attributes.dropped = dropped
    return attributes


def remember(cache: Cache[T], key: tuple[bytes, str], value: T) -> T:
    """Puts ``value`` into a cache that stays small; gives what another thread put there first."""
    if len(key[0]) > _MAX_CACHED_SIZE:
        return value
    if len(cache) >= _MAX_CACHED:
        cache.clear()
    return cache.setdefault(key, value)


def _look_up(cache: Cache[T], raw: Raw, schema_url: str, make: Callable[[Raw, str], T]) -> T:
    key = bytes(raw), schema_url
    known = cache.get(key)
    return remember(cache, key, make(raw, schema_url)) if known is None else known


def _make_resource(raw: Raw, schema_url: str) -> Resource:
    message = wire.load_resource(raw)
    dropped = message.dropped_attributes_count or 0
    resource = RecordedResource({}, schema_url) if dropped else Resource({}, schema_url)
    if isinstance(resource, RecordedResource):
        resource.dropped_attributes_count = dropped
    resource._attributes = bounded(message.attributes, dropped)
    return resource


def _make_scope(raw: Raw, schema_url: str) -> InstrumentationScope:
    message = wire.load_scope(raw)
    dropped = message.dropped_attributes_count or 0
    make = RecordedScope if dropped else InstrumentationScope
    scope = make(message.name or "", message.version or None, schema_url)
    if isinstance(scope, RecordedScope):
        scope.dropped_attributes_count = dropped
    scope._attributes = bounded(message.attributes, dropped)
    return scope


def _make_resource_info(raw: Raw, schema_url: str) -> ResourceInfo:
    message = wire.load_resource(raw)
    attributes = attributes_of(message.attributes, list)
    return ResourceInfo(attributes, schema_url, message.dropped_attributes_count or 0)


def _make_scope_info(raw: Raw, schema_url: str) -> ScopeInfo:
    message = wire.load_scope(raw)
    return ScopeInfo(
        message.name or "",
        message.version or "",
        attributes_of(message.attributes, list),
        schema_url,
        message.dropped_attributes_count or 0,
    )
