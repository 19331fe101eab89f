"""Makes the SDK's records of every signal, with every field, out of a source of choices.

One set of builders for both provers: Hypothesis chooses in the tests (``strategies``), a seeded
``random.Random`` in the long run (``prove``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol, TypeVar

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Buckets,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from rimp_otel.convert import body_text
from rimp_otel.models import (
    Buckets as OwnBuckets,
)
from rimp_otel.models import (
    EventType,
    ExponentialHistogramPoint,
    HistogramPoint,
    MetricKind,
    ResourceInfo,
    ScopeInfo,
    SummaryPoint,
    TelemetryEvent,
    TelemetryMetric,
    Temporality,
)
from rimp_otel.models import (
    Exemplar as OwnExemplar,
)
from rimp_otel.otlp.values import plain

__all__ = [
    "EXTENDED",
    "RandomSource",
    "Source",
    "event",
    "exemplar",
    "log_record",
    "log_records",
    "metric",
    "metrics_data",
    "own_metric",
    "resources",
    "scopes",
    "span",
    "spans",
    "spans_of_provider",
    "value",
]

EXTENDED = "map" in BoundedAttributes(attributes={"map": {"in": None}})
"""Whether all attributes may be of any OTLP type; at the SDK's floor, only those of logs may."""

T = TypeVar("T")


class Source(Protocol):
    """Where the choices come from."""

    def integer(self, low: int, high: int) -> int:
        """An integer of the range, both ends included."""

    def choose(self, options: Sequence[T]) -> T:
        """One of them."""

    def text(self) -> str:
        """Any text, but for lone surrogates."""

    def real(self) -> float:
        """Any double; there is one NaN only, since JSON has no more."""

    def binary(self) -> bytes:
        """Any bytes."""


_CHARACTERS = (
    "abcdefghijklmnopqrstuvwxyzABCXYZ0123456789._-/: "
    "\"\\{}[],=<>&%$`'\t\n\r\0\1\x1b\x7f\x80\x85\xa0äßéñ"
    "\u2028\u2029\ufeff\ufffd\uffff\ud7ff\ue000漢字\U0001f600\U00010000\U0010ffff"
)
_EDGES = [0, 1, -1, 255, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]
_REALS = [0.0, -0.0, 1.0, 1e16, 1e22, 1e-7, 0.1, 5e-324, 1.7976931348623157e308]
_NOT_FINITE = [math.nan, math.inf, -math.inf]


class RandomSource:
    """Choices of a pseudo-random generator: fast, and repeatable by its seed."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.choose: Callable[[Sequence[Any]], Any] = random.choice

    def integer(self, low: int, high: int) -> int:
        """Edges more often than chance would have them."""
        if high - low < 256:
            return low + int(self._random.random() * (high - low + 1))
        if self._random.random() < 0.3:
            edge = self._random.choice(_EDGES)
            return edge if low <= edge <= high else self._random.choice((low, high))
        return self._random.randint(low, high)

    def text(self) -> str:
        """Mostly short."""
        size = self._random.choice((0, 1, 2, 3, 5, 8, 13, 30))
        return "".join(self._random.choices(_CHARACTERS, k=size))

    def real(self) -> float:
        """Edges, numbers of any size, and what is no number."""
        kind = self._random.random()
        if kind < 0.1:
            return self._random.choice(_NOT_FINITE)
        if kind < 0.3:
            return self._random.choice(_REALS)
        if kind < 0.6:
            return self._random.uniform(-1000, 1000)
        return math.ldexp(self._random.uniform(-1, 1), self._random.randint(-1073, 1023))

    def binary(self) -> bytes:
        """Mostly short."""
        return self._random.randbytes(self._random.choice((0, 1, 2, 3, 4, 16)))


def some(source: Source, make: Callable[[Source], T], most: int = 3) -> list[T]:
    """None to ``most`` of them, few more often."""
    return [make(source) for _ in range(source.integer(0, source.integer(0, most)))]


def happens(source: Source, one_in: int = 2) -> bool:
    """Whether to do what is not always done."""
    return source.integer(1, one_in) == 1


def value(source: Source, depth: int = 3) -> Any:
    """A value of any type that OTLP has, for a body or where attributes may hold it."""
    kind = source.integer(0, 9 if depth else 6)
    if kind < 3:
        return source.text()
    if kind == 3:
        return source.integer(-(2**63), 2**63 - 1)
    if kind == 4:
        return source.real()
    if kind == 5:
        return source.choose((True, False, None))
    if kind == 6:
        return source.binary()
    items = some(source, lambda inner: value(inner, depth - 1))
    if kind == 7:
        return {key(source): item for item in items}
    return tuple(items) if kind == 8 else items


def _old_value(source: Source) -> Any:
    """A value that attributes could hold before they could hold any."""
    make = source.choose((_text, _real, _int64, _boolean))
    return tuple(some(source, make)) if happens(source, 3) else make(source)


def _text(source: Source) -> str:
    return source.text()


def _real(source: Source) -> float:
    return source.real()


def _int64(source: Source) -> int:
    return source.integer(-(2**63), 2**63 - 1)


def _boolean(source: Source) -> bool:
    return source.choose((True, False))


def key(source: Source) -> str:
    """An attribute's name, which the SDK wants not to be empty."""
    return source.text() or "key"


