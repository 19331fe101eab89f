"""Histograms of durations that add up fast: a whole one is one integer, with 32 bits for each bin.

Bins grow with the value: 32 for each power of two, so that a quantile is off by 1.6 % at most.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "bin_middle",
    "bin_of",
    "bin_start",
    "bins_of",
    "make_histogram",
    "quantiles",
    "total_of",
]

_BITS = 5
_EXACT = 2 << _BITS
_WIDTH = 4
_WORD = "I"
_WORD_BITS = 8 * _WIDTH


def bin_of(nanos: int) -> int:
    """Return the bin of a duration in nanoseconds; a negative one counts as 0."""
    if nanos < _EXACT:
        return max(nanos, 0)
    shift = nanos.bit_length() - _BITS - 1
    return (shift << _BITS) + (nanos >> shift)


def bin_middle(number: int) -> int:
    """Return the duration in the middle of a bin."""
    if number < _EXACT:
        return number
    shift = (number >> _BITS) - 1
    return ((number - (shift << _BITS)) << shift) + ((1 << shift) >> 1)


def bin_start(number: int) -> int:
    """Return the shortest duration in a bin."""
    if number < _EXACT:
        return number
    shift = (number >> _BITS) - 1
    return (number - (shift << _BITS)) << shift


def make_histogram(counts: Mapping[int, int]) -> int:
    """Return the histogram of counts by bin."""
    if not counts:
        return 0
    words = array(_WORD, bytes(_WIDTH * (max(counts) + 1)))
    for number, count in counts.items():
        words[number] = min(count, 0xFFFFFFFF)
    return int.from_bytes(_little_endian(words).tobytes(), "little")


def bins_of(histogram: int) -> tuple[int, Sequence[int]]:
    """Return the number of a histogram's first bin that is not empty, and the counts from there on."""
    if not histogram:
        return 0, ()
    low = ((histogram & -histogram).bit_length() - 1) // _WORD_BITS
    words = histogram >> (_WORD_BITS * low)
    size = -(-words.bit_length() // _WORD_BITS) * _WIDTH
    return low, _little_endian(array(_WORD, words.to_bytes(size, "little")))


def _little_endian(words: array[int]) -> array[int]:
    if sys.byteorder == "big":
        words.byteswap()
    return words


def total_of(histogram: int) -> int:
    """Return how many durations a histogram has."""
    return sum(bins_of(histogram)[1])


def quantiles(histogram: int, shares: Iterable[float]) -> list[int | None]:
    """Return for each share (0 to 1) the duration that it does not exceed; None of none at all.

    Args:
        histogram: of the durations.
        shares: in ascending order.
    """
    low, counts = bins_of(histogram)
    total = sum(counts)
    if not total:
        return [None for _ in shares]
    found: list[int | None] = []
    number, before = 0, counts[0]
    for share in shares:
        rank = min(int(share * total), total - 1)
        while before <= rank:
            number += 1
            before += counts[number]
        found.append(bin_middle(low + number))
    return found
