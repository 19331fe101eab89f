"""OTLP JSON lines to rows: what a table has a column for goes there, the rest into ``RimpRest``.

The rest is the record's own OTLP JSON without what the columns say. A value that a column holds as text stands
there as a zero of its type: ``{"intValue": 0}`` says that the column's text is a number. So the rest is the same
for most records, and compresses to nothing. ``absent`` names the fields that a record lacks although their column
has a value, since a column has no null.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

import msgspec
from msgspec import Raw

from rimp_otel.models.records import MetricKind, Signal
from rimp_otel.otlp import messages
from rimp_otel.otlp.decode_common import (
    SEVERITIES,
    SPAN_KINDS,
    STATUS_CODES,
    TEMPORALITIES,
    any_value,
    attributes_of,
    check_boolean,
    check_uint64,
    enum_number,
    id_bytes,
)
from rimp_otel.otlp.messages import AnyValue, KeyValue, OtlpMessage, no_recursion_error
from rimp_otel.otlp.values import value_json
from rimp_otel.process import BoundedCache

__all__ = ["KIND_NAMES", "MAX_TIME", "STATUS_NAMES", "Rest", "TimedRow", "rows_of_line"]

MAX_TIME = 2**63 - 1
"""The last time that a column can hold, in 2262; later ones are in the rest."""

KIND_NAMES = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")
STATUS_NAMES = ("Unset", "Ok", "Error")
"""What the tables call kinds of spans and statuses."""

# Floats hold all integers up to this.
_EXACT = 2**53


TimedRow = tuple[int, list[Any]]
"""The time of a record, and its values in the order of the table's columns; the slice's hash and the order are
left at 0."""


class Rest(OtlpMessage):
    """What the columns of a row cannot hold."""

    resource: messages.Resource | None = None
    scope: messages.OtlpScope | None = None
    resource_schema_url: str | None = None
    scope_schema_url: str | None = None
    metric: messages.Metric | None = None
    #: A span, a log record or a point, decoded once it is known which.
    record: Raw | msgspec.UnsetType = msgspec.UNSET
    #: Fields that the record lacks, as they are named in Python.
    absent: list[str] | None = None


@no_recursion_error
def rows_of_line(
    line: bytes, in_seconds: Collection[MetricKind] = ()
) -> Iterator[tuple[Signal, MetricKind | None, list[TimedRow]]]:
    """Yield the records of a line, some at a time, with the table's signal and kind.

    Args:
        line: the line.
        in_seconds: the kinds of metrics whose tables have times in whole seconds.

    Raises:
        DecodeError: the line is not OTLP JSON.
    """
    signal, found = messages.decode_messages(line)
    if signal is Signal.TRACES:
        for resource_spans in found.resource_spans or ():
            for scope_spans in resource_spans.scope_spans or ():
                origin = _Origin(resource_spans, scope_spans, _TRACE_FIELDS)
                yield signal, None, [_row_of_span(s, origin) for s in scope_spans.spans or ()]
    elif signal is Signal.LOGS:
        for resource_logs in found.resource_logs or ():
            for scope_logs in resource_logs.scope_logs or ():
                origin = _Origin(resource_logs, scope_logs, _LOG_FIELDS)
                yield signal, None, [_row_of_log(r, origin) for r in scope_logs.log_records or ()]
    else:
        for resource_metrics in found.resource_metrics or ():
            for scope_metrics in resource_metrics.scope_metrics or ():
                origin = _Origin(resource_metrics, scope_metrics, _METRIC_FIELDS)
                for metric in scope_metrics.metrics or ():
                    for kind, rows in _rows_of_metric(metric, origin, in_seconds):
                        yield signal, kind, rows


# What stands around records.

_TRACE_FIELDS = frozenset({"scope"})
_LOG_FIELDS = frozenset({"scope", "scope attributes", "urls"})
_METRIC_FIELDS = _LOG_FIELDS | {"scope dropped"}
"""What tables of a signal have columns for, besides the resource's attributes."""