def raw_attributes(source: Source) -> dict[str, Any]:
    """Attributes as an application gives them."""
    make = value if EXTENDED else _old_value
    return {key(source): make(source) for _ in range(source.integer(0, 4))}


def bounded(source: Source, *, extended: bool = EXTENDED) -> BoundedAttributes | None:
    """Attributes as the SDK keeps them, some of them dropped."""
    if happens(source, 8):
        return None
    limit = source.choose((None, None, None, 0, 1, 2))
    if extended and not EXTENDED:
        given = {key(source): value(source) for _ in range(source.integer(0, 4))}
        return BoundedAttributes(limit, given, extended_attributes=True)
    return BoundedAttributes(limit, raw_attributes(source))


def time(source: Source) -> int:
    """A time of these years, or any that OTLP can hold."""
    if happens(source, 4):
        return source.choose((0, 1, 2**63 - 1, 2**64 - 1))
    return source.integer(1_500_000_000_000_000_000, 1_900_000_000_000_000_000)


def trace_state(source: Source) -> TraceState:
    """None to three entries that W3C allows."""
    names = ("vendor", "a", "b2", "tenant@system", "with_-*/all")
    texts = ("1", "x y", "!#$%&'()*+-./:;<>?@[]^_`{|}~", '"quoted"', "\\")
    return TraceState(some(source, lambda of: (of.choose(names), of.choose(texts)), 1))


def span_context(source: Source, low: int = 0) -> SpanContext:
    """Of a span here or elsewhere; with ids of 0, unless those begin at ``low``."""
    return SpanContext(
        source.integer(low, 2**128 - 1),
        source.integer(low, 2**64 - 1),
        _boolean(source),
        TraceFlags(source.choose((0, 1, 2, 3, 255))),
        trace_state(source),
    )


def resources(source: Source, most: int = 3) -> list[Resource]:
    """Resources that differ in what is written of them."""
    made = [
        Resource(
            {"service.name": f"service-{number}", **raw_attributes(source)}, _schema_url(source)
        )
        for number in range(source.integer(1, most))
    ]
    return [Resource({}), *made[1:]] if happens(source, 4) else made


def scopes(source: Source, most: int = 3) -> list[InstrumentationScope]:
    """Scopes that differ in what is written of them."""
    made = [
        InstrumentationScope(
            f"scope-{number} {source.text()}",
            source.choose((None, "", "1.0")),
            _schema_url(source),
            raw_attributes(source),
        )
        for number in range(source.integer(1, most))
    ]
    return [InstrumentationScope(""), *made[1:]] if happens(source, 4) else made


def _schema_url(source: Source) -> str | None:
    return source.choose((None, "", "https://opentelemetry.io/schemas/1.37.0"))


def span(source: Source, resource: Resource, scope: InstrumentationScope | None) -> ReadableSpan:
    """A span made directly."""
    return ReadableSpan(
        name=source.text(),
        context=span_context(source),
        parent=span_context(source, 1) if happens(source) else None,
        resource=resource,
        attributes=bounded(source),
        events=_bounded_list(source, _event),
        links=_bounded_list(source, _link),
        kind=source.choose(tuple(SpanKind)),
        status=_status(source),
        start_time=None if happens(source, 8) else time(source),
        end_time=None if happens(source, 8) else time(source),
        instrumentation_scope=scope,
    )


def _bounded_list(source: Source, make: Callable[[Source], Any]) -> Any:
    made: BoundedList[Any] = BoundedList(source.choose((None, None, 1)))
    made.extend(some(source, make))
    # An application cannot set it, but it can drop as many.
    if happens(source, 8):
        made.dropped = source.integer(0, 2**32 - 1)
    return made


