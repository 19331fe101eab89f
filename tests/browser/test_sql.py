"""SQL in the page."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.recordings import SHOP_END, SHOP_START

pytest.importorskip("duckdb", reason="needs the extra sql")

WHOLE = {"from": SHOP_START, "to": SHOP_END}


def _write(page: Any, sql: str) -> Any:
    editor = page.get_by_role("combobox", name="SQL")
    editor.fill(sql)
    page.keyboard.press("Escape")
    return editor


def test_a_query(visit: Any) -> None:
    """A query is run by keys, its rows are a grid that sorts, and a reload has it in the editor."""
    page = visit("shop", "sql", **WHOLE).page
    sql = "SELECT ServiceName, count(*) AS spans FROM otel_traces GROUP BY ALL ORDER BY 1"
    _write(page, sql)
    page.keyboard.press("Control+Enter")
    grid = page.get_by_role("grid", name="Result")
    grid.get_by_text("catalog").wait_for()
    page.get_by_role("status").filter(has_text="4 rows").wait_for()
    page.get_by_role("button", name="Sort by spans").click()
    page.get_by_role("button", name="Chart", exact=True).click()
    page.wait_for_function("() => location.hash.includes('as=chart')")
    page.reload()
    page.wait_for_function("sql => document.querySelector('textarea')?.value === sql", arg=sql)


def test_completion(visit: Any) -> None:
    """Columns are completed as they are typed; Tab takes one."""
    page = visit("shop", "sql", **WHOLE).page
    editor = page.get_by_role("combobox", name="SQL")
    editor.fill("")
    editor.press_sequentially("SELECT Dur")
    page.get_by_role("listbox", name="Completions").get_by_role("option").first.wait_for()
    page.keyboard.press("Tab")
    page.wait_for_function("() => document.querySelector('textarea').value === 'SELECT Duration'")


def test_an_error_has_its_place(visit: Any) -> None:
    """An error says where it is, and that part of the text is selected."""
    opened = visit("shop", "sql", **WHOLE)
    page = opened.page
    _write(page, "SELECT 1,\n  Durration FROM otel_traces")
    page.keyboard.press("Control+Enter")
    page.get_by_role("alert").filter(has_text="Line 2, column 3").wait_for()
    assert page.evaluate("getSelection().toString()") == "Durration"
    opened.expect_problem("400")


def test_nothing_is_changed(visit: Any) -> None:
    """A statement that does more than read is refused."""
    opened = visit("shop", "sql", **WHOLE)
    _write(opened.page, "COPY (SELECT 1) TO '/tmp/rimp-test-of-sql'")
    opened.page.keyboard.press("Control+Enter")
    opened.page.get_by_role("alert").first.wait_for()
    opened.expect_problem("400")


def test_a_query_of_a_link_is_not_run(visit: Any) -> None:
    """What another page made a link of waits for a press."""
    asked: list[str] = []
    opened = visit("shop", "sql", **WHOLE, q="SELECT 42 AS answer")
    opened.page.on("request", lambda request: asked.append(request.url))
    opened.page.get_by_text("Nothing has been run yet.").wait_for()
    opened.page.get_by_role("button", name="Run").click()
    opened.page.get_by_role("grid", name="Result").get_by_text("42").wait_for()
    assert sum(url.endswith("/api/sql") for url in asked) == 1
