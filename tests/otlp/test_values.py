"""Attribute values and numbers, and their repairs."""

from __future__ import annotations

import json
import math
from collections import OrderedDict, UserDict, UserString, deque
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.values import (
    MAX_DEPTH,
    MAX_VALUES,
    attributes_json,
    double_json,
    plain_value,
    span_id_json,
    text_json,
    to_bytes,
    to_enum,
    to_fixed64,
    to_sint32,
    to_uint32,
    trace_id_json,
    value_json,
)
from tests.otlp import strategies


class Unreadable:
    """An object that is neither a value nor text."""

    def __str__(self) -> str:
        raise ValueError("no")


class Level(IntEnum):
    """An integer with a name."""

    HIGH = 3


class Colour(str, Enum):
    """A string with a name."""

    RED = "red"


def shown(value: Any) -> Any:
    """Return the value's JSON, parsed."""
    return json.loads(to_bytes(value_json(value)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", {"stringValue": "text"}),
        ("", {"stringValue": ""}),
        (True, {"boolValue": True}),
        (False, {"boolValue": False}),
        (0, {"intValue": "0"}),
        (-(2**63), {"intValue": "-9223372036854775808"}),
        (2**63 - 1, {"intValue": "9223372036854775807"}),
        (1.5, {"doubleValue": 1.5}),
        (1e22, {"doubleValue": 1e22}),
        (math.inf, {"doubleValue": "Infinity"}),
        (-math.inf, {"doubleValue": "-Infinity"}),
        (math.nan, {"doubleValue": "NaN"}),
        (b"\0\xff", {"bytesValue": "AP8="}),
        (None, {}),
        ([], {"arrayValue": {"values": []}}),
        ((1, "a"), {"arrayValue": {"values": [{"intValue": "1"}, {"stringValue": "a"}]}}),
        ({}, {"kvlistValue": {"values": []}}),
        ({"k": None}, {"kvlistValue": {"values": [{"key": "k", "value": {}}]}}),
    ],
)
def test_each_type_is_written_as_its_own(value, expected):
    """Each type of OTLP is written as itself, at its limits."""
    assert shown(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Level.HIGH, 3),
        (Colour.RED, "red"),
        (Fraction(1, 2), 0.5),
        (Decimal("1.10"), "1.10"),
        (UserString("text"), "text"),
        (bytearray(b"a"), b"a"),
        (memoryview(b"a"), b"a"),
        (frozenset({1}), [1]),
        (deque([1, 2]), [1, 2]),
        (range(3), [0, 1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (UserDict(a=1), {"a": 1}),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        (ValueError("what"), "what"),
        (Unreadable(), "<a Unreadable that cannot be read: ValueError>"),
        (
            {"a": Unreadable(), "b": 1},
            {"a": "<a Unreadable that cannot be read: ValueError>", "b": 1},
        ),
    ],
)
def test_a_type_that_otlp_lacks_becomes_the_nearest(value, expected):
    """Numbers stay numbers, collections become arrays, anything else its text."""
    assert plain_value(value) == expected
    assert shown(value) == shown(expected)


def test_an_iterator_is_neither_used_up_nor_followed():
    """An iterator is not consumed, since it may never end."""
    items = iter([1, 2])
    assert plain_value(items).startswith("<list_iterator object at ")
    assert list(items) == [1, 2]


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**4_000])
def test_an_integer_beyond_64_bits_is_its_digits(value):
    """An integer beyond 64 bits becomes a string, in any position."""
    digits = {"stringValue": str(value) if value.bit_length() < 13_000 else hex(value)}
    assert shown(value) == digits
    assert shown([value]) == {"arrayValue": {"values": [digits]}}
    assert attributes_json({"k": value}) == f'{{"key":"k","value":{json.dumps(digits)}}}'.replace(
        '": "', '":"'
    )