def _event(source: Source) -> Event:
    return Event(source.text(), bounded(source), time(source))


def _link(source: Source) -> Link:
    return Link(span_context(source), bounded(source))


def _status(source: Source) -> Status:
    code = source.choose(tuple(StatusCode))
    return Status(code, source.text() if code is StatusCode.ERROR else None)


def spans(source: Source, most: int) -> list[ReadableSpan]:
    """Spans of several resources and scopes, in any order."""
    owners, libraries = resources(source), scopes(source)
    count = source.integer(0, most)
    made = [span(source, source.choose(owners), source.choose(libraries)) for _ in range(count)]
    if happens(source, 4) and all(library.name for library in libraries):
        made.append(span(source, owners[0], None))
    return made


class _Ids(IdGenerator):
    def __init__(self, source: Source) -> None:
        self._source = source

    def generate_trace_id(self) -> int:
        return self._source.integer(1, 2**128 - 1)

    def generate_span_id(self) -> int:
        return self._source.integer(1, 2**64 - 1)


class _Collect(SpanProcessor):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def spans_of_provider(source: Source, most: int) -> list[ReadableSpan]:
    """Spans that a real TracerProvider made and ended, with limits that drop some of all."""
    limits = SpanLimits(
        max_events=2,
        max_links=2,
        max_span_attributes=3,
        max_event_attributes=2,
        max_link_attributes=2,
    )
    provider = TracerProvider(
        sampler=ALWAYS_ON,
        resource=resources(source, 1)[0],
        shutdown_on_exit=False,
        id_generator=_Ids(source),
        span_limits=limits,
    )
    collect = _Collect()
    provider.add_span_processor(collect)
    libraries = [
        (library.name, library.version, library.schema_url, library.attributes)
        for library in scopes(source)
    ]
    tracers = [
        provider.get_tracer(name or "scope", version, url, attributes)
        for name, version, url, attributes in libraries
    ]
    for _ in range(source.integer(0, most)):
        _run_span(source, source.choose(tracers))
    return collect.spans


def _run_span(source: Source, tracer: Any) -> None:
    parent = set_span_in_context(NonRecordingSpan(span_context(source)), Context())
    span = tracer.start_span(
        source.text(),
        parent if happens(source) else Context(),
        source.choose(tuple(SpanKind)),
        raw_attributes(source),
        some(source, lambda of: Link(span_context(of), raw_attributes(of)), 4),
        time(source),
    )
    span.set_attributes(raw_attributes(source))
    for _ in range(source.integer(0, 3)):
        span.add_event(source.text(), raw_attributes(source), time(source))
    if happens(source, 4):
        span.add_link(span_context(source), raw_attributes(source))
    if happens(source, 4):
        span.record_exception(ValueError(source.text()), timestamp=time(source))
    if happens(source):
        span.set_status(_status(source))
    span.end(time(source))


def log_record(
    source: Source, resource: Resource, scope: InstrumentationScope | None
) -> ReadableLogRecord | ReadWriteLogRecord:
    """A log record as an exporter, or as a processor is given it."""
    in_span = set_span_in_context(NonRecordingSpan(span_context(source)), Context())
    log = LogRecord(
        timestamp=source.choose((None, 0)) if happens(source, 4) else time(source),
        observed_timestamp=time(source),
        context=in_span if happens(source) else _OUTSIDE,
        severity_text=source.choose((None, "", "WARN", source.text())),
        severity_number=source.choose((None, *SeverityNumber)),
        body=value(source),
        event_name=source.choose((None, "", "device.app.lifecycle", source.text())),
    )
    if happens(source, 8):
        log.observed_timestamp = None
    if happens(source, 4):
        given = bounded(source, extended=True)
        log.attributes = dict(given or {})
        return ReadWriteLogRecord(log, resource, scope)
    log.attributes = bounded(source, extended=True)
    return ReadableLogRecord(log, resource, scope)


_OUTSIDE = set_span_in_context(NonRecordingSpan(SpanContext(0, 0, False)), Context())


def log_records(source: Source, most: int) -> list[ReadableLogRecord | ReadWriteLogRecord]:
    """Log records of several resources and scopes, in any order."""
    owners, libraries = resources(source), scopes(source)
    count = source.integer(0, most)
    made = [
        log_record(source, source.choose(owners), source.choose(libraries)) for _ in range(count)
    ]
    if happens(source, 4) and all(library.name for library in libraries):
        made.append(log_record(source, owners[0], None))
    return made


