"""Names that are recorded, where one that was asked for is not."""

from __future__ import annotations

from typing import Any

import pytest

from rimp_otel.cli.suggestions import describe_nearest
from tests.cli.records import TRACE


@pytest.mark.parametrize(
    "command", [("traces",), ("logs",), ("metrics",), ("errors",), ("metrics", "queue.length")]
)
def test_an_unknown_service(rimp: Any, shop: Any, command: tuple[str, ...]) -> None:
    """Every command that filters succeeds, and names the nearest service."""
    code, _, err = rimp(*command, "--service", "shpo")
    assert code == 0
    assert err == "rimp: no service 'shpo' in telemetry: did you mean 'shop'?\n"


AT = ("--at", "2026-11-18T11:06:41Z")


def test_an_unknown_service_of_statistics(rimp: Any, shop: Any) -> None:
    """Those that compare and watch name it too; nothing is said of a service that is there."""
    warning = "rimp: no service 'shpo' in telemetry: did you mean 'shop'?\n"
    code, _, err = rimp("top", *AT, "--service", "shpo")
    assert (code, err) == (0, warning)
    assert rimp("top", *AT, "--service", "shop").err == ""
    assert rimp("top", "--at", "2020-01-01", "--service", "shop").err == ""
    code, out, err = rimp("diff", "--window-a", "..now", "--service", "shpo")
    assert (code, out) == (2, "")
    assert err == warning + (
        "rimp: nothing to compare: no records in telemetry in that time range\n"
    )


def test_an_unknown_name(rimp: Any, shop: Any) -> None:
    """The nearest names are named; a pattern is no name."""
    assert rimp("traces", "--name", "GET /stok").err == (
        "rimp: no name 'GET /stok' in telemetry: did you mean 'GET /stock' or "
        "'GET /stock/{sku}' or 'SELECT stock'?\n"
    )
    assert rimp("traces", "--name", "GET /stok*") == (0, "no traces\n", "")


def test_a_known_name_that_does_not_match(rimp: Any, shop: Any) -> None:
    """Nothing is said where it is another condition that does not hold."""
    assert rimp("traces", "--service", "shop", "--attr", "x=1") == (0, "no traces\n", "")


def test_nothing_is_near() -> None:
    """Then the first of the names are named."""
    assert describe_nearest("zzz", ["a", "b"]) == "there is 'a', 'b'"
    assert describe_nearest("zzz", "abcde") == "there is 'a', 'b', 'c', ..."
    assert describe_nearest("SHOP", ["shop"]) == "did you mean 'shop'?"


def test_spans_that_are_left_out_of_a_trace(rimp: Any, shop: Any) -> None:
    """A trace is shown without them, but with those that others are below of."""
    out = rimp("trace", f"{TRACE:032x}", "--not-name", "SELECT *", "--not-scope", "app").out
    assert "SELECT" not in out
    assert "cart loaded" not in out
    assert "5 spans" in out
    out = rimp("trace", f"{TRACE:032x}", "--not-name", "GET /stock").out
    assert "7 spans" in out


def test_names_that_are_left_out(rimp: Any, shop: Any) -> None:
    """A trace is left out by the name that it has in the list; a record by its own."""
    assert rimp("traces", "--not-name", "POST *").out == "no traces\n"
    assert "POST /checkout" in rimp("traces", "--not-name", "SELECT*").out
    out = rimp("tail", "--not-name", "SELECT*", "--not-scope", "app", "-n", "all").out
    assert len(out.splitlines()) == 7
    assert rimp("logs", "--not-scope", "app").out == ""
