"""The records: events and metric points, and the resource and scope that they come from.

Spans are the SDK's. All others are plain dataclasses, so that ``pydantic.TypeAdapter`` validates and serialises them
where pydantic is installed. Field names follow OTLP (opentelemetry-proto 1.x); times are
nanoseconds since the epoch.
"""

from __future__ import annotations

import math
import re
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
    "SEVERITY_HELP",
    "SEVERITY_NAMES",
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
    "content_of",
    "parse_severity_number",
]


class EventType(Enum):
    """The severity of an event. Each stands for the lowest OTLP severity number of its range.

    A milder one is less than a worse one.
    """

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
        """Return the type whose range holds ``number``: trace and debug are DEBUG, fatal is ERROR.

        0, which is unspecified, is INFO.
        """
        if number >= 17:
            return cls.ERROR
        if number >= 13:
            return cls.WARNING
        return cls.DEBUG if 0 < number < 9 else cls.INFO

    def __lt__(self, other: object) -> bool:
        if isinstance(other, EventType):
            return self.severity_number < other.severity_number
        return NotImplemented

    def __le__(self, other: object) -> bool:
        if isinstance(other, EventType):
            return self.severity_number <= other.severity_number
        return NotImplemented

    def __gt__(self, other: object) -> bool:
        if isinstance(other, EventType):
            return self.severity_number > other.severity_number
        return NotImplemented

    def __ge__(self, other: object) -> bool:
        if isinstance(other, EventType):
            return self.severity_number >= other.severity_number
        return NotImplemented


_SEVERITY_NUMBERS = {
    EventType.DEBUG: 5,
    EventType.INFO: 9,
    EventType.WARNING: 13,
    EventType.ERROR: 17,
}


SEVERITY_HELP = "an EventType, a name such as 'warn' or 'critical', a number from 1 to 24, or a level of logging"
"""The severities that are accepted, for error messages."""

SEVERITY_NAMES = {
    "trace": 1,
    "debug": 5,
    "info": 9,
    "warn": 13,
    "error": 17,
    "fatal": 21,
}
"""OpenTelemetry's names of severities, each with the lowest number of its range."""

# Those of logging, of syslog and of other loggers.
_OTHER_SEVERITY_NAMES = {
    "verbose": 1,
    "information": 9,
    "informational": 9,
    "success": 9,
    "notice": 10,
    "warning": 13,
    "err": 17,
    "exception": 17,
    "critical": 21,
    "crit": 21,
    "alert": 21,
    "emerg": 21,
    "emergency": 21,
    "panic": 21,
}
_NUMBERED_SEVERITY = re.compile("(trace|debug|info|warn|error|fatal)([1-4])?")


