"""Resources and scopes."""

from __future__ import annotations

import logging

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from rimp_otel.convert import resources as origins
from rimp_otel.convert.resources import (
    resource_from_sdk,
    resource_to_sdk,
    scope_from_sdk,
    scope_to_sdk,
)
from rimp_otel.models.records import ResourceInfo, ScopeInfo
from rimp_otel.otlp import decode_common


def test_a_resource_from_the_sdk() -> None:
    """Attributes with lists, and the schema's URL."""
    resource = Resource({"service.name": "shop", "tags": ["a", "b"]}, "https://schema")
    assert resource_from_sdk(resource) == ResourceInfo(
        {"service.name": "shop", "tags": ["a", "b"]}, "https://schema"
    )


def test_a_resource_to_the_sdk() -> None:
    """Attributes with tuples, the schema's URL, and the count of dropped ones."""
    made = resource_to_sdk(ResourceInfo({"tags": ["a", "b"]}, "https://schema", 3))
    assert made == Resource({"tags": ("a", "b")}, "https://schema")
    assert made.attributes.dropped == 3


def test_a_scope_from_the_sdk() -> None:
    """An absent version is empty."""
    scope = InstrumentationScope("lib", None, "https://schema", {"a": ("b",)})
    assert scope_from_sdk(scope) == ScopeInfo("lib", "", {"a": ["b"]}, "https://schema")


def test_a_scope_to_the_sdk() -> None:
    """It equals the one that an instrumentation gets."""
    made = scope_to_sdk(ScopeInfo("lib", "1.0", {"a": ["b"]}, "https://schema"))
    assert made == InstrumentationScope("lib", "1.0", "https://schema", {"a": ("b",)})
    assert scope_to_sdk(ScopeInfo("bare")) == InstrumentationScope("bare")


def test_none_comes_back_as_none() -> None:
    """The SDK needs an object; no resource and an empty one are still told apart."""
    assert resource_to_sdk(None) == Resource({})
    assert scope_to_sdk(None) == InstrumentationScope("")
    assert resource_from_sdk(resource_to_sdk(None)) is None
    assert scope_from_sdk(scope_to_sdk(None)) is None
    assert resource_from_sdk(Resource({})) == ResourceInfo()
    assert resource_from_sdk(None) is None
    assert scope_from_sdk(None) is None


def test_equal_ones_become_the_same_object() -> None:
    """Grouping by identity then groups by value."""
    first = resource_to_sdk(ResourceInfo({"service.name": "one"}))
    assert resource_to_sdk(ResourceInfo({"service.name": "one"})) is first
    assert resource_to_sdk(ResourceInfo({"service.name": "two"})) is not first
    assert scope_to_sdk(ScopeInfo("same")) is scope_to_sdk(ScopeInfo("same"))
    assert resource_from_sdk(Resource({"a": 1})) is resource_from_sdk(Resource({"a": 1}))
    scopes = InstrumentationScope("same"), InstrumentationScope("same")
    assert scope_from_sdk(scopes[0]) is scope_from_sdk(scopes[1])


def test_what_differs_in_type_or_count_is_not_equal() -> None:
    """Python takes 1, 1.0 and True for equal; OTLP does not."""
    made = [resource_to_sdk(ResourceInfo({"a": value})) for value in (1, 1.0, True)]
    assert [type(resource.attributes["a"]) for resource in made] == [int, float, bool]
    counted = resource_to_sdk(ResourceInfo({"a": 1}, "", 1))
    assert counted is not made[0]


def test_the_caches_are_bounded() -> None:
    """A process that reads recordings of ever new processes does not keep them all."""
    cache = origins._Conversion(origins._convert_resource_to_sdk, size=10)
    made = [cache(ResourceInfo({"n": n})) for n in range(100)]
    assert [resource.attributes["n"] for resource in made] == list(range(100))
    assert len(cache._by_id) <= 10
    assert len(cache._by_value) <= 10


def test_attributes_that_the_sdk_would_drop_are_kept_silently(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What was recorded is handed on as it is."""
    with caplog.at_level(logging.DEBUG):
        made = resource_to_sdk(ResourceInfo({"": "no key", "n": None, "mixed": [1, "a"]}))
    assert dict(made.attributes) == {"": "no key", "n": None, "mixed": (1, "a")}
    assert caplog.records == []


def test_a_value_that_python_refuses_to_print_is_converted_all_the_same() -> None:
    """Equal ones are then two objects."""
    made = resource_to_sdk(ResourceInfo({"huge": 10**5000}))
    assert made.attributes["huge"] == 10**5000


def test_an_sdk_with_other_internals_gets_attributes_its_own_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Should the private dict go away, the public constructor is what is left."""
    monkeypatch.setattr(decode_common, "_SETS_ATTRIBUTES", False)
    resource = origins._convert_resource_to_sdk(ResourceInfo({"a": ["b"]}, "", 2))
    assert resource_from_sdk(resource) == ResourceInfo({"a": ["b"]}, "", 2)
    assert dict(decode_common.bounded_attributes({"a": 1}, 0)) == {"a": 1}
