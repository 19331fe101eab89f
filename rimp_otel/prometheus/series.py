"""The newest state of all series of a recording, with the processes that measure alike added up.

Points of one metric, service, scope and set of attributes are one series, whichever process measured
them. What a process had counted when it ended, or began anew, stays in the sum: no counter goes back.
"""

from __future__ import annotations

import bisect
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from rimp_otel.analysis.metrics import Distribution, distribution_of, merge_distributions
from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import Buckets, ExponentialHistogramPoint, MetricKind
from rimp_otel.otlp.decode_common import TEMPORALITIES, attributes_of, enum_number
from rimp_otel.otlp.messages import (
    KeyValue,
    OtlpBuckets,
    OtlpExemplar,
    PartialLine,
    PartialMessage,
    PartialMetric,
    ValueAtQuantile,
    decode_resource,
    decode_scope,
    decode_with_scopes,
    no_recursion_error,
)

__all__ = [
    "GAUGE_POLICIES",
    "HistogramTotal",
    "Owner",
    "Series",
    "SeriesKey",
    "SeriesTable",
    "SummaryTotal",
]

_DELTA = TEMPORALITIES["AGGREGATION_TEMPORALITY_DELTA"]
_NO_VALUE = 1  # a flag of data points
_NANOS = 10**9
_MAX_EXEMPLARS = 32

GAUGE_POLICIES: Mapping[str, Callable[[list[Any]], Any]] = {
    "mostrecent": lambda values: values[-1],
    "sum": sum,
    "min": min,
    "max": max,
    "mean": lambda values: sum(values) / len(values),
}
"""How a gauge of several processes becomes one value, given theirs, the newest last."""


class Owner(NamedTuple):
    """The service and the scope of a series."""

    service: str
    scope_name: str
    scope_version: str
    scope_schema_url: str
    scope_attributes: tuple[tuple[str, Any], ...]


class SeriesKey(NamedTuple):
    """What tells a series from all others."""

    owner: Owner
    name: str
    unit: str
    kind: MetricKind
    is_monotonic: bool
    #: The points' attributes, by key.
    attributes: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class HistogramTotal:
    """A histogram with explicit bounds."""

    bounds: tuple[float, ...]
    #: By bucket; one more than bounds.
    counts: tuple[int, ...]
    count: int
    #: None if a process does not say.
    sum: float | None


@dataclass(frozen=True)
class SummaryTotal:
    """A summary; quantiles of several processes cannot be put together, so that there are none."""

    count: int
    sum: float
    quantiles: tuple[tuple[float, float], ...]


_Value = Any  # int, float, HistogramTotal, Distribution or SummaryTotal


class _Member:
    """What one process has said last of a series."""

    __slots__ = ("start", "time", "value")

    def __init__(self, start: int, time: int, value: _Value) -> None:
        self.start = start
        self.time = time
        self.value = value


class Series:
    """A series, and what each process has said of it.

    Args:
        key: its identity.
    """

    __slots__ = ("_base", "_members", "description", "exemplars", "key", "start", "time")

    def __init__(self, key: SeriesKey) -> None:
        self.key = key
        self.description = ""
        # What processes had counted that ended or began anew.
        self._base: _Value = None
        self._members: dict[object, _Member] = {}
        #: When the first process began to count; 0 if that is not known.
        self.start = 0
        #: When the newest point was measured.
        self.time = 0
        #: The newest ones, by bucket; the only one of a counter by 0.
        self.exemplars: dict[int, OtlpExemplar] = {}

    @property
    def adds_up(self) -> bool:
        """True if values are counted: then what an ended process had counted stays in the sum."""
        return self.key.kind is not MetricKind.GAUGE and (
            self.key.kind is not MetricKind.SUM or self.key.is_monotonic
        )

    def update(self, process: object, start: int, time: int, value: _Value, is_delta: bool) -> bool:
        """Take a point in; return False if it cannot be: it overlaps with what was counted.

        Args:
            process: tells the process, and what else tells streams apart.
            start: from when the point counts; 0 if it does not say.
            time: when it was measured.
            value: a number, HistogramTotal, Distribution or SummaryTotal.
            is_delta: True if it counts what was added since the point before.
        """
        if start and self.adds_up and not is_delta:
            # Also where resources do not tell processes apart, as those of older SDKs.
            process = (process, start)
        member = self._members.get(process)
        if member is not None and time <= member.time:
            # The same point again, or an older one. Of deltas nobody knows which.
            return not is_delta or (start, time) == (member.start, member.time)
        if is_delta:
            if member is not None and start < member.time and start:
                return False
            if member is not None:
                value = _added(member.value, value)
                if value is None:  # other buckets: what was counted stays
                    return False
        elif member is not None and self.adds_up and _has_restarted(member, start, value):
            self._base = _added(self._base, member.value)
        self._members[process] = _Member(start, time, value)
        self.time = max(self.time, time)
        if start and (not self.start or start < self.start):
            self.start = start
        return True

    def remove(self, process: object) -> None:
        """Forget a process that says that there is no value any more; what it has counted stays."""
        member = self._members.pop(process, None)
        if member is not None and self.adds_up:
            self._base = _added(self._base, member.value)

    def value(self, since: int, policy: str = "mostrecent") -> _Value:
        """Return the value of all processes; None if there is none.

        Args:
            since: processes that were silent for longer, in nanoseconds since the epoch, count only
                with what adds up.
            policy: how those of a gauge become one; a key of ``GAUGE_POLICIES``.
        """
        if self.adds_up:
            total = self._base
            for member in self._members.values():
                total = _added(total, member.value)
            return total
        members = sorted(
            (member for member in self._members.values() if member.time >= since),
            key=operator.attrgetter("time"),
        )
        values = [member.value for member in members]
        if not values:
            return None
        return GAUGE_POLICIES[policy](values) if self.key.kind is MetricKind.GAUGE else sum(values)


