"""Colour, columns, times, durations; and that nothing recorded reaches a terminal raw."""

from __future__ import annotations

import json
import math

import pytest

from rimp_otel.render.format import (
    format_bytes,
    format_count,
    format_duration,
    format_number,
    format_time,
    format_utc,
)
from rimp_otel.render.terminal import (
    Style,
    clip_text,
    display_width,
    look_of_service,
    pad_text,
    to_json,
)
from tests.cli.records import HOSTILE, HOSTILE_SHOWN, T0


def test_hostile_text_is_escaped() -> None:
    """Each character that would do more than appear comes out as its escape."""
    assert Style().clean(HOSTILE) == HOSTILE_SHOWN


def test_every_control_and_format_character_is_escaped() -> None:
    """C0, C1, DEL, bidi controls, line separators, surrogates: none is left in the text."""
    unsafe = [*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F)]
    unsafe += [*range(0x2060, 0x2070), 0xFEFF, *range(0xD800, 0xE000), 0xE0001, 0xE007F]
    assert [point for point in unsafe if not Style().clean(chr(point)).isascii()] == []
    assert [point for point in unsafe if not Style().clean(chr(point)).isprintable()] == []


def test_what_is_huge_is_cut() -> None:
    """A message of 10 MB, or an attribute, or a thousand attributes, does not flood a terminal."""
    huge = "\x1b" * 10_000_000
    assert Style().clean(huge) == r"\x1b" * 4_000 + "… (10,000,000 characters)"
    assert Style().clean("x" * 4_000) == "x" * 4_000
    assert len(Style().value(huge)) == 80
    assert len(Style().value(["x" * 10_000_000, 1])) == 80
    pairs = Style().pairs({f"k{i}": i for i in range(1_000)})
    assert pairs[49:] == ["k49=49", "(+950 more)"]
    assert Style().pairs({f"k{i}": i for i in range(50)})[49:] == ["k49=49"]


def test_ordinary_text_is_left_alone() -> None:
    """Letters of any script, emoji with joiners, and backslashes stay as they are."""
    text = "naïve Ünïcode 日本語 क्\u200dष 👩\u200d🚀 C:\\temp"
    assert Style().clean(text) == text


def test_ascii_style_escapes_the_rest_too() -> None:
    """Where the output holds ASCII only, other letters are escaped."""
    assert Style(unicode=False).clean("caf\xe9 \x1b") == r"caf\xe9 \x1b"


def test_paint() -> None:
    """Looks become one escape sequence; without colour, or on blanks, there is none."""
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
    """Values are as short as they can be without reading as something else."""
    assert Style().value(value) == shown


def test_pairs_clean_their_keys() -> None:
    """A key is as hostile as a value."""
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


@pytest.mark.parametrize(
    ("nanos", "shown"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_000, "1 µs"),
        (12_340, "12.3 µs"),
        (999_499, "999 µs"),
        (999_500, "1 ms"),
        (231_000_000, "231 ms"),
        (1_500_000_000, "1.5 s"),
        (59_949_000_000, "59.9 s"),
        (59_990_000_000, "1 m 0 s"),
        (247_000_000_000, "4 m 7 s"),
        (7_500_000_000_000, "2 h 5 m"),
        (-10_000_000, "-10 ms"),
    ],
)
def test_durations(nanos: int, shown: str) -> None:
    """Three significant digits, in the unit that fits."""
    assert format_duration(nanos) == shown


def test_ascii_durations() -> None:
    """A microsecond is spelt with a u where there is no µ."""
    assert Style(unicode=False).duration(2_000) == "2 us"


def test_times() -> None:
    """Local time to the millisecond; UTC to the nanosecond; bounds and gaps do not fail."""
    assert format_time(T0 + 1_500_000) == "2026-11-18 11:06:40.001"
    assert format_time(0) == "-"
    assert format_time(2**64) == "2554-07-21 23:34:33.709"
    assert format_time(10**30) == "9999-12-31 23:59:59.999"
    assert format_utc(T0 + 1) == "2026-11-18T11:06:40.000000001Z"
    assert format_utc(0) is None


def test_numbers_and_sizes() -> None:
    """Integers as they are, floats in six digits, sizes in multiples of 1,000."""
    assert [format_number(n) for n in (3, 10**20, 0.1 + 0.2, math.inf)] == [
        "3",
        "100000000000000000000",
        "0.3",
        "inf",
    ]
    assert [format_bytes(n) for n in (0, 999, 1_000, 2_949_000, 10**10)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "2.9 MB",
        "10.0 GB",
    ]
    assert [format_count(n, "span") for n in (0, 1, 1_204)] == ["0 spans", "1 span", "1,204 spans"]


def test_json_is_ascii_without_controls() -> None:
    """JSON escapes do for programs what escapes do for people; DEL is one of them."""
    text = to_json({"name": HOSTILE, HOSTILE: ["é"]})
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == {"name": HOSTILE, HOSTILE: ["é"]}


def test_json_of_what_json_has_not() -> None:
    """Bytes are base64, numbers that are none are strings, anything else is its text."""
    value = {"b": b"\x00", "n": [math.nan, math.inf, -math.inf], "o": {1: complex(1, 2)}}
    assert to_json(value) == (
        '{"b": "AA==", "n": ["NaN", "Infinity", "-Infinity"], "o": {"1": "(1+2j)"}}'
    )


def test_a_service_keeps_its_colour() -> None:
    """The colour comes from the name alone, also from one that cannot be encoded."""
    assert look_of_service("shop") == look_of_service("shop")
    assert look_of_service("\ud800") != "red"
