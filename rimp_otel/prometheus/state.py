"""The state of a table on disk: what was counted, and how far the recording was read for that.

Whoever serves a recording's metrics next goes on from there. Without it all metrics would be read anew,
and what retention has deleted meanwhile would be missing from the counters.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from rimp_otel.analysis.metrics import Distribution
from rimp_otel.fsutil import CREATE_FLAGS
from rimp_otel.models.records import MetricKind
from rimp_otel.prometheus.series import Owner, Process, Series, SeriesKey
from rimp_otel.prometheus.table import SeriesTable
from rimp_otel.prometheus.totals import HistogramTotal, SummaryTotal, Value, scale_of

__all__ = ["load_state", "save_state"]

_VERSION = 1
_KINDS = list(MetricKind)


class _StoredSeries(Struct, array_like=True, gc=False):
    """A series, with the processes that are known one by one."""

    owner: tuple[str, str, str, str, list[tuple[str, Any]]]
    #: Name, unit, number of the kind, whether it is monotonic.
    metric: tuple[str, str, int, bool]
    attributes: list[tuple[str, Any]]
    description: str
    start: int
    time: int
    base: Any
    #: Id, start in the id if there is one, start, time, whether it is absent, value.
    processes: list[tuple[bytes, int | None, int, int, bool, Any]]


class _StoredTable(Struct, array_like=True, gc=False):
    """All series, and how far the recording was read."""

    version: int
    position: Any
    resources: dict[str, dict[str, Any]]
    folded: list[int]
    series: list[_StoredSeries]


def save_state(path: Path, table: SeriesTable, position: Any) -> None:
    """Write the state to a file, readable by its owner alone.

    Args:
        path: of the file, whose directory there is.
        table: what was counted.
        position: how far the recording was read, as ``Recording.position`` returned it.

    Raises:
        OSError: it cannot be written.
        TypeError, ValueError, OverflowError: something in it cannot be encoded.
    """
    series = [_to_stored(one) for one in table.series]
    resources = {service: _plain_attributes(found) for service, found in table.resources.items()}
    state = _StoredTable(_VERSION, position, resources, list(table.folded.entries), series)
    data = msgspec.msgpack.encode(state)
    made = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        file = os.open(made, CREATE_FLAGS | os.O_TRUNC, 0o600)
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
        made.replace(path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


def load_state(path: Path, table: SeriesTable) -> Any:
    """Take a state into an empty table; return how far the recording was read, None without a state.

    One that cannot be read, or is of another version, is none.
    """
    try:
        found = _DECODER.decode(path.read_bytes())
        if found.version != _VERSION:
            return None
        series = [_from_stored(one) for one in found.series]
    except (OSError, msgspec.MsgspecError, LookupError, TypeError, ValueError):
        return None
    for one in series:
        table.restore(one)
    table.resources.update(found.resources)
    for id in found.folded:
        table.folded[id] = None
    return found.position


_DECODER = msgspec.msgpack.Decoder(_StoredTable)


def _to_stored(series: Series) -> _StoredSeries:
    key, owner = series.key, series.key.owner
    processes = []
    for id, found in series.processes.items():
        id, start = id if isinstance(id, tuple) else (id, None)
        value = _pack_value(found.value)
        processes.append((id, start, found.start, found.time, found.is_absent, value))
    return _StoredSeries(
        (*owner[:4], list(owner.scope_attributes)),
        (key.name, key.unit, _KINDS.index(key.kind), key.is_monotonic),
        list(key.attributes),
        series.description,
        series.start,
        series.time,
        _pack_value(series.base),
        processes,
    )


def _from_stored(found: _StoredSeries) -> Series:
    name, unit, kind_number, is_monotonic = found.metric
    kind = _KINDS[kind_number]
    service, scope, version, url, attributes = found.owner
    owner = Owner(service, scope, version, url, tuple(attributes))
    series = Series(SeriesKey(owner, name, unit, kind, is_monotonic, tuple(found.attributes)))
    series.description, series.start, series.time = found.description, found.start, found.time
    series.base = _unpack_value(kind, found.base)
    for id, own_start, start, time, is_absent, packed in found.processes:
        process = Process(start, time, _unpack_value(kind, packed))
        process.is_absent = is_absent
        series.processes[id if own_start is None else (id, own_start)] = process
    return series


def _pack_value(value: Value) -> Any:
    if isinstance(value, (HistogramTotal, SummaryTotal)):
        return msgspec.structs.astuple(value)
    if isinstance(value, Distribution):
        return (
            scale_of(value),
            value.count,
            value.sum,
            dict(value.counts),
            dict(value.negative),
            value.zeros,
            value.zero_threshold,
        )
    return value


def _unpack_value(kind: MetricKind, packed: Any) -> Value:
    if packed is None:
        return None
    if kind is MetricKind.HISTOGRAM:
        bounds, counts, count, total = packed
        return HistogramTotal(tuple(bounds), tuple(counts), count, total)
    if kind is MetricKind.SUMMARY:
        count, total, quantiles = packed
        return SummaryTotal(count, total, tuple((share, value) for share, value in quantiles))
    if kind is MetricKind.EXPONENTIAL_HISTOGRAM:
        scale, count, total, counts, negative, zeros, threshold = packed
        return Distribution(
            scale, count, total, Counter(counts), Counter(negative), zeros, threshold
        )
    if not isinstance(packed, (int, float)):
        raise TypeError(f"a number expected, got {packed!r}")
    return packed


def _plain_attributes(attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value if isinstance(value, (str, bool, int, float)) else str(value)
        for key, value in attributes.items()
    }
