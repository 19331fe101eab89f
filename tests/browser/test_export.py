"""The page with a recording in it, as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rimp_otel.cli.main import main
from tests.browser.recordings import Hostile, make_hostile, make_shop
from tests.browser.visits import visiting


@pytest.mark.parametrize("network", ["online", "offline"])
def test_a_window(chromium: Any, tmp_path: Path, network: str) -> None:
    """All views but SQL show what is in the file, and nothing is asked of any server."""
    recording = make_shop(tmp_path / "shop")
    file = tmp_path / "report.html"
    command = ["export", "--since", "2026-11-24", "--html", str(file), "--path", str(recording)]
    assert main(command) == 0
    with visiting(chromium, "nowhere", offline=network == "offline") as opened:
        page = opened.open(file.as_uri())
        page.get_by_role("table", name="Services").get_by_text("payment").wait_for()
        views = page.get_by_role("navigation", name="Views")
        for view, text in {
            "Traces": "POST /checkout",
            "Logs": "the bank refused the card",
            "Metrics": "http.server.request.duration",
            "Map": "payment",
        }.items():
            views.get_by_role("link", name=view, exact=True).click()
            page.get_by_text(text).filter(visible=True).first.wait_for()
        assert views.get_by_role("link", name="SQL").count() == 0
        before = page.url
        page.reload()
        page.get_by_text("payment").filter(visible=True).first.wait_for()
        assert page.url == before


def test_hostile_texts(chromium: Any, tmp_path: Path) -> None:
    """What is recorded does not end the element that holds it, and is text in the page."""
    recording = make_hostile(tmp_path / "hostile")
    file = tmp_path / "trace.html"
    command = ["export", "--trace", Hostile.trace, "--html", str(file), "--path", str(recording)]
    assert main(command) == 0
    with visiting(chromium, "nowhere") as opened:
        page = opened.open(file.as_uri())
        tree = page.get_by_role("treegrid", name="Spans")
        tree.get_by_text("<img src=x onerror=").first.wait_for()
        assert page.evaluate("document.querySelectorAll('#app img, #app script').length") == 0
