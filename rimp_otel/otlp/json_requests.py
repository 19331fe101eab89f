"""Turns the export requests in OTLP JSON into encoded records, each by itself.

OTLP's own JSON is taken and no other: names in lowerCamelCase, ids in hex, enumerations by number. A
record that is wrong costs itself; so that nothing of another dialect is lost without a word, names of
fields in snake case are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp import messages
from rimp_otel.otlp.json_dialects import (
    KEYS,
    OUTER_KEYS,
    camel_case,
    check_keys,
    decode_part,
    has_snake_keys,
    refuse_name,
    snake_case,
    strict_message,
    strict_part,
)
from rimp_otel.otlp.json_records import (
    exponential_point_of,
    histogram_point_of,
    log_record_of,
    number_point_of,
    span_of,
    summary_point_of,
)
from rimp_otel.otlp.lines import EncodedRecord, Envelope, RecordEnvelopes
from rimp_otel.otlp.messages import decode_json
from rimp_otel.otlp.refusals import FieldError, Refusals, check_count
from rimp_otel.otlp.strict import (
    NO_DATA,
    metric_envelope,
    none_is_usual,
    record_time,
    share_envelope,
)
from rimp_otel.process import BoundedCache

__all__ = ["records_from_json"]

_encode = msgspec.json.Encoder().encode


def records_from_json(signal: Signal, body: bytes, refusals: Refusals) -> list[EncodedRecord]:
    """Return the valid records of an export request, in its order, and add to the refusals.

    Raises:
        DecodeError: the request is not JSON, no object, or of another dialect.
    """
    return _JsonReader(signal, refusals).read(body)


# The messages that hold records together, with the records as text.


class _ScopeTexts(messages.PartialMessage):
    scope: Raw = Raw()
    schema_url: str | None = None
    spans: list[Raw] | None = None
    log_records: list[Raw] | None = None
    metrics: list[Raw] | None = None


ScopeT = TypeVar("ScopeT")
ResourceT = TypeVar("ResourceT")


class _ResourceTexts(messages.PartialMessage, Generic[ScopeT]):
    resource: Raw = Raw()
    schema_url: str | None = None
    scope_spans: list[ScopeT] | None = None
    scope_logs: list[ScopeT] | None = None
    scope_metrics: list[ScopeT] | None = None


class _RequestTexts(messages.PartialMessage, Generic[ResourceT]):
    resource_spans: list[ResourceT] | UnsetType | None = UNSET
    resource_logs: list[ResourceT] | UnsetType | None = UNSET
    resource_metrics: list[ResourceT] | UnsetType | None = UNSET


# Metrics, of which the points are left as text.


class _GaugeTexts(messages.PartialMessage):
    data_points: list[Raw] | None = None


class _HistogramTexts(messages.PartialMessage):
    data_points: list[Raw] | None = None
    aggregation_temporality: messages.ClosedEnum | str | None = None


class _SumTexts(messages.PartialMessage):
    data_points: list[Raw] | None = None
    aggregation_temporality: messages.ClosedEnum | str | None = None
    is_monotonic: Any = None


class _MetricTexts(messages.PartialMessage):
    name: str | None = None
    description: str | None = None
    unit: str | None = None
    gauge: _GaugeTexts | None = None
    sum: _SumTexts | None = None
    histogram: _HistogramTexts | None = None
    exponential_histogram: _HistogramTexts | None = None
    summary: _GaugeTexts | None = None
    metadata: Raw = Raw()


class _JsonKind(NamedTuple):
    """How the records of one kind are read."""

    type: type[messages.OtlpMessage]
    #: Makes the text of nearly all records; None for the others.
    read_usual: Callable[[Raw], tuple[int, str] | None]
    #: How many messages it lies in.
    depth: int


_SPAN = _JsonKind(messages.Span, span_of, 3)
_LOG_RECORD = _JsonKind(messages.LogRecord, log_record_of, 3)
_NUMBER = _JsonKind(messages.NumberDataPoint, number_point_of, 5)
_POINTS = {
    "gauge": _NUMBER,
    "sum": _NUMBER,
    "histogram": _JsonKind(messages.HistogramDataPoint, histogram_point_of, 5),
    "exponential_histogram": _JsonKind(
        messages.ExponentialHistogramDataPoint, exponential_point_of, 5
    ),
    "summary": _JsonKind(messages.SummaryDataPoint, summary_point_of, 5),
}

# All in one step, which is a third of the time; or one by one, to find what is wrong.
_WHOLE_REQUEST = msgspec.json.Decoder(_RequestTexts[_ResourceTexts[_ScopeTexts]])
_REQUEST = msgspec.json.Decoder(_RequestTexts[Raw])
_RESOURCE = msgspec.json.Decoder(_ResourceTexts[Raw])
_SCOPE = msgspec.json.Decoder(_ScopeTexts)
_METRIC = msgspec.json.Decoder(_MetricTexts, strict=False)
_METADATA = msgspec.json.Decoder(list[messages.KeyValue] | None, strict=False)

# Of an object of three bytes, msgspec makes one of a hundred. A span has about ten.
_LARGE, _MOST_OBJECTS = 4_000_000, 4_000_000

_MOST_KEY_BYTES = 16_384
_owners: BoundedCache[tuple[str, bytes, str | None], Envelope] = BoundedCache(1_024)
_metrics: BoundedCache[tuple[Any, ...], Envelope] = BoundedCache(4_096)
_new_record: Any = tuple.__new__  # half of the time of the class itself


class _JsonReader:
    """Reads one request."""

    def __init__(self, signal: Signal, refusals: Refusals) -> None:
        self._signal = signal
        self._refusals = refusals
        self._records: list[EncodedRecord] = []
        self._has_odd_keys = False

    def read(self, body: bytes) -> list[EncodedRecord]:
        if len(body) > _LARGE and body.count(b"{") > _MOST_OBJECTS:
            raise DecodeError(f"has more than {_MOST_OBJECTS:,} objects in one request")
        if messages.OLD_KEY in body:
            body = messages.rename_old_keys(body)
        request: Any
        try:
            request = _WHOLE_REQUEST.decode(body)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            try:
                request = decode_json(_REQUEST, body)
            except DecodeError as error:
                raise DecodeError(f"not OTLP JSON: {error.reason}") from None
        key = self._signal.resource_key
        self._has_odd_keys = has_snake_keys(body)
        resources = self._resources_of(request)
        check_keys(body, OUTER_KEYS)
        for index, resource in enumerate(resources or ()):
            try:
                self._read_resource(resource, f"{key}[{index}]")
            except FieldError as error:
                self._refusals.add(f"{key}[{index}]{error.place}", error.reason)
        return self._records

    def _resources_of(self, request: Any) -> list[Any] | None:
        found = {signal: getattr(request, snake_case(signal.resource_key)) for signal in Signal}
        resources: list[Any] | UnsetType | None = found.pop(self._signal)
        if resources is not UNSET:
            return resources
        others = [signal.resource_key for signal, value in found.items() if value is not UNSET]
        if others:
            raise DecodeError(
                f"{others[0]} where {self._signal.resource_key} belong: the address of another signal"
            )
        return None

    def _read_resource(self, resource: Raw | _ResourceTexts[Any], place: str) -> None:
        group = decode_part(_RESOURCE, resource) if isinstance(resource, Raw) else resource
        scopes = getattr(group, _ATTRIBUTES[self._signal][0]) or ()
        try:
            envelope = self._owner_envelope("resource", messages.Resource, group, 2)
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

    def _read_scope(self, given: Raw | _ScopeTexts, place: str, resource: Envelope) -> None:
        group = decode_part(_SCOPE, given) if isinstance(given, Raw) else given
        records = getattr(group, _ATTRIBUTES[self._signal][1]) or []
        try:
            scope = self._owner_envelope("scope", messages.OtlpScope, group, 3)
        except FieldError as error:
            self._refusals.add(f"{place}.scope{error.place}", error.reason, self._count(group))
            return
        where = f"{place}.{self._signal.record_key}"
        if self._signal is not Signal.METRICS:
            kind = _SPAN if self._signal is Signal.TRACES else _LOG_RECORD
            self._read_records(kind, records, where, (resource, scope, None))
            return
        for index, metric in enumerate(records):
            try:
                self._read_metric(metric, f"{where}[{index}]", resource, scope)
            except FieldError as error:
                self._refusals.add(f"{where}[{index}]{error.place}", error.reason)

    def _read_records(
        self, kind: _JsonKind, raws: list[Raw], place: str, around: RecordEnvelopes
    ) -> None:
        check_count(len(self._records) + len(raws), place)
        read_usual = none_is_usual if self._has_odd_keys else kind.read_usual
        found = [read_usual(raw) for raw in raws]
        if None in found:
            found = [
                self._read_carefully(kind, raw, f"{place}[{index}]") if item is None else item
                for index, (item, raw) in enumerate(zip(found, raws, strict=True))
            ]
        resource, scope, metric = around
        self._records += [
            _new_record(EncodedRecord, (item[0], resource, scope, metric, item[1]))
            for item in found
            if item is not None
        ]

    def _read_carefully(self, kind: _JsonKind, raw: Raw, place: str) -> tuple[int, str] | None:
        try:
            message, warning = strict_message(kind.type, raw, kind.depth)
        except FieldError as error:
            self._refusals.add(f"{place}{error.place}", error.reason)
            return None
        if warning:
            self._refusals.warn(place, warning)
        return record_time(message), _encode(message).decode()

    def _read_metric(self, raw: Raw, place: str, resource: Envelope, scope: Envelope) -> None:
        metric = decode_part(_METRIC, raw)
        kinds = [name for name in _POINTS if getattr(metric, name) is not None]
        if len(kinds) != 1:
            raise FieldError("has data of more than one kind" if kinds else NO_DATA)
        name = kinds[0]
        points = getattr(metric, name).data_points or []
        try:
            if self._has_odd_keys:
                check_keys(_shell_of(raw, name), KEYS)
            envelope = _envelope_of_metric(metric, name)
        except FieldError as error:
            self._refusals.add(f"{place}{error.place}", error.reason, len(points) or 1)
            return
        where = f"{place}.{camel_case(name)}.dataPoints"
        self._read_records(_POINTS[name], points, where, (resource, scope, envelope))

    def _owner_envelope(self, name: str, kind: Any, group: Any, depth: int) -> Envelope:
        raw, url = bytes(getattr(group, name)), group.schema_url
        envelope = _owners.get((name, raw, url))
        if envelope is not None:
            return envelope
        head = "{"
        if raw not in (b"", b"null"):
            message, _ = strict_message(kind, getattr(group, name), depth)
            head = f'{{"{name}":{_encode(message).decode()},'
        tail = "}" if url is None else f',"schemaUrl":{_encode(url).decode()}}}'
        envelope = share_envelope(Envelope(head, tail))
        if len(raw) + len(url or "") <= _MOST_KEY_BYTES:
            _owners[name, raw, url] = envelope
        return envelope

    def _count(self, given: Raw | _ScopeTexts) -> int:
        """Return how many records a scope has; 1 if that cannot be told."""
        try:
            group = decode_part(_SCOPE, given) if isinstance(given, Raw) else given
        except FieldError:
            return 1
        records = getattr(group, _ATTRIBUTES[self._signal][1]) or ()
        if self._signal is not Signal.METRICS:
            return len(records)
        return sum(_points_in_metric(metric) for metric in records)


_ATTRIBUTES = {
    signal: (snake_case(signal.scope_key), snake_case(signal.record_key)) for signal in Signal
}


def _points_in_metric(raw: Raw) -> int:
    try:
        metric = decode_part(_METRIC, raw)
    except FieldError:
        return 1
    data = [getattr(metric, name) for name in _POINTS if getattr(metric, name) is not None]
    return len(data[0].data_points or ()) if len(data) == 1 else 1


_DATA_TYPES: dict[str, Any] = {
    "gauge": messages.Gauge,
    "sum": messages.Sum,
    "histogram": messages.Histogram,
    "exponential_histogram": messages.ExponentialHistogram,
    "summary": messages.Summary,
}


def _envelope_of_metric(metric: _MetricTexts, name: str) -> Envelope:
    data: Any = getattr(metric, name)
    fields = {key: getattr(data, key) for key in data.__struct_fields__ if key != "data_points"}
    temporality, is_monotonic = fields.get("aggregation_temporality"), fields.get("is_monotonic")
    if isinstance(temporality, str):
        refuse_name(temporality, f".{camel_case(name)}.aggregationTemporality")
    if is_monotonic is not None and type(is_monotonic) is not bool:
        raise FieldError("must be true or false", f".{camel_case(name)}.isMonotonic")
    metadata = bytes(metric.metadata)
    key = metric.name, metric.description, metric.unit, name, temporality, is_monotonic, metadata
    envelope = _metrics.get(key)
    if envelope is None:
        message = messages.Metric(metric.name, metric.description, metric.unit)
        setattr(message, name, _DATA_TYPES[name](**fields))
        if metadata:
            message.metadata = strict_part(_METADATA, metric.metadata, ".metadata", 4)
        envelope = share_envelope(metric_envelope(message))
        if len(envelope.head) + len(envelope.tail) <= _MOST_KEY_BYTES:
            _metrics[key] = envelope
    return envelope


def _shell_of(raw: Raw, name: str) -> bytes:
    """Return a metric without its points."""
    metric = msgspec.json.decode(raw)
    metric[camel_case(name)].pop("dataPoints", None)
    return _encode(metric)
