"""Arrow columns from Python's lists: numbers, strings, attributes, nested lists.

A text that many rows share (a name, a resource's attributes, the keys of maps) is a number until the
rows are sorted, and then a dictionary array: neither Arrow nor Parquet looks at the texts again.
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
    "AttributeMaps",
    "MapEntries",
    "NestedColumn",
    "TextCodes",
    "attribute_entries",
    "attribute_list_column",
    "attribute_map_columns",
    "count_column",
    "dictionary_array",
    "float_column",
    "format_double",
    "int32_array",
    "int32_column",
    "list_column",
    "map_column",
    "number_array",
    "offsets_from_zero",
    "offsets_of",
    "optional_integer_column",
    "repeat_maps",
    "repeat_texts",
    "string_column",
    "text_and_type",
    "time_column",
]


MapEntries = Sequence[tuple[str, str]]
"""The entries of one map, without duplicate keys."""

MAP = pyarrow.map_(pyarrow.string(), pyarrow.string())
"""The type of attributes."""

_MAX_INT64 = 2**63 - 1
_MAX_TIME = 2**63 - 2  # DuckDB takes the largest number for infinity


class TextCodes(dict[Any, int]):
    """Codes of texts: a text gets the next number when it is first looked up."""

    def __missing__(self, text: str | None) -> int:
        code = self[text] = len(self)
        return code

    def texts(self) -> list[str]:
        """Return the texts in the order of their codes."""
        return [text or "" for text in self]


def string_column(values: Sequence[str | None]) -> Any:
    """Return a string for each row; empty for None."""
    if not any(values):
        return pyarrow.repeat("", len(values))
    return pyarrow.array([value or "" for value in values], pyarrow.string())


def time_column(values: Sequence[int | None]) -> Any:
    """Return a time or duration in nanoseconds for each row; 0 for None, the largest or smallest that
    fits for those beyond it."""
    try:
        packed = array("q", [value or 0 for value in values])
    except OverflowError:
        packed = array("q", [max(-_MAX_TIME, min(value or 0, _MAX_TIME)) for value in values])
    return number_array(packed, pyarrow.int64())


def count_column(values: Sequence[int | None]) -> Any:
    """Return an unsigned 32-bit integer for each row; 0 for None."""
    return number_array(array("I", [value or 0 for value in values]), pyarrow.uint32())


def optional_integer_column(values: Sequence[int | None]) -> Any:
    """Return a 64-bit integer or null for each row; the largest that fits for larger ones."""
    cut = [value if value is None else min(value, _MAX_INT64) for value in values]
    return pyarrow.array(cut, pyarrow.int64())


def float_column(values: Sequence[float | None]) -> Any:
    """Return a double or null for each row."""
    return pyarrow.array(values, pyarrow.float64())


def int32_column(numbers: Iterable[Any]) -> Any:
    """Return a 32-bit integer for each row: a number, or the code of a text."""
    return int32_array(array("i", numbers).tobytes())


def int32_array(packed: bytes) -> Any:
    """Return the array of packed 32-bit integers."""
    return number_array(packed, pyarrow.int32())


def number_array(packed: bytes | bytearray | array[int], kind: Any) -> Any:
    """Return the array of packed numbers of an Arrow type."""
    buffer = pyarrow.py_buffer(packed)
    return pyarrow.Array.from_buffers(kind, buffer.size * 8 // kind.bit_width, [None, buffer])


def dictionary_array(codes: Any, values: Sequence[str]) -> Any:
    """Return the string of each code."""
    return pyarrow.DictionaryArray.from_arrays(codes, pyarrow.array(values, pyarrow.string()))


def repeat_texts(values: Sequence[str], numbers: Any) -> Any:
    """Return a string for each row.

    Args:
        values: strings by number, perhaps with duplicates.
        numbers: one for each row.
    """
    codes = TextCodes()
    by_number = pyarrow.array([codes[value] for value in values], pyarrow.int32())
    return dictionary_array(by_number.take(numbers), codes.texts())


def repeat_maps(values: Sequence[MapEntries], runs: Sequence[tuple[int, int]]) -> Any:
    """Return a map for each row.

    Args:
        values: maps by number.
        runs: numbers, each with how many rows in a row have it.
    """
    keys, items = TextCodes(), TextCodes()
    key_codes = [array("i", [keys[key] for key, _ in pairs]).tobytes() for pairs in values]
    item_codes = [array("i", [items[item] for _, item in pairs]).tobytes() for pairs in values]
    sizes = [array("i", [len(pairs)]).tobytes() for pairs in values]
    lengths = array("i", b"".join([sizes[number] * count for number, count in runs]))
    return map_column(
        offsets_of(lengths),
        dictionary_array(
            int32_array(b"".join([key_codes[n] * count for n, count in runs])), keys.texts()
        ),
        dictionary_array(
            int32_array(b"".join([item_codes[n] * count for n, count in runs])), items.texts()
        ),
    )


def map_column(offsets: Any, keys: Any, values: Any) -> Any:
    """Return a map for each row, given where its entries begin."""
    return pyarrow.MapArray.from_arrays(offsets, keys, values)


def list_column(counts: Sequence[int], values: Any) -> Any:
    """Return a list for each row.

    Args:
        counts: how many values each list has.
        values: those of all lists, in their order.
    """
    return pyarrow.ListArray.from_arrays(offsets_of(counts), values)


def offsets_of(lengths: Iterable[int]) -> Any:
    """Return where lists of these lengths begin, and where the last one ends."""
    return int32_array(array("i", accumulate(lengths, initial=0)).tobytes())


def offsets_from_zero(lists: Any) -> Any:
    """Return the offsets of an array of lists from 0 on, also if it is a slice of another."""
    offsets = lists.offsets
    first = offsets[0].as_py()
    return pyarrow.compute.subtract(offsets, first) if first else offsets


# Attribute values as text, as the OpenTelemetry Collector's exporters write them, and their types.

TYPES = ("string", "int", "double", "bool", "array", "kvlist", "bytes", "empty")
"""The names of AnyValue's types in the columns of types."""

