"""Files that are opened in the page itself, without asking a server."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.browser.recordings import make_shop

_DROP = """
async ({ name, text }) => {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
  document.body.dispatchEvent(new DragEvent("dragover", options));
  document.body.dispatchEvent(new DragEvent("drop", options));
}"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return the shop's recording."""
    return make_shop(tmp_path / "shop")


def _drop(page: Any, name: str, content: bytes) -> None:
    page.evaluate(_DROP, {"name": name, "text": base64.b64encode(content).decode()})


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.zst"])
def test_a_dropped_file_is_shown(visit: Any, files: Path, kind: str) -> None:
    """A file that is dropped on the page replaces the recording, and nothing more is asked of the server."""
    page = visit("hostile").page
    page.wait_for_function("() => location.hash.includes('from=')")
    asked: list[str] = []
    content = (files / "logs.jsonl").read_bytes()
    if kind.endswith(".zst"):
        # As a sealed file is: of several frames.
        lines = content.splitlines(keepends=True)
        content = b"".join(zstandard.ZstdCompressor().compress(line) for line in lines)
    _drop(page, f"logs.{kind}", content)
    page.get_by_title("Time range", exact=True).filter(has_text="All of the recording").wait_for()
    page.get_by_role("link", name="Logs", exact=True).click()
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_text("the bank refused the card").first.wait_for()
    page.get_by_role("searchbox", name="Search").fill("Größe 42")
    page.get_by_text("stock of “Größe 42 ✂” is low: 3 left").first.wait_for()
    assert [url for url in asked if not url.endswith("/icon.svg")] == []


def test_chosen_files_are_shown(visit: Any, files: Path) -> None:
    """All files of a recording can be chosen at once."""
    page = visit("hostile").page
    page.wait_for_function("() => location.hash.includes('from=')")
    page.get_by_label("Files of a recording", exact=True).set_input_files(
        sorted(files.glob("*.jsonl"))
    )
    page.get_by_title("Time range", exact=True).filter(has_text="All of the recording").wait_for()
    page.get_by_role("link", name="Logs", exact=True).click()
    page.get_by_text("the bank refused the card").first.wait_for()
    page.get_by_role("link", name="Traces", exact=True).click()
    page.get_by_text("POST /checkout").first.wait_for()


def test_a_file_that_is_none(visit: Any) -> None:
    """What is no recording is told, and what was shown stays."""
    page = visit("hostile").page
    page.get_by_role("navigation", name="Views").wait_for()
    _drop(page, "cat.jsonl.zst", b"\x89PNG\r\n")
    alert = page.get_by_role("alert").filter(has_text="cat.jsonl.zst")
    alert.wait_for()
    page.get_by_role("button", name="Close").click()
    alert.wait_for(state="detached")
