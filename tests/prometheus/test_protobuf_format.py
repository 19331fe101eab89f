"""The page in protobuf is what protobuf reads, by the messages of io.prometheus.client."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("prometheus_client")
pytest.importorskip("google.protobuf")

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.decoder import _DecodeVarint

from rimp_otel.prometheus.names import TranslationStrategy
from tests.prometheus.lines import EXEMPLAR, EXPONENTIAL, LINES, PROTOBUF, page
from tests.prometheus.test_table import S, line, point

FIELD = descriptor_pb2.FieldDescriptorProto
MESSAGES = {
    "LabelPair": [("name", 1, "string"), ("value", 2, "string")],
    "Timestamp": [("seconds", 1, "int64"), ("nanos", 2, "int32")],
    "Exemplar": [("label", 1, "*LabelPair"), ("value", 2, "double"), ("timestamp", 3, "Timestamp")],
    "Gauge": [("value", 1, "double")],
    "Counter": [
        ("value", 1, "double"),
        ("exemplar", 2, "Exemplar"),
        ("created_timestamp", 3, "Timestamp"),
    ],
    "Quantile": [("quantile", 1, "double"), ("value", 2, "double")],
    "Summary": [
        ("sample_count", 1, "uint64"),
        ("sample_sum", 2, "double"),
        ("quantile", 3, "*Quantile"),
        ("created_timestamp", 4, "Timestamp"),
    ],
    "Bucket": [
        ("cumulative_count", 1, "uint64"),
        ("upper_bound", 2, "double"),
        ("exemplar", 3, "Exemplar"),
    ],
    "BucketSpan": [("offset", 1, "sint32"), ("length", 2, "uint32")],
    "Histogram": [
        ("sample_count", 1, "uint64"),
        ("sample_sum", 2, "double"),
        ("bucket", 3, "*Bucket"),
        ("schema", 5, "sint32"),
        ("zero_threshold", 6, "double"),
        ("zero_count", 7, "uint64"),
        ("negative_span", 9, "*BucketSpan"),
        ("negative_delta", 10, "*sint64"),
        ("positive_span", 12, "*BucketSpan"),
        ("positive_delta", 13, "*sint64"),
        ("created_timestamp", 15, "Timestamp"),
        ("exemplars", 16, "*Exemplar"),
    ],
    "Metric": [
        ("label", 1, "*LabelPair"),
        ("gauge", 2, "Gauge"),
        ("counter", 3, "Counter"),
        ("summary", 4, "Summary"),
        ("histogram", 7, "Histogram"),
    ],
    "MetricFamily": [
        ("name", 1, "string"),
        ("help", 2, "string"),
        ("type", 3, "int32"),
        ("metric", 4, "*Metric"),
        ("unit", 5, "string"),
    ],
}
"""The fields of the messages, with their numbers and types; of a list, with an asterisk."""


def make_family_class():
    """Return the class of MetricFamily, made of the numbers and types of its fields."""
    file = descriptor_pb2.FileDescriptorProto(
        name="metrics.proto", package="io.prometheus.client", syntax="proto2"
    )
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            made = message.field.add(name=field, number=number, label=FIELD.LABEL_OPTIONAL)
            if kind.startswith("*"):
                made.label = FIELD.LABEL_REPEATED
            kind = kind.strip("*")
            if kind in MESSAGES:
                made.type, made.type_name = FIELD.TYPE_MESSAGE, f".io.prometheus.client.{kind}"
            else:
                made.type = getattr(FIELD, f"TYPE_{kind.upper()}")
                if made.label == FIELD.LABEL_REPEATED:
                    made.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName("io.prometheus.client.MetricFamily")
    return message_factory.GetMessageClass(found)


FAMILY = make_family_class()


def families(body):
    """Return the families of a page, by their names; none may have a field that is not known."""
    found, position = {}, 0
    while position < len(body):
        length, position = _DecodeVarint(body, position)
        family = FAMILY.FromString(body[position : position + length])
        position += length
        known = FAMILY()
        known.CopyFrom(family)
        known.DiscardUnknownFields()
        assert known.ByteSize() == family.ByteSize() == length
        found[family.name] = family
    assert position == len(body)
    return found


def labels(metric):
    """Return the labels, without those of the service and the scope."""
    found = {label.name: label.value for label in metric.label}
    assert (found.pop("job"), found.pop("otel_scope_name", "test")) == ("shop", "test")
    return found


def test_all_kinds():
    """Each has its type, its value and when it was created; counters and buckets have exemplars."""
    found = page(*LINES, accept=PROTOBUF)
    assert found.content_type == (
        "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily;"
        " encoding=delimited; escaping=underscores"
    )
    read = families(found.body)
    assert {name: family.type for name, family in read.items()} == {
        "http_requests_total": 0,
        "cpu_use_ratio": 1,
        "queue": 1,
        "latency_seconds": 4,
        "size_bytes": 4,
        "old": 2,
        "target_info": 1,
    }
    assert read["http_requests_total"].help == "All requests"
    assert read["latency_seconds"].unit == "seconds"
    assert labels(read["cpu_use_ratio"].metric[0]) == {"cpu_id": "1"}
    counter = read["http_requests_total"].metric[0].counter
    assert (counter.value, counter.created_timestamp.seconds) == (5.0, 1)
    assert {label.name: label.value for label in counter.exemplar.label} == {
        "trace_id": "ab" * 16,
        "span_id": "cd" * 8,
        "user_id": "ann",
    }
    assert (counter.exemplar.value, counter.exemplar.timestamp.seconds) == (1.5, 900)
    assert read["queue"].metric[0].gauge.value == -3.0
    histogram = read["latency_seconds"].metric[0].histogram
    assert (histogram.sample_count, histogram.sample_sum) == (6, 20.5)
    assert [(b.upper_bound, b.cumulative_count) for b in histogram.bucket] == [
        (1.0, 1),
        (2.5, 3),
        (math.inf, 6),
    ]
    assert [b.HasField("exemplar") for b in histogram.bucket] == [False, True, False]
    summary = read["old"].metric[0].summary
    assert (summary.sample_count, summary.sample_sum) == (3, 6.0)
    assert [(q.quantile, q.value) for q in summary.quantile] == [(0.5, 2.0)]


def native(**changes):
    """Return an exponential histogram as it is read of a page."""
    found = EXPONENTIAL | changes
    body = page(line("exponentialHistogram", point(None, **found)), accept=PROTOBUF).body
    return families(body)["m"].metric[0].histogram


def buckets(spans, deltas):
    """Return the counts of buckets by their numbers."""
    found, number, count, rest = {}, 0, 0, iter(deltas)
    for span in spans:
        number += span.offset
        for _ in range(span.length):
            count += next(rest)
            found[number] = count
            number += 1
    assert next(rest, None) is None
    return found


def test_native_histograms():
    """Exponential histograms are themselves, with each bucket told by its upper bound."""
    found = native(negative={"offset": -3, "bucketCounts": ["4"]}, exemplars=[EXEMPLAR], count="11")
    assert (found.sample_count, found.sample_sum, found.schema) == (11, 12.0, 1)
    assert (found.zero_threshold, found.zero_count) == (1e-128, 1)
    assert [(span.offset, span.length) for span in found.positive_span] == [(2, 2), (1, 1)]
    assert list(found.positive_delta) == [1, 1, 1]
    assert buckets(found.positive_span, found.positive_delta) == {2: 1, 3: 2, 5: 3}
    assert buckets(found.negative_span, found.negative_delta) == {-2: 4}
    assert [one.value for one in found.exemplars] == [1.5]
    assert len(found.bucket) == 0
    assert found.created_timestamp.seconds == 1


def test_finer_than_prometheus_knows():
    """Buckets are merged down to scale 8; a threshold of zero that is given stays."""
    found = native(
        scale=10,
        positive={"offset": 0, "bucketCounts": ["1", "2", "3", "4", "5"]},
        zeroThreshold=0.25,
    )
    assert (found.schema, found.zero_threshold) == (8, 0.25)
    assert buckets(found.positive_span, found.positive_delta) == {1: 10, 2: 5}


def test_coarsest():
    """Scale -4 is the last that Prometheus has."""
    assert native(scale=-4).schema == -4


def test_names_as_they_are():
    """Nothing needs quotes here."""
    accept = f"{PROTOBUF};escaping=allow-utf-8"
    found = page(LINES[1], accept=accept, strategy=TranslationStrategy.NONE)
    (metric,) = families(found.body)["cpu.use"].metric
    assert "cpu.id" in {label.name for label in metric.label}


def test_hostile_numbers():
    """Values beyond all bounds leave a page that is read."""
    lines = [
        line("histogram", point(None, count="5", sum="NaN"), name="a"),
        line("gauge", point(None, asDouble="-Infinity"), name="b"),
        line("exponentialHistogram", point(None, count="0", scale=0), name="c"),
        line("sum", point(2**63 - 1, start=2 * S), name="d"),
    ]
    assert set(families(page(*lines, accept=PROTOBUF).body)) >= {"a", "b", "c", "d_total"}
