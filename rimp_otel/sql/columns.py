"""Columns out of Python's lists, as Arrow arrays.

What is the same for many rows (a name, a resource's attributes, the keys of maps) is a number
until the rows are in their order, and then a dictionary array: neither Arrow nor Parquet looks at
those texts again.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from rimp_otel.otlp.decode_common import any_value
from rimp_otel.otlp.messages import AnyValue, KeyValue
from rimp_otel.sql.extras import pyarrow

__all__ = [
    "MAP",
    "TYPES",
    "AttributeColumns",
    "Names",
    "Nested",
    "Pairs",
    "attribute_columns",
    "attribute_lists",
    "attribute_pairs",
    "coded",
    "codes",
    "counts",
    "double_text",
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
    "text_and_type",
    "texts",
    "typed_text",
]


# --- Columns out of Python's lists, as Arrow arrays.

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


# --- Attribute values as text, as the OpenTelemetry Collector's exporters write them, and their types.

TYPES = ("string", "int", "double", "bool", "array", "kvlist", "bytes", "empty")
"""The names of AnyValue's types, as they stand in the columns of types."""

STRING, INT, DOUBLE, BOOL, ARRAY, KVLIST, BYTES, EMPTY = range(len(TYPES))

_to_json = msgspec.json.Encoder().encode


def text_and_type(value: AnyValue | None) -> tuple[str, int]:
    """A value's text, and the index of its type in ``TYPES``."""
    if value is None:
        return "", EMPTY
    if value.string_value is not None:
        return value.string_value, STRING
    if value.int_value is not None:
        return str(value.int_value), INT
    if value.double_value is not None:
        return double_text(value.double_value), DOUBLE
    if value.bool_value is not None:
        return _bool_text(value.bool_value), BOOL
    return _container_or_bytes(value)


def typed_text(value: AnyValue | None) -> tuple[str, str]:
    """A value's text, and the name of its type."""
    text, kind = text_and_type(value)
    return text, TYPES[kind]


def _container_or_bytes(value: AnyValue) -> tuple[str, int]:
    if value.array_value is not None:
        return _json_text(value), ARRAY
    if value.kvlist_value is not None:
        return _json_text(value), KVLIST
    return (value.bytes_value or "", BYTES) if value.bytes_value is not None else ("", EMPTY)


def _json_text(value: AnyValue) -> str:
    return _to_json(_json_ready(any_value(value, list))).decode()


def _json_ready(value: Any) -> Any:
    """JSON has no NaN and no infinities, which are written as OTLP does."""
    if isinstance(value, float) and not math.isfinite(value):
        return double_text(value)
    if isinstance(value, list):
        return [_json_ready(item) for item in value]
    if isinstance(value, dict):
        return {key: _json_ready(item) for key, item in value.items()}
    return value


def _bool_text(value: Any) -> str:
    return "true" if value is True else "false" if value is False else str(value)


def double_text(value: float) -> str:
    """A double as JSON has it in ECMAScript and Go: ``2`` for 2.0, ``1e+21``, ``1e-7``."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    text = repr(value)
    if "e" not in text:
        return text.removesuffix(".0")
    if 1e-6 <= abs(value) < 1e21:
        return format(Decimal(text), "f")
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{exponent[0] if exponent[0] in '+-' else '+'}{exponent.lstrip('+-0')}"


# --- Attributes of many records as columns: a map from key to text, and one from key to type.

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


# --- Lists of things within a row (events, links, exemplars) as ClickHouse's ``Nested``: a struct of

Make = Callable[[Sequence[Any], Names], dict[str, Any]]
"""Makes the fields of things that lie one after the other."""


class Nested:
    """One kind of things.

    Args:
        make: their fields; among them ``attributes``, made by ``attribute_lists``.
        fields: the names and types of the lists.
        attributes: the name of the list of their attributes.
    """

    def __init__(self, make: Make, fields: dict[str, Any], attributes: str = "Attributes") -> None:
        self.type = pyarrow.struct([(name, pyarrow.list_(kind)) for name, kind in fields.items()])
        self._fields = fields
        self._attributes = attributes
        self._make = make
        self._nothing = self._flat([], Names())

    def rows(self, rows: Sequence[list[Any] | None], keys: Names) -> Any:
        """A list of them for each row, which can be brought into another order."""
        flat = [each for row in rows if row for each in row]
        made = self._flat(flat, keys) if flat else self._nothing  # which is the usual case
        return lists([len(row) if row else 0 for row in rows], made)

    def column(self, rows: Any, keys: Names) -> Any:
        """What ``rows`` made, as the column of the schema."""
        offsets, flat = list_offsets(rows), rows.flatten()
        attributes = attribute_columns(flat.field("attributes"), keys)
        found = {name: flat.field(name) for name in flat.type.names}
        found[self._attributes] = attributes.values
        found[self._attributes.removesuffix("s") + "Types"] = attributes.types
        made = [
            pyarrow.ListArray.from_arrays(offsets, _as(found[name], kind))
            for name, kind in self._fields.items()
        ]
        return pyarrow.StructArray.from_arrays(made, list(self._fields))

    def _flat(self, things: Sequence[Any], keys: Names) -> Any:
        fields = self._make(things, keys)
        return pyarrow.StructArray.from_arrays(list(fields.values()), list(fields))


def _as(values: Any, kind: Any) -> Any:
    """Without dictionaries, which not everything knows this deep within other types."""
    return values if values.type == kind else values.cast(kind)
