"""Turns export requests in protobuf's binary form into encoded records, each by itself.

A record that is damaged costs itself. What holds records together (the lists of resources, scopes and
metrics) must be whole, since what is wrong there says nothing about which records were lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp import messages
from rimp_otel.otlp.lines import EncodedRecord, Envelope
from rimp_otel.otlp.protobuf_points import (
    exponential_point_text,
    histogram_point_text,
    number_point_text,
)
from rimp_otel.otlp.protobuf_reader import (
    BYTES,
    MAX_FIELDS,
    NotUnicodeError,
    read_field,
    read_message,
    read_varint,
)
from rimp_otel.otlp.protobuf_records import log_record_text, span_text
from rimp_otel.otlp.refusals import FieldError, Refusals, check_count
from rimp_otel.otlp.strict import (
    NO_DATA,
    Found,
    check_log_record,
    check_point,
    check_span,
    metric_envelope,
    none_is_usual,
    record_time,
    share_envelope,
)
from rimp_otel.process import BoundedCache

__all__ = ["line_from_groups", "records_from_protobuf"]

_encode = msgspec.json.Encoder().encode


class RecordGroup(NamedTuple):
    """Records with the same envelopes, which stand together in a request."""

    #: The numbers of the resource and the scope in the request.
    indices: tuple[int, int]
    resource: Envelope
    scope: Envelope
    metric: Envelope | None
    #: Time and text of each record.
    found: list[tuple[int, str]]


_new_record: Any = tuple.__new__  # half of the time of the class itself


def records_from_protobuf(signal: Signal, data: bytes, refusals: Refusals) -> list[EncodedRecord]:
    """Return the valid records of an export request, in its order, and add to the refusals.

    Raises:
        DecodeError: the request is damaged where it holds its records together.
    """
    records: list[EncodedRecord] = []
    for _, resource, scope, metric, found in _ProtobufReader(signal, data, refusals).read():
        records += [
            _new_record(EncodedRecord, (time, resource, scope, metric, text))
            for time, text in found
        ]
    return records


def line_from_groups(signal: Signal, data: bytes) -> bytes | None:
    """Return the OTLP JSON line of a request in which every record is valid and no list is empty.

    Of any other, return None: it is for a slower way to tell what is wrong with it.
    """
    refusals = Refusals()
    reader = _ProtobufReader(signal, data, refusals)
    resources: dict[int, tuple[Envelope, dict[int, tuple[Envelope, list[str]]]]] = {}
    try:
        for indices, resource, scope, metric, found in reader.read():
            if not found:
                return None
            scopes = resources.setdefault(indices[0], (resource, {}))[1]
            texts = scopes.setdefault(indices[1], (scope, []))[1]
            joined = ",".join([text for _, text in found])
            texts.append(joined if metric is None else f"{metric.head}{joined}{metric.tail}")
    except DecodeError:
        return None
    filled = len(resources) + sum(len(scopes) for _, scopes in resources.values())
    if refusals or not filled or filled < reader.groups:
        return None
    lists = [
        _join_members(
            resource,
            signal.scope_key,
            [_join_members(scope, signal.record_key, texts) for scope, texts in scopes.values()],
        )
        for resource, scopes in resources.values()
    ]
    return f'{{"{signal.resource_key}":[{",".join(lists)}]}}'.encode()


def _join_members(envelope: Envelope, key: str, texts: list[str]) -> str:
    return f'{envelope.head}"{key}":[{",".join(texts)}]{envelope.tail}'


Place = tuple[int, int]
"""Where a message begins and ends."""


class _ProtobufKind(NamedTuple):
    """How the records of one kind are read."""

    type: type[messages.OtlpMessage]
    #: Makes the text of nearly all records; None for the others.
    read_usual: Callable[[bytes, int, int], Found]
    #: Raises for a message that is no valid record; returns a warning for one that it mended.
    check: Callable[[Any], str | None]
    #: How many messages it lies in.
    depth: int


_SPAN = _ProtobufKind(messages.Span, span_text, check_span, 3)
_LOG_RECORD = _ProtobufKind(messages.LogRecord, log_record_text, check_log_record, 3)
_NUMBER = _ProtobufKind(messages.NumberDataPoint, number_point_text, check_point, 5)
_POINTS = {
    5: ("gauge", _NUMBER),
    7: ("sum", _NUMBER),
    9: (
        "histogram",
        _ProtobufKind(messages.HistogramDataPoint, histogram_point_text, check_point, 5),
    ),
    10: (
        "exponentialHistogram",
        _ProtobufKind(
            messages.ExponentialHistogramDataPoint, exponential_point_text, check_point, 5
        ),
    ),
    11: ("summary", _ProtobufKind(messages.SummaryDataPoint, none_is_usual, check_point, 5)),
}

_MOST_KEY_BYTES = 16_384
_owners: BoundedCache[tuple[str, bytes | None, bytes], Envelope] = BoundedCache(1_024)
_metrics: BoundedCache[tuple[bytes, ...], Envelope] = BoundedCache(4_096)


class _ProtobufReader:
    """Reads one request."""

    def __init__(self, signal: Signal, data: bytes, refusals: Refusals) -> None:
        self._signal = signal
        # One byte more, so that the tag after the last field can be looked at.
        self._data = data + b"\0"
        self._end = len(data)
        self._refusals = refusals
        #: How many resources and scopes were met.
        self.groups = 0
        self._odd_fields = 0
        self._members = 0

    def read(self) -> Iterator[RecordGroup]:
        index = 0
        for number, start, stop in self._parts(0, self._end, "the request"):
            if number == 1:
                self.groups += 1
                yield from self._read_resource(index, start, stop)
                index += 1

    def _read_resource(self, index: int, start: int, stop: int) -> Iterator[RecordGroup]:
        place = f"{self._signal.resource_key}[{index}]"
        owner, scopes, url = self._split_group(start, stop, place)
        try:
            resource = self._owner_envelope(
                "resource", messages.Resource, owner, url, 2, f"{place}.resource"
            )
        except FieldError as error:
            count = sum(self._count(*scope, place) for scope in scopes)
            self._refusals.add(f"{place}.resource{error.place}", error.reason, count)
            return
        for number, scope in enumerate(scopes):
            self.groups += 1
            where = f"{place}.{self._signal.scope_key}[{number}]"
            yield from self._read_scope((index, number), *scope, where, resource)

    def _read_scope(
        self, indices: tuple[int, int], start: int, stop: int, place: str, resource: Envelope
    ) -> Iterator[RecordGroup]:
        owner, members, url = self._split_group(start, stop, place)
        try:
            scope = self._owner_envelope(
                "scope", messages.OtlpScope, owner, url, 3, f"{place}.scope"
            )
        except FieldError as error:
            count = self._count(start, stop, place)
            self._refusals.add(f"{place}.scope{error.place}", error.reason, count)
            return
        where = f"{place}.{self._signal.record_key}"
        if self._signal is not Signal.METRICS:
            kind = _SPAN if self._signal is Signal.TRACES else _LOG_RECORD
            found = self._read_records(kind, members, where)
            yield RecordGroup(indices, resource, scope, None, found)
            return
        for number, (start, stop) in enumerate(members):
            metric, found = self._read_metric(start, stop, f"{where}[{number}]")
            if metric is not None:
                yield RecordGroup(indices, resource, scope, metric, found)

    def _read_records(
        self, kind: _ProtobufKind, members: list[Place], place: str
    ) -> list[tuple[int, str]]:
        self._members += len(members)
        check_count(self._members, place)
        data, read_usual = self._data, kind.read_usual
        found = [read_usual(data, start, stop) for start, stop in members]
        if None in found:
            found = [
                self._read_carefully(kind, *member, f"{place}[{index}]") if item is None else item
                for index, (item, member) in enumerate(zip(found, members, strict=True))
            ]
        return [item for item in found if item is not None]

    def _read_carefully(self, kind: _ProtobufKind, start: int, stop: int, place: str) -> Found:
        data = self._data[start:stop]
        try:
            message = self._read_message(kind.type, data, kind.depth, place)
            warning = kind.check(message)
        except FieldError as error:
            self._refusals.add(f"{place}{error.place}", error.reason)
            return None
        if warning:
            self._refusals.warn(place, warning)
        return record_time(message), _encode(message).decode()

    def _read_message(
        self, kind: type[Any], data: bytes, depth: int, place: str, skipped: str = ""
    ) -> Any:
        try:
            return read_message(kind, data, depth, skipped=skipped)
        except NotUnicodeError as error:
            where = error.place
        message = read_message(kind, data, depth, skipped=skipped, repair=True)
        self._refusals.warn(f"{place}{where}", "is no UTF-8; kept with U+FFFD for what is none")
        return message

    def _read_metric(
        self, start: int, stop: int, place: str
    ) -> tuple[Envelope | None, list[tuple[int, str]]]:
        key, number, points = self._split_metric(start, stop, place)
        if not number:
            self._refusals.add(place, NO_DATA)
            return None, []
        name, kind = _POINTS[number]
        envelope = _metrics.get(key)
        if envelope is None:
            try:
                envelope = self._make_metric(key, self._data[start:stop], place)
            except FieldError as error:
                self._refusals.add(f"{place}{error.place}", error.reason, len(points) or 1)
                return None, []
        return envelope, self._read_records(kind, points, f"{place}.{name}.dataPoints")

    def _make_metric(self, key: tuple[bytes, ...], data: bytes, place: str) -> Envelope:
        before = len(self._refusals)
        metric = self._read_message(messages.Metric, data, 3, place, "data_points")
        envelope = share_envelope(metric_envelope(metric))
        if len(self._refusals) == before and 0 < sum(map(len, key)) <= _MOST_KEY_BYTES:
            _metrics[key] = envelope
        return envelope

    def _split_metric(
        self, start: int, stop: int, place: str
    ) -> tuple[tuple[bytes, ...], int, list[Place]]:
        """Return what is known of a metric besides its points (nothing if it is not as usual), the
        number of their kind (0 for none), and where they are."""
        data = self._data
        position, number = start, 0
        points: list[Place] = []
        before = rest = b""
        last = start
        while position < stop:
            tag = data[position]
            if tag & 0x87 != 0x02 or (number and tag in _DATA_TAGS):
                return self._split_odd_metric(start, stop, place)
            begin = position
            size, position = self._read_size(position + 1, stop, place)
            if tag in _DATA_TAGS:
                number, before = tag >> 3, data[start:begin]
                last = position + size
                while position < last and data[position] == 0x0A:
                    size, first = self._read_size(position + 1, last, place)
                    position = first + size
                    points.append((first, position))
                rest, position = data[position:last], last
            else:
                position += size
        if not number or len(rest) > 4 or 0x0A in rest:
            return self._split_odd_metric(start, stop, place)
        return (before, rest, data[last:stop], bytes((number,))), number, points

    def _split_odd_metric(
        self, start: int, stop: int, place: str
    ) -> tuple[tuple[bytes, ...], int, list[Place]]:
        kind = 0
        points: list[Place] = []
        for number, begin, end in self._parts(start, stop, place):
            if number in _POINTS:
                if number != kind:  # of several kinds, the last one counts
                    kind, points = number, []
                where = f"{place}.{_POINTS[kind][0]}"
                points += [
                    (first, last)
                    for inner, first, last in self._parts(begin, end, where)
                    if inner == 1
                ]
        return (), kind, points

    def _count(self, start: int, stop: int, place: str) -> int:
        """Return how many records a scope has; a metric of no kind counts as one."""
        _, members, _ = self._split_group(start, stop, place)
        if self._signal is not Signal.METRICS:
            return len(members)
        metrics = [self._split_odd_metric(*member, place) for member in members]
        return sum(len(points) if number else 1 for _, number, points in metrics)

    def _split_group(
        self, start: int, stop: int, place: str
    ) -> tuple[bytes | None, list[Place], bytes]:
        """Return the resource or scope of a group, its members, and its schema URL."""
        data = self._data
        owner: bytes | None = None
        members: list[Place] = []
        url = b""
        position = start
        if data[start] == 0x0A and start < stop:
            size, first = self._read_size(start + 1, stop, place)
            position = first + size
            owner = data[first:position]
        # The members are most of it: one by one in `_parts`, each would take twice as long.
        while data[position] == 0x12 and position < stop:
            size = data[position + 1]
            first = position + 2
            if size > 0x7F or first + size > stop:
                size, first = self._read_size(position + 1, stop, place)
            position = first + size
            members.append((first, position))
        for number, first, last in self._parts(position, stop, place):
            if number == 2 or number == _OLD_SCOPES:
                members.append((first, last))
            elif number == 1:
                part = data[first:last]
                owner = part if owner is None else owner + part  # as protobuf merges messages
            elif number == 3:
                url = data[first:last]
        return owner, members, url

    def _parts(self, position: int, end: int, place: str) -> Iterator[tuple[int, int, int]]:
        """Yield the number and the place of the fields that are messages or texts."""
        data = self._data
        while position < end:
            tag = data[position]
            if tag & 0x87 == 0x02 and tag > 7:
                size = data[position + 1]
                start = position + 2
                if size > 0x7F or start + size > end:
                    size, start = self._read_size(position + 1, end, place)
                position = start + size
                yield tag >> 3, start, position
                continue
            self._odd_fields += 1
            try:
                if self._odd_fields > MAX_FIELDS:
                    raise FieldError(f"more than {MAX_FIELDS:,} unknown fields")
                number, wire_type, value, position = read_field(data, position, end)
            except FieldError as error:
                raise DecodeError(f"not OTLP protobuf: {place}: {error.reason}") from None
            if wire_type == BYTES:
                yield number, position - len(value), position

    def _read_size(self, position: int, end: int, place: str) -> tuple[int, int]:
        try:
            size, start = read_varint(self._data, position)
        except FieldError as error:
            raise DecodeError(f"not OTLP protobuf: {place}: {error.reason}") from None
        if start + size > end:
            raise DecodeError(f"not OTLP protobuf: {place}: cut off")
        return size, start

    def _owner_envelope(
        self, name: str, kind: Any, owner: bytes | None, url: bytes, depth: int, place: str
    ) -> Envelope:
        key = name, owner, url
        envelope = _owners.get(key)
        if envelope is not None:
            return envelope
        before = len(self._refusals)
        head = "{"
        if owner is not None:
            message = self._read_message(kind, owner, depth, place)
            head = f'{{"{name}":{_encode(message).decode()},'
        tail = f',"schemaUrl":{self._url_text(url, place)}}}' if url else "}"
        envelope = share_envelope(Envelope(head, tail))
        if len(self._refusals) == before and len(owner or b"") + len(url) <= _MOST_KEY_BYTES:
            _owners[key] = envelope
        return envelope

    def _url_text(self, url: bytes, place: str) -> str:
        try:
            text = url.decode()
        except UnicodeDecodeError:
            text = url.decode("utf-8", "replace")
            self._refusals.warn(f"{place}: schemaUrl", "is no UTF-8; kept with U+FFFD")
        return _encode(text).decode()


_OLD_SCOPES = 1_000
"""The scopes of a resource in OTLP before 0.15, where they were instrumentation libraries."""

_DATA_TAGS = frozenset(number << 3 | BYTES for number in _POINTS)
