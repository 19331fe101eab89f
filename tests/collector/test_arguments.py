"""What callers give to the native API."""

from __future__ import annotations

from decimal import Decimal

import pytest

from rimp_otel import EventType
from rimp_otel.collector.collector import copied, event_type_of, number, text_of


class Odd:
    """Raises whatever it is asked for."""

    def __iter__(self):
        raise RuntimeError("no")

    def __str__(self):
        raise RuntimeError("no")


def test_copies_are_the_callers_no_more():
    """Also what lies within."""
    inner = [1, {"a": 2}]
    given = {"x": inner, "y": 1}
    found = copied(given)
    inner.append(3)
    given["y"] = 2
    assert found == {"x": [1, {"a": 2}], "y": 1}


def test_what_is_no_mapping_is_kept_as_a_value():
    """Under a key that says so."""
    assert copied([1, 2, 3]) == {"rimp.repaired": [1, 2, 3]}
    assert list(copied(Odd())) == ["rimp.repaired"]


@pytest.mark.parametrize(
    ("given", "found"),
    [(1, 1), (1.5, 1.5), (True, 1), (Decimal("2.5"), 2.5), ("3", 3.0), ("x", None), (None, None)],
)
def test_numbers(given, found):
    """What stands for a number is one."""
    assert number(given) == found
    assert type(number(given)) is type(found)


def test_texts():
    """Whatever it is, something is to be read."""
    assert text_of("a") == "a"
    assert text_of(5) == "5"
    assert text_of(10**5_000) == "<a int that cannot be read: ValueError>"
    assert text_of(Odd()) == "<a Odd that cannot be read: RuntimeError>"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (EventType.ERROR, EventType.ERROR),
        ("warning", EventType.WARNING),
        ("WARNING", EventType.WARNING),
        ("no such", EventType.INFO),
        (Odd(), EventType.INFO),
    ],
)
def test_event_types(given, found):
    """By name too; what names none is information."""
    assert event_type_of(given) is found
