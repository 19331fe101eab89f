"""Text for terminals: nothing recorded reaches one raw; colours, columns, tables."""

from __future__ import annotations

import json
import math

import pytest

from rimp_otel.render.terminal import (
    Column,
    Style,
    Table,
    clip_text,
    display_width,
    format_table,
    look_of_service,
    pad_text,
    to_json,
    wrap_items,
)
from tests.cli.records import HOSTILE, HOSTILE_SHOWN


def test_hostile_text_is_escaped() -> None:
    """Each control character becomes an escape."""
    assert Style().clean(HOSTILE) == HOSTILE_SHOWN


def test_every_control_and_format_character_is_escaped() -> None:
    """No C0, C1, DEL, bidi control, line separator or surrogate is left in the text."""
    unsafe = [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F)]
    unsafe += [*range(0x2060, 0x2070), 0xFEFF, *range(0xD800, 0xE000), 0xE0001, 0xE007F]
    assert [point for point in unsafe if not Style().clean(chr(point)).isascii()] == []
    assert [point for point in unsafe if not Style().clean(chr(point)).isprintable()] == []


def test_huge_texts_are_cut() -> None:
    """Neither a message or attribute of 10 MB nor a thousand attributes flood a terminal."""
    huge = "\x1b" * 10_000_000
    assert Style().clean(huge) == r"\x1b" * 4_000 + "… (10,000,000 characters)"
    assert Style().clean("x" * 4_000) == "x" * 4_000
    assert len(Style().value(huge)) == 80
    assert len(Style().value(["x" * 10_000_000, 1])) == 80
    pairs = Style().pairs({f"k{i}": i for i in range(1_000)})
    assert pairs[49:] == ["k49=49", "(+950 more)"]
    assert Style().pairs({f"k{i}": i for i in range(50)})[49:] == ["k49=49"]


def test_ordinary_text_is_unchanged() -> None:
    """Letters of any script, emoji with joiners, and backslashes are not escaped."""
    text = "naïve Ünïcode 日本語 क्\u200dष 👩\u200d🚀 C:\\temp"
    assert Style().clean(text) == text


def test_ascii_style_escapes_other_letters() -> None:
    """In ASCII, letters of other alphabets are escaped."""
    assert Style(unicode=False).clean("caf\xe9 \x1b") == r"caf\xe9 \x1b"


def test_paint() -> None:
    """Looks become one escape sequence; there is none without colour or on blanks."""
    assert Style(color=True).paint("x", "bold", "red") == "\x1b[1;31mx\x1b[0m"
    assert Style(color=True).paint("  ", "red") == "  "
    assert Style(color=True).paint("x") == "x"
    assert Style().paint("x", "red") == "x"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("two words", '"two words"'),
        ("", '""'),
        (3, "3"),
        (2.5, "2.5"),
        (True, "true"),
        (None, "null"),
        (b"\x00\xff", "AP8="),
        (("a", 1), '["a", 1]'),
        ({"k": [math.nan]}, '{"k": ["NaN"]}'),
        ("\x1b[2J", r"\x1b[2J"),
        (["\x9b"], r'["\x9b"]'),
        ("x" * 100, "x" * 79 + "…"),
    ],
)
def test_values(value: object, shown: str) -> None:
    """Values are quoted or JSON only if they would read as something else."""
    assert Style().value(value) == shown


def test_pairs_clean_their_keys() -> None:
    """Keys are cleaned like values."""
    assert Style().pairs({"\x1bk": "v", "n": 1}) == [r"\x1bk=v", "n=1"]


def test_columns_of_wide_and_combining_characters() -> None:
    """East Asian characters take two columns, combining ones none."""
    assert display_width("abc") == 3
    assert display_width("日本") == 4
    assert display_width("e\u0301") == 1


def test_clip() -> None:
    """A cut text ends in an ellipsis and never exceeds its columns."""
    assert clip_text("abcdef", 6) == "abcdef"
    assert clip_text("abcdef", 4) == "abc…"
    assert clip_text("日本語", 5) == "日本…"
    assert clip_text("日本語", 4) == "日…"
    assert clip_text("abcdef", 4, "..") == "ab.."
    assert clip_text("abcdef", 1, "..") == "."
    assert clip_text("abcdef", 0) == ""


def test_pad() -> None:
    """Padding counts columns, not characters."""
    assert pad_text("日", 4) == "日  "


def test_ascii_durations() -> None:
    """A microsecond is spelt with a u in ASCII."""
    assert Style(unicode=False).duration(2_000) == "2 us"


def test_json_is_ascii_without_controls() -> None:
    """Control characters, DEL too, become escapes of JSON."""
    text = to_json({"name": HOSTILE, HOSTILE: ["é"]})
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == {"name": HOSTILE, HOSTILE: ["é"]}


def test_json_of_other_values() -> None:
    """Bytes become base64, NaN and the infinities strings, other objects their text."""
    value = {"b": b"\x00", "n": [math.nan, math.inf, -math.inf], "o": {1: complex(1, 2)}}
    assert to_json(value) == (
        '{"b": "AA==", "n": ["NaN", "Infinity", "-Infinity"], "o": {"1": "(1+2j)"}}'
    )


def test_a_service_keeps_its_colour() -> None:
    """The colour depends on the name alone, also if it cannot be encoded."""
    assert look_of_service("shop") == look_of_service("shop")
    assert look_of_service("\ud800") != "red"


def test_wrap_items() -> None:
    """Items stand side by side, in as many lines as they need; a long item has one of its own."""
    items = [("one", ()), ("two", ("red",)), ("three", ()), ("x" * 20, ())]
    assert wrap_items(items, " | ", 12, Style()) == ["one | two", "three", "x" * 20]
    assert wrap_items([], " | ", 12, Style()) == [""]


COLUMNS = (Column("NAME", look="bold", max_width=6), Column("N", is_number=True), Column("TEXT"))


def test_tables() -> None:
    """Columns are as wide as their cells; numbers are at the right, the last column is cut."""
    rows = [("a", "1", "short"), ("日本語日本語", "1,204", "long " * 10)]
    assert format_table(COLUMNS, rows, 30, Style()) == [
        "NAME        N  TEXT",
        "a           1  short",
        "日本…   1,204  long long long…",
    ]
    assert format_table(COLUMNS, [], 30, Style()) == ["NAME  N  TEXT"]


def test_colours_of_tables() -> None:
    """A row has looks of its own, or those of the columns."""
    rows, colour = [("a", "1", "x")], Style(color=True)
    dim = "\x1b[2mNAME\x1b[0m  \x1b[2mN\x1b[0m  \x1b[2mTEXT\x1b[0m        "
    lines = format_table(COLUMNS, rows, 30, colour)
    assert lines[0].startswith(dim.rstrip())
    assert lines[1].startswith("\x1b[1ma\x1b[0m     1  x")
    lines = format_table(COLUMNS, rows, 30, colour, [("", "red", "")])
    assert lines[1].startswith("a     \x1b[31m1\x1b[0m  x")


def test_rows_after_the_first() -> None:
    """A table without a width has columns of the rows that it was made with."""
    table = Table(COLUMNS, [("a", "1", "xyz")], Style(unicode=False))
    assert table.line(table.headings) == "NAME  N  TEXT"
    assert table.line(("b", "2", "a longer text")) == "b     2  a .."