STRING, INT, DOUBLE, BOOL, ARRAY, KVLIST, BYTES, EMPTY = range(len(TYPES))

_to_json = msgspec.json.Encoder().encode


def text_and_type(value: AnyValue | None) -> tuple[str, int]:
    """Return the value as text, and the index of its type in ``TYPES``."""
    if value is None:
        return "", EMPTY
    if value.string_value is not None:
        return value.string_value, STRING
    if value.int_value is not None:
        return str(value.int_value), INT
    if value.double_value is not None:
        return format_double(value.double_value), DOUBLE
    if value.bool_value is not None:
        return _bool_text(value.bool_value), BOOL
    return _container_or_bytes(value)


def _container_or_bytes(value: AnyValue) -> tuple[str, int]:
    if value.array_value is not None:
        return _json_text(value), ARRAY
    if value.kvlist_value is not None:
        return _json_text(value), KVLIST
    return (value.bytes_value or "", BYTES) if value.bytes_value is not None else ("", EMPTY)


def _json_text(value: AnyValue) -> str:
    return _to_json(_json_ready(any_value(value, list))).decode()


def _json_ready(value: Any) -> Any:
    """Return the value with NaN and the infinities, which JSON does not have, as OTLP writes them."""
    if isinstance(value, float) and not math.isfinite(value):
        return format_double(value)
    if isinstance(value, list):
        return [_json_ready(item) for item in value]
    if isinstance(value, dict):
        return {key: _json_ready(item) for key, item in value.items()}
    return value


def _bool_text(value: Any) -> str:
    return "true" if value is True else "false" if value is False else str(value)


