"""What ``FileStorage.retrieve`` does: the records of a range, and no more files than it takes."""

from __future__ import annotations

from typing import Any

from rimp_otel.data import TelemetryData
from rimp_otel.storage.base import Selection, untimed
from rimp_otel.storage.layout import SealedName
from rimp_otel.storage.reader import RecordingReader

__all__ = ["retrieve"]

_FEW = 10_000


def retrieve(reader: RecordingReader, selection: Selection) -> TelemetryData:
    """The records that are selected, oldest first.

    Raises:
        StorageError: a file cannot be read.
    """
    found: list[tuple[int, str, Any]] = []
    # What is certain not to be among the newest is let go of while reading.
    most = None if selection.limit is None else max(4 * selection.limit, _FEW)

    def is_wanted(name: SealedName) -> bool:
        return _may_hold(name, selection, found)

    for source in reader.newest_first(is_wanted):
        older: list[tuple[int, str, Any]] = []
        for data in source:
            older += selection.of_timed(data)
            if most is not None and len(older) > most:
                older = selection.newest(older)
        found[:] = selection.newest(older + found)
    return untimed(found)


def _may_hold(name: SealedName, selection: Selection, found: list[tuple[int, str, Any]]) -> bool:
    """Whether a sealed file may hold one of the records, given those that are newer."""
    if name.first is None or name.last is None:
        return name.signal in selection.filter.signals
    if name.signal not in selection.filter.signals:
        return False
    if selection.start is not None and name.last < selection.start:
        return False
    if selection.end is not None and name.first >= selection.end:
        return False
    if selection.limit is None or len(found) < selection.limit:
        return True
    return bool(found) and name.last > found[0][0]
