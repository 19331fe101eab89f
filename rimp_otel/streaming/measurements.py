"""What the instruments have measured: which of it is stored, and which waits for the next time.

A collection between two regular ones is not stored, since each point in it says what the next one
will say again, with more in it: of each series the newest point that is not stored is kept for the
journal's checkpoint. What a collection takes away from the instruments is kept too, so that the
regular collection stores what it would have stored without the others before it:

- deltas are stored at once, whenever they are collected;
- exemplars are carried over to the following points of their series;
- a gauge that is set and then not set again comes with the next regular collection.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricsData

from rimp_otel.models.records import MetricKind
from rimp_otel.otlp.encode_metrics import encode_metrics_data, point_encoder
from rimp_otel.otlp.lines import DATA_KEYS, EncodedRecord
from rimp_otel.otlp.values import attributes_json

__all__ = ["Measurements", "renew_instrument_locks"]

_Key = tuple[Any, ...]

# The attributes of the SDK's objects that lead from a MeterProvider's measurements to all that has a lock.
_LOCKED_PARTS = (
    "_reader_storages",
    "_instrument_view_instrument_matches",
    "_attributes_aggregation",
    "_reservoir",
)

_GAUGE = f',"{DATA_KEYS[MetricKind.GAUGE]}":{{'


class _Point(NamedTuple):
    """A collected point."""

    #: Tells its series from all others.
    key: _Key
    record: EncodedRecord
    #: Equal for equal measurements of the series: a hash of all but its time and exemplars.
    state: int
    is_delta: bool


class Measurements:
    """The series of one MetricReader. One thread at a time uses it."""

    def __init__(self) -> None:
        self._collected: dict[_Key, _Point] = {}
        # The states of the stored points.
        self._stored: set[int] = set()
        # The newest point of each series that has changed since it was stored.
        self._unstored: dict[_Key, _Point] = {}
        self._exemplars: dict[_Key, list[Any]] = {}
        #: True if ``unstored`` has changed since this was set to False.
        self.is_changed = False

    def reset_after_fork(self) -> None:
        """Leave in a forked child to its parent what was measured before the fork."""
        self._stored |= {point.state for point in self._unstored.values()}
        self._unstored, self._exemplars = {}, {}

    @property
    def unstored(self) -> list[EncodedRecord]:
        """The newest point of each series that has changed since it was stored."""
        return [point.record for point in self._unstored.values()]

    def note(self, data: MetricsData) -> tuple[list[EncodedRecord], int]:
        """Take a collection between two regular ones.

        Returns:
            The points of delta temporality, which must be stored now, and how many more of these
            could not be encoded.
        """
        deltas: list[EncodedRecord] = []
        failed = 0
        for point in self._encode(data):
            if isinstance(point, bool):
                failed += point
            elif point.is_delta:
                deltas.append(point.record)
            else:
                self._note_point(point)
        return deltas, failed

    def _note_point(self, point: _Point) -> None:
        before = self._unstored.get(point.key)
        is_known = point.state in self._stored if before is None else point.state == before.state
        if not is_known:
            self._unstored[point.key] = point
            self.is_changed = True

    def collect(
        self, data: MetricsData | None, time_unix_nano: int
    ) -> tuple[list[EncodedRecord], int]:
        """Take a regular collection; call ``mark_stored`` once what this returns is safe.

        Args:
            data: the collection; None if nothing was measured.
            time_unix_nano: for gauges that were set since the regular collection before, and not in
                this one.

        Returns:
            All points to be stored, and how many could not be encoded.
        """
        points = list(self._encode(data)) if data is not None else []
        encoded = [point for point in points if not isinstance(point, bool)]
        records = [point.record for point in encoded]
        self._collected = {point.key: point for point in encoded if not point.is_delta}
        for key, point in self._unstored.items():
            metric = point.record.metric
            if key not in self._collected and metric is not None and _GAUGE in metric.head:
                # At another time than in the checkpoint: a death now must not double it.
                records.append(_at_time(point.record, time_unix_nano))
        return records, len(points) - len(encoded)

    def collect_kept(self, time_unix_nano: int) -> list[EncodedRecord]:
        """Return what is not stored yet, since no regular collection will come any more.

        Call ``mark_stored`` once that is safe.

        Args:
            time_unix_nano: of all points, for the reason above.
        """
        self._collected = dict(self._unstored)
        return [_at_time(record, time_unix_nano) for record in self.unstored]

    def mark_stored(self) -> None:
        """Note that what was collected last is safe."""
        self._stored = {point.state for point in self._collected.values()}
        self.is_changed |= bool(self._unstored)
        self._collected, self._unstored, self._exemplars = {}, {}, {}

    def _encode(self, data: MetricsData) -> Iterator[_Point | bool]:
        """Yield each point; of one that cannot be encoded, whether it is a delta."""
        for (metric, point), record in zip(
            _points_of(data), encode_metrics_data(data), strict=True
        ):
            temporality = getattr(metric.data, "aggregation_temporality", None)
            is_delta = temporality is AggregationTemporality.DELTA
            if record is None:
                yield is_delta
                continue
            attributes = attributes_json(point.attributes)
            # A reader has one resource; in a forked child the SDK changes it.
            key = (record.scope, record.metric, attributes)
            state = record
            if not is_delta and (point.exemplars or key in self._exemplars):
                record, state = self._carry_exemplars(metric, point, key, record)
            yield _Point(key, record, hash((key, _without_time(state))), is_delta)

    def _carry_exemplars(
        self, metric: Any, point: Any, key: _Key, record: EncodedRecord
    ) -> tuple[EncodedRecord, EncodedRecord]:
        """Return the point with all exemplars since it was stored, and without any."""
        exemplars = self._exemplars[key] = _merge_exemplars(self._exemplars.get(key, []), point)
        text_of = point_encoder(metric.data)
        bare = record._replace(text=text_of(replace(point, exemplars=[])))
        try:
            return record._replace(text=text_of(replace(point, exemplars=exemplars))), bare
        except Exception:  # whatever an odd exemplar raises
            return bare, bare


def _points_of(data: MetricsData) -> Iterator[tuple[Any, Any]]:
    for by_resource in data.resource_metrics:
        for by_scope in by_resource.scope_metrics:
            for metric in by_scope.metrics:
                for point in metric.data.data_points:
                    yield metric, point


def _merge_exemplars(carried: list[Any], point: Any) -> list[Any]:
    """Return the newest exemplars: of a histogram, one for each bucket, as the SDK keeps them."""
    bounds = getattr(point, "explicit_bounds", None)
    if not bounds:
        return list(point.exemplars) or carried
    newest: Iterable[Any] = [*carried, *point.exemplars]
    return list({bisect_left(bounds, exemplar.value): exemplar for exemplar in newest}.values())


def _without_time(record: EncodedRecord) -> str:
    # The time is the first field of every point, and its value has no comma.
    return record.text.partition(",")[2]


def _at_time(record: EncodedRecord, time_unix_nano: int) -> EncodedRecord:
    text = f'{{"timeUnixNano":"{time_unix_nano}",{_without_time(record)}'
    return record._replace(time_unix_nano=time_unix_nano, text=text)


def renew_instrument_locks(consumer: object) -> None:
    """Give the SDK's instruments new locks, in a forked child and before it has a second thread.

    A thread of the parent that was measuring or collecting at the fork holds a lock that nobody
    releases in the child: the next measurement of the same series, or the next collection, would
    hang. The SDK does not see to that. What the lock guards is as good as it was between two
    bytecodes: at worst the one measurement that was being made is in a part of a histogram only.

    Args:
        consumer: the measurement consumer of a MeterProvider. Anything else is left as it is.
    """
    reentrant, plain = type(threading.RLock()), type(threading.Lock())
    waiting: list[object] = [consumer]
    while waiting:
        found = waiting.pop()
        if isinstance(found, Mapping):
            waiting += [*found.values()]
        elif isinstance(found, (list, tuple)):
            waiting += found
        else:
            waiting += [getattr(found, name) for name in _LOCKED_PARTS if hasattr(found, name)]
            lock = getattr(found, "_lock", None)
            if isinstance(lock, reentrant):
                found._lock = threading.RLock()  # type: ignore[attr-defined]
            elif isinstance(lock, plain) and lock.locked():
                found._lock = threading.Lock()  # type: ignore[attr-defined]