def parse_severity_number(value: Any) -> int | None:
    """Return the OTLP severity number, 1 to 24, that ``value`` is or names; None for anything else.

    Args:
        value: an EventType; a name of OpenTelemetry's (``INFO``, ``WARN2``), of ``logging``
            (``WARNING``, ``CRITICAL``) or of syslog, in any case; an OTLP severity number, 1 to 24,
            or a level of ``logging`` above that (30, 40, 50); or a number as text.
    """
    if isinstance(value, EventType):
        return value.severity_number
    if isinstance(value, Enum):  # such as OpenTelemetry's SeverityNumber
        value = value.value
    if isinstance(value, str):
        name = value.strip().lower()
        if match := _NUMBERED_SEVERITY.fullmatch(name):
            return SEVERITY_NAMES[match[1]] + int(match[2] or 1) - 1
        if name in _OTHER_SEVERITY_NAMES:
            return _OTHER_SEVERITY_NAMES[name]
        if not (name.isascii() and name.isdecimal() and len(name) < 10):
            return None
        value = int(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        return None
    if value <= 24:
        return value
    base = min(value // 10, 5) * 10
    return 1 + 4 * (base // 10) + min(value - base, 3)


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
    """Tells pydantic to write NaN and the infinities as strings, and bytes as base64.

    Its own settings for that reach neither into a union nor into Any.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        write = {"type": "function-plain", "function": _pydantic_json, "when_used": "json"}
        return {**handler(source), "serialization": write}


def _pydantic_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, Mapping):
        return {key: _pydantic_json(item) for key, item in value.items()}
    return [_pydantic_json(item) for item in value] if isinstance(value, (list, tuple)) else value


Number = Annotated[float | int, _ForJson()]
"""An int that stays one, or a float."""

Value = Annotated[Any, _ForJson()]
"""An attribute value or body, which OTLP calls AnyValue."""

Attributes = Annotated[dict[str, Any], _ForJson()]
"""Values by their names."""


# What makes two records equal.

_NAN = object()


def content_of(value: Any) -> Any:
    """Return a value so that two that are recorded alike are equal: a tuple and a list of the same
    items, NaN and NaN."""
    if isinstance(value, float):
        return _NAN if math.isnan(value) else value
    if isinstance(value, (list, tuple)):
        return list(map(content_of, value))
    if isinstance(value, Mapping):
        return {key: content_of(item) for key, item in value.items()}
    return value


def _hashable(content: Any) -> Any:
    if isinstance(content, list):
        return tuple(map(_hashable, content))
    if isinstance(content, dict):
        return frozenset((key, _hashable(item)) for key, item in content.items())
    return content


class _ComparedByContent:
    """Equal to what comes back when it was recorded, whatever it was made of."""

    def _content(self) -> dict[str, Any]:
        return {name: content_of(value) for name, value in vars(self).items()}

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, _ComparedByContent) or type(self) is not type(other):
            return NotImplemented
        return self._content() == other._content()

    __hash__ = None  # type: ignore[assignment]  # the records can be changed


class _HashedByContent(_ComparedByContent):
    """The same for what does not change."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(_hashable(self._content()))


@dataclass(frozen=True, eq=False)
class ResourceInfo(_HashedByContent):
    """The entity that produced a record, as OTLP's Resource."""

    attributes: Attributes = field(default_factory=dict)
    schema_url: str = ""
    dropped_attributes_count: int = 0


@dataclass(frozen=True, eq=False)
class ScopeInfo(_HashedByContent):
    """The library or component that produced a record, as OTLP's InstrumentationScope."""

    name: str = ""
    version: str = ""
    attributes: Attributes = field(default_factory=dict)
    schema_url: str = ""
    dropped_attributes_count: int = 0


class _Unset(Enum):
    BODY = "unset"


@dataclass(eq=False)
class TelemetryEvent(_ComparedByContent):
    """An event: an OTLP log record, recorded natively or by the standard library's logging.

    Two events are equal if they are recorded alike, so that what comes back equals what went in.

    Args:
        source: the component that reports it; OTLP's scope name.
        message: what happened, as text; the body's JSON if that is not a string.
        event_type: its severity: an EventType, or what `parse_severity_number` accepts.
        metadata: any attributes: str, bool, int, float, bytes, None, and nested lists and dicts.
        time_unix_nano: when it happened; now by default.
        observed_time_unix_nano: when it was collected; 0 if unknown.
        trace_id, span_id: ids of the span that it was collected in; 0 outside of one.
        trace_flags: the W3C trace flags of that span.
        severity_number: 1 to 24, finer than ``event_type``; 0 if unspecified.
        severity_text: the severity as its source names it.
        event_name: OTLP's event name, which identifies the structure of the record.
        body: the OTLP body; ``message`` by default.
        dropped_attributes_count: number of attributes that were lost before it was recorded.
        scope, resource: where it comes from; the collector fills them in for a native event.

    Raises:
        ConfigurationError: ``event_type`` is no severity, or ``metadata`` not a mapping.
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

    def _content(self) -> dict[str, Any]:
        content = super()._content()
        # Recorded as the body, as the severity number and in the scope.
        del content["message"], content["event_type"], content["source"]
        content["scope"] = self.scope or ScopeInfo(self.source)
        content["resource"] = self.resource or ResourceInfo()
        return content

    def __post_init__(self) -> None:
        if type(self.event_type) is not EventType:
            number = parse_severity_number(self.event_type)
            _require(number is not None, "event_type", self.event_type, SEVERITY_HELP)
            self.event_type = EventType.from_severity_number(number or 0)
            if self.severity_number == -1:
                self.severity_number = number or 0
        _require(isinstance(self.metadata, Mapping), "metadata", self.metadata, "a mapping")
        if self.body is _Unset.BODY:
            self.body = self.message
        if self.severity_number == -1:
            self.severity_number = self.event_type.severity_number

    @property
    def timestamp(self) -> datetime:
        """The time of the event, as an aware UTC datetime, to the microsecond."""
        return from_unix_nano(self.time_unix_nano or self.observed_time_unix_nano)


@dataclass(frozen=True, eq=False)
class Exemplar(_HashedByContent):
    """One measurement kept as an example of an aggregate, with the span that it was made in."""

    value: Number
    time_unix_nano: int = 0
    trace_id: int = 0
    span_id: int = 0
    filtered_attributes: Attributes = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class HistogramPoint(_HashedByContent):
    """The distribution of a histogram's data point.

    ``bucket_counts`` has one element more than ``explicit_bounds``, or both are empty.
    """

    count: int
    sum: float | None = None
    bucket_counts: tuple[int, ...] = ()
    explicit_bounds: tuple[float, ...] = ()
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, eq=False)
class Buckets(_HashedByContent):
    """One half of an exponential histogram: ``bucket_counts[i]`` counts index ``offset + i``."""

    offset: int = 0
    bucket_counts: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class ExponentialHistogramPoint(_HashedByContent):
    """The distribution of an exponential histogram's data point."""

    count: int
    sum: float | None = None
    scale: int = 0
    zero_count: int = 0
    zero_threshold: float = 0.0
    positive: Buckets | None = None
    negative: Buckets | None = None
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, eq=False)
class SummaryPoint(_HashedByContent):
    """The distribution of a summary's data point; ``quantiles`` are (quantile, value) pairs."""

    count: int
    sum: float = 0.0
    quantiles: tuple[tuple[float, float], ...] = ()


@dataclass(eq=False)
class TelemetryMetric(_ComparedByContent):
    """A metric point: one OTLP data point, with the metric that it belongs to.

    Two points are equal if they are recorded alike.

    Args:
        name: the name of the metric.
        value: the measured number; for a histogram or summary its sum, NaN without one.
        unit: UCUM, such as ``ms`` or ``By``; empty if dimensionless.
        tags: the point's attributes.
        time_unix_nano: when it was measured; now by default.
        start_time_unix_nano: the start of its aggregation; 0 for a gauge.
        kind, temporality, is_monotonic: how points of this metric add up.
        description: a description of the metric, for people.
        point: the distribution, for the three kinds that have one.
        exemplars: single measurements behind the value.
        flags: OTLP's data point flags (1: no recorded value).
        metric_metadata: attributes of the metric itself.
        scope, resource: where it comes from; the collector fills them in for a native metric.

    Raises:
        ConfigurationError: ``value`` is not a number, ``tags`` not a mapping, or ``point`` not the
            distribution of this ``kind``.
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

    def _content(self) -> dict[str, Any]:
        content = super()._content()
        if self.point is not None:
            del content["value"]  # recorded as the sum of the distribution
        content["scope"] = self.scope or ScopeInfo()
        content["resource"] = self.resource or ResourceInfo()
        return content

    def __post_init__(self) -> None:
        _require(isinstance(self.value, (int, float)), "value", self.value, "an int or a float")
        _require(isinstance(self.tags, Mapping), "tags", self.tags, "a mapping")
        _require(isinstance(self.kind, MetricKind), "kind", self.kind, "a MetricKind")
        expected = _POINT_TYPES.get(self.kind, type(None))
        if not isinstance(self.point, expected):
            allowed = "None" if expected is type(None) else expected.__name__
            _require(False, "point", self.point, f"{allowed} if kind is {self.kind!s}")

    @property
    def timestamp(self) -> datetime:
        """The time of the measurement, as an aware UTC datetime, to the microsecond."""
        return from_unix_nano(self.time_unix_nano)

    @property
    def has_value(self) -> bool:
        """True unless the point says, by its flags or by NaN, that no value was recorded."""
        return not self.flags & 1 and not math.isnan(self.value)


_POINT_TYPES: dict[MetricKind, type] = {
    MetricKind.HISTOGRAM: HistogramPoint,
    MetricKind.EXPONENTIAL_HISTOGRAM: ExponentialHistogramPoint,
    MetricKind.SUMMARY: SummaryPoint,
}


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ConfigurationError(f"{name} must be {allowed}, got {value!r}")


class Signal(str, Enum):
    """One of OpenTelemetry's signals; its value is the stem of its files' names."""

    TRACES = "traces"
    LOGS = "logs"
    METRICS = "metrics"

    @property
    def resource_key(self) -> str:
        """The only key of a line, such as ``resourceSpans``."""
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
