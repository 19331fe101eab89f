"""How things look in a terminal: colour, columns, times, durations, attributes.

Whatever was recorded is text by strangers. `Style.clean` (or `to_json`) is the one way from there
to a terminal: control characters, escape sequences and bidi overrides come out escaped.
"""

from __future__ import annotations

import base64
import json
import math
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from rimp_otel.render.format import (
    escaped,
    format_duration,
)

__all__ = [
    "SERVICE_LOOKS",
    "Column",
    "Glyphs",
    "Piece",
    "Style",
    "clip",
    "columns",
    "flow",
    "format_table",
    "pad",
    "service_look",
    "to_json",
]


# --- How things look in a terminal: colour, columns, times, durations, attributes.

Piece = tuple[str, tuple[str, ...]]
"""A text and its looks."""

SERVICE_LOOKS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_magenta")
"""The colours for services; red is for errors alone."""

_CODES = {
    "bold": 1,
    "dim": 2,
    "red": 31,
    "green": 32,
    "yellow": 33,
    "blue": 34,
    "magenta": 35,
    "cyan": 36,
    "bright_magenta": 95,
    "bright_cyan": 96,
}

_LONGEST = 4_000
_MOST_PAIRS = 50


class Glyphs(NamedTuple):
    """The characters that drawings are made of."""

    branch: str = "├─ "
    last: str = "└─ "
    guide: str = "│  "
    deep: str = "⋯  "
    bar: str = "━"
    bar_from_half: str = "╺"
    bar_to_half: str = "╸"
    bar_open: str = "╍"
    tick: str = "┊"
    dot: str = "●"
    failed: str = "✗"
    cut: str = "✂"
    orphan: str = "⋯"
    circle: str = "↻"
    skewed: str = "«"
    ellipsis: str = "…"
    between: str = " · "
    micro: str = "µ"
    spark: str = "▁▂▃▄▅▆▇█"


_ASCII = Glyphs(
    *("|- ", "`- ", "|  ", "..."),
    *("=", "=", "=", "~", ":"),
    *("*", "x", "#", "?", "@", "<", "..", " | ", "u", "_.-=+*%#"),
)


class Style(NamedTuple):
    """What the output can show.

    ``unicode=False`` keeps everything to ASCII, recorded text too.
    """

    color: bool = False
    unicode: bool = True

    @property
    def glyphs(self) -> Glyphs:
        """The characters to draw with."""
        return Glyphs() if self.unicode else _ASCII

    def paint(self, text: str, *looks: str) -> str:
        """The text in these looks, such as ``"bold", "red"``; unchanged without colour."""
        if not self.color or not looks or not text.strip():
            return text
        return f"\x1b[{';'.join(str(_CODES[look]) for look in looks)}m{text}\x1b[0m"

    def clean(self, text: object) -> str:
        """The text with everything escaped that would do more than appear; what is longer than
        4,000 characters is cut."""
        safe = escaped(self._cut(str(text)))
        if self.unicode or safe.isascii():
            return safe
        return safe.encode("ascii", "backslashreplace").decode()

    def _cut(self, text: str) -> str:
        if len(text) <= _LONGEST:
            return text
        return f"{text[:_LONGEST]}{self.glyphs.ellipsis} ({len(text):,} characters)"

    def value(self, value: object, limit: int = 80) -> str:
        """One attribute's value, cut to ``limit`` columns; quoted where it would read as several."""
        plain = _jsonable(value)
        if not isinstance(plain, str):
            plain = json.dumps(plain, ensure_ascii=False, default=str)
        elif not plain or " " in plain:
            plain = f'"{plain}"'
        return clip(self.clean(plain), limit, self.glyphs.ellipsis)

    def pairs(self, attributes: Mapping[str, Any], limit: int = 80) -> list[str]:
        """Each attribute as ``key=value``; of more than 50, how many there are besides."""
        pairs = [
            f"{clip(self.clean(key), limit, self.glyphs.ellipsis)}={self.value(value, limit)}"
            for key, value in islice(attributes.items(), _MOST_PAIRS)
        ]
        more = len(attributes) - len(pairs)
        return [*pairs, f"(+{more:,} more)"] if more > 0 else pairs

    def sparkline(self, values: Sequence[float | None], low: float | None = None) -> str:
        """One character for each value, as high as it is between the smallest (or ``low``) and the
        greatest; a blank where there is none."""
        known = [value for value in values if value is not None and math.isfinite(value)]
        if not known:
            return " " * len(values)
        low, high = min(known) if low is None else low, max(known)
        steps = self.glyphs.spark
        return "".join(
            " " if value is None or not math.isfinite(value) else steps[_level(value, low, high)]
            for value in values
        )

    def duration(self, nanos: int) -> str:
        """`format_duration` in the characters that the output can hold."""
        return format_duration(nanos).replace("µ", self.glyphs.micro)


def _level(value: float, low: float, high: float) -> int:
    last = len(Glyphs().spark) - 1
    if high <= low:
        return last // 2 if value else 0
    # Halved, so that the difference of two floats is one too.
    return round((value / 2 - low / 2) / (high / 2 - low / 2) * last)


def service_look(service: str) -> str:
    """A service's colour: the same in every line and every run."""
    return SERVICE_LOOKS[zlib.crc32(service.encode("utf-8", "replace")) % len(SERVICE_LOOKS)]


@lru_cache(maxsize=4096)
def _cells(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def columns(text: str) -> int:
    """How many columns of a terminal an unpainted text takes."""
    return len(text) if text.isascii() else sum(map(_cells, text))


def clip(text: str, width: int, ellipsis: str = "…") -> str:
    """The text, cut to at most ``width`` columns."""
    if len(text) <= width and columns(text) <= width:
        return text
    room, used = width - len(ellipsis), 0
    for index, char in enumerate(text):
        used += _cells(char)
        if used > room:
            return (text[:index] + ellipsis)[:width] if room < 0 else text[:index] + ellipsis
    return text


def pad(text: str, width: int) -> str:
    """The text, filled up with spaces to ``width`` columns."""
    return text + " " * (width - columns(text))


def flow(pieces: Sequence[Piece], between: str, width: int, style: Style) -> list[str]:
    """The pieces side by side, in as many lines as they need."""
    lines, used = [""], 0
    for text, looks in pieces:
        needed = columns(between + text)
        if used and used + needed > width:
            lines.append("")
            used = 0
        lines[-1] += style.paint(between, "dim") * bool(used) + style.paint(text, *looks)
        used += needed
    return lines


def to_json(value: Any) -> str:
    """One line of JSON in ASCII, so that no recorded character reaches a terminal raw."""
    # json leaves DEL as it is.
    return json.dumps(_jsonable(value), default=str).replace("\x7f", "\\u007f")


def _jsonable(value: Any) -> Any:
    """OTLP JSON's ways: bytes as base64, NaN and the infinities as strings."""
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, (list, tuple)):
        return [_jsonable(item) for item in value]
    return value


# --- Tables for people: headings, columns as wide as what is in them, the last one cut.

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
