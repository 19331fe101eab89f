"""Attribute values and bodies."""

from __future__ import annotations

import logging
import math
from decimal import Decimal
from fractions import Fraction

import pytest

from rimp_otel.convert.resources import (
    attributes_from_sdk,
    attributes_to_sdk,
    text_of_body,
    value_to_sdk,
)
from rimp_otel.otlp.values import plain_value


class Unreadable:
    def __str__(self) -> str:
        raise ValueError("no")


class BrokenMapping(dict):
    def items(self) -> None:
        raise KeyError("no")


def test_sequences_are_tuples_in_the_sdk_and_lists_here() -> None:
    """Only the sequences change, at any depth."""
    assert value_to_sdk([1, {"a": ["x", b"y", None]}]) == (1, {"a": ("x", b"y", None)})
    assert plain_value((1, {"a": ("x", b"y", None)})) == [1, {"a": ["x", b"y", None]}]


def test_absent_attributes_are_empty() -> None:
    """None means no attributes, both ways."""
    assert attributes_from_sdk(None) == {}
    assert attributes_to_sdk(None) == {}


def test_attributes_are_copies() -> None:
    """What the application changes later does not change what was converted."""
    source = {"list": [1], "map": {"a": 1}}
    copied = attributes_from_sdk(source)
    source["list"].append(2)
    source["map"]["a"] = 2
    assert copied == {"list": [1], "map": {"a": 1}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("1.50"), "1.50"),
        (Fraction(1, 2), 0.5),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
        ({"only"}, ["only"]),
        ({1: "a", None: "b"}, {"1": "a", "None": "b"}),
        (Unreadable(), "<a Unreadable that cannot be read: ValueError>"),
        (2**70, 2**70),
        ("\ud800", "\ud800"),
    ],
)
def test_types_that_opentelemetry_has_not_become_text(value: object, expected: object) -> None:
    """An exporter would refuse them with their whole batch; OpenTelemetry's own types stay."""
    assert plain_value(value) == expected


def test_a_list_that_holds_itself_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    """The other attributes stay, and nothing is logged."""
    endless: list[object] = []
    endless.append(endless)
    with caplog.at_level(logging.DEBUG):
        converted = attributes_to_sdk({"a": 1, "endless": endless})
    assert converted == {"a": 1, "endless": ("<cycle>",)}
    assert caplog.records == []


def test_a_mapping_that_cannot_be_read_leaves_a_marker() -> None:
    """Attributes that raise do not raise into who reads them."""
    assert attributes_from_sdk(BrokenMapping(a=1)) == {
        "rimp.repaired": "<a BrokenMapping that cannot be read: KeyError>"
    }


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("text", "text"),
        ("", ""),
        (None, ""),
        (True, "true"),
        (1.5, "1.5"),
        (b"\x00\xff", '"AP8="'),
        ({"é": [1, None, b"a"]}, '{"é":[1,null,"YQ=="]}'),
        ([1e300, math.nan], "[1e300,null]"),
        ([2**64, "\ud800", b"a"], '[18446744073709551616,"\ud800","YQ=="]'),
        (Decimal("1.5"), '"1.5"'),
        (Unreadable(), '"<a Unreadable that cannot be read: ValueError>"'),
    ],
)
def test_a_body_as_text(body: object, expected: str) -> None:
    """Text is itself, None is empty, all else compact JSON."""
    assert text_of_body(body) == expected


def test_a_body_without_json_leaves_a_marker() -> None:
    """Not even an integer that Python refuses to print raises."""
    assert text_of_body([10**5000]) == "<a list that cannot be read: ValueError>"
