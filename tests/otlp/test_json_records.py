"""The fast way to take records from JSON, checked with the careful one."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from rimp_otel.otlp import messages
from rimp_otel.otlp.json_dialects import strict_message
from rimp_otel.otlp.json_records import (
    exponential_point_of,
    histogram_point_of,
    log_record_of,
    number_point_of,
    span_of,
    summary_point_of,
)
from rimp_otel.otlp.protobuf_reader import read_message
from rimp_otel.otlp.refusals import FieldError
from rimp_otel.otlp.strict import record_time
from tests.otlp.mutate import fill_at_random, twisted_json
from tests.otlp.test_protobuf_reader import TYPES

READERS: dict[Any, Any] = {
    messages.Span: span_of,
    messages.LogRecord: log_record_of,
    messages.NumberDataPoint: number_point_of,
    messages.HistogramDataPoint: histogram_point_of,
    messages.ExponentialHistogramDataPoint: exponential_point_of,
    messages.SummaryDataPoint: summary_point_of,
}


def carefully(kind: Any, raw: Raw, depth: int) -> tuple[int, str] | None:
    """Return the time and the text of a record; None for one that is refused."""
    try:
        message, _ = strict_message(kind, raw, depth)
    except FieldError:
        return None
    return record_time(message), msgspec.json.encode(message).decode()


@pytest.mark.parametrize(
    ("kind", "official", "depth"),
    [given for given in TYPES if given[0] in READERS],
    ids=lambda value: str(value)[-30:],
)
def test_the_fast_way_gives_what_the_careful_one_gives(kind, official, depth):
    """Of records of any form the fast way makes the same text, or leaves them to the careful one."""
    chance = random.Random(9)
    usual = 0
    for _ in range(1_000):
        message = official()
        fill_at_random(chance, message)
        strict = read_message(kind, message.SerializeToString(), depth)
        plain = msgspec.json.decode(msgspec.json.encode(strict))
        raw = Raw(twisted_json(chance, plain))
        found = READERS[kind](raw)
        if found is not None:
            usual += 1
            assert found == carefully(kind, raw, depth), bytes(raw)
    assert usual > 30


SPAN = (
    '{"traceId":"01010101010101010101010101010101","spanId":"0202020202020202",%s'
    '"startTimeUnixNano":"1","endTimeUnixNano":"2"%s}'
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ('"name":"a \\"b\\" é",', ',"flags":257'),
        ("", ',"attributes":[{"key":"k","value":{"intValue":5}}]'),
        ("", ',"attributes":[{"key":"k","value":{"doubleValue":5}},{"key":"k","value":{}}]'),
        ("", ',"attributes":[{"key":"Value\\":","value":{"stringValue":"Value\\":"}}]'),
        ("", ',"attributes":[{"key":"k","value":{"arrayValue":{"values":[{"intValue":1},{}]}}}]'),
        ("", ',"attributes":[{"key":"k","value":{"bytesValue":"-_8"}}],"parentSpanId":""'),
        ("", ',"events":[{"timeUnixNano":3,"name":"e","attributes":[]}],"status":{"code":2}'),
        ("", ',"links":[{"traceId":"0A010101010101010101010101010101","spanId":""}]'),
    ],
)
def test_usual_spans_take_the_fast_way(before, after):
    """Numbers for strings, other orders, nested values, events and links are all usual."""
    raw = Raw((SPAN % (before, after)).encode())
    assert span_of(raw) == carefully(messages.Span, raw, 3) is not None


@pytest.mark.parametrize(
    "after",
    [
        ',"attributes":[{"key":"k","value":{"stringValue":"a","intValue":5}},{"key":"l","value":{}}]',
        ',"attributes":[{"key":"k","value":{"boolValue":1}}]',
        ',"kind":"SPAN_KIND_SERVER"',
        ',"status":{"code":"STATUS_CODE_OK"}',
        ',"attributes":[{"key":"k","value":{"doubleValue":"NaN"}}]',
        ',"parentSpanId":"abc"',
        ',"endTimeUnixNano":18446744073709551616',
    ],
)
def test_odd_spans_are_left_to_the_careful_way(after):
    """Whatever has to be mended, explained or refused is not for the fast way."""
    assert span_of(Raw((SPAN % ("", after)).encode())) is None
