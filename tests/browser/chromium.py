"""Where Chromium is, and how it is started."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["find_chromium", "run_chromium"]

# Read at once: the tests run without variables of ours.
_NAMED = os.environ.get("RIMP_CHROMIUM")
_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """Return the path of Chromium as Debian and others install it, or of the one in RIMP_CHROMIUM."""
    return _NAMED or shutil.which("chromium") or shutil.which("google-chrome")


@contextlib.contextmanager
def run_chromium(path: str) -> Iterator[Browser]:
    """Run a Chromium without windows, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=_OPTIONS)
        yield browser
        browser.close()