class _Origin:
    """A resource and a scope: their columns, and the beginning of the rest."""

    def __init__(self, group: Any, scoped: Any, fields: frozenset[str]) -> None:
        resource = messages.decode_resource(group.resource)
        scope = messages.decode_scope(scoped.scope)
        rest = Rest(resource_schema_url=group.schema_url, scope_schema_url=scoped.schema_url)
        service = attributes_of(resource.attributes, list).get("service.name")
        self.service = service if isinstance(service, str) else ""
        self.resource_url, self.scope_url = group.schema_url or "", scoped.schema_url or ""
        self.attributes, resource.attributes = _split_attributes(resource.attributes)
        self.scope_name, scope.name = scope.name or "", None
        self.scope_version, scope.version = scope.version or "", None
        self.scope_attributes: dict[str, str] = {}
        self.scope_dropped = 0
        if "scope attributes" in fields:
            self.scope_attributes, scope.attributes = _split_attributes(scope.attributes)
        else:
            scope.attributes = _verbatim_attributes(scope.attributes)
        if "scope dropped" in fields:
            self.scope_dropped, scope.dropped_attributes_count = (
                scope.dropped_attributes_count or 0,
                None,
            )
        if "urls" in fields:
            rest.resource_schema_url = rest.scope_schema_url = None
        rest.resource = resource if resource != _NO_RESOURCE else None
        rest.scope = scope if scope != _NO_SCOPE else None
        self._rest = rest
        self._known: dict[bytes, str] = {}

    def rest(self, record: OtlpMessage, absent: list[str] | None = None) -> str:
        """Return the rest of a record, whose message has only what is not in columns."""
        text = _encode(record)
        if absent:
            return self._make_rest(text, absent)
        known = self._known.get(text)
        if known is None:
            known = self._make_rest(text, None)
            if len(self._known) < _MOST_KNOWN:
                self._known[text] = known
        return known

    def _make_rest(self, text: bytes, absent: list[str] | None) -> str:
        rest = self._rest
        rest.record = Raw(text) if text != b"{}" else msgspec.UNSET
        rest.absent = absent
        made = _encode(rest).decode()
        return "" if made == "{}" else made

    def set_metric(self, metric: messages.Metric | None) -> None:
        """Have the rests of what follows say what a metric has no columns for."""
        if metric is not self._rest.metric:
            self._rest.metric = metric
            self._known.clear()


_MOST_KNOWN = 64
_NO_RESOURCE, _NO_SCOPE = messages.Resource(), messages.OtlpScope()
_encode = msgspec.json.Encoder().encode


# Values.

_INT = AnyValue(int_value=0)
_DOUBLE = AnyValue(double_value=0.0)
_BOOL = AnyValue(bool_value=True)


# By key: what says that an attribute is an integer, for the keys that come all the time.
_int_pairs: BoundedCache[str, KeyValue] = BoundedCache(4_096)


def _int_pair(key: str) -> KeyValue:
    pair = _int_pairs.get(key)
    return _int_pairs.setdefault(key, KeyValue(key, _INT)) if pair is None else pair


def _split_attributes(
    pairs: list[KeyValue] | None,
) -> tuple[dict[str, str], list[KeyValue] | None]:
    """Return attributes as a column of texts, and what says which of them are no texts."""
    if not pairs:
        return {}, None
    texts: dict[Any, str] = {}
    typed: list[KeyValue] | None = None
    for pair in pairs:
        value, key = pair.value, pair.key
        if value is not None:
            text = value.string_value
            if text is not None:
                texts[key] = text
                continue
            number = value.int_value
            if number is not None:
                texts[key] = str(number)
                kept = _int_pair(key or "")
            else:
                texts[key], type = _split_value(value)
                kept = KeyValue(key, type)
        else:
            texts[key], kept = "", KeyValue(key, AnyValue())
        if typed is None:
            typed = [kept]
        else:
            typed.append(kept)
    if len(texts) < len(pairs) or None in texts:
        return _split_attributes(_last_of_each_key(pairs))
    return texts, typed


