"""Summaries, counts and times of lines, as the decoder would find them."""

from __future__ import annotations

import json

import pytest

from rimp_otel import TelemetryData, TelemetryEvent, TelemetryMetric
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.otlp.scan import LATEST, UNKNOWN_SUMMARY, TimeRange, summarize_line, times_of_line
from rimp_otel.storage.base import with_times
from tests.contract.samples import NOON, SECOND, everything

LINES = {signal: everything().otlp_json(signal)[0] for signal in Signal}


def test_of_spans():
    """A summary of spans has the earliest and latest start and the longest duration."""
    facts = summarize_line(LINES[Signal.TRACES])
    assert facts[:3] == (NOON, NOON + SECOND, 250)
    assert facts.trace_ids == {2**127 + 1, 1}
    assert (facts.services >= {"shop"}, facts.names) == (True, {"checkout", "bare"})


def test_of_log_records():
    """A summary of log records has the highest severity, and the observed time of one without a time."""
    facts = summarize_line(LINES[Signal.LOGS])
    assert facts[:3] == (NOON + 2 * SECOND, NOON + 11 * SECOND, 14)
    assert facts[3:] == ({2**127}, {"shop"}, {"login.failed"}, True)


def test_of_metrics():
    """A summary of metrics covers all kinds."""
    facts = summarize_line(LINES[Signal.METRICS])
    assert facts[:3] == (NOON + 12 * SECOND, NOON + 18 * SECOND, 0)
    assert (facts.trace_ids, facts.services) == (frozenset(), {"shop"})
    assert facts.names == {metric.name for metric in everything().metrics}


def test_of_foreign_lines():
    """Base64 and capitals in ids, named enumerations, spaces and plain numbers are read."""
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
    """A line without records matches no range."""
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
    """A line that cannot be read may match anything, so that it is decoded and refused."""
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
    """No summary excludes a record that matches."""
    made = Filter.of(**conditions)
    for line in LINES.values():
        data = TelemetryData.from_otlp_json([line])
        matches = any(made.matches(record) for _, _, record in with_times(data))
        assert summarize_line(line).may_match(made) >= matches


def test_conditions_exclude():
    """Clear cases are excluded."""
    spans, logs = summarize_line(LINES[Signal.TRACES]), summarize_line(LINES[Signal.LOGS])
    assert spans.may_match(Filter.of(min_duration=250e-9))
    assert not spans.may_match(Filter.of(min_duration=251e-9))
    assert logs.may_match(Filter.of(severity=14))
    assert not logs.may_match(Filter.of(severity=15))
    assert not spans.may_match(Filter.of(trace_id=5))
    assert not spans.may_match(Filter.of(service="other"))
    assert not logs.may_match(Filter.of(name="checkout"))


def test_values_that_are_out_of_range():
    """A negative duration counts as 0, one beyond 64 bits as the largest."""
    span = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":9,"endTimeUnixNano":%d}]}]}]}'
    assert summarize_line(span % 5).most == 0
    assert summarize_line(span % (2**70)).most == LATEST


def test_records_of_no_name_have_none():
    """Records without name and trace add neither to the summary."""
    (line,) = TelemetryData([TelemetryEvent("a", "b")]).otlp_json(Signal.LOGS)
    assert summarize_line(line)[3:6] == (frozenset(), frozenset(), frozenset())
    (line,) = TelemetryData(metrics=[TelemetryMetric("m", 1)]).otlp_json(Signal.METRICS)
    assert summarize_line(line).names == {"m"}


def test_times_are_those_of_retrieve():
    """The times of a line are those by which records are retrieved."""
    data = everything()
    for signal in Signal:
        for line in data.otlp_json(signal):
            own = [time for time, _, _ in with_times(TelemetryData.from_otlp_json([line]))]
            assert times_of_line(line) == (min(own), max(own))


def test_record_without_a_time_is_at_the_beginning_of_time():
    """A record without a time counts as time 0, as for retrieving."""
    assert times_of_line(b'{"resourceSpans":[{"scopeSpans":[{"spans":[{},{}]}]}]}') == (0, 0)
    assert times_of_line(b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}') == (0, 0)
    text = b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"sum":{"dataPoints":[{}]}}]}]}]}'
    assert times_of_line(text) == (0, 0)
    assert times_of_line(b'{"resourceSpans":[]}') is None


def test_nulls_and_numbers_are_read():
    """Nulls and plain numbers are read as the decoder reads them."""
    line = b'{"resourceSpans":[{"scopeSpans":null},{"scopeSpans":[{"spans":[{"startTimeUnixNano":5}]}]}]}'
    assert times_of_line(line) == (5, 5)
    line = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"observedTimeUnixNano":"7"}]}]}]}'
    assert times_of_line(line) == (7, 7)


def test_times_within_texts_are_no_times():
    """A text that looks like a time is none."""
    event = TelemetryEvent("a", '"timeUnixNano":"1"', metadata={'"timeUnixNano":"2"': "x"})
    (line,) = TelemetryData([event]).otlp_json(Signal.LOGS)
    assert times_of_line(line) == (event.time_unix_nano, event.time_unix_nano)
    assert min(times_of_line(line[:-1])) >= event.time_unix_nano


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_damaged_line_gives_what_looks_like_times(cut):
    """A damaged line has the range of all that looks like a time, so that no range is too narrow."""
    (line,) = TelemetryData([], [TelemetryMetric("m", 1)]).otlp_json(Signal.METRICS)
    assert times_of_line(line) == times_of_line(line[:-cut])


def test_extent_holds_all():
    """A time range holds all lines, and is 0 to 0 without records."""
    extent = TimeRange()
    assert (extent.first, extent.last) == (0, 0)
    extent.add(b"no line")
    assert (extent.first, extent.last) == (0, 0)
    span = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"%d"}]}]}]}'
    for time in (20, 10, 30, 2**64 + 5):
        extent.add(span % time)
    assert (extent.first, extent.last) == (10, 2**64 - 1)
