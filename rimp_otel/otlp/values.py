"""Attribute values and numbers as OTLP JSON, repaired where OTLP cannot hold them.

The repairs, each of which costs only the value itself:

- an integer outside 64 bits becomes its decimal string (hexadecimal past 4,000 digits);
- a lone surrogate becomes U+FFFD, when the finished text is turned into bytes;
- a set or other iterable collection becomes an array, any other object its ``str()``;
- a container that holds itself, or lies deeper than ``MAX_DEPTH``, or comes after
  ``MAX_VALUES`` others in one attribute, becomes a marker such as ``<cycle>``;
- a number outside the range of its field becomes the nearest one in it.
"""

from __future__ import annotations

import numbers
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Set
from json.encoder import encode_basestring as quote
from typing import Any

from rimp_otel.process import BoundedCache

__all__ = [
    "INT64_MAX",
    "INT64_MIN",
    "MAX_DEPTH",
    "MAX_FIXED64",
    "MAX_VALUES",
    "attributes_json",
    "double_json",
    "plain_value",
    "quote",
    "read_back_value",
    "span_id_json",
    "text_json",
    "to_bytes",
    "to_enum",
    "to_fixed64",
    "to_sint32",
    "to_uint32",
    "trace_id_json",
    "unreadable_marker",
    "value_json",
]


MAX_DEPTH = 30
"""The most nested containers in one value. Protobuf's parsers stop at 100 nested messages: three
for each map, and up to nine around the value."""

MAX_VALUES = 10_000
"""The most values in one nested attribute or body."""

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
MAX_FIXED64 = 2**64 - 1
_SURROGATES = "[\ud800-\udfff]"
_SCALARS = frozenset({str, bool, int, float, bytes, type(None)})

_prefixes: BoundedCache[str, str] = BoundedCache(4_096)
_prefix_by_key = _prefixes.entries


def attributes_json(attributes: Mapping[Any, Any] | None) -> str:
    """Return the KeyValues of ``attributes``, joined by commas, without brackets. Never raises."""
    try:
        if not attributes:
            return ""
        # All in one function, since a call for each pair is a quarter of the time.
        prefixes = _prefix_by_key
        pairs: list[str] = []
        add = pairs.append
        for key, value in attributes.items():
            kind = type(value)
            if kind is str:
                add(f'{prefixes[key]}{{"stringValue":{quote(value)}}}}}')
            elif kind is int and INT64_MIN <= value <= INT64_MAX:
                add(f'{prefixes[key]}{{"intValue":"{value}"}}}}')
            elif kind is bool:
                add(f'{prefixes[key]}{{"boolValue":{"true" if value else "false"}}}}}')
            elif kind is float and value - value == 0.0:
                add(f'{prefixes[key]}{{"doubleValue":{value!r}}}}}')
            else:
                add(f"{prefixes[key]}{value_json(value)}}}")
        return ",".join(pairs)
    except Exception:  # most likely a key that is met for the first time
        return _attributes_safely(attributes)


def _attributes_safely(attributes: Any) -> str:
    """Encode a mapping with new keys, that another thread changes, or that cannot be read."""
    try:
        return ",".join([_encode_pair(key, value) for key, value in list(attributes.items())])
    except Exception as error:
        return _encode_pair(
            "rimp.repaired", f"<attributes that cannot be read: {_type_name(error)}>"
        )


def value_json(value: Any) -> str:
    """Return the AnyValue of ``value``: an object with one key, or none for None. Never raises."""
    encode = _ENCODERS.get(type(value))
    return _encode_plain(plain_value(value)) if encode is None else encode(value)


def text_json(text: Any) -> str:
    """Return a name or other text as a JSON string; empty for None. Never raises."""
    if type(text) is str:
        return quote(text)
    return quote("" if text is None else _to_text(text))