def _has_restarted(member: _Member, start: int, value: _Value) -> bool:
    if start and member.start and start != member.start:
        return True
    return bool(_count_in(value) < _count_in(member.value))


def _count_in(value: _Value) -> Any:
    return value if isinstance(value, (int, float)) else value.count


def _added(left: _Value, right: _Value) -> _Value:
    """Return the sum of two values of one kind; the newer one where their buckets differ."""
    if left is None or right is None:
        return right if left is None else left
    if isinstance(right, HistogramTotal):
        if left.bounds != right.bounds:
            return right
        is_known = left.sum is not None and right.sum is not None
        return HistogramTotal(
            right.bounds,
            tuple(map(operator.add, left.counts, right.counts)),
            left.count + right.count,
            left.sum + right.sum if is_known else None,
        )
    if isinstance(right, Distribution):
        return merge_distributions([left, right])
    if isinstance(right, SummaryTotal):
        return SummaryTotal(left.count + right.count, left.sum + right.sum, ())
    return left + right


class SeriesTable:
    """All series of a recording, by what was read of it. For one thread at a time.

    Args:
        gauges: the policies of gauges by the name of the metric, or by "*" for all others; keys of
            ``GAUGE_POLICIES``.
        stale_after: seconds without a point after which a process, and a series, is gone.

    Raises:
        ConfigurationError: a policy is not known.
    """

    def __init__(self, gauges: Mapping[str, str] | None = None, stale_after: float = 300.0) -> None:
        self._gauges = dict(gauges or {})
        for name, policy in self._gauges.items():
            if policy not in GAUGE_POLICIES:
                raise ConfigurationError(
                    f"the policy of the gauge {name!r} must be one of"
                    f" {', '.join(GAUGE_POLICIES)}, got {policy!r}"
                )
        self._stale_after = int(stale_after * _NANOS)
        self._series: dict[SeriesKey, Series] = {}
        # By the text of a resource, a scope, a metric and attributes.
        self._known: dict[tuple[bytes, bytes, tuple[Any, ...], bytes], tuple[Series, object]] = {}
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
        for resource in decode_with_scopes(_LINE, line).resources():
            owner_text = bytes(resource.resource)
            for scope in resource.scopes():
                scope_text = bytes(scope.scope), bytes(scope.schema_url)
                for metric in scope.metrics or ():
                    self._add_metric(owner_text, scope_text, metric)

    def _add_metric(self, resource: bytes, scope: tuple[bytes, bytes], metric: Any) -> None:
        for kind, data in zip(MetricKind, metric.data(), strict=True):
            if data is None:
                continue
            temporality = enum_number(
                data.aggregation_temporality or 0, TEMPORALITIES, "aggregationTemporality"
            )
            identity = (metric.name, metric.unit, kind, data.is_monotonic is True)
            for point in data.data_points or ():
                known = self._find_series(resource, scope, identity, bytes(point.attributes))
                series, process = known
                if point.flags and point.flags & _NO_VALUE:
                    series.remove(process)
                    continue
                series.description = metric.description or series.description
                self._add_point(series, process, point, temporality == _DELTA)

    def _add_point(self, series: Series, process: object, point: Any, is_delta: bool) -> None:
        value = _value_in_point(series.key.kind, point)
        if value is None:
            self.dropped["no_value"] += 1
            return
        start, time = point.start_time_unix_nano or 0, point.time_unix_nano or 0
        if not series.update(process, start, time, value, is_delta):
            self.dropped["overlapping_delta"] += 1
        for exemplar in point.exemplars or ():
            _keep_exemplar(series, exemplar, value)

    def _find_series(
        self,
        resource: bytes,
        scope: tuple[bytes, bytes],
        identity: tuple[Any, ...],
        attributes: bytes,
    ) -> tuple[Series, object]:
        key = (resource, scope[0] + scope[1], identity, attributes)
        found = self._known.get(key)
        if found is None:
            name, unit, kind, is_monotonic = identity
            pairs = _ATTRIBUTES.decode(attributes) if attributes else None
            tags = tuple(sorted((k, _plain(v)) for k, v in attributes_of(pairs, tuple).items()))
            owner = self._read_owner(resource, scope)
            whole = SeriesKey(owner, name or "", unit or "", kind, is_monotonic, tags)
            series = self._series.setdefault(whole, Series(whole))
            found = self._known[key] = series, (resource, scope)
        return found

    def _read_owner(self, resource: bytes, scope: tuple[bytes, bytes]) -> Owner:
        attributes = attributes_of(decode_resource(Raw(resource)).attributes, tuple)
        name = str(attributes.get("service.name", ""))
        namespace = attributes.get("service.namespace")
        service = f"{namespace}/{name}" if namespace else name
        self.resources[service] = attributes
        found = decode_scope(Raw(scope[0]))
        own = attributes_of(found.attributes, tuple)
        url = msgspec.json.decode(scope[1]) if scope[1] else ""
        return Owner(
            service,
            found.name or "",
            found.version or "",
            url or "",
            tuple(sorted((key, _plain(value)) for key, value in own.items())),
        )

    def current(self, now: int) -> Iterator[tuple[Series, _Value]]:
        """Iterate over the series that are measured still, with their values.

        Args:
            now: nanoseconds since the epoch.
        """
        since = now - self._stale_after
        for series in self._series.values():
            if series.time < since:
                continue
            policy = self._gauges.get(series.key.name) or self._gauges.get("*", "mostrecent")
            value = series.value(since, policy)
            if value is not None:
                yield series, value


