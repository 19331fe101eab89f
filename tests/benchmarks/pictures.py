"""The pictures of results."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.benchmarks.svg import Bar, draw_bars, draw_line


def draw_pictures(found: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the titles and SVG of all pictures by file name, for cases that have a target."""
    made = {}
    for case in found["cases"]:
        for quantity in dict.fromkeys(row["quantity"] for row in case["rows"]):
            drawn = _bars(case, quantity)
            if drawn is not None:
                made[_name(case, quantity)] = drawn
        for figures in case["contenders"].values():
            if "course" in figures[0]:
                made[_name(case, "course")] = _course(case, figures[0]["course"])
    return made


def write_pictures(found: dict[str, Any], directory: Path) -> dict[str, str]:
    """Write the pictures; return their titles by file name."""
    directory.mkdir(parents=True, exist_ok=True)
    made = draw_pictures(found)
    for name, (_, text) in made.items():
        (directory / name).write_text(text)
    return {name: title for name, (title, _) in made.items()}


def _name(case: dict[str, Any], quantity: str) -> str:
    return f"case-{case['number']:02}-{re.sub('[^a-z0-9]+', '-', quantity)}.svg"


def _bars(case: dict[str, Any], quantity: str) -> tuple[str, str] | None:
    rows = [row for row in case["rows"] if row["quantity"] == quantity]
    sides = [
        (row, side, row["unit"], kind)
        for row in rows
        for side, kind in ((row["ours"], True), (row["peer"], False))
        if side is not None
    ]
    drawn: dict[str, Bar] = {}
    for _, side, _, is_ours in sides:
        given = (side["median"], side["low"], side["high"])
        drawn.setdefault(side["name"], Bar(side["name"], *given, is_ours))
    if len(drawn) < 2 or all(row["limit"] is None for row in rows):
        return None
    said = f": {quantity}" if len({row["quantity"] for row in case["rows"]}) > 1 else ""
    title = f"{case['title']}{said}"
    return title, draw_bars(title, rows[0]["unit"], list(drawn.values()))


def _course(case: dict[str, Any], course: list[tuple[float, float]]) -> tuple[str, str]:
    title = f"{case['title']}: resident memory"
    return title, draw_line(title, "MB", "records", course)
