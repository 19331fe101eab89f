"""The filter that options describe, and what it matches."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rimp_otel.cli.record_filter import RecordFilter
from rimp_otel.models.records import EventType, ScopeInfo, Signal, TelemetryEvent, TelemetryMetric
from tests.cli.records import TRACE, event, span


def matches(record: Any, **conditions: Any) -> bool:
    """Return True if the record meets the conditions."""
    return RecordFilter.from_options(list(Signal), **conditions).matches(record)


@pytest.mark.parametrize(
    ("value", "text", "same"),
    [
        ("x", "x", True),
        ("x", "X", False),
        ("true", "true", True),
        (True, "true", True),
        (True, "1", False),
        (502, "502", True),
        (502, "502.0", True),
        (502, "5", False),
        (502, "x", False),
        (2**63 - 1, str(2**63 - 1), True),
        (2**63 - 1, str(2**63 - 2), False),
        (42.5, "42.50", True),
        (None, "null", True),
        (b"ab", "ab", True),
        (["a", 1], '["a", 1]', True),
        (("a", 1), '["a", 1]', True),
        (["a", 1], "a", False),
        ({"k": [1]}, '{"k": [1]}', True),
        ([b"x"], '["x"]', False),
    ],
)
def test_attribute_values(value: Any, text: str, same: bool) -> None:
    """A value matches the text that a person reads; a number matches any spelling."""
    record = TelemetryEvent("app", "m", metadata={"k": value})
    assert matches(record, attributes=[("k", text)]) is same
    assert matches(record, attributes=[("k", None)])
    assert not matches(record, attributes=[("other", None)])


def test_attributes_of_the_resource() -> None:
    """Attributes of the resource count like those of the record, and all conditions must hold."""
    record = span("a", 1, service="shop", n=1)
    assert matches(record, attributes=[("service.name", "shop"), ("n", "1")])
    assert not matches(record, attributes=[("service.name", "stock"), ("n", "1")])
    assert matches(TelemetryMetric("m", 1, tags={"n": 1}), attributes=[("n", "1")])


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("GET /cart/[id]", True),
        ("GET /cart", False),
        ("GET *", True),
        ("*cart*", True),
        ("*[id]", True),
        ("POST *", False),
        ("", False),
    ],
)
def test_names(name: str, same: bool) -> None:
    """A name matches as a whole; only an asterisk has a special meaning."""
    assert matches(span("GET /cart/[id]", 1), name=name) is same


def test_traces() -> None:
    """A trace id matches by its first digits, and 0 is no trace."""
    record = event("x", trace_id=TRACE)
    assert matches(record, trace="4bf9")
    assert matches(record, trace=f"{TRACE:032x}")
    assert not matches(record, trace="4bf8")
    assert not matches(event("x", trace_id=0), trace="0" * 32)
    assert not matches(TelemetryMetric("m", 1), trace="0")


def test_grep() -> None:
    """The regular expression is searched for in message, event name, exception and span name."""
    record = event("cart loaded", **{"exception.type": "KeyError", "exception.message": "'x'"})
    assert matches(record, grep=re.compile("^cart"))
    assert matches(record, grep=re.compile("KeyError: 'x'"))
    assert not matches(record, grep=re.compile("Cart"))
    assert matches(TelemetryEvent("s", "", event_name="user.login"), grep=re.compile("login"))
    assert matches(span("GET /", 1), grep=re.compile("GET"))


def test_severity_and_service() -> None:
    """The severity is a minimum."""
    record = event("x", event_type=EventType.WARNING, service="shop")
    assert matches(record, severity=13, service="shop")
    assert not matches(record, severity=14)
    assert not matches(record, service="stock")


def test_names_and_scopes_that_are_left_out() -> None:
    """Records of these names and scopes do not match; ``*`` matches any text."""
    assert not matches(span("GET / http send", 1), not_names=["* http send"])
    assert matches(span("GET /", 1), not_names=["* http send", "POST *"])
    assert not matches(event("m", source="urllib3"), not_scopes=["urllib*"])
    assert matches(event("m", source="app"), not_scopes=["urllib*"])
    assert matches(span("no scope", 1), not_scopes=["?"])
    assert not matches(TelemetryMetric("m", 1, scope=ScopeInfo("meter")), not_scopes=["meter"])
