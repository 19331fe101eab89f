"""The single records: an event, a metric point, and where they come from.

All of them are plain dataclasses, so that ``pydantic.TypeAdapter`` validates and serialises them
where pydantic is installed. Field names follow OTLP (opentelemetry-proto 1.x); times are
nanoseconds since the epoch.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from time import time_ns
from typing import Annotated, Any

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.times import from_unix_nano

__all__ = [
    "Attributes",
    "Buckets",
    "EventType",
    "Exemplar",
    "ExponentialHistogramPoint",
    "HistogramPoint",
    "MetricKind",
    "Number",
    "ResourceInfo",
    "ScopeInfo",
    "Signal",
    "SummaryPoint",
    "TelemetryEvent",
    "TelemetryMetric",
    "Temporality",
    "Value",
]


# --- What single records are made of: their kinds, their values, and where they come from.


class EventType(Enum):
    """How bad an event is. Each stands for the lowest OTLP severity number of its range."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def severity_number(self) -> int:
        """The OTLP severity number: 5, 9, 13 or 17."""
        return _SEVERITY_NUMBERS[self]

    @classmethod
    def from_severity_number(cls, number: int) -> EventType:
        """The type whose range holds ``number``: trace and debug are DEBUG, fatal is ERROR;
        0 (unspecified) is INFO."""
        if number >= 17:
            return cls.ERROR
        if number >= 13:
            return cls.WARNING
        return cls.DEBUG if 0 < number < 9 else cls.INFO


_SEVERITY_NUMBERS = {
    EventType.DEBUG: 5,
    EventType.INFO: 9,
    EventType.WARNING: 13,
    EventType.ERROR: 17,
}


class MetricKind(str, Enum):
    """The OTLP data point types."""

    GAUGE = "gauge"
    SUM = "sum"
    HISTOGRAM = "histogram"
    EXPONENTIAL_HISTOGRAM = "exponential_histogram"
    SUMMARY = "summary"


class Temporality(int, Enum):
    """OTLP's aggregation temporality; UNSPECIFIED for kinds that have none."""

    UNSPECIFIED = 0
    DELTA = 1
    CUMULATIVE = 2


class _ForJson:
    """Tells pydantic how to write what JSON has no form for: NaN and the infinities as strings,
    bytes as base64. (Its own settings for that reach neither into a union nor into Any.)"""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        write = {"type": "function-plain", "function": _json_value, "when_used": "json"}
        return {**handler(source), "serialization": write}


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, Mapping):
        return {key: _json_value(item) for key, item in value.items()}
    return [_json_value(item) for item in value] if isinstance(value, (list, tuple)) else value


Number = Annotated[float | int, _ForJson()]
"""An int that stays one, or a float."""

Value = Annotated[Any, _ForJson()]
"""What OTLP calls an AnyValue."""

Attributes = Annotated[dict[str, Any], _ForJson()]
"""Values by their names."""


@dataclass(frozen=True)
class ResourceInfo:
    """The entity that produced a record, as OTLP's Resource."""

    attributes: Attributes = field(default_factory=dict)
    schema_url: str = ""
    dropped_attributes_count: int = 0


@dataclass(frozen=True)
class ScopeInfo:
    """The library or component that produced a record, as OTLP's InstrumentationScope."""

    name: str = ""
    version: str = ""
    attributes: Attributes = field(default_factory=dict)
    schema_url: str = ""
    dropped_attributes_count: int = 0


# --- The single records: an event, a metric point, and where they come from.


class _Unset(Enum):
    BODY = "unset"


@dataclass
class TelemetryEvent:
    """Something that happened; an OTLP LogRecord.

    Args:
        source: who tells; OTLP's scope name.
        message: what happened, as text. For a record whose body is no string, its JSON.
        event_type: how bad it is.
        metadata: any attributes: str, bool, int, float, bytes, None, and nested lists and dicts.
        time_unix_nano: when it happened; now, if not given.
        observed_time_unix_nano: when it was collected; 0 if unknown.
        trace_id, span_id: of the span that it was collected in; 0 outside of one.
        trace_flags: the W3C trace flags of that span.
        severity_number: 1 to 24, finer than ``event_type``; 0 if unspecified.
        severity_text: the severity in the words of its source.
        event_name: identifies the structure of the record; OTLP's event name.
        body: the OTLP body where it is no string; ``message``, if not given.
        dropped_attributes_count: attributes that were discarded before it got here.
        scope, resource: where it comes from; of a native event, what the collector fills in.

    Raises:
        ConfigurationError: ``event_type`` is no EventType, or ``metadata`` no mapping.
    """

    source: str
    message: str
    event_type: EventType = EventType.INFO
    metadata: Attributes = field(default_factory=dict)
    time_unix_nano: int = field(default_factory=time_ns)
    observed_time_unix_nano: int = 0
    trace_id: int = 0
    span_id: int = 0
    trace_flags: int = 0
    severity_number: int = -1
    severity_text: str = ""
    event_name: str = ""
    body: Value = _Unset.BODY
    dropped_attributes_count: int = 0
    scope: ScopeInfo | None = None
    resource: ResourceInfo | None = None

    def __post_init__(self) -> None:
        _require(isinstance(self.event_type, EventType), "event_type", self.event_type, "EventType")
        _require(isinstance(self.metadata, Mapping), "metadata", self.metadata, "a mapping")
        if self.body is _Unset.BODY:
            self.body = self.message
        if self.severity_number == -1:
            self.severity_number = self.event_type.severity_number

    @property
    def timestamp(self) -> datetime:
        """When it happened, as an aware UTC datetime, to the microsecond."""
        return from_unix_nano(self.time_unix_nano or self.observed_time_unix_nano)


