"""The options that choose records, and what they match."""

from __future__ import annotations

import argparse
import re
from typing import Any

import pytest

from rimp_otel.cli.options import attribute, regular_expression, severity, trace_prefix
from rimp_otel.cli.record_filter import Chosen
from rimp_otel.models.records import EventType, Signal, TelemetryEvent, TelemetryMetric
from tests.cli.records import TRACE, event, span


def holds(record: Any, **conditions: Any) -> bool:
    """Whether the record is chosen."""
    return Chosen.by(list(Signal), **conditions).matches(record)


def test_attribute() -> None:
    """The value is all that follows the first equals sign, and may be missing."""
    assert attribute("a=b=c") == ("a", "b=c")
    assert attribute("a=") == ("a", "")
    assert attribute("a") == ("a", None)
    with pytest.raises(argparse.ArgumentTypeError, match="give KEY=VALUE, or KEY"):
        attribute("=b")


@pytest.mark.parametrize(
    ("text", "number"), [("warn", 13), ("WARNING", 13), ("fatal", 21), ("7", 7)]
)
def test_severity(text: str, number: int) -> None:
    """By name, or OTLP's number."""
    assert severity(text) == number


@pytest.mark.parametrize("text", ["", "0", "25", "bad", "-1", "1.5"])
def test_no_severity(text: str) -> None:
    """The message says what there is."""
    with pytest.raises(
        argparse.ArgumentTypeError,
        match="give trace, debug, info, warn, error, fatal, or a number from 1 to 24",
    ):
        severity(text)


def test_no_regular_expression() -> None:
    """The message has the reason, and how to mean a character literally."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"unterminated.*put a \\ before"):
        regular_expression("a(b")


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
    """A value is typed as one would read it; a number in any spelling of it."""
    record = TelemetryEvent("app", "m", metadata={"k": value})
    assert holds(record, texts=[("k", text)]) is same
    assert holds(record, texts=[("k", None)])
    assert not holds(record, texts=[("other", None)])


def test_attributes_of_the_resource() -> None:
    """Count too, and so that all conditions must hold."""
    record = span("a", 1, service="shop", n=1)
    assert holds(record, texts=[("service.name", "shop"), ("n", "1")])
    assert not holds(record, texts=[("service.name", "stock"), ("n", "1")])
    assert holds(TelemetryMetric("m", 1, tags={"n": 1}), texts=[("n", "1")])


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
    """Whole, or with asterisks; nothing else in a name means more than itself."""
    assert holds(span("GET /cart/[id]", 1), name=name) is same


def test_traces() -> None:
    """By any number of first digits; 0 is no trace."""
    record = event("x", trace_id=TRACE)
    assert holds(record, trace="4bf9")
    assert holds(record, trace=f"{TRACE:032x}")
    assert not holds(record, trace="4bf8")
    assert not holds(event("x", trace_id=0), trace="0" * 32)
    assert not holds(TelemetryMetric("m", 1), trace="0")
    assert trace_prefix("4BF9") == "4bf9"


def test_grep() -> None:
    """Looks into message, event name and exception."""
    record = event("cart loaded", **{"exception.type": "KeyError", "exception.message": "'x'"})
    assert holds(record, grep=re.compile("^cart"))
    assert holds(record, grep=re.compile("KeyError: 'x'"))
    assert not holds(record, grep=re.compile("Cart"))
    assert holds(TelemetryEvent("s", "", event_name="user.login"), grep=re.compile("login"))
    assert holds(span("GET /", 1), grep=re.compile("GET"))


def test_severity_and_service() -> None:
    """As bad or worse."""
    record = event("x", event_type=EventType.WARNING, service="shop")
    assert holds(record, severity=13, service="shop")
    assert not holds(record, severity=14)
    assert not holds(record, service="stock")
