"""Marks: records that can be told from all others, and whose damage shows."""

from __future__ import annotations

import zlib

__all__ = ["check_of", "is_whole"]

_FILL = "abcdefghijklmnopqrstuvwxyz äöü ☃ 0123456789 " * 40


def check_of(mark: str) -> str:
    """Return a text that only the record with this mark has, of 8 to about 600 characters."""
    check = zlib.crc32(mark.encode())
    return f"{check:08x}" + _FILL[: check % 592]


def is_whole(mark: str, check: object) -> bool:
    """Return True if a record has the text that belongs to its mark."""
    return check == check_of(mark)
