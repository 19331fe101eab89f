"""Attribute values: lists in our records, tuples in the SDK's, otherwise the same.

Values of OpenTelemetry's types stay what they are: nothing is cut off, dropped or logged. A value
of any other type would cost an exporter its whole batch, so it becomes its text; a container
that cannot be read, such as one that holds itself, a marker.
"""

from __future__ import annotations

import json
import numbers
from base64 import b64encode
from collections.abc import Mapping, Sequence, Set
from typing import Any

import msgspec

__all__ = [
    "attributes_from_sdk",
    "attributes_to_sdk",
    "body_text",
    "value_from_sdk",
    "value_to_sdk",
]

_SCALARS = frozenset({str, bool, int, float, bytes, type(None)})


def attributes_from_sdk(attributes: Mapping[Any, Any] | None) -> dict[str, Any]:
    """A copy in dicts and lists; empty for None. Never raises."""
    return _attributes(attributes, list)


def attributes_to_sdk(attributes: Mapping[Any, Any] | None) -> dict[str, Any]:
    """A copy in dicts and tuples; empty for None. Never raises."""
    return _attributes(attributes, tuple)


def value_from_sdk(value: Any) -> Any:
    """A copy in dicts and lists. Never raises."""
    return _copied(value, list)


def value_to_sdk(value: Any) -> Any:
    """A copy in dicts and tuples. Never raises."""
    return _copied(value, tuple)


def body_text(body: Any) -> str:
    """An event's message where ``body`` is its OTLP body: the text itself, empty for None, else
    compact JSON, with bytes as base64 and null for NaN. Never raises."""
    if isinstance(body, str):
        return body
    if body is None:
        return ""
    plain = value_from_sdk(body)
    try:
        return msgspec.json.encode(plain).decode()
    except Exception:
        return _lenient_json(plain)


def _lenient_json(plain: Any) -> str:
    """For what msgspec refuses: lone surrogates, integers outside 64 bits."""
    try:
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), default=_base64)
    except Exception as error:
        return _unreadable(plain, error)


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


def _attributes(attributes: Mapping[Any, Any] | None, sequence: type) -> dict[str, Any]:
    if attributes is None:
        return {}
    try:
        # A list first: the application may add to its dict while it is read here.
        items = list(attributes.items())
    except Exception as error:
        return {"rimp.repaired": _unreadable(attributes, error)}
    return {
        key if type(key) is str else _text(key): (
            value if type(value) in _SCALARS else _copied(value, sequence)
        )
        for key, value in items
    }


def _copied(value: Any, sequence: type) -> Any:
    try:
        return _copy(value, sequence)
    except Exception as error:
        return _unreadable(value, error)


def _copy(value: Any, sequence: type) -> Any:
    if type(value) in _SCALARS or isinstance(value, (str, int, float, bytes)):
        return value
    if isinstance(value, Mapping):
        return {
            key if type(key) is str else _text(key): _copy(item, sequence)
            for key, item in list(value.items())
        }
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, (Sequence, Set)):
        return sequence([_copy(item, sequence) for item in value])
    if isinstance(value, numbers.Real):  # numpy's, for example
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return _text(value)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:
        return _unreadable(value, error)


def _unreadable(value: object, error: Exception) -> str:
    return f"<a {type(value).__name__} that cannot be read: {type(error).__name__}>"
