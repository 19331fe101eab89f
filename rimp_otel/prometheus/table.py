"""All series of a recording, by what was read of it.

Points of one metric, service, scope and set of attributes are one series, whichever process measured
them.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from functools import partial
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import msgspec
from msgspec import Raw

from rimp_otel.analysis.metrics import distribution_of
from rimp_otel.config import check_gauges
from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Buckets, ExponentialHistogramPoint, MetricKind
from rimp_otel.otlp.decode_common import TEMPORALITIES, attributes_of, enum_number
from rimp_otel.otlp.messages import (
    KeyValue,
    OtlpBuckets,
    OtlpExemplar,
    PartialLine,
    PartialMessage,
    UInt64,
    ValueAtQuantile,
    decode_resource,
    decode_scope,
    decode_with_scopes,
    no_recursion_error,
)
from rimp_otel.process import BoundedCache
from rimp_otel.prometheus.series import (
    PER_PROCESS,
    Owner,
    Process,
    Series,
    SeriesKey,
)
from rimp_otel.prometheus.totals import HistogramTotal, SummaryTotal, Value

__all__ = ["SeriesTable"]

_DELTA = TEMPORALITIES["AGGREGATION_TEMPORALITY_DELTA"]
_NO_VALUE = 1  # a flag of data points
_NANOS = 10**9
# Of the processes of a series that are silent, so many are kept one by one.
_MAX_SILENT = 32
_MAX_FOLDED = 50_000


class _ProcessMetric:
    """A metric of one process."""

    __slots__ = ("bounds", "bounds_text", "places")

    def __init__(self) -> None:
        #: By the text of attributes: the series, and what the process has said of it.
        self.places: dict[bytes, tuple[Series, Process | None]] = {}
        self.bounds_text = b""
        #: None if they are no bounds.
        self.bounds: tuple[float, ...] | None = ()


class _ProcessScope:
    """A resource and a scope: a process, and what tells streams of it apart."""

    __slots__ = ("id", "instance", "metrics", "owner", "time")

    def __init__(self, id: bytes, owner: Owner, instance: str) -> None:
        self.id = id
        self.owner = owner
        self.instance = instance
        #: By name, unit, kind and whether it is monotonic.
        self.metrics: dict[tuple[Any, ...], _ProcessMetric] = {}
        self.time = 0


class SeriesTable:
    """All series of a recording, by what was read of it. For one thread at a time.

    Args:
        gauges: the policies of gauges by the name of the metric, or by "*" for all others; each in
            ``GAUGE_POLICIES``.
        stale_after: seconds without a point after which a process, and a series, is gone.

    Raises:
        ConfigurationError: a policy is not known.
    """

    def __init__(self, gauges: Mapping[str, str] | None = None, stale_after: float = 300.0) -> None:
        self._gauges = dict(gauges or {})
        check_gauges("gauges", self._gauges)
        self._stale_after = int(stale_after * _NANOS)
        self._series: dict[SeriesKey, Series] = {}
        # By the texts of a resource and a scope.
        self._sources: dict[tuple[bytes, bytes], _ProcessScope] = {}
        #: Processes of series that are not known one by one any more.
        self.folded: BoundedCache[int, None] = BoundedCache(_MAX_FOLDED)
        self._folded_until = 0
        #: The attributes of resources, by service: the newest resource of each.
        self.resources: dict[str, dict[str, Any]] = {}
        #: Points that were left out, by reason.
        self.dropped: Counter[str] = Counter()

    @no_recursion_error
    def add_line(self, line: bytes) -> None:
        """Take in the points of a line of OTLP JSON.

        Raises:
            DecodeError: it cannot be read.
        """
        try:
            for resource in decode_with_scopes(_LINE, line).resources():
                for scope in resource.scopes():
                    source = self._find_source(resource.resource, scope)
                    for metric in scope.metrics or ():
                        self._add_metric(source, metric)
        except msgspec.MsgspecError as error:
            raise DecodeError(str(error)) from None

    def _find_source(self, resource: Raw, scope: Any) -> _ProcessScope:
        key = bytes(resource), bytes(scope.scope) + bytes(scope.schema_url)
        found = self._sources.get(key)
        if found is None:
            id = blake2b(b"\0".join(key), digest_size=12).digest()
            found = self._sources[key] = self._make_source(id, resource, scope)
        return found

    def _make_source(self, id: bytes, resource: Raw, scope: Any) -> _ProcessScope:
        attributes = attributes_of(decode_resource(resource).attributes, tuple)
        name = str(attributes.get("service.name", ""))
        namespace = attributes.get("service.namespace")
        service = f"{namespace}/{name}" if namespace else name
        self.resources[service] = attributes
        found = decode_scope(scope.scope)
        url = msgspec.json.decode(scope.schema_url) if scope.schema_url else ""
        owner = Owner(
            service,
            found.name or "",
            found.version or "",
            str(url or ""),
            _sorted_attributes(attributes_of(found.attributes, tuple)),
        )
        instance = attributes.get("service.instance.id") or attributes.get("process.pid") or ""
        return _ProcessScope(id, owner, str(instance))

    def _add_metric(self, source: _ProcessScope, metric: _MeasuredMetric) -> None:
        for kind, data in zip(MetricKind, metric.data(), strict=True):
            if data is not None:
                identity = (metric.name or "", metric.unit or "", kind, data.is_monotonic is True)
                found = source.metrics.get(identity)
                if found is None:
                    found = source.metrics[identity] = _ProcessMetric()
                temporality = enum_number(
                    data.aggregation_temporality or 0, TEMPORALITIES, "aggregationTemporality"
                )
                self._add_points(source, found, identity, metric, data, temporality == _DELTA)

    def _add_points(
        self,
        source: _ProcessScope,
        known: _ProcessMetric,
        identity: tuple[Any, ...],
        metric: _MeasuredMetric,
        data: Any,
        is_delta: bool,
    ) -> None:
        kind, places = identity[2], known.places
        newest = 0
        for point in data.data_points or ():
            attributes = bytes(point.attributes)
            time = point.time_unix_nano or 0
            if time > newest:
                newest = time
            place = places.get(attributes)
            if place is None:
                series, process = self._find_series(source, identity, attributes), None
            else:
                series, process = place
            if (
                process is not None
                and time > process.time
                and (point.start_time_unix_nano or 0) == process.start
                and not (point.flags or is_delta)
            ):
                # The usual case: the process goes on counting.
                value = _value_in_point(kind, point, known)
                if value is not None and series.go_on(process, time, value):
                    if point.exemplars:
                        _keep_exemplars(series, point, value)
                    continue
            places[attributes] = series, self._add_point(source.id, series, known, point, is_delta)
            if metric.description and series.description != metric.description:
                series.description = metric.description
        source.time = max(source.time, newest)

    def _add_point(
        self, id: bytes, series: Series, metric: _ProcessMetric, point: Any, is_delta: bool
    ) -> Process | None:
        """Take in a point; return what its process has said of the series; None if it is left out."""
        start, time = point.start_time_unix_nano or 0, point.time_unix_nano or 0
        if point.flags and point.flags & _NO_VALUE:
            series.remove(id, start, time)
            return None
        value = _value_in_point(series.key.kind, point, metric)
        if value is None:
            self.dropped["invalid_value"] += 1
            return None
        has_returned = partial(self._has_folded, series) if self.folded.entries else None
        found = series.update(id, start, time, value, is_delta, has_returned)
        if found is None:
            self.dropped["overlapping_delta"] += 1
        elif point.exemplars:
            _keep_exemplars(series, point, value)
        return found

    def _has_folded(self, series: Series, process: Hashable) -> bool:
        return _folded_id(series, process) in self.folded.entries

    def _find_series(self, source: _ProcessScope, identity: tuple[Any, ...], text: bytes) -> Series:
        name, unit, kind, is_monotonic = identity
        found = attributes_of(_ATTRIBUTES.decode(text) if text else None, tuple)
        if kind is MetricKind.GAUGE and self._policy_of(name) == PER_PROCESS:
            found.setdefault("service.instance.id", source.instance)
        tags = _sorted_attributes(found)
        key = SeriesKey(source.owner, name, unit, kind, is_monotonic, tags)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(key)
        return series

    def _policy_of(self, name: str) -> str:
        return self._gauges.get(name) or self._gauges.get("*", "mostrecent")

    @property
    def series(self) -> Iterable[Series]:
        """All series, also those that are not measured any more."""
        return self._series.values()

    def restore(self, series: Series) -> None:
        """Take in a series that there is nothing of yet."""
        self._series[series.key] = series

    def current(self, now: int) -> Iterator[tuple[Series, Value]]:
        """Iterate over the series that are measured still, with their values.

        Args:
            now: nanoseconds since the epoch.
        """
        since = now - self._stale_after
        for series in self._series.values():
            if series.time >= since:
                value = series.value(since, self._policy_of(series.key.name))
                if value is not None:
                    yield series, value

    def fold_ended(self, now: int) -> None:
        """Keep the memory from growing with each process that has ended; now and then.

        To be called when everything that there is was read.

        Args:
            now: nanoseconds since the epoch.
        """
        before = now - self._stale_after
        if before < self._folded_until + self._stale_after // 4:
            return
        self._folded_until = before
        for series in self._series.values():
            if len(series.processes) > _MAX_SILENT:
                series.fold(before, _MAX_SILENT, partial(self._note_folded, series))
        ended = [key for key, source in self._sources.items() if source.time < before]
        for key in ended:
            del self._sources[key]

    def _note_folded(self, series: Series, process: Hashable) -> None:
        self.folded[_folded_id(series, process)] = None


def _folded_id(series: Series, process: Hashable) -> int:
    """Return a number for a process of a series, the same in every program."""
    text = repr((series.key, process)).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def _sorted_attributes(attributes: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((key, _plain(value)) for key, value in attributes.items()))


def _plain(value: Any) -> Any:
    """Return a value of an attribute that can be compared and hashed."""
    if isinstance(value, (str, bool, int, float)):
        return value
    return msgspec.json.encode(value).decode() if not isinstance(value, bytes) else value.hex()


def _keep_exemplars(series: Series, point: Any, value: Value) -> None:
    for exemplar in point.exemplars:
        number = exemplar.as_double if exemplar.as_double is not None else exemplar.as_int
        bucket = 0
        if number is not None and isinstance(value, HistogramTotal):
            bucket = bisect.bisect_left(value.bounds, number)
        elif number is not None and series.key.kind is MetricKind.EXPONENTIAL_HISTOGRAM:
            bucket = math.frexp(number)[1] if math.isfinite(number) else 0
        series.keep_exemplar(bucket, exemplar)


# --- What is read of a line.


class _MeasuredPoint(PartialMessage):
    """A data point, with what all kinds have."""

    attributes: Raw = Raw()
    start_time_unix_nano: int | None = None
    time_unix_nano: int | None = None
    flags: int | None = None
    exemplars: list[OtlpExemplar] | None = None


class _MeasuredNumber(_MeasuredPoint):
    """A point of a gauge or a sum."""

    as_double: float | None = None
    as_int: int | None = None


class _MeasuredHistogram(_MeasuredPoint):
    """A point of a histogram with explicit bounds."""

    count: UInt64 | None = None
    sum: float | None = None
    bucket_counts: tuple[UInt64, ...] | None = None
    explicit_bounds: Raw = Raw()


class _MeasuredExponential(_MeasuredPoint):
    """A point of an exponential histogram."""

    count: UInt64 | None = None
    sum: float | None = None
    scale: int | None = None
    zero_count: UInt64 | None = None
    zero_threshold: float | None = None
    positive: OtlpBuckets | None = None
    negative: OtlpBuckets | None = None


class _MeasuredSummary(_MeasuredPoint):
    """A point of a summary."""

    count: UInt64 | None = None
    sum: float | None = None
    quantile_values: list[ValueAtQuantile] | None = None


class _MeasuredPoints(PartialMessage):
    """What holds for all points of a metric."""

    aggregation_temporality: int | str | None = None
    is_monotonic: Any = None


class _NumberPoints(_MeasuredPoints):
    data_points: list[_MeasuredNumber] | None = None


class _HistogramPoints(_MeasuredPoints):
    data_points: list[_MeasuredHistogram] | None = None


class _ExponentialPoints(_MeasuredPoints):
    data_points: list[_MeasuredExponential] | None = None


class _SummaryPoints(_MeasuredPoints):
    data_points: list[_MeasuredSummary] | None = None


class _MeasuredMetric(PartialMessage):
    """A metric, with what is shown of it."""

    name: str | None = None
    unit: str | None = None
    description: str | None = None
    gauge: _NumberPoints | None = None
    sum: _NumberPoints | None = None
    histogram: _HistogramPoints | None = None
    exponential_histogram: _ExponentialPoints | None = None
    summary: _SummaryPoints | None = None

    def data(self) -> tuple[_MeasuredPoints | None, ...]:
        """Return the points of each kind, in the order of ``MetricKind``."""
        return self.gauge, self.sum, self.histogram, self.exponential_histogram, self.summary


_LINE: Any = msgspec.json.Decoder(PartialLine[Raw, Raw, _MeasuredMetric], strict=False)
_ATTRIBUTES = msgspec.json.Decoder(list[KeyValue] | None, strict=False)
_BOUNDS = msgspec.json.Decoder(tuple[float, ...] | None, strict=False)


def _value_in_point(kind: MetricKind, point: Any, metric: _ProcessMetric) -> Value:
    """Return the value of a point; None if it has none."""
    if kind is MetricKind.GAUGE or kind is MetricKind.SUM:
        return point.as_double if point.as_double is not None else point.as_int
    total = None if point.sum is None or point.sum != point.sum else point.sum
    if kind is MetricKind.HISTOGRAM:
        text = bytes(point.explicit_bounds)
        if text != metric.bounds_text:
            metric.bounds = _check_bounds((_BOUNDS.decode(text) or ()) if text else ())
            metric.bounds_text = text
        bounds, counts = metric.bounds, point.bucket_counts or (point.count or 0,)
        if bounds is None or len(counts) != len(bounds) + 1:
            return None
        return HistogramTotal(bounds, counts, sum(counts), total)
    if kind is MetricKind.SUMMARY:
        found = sorted((q.quantile or 0.0, q.value or 0.0) for q in point.quantile_values or ())
        quantiles = tuple(pair for pair in found if 0 <= pair[0] <= 1)
        return SummaryTotal(point.count or 0, total or 0.0, quantiles)
    positive, negative = _buckets(point.positive), _buckets(point.negative)
    zeros = point.zero_count or 0
    # Prometheus refuses a page with a histogram whose buckets have not as many values as it says.
    count = zeros + sum(positive.bucket_counts) + sum(negative.bucket_counts)
    return distribution_of(
        ExponentialHistogramPoint(
            count=count,
            sum=total,
            scale=point.scale or 0,
            zero_count=zeros,
            zero_threshold=point.zero_threshold or 0.0,
            positive=positive,
            negative=negative,
        )
    )


def _check_bounds(bounds: tuple[float, ...]) -> tuple[float, ...] | None:
    """Return bounds of a histogram; None if they do not rise, or are not finite."""
    is_rising = all(left < right for left, right in pairwise(bounds))
    return bounds if is_rising and all(map(math.isfinite, bounds)) else None


def _buckets(found: OtlpBuckets | None) -> Buckets:
    if found is None:
        return Buckets(0, ())
    return Buckets(found.offset or 0, found.bucket_counts or ())
