"""Tells by the text of a line that it holds no wanted record, which is much faster than decoding it.

It may be wrong in one direction alone: a line that it refuses has no such record, however the line
is written. JSON can write a character as an escape, a number in several forms, and bytes as base64.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from rimp_otel.cli.record_filter import RecordFilter

__all__ = ["LineTest", "may_have_trace", "may_match_line"]

LineTest = Callable[[bytes], bool]
"""Returns False for a line without a wanted record."""

# What stands for itself in JSON, unless it is written as an escape such as \u0041.
_PLAIN = re.compile(r"[A-Za-z0-9 _.,:;=+*#@!?$%&()<>{}\[\]|~^'-]+")
_ESCAPED_PLAIN = re.compile(rb"\\u00[2-7]")
_BYTES = re.compile(rb"ytes_?[vV]alue")

_INTEGER = re.compile(r"-?([1-9][0-9]{0,14})")
# A decimal with this many digits and more can be equal, as a double, to one with other digits.
_EXACT_DIGITS = 16

_TRACE_ID = re.compile(rb'"trace_?[iI]d"\s*:\s*"([^"]*)"')
_HEX_ID = re.compile(rb"[0-9a-fA-F]{32}|")


def may_match_line(wanted: RecordFilter) -> LineTest | None:
    """Return a function that returns False for lines in which no record matches.

    Returns None if the conditions say nothing about the text of a line.
    """
    needles = [_longest_plain(wanted.service or ""), _longest_plain(wanted.name or "")]
    if wanted.name_text:
        needles.append(max(map(_longest_plain, wanted.name_text.split("*")), key=len))
    tests: list[LineTest] = []
    for key, text in wanted.attribute_texts:
        needles.append(_longest_plain(key))
        if test := _value_test(text):
            tests.append(test)
    tests[:0] = [partial(_contains, needle) for needle in needles if needle]
    if not tests:
        return None

    def may_match(line: bytes) -> bool:
        for test in tests:
            if not test(line):
                return _ESCAPED_PLAIN.search(line) is not None
        return True

    return may_match


def may_have_trace(trace_ids: frozenset[int]) -> LineTest:
    """Return a function that returns False for lines without a record of these traces."""
    texts = {f"{trace_id:032x}".encode() for trace_id in trace_ids}

    def may_have(line: bytes) -> bool:
        for found in set(_TRACE_ID.findall(line)):
            # Other tools write ids in base64.
            if found.lower() in texts or not _HEX_ID.fullmatch(found):
                return True
        return False

    return may_have


def _contains(needle: bytes, line: bytes) -> bool:
    return needle in line


def _longest_plain(text: str) -> bytes:
    return max(_PLAIN.findall(text), key=len, default="").encode()


def _value_test(text: str | None) -> LineTest | None:
    """Return a test for the value of an attribute; see `RecordFilter.attribute_texts`."""
    if text is None:
        return None
    if integer := _INTEGER.fullmatch(text):
        return _integer_test(integer[1])
    if _reads_as_other(text):
        return None
    needle = _longest_plain(text)
    if not needle:
        return None
    return lambda line: needle in line or _BYTES.search(line) is not None


def _integer_test(digits: str) -> LineTest:
    # 4700 may be written as 4.7e3.
    written = r"\.?".join(digits.rstrip("0"))
    value = re.compile(rf'alue"\s*:\s*"?[-+]?[0.]*{written}'.encode())
    plain = digits.encode()
    # 4711 may also be written as 4710.999999999999999.
    nines = _EXACT_DIGITS - len(digits)
    nearly = re.compile(rf'ouble_?[vV]alue"\s*:\s*"?[-+]?[0-9.]*[9.]{{{nines}}}'.encode())

    def may_have(line: bytes) -> bool:
        # Quick looks first: an integer is written in digits, and only a double otherwise.
        has_double = b"ouble" in line
        if (has_double or plain in line) and value.search(line):
            return True
        if has_double and nearly.search(line):
            return True
        return b"ytes" in line and _BYTES.search(line) is not None

    return may_have


def _reads_as_other(text: str) -> bool:
    """Return True if the text may stand for a value that is not text and not an integer."""
    if text.lower() in ("true", "false", "null") or text.strip()[:1] in ("[", "{"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True