def number(source: Source) -> float | int:
    """A measured value."""
    return source.real() if happens(source) else source.integer(-(2**63), 2**63 - 1)


def exemplar(source: Source) -> Exemplar:
    """A measurement, within a span or not."""
    measured = (raw_attributes(source), number(source), time(source))
    if happens(source):
        return Exemplar(*measured)
    return Exemplar(*measured, source.integer(1, 2**64 - 1), source.integer(1, 2**128 - 1))


def _common(source: Source) -> dict[str, Any]:
    return {
        "attributes": None if happens(source, 8) else raw_attributes(source),
        "start_time_unix_nano": None if happens(source, 4) else time(source),
        "time_unix_nano": time(source),
        "exemplars": some(source, exemplar, 2),
    }


def _number_point(source: Source) -> NumberDataPoint:
    return NumberDataPoint(value=number(source), **_common(source))


def _count(source: Source) -> int:
    return source.integer(0, 2**64 - 1)


def _distribution(source: Source) -> dict[str, Any]:
    # The SDK has infinities where it records neither of the two; its types allow None.
    bounds: tuple[Any, ...] = ((math.inf, -math.inf), (None, None), (1, 2), None, None)
    low, high = source.choose(bounds) or (source.real(), source.real())
    total = None if happens(source, 8) else number(source)
    return {"count": _count(source), "sum": total, "min": low, "max": high, **_common(source)}


def _histogram_point(source: Source) -> HistogramDataPoint:
    bounds = source.choose(((), (0.0, 5, 10.5), None)) or (source.real(),)
    counts = [_count(source) for _ in range(len(bounds) + 1)] if bounds or happens(source) else []
    return HistogramDataPoint(
        bucket_counts=source.choose((tuple, list))(counts),
        explicit_bounds=source.choose((tuple, list))(bounds),
        **_distribution(source),
    )


def _exponential_point(source: Source) -> ExponentialHistogramDataPoint:
    return ExponentialHistogramDataPoint(
        scale=source.integer(-(2**31), 2**31 - 1),
        zero_count=_count(source),
        positive=_buckets(source),
        negative=_buckets(source),
        flags=source.choose((0, 0, 1, 2**32 - 1)),
        **_distribution(source),
    )


def _buckets(source: Source) -> Buckets:
    return Buckets(source.integer(-(2**31), 2**31 - 1), some(source, _count))


_POINTS: dict[type, Callable[[Source], Any]] = {
    Gauge: _number_point,
    Sum: _number_point,
    Histogram: _histogram_point,
    ExponentialHistogram: _exponential_point,
}


def metric(source: Source, name: str, points: int) -> Metric:
    """A metric of any kind, with as many points."""
    kind = source.choose(tuple(_POINTS))
    fields: dict[str, Any] = {"data_points": [_POINTS[kind](source) for _ in range(points)]}
    if kind is not Gauge:
        fields["aggregation_temporality"] = source.choose(tuple(AggregationTemporality))
    if kind is Sum:
        fields["is_monotonic"] = _boolean(source)
    description, unit = source.choose((None, "", source.text())), source.choose((None, "", "By"))
    return Metric(name, description, unit, kind(**fields))


def metrics_data(source: Source, most: int) -> MetricsData:
    """Metrics of several resources and scopes; some of them without any point."""
    libraries = scopes(source)
    left = [source.integer(0, most)]

    def take(_: Source) -> int:
        taken = min(left[0], source.integer(0, 3))
        left[0] -= taken
        return taken

    def metrics(_: Source) -> list[Metric]:
        count = source.integer(0, 1 + left[0])
        return [metric(source, f"metric-{n} {source.text()}", take(source)) for n in range(count)]

    return MetricsData(
        [
            ResourceMetrics(
                owner,
                [
                    ScopeMetrics(library, metrics(source), library.schema_url or "")
                    for library in libraries
                    if happens(source)
                ],
                owner.schema_url,
            )
            for owner in resources(source)
        ]
    )


