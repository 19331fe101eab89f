"""Text for terminals: colours, glyphs, columns, attributes, tables.

Recorded text is by strangers. It reaches a terminal through `Style.clean` or `to_json` alone, which
escape control characters, escape sequences and bidi overrides.
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

from rimp_otel.render.format import escape_text, format_duration

__all__ = [
    "SERVICE_LOOKS",
    "Column",
    "Glyphs",
    "Piece",
    "Style",
    "clip_text",
    "display_width",
    "format_table",
    "look_of_service",
    "pad_text",
    "to_json",
    "wrap_items",
]


Piece = tuple[str, tuple[str, ...]]
"""A text and its looks; see `Style.paint`."""

SERVICE_LOOKS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_magenta")
"""The colours of services; red is for errors alone."""

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

_MAX_TEXT_LENGTH = 4_000
_MAX_PAIRS = 50


class Glyphs(NamedTuple):
    """The characters of drawings."""

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
    """The capabilities of a terminal.

    With ``unicode=False``, all output is ASCII, recorded text too.
    """

    color: bool = False
    unicode: bool = True

    @property
    def glyphs(self) -> Glyphs:
        """The characters to draw with."""
        return Glyphs() if self.unicode else _ASCII

    def paint(self, text: str, *looks: str) -> str:
        """Return the text with these looks, such as ``"bold", "red"``; unchanged without colour."""
        if not self.color or not looks or not text.strip():
            return text
        return f"\x1b[{';'.join(str(_CODES[look]) for look in looks)}m{text}\x1b[0m"

    def clean(self, text: object) -> str:
        """Return the text with control characters escaped, and cut to 4,000 characters."""
        safe = escape_text(self._cut_text(str(text)))
        if self.unicode or safe.isascii():
            return safe
        return safe.encode("ascii", "backslashreplace").decode()

    def _cut_text(self, text: str) -> str:
        if len(text) <= _MAX_TEXT_LENGTH:
            return text
        return f"{text[:_MAX_TEXT_LENGTH]}{self.glyphs.ellipsis} ({len(text):,} characters)"

    def value(self, value: object, limit: int = 80) -> str:
        """Return an attribute's value, cut to ``limit`` columns; quoted if it contains blanks."""
        plain = _to_json_value(value)
        if not isinstance(plain, str):
            plain = json.dumps(plain, ensure_ascii=False, default=str)
        elif not plain or " " in plain:
            plain = f'"{plain}"'
        return clip_text(self.clean(plain), limit, self.glyphs.ellipsis)

    def pairs(self, attributes: Mapping[str, Any], limit: int = 80) -> list[str]:
        """Return the first 50 attributes as ``key=value``, and how many there are besides."""
        pairs = [
            f"{clip_text(self.clean(key), limit, self.glyphs.ellipsis)}={self.value(value, limit)}"
            for key, value in islice(attributes.items(), _MAX_PAIRS)
        ]
        more = len(attributes) - len(pairs)
        return [*pairs, f"(+{more:,} more)"] if more > 0 else pairs

    def sparkline(self, values: Sequence[float | None], low: float | None = None) -> str:
        """Return a bar for each value, as high as it is between the smallest (or ``low``) and the
        greatest; a blank for None."""
        known = [value for value in values if value is not None and math.isfinite(value)]
        if not known:
            return " " * len(values)
        low, high = min(known) if low is None else low, max(known)
        steps = self.glyphs.spark
        return "".join(
            " "
            if value is None or not math.isfinite(value)
            else steps[_spark_level(value, low, high)]
            for value in values
        )

    def duration(self, nanos: int) -> str:
        """Return `format_duration` in the characters that the terminal can show."""
        return format_duration(nanos).replace("µ", self.glyphs.micro)


def _spark_level(value: float, low: float, high: float) -> int:
    last = len(Glyphs().spark) - 1
    if high <= low:
        return last // 2 if value else 0
    # Halved, so that the difference of two floats is one too.
    return round((value / 2 - low / 2) / (high / 2 - low / 2) * last)


def look_of_service(service: str) -> str:
    """Return a service's colour, which is the same in every line and every run."""
    return SERVICE_LOOKS[zlib.crc32(service.encode("utf-8", "replace")) % len(SERVICE_LOOKS)]


