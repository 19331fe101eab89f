"""Resources, scopes, attribute values and bodies, converted in both directions."""

from __future__ import annotations

import logging
import math
from decimal import Decimal
from fractions import Fraction

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from rimp_otel.convert import resources
from rimp_otel.convert.resources import (
    attributes_from_sdk,
    attributes_to_sdk,
    resource_from_sdk,
    resource_to_sdk,
    scope_from_sdk,
    scope_to_sdk,
    text_of_body,
    value_to_sdk,
)
from rimp_otel.models.records import ResourceInfo, ScopeInfo
from rimp_otel.otlp import decode_common
from rimp_otel.otlp.values import plain_value


def test_a_resource_from_the_sdk() -> None:
    """A resource from the SDK has lists in its attributes, and its schema URL."""
    resource = Resource({"service.name": "shop", "tags": ["a", "b"]}, "https://schema")
    assert resource_from_sdk(resource) == ResourceInfo(
        {"service.name": "shop", "tags": ["a", "b"]}, "https://schema"
    )


def test_a_resource_to_the_sdk() -> None:
    """A resource for the SDK has tuples in its attributes, its schema URL, and the dropped count."""
    made = resource_to_sdk(ResourceInfo({"tags": ["a", "b"]}, "https://schema", 3))
    assert made == Resource({"tags": ("a", "b")}, "https://schema")
    assert made.attributes.dropped == 3


def test_a_scope_from_the_sdk() -> None:
    """A missing version of a scope is empty."""
    scope = InstrumentationScope("lib", None, "https://schema", {"a": ("b",)})
    assert scope_from_sdk(scope) == ScopeInfo("lib", "", {"a": ["b"]}, "https://schema")


def test_a_scope_to_the_sdk() -> None:
    """A scope for the SDK equals the one that an instrumentation gets."""
    made = scope_to_sdk(ScopeInfo("lib", "1.0", {"a": ["b"]}, "https://schema"))
    assert made == InstrumentationScope("lib", "1.0", "https://schema", {"a": ("b",)})
    assert scope_to_sdk(ScopeInfo("bare")) == InstrumentationScope("bare")


def test_none_comes_back_as_none() -> None:
    """None comes back as None, and an empty resource as an empty one."""
    assert resource_to_sdk(None) == Resource({})
    assert scope_to_sdk(None) == InstrumentationScope("")
    assert resource_from_sdk(resource_to_sdk(None)) is None
    assert scope_from_sdk(scope_to_sdk(None)) is None
    assert resource_from_sdk(Resource({})) == ResourceInfo()
    assert resource_from_sdk(None) is None
    assert scope_from_sdk(None) is None


def test_equal_ones_become_the_same_object() -> None:
    """Equal resources or scopes become the same object, so that grouping by identity works."""
    first = resource_to_sdk(ResourceInfo({"service.name": "one"}))
    assert resource_to_sdk(ResourceInfo({"service.name": "one"})) is first
    assert resource_to_sdk(ResourceInfo({"service.name": "two"})) is not first
    assert scope_to_sdk(ScopeInfo("same")) is scope_to_sdk(ScopeInfo("same"))
    assert resource_from_sdk(Resource({"a": 1})) is resource_from_sdk(Resource({"a": 1}))
    scopes = InstrumentationScope("same"), InstrumentationScope("same")
    assert scope_from_sdk(scopes[0]) is scope_from_sdk(scopes[1])


def test_what_differs_in_type_or_count_is_not_equal() -> None:
    """Values 1, 1.0 and True, or different dropped counts, make different resources."""
    made = [resource_to_sdk(ResourceInfo({"a": value})) for value in (1, 1.0, True)]
    assert [type(resource.attributes["a"]) for resource in made] == [int, float, bool]
    counted = resource_to_sdk(ResourceInfo({"a": 1}, "", 1))
    assert counted is not made[0]


def test_the_caches_are_bounded() -> None:
    """The caches are limited, for a reader of recordings of ever new processes."""
    cache = resources._Conversion(resources._convert_resource_to_sdk, size=10)
    made = [cache(ResourceInfo({"n": n})) for n in range(100)]
    assert [resource.attributes["n"] for resource in made] == list(range(100))
    assert len(cache._by_id) <= 10
    assert len(cache._by_value) <= 10


def test_attributes_that_the_sdk_would_drop_are_kept_silently(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Attributes that the SDK would drop are kept, and nothing is logged."""
    with caplog.at_level(logging.DEBUG):
        made = resource_to_sdk(ResourceInfo({"": "no key", "n": None, "mixed": [1, "a"]}))
    assert dict(made.attributes) == {"": "no key", "n": None, "mixed": (1, "a")}
    assert caplog.records == []


def test_a_value_that_python_refuses_to_print_is_converted_all_the_same() -> None:
    """An integer that Python refuses to print is converted."""
    made = resource_to_sdk(ResourceInfo({"huge": 10**5000}))
    assert made.attributes["huge"] == 10**5000


def test_an_sdk_with_other_internals_gets_attributes_its_own_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the SDK's private dict, its public constructor gets the attributes."""
    monkeypatch.setattr(decode_common, "_SETS_ATTRIBUTES", False)
    resource = resources._convert_resource_to_sdk(ResourceInfo({"a": ["b"]}, "", 2))
    assert resource_from_sdk(resource) == ResourceInfo({"a": ["b"]}, "", 2)
    assert dict(decode_common.bounded_attributes({"a": 1}, 0)) == {"a": 1}


class Unreadable:
    def __str__(self) -> str:
        raise ValueError("no")


class BrokenMapping(dict):
    def items(self) -> None:
        raise KeyError("no")


def test_sequences_are_tuples_in_the_sdk_and_lists_here() -> None:
    """Sequences are converted at any depth, and nothing else changes."""
    assert value_to_sdk([1, {"a": ["x", b"y", None]}]) == (1, {"a": ("x", b"y", None)})
    assert plain_value((1, {"a": ("x", b"y", None)})) == [1, {"a": ["x", b"y", None]}]


def test_absent_attributes_are_empty() -> None:
    """None becomes no attributes, in both directions."""
    assert attributes_from_sdk(None) == {}
    assert attributes_to_sdk(None) == {}


def test_attributes_are_copies() -> None:
    """A conversion keeps attributes that the application changes later."""
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
    """Types that OpenTelemetry does not have become text."""
    assert plain_value(value) == expected


def test_a_list_that_holds_itself_costs_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    """A list that holds itself costs itself, and nothing is logged."""
    endless: list[object] = []
    endless.append(endless)
    with caplog.at_level(logging.DEBUG):
        converted = attributes_to_sdk({"a": 1, "endless": endless})
    assert converted == {"a": 1, "endless": ("<cycle>",)}
    assert caplog.records == []


def test_a_mapping_that_cannot_be_read_leaves_a_marker() -> None:
    """Attributes that raise become a marker."""
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
    """A text is its own message, None an empty one, any other body compact JSON."""
    assert text_of_body(body) == expected


def test_a_body_without_json_leaves_a_marker() -> None:
    """A body that has no JSON becomes a marker."""
    assert text_of_body([10**5000]) == "<a list that cannot be read: ValueError>"
