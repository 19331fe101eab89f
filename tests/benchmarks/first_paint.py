"""How soon the viewer's page shows a large recording: ``python -m tests.benchmarks.first_paint``.

Opens views of `rimp ui` in Chromium over the shop's recording of ``tests.benchmarks.viewing`` (ten million sealed
spans by default), each a few times in a new browser profile, after the first time: the server is warm, the browser
knows nothing. The figures are from the start of the navigation to the first paint of anything, and until what the
view is for is on the screen: medians.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from tests.benchmarks.shop import DAY, START, parse_arguments, shop_path
from tests.browser.chromium import find_chromium, run_chromium
from tests.browser.visits import Server, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_TARGET = 1_000.0
_PREPARING = 1_200_000.0
# By view, what it is for.
_VIEWS = {
    "overview": "table.services tbody tr",
    "traces": "[role=grid] [role=row]",
    "map": ".map-service",
}
_SHOWN = "selector => document.querySelector(selector) ? performance.now() : 0"
_PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


class Paint(NamedTuple):
    """Milliseconds since the start of the navigation."""

    first: float
    complete: float


def main() -> int:
    """Measure, and print the figures; the exit code is 1 if a target is missed."""
    arguments = parse_arguments("python -m tests.benchmarks.first_paint")
    chromium = find_chromium()
    if not chromium:
        print("needs Chromium: apt-get install chromium, or RIMP_CHROMIUM=PATH", file=sys.stderr)
        return 2
    path = shop_path(arguments.cache, arguments.spans)
    with run_chromium(chromium) as browser:
        paints = measure_paints(browser, path, arguments.rounds)
    is_met = True
    for view, paint in paints.items():
        good = paint.first <= _TARGET and paint.complete <= _TARGET
        is_met = is_met and good
        figures = f"first paint {paint.first:5.0f} ms, complete {paint.complete:5.0f} ms"
        print(f"{view:10} {figures}  <= {_TARGET:.0f} ms  {'met' if good else 'NOT MET'}")
    return 0 if is_met else 1


def measure_paints(browser: Browser, path: Path, rounds: int) -> dict[str, Paint]:
    """Return the medians by view."""
    with Server(path) as server:
        return {view: _measure_view(browser, server, view, rounds) for view in _VIEWS}


def _measure_view(browser: Browser, server: Server, view: str, rounds: int) -> Paint:
    paints = []
    for number in range(rounds + 1):
        with visiting(browser, urlsplit(server.url).netloc) as opened:
            # The last hour of the recording, which the page itself would choose.
            span = {"from": START + DAY * 23 // 24, "to": START + DAY}
            page = opened.open(server.link(view, **span))
            patience = _PREPARING if number == 0 else 30_000.0
            shown = page.wait_for_function(_SHOWN, arg=_VIEWS[view], timeout=patience)
            paints.append(Paint(page.evaluate(_PAINTED), shown.json_value()))
    warm = paints[1:]
    return Paint(
        statistics.median(paint.first for paint in warm),
        statistics.median(paint.complete for paint in warm),
    )


if __name__ == "__main__":
    sys.exit(main())
