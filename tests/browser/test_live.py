"""A recording that is being written, and the page that follows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.browser.visits import Server, visiting
from tests.processes import run

# A program as a user's: published instrumentation, the plug-in, an exception, a log record with its span.
_PROGRAM = """
import logging, os, sys
os.environ["RIMP_STORAGE_PATH"] = sys.argv[1]
os.environ["OTEL_SERVICE_NAME"] = "shop"
import rimp_otel
telemetry = rimp_otel.install()
from opentelemetry import metrics, trace
tracer = trace.get_tracer("program")
with tracer.start_as_current_span(sys.argv[2]):
    logging.getLogger("program").warning("in " + sys.argv[2])
    metrics.get_meter("program").create_counter("orders").add(2)
telemetry.shutdown()
"""


def test_what_is_recorded_appears(chromium: Any, tmp_path: Path) -> None:
    """Spans and logs of programs appear in an open page by themselves, in each view."""
    path = tmp_path / "telemetry"
    with (
        Server(path) as server,
        visiting(chromium, urlsplit(server.url).netloc) as opened,
    ):
        page = opened.open(server.link())
        page.get_by_role("heading", name="Nothing is recorded here yet").wait_for()
        run(_PROGRAM, path, "first order")
        page.get_by_role("table", name="Services").get_by_text("shop").wait_for()
        views = page.get_by_role("navigation", name="Views")
        views.get_by_role("link", name="Traces", exact=True).click()
        page.get_by_role("grid", name="Traces").get_by_text("first order").wait_for()
        run(_PROGRAM, path, "second order")
        page.get_by_role("grid", name="Traces").get_by_text("second order").wait_for()
        views.get_by_role("link", name="Logs", exact=True).click()
        page.get_by_text("in second order").first.wait_for()
        run(_PROGRAM, path, "third order")
        page.get_by_text("in third order").first.wait_for()
        views.get_by_role("link", name="Metrics", exact=True).click()
        page.get_by_role("listbox", name="Metrics").get_by_text("orders").wait_for()


def test_a_server_that_ends(chromium: Any, tmp_path: Path) -> None:
    """The page says that it lost its server, keeps what it shows, and asks again on request."""
    path = tmp_path / "telemetry"
    with Server(path) as server:
        run(_PROGRAM, path, "an order")
        manager = visiting(chromium, urlsplit(server.url).netloc)
        opened = manager.__enter__()
        page = opened.open(server.link("traces"))
        page.get_by_role("grid", name="Traces").get_by_text("an order").wait_for()
    page.get_by_role("button", name="Read again").click()
    page.get_by_role("alert").first.wait_for()
    page.get_by_role("grid", name="Traces").get_by_text("an order").wait_for()
    opened.expect_problem("ERR_CONNECTION_REFUSED")
    opened.problems = [one for one in opened.problems if "ERR_" not in one]
    manager.__exit__(None, None, None)
