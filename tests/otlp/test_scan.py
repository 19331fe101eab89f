"""Facts: what is in a line, as the decoder would find it."""

from __future__ import annotations

import json

import pytest

from rimp_otel import TelemetryData, TelemetryEvent, TelemetryMetric
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.otlp.scan import LATEST, UNKNOWN_SUMMARY, summarize_line
from rimp_otel.storage.base import with_times
from tests.contract.samples import NOON, SECOND, everything

LINES = {signal: everything().otlp_json(signal)[0] for signal in Signal}


def test_of_spans():
    """The earliest and latest start, the longest duration."""
    facts = summarize_line(LINES[Signal.TRACES])
    assert facts[:3] == (NOON, NOON + SECOND, 250)
    assert facts.trace_ids == {2**127 + 1, 1}
    assert (facts.services >= {"shop"}, facts.names) == (True, {"checkout", "bare"})


def test_of_log_records():
    """The highest severity; when it was observed, of one without a time."""
    facts = summarize_line(LINES[Signal.LOGS])
    assert facts[:3] == (NOON + 2 * SECOND, NOON + 11 * SECOND, 14)
    assert facts[3:] == ({2**127}, {"shop"}, {"login.failed"}, True)


def test_of_metrics():
    """Of all kinds."""
    facts = summarize_line(LINES[Signal.METRICS])
    assert facts[:3] == (NOON + 12 * SECOND, NOON + 18 * SECOND, 0)
    assert (facts.trace_ids, facts.services) == (frozenset(), {"shop"})
    assert facts.names == {metric.name for metric in everything().metrics}


def test_of_foreign_lines():
    """Ids in base64 or capitals, enumerations by name, spaces, numbers as numbers."""
    log = {
        "severityNumber": "SEVERITY_NUMBER_ERROR",
        "traceId": "AAAAAAAAAAAAAAAAAAAAAQ==",
        "timeUnixNano": 5,
    }
    line = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [log]}]}]}, indent=1)
    assert summarize_line(line.encode())[:4] == (5, 5, 17, {1})
    span = {"traceId": "AB" * 16, "endTimeUnixNano": "7"}
    line = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span, {}]}]}]})
    assert summarize_line(line.encode())[:4] == (0, 0, 7, {int("ab" * 16, 16)})


@pytest.mark.parametrize("line", [b"", b"  \n", b'{"resourceSpans":[]}', b'{"resourceLogs":null}'])
def test_of_no_records(line):
    """There is nothing in any range."""
    facts = summarize_line(line)
    assert facts.first > facts.last
    assert not facts.may_match(Filter.of(name="a"))


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"{}",
        b'{"resourceSpans":[],"resourceLogs":[]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":-1}]}]}]}',
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"18446744073709551616"}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":"BAD"}]}]}]}',
        b'{"resourceLogs":[{"resource":5,"scopeLogs":[{"logRecords":[{}]}]}]}',
        LINES[Signal.TRACES][:-9],
        b'{"resourceSpans":' + b"[" * 100_000,
    ],
)
def test_what_cannot_be_read_may_hold_anything(line):
    """So that it is decoded, which says what is wrong with it."""
    assert summarize_line(line) == UNKNOWN_SUMMARY
    assert UNKNOWN_SUMMARY[:3] == (0, LATEST, LATEST)
    assert UNKNOWN_SUMMARY.may_match(Filter.of(name="a", trace_id=1))


CONDITIONS = [
    {"service": "shop"},
    {"service": "other"},
    {"name": "checkout"},
    {"name": "login.failed"},
    {"name": "gauge"},
    {"trace_id": 2**127},
    {"trace_id": 1},
    {"trace_id": 5},
    {"min_duration": 250e-9},
    {"min_duration": 251e-9},
    {"severity": 14},
    {"severity": 15},
    {"attributes": {"k": "v"}},
    {"service": "shop", "name": "bare"},
]


@pytest.mark.parametrize("conditions", CONDITIONS)
def test_no_record_that_matches_is_excluded(conditions):
    """And what is excluded does not match."""
    made = Filter.of(**conditions)
    for line in LINES.values():
        data = TelemetryData.from_otlp_json([line])
        matches = any(made.matches(record) for _, _, record in with_times(data))
        assert summarize_line(line).may_match(made) >= matches


def test_conditions_exclude():
    """At least where it is clear."""
    spans, logs = summarize_line(LINES[Signal.TRACES]), summarize_line(LINES[Signal.LOGS])
    assert spans.may_match(Filter.of(min_duration=250e-9))
    assert not spans.may_match(Filter.of(min_duration=251e-9))
    assert logs.may_match(Filter.of(severity=14))
    assert not logs.may_match(Filter.of(severity=15))
    assert not spans.may_match(Filter.of(trace_id=5))
    assert not spans.may_match(Filter.of(service="other"))
    assert not logs.may_match(Filter.of(name="checkout"))


def test_values_that_are_out_of_range():
    """A span that ends before it starts took no time; one of ages took all there is."""
    span = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":9,"endTimeUnixNano":%d}]}]}]}'
    assert summarize_line(span % 5).most == 0
    assert summarize_line(span % (2**70)).most == LATEST


def test_records_of_no_name_have_none():
    """Nor of no trace."""
    (line,) = TelemetryData([TelemetryEvent("a", "b")]).otlp_json(Signal.LOGS)
    assert summarize_line(line)[3:6] == (frozenset(), frozenset(), frozenset())
    (line,) = TelemetryData(metrics=[TelemetryMetric("m", 1)]).otlp_json(Signal.METRICS)
    assert summarize_line(line).names == {"m"}
