"""Converts resources, scopes, attributes and bodies between our records and the SDK's types.

Reading a recording needs these, so that this module imports neither the SDK's logs nor its metrics.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from rimp_otel.models.records import ResourceInfo, ScopeInfo
from rimp_otel.otlp.decode_common import bounded_attributes
from rimp_otel.otlp.values import plain_value, unreadable_marker
from rimp_otel.process import BoundedCache

__all__ = [
    "attributes_from_sdk",
    "attributes_to_sdk",
    "resource_from_sdk",
    "resource_to_sdk",
    "scope_from_sdk",
    "scope_to_sdk",
    "text_of_body",
    "value_to_sdk",
]


# Attribute values: arrays are lists in our records and tuples in the SDK's.


def attributes_from_sdk(attributes: Mapping[Any, Any] | None) -> dict[str, Any]:
    """Return a copy in dicts and lists, repaired like what is encoded; empty for None. Never raises."""
    return _copy_attributes(attributes, plain_value)


def attributes_to_sdk(attributes: Mapping[Any, Any] | None) -> dict[str, Any]:
    """Return a copy in dicts and tuples, repaired like what is encoded; empty for None. Never raises."""
    return _copy_attributes(attributes, value_to_sdk)


def value_to_sdk(value: Any) -> Any:
    """Return a copy in dicts and tuples, repaired like what is encoded. Never raises."""
    return _with_tuples(plain_value(value))


def text_of_body(body: Any) -> str:
    """Return the message of an event with this OTLP body. Never raises.

    A string is its own message, None has an empty one. Any other body becomes compact JSON, with
    bytes as base64 and null for NaN.
    """
    if isinstance(body, str):
        return body
    if body is None:
        return ""
    copied = plain_value(body)
    try:
        return msgspec.json.encode(copied).decode()
    except Exception:
        return _lenient_json(copied)


def _lenient_json(copied: Any) -> str:
    """Return JSON also for lone surrogates and integers beyond 64 bits, which msgspec refuses."""
    try:
        return json.dumps(copied, ensure_ascii=False, separators=(",", ":"), default=_encode_base64)
    except Exception as error:
        return unreadable_marker(copied, error)


def _encode_base64(value: bytes) -> str:
    return b64encode(value).decode()


def _copy_attributes(
    attributes: Mapping[Any, Any] | None, convert: Callable[[Any], Any]
) -> dict[str, Any]:
    if attributes is None:
        return {}
    try:
        # A list first: the application may add to its dict while it is read here.
        items = list(attributes.items())
    except Exception as error:
        return {"rimp.repaired": unreadable_marker(attributes, error)}
    return {
        key if type(key) is str else str(plain_value(key)): convert(value) for key, value in items
    }


def _with_tuples(plain_value: Any) -> Any:
    if type(plain_value) is list:
        return tuple([_with_tuples(item) for item in plain_value])
    if type(plain_value) is dict:
        return {key: _with_tuples(item) for key, item in plain_value.items()}
    return plain_value


# Resources and scopes.

# None becomes one of these, and becomes None again: they are known by identity, so that a resource
# or scope that is merely empty stays an empty one.
_NO_RESOURCE = Resource({})
_NO_SCOPE = InstrumentationScope("")

S = TypeVar("S")
T = TypeVar("T")


def resource_to_sdk(resource: ResourceInfo | None) -> Resource:
    """Return the SDK's Resource: one object for equal ones, an empty one for None.

    It is cached by the identity of ``resource``, which may not change.
    """
    return _NO_RESOURCE if resource is None else _resources_to_sdk(resource)


def resource_from_sdk(resource: Resource | None) -> ResourceInfo | None:
    """Return our record of a Resource: one object for equal ones; None for what None became."""
    return None if resource is None or resource is _NO_RESOURCE else _resources_from_sdk(resource)


def scope_to_sdk(scope: ScopeInfo | None) -> InstrumentationScope:
    """Return the SDK's InstrumentationScope: one object for equal ones, one without a name for None.

    It is cached by the identity of ``scope``, which may not change.
    """
    return _NO_SCOPE if scope is None else _scopes_to_sdk(scope)


def scope_from_sdk(scope: InstrumentationScope | None) -> ScopeInfo | None:
    """Return our record of a scope: one object for equal ones; None for what None became."""
    return None if scope is None or scope is _NO_SCOPE else _scopes_from_sdk(scope)


def _convert_resource_to_sdk(info: ResourceInfo) -> Resource:
    made = Resource({}, info.schema_url)
    # Given to the constructor, attributes are cleaned again, and what it drops is logged.
    made._attributes = bounded_attributes(
        attributes_to_sdk(info.attributes), info.dropped_attributes_count
    )
    return made


def _convert_scope_to_sdk(info: ScopeInfo) -> InstrumentationScope:
    made = InstrumentationScope(info.name, info.version or None, info.schema_url)
    made._attributes = bounded_attributes(
        attributes_to_sdk(info.attributes), info.dropped_attributes_count
    )
    return made


def _convert_resource_from_sdk(resource: Resource) -> ResourceInfo:
    return ResourceInfo(
        attributes_from_sdk(resource.attributes),
        resource.schema_url or "",
        _dropped_count(resource),
    )


def _convert_scope_from_sdk(scope: InstrumentationScope) -> ScopeInfo:
    return ScopeInfo(
        scope.name or "",
        scope.version or "",
        attributes_from_sdk(scope.attributes),
        scope.schema_url or "",
        _dropped_count(scope),
    )


def _dropped_count(owner: Any) -> int:
    if isinstance(owner, (ResourceInfo, ScopeInfo)):
        return owner.dropped_attributes_count
    return getattr(owner.attributes, "dropped", 0)


class _Conversion(Generic[S, T]):
    """A conversion that returns one object for the same source, and for sources of equal value."""

    def __init__(self, convert: Callable[[S], T], size: int = 1_024) -> None:
        self._convert = convert
        # The entry holds the source too, so that no other object can get its id.
        self._by_id: BoundedCache[int, tuple[S, T]] = BoundedCache(size)
        self._by_value: BoundedCache[str, T] = BoundedCache(size)

    def __call__(self, source: S) -> T:
        entry = self._by_id.get(id(source))
        return self._add(source) if entry is None else entry[1]

    def _add(self, source: S) -> T:
        made = self._convert(source)
        try:
            made = self._by_value.setdefault(_equality_key(made), made)
        except Exception:
            pass  # such as an integer of too many digits: then it is known by identity alone
        self._by_id[id(source)] = (source, made)
        return made


def _equality_key(owner: Any) -> str:
    # As text, in which 1, 1.0 and True differ.
    named = (getattr(owner, "name", None), getattr(owner, "version", None), owner.schema_url)
    return repr((named, dict(owner.attributes), _dropped_count(owner)))


_resources_to_sdk = _Conversion(_convert_resource_to_sdk)
_resources_from_sdk = _Conversion(_convert_resource_from_sdk)
_scopes_to_sdk = _Conversion(_convert_scope_to_sdk)
_scopes_from_sdk = _Conversion(_convert_scope_from_sdk)