def _last_of_each_key(pairs: list[KeyValue]) -> list[KeyValue]:
    """Return pairs with different keys, which are texts: the last one of a key counts."""
    return [
        KeyValue(key, value)
        for key, value in {pair.key or "": pair.value for pair in pairs}.items()
    ]


def _verbatim_attributes(pairs: list[KeyValue] | None) -> list[KeyValue] | None:
    """Return attributes that have no column, as they stand in the rest."""
    return [KeyValue(pair.key, _verbatim(pair.value)) for pair in pairs] if pairs else None


def _split_value(value: AnyValue | None) -> tuple[str, AnyValue]:
    """Return a value that is no string as text, and what says its type, or all of it."""
    if value is not None:
        if value.int_value is not None:
            return str(value.int_value), _INT
        if value.double_value is not None:
            return _double_text(value.double_value), _DOUBLE
        if value.bool_value is not None:
            is_true = check_boolean(value.bool_value, "boolValue")
            return "true" if is_true else "false", _BOOL
    plain = any_value(value, list)
    if plain is None:
        return "", AnyValue()
    if value is not None and isinstance(plain, bytes):
        return value.bytes_value or "", value
    return msgspec.json.encode(plain).decode(), _verbatim(value)


def _verbatim(value: AnyValue | None) -> Any:
    # The encoder of attributes knows NaN and the infinities, which JSON has no number for.
    return Raw(value_json(any_value(value, list)).encode())


def _double_text(value: float) -> str:
    if math.isfinite(value):
        return repr(value).removesuffix(".0")
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _number(value: float) -> Any:
    """Return a number as ClickHouse reads it from JSON."""
    if math.isfinite(value):
        return value
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _time_text(time: int) -> str:
    """Return a time as ClickHouse reads it, whatever its settings say: seconds, of ten digits at least."""
    text = str(time)
    if len(text) != 19 or time > MAX_TIME:
        text = f"{min(time, MAX_TIME):019d}"
    return f"{text[:-9]}.{text[-9:]}"


def _kept_time(time: int | None) -> int | None:
    """Return a time if its column cannot hold it."""
    return time if time is not None and time > MAX_TIME else None


_is_span_id = re.compile(r"[0-9a-f]{16}", re.ASCII).fullmatch
_NO_SPAN_ID = "0" * 16
_last_trace_id: tuple[str | None, str] = (None, "")


def _trace_id_text(text: str | None) -> str:
    """Return a trace's id as hexadecimal digits in lower case; empty for none.

    Raises:
        DecodeError: it is no id.
    """
    global _last_trace_id
    if not text:
        return ""
    last, known = _last_trace_id
    if text == last:
        return known
    found = id_bytes(text, 16, "traceId")
    known = found.hex() if any(found) else ""
    _last_trace_id = text, known
    return known


def _span_id_text(text: str | None, field: str = "spanId") -> str:
    """Return a span's id as ``_trace_id_text`` does."""
    if not text:
        return ""
    if _is_span_id(text) and text != _NO_SPAN_ID:
        return text
    found = id_bytes(text, 8, field)
    return found.hex() if any(found) else ""


# Spans.

_NO_EVENT, _NO_LINK = messages.SpanEvent(), messages.Link()


