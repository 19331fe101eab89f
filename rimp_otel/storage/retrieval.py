"""What ``FileStorage.retrieve`` does: the records that are selected, and little else is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from operator import itemgetter
from typing import Any

from rimp_otel.data import TelemetryData
from rimp_otel.storage.reader import RecordingReader
from rimp_otel.storage.search import Search
from rimp_otel.storage.selecting import TIMES, Selection, untimed
from rimp_otel.storage.sweep import sweep

__all__ = ["iter_retrieve", "retrieve"]

_FEW = 10_000


def retrieve(reader: RecordingReader, selection: Selection) -> TelemetryData:
    """The records that are selected, oldest first.

    Raises:
        StorageError: a file cannot be read.
    """
    search = Search(selection)
    if selection.limit is None:
        return _all(reader, search)
    # A time, the list that it belongs to, the record, and its line in the file.
    found: list[tuple[int, str, Any, int]] = []
    # What is certain not to be among the newest is let go of while reading.
    most = max(4 * selection.limit, _FEW)
    for source in reader.newest_first(search):
        older: list[tuple[int, str, Any, int]] = []
        for number, data in source:
            for record in selection.of_timed(data):
                older.append((*record, number))
                search.found(record[0])
            if len(older) > most:
                older = _newest(older, selection)
        found[:] = selection.newest(_newest(older, selection) + found)
    return untimed([record[:3] for record in found])


def _all(reader: RecordingReader, search: Search) -> TelemetryData:
    """The same without a limit, and so without more objects than the records themselves: with many
    of them, the garbage collector takes as long as all the rest."""
    selection = search.selection
    found: dict[str, list[list[Any]]] = {name: [] for name in TIMES}
    for source in reader.newest_first(search):
        own: dict[str, list[Any]] = {name: [] for name in TIMES}
        for _, data in source:
            for name, records in own.items():
                records += selection.of_list(name, data)
        for name, records in own.items():
            found[name].append(records)
    lists = {name: list(chain.from_iterable(reversed(found[name]))) for name in TIMES}
    for name, time in TIMES.items():
        lists[name].sort(key=time)
    return TelemetryData(**lists)


def iter_retrieve(
    reader: RecordingReader, selection: Selection, batch_size: int
) -> Iterator[TelemetryData]:
    """The same without a limit, in batches of so many, in a memory that does not grow.

    Raises:
        StorageError: a file cannot be read.
    """
    records = sweep(reader, Search(selection))
    while batch := list(islice(records, batch_size)):
        yield untimed(batch)


def _newest(
    records: list[tuple[int, str, Any, int]], selection: Selection
) -> list[tuple[int, str, Any, int]]:
    """Of a file's records, read in any order of lines; of one time, those of later lines."""
    records.sort(key=itemgetter(3))
    return selection.newest(records)
