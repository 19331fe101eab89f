"""Turns the export requests in protobuf's binary form into encoded records, each by itself.

A record that is damaged costs itself. What holds records together (the lists of resources, scopes and
metrics) must be whole, since what is wrong there says nothing about which records were lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp import messages
from rimp_otel.otlp.lines import EncodedRecord, Envelope
from rimp_otel.otlp.protobuf_reader import BYTES, read_fields, read_message
from rimp_otel.otlp.refusals import FieldError, Refusals
from rimp_otel.otlp.strict import (
    NO_DATA,
    check_log_record,
    check_point,
    check_span,
    metric_envelope,
    record_time,
)

__all__ = ["records_from_protobuf"]

_encode = msgspec.json.Encoder().encode

_RECORD_TYPES: dict[Signal, Any] = {Signal.TRACES: messages.Span, Signal.LOGS: messages.LogRecord}
_CHECKS: dict[Signal, Any] = {Signal.TRACES: check_span, Signal.LOGS: check_log_record}


def records_from_protobuf(signal: Signal, data: bytes, refusals: Refusals) -> list[EncodedRecord]:
    """Return the valid records of an export request, in its order, and add to the refusals.

    Raises:
        DecodeError: the request is damaged where it holds its records together.
    """
    return _ProtobufReader(signal, refusals).read(data)


class _ProtobufReader:
    def __init__(self, signal: Signal, refusals: Refusals) -> None:
        self._signal = signal
        self._refusals = refusals
        self._records: list[EncodedRecord] = []

    def read(self, data: bytes) -> list[EncodedRecord]:
        resources = list(_parts(data, "the request"))
        for index, resource in enumerate(value for number, value in resources if number == 1):
            self._read_resource(resource, f"{self._signal.resource_key}[{index}]")
        return self._records

    def _read_resource(self, data: bytes, place: str) -> None:
        owner, scopes, tail = _split_group(data, place)
        try:
            envelope = _envelope("resource", messages.Resource, owner, tail, 2)
        except FieldError as error:
            count = sum(self._count(scope, place) for scope in scopes)
            self._refusals.add(f"{place}.resource{error.place}", error.reason, count)
            return
        for index, scope in enumerate(scopes):
            self._read_scope(scope, f"{place}.{self._signal.scope_key}[{index}]", envelope)

    def _read_scope(self, data: bytes, place: str, resource: Envelope) -> None:
        owner, records, tail = _split_group(data, place)
        try:
            envelope = _envelope("scope", messages.Scope, owner, tail, 3)
        except FieldError as error:
            count = self._count(data, place)
            self._refusals.add(f"{place}.scope{error.place}", error.reason, count)
            return
        for index, record in enumerate(records):
            where = f"{place}.{self._signal.record_key}[{index}]"
            if self._signal is Signal.METRICS:
                self._read_metric(record, where, resource, envelope)
            else:
                self._read_record(record, where, resource, envelope)

    def _read_record(self, data: bytes, place: str, resource: Envelope, scope: Envelope) -> None:
        try:
            message: Any = read_message(_RECORD_TYPES[self._signal], data, 3)
            warning = _CHECKS[self._signal](message)
        except FieldError as error:
            self._refusals.add(f"{place}{error.place}", error.reason)
            return
        if warning:
            self._refusals.warn(place, warning)
        text = _encode(message).decode()
        self._records.append(EncodedRecord(record_time(message), resource, scope, None, text))

    def _read_metric(self, data: bytes, place: str, resource: Envelope, scope: Envelope) -> None:
        name, kind, points = _split_metric(data, place)
        if kind is None:
            self._refusals.add(place, NO_DATA)
            return
        try:
            envelope = metric_envelope(read_message(messages.Metric, data, 3, "data_points"))
        except FieldError as error:
            self._refusals.add(f"{place}{error.place}", error.reason, len(points))
            return
        for index, point in enumerate(points):
            try:
                message: Any = read_message(kind, point, 5)
                check_point(message)
            except FieldError as error:
                where = f"{place}.{name}.dataPoints[{index}]{error.place}"
                self._refusals.add(where, error.reason)
                continue
            text = _encode(message).decode()
            self._records.append(
                EncodedRecord(record_time(message), resource, scope, envelope, text)
            )

    def _count(self, scope: bytes, place: str) -> int:
        records = [value for number, value in _parts(scope, place) if number == 2]
        if self._signal is not Signal.METRICS:
            return len(records)
        return sum(_count_points(metric, place) for metric in records)


_POINTS: dict[int, tuple[str, type[messages.OtlpMessage]]] = {
    5: ("gauge", messages.NumberDataPoint),
    7: ("sum", messages.NumberDataPoint),
    9: ("histogram", messages.HistogramDataPoint),
    10: ("exponentialHistogram", messages.ExponentialHistogramDataPoint),
    11: ("summary", messages.SummaryDataPoint),
}


def _count_points(metric: bytes, place: str) -> int:
    _, kind, points = _split_metric(metric, place)
    return 1 if kind is None else len(points)


def _split_metric(
    data: bytes, place: str
) -> tuple[str, type[messages.OtlpMessage] | None, list[bytes]]:
    """Return the key, the type and the points of a metric. Of several kinds, the last one counts."""
    found = 0
    points: list[bytes] = []
    for number, value in _parts(data, place):
        if number in _POINTS:
            if number != found:
                found, points = number, []
            points += [
                point
                for number, point in _parts(value, f"{place}.{_POINTS[found][0]}")
                if number == 1
            ]
    return (*_POINTS.get(found, ("", None)), points)


def _parts(data: bytes, place: str) -> Iterator[tuple[int, bytes]]:
    """Yield the fields of a message that are messages or texts."""
    try:
        for number, wire_type, value in read_fields(data):
            if wire_type == BYTES:
                yield number, value
    except FieldError as error:
        raise DecodeError(f"not OTLP protobuf: {place}: {error.reason}") from None


def _split_group(data: bytes, place: str) -> tuple[bytes | None, list[bytes], str]:
    """Return the resource or scope of a group, its members, and the text after them."""
    owner: bytes | None = None
    members: list[bytes] = []
    url = b""
    for number, value in _parts(data, place):
        if number == 1:
            owner = value if owner is None else owner + value  # as protobuf merges messages
        elif number == 2:
            members.append(value)
        elif number == 3:
            url = value
    text = url.decode("utf-8", "replace")
    return owner, members, f',"schemaUrl":{_quote(text)}}}' if url else "}"


def _envelope(name: str, kind: Any, owner: bytes | None, tail: str, depth: int) -> Envelope:
    if owner is None:
        return Envelope("{", tail)
    return Envelope(f'{{"{name}":{_encode(read_message(kind, owner, depth)).decode()},', tail)


def _quote(text: str) -> str:
    return _encode(text).decode()
