"""Parameters of the page's questions."""

from __future__ import annotations

import pytest

from rimp_otel.errors import ConfigurationError
from rimp_otel.viewer.parameters import parse_attribute_test


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("span.http.status_code >= 500", ("span", "http.status_code", ">=", 500)),
        ("span.retries=2", ("span", "retries", "=", 2)),
        ('span.x = "500"', ("span", "x", "=", "500")),
        ("span.x = two words", ("span", "x", "=", "two words")),
        ("resource.service.name =~ sh.p", ("resource", "service.name", "=~", "sh.p")),
        ("log.user exists", ("log", "user", "exists", None)),
        ('span.a=b "c" = "d = \\"e\\""', ("span", 'a=b "c"', "=", 'd = "e"')),
        ("span.<img src=x> exists", ("span", "<img src=x>", "exists", None)),
        ("span.x = it exists", ("span", "x", "=", "it exists")),
    ],
)
def test_conditions_on_attributes(text: str, expected: tuple[object, ...]) -> None:
    """A condition is read whatever stands in its key, if blanks are around its operator."""
    assert parse_attribute_test(text) == expected


@pytest.mark.parametrize("text", ["", "span.x", "x = 1"])
def test_no_condition(text: str) -> None:
    """What has another form is told."""
    with pytest.raises(ConfigurationError, match=r"SCOPE\.KEY OPERATOR VALUE"):
        parse_attribute_test(text)
