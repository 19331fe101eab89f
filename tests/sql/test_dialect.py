"""ClickHouse's parametric functions."""

from __future__ import annotations

import pytest

from rimp_otel.sql.sandbox import translated
from tests.sql.conftest import ask


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("SELECT quantile(0.99)(Duration)", "SELECT _quantile(0.99, Duration)"),
        ("SELECT quantile ( 0.5 ) (x)", "SELECT _quantile( 0.5 , x)"),
        ("SELECT quantiles(0.5, 0.9)(x)", "SELECT _quantile([0.5, 0.9], x)"),
        ("SELECT quantileTDigest(.9)(x)", "SELECT _quantile(.9, x)"),
        ("SELECT quantileExact(0.9)(x)", "SELECT _quantileExact(0.9, x)"),
        ("SELECT quantilesExactIf(0.9)(x, c)", "SELECT _quantileExactIf([0.9], x, c)"),
        ("SELECT 'ü', quantileIf(0.9)(x, c)", "SELECT 'ü', _quantileIf(0.9, x, c)"),
        ("SELECT 'quantile(0.99)(x)'", "SELECT 'quantile(0.99)(x)'"),
        ("SELECT 1 -- quantile(0.99)(x)", "SELECT 1 -- quantile(0.99)(x)"),
        ('SELECT "quantile(0.99)(x)"', 'SELECT "quantile(0.99)(x)"'),
        ("SELECT quantile(x, 0.5)", "SELECT quantile(x, 0.5)"),
        ("SELECT quantile_cont(x, 0.5)", "SELECT quantile_cont(x, 0.5)"),
    ],
)
def test_translation(given, made):
    """Of these calls, and of nothing in texts and comments."""
    assert translated(given) == made


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ("quantile(0.5)(x)", 4.5),
        ("quantiles(0, 0.5, 1)(x)", [0.0, 4.5, 9.0]),
        ("quantileExact(0.5)(x)", 4),
        ("quantileIf(0.5)(x, x < 3)", 1.0),
        ("round(quantile(0.99)(x) / 2, 2)", 4.46),
    ],
)
def test_values(connection, call, value):
    """Of the numbers from 0 to 9."""
    assert ask(connection, f"SELECT {call} FROM range(10) t(x)") == [(value,)]


def test_they_are_still_checked(connection):
    """Translated or not, what does more than read is refused."""
    with pytest.raises(Exception, match=r"^not allowed: "):
        connection.execute("COPY (SELECT quantile(0.5)(x) FROM range(3) t(x)) TO 'x.csv'")
