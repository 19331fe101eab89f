"""Random OTLP messages of the official types, and damage to them on the wire and in JSON.

Seeded, and much faster than Hypothesis, so that thousands of mutations fit into a test.
"""

from __future__ import annotations

import json
import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

__all__ = ["damage", "fill_at_random", "twisted_json"]

_ID_SIZES = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
_TEXTS = ("", "a", "é\u2028", '\x00\x1f"\\', "x" * 130, "GET", 'Value":"x"', "snake_case")
_DOUBLES = (0.0, -0.0, 1.5, 1e300, float("nan"), float("inf"), 1e-7, 123456.0)
_RANGES = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_ENUM: (0, 2),
}


def fill_at_random(chance: random.Random, message: Any, depth: int = 3) -> None:
    """Set some fields of an official message, nearly all ids to valid ones.

    Args:
        chance: the source of choices.
        message: to be filled.
        depth: how deep it lies; deeper than 9 is nothing.
    """
    for field in message.DESCRIPTOR.fields:
        target = getattr(message, field.name)
        is_list = hasattr(target, "extend")
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if depth >= 3 and (chance.random() < 0.6 or depth > 9):
                continue
            for _ in range(chance.choice((1, 1, 2)) if is_list else 1):
                nested = target.add() if is_list else target
                nested.SetInParent()
                fill_at_random(chance, nested, depth + 1)
        elif field.name in _ID_SIZES:
            setattr(message, field.name, _id(chance, _ID_SIZES[field.name]))
        elif chance.random() < 0.6:
            if is_list:
                target.extend(
                    [_scalar(chance, field.type) for _ in range(chance.choice((0, 1, 3)))]
                )
            else:
                setattr(message, field.name, _scalar(chance, field.type))


def _id(chance: random.Random, size: int) -> bytes:
    if chance.random() < 0.95:
        return chance.randbytes(size)
    return chance.choice((b"", b"short", bytes(size), b"\1" * 16))


def _scalar(chance: random.Random, kind: int) -> Any:
    if kind == FieldDescriptor.TYPE_STRING:
        return chance.choice(_TEXTS)
    if kind == FieldDescriptor.TYPE_BYTES:
        return chance.randbytes(chance.choice((0, 3, 200)))
    if kind == FieldDescriptor.TYPE_BOOL:
        return chance.random() < 0.5
    if kind == FieldDescriptor.TYPE_DOUBLE:
        return chance.choice(_DOUBLES)
    low, high = _RANGES[kind]  # type: ignore[index]
    return chance.choice((low, high, 0, 1, chance.randint(low, high)))


def damage(chance: random.Random, data: bytes) -> bytes:
    """Return bytes with none to four of them changed, removed, added or repeated."""
    made = bytearray(data)
    for _ in range(chance.choice((0, 1, 1, 2, 4))):
        if not made:
            break
        kind, at = chance.random(), chance.randrange(len(made))
        if kind < 0.4:
            made[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 0x0A, 0x12, chance.randrange(256)))
        elif kind < 0.6:
            del made[at : at + chance.choice((1, 2, 8))]
        elif kind < 0.8:
            made[at:at] = chance.randbytes(chance.choice((1, 2, 8)))
        else:
            start = chance.randrange(len(made))
            made[at:at] = made[start : start + chance.choice((3, 10, 30))]
    return bytes(made)


_KEYS = ("stringValue", "intValue", "boolValue", "name", "kind", "value", "traceId", "arrayValue")


def twisted_json(chance: random.Random, message: Any) -> bytes:
    """Return a decoded JSON message as text: other orders, spaces, types, unknown fields, damage."""
    share = chance.choice((0, 0.01, 0.05))
    text = json.dumps(
        _twisted(chance, message, share),
        ensure_ascii=chance.random() < 0.5,
        separators=chance.choice(((",", ":"), (", ", ": "))),
    ).encode("utf-8", "surrogatepass")
    return damage(chance, text) if chance.random() < 0.1 else text


def _twisted(chance: random.Random, value: Any, share: float) -> Any:
    if isinstance(value, dict):
        return _twisted_object(chance, value, share)
    if isinstance(value, list):
        return [_twisted(chance, item, share) for item in value]
    return value if chance.random() > 3 * share else _twisted_scalar(chance, value)


def _twisted_object(chance: random.Random, value: dict[str, Any], share: float) -> dict[str, Any]:
    items = [(key, _twisted(chance, item, share)) for key, item in value.items()]
    if chance.random() < share:
        chance.shuffle(items)
    made = dict(items)
    if chance.random() < share:
        made["unknownField"] = {"a": [1, {"stringValue": "x"}]}
    if chance.random() < share:
        made[chance.choice(_KEYS)] = chance.choice(
            (None, "x", 1, True, {}, [], "5", {"values": [{"intValue": 3}]})
        )
    if made and chance.random() < share:
        made[chance.choice(list(made))] = None
    if made and chance.random() < share / 2:
        del made[chance.choice(list(made))]
    return made


def _twisted_scalar(chance: random.Random, value: Any) -> Any:
    if isinstance(value, str):
        if value.lstrip("-").isdecimal() and len(value) < 25:
            return chance.choice((int(value), f"0{value}", f"{value}.0", float(value), f"+{value}"))
        return chance.choice((value.upper(), f"{value}0", value[1:], "", "\ud800", "é\\", 5))
    if isinstance(value, bool):
        return chance.choice((int(value), str(value).lower()))
    if isinstance(value, int):
        return chance.choice((str(value), float(value), -value, value + 2**33))
    return chance.choice((str(value), "NaN", 0))
