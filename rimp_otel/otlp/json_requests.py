"""Turns the export requests in OTLP JSON into encoded records, each by itself.

OTLP's own JSON is taken and no other: names in lowerCamelCase, ids in hex, enumerations by number. A
record that is wrong costs itself; so that nothing of another dialect is lost without a word, names of
fields in snake case are refused.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp import messages
from rimp_otel.otlp.lines import EncodedRecord, Envelope, RecordEnvelopes
from rimp_otel.otlp.messages import decode_json
from rimp_otel.otlp.protobuf import make_strict
from rimp_otel.otlp.protobuf_reader import MAX_MESSAGE_DEPTH
from rimp_otel.otlp.refusals import FieldError, Refusals
from rimp_otel.otlp.strict import (
    NO_DATA,
    check_log_record,
    check_point,
    check_span,
    metric_envelope,
    record_time,
)

__all__ = ["records_from_json"]

T = TypeVar("T")
MessageT = TypeVar("MessageT", bound=messages.OtlpMessage)

_encode = msgspec.json.Encoder().encode


def records_from_json(signal: Signal, body: bytes, refusals: Refusals) -> list[EncodedRecord]:
    """Return the valid records of an export request, in its order, and add to the refusals.

    Raises:
        DecodeError: the request is not JSON, no object, or of another dialect.
    """
    return _JsonReader(signal, refusals).read(body)


# The messages that hold records together; what they hold is left as text.


class _RequestTexts(messages.PartialMessage):
    resource_spans: list[Raw] | UnsetType | None = UNSET
    resource_logs: list[Raw] | UnsetType | None = UNSET
    resource_metrics: list[Raw] | UnsetType | None = UNSET


class _ResourceTexts(messages.PartialMessage):
    resource: Raw = Raw()
    schema_url: str | None = None
    scope_spans: list[Raw] | None = None
    scope_logs: list[Raw] | None = None
    scope_metrics: list[Raw] | None = None


class _ScopeTexts(messages.PartialMessage):
    scope: Raw = Raw()
    schema_url: str | None = None
    spans: list[Raw] | None = None
    log_records: list[Raw] | None = None
    metrics: list[Raw] | None = None


# A metric without its points.


class _DataShell(messages.OtlpMessage):
    pass


class _HistogramShell(messages.OtlpMessage):
    aggregation_temporality: messages.ClosedEnum | str | None = None


class _SumShell(messages.OtlpMessage):
    aggregation_temporality: messages.ClosedEnum | str | None = None
    is_monotonic: Any = None


class _MetricShell(messages.OtlpMessage):
    name: str | None = None
    description: str | None = None
    unit: str | None = None
    gauge: _DataShell | None = None
    sum: _SumShell | None = None
    histogram: _HistogramShell | None = None
    exponential_histogram: _HistogramShell | None = None
    summary: _DataShell | None = None
    metadata: list[messages.KeyValue] | None = None


_CountedMetric = messages.PartialMetric[messages.PartialData[Raw]]

_REQUEST = msgspec.json.Decoder(_RequestTexts)
_RESOURCE = msgspec.json.Decoder(_ResourceTexts)
_SCOPE = msgspec.json.Decoder(_ScopeTexts)
_POINTS = msgspec.json.Decoder(_CountedMetric)
_POINT_TYPES: tuple[tuple[str, type[messages.OtlpMessage]], ...] = (
    ("gauge", messages.NumberDataPoint),
    ("sum", messages.NumberDataPoint),
    ("histogram", messages.HistogramDataPoint),
    ("exponentialHistogram", messages.ExponentialHistogramDataPoint),
    ("summary", messages.SummaryDataPoint),
)
_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind, strict=False)
    for kind in (
        messages.Resource,
        messages.Scope,
        messages.Span,
        messages.LogRecord,
        _MetricShell,
        *[kind for _, kind in _POINT_TYPES],
    )
}
_CHECKS: dict[Any, Any] = {messages.Span: check_span, messages.LogRecord: check_log_record}


class _JsonReader:
    def __init__(self, signal: Signal, refusals: Refusals) -> None:
        self._signal = signal
        self._refusals = refusals
        self._records: list[EncodedRecord] = []

    def read(self, body: bytes) -> list[EncodedRecord]:
        request = decode_json(_REQUEST, body)
        key = self._signal.resource_key
        found = {signal: getattr(request, _snake(signal.resource_key)) for signal in Signal}
        resources = found[self._signal]
        if resources is UNSET:
            others = [signal.resource_key for signal in Signal if found[signal] is not UNSET]
            if others:
                raise DecodeError(f"holds {others[0]}, and no {key}: sent to the wrong address")
        _refuse_snake_case(body, _OUTER_KEYS)
        for index, resource in enumerate(resources or ()):
            try:
                self._read_resource(resource, f"{key}[{index}]")
            except FieldError as error:
                self._refusals.add(f"{key}[{index}]{error.place}", error.reason)
        return self._records

    def _read_resource(self, raw: Raw, place: str) -> None:
        group = _decode(_RESOURCE, raw)
        scopes = getattr(group, _snake(self._signal.scope_key)) or ()
        try:
            envelope = _envelope("resource", messages.Resource, group, 2)
        except FieldError as error:
            count = sum(self._count(scope) for scope in scopes)
            self._refusals.add(f"{place}.resource{error.place}", error.reason, count)
            return
        for index, scope in enumerate(scopes):
            where = f"{place}.{self._signal.scope_key}[{index}]"
            try:
                self._read_scope(scope, where, envelope)
            except FieldError as error:
                self._refusals.add(f"{where}{error.place}", error.reason)

    def _read_scope(self, raw: Raw, place: str, resource: Envelope) -> None:
        group = _decode(_SCOPE, raw)
        records = getattr(group, _snake(self._signal.record_key)) or ()
        try:
            envelope = _envelope("scope", messages.Scope, group, 3)
        except FieldError as error:
            self._refusals.add(f"{place}.scope{error.place}", error.reason, self._count(raw))
            return
        kind = messages.Span if self._signal is Signal.TRACES else messages.LogRecord
        for index, record in enumerate(records):
            where = f"{place}.{self._signal.record_key}[{index}]"
            try:
                if self._signal is Signal.METRICS:
                    self._read_metric(record, where, resource, envelope)
                else:
                    self._read_record(kind, record, where, (resource, envelope, None))
            except FieldError as error:
                self._refusals.add(f"{where}{error.place}", error.reason)

    def _read_record(
        self, kind: type[messages.OtlpMessage], raw: Raw, place: str, around: RecordEnvelopes
    ) -> None:
        message, warning = _strict_message(kind, raw, 5 if around[2] else 3)
        if warning:
            self._refusals.warn(place, warning)
        text = _encode(message).decode()
        self._records.append(EncodedRecord(record_time(message), *around, text))

    def _read_metric(self, raw: Raw, place: str, resource: Envelope, scope: Envelope) -> None:
        data = _decode(_POINTS, raw).data()
        kinds = [
            (*types, part)
            for types, part in zip(_POINT_TYPES, data, strict=True)
            if part is not None
        ]
        if len(kinds) != 1:
            raise FieldError("a metric has points of one kind only" if kinds else NO_DATA)
        name, kind, part = kinds[0]
        points = part.data_points or ()
        try:
            metric, _ = _strict_message(_MetricShell, raw, 3)
        except FieldError as error:
            self._refusals.add(f"{place}{error.place}", error.reason, len(points))
            return
        around = resource, scope, metric_envelope(metric)
        for index, point in enumerate(points):
            where = f"{place}.{name}.dataPoints[{index}]"
            try:
                self._read_record(kind, point, where, around)
            except FieldError as error:
                self._refusals.add(f"{where}{error.place}", error.reason)

    def _count(self, raw: Raw) -> int:
        """Return how many records a scope has; 1 if that cannot be told."""
        try:
            records = getattr(_decode(_SCOPE, raw), _snake(self._signal.record_key)) or ()
        except FieldError:
            return 1
        if self._signal is not Signal.METRICS:
            return len(records)
        return sum(_count_points(metric) for metric in records)


def _count_points(raw: Raw) -> int:
    try:
        data = [part for part in _decode(_POINTS, raw).data() if part is not None]
    except FieldError:
        return 1
    return len(data[0].data_points or ()) if len(data) == 1 else 1


def _snake(camel: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", camel)


def _envelope(name: str, kind: Any, group: Any, depth: int) -> Envelope:
    tail = (
        f',"schemaUrl":{_encode(group.schema_url).decode()}}}'
        if group.schema_url is not None
        else "}"
    )
    raw = getattr(group, name)
    if bytes(raw) in (b"", b"null"):
        return Envelope("{", tail)
    message, _ = _strict_message(kind, raw, depth)
    return Envelope(f'{{"{name}":{_encode(message).decode()},', tail)


_AT = re.compile(r"(.*) - at `\$?(.*)`", re.DOTALL)


def _decode(decoder: msgspec.json.Decoder[T], raw: Raw) -> T:
    try:
        return decode_json(decoder, bytes(raw))
    except DecodeError as error:
        found = _AT.fullmatch(error.reason)
        reason, place = found.groups() if found else (error.reason, "")
    raise FieldError(reason, place)


def _strict_message(kind: type[MessageT], raw: Raw, depth: int) -> tuple[MessageT, str]:
    """Return a message as strict OTLP JSON has it, and a warning if something of it was left out."""
    _refuse_snake_case(bytes(raw), _KEYS)
    message = _decode(_DECODERS[kind], raw)
    _check_dialect(message, "", depth)
    check = _CHECKS.get(kind, check_point)
    warning = check(message) or ""
    try:
        return make_strict(message), warning
    except DecodeError as error:
        reason = error.reason
    raise FieldError(reason)


# Other dialects.

_IDS = {"trace_id": 16, "span_id": 8, "parent_span_id": 8}
_ENUMS = {"kind", "code", "severity_number", "aggregation_temporality"}
_HEX = re.compile("[0-9a-fA-F]*")
_SNAKE_KEY = re.compile(rb'"([a-z]+(?:_[a-z]+)+)"\s*:')


def _check_dialect(message: messages.OtlpMessage, place: str, depth: int) -> None:
    """Refuse enumerations by name, ids in base64, and messages that are nested too deeply."""
    if depth > MAX_MESSAGE_DEPTH:
        raise FieldError("nested too deeply", place)
    kind = type(message)
    for name, key in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True):
        value = getattr(message, name)
        if value is None:
            continue
        where = f"{place}.{key}"
        if name in _ENUMS and isinstance(value, str):
            raise FieldError(f"must be a number, got the name {_shown(value)}: {_MAPPING}", where)
        if name in _IDS and isinstance(value, str):
            if not _HEX.fullmatch(value):
                raise FieldError(f"must be hex digits, got {_shown(value)}: {_MAPPING}", where)
        elif isinstance(value, messages.OtlpMessage):
            _check_dialect(value, where, depth + 1)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, messages.OtlpMessage):
                    _check_dialect(item, f"{where}[{index}]", depth + 1)


_MAPPING = "that is protobuf's own JSON mapping, not OTLP JSON"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


_OUTER_KEYS = {
    _snake(key).encode()
    for signal in Signal
    for key in (signal.resource_key, signal.scope_key, signal.record_key)
} | {b"schema_url"}
_KEYS = {
    name.encode()
    for kind in messages.__dict__.values()
    if isinstance(kind, type) and issubclass(kind, messages.OtlpMessage)
    for name in kind.__struct_fields__
    if "_" in name
}


def _refuse_snake_case(text: bytes, keys: set[bytes]) -> None:
    for key in _SNAKE_KEY.findall(text):
        if key in keys:
            raise FieldError(
                f"has the key {key.decode()}: OTLP JSON has keys in lowerCamelCase only"
            )
