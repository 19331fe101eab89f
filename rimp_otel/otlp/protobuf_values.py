"""Attributes and values from protobuf's binary form to the text of OTLP JSON, without a message in between.

Parts of ``protobuf_records`` and ``protobuf_points``. What they raise (one of ``NOT_USUAL``) makes the
record one that is read carefully instead.
"""

from __future__ import annotations

from json.encoder import encode_basestring as quote
from struct import Struct
from struct import error as StructError

import msgspec

from rimp_otel.otlp import messages
from rimp_otel.otlp.protobuf_reader import read_message, read_varint
from rimp_otel.otlp.refusals import FieldError
from rimp_otel.otlp.values import double_json
from rimp_otel.process import BoundedCache

__all__ = [
    "FIXED_64",
    "MOST_BYTES",
    "NOT_USUAL",
    "body_text",
    "check_uint32",
    "double_text",
    "kept_pair",
    "new_pair",
    "pairs_text",
    "text_field",
]

NOT_USUAL = (IndexError, StructError, UnicodeDecodeError, FieldError)
"""What is raised by a record that is not as usual."""

MOST_BYTES = 256
"""Texts of longer ones are not kept."""

FIXED_64 = Struct("<Q")
_DOUBLE = Struct("<d")
_encode = msgspec.json.Encoder().encode

# Texts that stand for the same bytes again and again.
_pairs: BoundedCache[bytes, str] = BoundedCache(8_192)
_prefixes: BoundedCache[bytes, str] = BoundedCache(4_096)
_prefix_of = _prefixes.entries

kept_pair = _pairs.get
"""Returns the text of an attribute that was met before, or None."""

# How many values of a key were kept. Of an id or a path, hardly one comes again: past this, none is
# kept any more, and what does come again stays.
_MOST_VALUES = 1_000
_key_counts: BoundedCache[bytes, int] = BoundedCache(4_096)
_values_of_key = _key_counts.entries

_DEEP = 60
"""A depth at which no record lies: what can be read there, can be read at any place."""


def text_field(data: bytes, position: int) -> tuple[str, int]:
    """Return the JSON string of a text whose tag is at a position, and where it ends."""
    size = data[position + 1]
    start = position + 2
    if size > 0x7F:
        size, start = read_varint(data, position + 1)
    stop = start + size
    return quote(data[start:stop].decode()), stop


def pairs_text(data: bytes, position: int, end: int, depth: int) -> tuple[str, int]:
    """Return the attributes whose first one is at a position, and where the last one ends."""
    tag = data[position]
    pairs = []
    while data[position] == tag and position < end:
        size = data[position + 1]
        start = position + 2
        if size > 0x7F:
            size, start = read_varint(data, position + 1)
        position = start + size
        raw = data[start:position]
        pairs.append(kept_pair(raw) or new_pair(raw, depth))
    return ",".join(pairs), position


def new_pair(raw: bytes, depth: int) -> str:
    """Return the text of an attribute that is not kept from before."""
    try:
        # The most frequent ones without further calls: keys that are known, and short values.
        size = raw[1]
        stop = size + 2
        key = raw[2:stop]
        prefix = _prefix_of[key]
        start = stop + 4
        left = len(raw) - start
        text = None
        if raw[0] == 0x0A and raw[stop] == 0x12 and raw[stop + 1] == left + 2 < 0x80:
            tag = raw[stop + 2]
            if tag == 0x0A and raw[stop + 3] == left:
                text = f'{prefix}{{"stringValue":{quote(raw[start:].decode())}}}}}'
            elif tag == 0x21 and left == 7:
                text = f'{prefix}{{"doubleValue":{double_text(raw, stop + 3)}}}}}'
        if text is None:
            text = _scalar_pair(raw)
    except (KeyError, IndexError):
        key, text = b"", _scalar_pair(raw)
    if text is None:
        try:
            text = _encode(read_message(messages.KeyValue, raw, _DEEP)).decode()
        except FieldError:
            # Not kept: what can be read here may lie too deep elsewhere.
            return _encode(read_message(messages.KeyValue, raw, depth)).decode()
    if _values_of_key.get(key, 0) < _MOST_VALUES and len(raw) <= MOST_BYTES:
        _keep_pair(key, raw, text)
    return text


def _keep_pair(key: bytes, raw: bytes, text: str) -> None:
    if len(_pairs) >= _pairs.size:
        _key_counts.clear()
    _key_counts[key] = _values_of_key.get(key, 0) + 1
    _pairs[raw] = text


def _scalar_pair(raw: bytes) -> str | None:
    """Return the text of an attribute with a key and a scalar value; None for any other."""
    try:
        if raw[0] != 0x0A:
            return None
        size, start = read_varint(raw, 1)
        stop = start + size
        if raw[stop] != 0x12:
            return None
        key = raw[start:stop]
        prefix = _prefix_of.get(key) or _new_prefix(key)
        size, start = read_varint(raw, stop + 1)
        if start + size != len(raw):
            return None
        value = _scalar_text(raw, start, len(raw))
        return None if value is None else f"{prefix}{value}}}"
    except NOT_USUAL:
        return None


def _new_prefix(key: bytes) -> str:
    name = quote(key.decode())
    prefix = f'{{"key":{name},"value":' if key else '{"value":'
    if len(key) <= MOST_BYTES:
        _prefixes[key] = prefix
    return prefix


def body_text(data: bytes, start: int, stop: int) -> str:
    """Return the text of the body of a log record, which is any value."""
    if start == stop:
        return "{}"
    if data[start] == 0x0A and data[start + 1] == stop - start - 2 < 0x80:
        return f'{{"stringValue":{quote(data[start + 2 : stop].decode())}}}'
    text = _scalar_text(data, start, stop)
    if text is None:
        text = _encode(read_message(messages.AnyValue, data[start:stop], 4)).decode()
    return text


def _scalar_text(data: bytes, start: int, stop: int) -> str | None:
    """Return the text of an AnyValue that is one scalar value; None for any other."""
    tag = data[start]
    if tag == 0x0A:
        size = data[start + 1]
        start += 2
        if size > 0x7F:
            size, start = read_varint(data, start - 1)
        if start + size != stop:
            return None
        return f'{{"stringValue":{quote(data[start:stop].decode())}}}'
    if tag == 0x18:
        number, start = read_varint(data, start + 1)
        if start != stop:
            return None
        return f'{{"intValue":"{number if number < 2**63 else number - 2**64}"}}'
    if tag == 0x10 and start + 2 == stop and data[start + 1] < 2:
        return '{"boolValue":true}' if data[start + 1] else '{"boolValue":false}'
    if tag == 0x21 and start + 9 == stop:
        return f'{{"doubleValue":{double_text(data, start + 1)}}}'
    return None


def double_text(data: bytes, position: int) -> str:
    """Return the text of the double at a position."""
    (number,) = _DOUBLE.unpack_from(data, position)
    if number - number == 0.0:
        return _encode(number).decode()
    return double_json(number)


def check_uint32(number: int) -> int:
    """Return a number if it has no more than 32 bits; protobuf's own parser would cut it."""
    if number > 0xFFFF_FFFF:
        raise FieldError("of more than 32 bits")
    return number
