"""Lists of things within a row (events, links, exemplars) as ClickHouse's ``Nested``: a struct of
lists, so that ``Events.Name`` is the list of the names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rimp_otel.query.arrays import Names, list_offsets, lists
from rimp_otel.query.attributes import attribute_columns
from rimp_otel.query.extras import pyarrow

__all__ = ["Nested"]

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