@dataclass(frozen=True)
class Exemplar:
    """One measurement kept as an example of an aggregate, with the span that it was made in."""

    value: Number
    time_unix_nano: int = 0
    trace_id: int = 0
    span_id: int = 0
    filtered_attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True)
class HistogramPoint:
    """What a histogram's data point holds beyond its attributes and times.

    ``bucket_counts`` has one element more than ``explicit_bounds``, or both are empty.
    """

    count: int
    sum: float | None = None
    bucket_counts: tuple[int, ...] = ()
    explicit_bounds: tuple[float, ...] = ()
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class Buckets:
    """One half of an exponential histogram: ``bucket_counts[i]`` counts index ``offset + i``."""

    offset: int = 0
    bucket_counts: tuple[int, ...] = ()


@dataclass(frozen=True)
class ExponentialHistogramPoint:
    """What an exponential histogram's data point holds beyond its attributes and times."""

    count: int
    sum: float | None = None
    scale: int = 0
    zero_count: int = 0
    zero_threshold: float = 0.0
    positive: Buckets | None = None
    negative: Buckets | None = None
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True)
class SummaryPoint:
    """What a summary's data point holds: ``quantiles`` are (quantile, value) pairs."""

    count: int
    sum: float = 0.0
    quantiles: tuple[tuple[float, float], ...] = ()


@dataclass
class TelemetryMetric:
    """A measured value; one OTLP data point, with the metric that it belongs to.

    Args:
        name: of the metric.
        value: the measured number; of a histogram or summary, its sum (NaN where it has none).
        unit: UCUM, such as ``ms`` or ``By``; empty if dimensionless.
        tags: the point's attributes.
        time_unix_nano: when it was measured; now, if not given.
        start_time_unix_nano: since when it was aggregated; 0 for a gauge.
        kind, temporality, is_monotonic: how points of this metric add up.
        description: of the metric, for people.
        point: the distribution, for the three kinds that have one.
        exemplars: single measurements behind the value.
        flags: OTLP's data point flags (1: no recorded value).
        metric_metadata: attributes of the metric itself.
        scope, resource: where it comes from; of a native metric, what the collector fills in.

    Raises:
        ConfigurationError: ``value`` is no number, ``tags`` no mapping, or ``kind`` and ``point``
            do not belong together.
    """

    name: str
    value: Number
    unit: str = ""
    tags: Attributes = field(default_factory=dict)
    time_unix_nano: int = field(default_factory=time_ns)
    start_time_unix_nano: int = 0
    kind: MetricKind = MetricKind.GAUGE
    temporality: Temporality = Temporality.UNSPECIFIED
    is_monotonic: bool = False
    description: str = ""
    point: HistogramPoint | ExponentialHistogramPoint | SummaryPoint | None = None
    exemplars: list[Exemplar] = field(default_factory=list)
    flags: int = 0
    metric_metadata: Attributes = field(default_factory=dict)
    scope: ScopeInfo | None = None
    resource: ResourceInfo | None = None

    def __post_init__(self) -> None:
        _require(isinstance(self.value, (int, float)), "value", self.value, "an int or a float")
        _require(isinstance(self.tags, Mapping), "tags", self.tags, "a mapping")
        _require(isinstance(self.kind, MetricKind), "kind", self.kind, "a MetricKind")
        expected = _POINT_TYPES.get(self.kind, type(None))
        _require(isinstance(self.point, expected), "point", self.point, expected.__name__)

    @property
    def timestamp(self) -> datetime:
        """When it was measured, as an aware UTC datetime, to the microsecond."""
        return from_unix_nano(self.time_unix_nano)

    @property
    def has_value(self) -> bool:
        """Whether there is a number at all (OTLP knows points that say that there is none)."""
        return not self.flags & 1 and not math.isnan(self.value)


_POINT_TYPES: dict[MetricKind, type] = {
    MetricKind.HISTOGRAM: HistogramPoint,
    MetricKind.EXPONENTIAL_HISTOGRAM: ExponentialHistogramPoint,
    MetricKind.SUMMARY: SummaryPoint,
}


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ConfigurationError(f"{name}={value!r} is not allowed: give {allowed}")


# --- The three signals, and what OTLP calls their parts.


class Signal(str, Enum):
    """A signal; its value is the stem of its file's name."""

    TRACES = "traces"
    LOGS = "logs"
    METRICS = "metrics"

    @property
    def resource_key(self) -> str:
        """The one key of a line's outermost object, such as ``resourceSpans``."""
        return _KEYS[self][0]

    @property
    def scope_key(self) -> str:
        """The key of a resource's list of scopes, such as ``scopeSpans``."""
        return _KEYS[self][1]

    @property
    def record_key(self) -> str:
        """The key of a scope's list of records, such as ``spans``."""
        return _KEYS[self][2]


_KEYS = {
    Signal.TRACES: ("resourceSpans", "scopeSpans", "spans"),
    Signal.LOGS: ("resourceLogs", "scopeLogs", "logRecords"),
    Signal.METRICS: ("resourceMetrics", "scopeMetrics", "metrics"),
}