@lru_cache(maxsize=4096)
def _character_width(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def display_width(text: str) -> int:
    """Return how many columns of a terminal the text takes, which has no escape sequences."""
    return len(text) if text.isascii() else sum(map(_character_width, text))


def clip_text(text: str, width: int, ellipsis: str = "…") -> str:
    """Return the text, cut to at most ``width`` columns."""
    if len(text) <= width and display_width(text) <= width:
        return text
    room, used = width - len(ellipsis), 0
    for index, char in enumerate(text):
        used += _character_width(char)
        if used > room:
            return (text[:index] + ellipsis)[:width] if room < 0 else text[:index] + ellipsis
    return text


def pad_text(text: str, width: int) -> str:
    """Return the text with spaces after it, to ``width`` columns."""
    return text + " " * (width - display_width(text))


def wrap_items(pieces: Sequence[Piece], between: str, width: int, style: Style) -> list[str]:
    """Return the pieces side by side, in as many lines as they need."""
    lines, used = [""], 0
    for text, looks in pieces:
        needed = display_width(between + text)
        if used and used + needed > width:
            lines.append("")
            used = 0
        lines[-1] += style.paint(between, "dim") * bool(used) + style.paint(text, *looks)
        used += needed
    return lines


def to_json(value: Any) -> str:
    """Return one line of JSON in ASCII, so that no recorded character reaches a terminal raw."""
    # json does not escape DEL.
    return json.dumps(_to_json_value(value), default=str).replace("\x7f", "\\u007f")


def _to_json_value(value: Any) -> Any:
    """Return the value in OTLP JSON's form: bytes as base64, NaN and the infinities as strings."""
    if isinstance(value, Mapping):
        return {str(key): _to_json_value(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    if isinstance(value, (list, tuple)):
        return [_to_json_value(item) for item in value]
    return value


# Tables.

_MAX_COLUMN_WIDTH = 60
_MIN_LAST_COLUMN_WIDTH = 12


class Column(NamedTuple):
    """The heading and the look of a column."""

    heading: str
    #: Numbers are aligned to the right.
    is_number: bool = False
    #: Of its cells, unless a row says otherwise.
    look: str = ""
    #: Wider cells are cut.
    max_width: int = _MAX_COLUMN_WIDTH


class Table:
    """Lines of cells in columns that are as wide as their contents.

    Args:
        columns: from left to right.
        rows: whose cells set the widths.
        style: what the terminal can show.
        width: of the terminal, of which the last column takes the rest; None to treat it as the
            others.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        rows: Sequence[Sequence[str]],
        style: Style,
        width: int | None = None,
    ) -> None:
        self._columns, self._style = columns, style
        self.headings = [column.heading for column in columns]
        cells = zip(self.headings, *rows, strict=True)
        self._widths = [
            min(max(map(display_width, texts)), column.max_width)
            for texts, column in zip(cells, columns, strict=True)
        ]
        if width is not None:
            others = sum(self._widths[:-1]) + 2 * len(self._widths[:-1])
            self._widths[-1] = max(width - others, _MIN_LAST_COLUMN_WIDTH)

    def line(self, row: Sequence[str], looks: Sequence[str] = ()) -> str:
        """Return the row as a line.

        Args:
            row: cells, which are clean already.
            looks: of each cell, such as "red" or empty; empty for none.
        """
        cells = []
        looks = looks or [""] * len(row)
        columns = zip(row, self._widths, looks, self._columns, strict=True)
        for text, width, look, column in columns:
            text = clip_text(text, width, self._style.glyphs.ellipsis)
            gap = " " * (width - display_width(text))
            painted = self._style.paint(text, look) if look else text
            cells.append(gap + painted if column.is_number else painted + gap)
        return "  ".join(cells).rstrip()


def format_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    width: int,
    style: Style,
    looks: Sequence[Sequence[str]] = (),
) -> list[str]:
    """Return the rows under their headings, cut to ``width`` columns where that is possible.

    Args:
        columns: from left to right.
        rows: of cells, which are clean already.
        width: of the terminal.
        style: what it can show.
        looks: of each row's cells, such as "red"; empty for those of the columns.
    """
    table = Table(columns, rows, style, width)
    looks = looks or [[column.look for column in columns]] * len(rows)
    return [
        table.line(table.headings, ["dim"] * len(columns)),
        *(table.line(row, row_looks) for row, row_looks in zip(rows, looks, strict=True)),
    ]
