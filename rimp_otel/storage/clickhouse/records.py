"""Rows to records: columns and the rest of ``rows`` together, and rows of others, which have no rest.

Rows come in as JSON arrays, in the order of ``selected_columns``, and become OTLP's messages, which ``rimp_otel.otlp``
decodes as it does those of a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from rimp_otel.errors import DecodeError, StorageError
from rimp_otel.models.records import MetricKind, Signal
from rimp_otel.otlp import messages
from rimp_otel.otlp.decode import decode_events
from rimp_otel.otlp.decode_common import attributes_of
from rimp_otel.otlp.decode_metrics import decode_metrics
from rimp_otel.otlp.decode_spans import decode_spans
from rimp_otel.otlp.messages import AnyValue, KeyValue
from rimp_otel.otlp.values import attributes_json
from rimp_otel.storage.clickhouse.rows import KIND_NAMES, MAX_TIME, STATUS_NAMES, Rest
from rimp_otel.storage.clickhouse.schema import TABLES, ExistingTable, TableDefinition, quote_name

__all__ = ["RowDecoder", "selected_columns"]


# What is asked for.

_DEFAULTS = {
    "String": "''",
    "LowCardinality(String)": "''",
    "Map(LowCardinality(String), String)": "CAST(map(), 'Map(String, String)')",
    "DateTime64(9)": "0",
    "Bool": "false",
}


def selected_columns(existing: ExistingTable) -> str:
    """Return what to select of a table, so that each row is what ``RowDecoder`` takes."""
    return ", ".join(
        _expression(column.name, column.type, existing.types.get(column.name))
        for column in existing.table.columns
    )


def _expression(name: str, wanted: str, type: str | None) -> str:
    if type is None:
        return "[]" if wanted.startswith("Array(") else _DEFAULTS.get(wanted, "0")
    quoted = quote_name(name)
    if wanted == "DateTime64(9)":
        return _nanoseconds(quoted, type)
    if wanted == "Array(DateTime64(9))":
        item = _nanoseconds("x", type.removeprefix("Array(").removesuffix(")"))
        return f"arrayMap(x -> {item}, {quoted})"
    if wanted == "Float64":
        return _double(quoted)
    if wanted == "Array(Float64)":
        return f"arrayMap(x -> {_double('x')}, {quoted})"
    return quoted


def _double(quoted: str) -> str:
    # As a JSON number, a negative zero is written as an integer, which has no sign.
    return f"replaceRegexpOne(toString({quoted}), '^-0$', '-0.0')"


def _nanoseconds(quoted: str, type: str) -> str:
    if type.startswith("DateTime64"):
        return f"toUnixTimestamp64Nano(toDateTime64({quoted}, 9))"
    return f"toInt64(toUnixTimestamp({quoted})) * 1000000000"


def _python_type(type: str) -> Any:
    if type.startswith("Array("):
        item: Any = _python_type(type.removeprefix("Array(").removesuffix(")"))
        return list[item]
    if type.startswith("Map("):
        return dict[str, str]
    if type in ("String", "LowCardinality(String)"):
        return str
    return {"Float64": float, "Bool": bool}.get(type, int)


def _make_row_decoder(table: TableDefinition) -> msgspec.json.Decoder[Any]:
    fields = [
        (column.name.replace(".", "_"), _python_type(column.type)) for column in table.columns
    ]
    row = msgspec.defstruct(f"{table.suffix}_row", fields, array_like=True, gc=False)
    return msgspec.json.Decoder(row, strict=False)


_ROWS = {table.suffix: _make_row_decoder(table) for table in TABLES}


class RowDecoder:
    """Makes records of one table's rows.

    Args:
        existing: the table.
        on_damaged: called with the reason why a row, which a foreign program wrote, cannot be read.
    """

    def __init__(
        self, existing: ExistingTable, on_damaged: Callable[[str], object] = lambda reason: None
    ) -> None:
        table = existing.table
        self._rows = _ROWS[table.suffix]
        self._signal, self._kind = table.signal, table.kind
        self._on_damaged = on_damaged
        self._name = existing.name

    def decode(self, lines: Iterable[bytes]) -> list[tuple[int, Any]]:
        """Return the order and the record of each row.

        Raises:
            StorageError: what came is no row: the server has broken off.
        """
        rows = [self._decode_row(line) for line in lines]
        try:
            return list(zip((row.RimpOrder for row in rows), self._records(rows), strict=True))
        except DecodeError:
            return self._decode_each(rows)

    def _decode_row(self, line: bytes) -> Any:
        try:
            return self._rows.decode(line)
        except (msgspec.MsgspecError, UnicodeError) as error:
            shown = line[:300].decode(errors="replace")
            raise StorageError(f"cannot read {self._name}: {error}: {shown}") from None

    def _decode_each(self, rows: list[Any]) -> list[tuple[int, Any]]:
        found = []
        for row in rows:
            try:
                found += [(row.RimpOrder, record) for record in self._records([row])]
            except DecodeError as error:
                self._on_damaged(f"a row of {self._name}: {error}")
        return found

    def _records(self, rows: Sequence[Any]) -> list[Any]:
        if self._signal is Signal.TRACES:
            return list(decode_spans(list(map(_span_group, rows))))
        if self._signal is Signal.LOGS:
            return list(decode_events(list(map(_log_group, rows))))
        assert self._kind is not None
        kind = self._kind
        return list(decode_metrics([_metric_group(row, kind) for row in rows]))


# The rest.

_REST = msgspec.json.Decoder(Rest, strict=False)
_NO_REST = Rest()


def _rest_of(row: Any) -> Rest:
    return messages.decode_json(_REST, row.RimpRest, "RimpRest: ") if row.RimpRest else _NO_REST


def _record_of(rest: Rest, decoder: msgspec.json.Decoder[Any], make: Callable[[], Any]) -> Any:
    if isinstance(rest.record, msgspec.UnsetType):
        return make()
    return messages.decode_json(decoder, bytes(rest.record), "RimpRest: ")


def _clear_absent(record: Any, rest: Rest) -> None:
    for field in rest.absent or ():
        if hasattr(record, field):
            setattr(record, field, None)


def _join_attributes(texts: dict[str, str], typed: list[KeyValue] | None) -> list[KeyValue]:
    """Return attributes of a column and what the rest says of their types."""
    if not typed:
        return [KeyValue(key, AnyValue(string_value=text)) for key, text in texts.items()]
    types = {pair.key or "": pair.value for pair in typed}
    return [
        KeyValue(key, _join_value(text, types.get(key, _STRING))) for key, text in texts.items()
    ]


_STRING = AnyValue(string_value="")


def _join_value(text: str, type: AnyValue | None) -> AnyValue | None:
    if type is None or type is _STRING:
        return type and AnyValue(string_value=text)
    try:
        if type.int_value is not None:
            return AnyValue(int_value=int(text))
        if type.double_value is not None:
            return AnyValue(double_value=float(text))
    except ValueError:
        raise DecodeError(f"{text!r} is not a number") from None
    return AnyValue(bool_value=text == "true") if type.bool_value is not None else type


# What stands around records.


def _resource_raw(row: Any, rest: Rest) -> Raw:
    kept = rest.resource
    pairs = _join_attributes(row.ResourceAttributes, kept.attributes if kept else None)
    dropped = kept.dropped_attributes_count if kept else None
    return _owner_raw("", pairs, dropped)


def _scope_raw(row: Any, rest: Rest) -> Raw:
    kept = rest.scope
    typed = kept.attributes if kept else None
    if hasattr(row, "ScopeAttributes"):
        typed = _join_attributes(row.ScopeAttributes, typed)
    dropped = getattr(row, "ScopeDroppedAttrCount", 0) or (kept and kept.dropped_attributes_count)
    head = "".join(
        f'"{key}":{msgspec.json.encode(value).decode()},'
        for key, value in (("name", row.ScopeName), ("version", row.ScopeVersion))
        if value
    )
    return _owner_raw(head, typed or [], dropped or None)


def _owner_raw(head: str, pairs: list[KeyValue], dropped: int | None) -> Raw:
    tail = f',"droppedAttributesCount":{dropped}' if dropped else ""
    encoded = attributes_json(attributes_of(pairs, list))
    return Raw(f'{{{head}"attributes":[{encoded}]{tail}}}'.encode())


# Spans.

_SPAN = msgspec.json.Decoder(messages.Span, strict=False)
_KINDS = {
    **{name: number for number, name in enumerate(KIND_NAMES)},
    **{f"SPAN_KIND_{name.upper()}": number for number, name in enumerate(KIND_NAMES)},
}
_STATUSES = {
    **{name: number for number, name in enumerate(STATUS_NAMES)},
    **{f"STATUS_CODE_{name.upper()}": number for number, name in enumerate(STATUS_NAMES)},
}


def _span_group(row: Any) -> messages.ResourceSpans:
    rest = _rest_of(row)
    span: messages.Span = _record_of(rest, _SPAN, messages.Span)
    start = row.Timestamp if span.start_time_unix_nano is None else span.start_time_unix_nano
    span.start_time_unix_nano = max(start, 0)
    if span.end_time_unix_nano is None:
        # Of a span without an end, other exporters have written a negative duration.
        has_ended = 0 <= row.Duration <= MAX_TIME
        span.end_time_unix_nano = max(start + row.Duration, 0) if has_ended else 0
    span.trace_id, span.span_id = row.TraceId, row.SpanId
    span.parent_span_id, span.trace_state = row.ParentSpanId, row.TraceState
    span.name = row.SpanName
    if span.kind is None:
        span.kind = _KINDS.get(row.SpanKind, 0)
    code = _STATUSES.get(row.StatusCode, 0)
    if code or row.StatusMessage:
        span.status = messages.Status(row.StatusMessage, code)
    span.attributes = _join_attributes(row.SpanAttributes, span.attributes)
    span.events = _join_events(row, span.events)
    span.links = _join_links(row, span.links)
    _clear_absent(span, rest)
    return messages.ResourceSpans(
        _resource_raw(row, rest),
        [messages.ScopeSpans(_scope_raw(row, rest), [span], rest.scope_schema_url)],
        rest.resource_schema_url,
    )


def _join_events(
    row: Any, kept: list[messages.SpanEvent] | None
) -> list[messages.SpanEvent] | None:
    if not row.Events_Timestamp:
        return None
    events = kept or [messages.SpanEvent() for _ in row.Events_Timestamp]
    columns = (row.Events_Timestamp, row.Events_Name, row.Events_Attributes)
    for event, time, name, texts in zip(events, *columns, strict=False):
        event.name = name
        if event.time_unix_nano is None:
            event.time_unix_nano = max(time, 0)
        event.attributes = _join_attributes(texts, event.attributes)
    return events


def _join_links(row: Any, kept: list[messages.Link] | None) -> list[messages.Link] | None:
    if not row.Links_TraceId:
        return None
    links = kept or [messages.Link() for _ in row.Links_TraceId]
    columns = (row.Links_TraceId, row.Links_SpanId, row.Links_TraceState, row.Links_Attributes)
    for link, trace_id, span_id, state, texts in zip(links, *columns, strict=False):
        link.trace_id, link.span_id, link.trace_state = trace_id, span_id, state
        link.attributes = _join_attributes(texts, link.attributes)
    return links


# Log records.

_LOG = msgspec.json.Decoder(messages.LogRecord, strict=False)


def _log_group(row: Any) -> messages.ResourceLogs:
    rest = _rest_of(row)
    log: messages.LogRecord = _record_of(rest, _LOG, messages.LogRecord)
    if log.time_unix_nano is None:
        log.time_unix_nano = max(row.Timestamp, 0)
    log.trace_id, log.span_id = row.TraceId, row.SpanId
    if log.flags is None:
        log.flags = row.TraceFlags
    log.severity_text = row.SeverityText
    if log.severity_number is None:
        log.severity_number = max(row.SeverityNumber, 0)
    log.body = _join_value(row.Body, _STRING if log.body is None else log.body)
    log.attributes = _join_attributes(row.LogAttributes, log.attributes)
    log.event_name = row.EventName
    _clear_absent(log, rest)
    return messages.ResourceLogs(
        _resource_raw(row, rest),
        [messages.ScopeLogs(_scope_raw(row, rest), [log], row.ScopeSchemaUrl)],
        row.ResourceSchemaUrl,
    )


# Metrics.


def _metric_group(row: Any, kind: MetricKind) -> messages.ResourceMetrics:
    rest = _rest_of(row)
    decoder, make, join, data = _POINTS[kind]
    point = _record_of(rest, decoder, make)
    for field, time in (
        ("time_unix_nano", row.TimeUnix),
        ("start_time_unix_nano", row.StartTimeUnix),
    ):
        if getattr(point, field) is None:
            setattr(point, field, max(time, 0))
    point.flags = row.Flags
    point.attributes = _join_attributes(row.Attributes, point.attributes)
    join(row, point)
    _clear_absent(point, rest)
    if rest.absent and "value" in rest.absent:
        point.as_double = point.as_int = None
    holder = data(data_points=[point])
    if hasattr(holder, "aggregation_temporality"):
        temporality = row.AggregationTemporality
        holder.aggregation_temporality = temporality if 0 <= temporality <= 2 else 0
    if isinstance(holder, messages.Sum):
        holder.is_monotonic = row.IsMonotonic
    metric = messages.Metric(
        row.MetricName,
        row.MetricDescription,
        row.MetricUnit,
        metadata=rest.metric.metadata if rest.metric else None,
        **{kind.value: holder},
    )
    return messages.ResourceMetrics(
        _resource_raw(row, rest),
        [messages.ScopeMetrics(_scope_raw(row, rest), [metric], row.ScopeSchemaUrl)],
        row.ResourceSchemaUrl,
    )


def _join_number(value: float, point: Any) -> None:
    if point.as_int is None:
        point.as_double = value
    elif point.as_int == 0:
        point.as_int = int(value)


def _join_exemplars(row: Any, point: Any) -> None:
    if not row.Exemplars_TimeUnix:
        return
    exemplars = point.exemplars or [messages.OtlpExemplar() for _ in row.Exemplars_TimeUnix]
    columns = (
        row.Exemplars_FilteredAttributes,
        row.Exemplars_TimeUnix,
        row.Exemplars_Value,
        row.Exemplars_SpanId,
        row.Exemplars_TraceId,
    )
    for exemplar, texts, time, value, span_id, trace_id in zip(exemplars, *columns, strict=False):
        exemplar.filtered_attributes = _join_attributes(texts, exemplar.filtered_attributes)
        if exemplar.time_unix_nano is None:
            exemplar.time_unix_nano = max(time, 0)
        _join_number(value, exemplar)
        exemplar.span_id, exemplar.trace_id = span_id, trace_id
    point.exemplars = exemplars


def _join_number_point(row: Any, point: messages.NumberDataPoint) -> None:
    _join_number(row.Value, point)
    _join_exemplars(row, point)


def _join_distribution(row: Any, point: Any) -> None:
    point.count, point.sum = row.Count, row.Sum
    if not isinstance(point, messages.SummaryDataPoint):
        point.min, point.max = row.Min, row.Max
        _join_exemplars(row, point)


def _join_histogram(row: Any, point: messages.HistogramDataPoint) -> None:
    _join_distribution(row, point)
    point.bucket_counts = tuple(row.BucketCounts)
    point.explicit_bounds = tuple(row.ExplicitBounds)


def _join_exponential(row: Any, point: messages.ExponentialHistogramDataPoint) -> None:
    _join_distribution(row, point)
    point.scale, point.zero_count = row.Scale, row.ZeroCount
    point.positive = messages.OtlpBuckets(row.PositiveOffset, tuple(row.PositiveBucketCounts))
    point.negative = messages.OtlpBuckets(row.NegativeOffset, tuple(row.NegativeBucketCounts))


def _join_summary(row: Any, point: messages.SummaryDataPoint) -> None:
    _join_distribution(row, point)
    pairs = zip(row.ValueAtQuantiles_Quantile, row.ValueAtQuantiles_Value, strict=False)
    point.quantile_values = [messages.ValueAtQuantile(*pair) for pair in pairs]


def _point_type(point: Any, join: Any, data: Any) -> tuple[Any, Any, Any, Any]:
    return msgspec.json.Decoder(point, strict=False), point, join, data


_POINTS = {
    MetricKind.GAUGE: _point_type(messages.NumberDataPoint, _join_number_point, messages.Gauge),
    MetricKind.SUM: _point_type(messages.NumberDataPoint, _join_number_point, messages.Sum),
    MetricKind.HISTOGRAM: _point_type(
        messages.HistogramDataPoint, _join_histogram, messages.Histogram
    ),
    MetricKind.EXPONENTIAL_HISTOGRAM: _point_type(
        messages.ExponentialHistogramDataPoint, _join_exponential, messages.ExponentialHistogram
    ),
    MetricKind.SUMMARY: _point_type(messages.SummaryDataPoint, _join_summary, messages.Summary),
}
