"""Attribute values: lists in our records, tuples in the SDK's, otherwise the same.

Values of OpenTelemetry's types stay what they are. A value of any other type would cost an exporter
its whole batch, so it is repaired, as ``rimp_otel.otlp.values`` says.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from rimp_otel.otlp.values import plain

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
    return _attributes(attributes, value_from_sdk)


def attributes_to_sdk(attributes: Mapping[Any, Any] | None) -> dict[str, Any]:
    """A copy in dicts and tuples; empty for None. Never raises."""
    return _attributes(attributes, value_to_sdk)


def value_from_sdk(value: Any) -> Any:
    """A copy in dicts and lists, repaired like a value that is encoded. Never raises."""
    return value if type(value) in _SCALARS else plain(value)


def value_to_sdk(value: Any) -> Any:
    """A copy in dicts and tuples, likewise. Never raises."""
    return _with_tuples(value_from_sdk(value))


def body_text(body: Any) -> str:
    """An event's message where ``body`` is its OTLP body: the text itself, empty for None, else
    compact JSON, with bytes as base64 and null for NaN. Never raises."""
    if isinstance(body, str):
        return body
    if body is None:
        return ""
    copied = value_from_sdk(body)
    try:
        return msgspec.json.encode(copied).decode()
    except Exception:
        return _lenient_json(copied)


def _lenient_json(copied: Any) -> str:
    """For what msgspec refuses: lone surrogates, integers outside 64 bits."""
    try:
        return json.dumps(copied, ensure_ascii=False, separators=(",", ":"), default=_base64)
    except Exception as error:
        return _unreadable(copied, error)


def _base64(value: bytes) -> str:
    return b64encode(value).decode()


def _attributes(
    attributes: Mapping[Any, Any] | None, convert: Callable[[Any], Any]
) -> dict[str, Any]:
    if attributes is None:
        return {}
    try:
        # A list first: the application may add to its dict while it is read here.
        items = list(attributes.items())
    except Exception as error:
        return {"rimp.repaired": _unreadable(attributes, error)}
    return {key if type(key) is str else str(plain(key)): convert(value) for key, value in items}


def _with_tuples(plain_value: Any) -> Any:
    if type(plain_value) is list:
        return tuple([_with_tuples(item) for item in plain_value])
    if type(plain_value) is dict:
        return {key: _with_tuples(item) for key, item in plain_value.items()}
    return plain_value


def _unreadable(value: object, error: Exception) -> str:
    return f"<a {type(value).__name__} that cannot be read: {type(error).__name__}>"
