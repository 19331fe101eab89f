"""Contrast and names in both themes, narrow screens, print; and the pictures of the documentation.

``RIMP_SCREENSHOTS=docs/images`` makes those pictures.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.browser.recordings import MINUTE, SHOP_END, SHOP_START

# Read at once: the tests run without variables of ours.
_SCREENSHOTS = os.environ.get("RIMP_SCREENSHOTS")
_MOST_BYTES = 150_000
_RANGE = f"from={SHOP_START}&to={SHOP_END}"
_FAILED = "the bank refused the card"

# By view: its address, and a text that it shows when it is complete.
VIEWS = {
    "overview": (f"overview?from={SHOP_START + 30 * MINUTE}&to={SHOP_END}", "New or changed"),
    "traces": (f"traces?{_RANGE}", "POST /checkout"),
    "trace": (f"traces?{_RANGE}&service=payment&status=error", "12 traces"),
    "logs": (f"logs?{_RANGE}", _FAILED),
    "exceptions": (f"logs?{_RANGE}&tab=exceptions", "CardDeclined"),
    "metrics": (f"metrics?{_RANGE}&metric=http.server.request.duration", "Exemplars"),
    "map": (f"map?{_RANGE}", "payment"),
    "sql": (f"sql?{_RANGE}", "Nothing has been run yet."),
}

# Texts whose contrast with what is behind them is less than WCAG 2.2 asks of level AA: 4.5, of large ones 3.
_PALE = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const read = (color) => {
    if (!known.has(color)) {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      known.set(color, [r, g, b, a / 255]);
    }
    return known.get(color);
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const behind = (element) => {
    if (!element) return read(getComputedStyle(document.documentElement).colorScheme.includes("dark") ? "#121212" : "#fff");
    const color = read(getComputedStyle(element).backgroundColor);
    return color[3] === 1 ? color : over(color, behind(element.parentElement));
  };
  const light = ([r, g, b]) => {
    const [R, G, B] = [r, g, b].map((one) => one / 255).map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * R + 0.7152 * G + 0.0722 * B;
  };
  const pale = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim();
    const element = walker.currentNode.parentElement;
    if (!text || !element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true })) continue;
    if (element.closest(":disabled, .hidden, noscript, textarea, title, svg")) continue;
    const style = getComputedStyle(element);
    const ground = behind(element);
    let opacity = 1;
    for (let one = element; one; one = one.parentElement) opacity *= Number(getComputedStyle(one).opacity);
    const [r, g, b, a] = read(style.color);
    const [one, other] = [light(over([r, g, b, a * opacity], ground)), light(ground)].sort((x, y) => y - x);
    const ratio = (one + 0.05) / (other + 0.05);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (isLarge ? 3 : 4.5)) pale.push(`${ratio.toFixed(2)} ${element.className} ${text.slice(0, 40)}`);
  }
  return [...new Set(pale)];
}"""

# What can be used and has no name, ids that are there twice, and pictures without a text.
_NAMELESS = """
() => {
  const nameOf = (element) => [
    element.getAttribute("aria-label"),
    ...(element.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent),
    ...[...(element.labels ?? [])].map((label) => label.textContent), element.textContent, element.title, element.placeholder,
  ].some((text) => text?.trim());
  const used = [...document.querySelectorAll("a, button, input, select, textarea, [role=img], [role=button], [tabindex='0'], dialog")]
    .filter((element) => element.checkVisibility() && !nameOf(element)).map((element) => element.outerHTML.slice(0, 120));
  const ids = [...document.querySelectorAll("[id]")].map(({ id }) => id);
  const twice = ids.filter((id, at) => ids.indexOf(id) !== at);
  const references = [...document.querySelectorAll("[aria-controls], [aria-labelledby], [aria-activedescendant]")].flatMap((element) =>
    ["aria-labelledby", "aria-activedescendant"].map((name) => element.getAttribute(name)).filter((id) => id && !document.getElementById(id)));
  return { used, twice, references };
}"""