def _plain(value: Any) -> Any:
    """Return a value of an attribute that can be compared and hashed."""
    if isinstance(value, (str, bool, int, float)):
        return value
    return msgspec.json.encode(value).decode() if not isinstance(value, bytes) else value.hex()


def _keep_exemplar(series: Series, exemplar: OtlpExemplar, value: _Value) -> None:
    bucket = 0
    number = exemplar.as_double if exemplar.as_double is not None else exemplar.as_int
    if isinstance(value, HistogramTotal) and number is not None:
        bucket = bisect.bisect_left(value.bounds, number)
    before = series.exemplars.get(bucket)
    if before is None and len(series.exemplars) >= _MAX_EXEMPLARS:
        return
    if before is None or (before.time_unix_nano or 0) <= (exemplar.time_unix_nano or 0):
        series.exemplars[bucket] = exemplar


# --- What is read of a line.


class _MeasuredPoint(PartialMessage):
    """A data point of any kind."""

    attributes: Raw = Raw()
    start_time_unix_nano: int | None = None
    time_unix_nano: int | None = None
    flags: int | None = None
    exemplars: list[OtlpExemplar] | None = None
    as_double: float | None = None
    as_int: int | None = None
    count: int | None = None
    sum: float | None = None
    bucket_counts: tuple[int, ...] | None = None
    explicit_bounds: tuple[float, ...] | None = None
    scale: int | None = None
    zero_count: int | None = None
    zero_threshold: float | None = None
    positive: OtlpBuckets | None = None
    negative: OtlpBuckets | None = None
    quantile_values: list[ValueAtQuantile] | None = None


class _MeasuredPoints(PartialMessage):
    """The points of a metric, and what holds for all of them."""

    data_points: list[_MeasuredPoint] | None = None
    aggregation_temporality: int | str | None = None
    is_monotonic: Any = None


class _MeasuredMetric(PartialMetric[_MeasuredPoints]):
    """A metric, with what is shown of it."""

    name: str | None = None
    unit: str | None = None
    description: str | None = None


_LINE: Any = msgspec.json.Decoder(PartialLine[Raw, Raw, _MeasuredMetric], strict=False)
_ATTRIBUTES = msgspec.json.Decoder(list[KeyValue] | None, strict=False)


def _value_in_point(kind: MetricKind, point: _MeasuredPoint) -> _Value:
    if kind in (MetricKind.GAUGE, MetricKind.SUM):
        return point.as_double if point.as_double is not None else point.as_int
    count = point.count or 0
    if kind is MetricKind.HISTOGRAM:
        bounds, counts = point.explicit_bounds or (), point.bucket_counts or (count,)
        if len(counts) != len(bounds) + 1:
            return None
        return HistogramTotal(bounds, counts, count, point.sum)
    if kind is MetricKind.SUMMARY:
        quantiles = tuple((q.quantile or 0.0, q.value or 0.0) for q in point.quantile_values or ())
        return SummaryTotal(count, point.sum or 0.0, quantiles)
    return distribution_of(
        ExponentialHistogramPoint(
            count=count,
            sum=point.sum,
            scale=point.scale or 0,
            zero_count=point.zero_count or 0,
            zero_threshold=point.zero_threshold or 0.0,
            positive=_buckets(point.positive),
            negative=_buckets(point.negative),
        )
    )


def _buckets(found: OtlpBuckets | None) -> Buckets:
    if found is None:
        return Buckets(0, ())
    return Buckets(found.offset or 0, found.bucket_counts or ())
