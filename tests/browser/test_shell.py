"""The page around its views: token, routes, keys, themes, size."""

from __future__ import annotations

import gzip
import http.client
import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.browser.visits import visiting

VIEWS = ["Overview", "Traces", "Logs", "Metrics", "Map", "SQL"]


def _fetch(url: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    try:
        return response.status, response.read()
    finally:
        connection.close()


def test_served_size(visit: Any, servers: Any) -> None:
    """All that the page loads is less than 300 kB in gzip."""
    opened = visit("shop")
    opened.page.wait_for_load_state("networkidle")
    loaded = opened.page.evaluate(
        "performance.getEntriesByType('resource').map((entry) => entry.name)"
    )
    paths = {"/", *(urlsplit(url).path for url in loaded if "/api/" not in url)}
    assert "/main.js" in paths
    size = 0
    for path in paths:
        status, body = _fetch(servers("shop").url, path)
        assert status == 200, path
        size += len(gzip.compress(body))
    assert size < 300_000


def test_the_token_leaves_the_address_bar(visit: Any, servers: Any) -> None:
    """The token of the link is not in the address bar, and a reload still knows it."""
    page = visit("shop", "logs").page
    page.get_by_role("navigation", name="Views").wait_for()
    assert servers("shop").token not in page.url
    page.reload()
    page.get_by_role("navigation", name="Views").wait_for()
    assert page.get_by_role("link", name="Logs", exact=True).get_attribute("aria-current") == "page"


@pytest.mark.parametrize("token", ["", "#token=wrong"])
def test_without_the_token(chromium: Any, servers: Any, token: str) -> None:
    """The page says where the link is, takes it or its token, and goes on."""
    server = servers("shop")
    with visiting(chromium, urlsplit(server.url).netloc) as opened:
        page = opened.open(server.url + token)
        field = page.get_by_label("Link or token")
        field.wait_for()
        assert "rimp ui" in page.get_by_role("main").inner_text()
        field.fill(server.link() if token else server.token)
        page.get_by_role("button", name="Open the recording").click()
        page.get_by_role("navigation", name="Views").wait_for()
        opened.expect_problem("401")


@pytest.mark.parametrize("view", VIEWS)
def test_each_view_has_a_route(visit: Any, view: str) -> None:
    """Its tab opens a view, whose title, address and tab say which one it is; a reload keeps it."""
    page = visit("shop").page
    tab = page.get_by_role("navigation", name="Views").get_by_role("link", name=view)
    tab.click()
    page.wait_for_function("title => document.title.startsWith(title)", arg=view)
    assert re.search(rf"#/{view.lower()}\b", page.url)
    assert tab.get_attribute("aria-current") == "page"
    before = page.url
    page.reload()
    tab.wait_for()
    assert page.url == before
    assert tab.get_attribute("aria-current") == "page"


def test_back_and_forward(visit: Any) -> None:
    """The browser's history goes through the views, not through what was replaced."""
    page = visit("shop").page
    views = page.get_by_role("navigation", name="Views")
    for view in ("Logs", "Traces"):
        views.get_by_role("link", name=view).click()
    page.go_back()
    page.wait_for_function("() => location.hash.startsWith('#/logs')")
    page.go_back()
    page.wait_for_function("() => /^(#.overview.*|)$/.test(location.hash)")
    page.go_forward()
    page.wait_for_function("() => location.hash.startsWith('#/logs')")


def test_an_unknown_view(visit: Any) -> None:
    """A route that there is none of has a way back."""
    page = visit("shop", "nowhere").page
    page.get_by_role("heading", name="There is no such view").wait_for()
    page.get_by_role("link", name="To the overview").click()
    page.wait_for_function("() => location.hash.startsWith('#/overview')")


def test_keys(visit: Any) -> None:
    """Each view has two keys, and ? lists all; Escape closes the list."""
    page = visit("shop").page
    page.get_by_role("navigation", name="Views").wait_for()
    for keys, view in {"g l": "logs", "g t": "traces", "g m": "metrics", "g o": "overview"}.items():
        for key in keys.split():
            page.keyboard.press(key)
        page.wait_for_function("view => location.hash.startsWith('#/' + view)", arg=view)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    dialog.wait_for()
    assert "Go to Logs" in dialog.inner_text()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")


def test_the_first_stop_of_the_tab_key_skips_to_the_content(visit: Any) -> None:
    """A keyboard user need not go through the header."""
    page = visit("shop").page
    page.get_by_role("navigation", name="Views").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_the_theme_is_kept(visit: Any) -> None:
    """The theme is the system's, until another is chosen; a reload keeps the choice."""
    page = visit("shop", options={"color_scheme": "dark"}).page
    page.get_by_role("button", name="Theme: system").wait_for()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Theme: system").click()
    page.get_by_role("button", name="Theme: light").wait_for()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light != dark
    page.reload()
    page.get_by_role("button", name="Theme: light").click()
    page.get_by_role("button", name="Theme: dark").wait_for()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_the_time_range_is_in_the_address(visit: Any) -> None:
    """A range that is chosen holds for all views, and is in the address."""
    page = visit("shop", "logs").page
    page.get_by_title("Time range", exact=True).click()
    panel = page.get_by_role("dialog", name="Time range")
    panel.get_by_label("From").fill("2026-11-24 12:10")
    panel.get_by_label("To").fill("2026-11-24 12:20")
    panel.get_by_role("checkbox", name="Times in UTC").check()
    panel.get_by_role("button", name="Show this range").click()
    page.wait_for_function("() => location.hash.includes('from=1795522200000000000')")
    page.get_by_role("navigation", name="Views").get_by_role(
        "link", name="Traces", exact=True
    ).click()
    page.wait_for_function("() => location.hash.includes('to=1795522800000000000')")
    page.keyboard.press("]")
    page.wait_for_function("() => location.hash.includes('from=1795522500000000000')")


def test_no_foreign_page_reads(servers: Any) -> None:
    """Another name of the host, or another page's origin, is refused: nothing is read past DNS."""
    server = servers("shop")
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
        connection.request(
            "GET", "/api/info", headers={"Authorization": f"Bearer {server.token}", **headers}
        )
        response = connection.getresponse()
        assert response.status in (400, 403, 421), headers
        response.read()
        connection.close()
