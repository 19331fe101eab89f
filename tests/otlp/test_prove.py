"""A short run of the long comparison with the official encoder."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from rimp_otel.models.records import Signal
from rimp_otel.otlp import encode_spans
from tests.otlp import generate
from tests.otlp.choices import EXTENDED, RandomSource
from tests.otlp.official import binary, lines_of, official_message, our_message
from tests.otlp.prove import main, prove


@pytest.fixture(autouse=True)
def quiet_sdk() -> Iterator[None]:
    """Silence the SDK, which logs each attribute that it drops or cuts."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def test_thousands_of_records_are_the_official_message():
    """5,000 records of all signals are the official message; the command compares a million."""
    outcome = prove(5_000, seed=2026)
    assert outcome.found == []
    assert outcome.counts.total() == 5_000
    assert min(outcome.counts[signal] for signal in Signal) > 500


def test_the_same_seed_compares_the_same_records():
    """The same seed compares the same records, so that a difference can be found again."""
    assert prove(500, seed=3).counts == prove(500, seed=3).counts


FIELDS = {
    Signal.TRACES: """arrayValue attributes boolValue bytesValue code doubleValue
        droppedAttributesCount droppedEventsCount droppedLinksCount endTimeUnixNano events flags
        intValue key kind kvlistValue links message name parentSpanId resource resourceSpans
        schemaUrl scope scopeSpans spanId spans startTimeUnixNano status stringValue timeUnixNano
        traceId traceState value values version""",
    Signal.LOGS: """arrayValue attributes body boolValue bytesValue doubleValue
        droppedAttributesCount eventName flags intValue key kvlistValue logRecords name
        observedTimeUnixNano resource resourceLogs schemaUrl scope scopeLogs severityNumber
        severityText spanId stringValue timeUnixNano traceId value values version""",
    Signal.METRICS: """aggregationTemporality arrayValue asDouble asInt attributes boolValue
        bucketCounts bytesValue count dataPoints description doubleValue exemplars explicitBounds
        exponentialHistogram filteredAttributes flags gauge histogram intValue isMonotonic key
        kvlistValue max metrics min name negative offset positive resource resourceMetrics scale
        schemaUrl scope scopeMetrics spanId startTimeUnixNano stringValue sum timeUnixNano traceId
        unit value values version zeroCount""",
}


@pytest.mark.parametrize("signal", list(Signal))
def test_a_field_that_is_lost_is_found(signal):
    """Any field that is removed from the lines of generated records is found as a difference."""
    makers = {
        Signal.TRACES: generate.spans,
        Signal.LOGS: generate.log_records,
        Signal.METRICS: generate.metrics_data,
    }
    batches = [makers[signal](RandomSource(Random(seed)), 60) for seed in range(12)]
    lines = [lines_of(signal, batch) for batch in batches]
    theirs = [binary(official_message(signal, batch)) for batch in batches]
    fields = sorted({field for found in lines for line in found for field in fields_of(line)})
    unknown = () if EXTENDED or signal is Signal.LOGS else ("bytesValue", "kvlistValue")
    assert fields == [field for field in FIELDS[signal].split() if field not in unknown]
    for field in fields:
        assert any(
            binary(our_message(signal, [without(field, line) for line in found])) != expected
            for found, expected in zip(lines, theirs, strict=True)
            if found
        ), field


def fields_of(line: bytes) -> set[str]:
    """Return the fields of all messages within a line."""
    found: set[str] = set()
    json.loads(line, object_pairs_hook=lambda pairs: found.update(name for name, _ in pairs))
    return found


def without(field: str, line: bytes) -> bytes:
    """Return the line without a field, wherever that is."""

    def kept(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in pairs if name != field}

    return json.dumps(json.loads(line, object_pairs_hook=kept), ensure_ascii=False).encode()


def test_a_difference_is_narrowed_down_to_its_record(monkeypatch):
    """The first record that is wrong on its own is printed, with both messages."""
    monkeypatch.setattr(encode_spans, "status_field", lambda _: "")
    first = prove(400, seed=1).found[0]
    assert first.startswith("seed 1: [<opentelemetry.sdk.trace.ReadableSpan object")
    assert ".spans[0].status: 'None' is not " in first
    assert first.count("resource_spans {") == 2


def test_the_command_says_what_it_compared(capsys):
    """The command prints one line and succeeds."""
    assert main(["--records", "10", "--seed", "4"]) == 0
    line = capsys.readouterr().out
    assert line.startswith("10 records, 0 differences beyond the documented ones (spans ")
    assert ", seed 4, took " in line
