"""Pictures of results: bars and lines, in SVG that is readable on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from tests.benchmarks.report import format_figure

_WIDTH, _LABELS, _NUMBERS = 780, 320, 90
_TOP, _STEP, _BAR = 34, 26, 16
# Bars that differ by more than this are drawn by their logarithms.
_FACTOR = 40
_STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 13px }
.ours { fill: #0a7d8c } .peer { fill: #a3adb8 }
.line { fill: none; stroke: #0a7d8c; stroke-width: 2 }
.axis, .spread { stroke: #57606a; stroke-width: 1 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .ours { fill: #2fb5c7 } .peer { fill: #656e78 }
  .line { stroke: #2fb5c7 } .axis, .spread { stroke: #9da7b1 }
}
"""


class Bar(NamedTuple):
    """A bar, with the quartiles as a line across its end."""

    label: str
    median: float
    low: float
    high: float
    is_ours: bool


def draw_bars(title: str, unit: str, given: Sequence[Bar]) -> str:
    """Return bars below one another; longer is more."""
    sizes = [bar.median for bar in given if bar.median > 0]
    is_log = bool(sizes) and max(sizes) > _FACTOR * min(sizes)
    largest = max([bar.high for bar in given] + [bar.median for bar in given] + [1e-9])
    smallest = min(sizes, default=1.0) / 2

    def length(value: float) -> float:
        space = _WIDTH - _LABELS - _NUMBERS
        if value <= 0:
            return 0.0
        if is_log:
            share = math.log(max(value, smallest) / smallest) / math.log(largest / smallest)
            return space * share
        return space * value / largest

    scale = ", logarithmic" if is_log else ""
    parts = [_text(8, 20, f"{title} ({unit}{scale})", "title")]
    for number, bar in enumerate(given):
        parts += _bar(bar, unit, _TOP + number * _STEP, length(bar.median), map(length, bar[2:4]))
    return _document(_TOP + len(given) * _STEP + 4, parts)


def _bar(bar: Bar, unit: str, top: float, length: float, spread: map[float]) -> list[str]:
    kind, middle = "ours" if bar.is_ours else "peer", top + _BAR / 2
    low, high = (_LABELS + end for end in spread)
    return [
        _text(_LABELS - 8, top + 12, bar.label, anchor="end"),
        f'<rect class="{kind}" x="{_LABELS}" y="{top}" width="{length:.1f}" height="{_BAR}"/>',
        f'<path class="spread" d="M{low:.1f} {middle}H{high:.1f}"/>',
        _text(max(high, _LABELS + length) + 6, top + 12, format_figure(bar.median, unit)),
    ]


def draw_line(title: str, unit: str, across: str, points: Sequence[tuple[float, float]]) -> str:
    """Return a line through the points; both axes begin at 0."""
    left, right, bottom = 60, _WIDTH - 20, 190
    most_x, most_y = max(x for x, _ in points), max(y for _, y in points) * 1.15

    def place(x: float, y: float) -> str:
        return (
            f"{left + (right - left) * x / most_x:.1f},{bottom - (bottom - _TOP) * y / most_y:.1f}"
        )

    parts = [
        _text(8, 20, f"{title} ({unit})", "title"),
        f'<path class="axis" fill="none" d="M{left} {_TOP}V{bottom}H{right}"/>',
        f'<polyline class="line" points="{" ".join(place(x, y) for x, y in points)}"/>',
        _text(left - 6, bottom, "0", anchor="end"),
        _text(left - 6, _TOP + 10, format_figure(most_y, "").strip(), anchor="end"),
        _text(right, bottom + 18, f"{most_x:,.0f} {across}", anchor="end"),
    ]
    return _document(bottom + 30, parts)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _document(height: float, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {_WIDTH} {height:.0f}" width="{_WIDTH}" height="{height:.0f}"'
    drawn = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{_STYLE}</style>\n{drawn}\n</svg>\n'
