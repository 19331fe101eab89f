"""Reading OTLP's protobuf messages without protobuf's package, checked with it."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError as OfficialError
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from rimp_otel.errors import DecodeError
from rimp_otel.otlp import messages, protobuf_reader
from rimp_otel.otlp.protobuf import make_strict
from rimp_otel.otlp.protobuf_points import (
    exponential_point_text,
    histogram_point_text,
    number_point_text,
)
from rimp_otel.otlp.protobuf_reader import NotUnicodeError, read_message
from rimp_otel.otlp.protobuf_records import log_record_text, span_text
from rimp_otel.otlp.refusals import FieldError
from tests.otlp.mutate import damage, fill_at_random
from tests.otlp.test_protobuf import FOREIGN, MESSAGES

TYPES: list[tuple[Any, Any, int]] = [
    (messages.Span, Span, 3),
    (messages.LogRecord, LogRecord, 3),
    (messages.Metric, metrics_pb2.Metric, 3),
    (messages.NumberDataPoint, metrics_pb2.NumberDataPoint, 5),
    (messages.HistogramDataPoint, metrics_pb2.HistogramDataPoint, 5),
    (messages.ExponentialHistogramDataPoint, metrics_pb2.ExponentialHistogramDataPoint, 5),
    (messages.SummaryDataPoint, metrics_pb2.SummaryDataPoint, 5),
]
USUAL: dict[Any, Any] = {
    messages.Span: span_text,
    messages.LogRecord: log_record_text,
    messages.NumberDataPoint: number_point_text,
    messages.HistogramDataPoint: histogram_point_text,
    messages.ExponentialHistogramDataPoint: exponential_point_text,
}


def descriptors() -> dict[str, Any]:
    """Return the official descriptors of all messages, by their names."""
    found: dict[str, Any] = {}
    waiting = [message.DESCRIPTOR for message in MESSAGES.values()]
    while waiting:
        descriptor = waiting.pop()
        if descriptor.name not in found:
            found[descriptor.name] = descriptor
            waiting += [field.message_type for field in descriptor.fields if field.message_type]
    return found


RENAMED = {
    "OtlpScope": "InstrumentationScope",
    "SpanEvent": "Event",
    "OtlpExemplar": "Exemplar",
    "OtlpBuckets": "Buckets",
}


@pytest.mark.parametrize("kind", list(protobuf_reader.FIELDS), ids=lambda kind: kind.__name__)
def test_each_field_is_the_official_one(kind):
    """Each message has the official fields, with their numbers and the types that they have on the wire."""
    official = descriptors()[RENAMED.get(kind.__name__, kind.__name__)]
    empty = message_factory.GetMessageClass(official)()
    known = protobuf_reader.FIELDS[kind]
    for field in official.fields:
        if field.name in FOREIGN:
            continue
        ours: Any = known[field.number]
        assert ours.name == field.name
        assert ours.is_repeated == hasattr(getattr(empty, field.name), "extend")
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            assert RENAMED.get(ours.type.__name__, ours.type.__name__) == field.message_type.name
        else:
            assert ours.has_presence == (field.has_presence and not ours.is_repeated)
    names = {field.name for field in official.fields} - FOREIGN
    assert names == set(kind.__struct_fields__)


def official_text(kind: Any, official: Any, data: bytes) -> bytes | str:
    """Return the strict OTLP JSON of a message as the official parser reads it, or why there is none."""
    try:
        message = official.FromString(data)
    except OfficialError:
        return "refused"
    plain = json_format.MessageToDict(message, use_integers_for_enums=True)
    try:
        decoded = msgspec.json.decode(msgspec.json.encode(plain), type=kind, strict=False)
        return msgspec.json.encode(make_strict(decoded))
    except (msgspec.ValidationError, DecodeError):
        return "refused"


def our_text(kind: Any, data: bytes, depth: int) -> bytes | str:
    """Return the strict OTLP JSON of a message, or why there is none."""
    try:
        return msgspec.json.encode(read_message(kind, data, depth))
    except FieldError:
        return "refused"


def has_wrong_ids(text: bytes | str) -> bool:
    """Return True if a message has an id of a wrong length, which is for others to refuse."""
    found: list[bool] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        sizes = {"traceId": 32, "spanId": 16, "parentSpanId": 16}
        found.extend(len(value) != sizes[key] for key, value in pairs if key in sizes)

    if text != "refused":
        json.loads(text, object_pairs_hook=look)
    return any(found)


@pytest.mark.parametrize(("kind", "official", "depth"), TYPES, ids=lambda value: str(value)[-30:])
def test_what_is_on_the_wire_is_read_as_by_protobuf(kind, official, depth):
    """Whole and damaged messages are read, or refused, as by the official parser."""
    chance = random.Random(7)
    outcomes = set()
    for _ in range(400):
        message = official()
        fill_at_random(chance, message)
        data = damage(chance, message.SerializeToString())
        ours, theirs = our_text(kind, data, depth), official_text(kind, official, data)
        if not has_wrong_ids(ours):
            assert ours == theirs, data.hex()
        outcomes.add(theirs == "refused")
    assert outcomes == {True, False}


@pytest.mark.parametrize(("kind", "official", "depth"), TYPES, ids=lambda value: str(value)[-30:])
def test_the_fast_way_gives_the_same_text_or_none(kind, official, depth):
    """What is copied from the wire is what a message gives, whatever lies before and after it."""
    if kind not in USUAL:
        return
    chance = random.Random(8)
    usual = 0
    for _ in range(1_000):
        message = official()
        fill_at_random(chance, message)
        data = damage(chance, message.SerializeToString())
        found = USUAL[kind](b"xyz" + data + chance.randbytes(1), 3, 3 + len(data))
        if found is not None:
            usual += 1
            assert found[1].encode() == our_text(kind, data, depth), data.hex()
    assert usual > 20


def nested_value(levels: int, *, as_map: bool) -> bytes:
    """Return the bytes of a span with an attribute of so many levels of arrays or maps."""
    value = b""
    for _ in range(levels):
        for tag in (b"\x12", b"\x0a", b"\x32") if as_map else (b"\x0a", b"\x2a"):
            value = sized(tag, value)
    ids = sized(b"\x0a", b"\1" * 16) + sized(b"\x12", b"\2" * 8)
    return ids + sized(b"\x4a", sized(b"\x12", value))


def sized(tag: bytes, data: bytes) -> bytes:
    """Return a field with its tag and its size."""
    size = bytearray()
    left = len(data)
    while left > 0x7F:
        size.append(left & 0x7F | 0x80)
        left >>= 7
    return tag + bytes(size) + bytes([left]) + data


def enclosed_span(span: bytes) -> bytes:
    """Return the request of the bytes of a span."""
    return sized(b"\x0a", sized(b"\x12", sized(b"\x12", span)))


@pytest.mark.parametrize(("as_map", "most"), [(True, 31), (False, 47)])
def test_messages_nest_as_deeply_as_protobuf_allows(as_map, most):
    """A request with one level more is refused by protobuf, and a span with it here."""
    traces = MESSAGES[next(iter(MESSAGES))]
    for levels in (most, most + 1):
        data = nested_value(levels, as_map=as_map)
        body = enclosed_span(data)
        if levels == most:
            traces.FromString(body)
            read_message(messages.Span, data, 3)
        else:
            with pytest.raises(OfficialError):
                traces.FromString(body)
            with pytest.raises(FieldError, match="nested too deeply"):
                read_message(messages.Span, data, 3)


def test_a_text_that_is_no_utf8_can_be_repaired():
    """It is refused with its place, or read with U+FFFD."""
    data = b"\x4a\x09\x0a\x01k\x12\x04\x0a\x02a\xff"
    with pytest.raises(NotUnicodeError) as refused:
        read_message(messages.Span, data, 3)
    assert refused.value.place == ".attributes[0].value.stringValue"
    (pair,) = read_message(messages.Span, data, 3, repair=True).attributes or ()
    assert pair.value is not None
    assert pair.value.string_value == "a\ufffd"


def test_an_error_names_its_place():
    """The place of an enumeration's value that OTLP does not allow is told."""
    with pytest.raises(FieldError, match="must be 0 to 2, got 7") as refused:
        read_message(messages.Span, b"\x7a\x02\x18\x07", 3)
    assert refused.value.place == ".status.code"


def test_more_values_than_are_kept_are_read_all_the_same():
    """Attributes of any number of values and keys have their own text, whatever was met before."""
    for number in range(12_000):
        span = Span(trace_id=b"\1" * 16, span_id=b"\2" * 8)
        span.start_time_unix_nano = span.end_time_unix_nano = 5
        span.attributes.add(key="path").value.string_value = f"/{number}"
        span.attributes.add(key=f"key {number}").value.int_value = number
        data = span.SerializeToString()
        found = span_text(data + b"\0", 0, len(data))
        assert found is not None
        assert found[1].endswith(
            f'[{{"key":"path","value":{{"stringValue":"/{number}"}}}},'
            f'{{"key":"key {number}","value":{{"intValue":"{number}"}}}}]}}'
        )