def _row_of_span(span: messages.Span, origin: _Origin) -> TimedRow:
    # Written for speed: calls that most spans do not need are left out.
    start, end = span.start_time_unix_nano or 0, span.end_time_unix_nano or 0
    if start > MAX_TIME or end > MAX_TIME:
        check_uint64(max(start, end), "startTimeUnixNano" if start > end else "endTimeUnixNano")
    absent = None
    duration = end - start
    if 0 <= duration <= MAX_TIME:
        span.end_time_unix_nano = None
    else:
        duration = 0 if duration < 0 else duration
        if not end:
            span.end_time_unix_nano = None
            absent = ["end_time_unix_nano"]
    kind = span.kind
    if type(kind) is not int:
        kind = enum_number(kind, SPAN_KINDS, "kind")
    known_kind = kind < len(KIND_NAMES)
    status, code, message = span.status, 0, ""
    if status is not None:
        code, message = enum_number(status.code, STATUS_CODES, "code"), status.message or ""
        span.status = None
    attributes, span.attributes = _split_attributes(span.attributes)
    event_columns, link_columns = _NO_EVENTS, _NO_LINKS
    if span.events is not None:
        event_columns, span.events = _split_events(span.events)
    if span.links is not None:
        link_columns, span.links = _split_links(span.links)
    row = [
        _time_text(start),
        _trace_id_text(span.trace_id),
        _span_id_text(span.span_id),
        _span_id_text(span.parent_span_id, "parentSpanId"),
        span.trace_state or "",
        span.name or "",
        KIND_NAMES[kind] if known_kind else KIND_NAMES[0],
        origin.service,
        origin.attributes,
        origin.scope_name,
        origin.scope_version,
        attributes,
        duration,
        STATUS_NAMES[code],
        message,
        *event_columns,
        *link_columns,
        0,
        0,
    ]
    span.start_time_unix_nano = start if start > MAX_TIME else None
    span.kind = None if known_kind else kind
    span.trace_id = span.span_id = span.parent_span_id = span.trace_state = span.name = None
    row.append(origin.rest(span, absent))
    return start, row


_EMPTY: list[Any] = []
_NO_EVENTS: tuple[Any, ...] = (_EMPTY,) * 3
_NO_LINKS: tuple[Any, ...] = (_EMPTY,) * 4


def _split_events(
    events: list[messages.SpanEvent] | None,
) -> tuple[tuple[Any, ...], list[messages.SpanEvent] | None]:
    if not events:
        return _NO_EVENTS, None
    times, names, maps = [], [], []
    for event in events:
        time = check_uint64(event.time_unix_nano, "timeUnixNano")
        times.append(_time_text(time))
        names.append(event.name or "")
        texts, event.attributes = _split_attributes(event.attributes)
        maps.append(texts)
        event.name, event.time_unix_nano = None, _kept_time(time)
    return (times, names, maps), events if any(event != _NO_EVENT for event in events) else None


def _split_links(
    links: list[messages.Link] | None,
) -> tuple[tuple[Any, ...], list[messages.Link] | None]:
    if not links:
        return _NO_LINKS, None
    traces, spans, states, maps = [], [], [], []
    for link in links:
        traces.append(_trace_id_text(link.trace_id))
        spans.append(_span_id_text(link.span_id))
        states.append(link.trace_state or "")
        texts, link.attributes = _split_attributes(link.attributes)
        maps.append(texts)
        link.trace_id = link.span_id = link.trace_state = None
    kept = links if any(link != _NO_LINK for link in links) else None
    return (traces, spans, states, maps), kept


# Log records.


def _row_of_log(log: messages.LogRecord, origin: _Origin) -> TimedRow:
    time = check_uint64(log.time_unix_nano, "timeUnixNano")
    observed = check_uint64(log.observed_time_unix_nano, "observedTimeUnixNano")
    absent: list[str] = []
    if not time and observed:
        absent.append("time_unix_nano")
    severity = enum_number(log.severity_number, SEVERITIES, "severityNumber")
    body, log.body = _split_body(log.body, absent)
    flags = log.flags or 0
    attributes, log.attributes = _split_attributes(log.attributes)
    shown = time or observed
    row = [
        _time_text(shown),
        _trace_id_text(log.trace_id),
        _span_id_text(log.span_id),
        flags & 0xFF,
        log.severity_text or "",
        min(severity, 0xFF),
        origin.service,
        body,
        origin.resource_url,
        origin.attributes,
        origin.scope_url,
        origin.scope_name,
        origin.scope_version,
        origin.scope_attributes,
        attributes,
        log.event_name or "",
        0,
        0,
    ]
    log.time_unix_nano = _kept_time(time)
    log.flags = flags if flags > 0xFF else None
    log.severity_number = severity if severity > 0xFF else None
    log.trace_id = log.span_id = log.severity_text = log.event_name = None
    row.append(origin.rest(log, absent or None))
    return shown, row


