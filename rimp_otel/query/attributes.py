"""Attributes of many records as columns: a map from key to text, and one from key to type."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

from rimp_otel.otlp.wire import KeyValue
from rimp_otel.query.arrays import (
    Names,
    Pairs,
    coded,
    flat_numbers,
    list_offsets,
    maps,
    numbers_of,
    offsets_of,
)
from rimp_otel.query.extras import pyarrow
from rimp_otel.query.texts import INT, STRING, TYPES, text_and_type

__all__ = ["AttributeColumns", "attribute_columns", "attribute_lists", "attribute_pairs"]

_compute = pyarrow.compute
_NONE: tuple[KeyValue, ...] = ()
_ROW = ("key", "text", "type")


class AttributeColumns(NamedTuple):
    """The attributes of many records."""

    #: A map for each: key to text.
    values: Any
    #: A map for each: key to type, but for strings.
    types: Any


def attribute_lists(rows: Sequence[list[KeyValue] | None], names: Names) -> Any:
    """The attributes of each row as a list of key (its number), text and type (its number), which
    can be brought into another order. Of a key that is there twice, the last value counts.
    """
    keys, texts, others, sizes = _flatten(rows, names)
    packed = array("i", keys).tobytes()
    if _has_twice(packed, sizes):
        return attribute_lists([_without_twice(row) for row in rows], names)
    types = bytearray(len(texts))
    for at, kind in others:
        types[at] = kind
    columns = [
        flat_numbers(packed),
        pyarrow.array(texts, pyarrow.string()),
        numbers_of(types, pyarrow.int8()),
    ]
    return pyarrow.ListArray.from_arrays(
        offsets_of(sizes), pyarrow.StructArray.from_arrays(columns, list(_ROW))
    )


def _flatten(
    rows: Sequence[list[KeyValue] | None], names: Names
) -> tuple[list[int], list[str], list[tuple[int, int]], list[int]]:
    """Keys, texts, the places and types of what is no string, and how many each row has."""
    keys: list[int] = []
    texts: list[str] = []
    others: list[tuple[int, int]] = []
    sizes: list[int] = []
    add_key, add_text = keys.append, texts.append
    # One loop that touches each value once: this is most of what making columns takes.
    for row in rows:
        sizes.append(len(row) if row else 0)
        for pair in row or _NONE:
            add_key(names[pair.key])
            value = pair.value
            text = None if value is None else value.string_value
            if text is None:
                if value is not None and (number := value.int_value) is not None:
                    text, kind = str(number), INT
                else:
                    text, kind = text_and_type(value)
                others.append((len(texts), kind))
            add_text(text)
    return keys, texts, others, sizes


def attribute_columns(found: Any, names: Names) -> AttributeColumns:
    """What ``attribute_lists`` made, as columns."""
    offsets, flat = list_offsets(found), found.flatten()
    keys, values, types = (flat.field(name) for name in _ROW)
    texts = names.texts()
    is_other = _compute.not_equal(types, STRING)
    before = pyarrow.concat_arrays(
        [
            pyarrow.array([0], pyarrow.int32()),
            _compute.cumulative_sum(is_other.cast(pyarrow.int32())),
        ]
    )
    return AttributeColumns(
        maps(offsets, coded(keys, texts), values),
        maps(
            before.take(offsets),
            coded(keys.filter(is_other), texts),
            coded(types.filter(is_other), TYPES),
        ),
    )


def attribute_pairs(row: list[KeyValue] | None) -> tuple[Pairs, Pairs]:
    """The attributes of one thing: their texts, and their types but for strings."""
    found = {pair.key or "": text_and_type(pair.value) for pair in row or _NONE}
    types = [(key, TYPES[kind]) for key, (_, kind) in found.items() if kind != STRING]
    return [(key, text) for key, (text, _) in found.items()], types


def _has_twice(keys: bytes, sizes: Sequence[int]) -> bool:
    """Whether a row has a key twice. Rows of the same keys are looked at once."""
    shapes, start = set(), 0
    for size in sizes:
        end = start + 4 * size
        shapes.add(keys[start:end])
        start = end
    return any(len(set(array("i", shape))) * 4 != len(shape) for shape in shapes)


def _without_twice(row: list[KeyValue] | None) -> list[KeyValue]:
    return list({pair.key or "": pair for pair in row or _NONE}.values())
