"""One of every record that a storage may get, with times a second apart."""

from __future__ import annotations

from collections import OrderedDict

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceState

from rimp_otel import EventType, TelemetryData, TelemetryEvent, TelemetryMetric
from rimp_otel.models.records import (
    Buckets,
    Exemplar,
    ExponentialHistogramPoint,
    HistogramPoint,
    MetricKind,
    ResourceInfo,
    ScopeInfo,
    SummaryPoint,
    Temporality,
)

SECOND = 1_000_000_000
NOON = 1_795_521_600 * SECOND  # 2026-11-24T12:00:00Z

RESOURCE = ResourceInfo({"service.name": "shop", "pid": 7}, "https://resource/1")
SCOPE = ScopeInfo("auth", "1.2", {"a": True}, "https://scope/1")
VALUES = {
    "text": "grüße \U0001f600",
    "flag": True,
    "int": -(2**63),
    "float": 0.1,
    "bytes": b"\x00\xff",
    "none": None,
    "list": ["a", 1, None, [2.5]],
    "map": {"x": {"y": []}},
}


def span() -> ReadableSpan:
    """Return a span with every field set, at noon."""
    context = SpanContext(2**127 + 1, 2**63 + 1, False, 1, TraceState([("v", "1"), ("w", "2")]))
    parent = SpanContext(context.trace_id, 3, is_remote=True)
    linked = SpanContext(5, 6, True, 1, TraceState([("l", "3")]))
    return ReadableSpan(
        "checkout",
        context,
        parent,
        Resource(RESOURCE.attributes, RESOURCE.schema_url),
        {"http.method": "GET", "sizes": (1, 2), "ratio": 0.5, "ok": True},
        [Event("cache.miss", {"key": "k"}, NOON + 5), Event("bare", None, NOON + 6)],
        [Link(linked, {"why": "retry"})],
        SpanKind.SERVER,
        status=Status(StatusCode.ERROR, "broken"),
        start_time=NOON,
        end_time=NOON + 250,
        instrumentation_scope=InstrumentationScope("shop", "2.0", "https://scope/2", {"b": 1}),
    )


def bare_span() -> ReadableSpan:
    """Return a span with almost no field set, a second later."""
    # Not the SDK's default, which differs from one version to the next.
    unnamed = Resource({"service.name": "unnamed"})
    context = SpanContext(1, 2, False, 1)
    return ReadableSpan("bare", context, resource=unnamed, start_time=NOON + SECOND)


def events() -> list[TelemetryEvent]:
    """Return events with every field set and bodies of every type, two seconds after noon and on."""
    full = TelemetryEvent(
        "auth",
        "login",
        EventType.WARNING,
        dict(VALUES),
        NOON + 2 * SECOND,
        NOON + 2 * SECOND + 1,
        2**127,
        2**63,
        1,
        14,
        "warn2",
        "login.failed",
        dropped_attributes_count=3,
        scope=SCOPE,
        resource=RESOURCE,
    )
    bodies = [None, "", b"\x01", 7, 2.5, False, [1, {"a": None}], dict(VALUES)]
    odd = [
        TelemetryEvent(
            "auth",
            "",
            time_unix_nano=NOON + (3 + i) * SECOND,
            body=body,
            scope=SCOPE,
            resource=RESOURCE,
        )
        for i, body in enumerate(bodies)
    ]
    observed = TelemetryEvent("", "x", time_unix_nano=0, observed_time_unix_nano=NOON + 11 * SECOND)
    return [full, *odd, observed]


def metrics() -> list[TelemetryMetric]:
    """Return metric points of every kind, twelve seconds after noon and on."""
    common = {"scope": SCOPE, "resource": RESOURCE}
    summed = {"start_time_unix_nano": NOON, "temporality": Temporality.CUMULATIVE, **common}
    made = [
        TelemetryMetric("gauge", 1, "By", {"k": "v"}, description="d", **common),
        TelemetryMetric("gauge", 0.5, "By", dict(VALUES), description="d", **common),
        TelemetryMetric("novalue", 0, flags=1, **common),
        TelemetryMetric(
            "sum",
            2**40,
            kind=MetricKind.SUM,
            is_monotonic=True,
            exemplars=[Exemplar(1, NOON, 9, 8, {"e": 1}), Exemplar(2.5, NOON)],
            metric_metadata={"meta": "data"},
            **summed,
        ),
        TelemetryMetric(
            "histogram",
            6.5,
            kind=MetricKind.HISTOGRAM,
            point=HistogramPoint(3, 6.5, (1, 2), (2.0,), 0.5, 4.0),
            **summed,
        ),
        TelemetryMetric(
            "exponential",
            6.5,
            kind=MetricKind.EXPONENTIAL_HISTOGRAM,
            point=ExponentialHistogramPoint(
                4, 6.5, 3, 1, 0.25, Buckets(-2, (1, 0)), Buckets(0, (2,)), -1.0, 4.0
            ),
            **summed,
        ),
        TelemetryMetric(
            "summary",
            6.5,
            kind=MetricKind.SUMMARY,
            point=SummaryPoint(2, 6.5, ((0.5, 1.0), (1.0, 5.5))),
            **{**summed, "temporality": Temporality.UNSPECIFIED},
        ),
    ]
    for i, metric in enumerate(made):
        metric.time_unix_nano = NOON + (12 + i) * SECOND
    return made


def everything() -> TelemetryData:
    """Return a batch of all samples."""
    return TelemetryData(events(), metrics(), [span(), bare_span()])


def span_fields(span: ReadableSpan) -> dict[str, object]:
    """Return all fields of a span as plain values."""
    scope = span.instrumentation_scope
    return OrderedDict(
        name=span.name,
        context=context_fields(span.context),
        parent=span.parent and (span.parent.span_id, span.parent.is_remote),
        kind=span.kind,
        times=(span.start_time, span.end_time or 0),
        attributes=dict(span.attributes or {}),
        events=[(e.name, e.timestamp, dict(e.attributes or {})) for e in span.events],
        links=[(context_fields(x.context), dict(x.attributes or {})) for x in span.links],
        status=(span.status.status_code, span.status.description),
        resource=(dict(span.resource.attributes), span.resource.schema_url),
        scope=scope and (scope.name, scope.version, scope.schema_url, dict(scope.attributes or {})),
    )


def context_fields(context: SpanContext) -> tuple[object, ...]:
    """Return the fields of a span context that OTLP has."""
    state = list(context.trace_state.items())
    return (context.trace_id, context.span_id, int(context.trace_flags), state)
