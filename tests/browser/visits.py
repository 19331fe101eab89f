"""A visit to the page: a tab of Chromium, the server that it looks at, and all that must never happen there."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from tests.processes import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["Server", "Visit", "visiting"]

_STARTING = 30.0


class Server:
    """``rimp ui`` over a recording, in a process of its own; a context manager.

    Attributes:
        url: of the page, without the token.
        token: that it asks for.
        path: of the recording.
    """

    def __init__(self, path: Path, *options: str) -> None:
        command = [sys.executable, "-m", "rimp_otel", "ui", "--path", str(path), "--no-open"]
        self.path = path
        self._process = subprocess.Popen(
            [*command, "--address", "127.0.0.1:0", *options],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TZ": "UTC"},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr
        line = self._process.stderr.readline()
        found = re.search(r"(http://127\.0\.0\.1:\d+/)#token=(\S+)", line)
        assert found, line + self._process.stderr.read()
        self.url, self.token = found.groups()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        with self._process:
            _, errors = self._process.communicate(timeout=_STARTING)
        assert "Traceback" not in errors, errors

    def link(self, view: str = "", **parameters: Any) -> str:
        """Return the URL of a view, with the token as `rimp ui` prints it."""
        query = f"?{urlencode(parameters, doseq=True)}" if parameters else ""
        return f"{self.url}#token={self.token}" + (f"&/{view}{query}" if view else "")


class Visit:
    """One tab, and what is wrong with what it did.

    Attributes:
        page: the tab.
        problems: what must be empty in the end: errors on the console, uncaught exceptions, dialogs, and
            requests to other hosts. A test that causes an error takes it out with `expect_problem`.
    """

    def __init__(self, page: Page, host: str) -> None:
        self.page, self._host = page, host
        self.problems: list[str] = []
        page.on("console", self._note_message)
        page.on("pageerror", lambda error: self.problems.append(f"uncaught: {error}"))
        page.on("dialog", self._note_dialog)
        page.on("popup", lambda popup: self.problems.append(f"opened {popup.url}"))
        page.context.on("request", self._note_request)
        # Longer than anything takes, also where much else runs.
        page.set_default_timeout(30_000)

    def open(self, url: str) -> Page:
        """Open a URL, also where only the fragment differs, and return the page."""
        self.page.goto("about:blank")
        self.page.goto(url)
        return self.page

    def expect_problem(self, text: str) -> None:
        """Take out the problems with a text; there must be one."""
        found = [problem for problem in self.problems if text in problem]
        assert found, (text, self.problems)
        self.problems = [problem for problem in self.problems if text not in problem]

    def _note_message(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text} {message.location}")

    def _note_dialog(self, dialog: Any) -> None:
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _note_request(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob", "file", "about") and parts.netloc != self._host:
            self.problems.append(f"request to {request.url}")


@contextlib.contextmanager
def visiting(browser: Browser, host: str, **options: Any) -> Iterator[Visit]:
    """Open a tab of its own, in UTC and English; nothing may be wrong with it in the end."""
    usual = {"timezone_id": "UTC", "locale": "en-GB", "viewport": {"width": 1280, "height": 800}}
    context = browser.new_context(**{**usual, **options})
    try:
        visit = Visit(context.new_page(), host)
        yield visit
        assert not visit.problems, visit.problems
    finally:
        context.close()