def plain_value(value: Any) -> Any:
    """Return a copy of ``value`` made of str, bool, int, float, bytes, None, list and dict alone.

    It is repaired as this module says, except for surrogates. Never raises.
    """
    return value if type(value) in _SCALARS else _Copier().copy(value)


def read_back_value(plain_value: Any) -> Any:
    """Return a plain value as a reader of its OTLP JSON gets it, with tuples for lists."""
    if type(plain_value) is str:
        return to_bytes(plain_value).decode()
    if type(plain_value) is int:
        return plain_value if INT64_MIN <= plain_value <= INT64_MAX else _int_digits(plain_value)
    if type(plain_value) is dict:
        return {read_back_value(key): read_back_value(item) for key, item in plain_value.items()}
    return tuple(map(read_back_value, plain_value)) if type(plain_value) is list else plain_value


def to_bytes(text: str) -> bytes:
    """Encode as UTF-8, a lone surrogate as U+FFFD, a surrogate pair as its character."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        merged = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return re.sub(_SURROGATES, "\ufffd", merged).encode()


def _encode_pair(key: Any, value: Any) -> str:
    prefix = _prefixes.get(key) or _make_prefix(key)
    return f"{prefix}{value_json(value)}}}"


def _make_prefix(key: Any) -> str:
    name = key if type(key) is str else _to_text(key)
    prefix = f'{{"key":{quote(name)},"value":'
    if type(key) is str and len(key) < 256:
        _prefixes[key] = prefix
    return prefix


def _encode_str(value: str) -> str:
    return f'{{"stringValue":{quote(value)}}}'


def _encode_bool(value: bool) -> str:
    return '{"boolValue":true}' if value else '{"boolValue":false}'


def _encode_int(value: int) -> str:
    if INT64_MIN <= value <= INT64_MAX:
        return f'{{"intValue":"{value}"}}'
    return f'{{"stringValue":"{_int_digits(value)}"}}'


def _int_digits(value: int) -> str:
    # CPython refuses decimal digits past a limit of 4,300, against denial of service.
    return str(value) if value.bit_length() < 13_000 else hex(value)


def double_json(value: float) -> str:
    """Return a JSON number, or protobuf's string for NaN and the infinities."""
    if value - value == 0.0:  # false for NaN and the infinities
        return repr(value)
    return '"NaN"' if value != value else '"Infinity"' if value > 0 else '"-Infinity"'


def _encode_float(value: float) -> str:
    return f'{{"doubleValue":{double_json(value)}}}'


def _encode_bytes(value: bytes) -> str:
    return f'{{"bytesValue":"{b64encode(value).decode()}"}}'


def _encode_none(_: None) -> str:
    return "{}"


def _encode_sequence(value: Any) -> str:
    for item in value:
        if type(item) not in _SCALARS:
            return _encode_plain(plain_value(value))
    return _encode_plain(value)


def _encode_map(value: Any) -> str:
    return _encode_plain(plain_value(value))


def _encode_plain(value: Any) -> str:
    """Encode a plain value, in which no depth, cycle or odd type is left to look for."""
    kind = type(value)
    if kind is list or kind is tuple:
        return f'{{"arrayValue":{{"values":[{",".join([_encode_plain(v) for v in value])}]}}}}'
    if kind is dict:
        pairs = [f'{{"key":{quote(k)},"value":{_encode_plain(v)}}}' for k, v in value.items()]
        return f'{{"kvlistValue":{{"values":[{",".join(pairs)}]}}}}'
    text: str = _ENCODERS[kind](value)
    return text


_ENCODERS: dict[type, Any] = {
    str: _encode_str,
    bool: _encode_bool,
    int: _encode_int,
    float: _encode_float,
    bytes: _encode_bytes,
    type(None): _encode_none,
    tuple: _encode_sequence,
    list: _encode_sequence,
    dict: _encode_map,
}


