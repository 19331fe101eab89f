"""Helpers of all decoders: ids, enumerations, attribute values, resources and scopes.

A resource or scope is decoded once and then known by its text.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import unhexlify
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from msgspec import Raw
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import ResourceInfo, ScopeInfo
from rimp_otel.otlp import messages
from rimp_otel.otlp.messages import AnyValue, KeyValue
from rimp_otel.otlp.values import MAX_FIXED64
from rimp_otel.process import BoundedCache

__all__ = [
    "CACHE_SIZE",
    "SEVERITIES",
    "SPAN_KINDS",
    "STATUS_CODES",
    "TEMPORALITIES",
    "Cache",
    "RecordedResource",
    "RecordedScope",
    "any_value",
    "attributes_of",
    "bounded_attributes",
    "bytes_from_base64",
    "cache_value",
    "check_boolean",
    "check_uint64",
    "enum_number",
    "id_bytes",
    "id_number",
    "resource_info_of",
    "scope_info_of",
    "sdk_resource_of",
    "sdk_scope_of",
]


# Values.

_URL_SAFE = str.maketrans("-_", "+/")

MakeSequence = Callable[[Iterable[Any]], Any]
"""Makes the value of an array: ``tuple``, as in the SDK, or ``list``, as in our own records."""


def _number_names(prefix: str, names: str) -> dict[str, int]:
    return {prefix + name: number for number, name in enumerate(names.split())}


SPAN_KINDS = _number_names("SPAN_KIND_", "UNSPECIFIED INTERNAL SERVER CLIENT PRODUCER CONSUMER")
STATUS_CODES = _number_names("STATUS_CODE_", "UNSET OK ERROR")
TEMPORALITIES = _number_names("AGGREGATION_TEMPORALITY_", "UNSPECIFIED DELTA CUMULATIVE")
SEVERITIES = _number_names(
    "SEVERITY_NUMBER_",
    "UNSPECIFIED TRACE TRACE2 TRACE3 TRACE4 DEBUG DEBUG2 DEBUG3 DEBUG4 INFO INFO2 INFO3 INFO4"
    " WARN WARN2 WARN3 WARN4 ERROR ERROR2 ERROR3 ERROR4 FATAL FATAL2 FATAL3 FATAL4",
)


def attributes_of(pairs: list[KeyValue] | None, sequence: MakeSequence) -> dict[str, Any]:
    """Return attributes, or a map, as a dict; if a key is there twice, the last value counts."""
    if not pairs:
        return {}
    # Most values are strings: those are taken here, without a call.
    attributes: dict[Any, Any] = {
        pair.key: text
        if (value := pair.value) is not None and (text := value.string_value) is not None
        else any_value(value, sequence)
        for pair in pairs
    }
    if None in attributes:
        attributes[""] = attributes.pop(None)
    return attributes


def any_value(value: AnyValue | None, sequence: MakeSequence) -> Any:
    """Return the value of an attribute or a body; None if no field is set."""
    if value is None:
        return None
    if value.string_value is not None:
        return value.string_value
    if value.int_value is not None:
        return value.int_value
    if value.double_value is not None:
        return value.double_value
    if value.bool_value is not None:
        return check_boolean(value.bool_value, "boolValue")
    return _composite_value(value, sequence)


def _composite_value(value: AnyValue, sequence: MakeSequence) -> Any:
    if value.array_value is not None:
        return sequence([any_value(item, sequence) for item in value.array_value.values or ()])
    if value.kvlist_value is not None:
        return attributes_of(value.kvlist_value.values, sequence)
    return None if value.bytes_value is None else bytes_from_base64(value.bytes_value)


def id_number(text: str | None, size: int, field: str) -> int:
    """Return an id of ``size`` bytes as a number; 0 if there is none."""
    if not text:
        return 0
    if len(text) == 2 * size:
        try:
            return int.from_bytes(unhexlify(text), "big")
        except ValueError:
            pass  # for id_bytes to refuse
    return int.from_bytes(id_bytes(text, size, field), "big")


def id_bytes(text: str, size: int, field: str) -> bytes:
    """Return an id from hex digits or, as protobuf's own JSON has it, from base64.

    The two differ in length, so that neither is ever taken for the other.

    Raises:
        DecodeError: the text is neither.
    """
    try:
        decoded = unhexlify(text) if len(text) == 2 * size else _decode_base64(text)
    except ValueError:
        decoded = b""
    if len(decoded) == size and (len(text) == 2 * size or _is_canonical(text, decoded)):
        return decoded
    raise _field_error(field, text, f"neither {2 * size} hex digits nor base64 of {size} bytes")


def bytes_from_base64(text: str) -> bytes:
    """Return the bytes of a ``bytesValue``: base64, standard or URL-safe, padded or not."""
    try:
        return _decode_base64(text)
    except ValueError:
        raise _field_error("bytesValue", text, "not base64") from None


def _decode_base64(text: str) -> bytes:
    digits = text.rstrip("=").translate(_URL_SAFE)
    padded = digits + "=" * (-len(digits) % 4)
    if len(text) not in (len(digits), len(padded)):
        raise ValueError("wrong padding")
    return b64decode(padded, validate=True)


def _is_canonical(text: str, decoded: bytes) -> bool:
    # The last digit has spare bits: of the texts that stand for the same bytes, one is canonical.
    digits = text.rstrip("=").translate(_URL_SAFE)
    return b64encode(decoded).decode().rstrip("=") == digits


def enum_number(value: int | str | None, names: Mapping[str, int], field: str) -> int:
    """Return the number of an enumeration's value, which may be given by name; 0 if there is none."""
    if not isinstance(value, str):
        return value or 0
    number = names.get(value)
    if number is None:
        raise _field_error(field, value, "not a name that OTLP defines")
    return number