def _split_body(value: AnyValue | None, absent: list[str]) -> tuple[str, AnyValue | None]:
    if value is not None and value.string_value is not None:
        return value.string_value, None
    if any_value(value, list) is None:
        absent.append("body")
        return "", None
    return _split_value(value)


# Metrics.

_NO_EXEMPLAR = messages.OtlpExemplar()
_NO_EXEMPLARS: tuple[Any, ...] = (_EMPTY,) * 5


def _rows_of_metric(
    metric: messages.Metric, origin: _Origin, in_seconds: Collection[MetricKind]
) -> Iterator[tuple[MetricKind, list[TimedRow]]]:
    rest = None
    if metric.metadata:
        rest = messages.Metric(metadata=_verbatim_attributes(metric.metadata))
    origin.set_metric(rest)
    for kind, split in _POINTS.items():
        data = getattr(metric, kind.value)
        rows: list[TimedRow] = []
        for point in (data and data.data_points) or ():
            absent: list[str] = []
            times = _point_times(point) if kind in in_seconds else None
            own = split(point, data, absent)
            attributes, point.attributes = _split_attributes(point.attributes)
            start = check_uint64(point.start_time_unix_nano, "startTimeUnixNano")
            time = check_uint64(point.time_unix_nano, "timeUnixNano")
            row = [
                origin.attributes,
                origin.resource_url,
                origin.scope_name,
                origin.scope_version,
                origin.scope_attributes,
                origin.scope_dropped,
                origin.scope_url,
                origin.service,
                metric.name or "",
                metric.description or "",
                metric.unit or "",
                attributes,
                _time_text(start),
                _time_text(time),
                point.flags or 0,
                *own,
                0,
                0,
            ]
            point.start_time_unix_nano, point.time_unix_nano = _kept_time(start), _kept_time(time)
            point.flags = None
            if times is not None:
                _keep_times(point, *times)
            row.append(origin.rest(point, absent or None))
            rows.append((time, row))
        if rows:
            yield kind, rows


_Times = tuple[Any, Any, list[messages.OtlpExemplar], list[Any]]


def _point_times(point: Any) -> _Times:
    exemplars = getattr(point, "exemplars", None) or []
    times = [exemplar.time_unix_nano for exemplar in exemplars]
    return point.start_time_unix_nano, point.time_unix_nano, exemplars, times


def _keep_times(
    point: Any, start: Any, time: Any, exemplars: list[messages.OtlpExemplar], times: list[Any]
) -> None:
    """Have the rest say all times, for a table that has them in whole seconds."""
    point.start_time_unix_nano, point.time_unix_nano = start, time
    for exemplar, own in zip(exemplars, times, strict=True):
        exemplar.time_unix_nano = own
    if exemplars:
        point.exemplars = exemplars


def _temporality(data: Any) -> int:
    return enum_number(data.aggregation_temporality, TEMPORALITIES, "aggregationTemporality")


def _split_number(
    point: messages.NumberDataPoint | messages.OtlpExemplar, absent: list[str] | None
) -> Any:
    """Return the value as a column has it, and leave in the point what that does not say."""
    if point.as_double is not None:
        value, point.as_double, point.as_int = point.as_double, None, None
        return _number(value)
    if point.as_int is not None:
        integer = point.as_int
        if -_EXACT <= integer <= _EXACT:
            point.as_int = 0  # the column has it exactly
        return integer
    if absent is not None:
        absent.append("value")
        return 0
    return "nan"  # which is how an exemplar without a value is read


