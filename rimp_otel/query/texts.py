"""Attribute values as text, as the OpenTelemetry Collector's exporters write them, and their types.

A map of the schema has text values only. What is no string is written as the Collector's
``AsString`` does: integers in decimal, doubles as in JSON, ``true`` and ``false``, bytes in base64,
arrays and maps as JSON, nothing as an empty text. Its type is noted beside it.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import msgspec

from rimp_otel.otlp.scalars import any_value
from rimp_otel.otlp.wire import AnyValue

__all__ = ["TYPES", "double_text", "text_and_type", "typed_text"]

TYPES = ("string", "int", "double", "bool", "array", "kvlist", "bytes", "empty")
"""The names of AnyValue's types, as they stand in the columns of types."""

STRING, INT, DOUBLE, BOOL, ARRAY, KVLIST, BYTES, EMPTY = range(len(TYPES))

_to_json = msgspec.json.Encoder().encode


def text_and_type(value: AnyValue | None) -> tuple[str, int]:
    """A value's text, and the index of its type in ``TYPES``."""
    if value is None:
        return "", EMPTY
    if value.string_value is not None:
        return value.string_value, STRING
    if value.int_value is not None:
        return str(value.int_value), INT
    if value.double_value is not None:
        return double_text(value.double_value), DOUBLE
    if value.bool_value is not None:
        return _bool_text(value.bool_value), BOOL
    return _container_or_bytes(value)


def typed_text(value: AnyValue | None) -> tuple[str, str]:
    """A value's text, and the name of its type."""
    text, kind = text_and_type(value)
    return text, TYPES[kind]


def _container_or_bytes(value: AnyValue) -> tuple[str, int]:
    if value.array_value is not None:
        return _json_text(value), ARRAY
    if value.kvlist_value is not None:
        return _json_text(value), KVLIST
    return (value.bytes_value or "", BYTES) if value.bytes_value is not None else ("", EMPTY)


def _json_text(value: AnyValue) -> str:
    return _to_json(_json_ready(any_value(value, list))).decode()


def _json_ready(value: Any) -> Any:
    """JSON has no NaN and no infinities, which are written as OTLP does."""
    if isinstance(value, float) and not math.isfinite(value):
        return double_text(value)
    if isinstance(value, list):
        return [_json_ready(item) for item in value]
    if isinstance(value, dict):
        return {key: _json_ready(item) for key, item in value.items()}
    return value


def _bool_text(value: Any) -> str:
    return "true" if value is True else "false" if value is False else str(value)


def double_text(value: float) -> str:
    """A double as JSON has it in ECMAScript and Go: ``2`` for 2.0, ``1e+21``, ``1e-7``."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    text = repr(value)
    if "e" not in text:
        return text.removesuffix(".0")
    if 1e-6 <= abs(value) < 1e21:
        return format(Decimal(text), "f")
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{exponent[0] if exponent[0] in '+-' else '+'}{exponent.lstrip('+-0')}"