def format_double(value: float) -> str:
    """Return the number as ECMAScript and Go write it in JSON: ``2`` for 2.0, ``1e+21``, ``1e-7``."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    text = repr(value)
    if "e" not in text:
        return text.removesuffix(".0")
    if 1e-6 <= abs(value) < 1e21:
        return format(Decimal(text), "f")
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{exponent[0] if exponent[0] in '+-' else '+'}{exponent.lstrip('+-0')}"


# Attributes of many records as columns: a map from key to text, and one from key to type.

_compute = pyarrow.compute
_NONE: tuple[KeyValue, ...] = ()
_ROW = ("key", "text", "type")


class AttributeMaps(NamedTuple):
    """The attributes of many records: two columns of maps."""

    #: From key to text.
    values: Any
    #: From key to type, without strings.
    types: Any


def attribute_list_column(rows: Sequence[list[KeyValue] | None], key_codes: TextCodes) -> Any:
    """Return a list of attributes for each row, which can be sorted.

    Each is a struct of the key's code, the text, and the type's index in ``TYPES``. Of duplicate
    keys, the last value counts.
    """
    keys, texts, others, sizes = _flatten_attributes(rows, key_codes)
    packed = array("i", keys).tobytes()
    if _has_duplicate_keys(packed, sizes):
        return attribute_list_column([_without_duplicates(row) for row in rows], key_codes)
    types = bytearray(len(texts))
    for index, kind in others:
        types[index] = kind
    columns = [
        int32_array(packed),
        pyarrow.array(texts, pyarrow.string()),
        number_array(types, pyarrow.int8()),
    ]
    return pyarrow.ListArray.from_arrays(
        offsets_of(sizes), pyarrow.StructArray.from_arrays(columns, list(_ROW))
    )


def _flatten_attributes(
    rows: Sequence[list[KeyValue] | None], key_codes: TextCodes
) -> tuple[list[int], list[str], list[tuple[int, int]], list[int]]:
    """Return the keys' codes, the texts, the indexes and types of those that are no strings, and how
    many attributes each row has."""
    keys: list[int] = []
    texts: list[str] = []
    others: list[tuple[int, int]] = []
    sizes: list[int] = []
    add_key, add_text = keys.append, texts.append
    # One loop that touches each value once: most of the time of making columns is spent here.
    for row in rows:
        sizes.append(len(row) if row else 0)
        for pair in row or _NONE:
            add_key(key_codes[pair.key])
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


def attribute_map_columns(lists: Any, key_codes: TextCodes) -> AttributeMaps:
    """Return the columns of maps for what ``attribute_list_column`` made."""
    offsets, flat = offsets_from_zero(lists), lists.flatten()
    keys, values, types = (flat.field(name) for name in _ROW)
    texts = key_codes.texts()
    is_other = _compute.not_equal(types, STRING)
    before = pyarrow.concat_arrays(
        [
            pyarrow.array([0], pyarrow.int32()),
            _compute.cumulative_sum(is_other.cast(pyarrow.int32())),
        ]
    )
    return AttributeMaps(
        map_column(offsets, dictionary_array(keys, texts), values),
        map_column(
            before.take(offsets),
            dictionary_array(keys.filter(is_other), texts),
            dictionary_array(types.filter(is_other), TYPES),
        ),
    )


def attribute_entries(row: list[KeyValue] | None) -> tuple[MapEntries, MapEntries]:
    """Return the attributes of one resource, scope or metric: their texts, and the types of those
    that are no strings."""
    by_key = {pair.key or "": text_and_type(pair.value) for pair in row or _NONE}
    types = [(key, TYPES[kind]) for key, (_, kind) in by_key.items() if kind != STRING]
    return [(key, text) for key, (text, _) in by_key.items()], types


def _has_duplicate_keys(keys: bytes, sizes: Sequence[int]) -> bool:
    # Rows with the same keys are checked once.
    shapes, start = set(), 0
    for size in sizes:
        end = start + 4 * size
        shapes.add(keys[start:end])
        start = end
    return any(len(set(array("i", shape))) * 4 != len(shape) for shape in shapes)


def _without_duplicates(row: list[KeyValue] | None) -> list[KeyValue]:
    return list({pair.key or "": pair for pair in row or _NONE}.values())


# Lists within a row (events, links, exemplars) as ClickHouse's ``Nested``: a struct of lists.

MakeFields = Callable[[Sequence[Any], TextCodes], dict[str, Any]]
"""Makes a column for each field of messages, those of all rows one after the other."""


class NestedColumn:
    """A column of structs of lists.

    Args:
        make_fields: makes the fields; among them ``attributes``, by ``attribute_list_column``.
        fields: names and types of the lists.
        attributes: name of the list of attributes.
    """

    def __init__(
        self, make_fields: MakeFields, fields: dict[str, Any], attributes: str = "Attributes"
    ) -> None:
        self.type = pyarrow.struct([(name, pyarrow.list_(kind)) for name, kind in fields.items()])
        self._fields = fields
        self._attributes = attributes
        self._make_fields = make_fields
        self._no_values = self._struct_array([], TextCodes())

    def lists(self, rows: Sequence[list[Any] | None], key_codes: TextCodes) -> Any:
        """Return a list of structs for each row, which can be sorted."""
        messages = [message for row in rows if row for message in row]
        # Without messages is the usual case.
        values = self._struct_array(messages, key_codes) if messages else self._no_values
        return list_column([len(row) if row else 0 for row in rows], values)

    def structs(self, lists: Any, key_codes: TextCodes) -> Any:
        """Return the column of the schema for what ``lists`` made."""
        offsets, flat = offsets_from_zero(lists), lists.flatten()
        attributes = attribute_map_columns(flat.field("attributes"), key_codes)
        found = {name: flat.field(name) for name in flat.type.names}
        found[self._attributes] = attributes.values
        found[self._attributes.removesuffix("s") + "Types"] = attributes.types
        columns = [
            pyarrow.ListArray.from_arrays(offsets, _without_dictionary(found[name], kind))
            for name, kind in self._fields.items()
        ]
        return pyarrow.StructArray.from_arrays(columns, list(self._fields))

    def _struct_array(self, messages: Sequence[Any], key_codes: TextCodes) -> Any:
        fields = self._make_fields(messages, key_codes)
        return pyarrow.StructArray.from_arrays(list(fields.values()), list(fields))


def _without_dictionary(values: Any, kind: Any) -> Any:
    # Not every reader knows dictionaries this deep within other types.
    return values if values.type == kind else values.cast(kind)