def _split_exemplars(point: Any) -> tuple[Any, ...]:
    exemplars: list[messages.OtlpExemplar] = point.exemplars
    if not exemplars:
        point.exemplars = None
        return _NO_EXEMPLARS
    maps, times, values, spans, traces = [], [], [], [], []
    for exemplar in exemplars:
        texts, exemplar.filtered_attributes = _split_attributes(exemplar.filtered_attributes)
        time = check_uint64(exemplar.time_unix_nano, "timeUnixNano")
        maps.append(texts)
        times.append(_time_text(time))
        values.append(_split_number(exemplar, None))
        spans.append(_span_id_text(exemplar.span_id))
        traces.append(_trace_id_text(exemplar.trace_id))
        exemplar.time_unix_nano = _kept_time(time)
        exemplar.span_id = exemplar.trace_id = None
    if all(exemplar == _NO_EXEMPLAR for exemplar in exemplars):
        point.exemplars = None
    return maps, times, values, spans, traces


def _split_gauge(point: messages.NumberDataPoint, data: Any, absent: list[str]) -> list[Any]:
    return [_split_number(point, absent), *_split_exemplars(point)]


def _split_sum(point: messages.NumberDataPoint, data: Any, absent: list[str]) -> list[Any]:
    is_monotonic = data.is_monotonic is not None and check_boolean(data.is_monotonic, "isMonotonic")
    return [*_split_gauge(point, data, absent), _temporality(data), is_monotonic]


def _take_optional(point: Any, field: str, absent: list[str]) -> Any:
    value = getattr(point, field)
    setattr(point, field, None)
    if value is None:
        absent.append(field)
        return 0
    return _number(value)


def _take_count(point: Any, field: str) -> int:
    value = check_uint64(getattr(point, field), field)
    setattr(point, field, None)
    return value


def _take_counts(holder: Any) -> tuple[int, ...]:
    counts: tuple[int, ...] = holder.bucket_counts or ()
    if counts:
        check_uint64(max(counts), "bucketCounts")
    return counts


def _split_histogram(point: messages.HistogramDataPoint, data: Any, absent: list[str]) -> list[Any]:
    counts, bounds = _take_counts(point), list(map(_number, point.explicit_bounds or ()))
    point.bucket_counts = point.explicit_bounds = None
    return [
        _take_count(point, "count"),
        _take_optional(point, "sum", absent),
        counts,
        bounds,
        *_split_exemplars(point),
        _take_optional(point, "min", absent),
        _take_optional(point, "max", absent),
        _temporality(data),
    ]


def _split_exponential(
    point: messages.ExponentialHistogramDataPoint, data: Any, absent: list[str]
) -> list[Any]:
    halves: list[Any] = []
    for field in ("positive", "negative"):
        buckets = getattr(point, field)
        if buckets is None:
            absent.append(field)
            halves += [0, ()]
        else:
            halves += [buckets.offset or 0, _take_counts(buckets)]
        setattr(point, field, None)
    scale, point.scale = point.scale or 0, None
    if point.zero_threshold is not None and not math.isfinite(point.zero_threshold):
        point.zero_threshold = _double_text(point.zero_threshold)  # type: ignore[assignment]
    return [
        _take_count(point, "count"),
        _take_optional(point, "sum", absent),
        scale,
        _take_count(point, "zero_count"),
        *halves,
        *_split_exemplars(point),
        _take_optional(point, "min", absent),
        _take_optional(point, "max", absent),
        _temporality(data),
    ]


def _split_summary(point: messages.SummaryDataPoint, data: Any, absent: list[str]) -> list[Any]:
    items = point.quantile_values or ()
    point.quantile_values = None
    return [
        _take_count(point, "count"),
        _take_optional(point, "sum", absent),
        [_number(0.0 if item.quantile is None else item.quantile) for item in items],
        [_number(0.0 if item.value is None else item.value) for item in items],
    ]


_POINTS: dict[MetricKind, Callable[[Any, Any, list[str]], list[Any]]] = {
    MetricKind.GAUGE: _split_gauge,
    MetricKind.SUM: _split_sum,
    MetricKind.HISTOGRAM: _split_histogram,
    MetricKind.EXPONENTIAL_HISTOGRAM: _split_exponential,
    MetricKind.SUMMARY: _split_summary,
}
