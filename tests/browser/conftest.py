"""Chromium, and the servers of three recordings, once for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.browser import recordings
from tests.browser.chromium import find_chromium, run_chromium
from tests.browser.visits import Server, Visit, visiting


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Chromium as Debian has it; skip where it or Playwright is missing."""
    pytest.importorskip("playwright.sync_api", reason="needs the extra browser")
    path = find_chromium()
    if not path:
        pytest.skip("needs Chromium: apt-get install chromium, or RIMP_CHROMIUM=PATH")
    with run_chromium(path) as browser:
        yield browser


@pytest.fixture(scope="session")
def servers(
    chromium: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Server]]:
    """Return the server of a recording by its name: shop, deep or hostile."""
    started: dict[str, Server] = {}
    with ExitStack() as stack:

        def server(name: str) -> Server:
            if name not in started:
                path = tmp_path_factory.mktemp("recordings") / name
                made = getattr(recordings, f"make_{name}")(path)
                started[name] = stack.enter_context(Server(made))
            return started[name]

        yield server


_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Note that a test failed, for its screenshots."""
    report = yield
    item.stash[_failed] = report.failed or item.stash.get(_failed, False)
    return report


@pytest.fixture
def visit(
    chromium: Any,
    request: pytest.FixtureRequest,
    servers: Callable[[str], Server],
    tmp_path: Path,
) -> Iterator[Callable[..., Visit]]:
    """Return a function that opens a view of a recording; nothing may be wrong in the end.

    What the pages of a failed test look like is in its temporary directory.
    """
    visits: list[Visit] = []
    with ExitStack() as stack:

        def look(name: str, view: str = "", options: Any = None, **parameters: Any) -> Visit:
            server = servers(name)
            host = urlsplit(server.url).netloc
            opened = stack.enter_context(visiting(chromium, host, **(options or {})))
            visits.append(opened)
            opened.open(server.link(view, **parameters))
            return opened

        yield look
        if request.node.stash.get(_failed, False):
            for number, opened in enumerate(visits):
                opened.page.screenshot(path=tmp_path / f"page{number}.png")
                print(opened.page.url, tmp_path / f"page{number}.png")
