"""Builds the SDK's records of every signal, with every field, from a source of choices.

Both provers share the builders: Hypothesis chooses in the tests (``strategies``), a seeded
``random.Random`` in the long run (``prove``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

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

from tests.otlp.choices import (
    EXTENDED,
    Source,
    boolean,
    happens,
    key,
    number,
    raw_attributes,
    schema_url,
    some,
    tally,
    time,
    value,
)

__all__ = [
    "log_records",
    "metrics_data",
    "spans",
    "spans_of_provider",
]


def bounded(source: Source, *, extended: bool = EXTENDED) -> BoundedAttributes | None:
    """Return attributes as the SDK keeps them, some of them dropped."""
    if happens(source, 8):
        return None
    limit = source.choose((None, None, None, 0, 1, 2))
    if extended and not EXTENDED:
        given = {key(source): value(source) for _ in range(source.integer(0, 4))}
        return BoundedAttributes(limit, given, extended_attributes=True)
    return BoundedAttributes(limit, raw_attributes(source))


def trace_state(source: Source) -> TraceState:
    """Return a trace state of none to three entries that W3C allows."""
    names = ("vendor", "a", "b2", "tenant@system", "with_-*/all")
    texts = ("1", "x y", "!#$%&'()*+-./:;<>?@[]^_`{|}~", '"quoted"', "\\")
    return TraceState(some(source, lambda of: (of.choose(names), of.choose(texts)), 1))


def span_context(source: Source, low: int = 0) -> SpanContext:
    """Return the context of a span here or elsewhere; its ids may be 0 if they begin at ``low`` = 0."""
    return SpanContext(
        source.integer(low, 2**128 - 1),
        source.integer(low, 2**64 - 1),
        boolean(source),
        TraceFlags(source.choose((0, 1, 2, 3, 255))),
        trace_state(source),
    )


def resources(source: Source, most: int = 3) -> list[Resource]:
    """Return resources that differ in what is written of them."""
    made = [
        Resource(
            {"service.name": f"service-{number}", **raw_attributes(source)}, schema_url(source)
        )
        for number in range(source.integer(1, most))
    ]
    return [Resource({}), *made[1:]] if happens(source, 4) else made


def scopes(source: Source, most: int = 3) -> list[InstrumentationScope]:
    """Return scopes that differ in what is written of them."""
    made = [
        InstrumentationScope(
            f"scope-{number} {source.text()}",
            source.choose((None, "", "1.0")),
            schema_url(source),
            raw_attributes(source),
        )
        for number in range(source.integer(1, most))
    ]
    return [InstrumentationScope(""), *made[1:]] if happens(source, 4) else made


def span(source: Source, resource: Resource, scope: InstrumentationScope | None) -> ReadableSpan:
    """Return a span that is made directly."""
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
    """Return spans of several resources and scopes, in any order."""
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
    """Return spans of a real TracerProvider, with limits that drop some of everything."""
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
    """Return a log record as an exporter or as a processor gets it."""
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
    """Return log records of several resources and scopes, in any order."""
    owners, libraries = resources(source), scopes(source)
    count = source.integer(0, most)
    made = [
        log_record(source, source.choose(owners), source.choose(libraries)) for _ in range(count)
    ]
    if happens(source, 4) and all(library.name for library in libraries):
        made.append(log_record(source, owners[0], None))
    return made


def exemplar(source: Source) -> Exemplar:
    """Return a measurement, within a span or not."""
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


def _distribution(source: Source) -> dict[str, Any]:
    # The SDK has infinities where it records neither of the two; its types allow None.
    bounds: tuple[Any, ...] = ((math.inf, -math.inf), (None, None), (1, 2), None, None)
    low, high = source.choose(bounds) or (source.real(), source.real())
    total = None if happens(source, 8) else number(source)
    return {"count": tally(source), "sum": total, "min": low, "max": high, **_common(source)}


def _histogram_point(source: Source) -> HistogramDataPoint:
    bounds = source.choose(((), (0.0, 5, 10.5), None)) or (source.real(),)
    counts = [tally(source) for _ in range(len(bounds) + 1)] if bounds or happens(source) else []
    return HistogramDataPoint(
        bucket_counts=source.choose((tuple, list))(counts),
        explicit_bounds=source.choose((tuple, list))(bounds),
        **_distribution(source),
    )


def _exponential_point(source: Source) -> ExponentialHistogramDataPoint:
    return ExponentialHistogramDataPoint(
        scale=source.integer(-(2**31), 2**31 - 1),
        zero_count=tally(source),
        positive=_buckets(source),
        negative=_buckets(source),
        flags=source.choose((0, 0, 1, 2**32 - 1)),
        **_distribution(source),
    )


def _buckets(source: Source) -> Buckets:
    return Buckets(source.integer(-(2**31), 2**31 - 1), some(source, tally))


_POINTS: dict[type, Callable[[Source], Any]] = {
    Gauge: _number_point,
    Sum: _number_point,
    Histogram: _histogram_point,
    ExponentialHistogram: _exponential_point,
}


def metric(source: Source, name: str, points: int) -> Metric:
    """Return a metric of any kind, with this number of points."""
    kind = source.choose(tuple(_POINTS))
    fields: dict[str, Any] = {"data_points": [_POINTS[kind](source) for _ in range(points)]}
    if kind is not Gauge:
        fields["aggregation_temporality"] = source.choose(tuple(AggregationTemporality))
    if kind is Sum:
        fields["is_monotonic"] = boolean(source)
    description, unit = source.choose((None, "", source.text())), source.choose((None, "", "By"))
    return Metric(name, description, unit, kind(**fields))


def metrics_data(source: Source, most: int) -> MetricsData:
    """Return metrics of several resources and scopes, some of them without any point."""
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