def _look_at(opened: Any, view: str) -> Any:
    """Show a view, complete."""
    page = opened.page
    address, text = VIEWS[view]
    page.evaluate("address => { location.hash = '#/' + address }", address)
    page.get_by_text(text).filter(visible=True).first.wait_for()
    if view == "trace":
        page.get_by_role("grid", name="Traces").get_by_role("row").first.click()
        tree = page.get_by_role("treegrid", name="Spans")
        tree.wait_for()
        details = page.get_by_role("complementary", name="Details")
        if not details.is_visible():
            tree.get_by_role("row").filter(has_text="charge card").click()
        details.get_by_text("card.brand").wait_for()
    if view == "exceptions":
        page.get_by_role("button").filter(has_text="CardDeclined").first.click()
        page.get_by_role("complementary", name="Exception").wait_for()
    if view == "sql":
        page.get_by_role("button", name="Run").click()
        page.get_by_role("grid", name="Result").wait_for()
    page.wait_for_load_state("networkidle")
    page.mouse.move(0, 0)
    return page


def _take_picture(page: Any, name: str) -> None:
    """Make a picture of the documentation, where they are asked for."""
    if not _SCREENSHOTS:
        return
    # How long a query took differs from run to run.
    page.evaluate(
        "document.querySelectorAll('[role=status]').forEach((one) =>"
        " { one.textContent = one.textContent.replace(/ in [\\d.]+ .?s$/, '') })"
    )
    path = Path(_SCREENSHOTS) / f"{name}.png"
    page.screenshot(path=path, animations="disabled", caret="hide")
    assert path.stat().st_size < _MOST_BYTES


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_and_names(visit: Any, theme: str) -> None:
    """All text has the contrast of WCAG's level AA, and all that can be used has a name."""
    opened = visit("shop", "overview", options={"color_scheme": theme})
    opened.page.clock.set_fixed_time((SHOP_END + 5 * MINUTE) // 10**6)
    opened.page.get_by_role("table", name="Services").wait_for()
    found = {}
    for view in VIEWS:
        page = _look_at(opened, view)
        found[view] = page.evaluate(_PALE), page.evaluate(_NAMELESS)
        if view == "overview" or (theme == "light" and view != "exceptions"):
            _take_picture(page, view if theme == "light" else f"{view}-dark")
    good = [], {"used": [], "twice": [], "references": []}
    assert {view: faults for view, faults in found.items() if faults != good} == {}


def test_contrast_of_what_opens(visit: Any) -> None:
    """Menus, the list of keys and the panel of times are as legible."""
    page = visit("shop", "traces", options={"color_scheme": "dark"}).page
    page.get_by_role("grid", name="Traces").wait_for()
    filters = page.get_by_role("group", name="Filters")
    for name in ("Service", "Duration", "Attribute"):
        filters.get_by_role("button", name=name, exact=True).click()
        page.get_by_role("dialog", name=name).wait_for()
        assert page.evaluate(_PALE) == []
        page.keyboard.press("Escape")
    page.get_by_title("Time range", exact=True).click()
    page.get_by_role("dialog", name="Time range").wait_for()
    assert page.evaluate(_PALE) == []
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys").wait_for()
    assert page.evaluate(_PALE) == []


def test_narrow_screens(visit: Any) -> None:
    """At 390 pixels no view scrolls sideways, and each can be reached."""
    opened = visit("shop", options={"viewport": {"width": 390, "height": 800}})
    opened.page.get_by_role("table", name="Services").wait_for()
    widths = {}
    for view in VIEWS:
        page = _look_at(opened, view)
        widths[view] = page.evaluate("document.documentElement.scrollWidth")
        if view == "trace":
            _take_picture(page, "trace-narrow")
    assert {view: width for view, width in widths.items() if width > 390} == {}


def test_reduced_motion(visit: Any) -> None:
    """Nothing moves where the system asks for that."""
    page = visit("shop", "overview", options={"reduced_motion": "reduce"}).page
    page.get_by_role("table", name="Services").wait_for()
    moving = "document.getAnimations().filter((one) => one.playState === 'running').length"
    assert page.evaluate(moving) == 0


def test_print(visit: Any) -> None:
    """On paper all rows are there, not only those in sight, without what can only be clicked."""
    page = visit("shop", "logs", **{"from": SHOP_START, "to": SHOP_END}).page
    page.get_by_role("status").filter(has_text="275 records").first.wait_for()
    on_paper = page.pdf()
    assert on_paper.startswith(b"%PDF")
    assert on_paper.count(b"/Type /Page\n") > 4
    page.emulate_media(media="print")
    assert not page.get_by_role("navigation", name="Views").is_visible()
