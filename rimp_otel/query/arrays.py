"""Columns out of Python's lists, as Arrow arrays.

What is the same for many rows (a name, a resource's attributes, the keys of maps) is a number
until the rows are in their order, and then a dictionary array: neither Arrow nor Parquet looks at
those texts again.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

from rimp_otel.query.extras import pyarrow

__all__ = [
    "MAP",
    "Names",
    "Pairs",
    "coded",
    "codes",
    "counts",
    "flat_numbers",
    "floats",
    "integers",
    "list_offsets",
    "lists",
    "maps",
    "numbers_of",
    "offsets_of",
    "optional_integers",
    "spread_maps",
    "spread_texts",
    "texts",
]

Pairs = Sequence[tuple[str, str]]
"""The entries of one map; no key twice."""

MAP = pyarrow.map_(pyarrow.string(), pyarrow.string())
"""The type of attributes."""

_LARGEST = 2**63 - 1
_LATEST = 2**63 - 2  # the largest is infinity


class Names(dict[Any, int]):
    """Numbers for texts: each gets the next one when it is first asked for."""

    def __missing__(self, name: str | None) -> int:
        number = self[name] = len(self)
        return number

    def texts(self) -> list[str]:
        """The texts, by their numbers."""
        return [name or "" for name in self]


def texts(values: Sequence[str | None]) -> Any:
    """A text for each row, an empty one where there is none."""
    if not any(values):
        return pyarrow.repeat("", len(values))
    return pyarrow.array([value or "" for value in values], pyarrow.string())


def integers(values: Sequence[int | None]) -> Any:
    """A time or duration in nanoseconds for each row, 0 where there is none; what does not fit is
    the largest that does."""
    try:
        packed = array("q", [value or 0 for value in values])
    except OverflowError:
        packed = array("q", [min(value or 0, _LATEST) for value in values])
    return numbers_of(packed, pyarrow.int64())


def counts(values: Sequence[int | None]) -> Any:
    """An unsigned 32-bit number for each row, 0 where there is none."""
    return numbers_of(array("I", [value or 0 for value in values]), pyarrow.uint32())


def optional_integers(values: Sequence[int | None]) -> Any:
    """A 64-bit number for each row, or none."""
    cut = [value if value is None else min(value, _LARGEST) for value in values]
    return pyarrow.array(cut, pyarrow.int64())


def floats(values: Sequence[float | None]) -> Any:
    """A double for each row, or none."""
    return pyarrow.array(values, pyarrow.float64())


def codes(numbers: Iterable[Any]) -> Any:
    """Small numbers, one for each row."""
    return flat_numbers(array("i", numbers).tobytes())


def flat_numbers(packed: bytes) -> Any:
    """32-bit integers that lie one after the other."""
    return numbers_of(packed, pyarrow.int32())


def numbers_of(packed: bytes | bytearray | array[int], kind: Any) -> Any:
    """Numbers of a kind that lie one after the other."""
    buffer = pyarrow.py_buffer(packed)
    return pyarrow.Array.from_buffers(kind, buffer.size * 8 // kind.bit_width, [None, buffer])


def coded(numbers: Any, values: Sequence[str]) -> Any:
    """Texts by their numbers."""
    return pyarrow.DictionaryArray.from_arrays(numbers, pyarrow.array(values, pyarrow.string()))


def spread_texts(values: Sequence[str], numbers: Any) -> Any:
    """The text that each row's number stands for."""
    names = Names()
    by_number = pyarrow.array([names[value] for value in values], pyarrow.int32())
    return coded(by_number.take(numbers), names.texts())


def spread_maps(values: Sequence[Pairs], runs: Sequence[tuple[int, int]]) -> Any:
    """The map that each row's number stands for.

    Args:
        values: the maps, by their numbers.
        runs: a number, and for how many rows it stands.
    """
    keys, items = Names(), Names()
    key_codes = [array("i", [keys[key] for key, _ in pairs]).tobytes() for pairs in values]
    item_codes = [array("i", [items[item] for _, item in pairs]).tobytes() for pairs in values]
    sizes = [array("i", [len(pairs)]).tobytes() for pairs in values]
    lengths = array("i", b"".join([sizes[number] * count for number, count in runs]))
    return maps(
        offsets_of(lengths),
        coded(flat_numbers(b"".join([key_codes[n] * count for n, count in runs])), keys.texts()),
        coded(flat_numbers(b"".join([item_codes[n] * count for n, count in runs])), items.texts()),
    )


def maps(offsets: Any, keys: Any, values: Any) -> Any:
    """A map for each row."""
    return pyarrow.MapArray.from_arrays(offsets, keys, values)


def lists(counts: Sequence[int], values: Any) -> Any:
    """A list for each row, of which each has so many of the values."""
    return pyarrow.ListArray.from_arrays(offsets_of(counts), values)


def offsets_of(lengths: Iterable[int]) -> Any:
    """Where each of the lists begins that have these lengths, and the last one ends."""
    return codes(accumulate(lengths, initial=0))


def list_offsets(found: Any) -> Any:
    """The offsets of an array of lists, from 0 on, whatever it is a part of."""
    offsets = found.offsets
    first = offsets[0].as_py()
    return pyarrow.compute.subtract(offsets, first) if first else offsets
