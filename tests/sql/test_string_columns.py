"""Values as text, as the Collector writes them."""

from __future__ import annotations

import msgspec
import pytest

from rimp_otel.otlp.messages import AnyValue
from rimp_otel.sql.columns import double_text, typed_text

DOUBLES = [
    (2.0, "2"),
    (0.0, "0"),
    (-0.0, "-0"),
    (0.1, "0.1"),
    (-12.5, "-12.5"),
    (1e16, "10000000000000000"),
    (1.5e16, "15000000000000000"),
    (1.2345678901234568e17, "123456789012345680"),
    (1e-5, "0.00001"),
    (1.25e-6, "0.00000125"),
    (1e-7, "1e-7"),
    (-1.5e-7, "-1.5e-7"),
    (1e21, "1e+21"),
    (1.5e300, "1.5e+300"),
    (float("nan"), "NaN"),
    (float("inf"), "Infinity"),
    (float("-inf"), "-Infinity"),
]


@pytest.mark.parametrize(("value", "text"), DOUBLES)
def test_doubles(value, text):
    """As in ECMAScript, no digit more or less."""
    assert double_text(value) == text


@pytest.mark.parametrize(
    ("json", "text", "kind"),
    [
        ('{"stringValue":""}', "", "string"),
        ('{"stringValue":"\\u0000 \\n"}', "\0 \n", "string"),
        ('{"intValue":"-9223372036854775808"}', "-9223372036854775808", "int"),
        ('{"intValue":7}', "7", "int"),
        ('{"doubleValue":2}', "2", "double"),
        ('{"doubleValue":"NaN"}', "NaN", "double"),
        ('{"boolValue":true}', "true", "bool"),
        ('{"boolValue":false}', "false", "bool"),
        ('{"bytesValue":"AP8="}', "AP8=", "bytes"),
        ('{"arrayValue":{}}', "[]", "array"),
        (
            '{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"a"},{},{"doubleValue":"NaN"}]}}',
            '[1,"a",null,"NaN"]',
            "array",
        ),
        (
            '{"kvlistValue":{"values":[{"key":"x","value":{"boolValue":true}}]}}',
            '{"x":true}',
            "kvlist",
        ),
        ("{}", "", "empty"),
    ],
)
def test_values(json, text, kind):
    """Each type has its text, and its name."""
    value = msgspec.json.decode(json, type=AnyValue, strict=False)
    assert typed_text(value) == (text, kind)


def test_no_value():
    """Is an empty text."""
    assert typed_text(None) == ("", "empty")
