"""Logs: search, levels, one record, exceptions."""

from __future__ import annotations

from typing import Any

from tests.browser.recordings import SHOP_END, SHOP_START

WHOLE = {"from": SHOP_START, "to": SHOP_END}


def _status(page: Any, text: str) -> None:
    page.get_by_role("status").filter(has_text=text).first.wait_for()


def test_search_and_level(visit: Any) -> None:
    """Text and level narrow the list, are in the address, and come back from it."""
    page = visit("shop", "logs", **WHOLE).page
    _status(page, "275 records")
    page.keyboard.press("/")
    page.keyboard.type("stock of")
    _status(page, "23 records")
    page.get_by_role("searchbox", name="Search text").fill("")
    page.get_by_role("button", name="Level", exact=True).click()
    page.get_by_role("option").filter(has_text="error and above").click()
    _status(page, "12 records")
    page.reload()
    _status(page, "12 records")
    page.get_by_role("button", name="Remove the filter level error and above").click()
    _status(page, "275 records")


def test_levels_over_time(visit: Any) -> None:
    """The histogram counts each level, and a drag over it narrows the range."""
    page = visit("shop", "logs", **WHOLE).page
    levels = page.get_by_role("list", name="Levels")
    levels.get_by_role("button").first.wait_for()
    text = levels.inner_text().split()
    assert text == ["error", "12", "warn", "23", "info", "160", "debug", "80"]
    box = page.get_by_label("Log records over time by level").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.5, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, middle, steps=4)
    page.mouse.up()
    page.wait_for_function("start => !location.hash.includes('from=' + start)", arg=str(SHOP_START))


def test_from_a_record_to_its_trace_and_back(visit: Any) -> None:
    """A record shows its attributes and exception, and leads to its trace, which has it in place."""
    page = visit("shop", "logs", **WHOLE, min_severity="17").page
    page.get_by_role("option").filter(has_text="the bank refused the card").first.click()
    record = page.get_by_role("complementary", name="Log record")
    record.get_by_label("Stack", exact=True).get_by_text("bank.charge(card)").wait_for()
    assert "service.version" in record.inner_text()
    page.reload()
    record.get_by_role("link", name="Its trace").click()
    tree = page.get_by_role("treegrid", name="Spans")
    tree.get_by_text("the bank refused the card").wait_for()
    page.go_back()
    record.get_by_role("button", name="Only records with this service.version").click()
    page.wait_for_function("() => location.hash.includes('attr=resource.service.version')")
    _status(page, "12 records")
    page.keyboard.press("Escape")
    record.wait_for(state="detached")


def test_exceptions(visit: Any) -> None:
    """Exceptions are grouped by type and place, with how often, since when, and the newest's stack."""
    page = visit("shop", "logs", **WHOLE).page
    page.get_by_role("button", name="Exceptions").click()
    kind = page.get_by_role("button").filter(has_text="shop.bank.CardDeclined").first
    kind.click()
    detail = page.get_by_role("complementary", name="Exception")
    detail.get_by_label("Stack", exact=True).get_by_text("bank.charge(card)").wait_for()
    detail.get_by_role("link", name="A trace with it").click()
    page.get_by_role("treegrid", name="Spans").get_by_text("charge card").wait_for()


def test_keys(visit: Any) -> None:
    """The list is moved through by arrows; Escape closes a record."""
    page = visit("shop", "logs", **WHOLE).page
    _status(page, "275 records")
    page.get_by_role("listbox", name="Log records, newest first").focus()
    page.keyboard.press("ArrowDown")
    record = page.get_by_role("complementary", name="Log record")
    record.get_by_text("200 GET /products").first.wait_for()
    page.keyboard.press("End")
    record.get_by_text("the bank refused the card").first.wait_for()
    page.keyboard.press("Escape")
    record.wait_for(state="detached")


def test_few_rows_are_in_the_document(visit: Any) -> None:
    """The list is virtual."""
    page = visit("shop", "logs", **WHOLE).page
    _status(page, "275 records")
    assert page.get_by_role("option").count() < 80
