"""Tables for people: headings, columns as wide as what is in them, the last one cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rimp_otel.cli.render import Style, clip, columns

__all__ = ["Column", "format_table"]

_WIDEST = 60
_NARROWEST_LAST = 12


class Column(NamedTuple):
    """How a column looks."""

    heading: str
    #: Numbers stand at the right.
    is_number: bool = False
    #: Of its cells, unless a row says otherwise.
    looks: str = ""
    #: No cell is wider.
    most: int = _WIDEST


def format_table(
    table: Sequence[Column],
    rows: Sequence[Sequence[str]],
    width: int,
    style: Style,
    looks: Sequence[Sequence[str]] = (),
) -> list[str]:
    """The rows under their headings, cut to ``width`` columns where that is possible.

    Args:
        table: the columns.
        rows: of cells, which are clean already.
        width: of the terminal.
        style: what it can show.
        looks: of each row's cells, such as "red"; empty for the column's.
    """
    cells = [[column.heading for column in table], *rows]
    widths = [
        min(max(map(columns, column)), about.most)
        for column, about in zip(zip(*cells, strict=True), table, strict=True)
    ]
    widths[-1] = max(width - sum(widths[:-1]) - 2 * len(widths[:-1]), _NARROWEST_LAST)
    plain = [column.looks for column in table]
    painted = [["dim"] * len(table), *(looks or [plain] * len(rows))]
    return [
        _line(row, widths, look, table, style) for row, look in zip(cells, painted, strict=True)
    ]


def _line(
    row: Sequence[str],
    widths: Sequence[int],
    looks: Sequence[str],
    table: Sequence[Column],
    style: Style,
) -> str:
    cells = []
    for text, width, look, column in zip(row, widths, looks, table, strict=True):
        text = clip(text, width, style.glyphs.ellipsis)
        gap = " " * (width - columns(text))
        painted = style.paint(text, look) if look else text
        cells.append(gap + painted if column.is_number else painted + gap)
    return "  ".join(cells).rstrip()