def check_boolean(value: Any, field: str) -> bool:
    """Return the value if it is true or false.

    Raises:
        DecodeError: it is neither.
    """
    if value is True or value is False:
        return value
    raise _field_error(field, value, "not true or false")


def check_uint64(value: int | None, field: str) -> int:
    """Return the value if it fits into 64 bits; 0 for None. msgspec has checked that it is >= 0.

    Raises:
        DecodeError: it is larger.
    """
    if value is None:
        return 0
    if value > MAX_FIXED64:
        raise _field_error(field, value, "larger than 64 bits")
    return value


def _field_error(field: str, value: object, what: str) -> DecodeError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else f"{shown[:80]}..."
    return DecodeError(f"{field}={shown} is {what}")


# Resources and scopes, as the SDK's types and as our own.


class RecordedResource(Resource):
    """A resource that lost attributes before it was recorded."""

    dropped_attributes_count: int = 0


class RecordedScope(InstrumentationScope):
    """A scope that lost attributes before it was recorded."""

    dropped_attributes_count: int = 0


T = TypeVar("T")
Cache = BoundedCache[tuple[bytes, str], T]
"""Objects by their JSON text and schema URL."""

CACHE_SIZE = 1_024
_MAX_KEY_SIZE = 16_384
# The public constructor checks each value again, and logs and drops what other languages allow.
# It is the way that is left if an SDK should keep its values elsewhere.
_SETS_ATTRIBUTES = isinstance(getattr(BoundedAttributes(), "_dict", None), dict)

_resources: Cache[Resource] = BoundedCache(CACHE_SIZE)
_scopes: Cache[InstrumentationScope] = BoundedCache(CACHE_SIZE)
_resource_infos: Cache[ResourceInfo] = BoundedCache(CACHE_SIZE)
_scope_infos: Cache[ScopeInfo] = BoundedCache(CACHE_SIZE)


def sdk_resource_of(raw: Raw, schema_url: str) -> Resource:
    """Return a resource as the SDK's Resource."""
    return _look_up(_resources, raw, schema_url, _make_resource)


def sdk_scope_of(raw: Raw, schema_url: str) -> InstrumentationScope:
    """Return a scope as the SDK's InstrumentationScope."""
    return _look_up(_scopes, raw, schema_url, _make_scope)


def resource_info_of(raw: Raw, schema_url: str) -> ResourceInfo:
    """Return a resource as our own ResourceInfo."""
    return _look_up(_resource_infos, raw, schema_url, _make_resource_info)


def scope_info_of(raw: Raw, schema_url: str) -> ScopeInfo:
    """Return a scope as our own ScopeInfo."""
    return _look_up(_scope_infos, raw, schema_url, _make_scope_info)


def bounded_attributes(attributes: dict[str, Any], dropped: int | None) -> BoundedAttributes:
    """Return the SDK's form of attributes, which takes over the dict.

    Args:
        attributes: values as the SDK has them, with tuples for arrays.
        dropped: how many attributes were lost before.
    """
    if _SETS_ATTRIBUTES:
        made = BoundedAttributes()
        made._dict = attributes
    else:
        made = BoundedAttributes(attributes=attributes)
    if dropped:
        made.dropped = dropped
    return made


def cache_value(cache: Cache[T], key: tuple[bytes, str], value: T) -> T:
    """Add a value to a cache, unless its key is long; return another thread's that came first."""
    return value if len(key[0]) > _MAX_KEY_SIZE else cache.setdefault(key, value)


def _look_up(cache: Cache[T], raw: Raw, schema_url: str, make: Callable[[Raw, str], T]) -> T:
    key = bytes(raw), schema_url
    known = cache.get(key)
    return cache_value(cache, key, make(raw, schema_url)) if known is None else known


def _make_resource(raw: Raw, schema_url: str) -> Resource:
    message = messages.decode_resource(raw)
    dropped = message.dropped_attributes_count or 0
    resource = RecordedResource({}, schema_url) if dropped else Resource({}, schema_url)
    if isinstance(resource, RecordedResource):
        resource.dropped_attributes_count = dropped
    resource._attributes = bounded_attributes(attributes_of(message.attributes, tuple), dropped)
    return resource


def _make_scope(raw: Raw, schema_url: str) -> InstrumentationScope:
    message = messages.decode_scope(raw)
    dropped = message.dropped_attributes_count or 0
    make = RecordedScope if dropped else InstrumentationScope
    scope = make(message.name or "", message.version or None, schema_url)
    if isinstance(scope, RecordedScope):
        scope.dropped_attributes_count = dropped
    scope._attributes = bounded_attributes(attributes_of(message.attributes, tuple), dropped)
    return scope


def _make_resource_info(raw: Raw, schema_url: str) -> ResourceInfo:
    message = messages.decode_resource(raw)
    attributes = attributes_of(message.attributes, list)
    return ResourceInfo(attributes, schema_url, message.dropped_attributes_count or 0)


def _make_scope_info(raw: Raw, schema_url: str) -> ScopeInfo:
    message = messages.decode_scope(raw)
    return ScopeInfo(
        message.name or "",
        message.version or "",
        attributes_of(message.attributes, list),
        schema_url,
        message.dropped_attributes_count or 0,
    )