def test_an_integer_of_more_digits_than_python_writes_is_hexadecimal():
    """An integer of more than 4,000 digits becomes hexadecimal, since CPython refuses more."""
    assert shown(10**5_000) == {"stringValue": hex(10**5_000)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ud800", "\ufffd"),
        ("a\udfffb", "a\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\U0001f600\ud83d", "\U0001f600\ufffd"),
    ],
)
def test_a_lone_surrogate_is_replaced(text, expected):
    """A lone surrogate is replaced; a pair becomes its character."""
    assert to_bytes(text).decode() == expected
    assert shown(text) == {"stringValue": expected}


@given(st.text())
def test_any_text_comes_back_from_json(text):
    """Any text comes back, except for lone surrogates."""
    line = to_bytes(text_json(text))
    assert not any(byte < 0x20 for byte in line)
    expected = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert json.loads(line) == expected


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_double_comes_back_from_json(value):
    """Any double comes back to the last bit, with its sign."""
    back = json.loads(double_json(value))
    assert (back, math.copysign(1, back)) == (value, math.copysign(1, value))
    assert type(back) is float


def test_a_cycle_is_cut_where_it_closes():
    """A cycle becomes a marker; the same container twice is not a cycle."""
    cyclic: list[Any] = [1]
    cyclic.append({"back": cyclic})
    assert plain_value(cyclic) == [1, {"back": "<cycle>"}]
    twice = [1]
    assert plain_value([twice, twice]) == [[1], [1]]


def test_deep_nesting_is_cut():
    """Nesting is cut at a depth that protobuf's parsers still read."""
    deep: Any = "bottom"
    for _ in range(1_000):
        deep = [deep]
    found, depth = plain_value(deep), 0
    while isinstance(found, list):
        (found,) = found
        depth += 1
    assert (found, depth) == ("<too deep>", MAX_DEPTH)


def test_what_multiplies_is_cut():
    """Lists that each hold the next one ten times are cut."""
    value: Any = ["lol"]
    for _ in range(30):
        value = [value] * 10
    text = value_json(value)
    assert text.count("lol") <= MAX_VALUES
    assert "<too many values>" in text


def test_a_map_that_is_too_large_says_so():
    """A map that is too large keeps its first items and a marker."""
    found = plain_value({"maps": [{str(n): n} for n in range(MAX_VALUES)], "last": 1})
    assert found["maps"][0] == {"0": 0}
    assert len(found["maps"]) < MAX_VALUES
    assert found["rimp.repaired"] == "<too many values>"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (-1, 0),
        (2**64, 2**64 - 1),
        (1.9, 1),
        (None, 0),
        (math.nan, 0),
        (math.inf, 0),
        ("12", 12),
        ("x", 0),
        (True, 1),
    ],
)
def test_a_number_outside_of_its_range_becomes_the_bound(value, expected):
    """A number is clamped to its range, and anything else becomes 0."""
    assert to_fixed64(value) == expected


def test_a_kind_of_string_is_its_own_characters():
    """A subclass of str is written by its characters, as a name, key or nested value."""
    before = attributes_json({Colour.RED: {Colour.RED: 1}})
    assert attributes_json({"red": {"red": 1}}) == before
    assert attributes_json({Colour.RED: {Colour.RED: 1}}) == before
    assert text_json(Colour.RED) == '"red"'
    assert plain_value({Colour.RED: Colour.RED}) == {"red": "red"}


def test_numbers_have_their_bounds():
    """Ids and unsigned and signed 32-bit integers are clamped."""
    assert (to_uint32(2**32), to_uint32(-1)) == (2**32 - 1, 0)
    assert (to_enum(2**31), to_enum(-1), to_enum("INFO")) == (2**31 - 1, 0, 0)
    assert (to_sint32(2**31), to_sint32(-(2**40)), to_sint32("x")) == (2**31 - 1, -(2**31), 0)
    assert trace_id_json(2**128) == "f" * 32
    assert span_id_json(-1) == "0" * 16


@strategies.generated
@given(strategies.values)
def test_any_value_comes_back(value):
    """A decoded value equals the plain copy: sequences are lists, and NaN is NaN."""
    line = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":' + value_json(value) + "}]}]}]}"
    (event,) = decode_line(line).records
    assert repr(event.body) == repr(plain_value(value))