def event(source: Source) -> TelemetryEvent:
    """An event of our own, with any values in all fields."""
    severity = source.choose((0, 1, 5, 8, 9, 12, 13, 16, 17, 24))
    body = plain(value(source))
    return TelemetryEvent(
        source=source.text(),
        message=body_text(body),
        event_type=EventType.from_severity_number(severity),
        metadata=_plain_attributes(source),
        time_unix_nano=time(source),
        observed_time_unix_nano=time(source),
        trace_id=source.integer(0, 2**128 - 1),
        span_id=source.integer(0, 2**64 - 1),
        trace_flags=source.choose((0, 1, 255, 2**32 - 1)),
        severity_number=severity,
        severity_text=source.text(),
        event_name=source.text(),
        body=body,
        dropped_attributes_count=source.choose((0, 1, 2**32 - 1)),
        scope=_scope_info(source),
        resource=_resource_info(source),
    )


def own_metric(source: Source) -> TelemetryMetric:
    """A metric of our own, of any kind, summaries too."""
    kind = source.choose(tuple(MetricKind))
    total, point = _OWN_POINTS[kind](source)
    temporality = Temporality.UNSPECIFIED
    if kind not in (MetricKind.GAUGE, MetricKind.SUMMARY):
        temporality = source.choose(tuple(Temporality))
    return TelemetryMetric(
        name=source.text(),
        value=total,
        unit=source.text(),
        tags=_plain_attributes(source),
        time_unix_nano=time(source),
        start_time_unix_nano=time(source),
        kind=kind,
        temporality=temporality,
        is_monotonic=kind is MetricKind.SUM and _boolean(source),
        description=source.text(),
        point=point,
        exemplars=[] if kind is MetricKind.SUMMARY else some(source, _own_exemplar, 2),
        flags=source.choose((0, 0, 2, 2**32 - 1)) & ~1,
        metric_metadata=_plain_attributes(source),
        scope=_scope_info(source),
        resource=_resource_info(source),
    )


def _plain_attributes(source: Source) -> dict[str, Any]:
    return {source.text(): plain(value(source)) for _ in range(source.integer(0, 3))}


def _scope_info(source: Source) -> ScopeInfo | None:
    if happens(source):
        return None
    version, url = source.choose(("", "1.0")), _schema_url(source) or ""
    return ScopeInfo(source.text(), version, _plain_attributes(source), url, _dropped(source))


def _resource_info(source: Source) -> ResourceInfo | None:
    if happens(source):
        return None
    return ResourceInfo(_plain_attributes(source), _schema_url(source) or "", _dropped(source))


def _dropped(source: Source) -> int:
    return source.choose((0, 0, 1, 2**32 - 1))


def _own_exemplar(source: Source) -> OwnExemplar:
    ids = (source.integer(0, 2**128 - 1), source.integer(0, 2**64 - 1))
    return OwnExemplar(number(source), time(source), *ids, _plain_attributes(source))


def _maybe_real(source: Source) -> float | None:
    return source.real() if happens(source) else None


def _own_number(source: Source) -> tuple[float | int, None]:
    return number(source), None


def _own_histogram(source: Source) -> tuple[float, HistogramPoint]:
    total, bounds = _maybe_real(source), tuple(some(source, _real))
    counts = tuple(_count(source) for _ in range(len(bounds) + 1)) if bounds else ()
    point = HistogramPoint(
        _count(source), total, counts, bounds, _maybe_real(source), _maybe_real(source)
    )
    return math.nan if total is None else total, point


def _own_exponential(source: Source) -> tuple[float, ExponentialHistogramPoint]:
    total = _maybe_real(source)
    point = ExponentialHistogramPoint(
        _count(source),
        total,
        source.integer(-(2**31), 2**31 - 1),
        _count(source),
        # A zero has no sign on the wire: it is left out.
        source.real() or 0.0,
        _own_buckets(source),
        _own_buckets(source),
        _maybe_real(source),
        _maybe_real(source),
    )
    return math.nan if total is None else total, point


def _own_buckets(source: Source) -> OwnBuckets | None:
    if happens(source, 4):
        return None
    return OwnBuckets(source.integer(-(2**31), 2**31 - 1), tuple(some(source, _count)))


def _own_summary(source: Source) -> tuple[float, SummaryPoint]:
    total = source.real()
    pairs = tuple((source.real(), source.real()) for _ in range(source.integer(0, 3)))
    return total, SummaryPoint(_count(source), total, pairs)


_OWN_POINTS: dict[MetricKind, Callable[[Source], tuple[Any, Any]]] = {
    MetricKind.GAUGE: _own_number,
    MetricKind.SUM: _own_number,
    MetricKind.HISTOGRAM: _own_histogram,
    MetricKind.EXPONENTIAL_HISTOGRAM: _own_exponential,
    MetricKind.SUMMARY: _own_summary,
}