class _Copier:
    """Makes one plain copy; keeps the containers it is inside of, and how many values are left."""

    def __init__(self) -> None:
        self._inside: list[int] = []
        self._left = MAX_VALUES

    def copy(self, value: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            return "<too many values>"
        if type(value) in _SCALARS:
            return value
        try:
            scalar = _as_scalar(value)
            return self._copy_container(value) if scalar is None else scalar
        except Exception as error:
            return unreadable_marker(value, error)

    def _copy_container(self, value: Any) -> Any:
        is_collection = isinstance(value, (Mapping, Set, Iterable))
        if not is_collection or _is_stream(value) or _is_like_text(value):
            return _to_text(value)
        if id(value) in self._inside:
            return "<cycle>"
        if len(self._inside) >= MAX_DEPTH:
            return "<too deep>"
        self._inside.append(id(value))
        try:
            return self._copy_items(value)
        finally:
            self._inside.pop()

    def _copy_items(self, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return self._copy_sequence(value)
        copied: dict[str, Any] = {}
        for key, item in list(value.items()):
            if self._left <= 0:
                copied["rimp.repaired"] = "<too many values>"
                break
            copied[key if type(key) is str else _to_text(key)] = self.copy(item)
        return copied

    def _copy_sequence(self, value: Any) -> list[Any]:
        copied = []
        for item in value:
            copied.append(self.copy(item))
            if self._left < 0:
                break
        return copied


def _as_scalar(value: Any) -> Any:
    """Return ``value`` as the scalar type that it is a subclass or kind of; else None."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    return bytes(value) if isinstance(value, (bytes, bytearray, memoryview)) else None


def _is_stream(value: object) -> bool:
    """Return True if iterating would use ``value`` up, or might never end."""
    return hasattr(value, "__next__") or not hasattr(value, "__len__")


def _is_like_text(value: object) -> bool:
    """Return True for UserString and lazy translations of web frameworks: their items are characters."""
    return hasattr(value, "casefold")


def _to_text(value: object) -> str:
    if isinstance(value, str):
        return str.__str__(value)  # of a member of an enumeration, str() would be its name
    try:
        return str.__str__(str(value))
    except Exception as error:
        return unreadable_marker(value, error)


def unreadable_marker(value: object, error: Exception) -> str:
    """Return the text that stands for a value that cannot be read."""
    return f"<a {_type_name(value)} that cannot be read: {_type_name(error)}>"


def _type_name(value: object) -> str:
    return type(value).__name__


# Numbers, clamped to the range of their field. Anything that is not a number becomes 0.

_TRACE_ID_MAX = 2**128 - 1


def to_fixed64(value: Any) -> int:
    """Clamp to an unsigned 64-bit integer."""
    if type(value) is int and 0 <= value <= MAX_FIXED64:
        return value
    return _clamp(value, MAX_FIXED64)


def to_uint32(value: Any) -> int:
    """Clamp to an unsigned 32-bit integer."""
    return _clamp(value, 2**32 - 1)


def to_enum(value: Any) -> int:
    """Clamp to the numbers of an enumeration, 0 to 2**31 - 1."""
    return _clamp(value, 2**31 - 1)


def to_sint32(value: Any) -> int:
    """Clamp to a signed 32-bit integer."""
    return _clamp(value, 2**31 - 1, -(2**31))


def trace_id_json(trace_id: Any) -> str:
    """Return the 32 hex digits of a trace id."""
    if type(trace_id) is int and 0 <= trace_id <= _TRACE_ID_MAX:
        return f"{trace_id:032x}"
    return f"{_clamp(trace_id, _TRACE_ID_MAX):032x}"


def span_id_json(span_id: Any) -> str:
    """Return the 16 hex digits of a span id."""
    return f"{to_fixed64(span_id):016x}"


def _clamp(value: Any, most: int, least: int = 0) -> int:
    try:
        return min(max(int(value), least), most)
    except (TypeError, ValueError, OverflowError):
        return 0
