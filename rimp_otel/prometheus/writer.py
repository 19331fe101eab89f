"""The base of what writes pages: what was written of a series is kept as long as its value stays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

from rimp_otel.prometheus.families import Family, Member
from rimp_otel.prometheus.series import Series
from rimp_otel.prometheus.totals import Value

__all__ = ["PageWriter"]


class _Written(NamedTuple):
    """What was written of a series."""

    value: Value
    #: When the newest exemplar was measured.
    exemplar: int
    start: int
    data: bytes


class PageWriter(ABC):
    """Writes families of one table as a page. For one thread at a time."""

    def __init__(self) -> None:
        self._written: dict[Series, _Written] = {}

    @abstractmethod
    def write(self, families: Iterable[Family]) -> bytes:
        """Return the page."""

    @abstractmethod
    def _write_member(self, family: Family, member: Member) -> bytes:
        """Return one series of a page."""

    def _write_members(self, family: Family) -> list[bytes]:
        """Return the series of a family; those anew that have changed."""
        return [self._data_of(family, member) for member in family.members]

    def _data_of(self, family: Family, member: Member) -> bytes:
        series, value = member.series, member.value
        if series is None:
            return self._write_member(family, member)
        exemplar = 0
        if series.exemplars:
            exemplar = max(one.time_unix_nano or 0 for one in series.exemplars.values())
        before = self._written.get(series)
        if (
            before is not None
            and (before.value is value or before.value == value)
            and before.exemplar == exemplar
            and before.start == series.start
        ):
            return before.data
        data = self._write_member(family, member)
        self._written[series] = _Written(value, exemplar, series.start, data)
        return data
