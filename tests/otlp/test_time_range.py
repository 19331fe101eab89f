"""Extent: the times of a line's records."""

from __future__ import annotations

import pytest

from rimp_otel import TelemetryData, TelemetryEvent, TelemetryMetric
from rimp_otel.models.records import Signal
from rimp_otel.otlp.scan import TimeRange, times_of_line
from rimp_otel.storage.base import with_times
from tests.contract.samples import everything


def test_times_are_those_of_retrieve():
    """Of each signal and kind of record."""
    data = everything()
    for signal in Signal:
        for line in data.otlp_json(signal):
            own = [time for time, _, _ in with_times(TelemetryData.from_otlp_json([line]))]
            assert times_of_line(line) == (min(own), max(own))


def test_record_without_a_time_is_at_the_beginning_of_time():
    """There, retrieve gives it too."""
    assert times_of_line(b'{"resourceSpans":[{"scopeSpans":[{"spans":[{},{}]}]}]}') == (0, 0)
    assert times_of_line(b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}') == (0, 0)
    text = b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"sum":{"dataPoints":[{}]}}]}]}]}'
    assert times_of_line(text) == (0, 0)
    assert times_of_line(b'{"resourceSpans":[]}') is None


def test_nulls_and_numbers_are_read():
    """As the decoder reads them."""
    line = b'{"resourceSpans":[{"scopeSpans":null},{"scopeSpans":[{"spans":[{"startTimeUnixNano":5}]}]}]}'
    assert times_of_line(line) == (5, 5)
    line = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"observedTimeUnixNano":"7"}]}]}]}'
    assert times_of_line(line) == (7, 7)


def test_times_within_texts_are_no_times():
    """Whatever a user records."""
    event = TelemetryEvent("a", '"timeUnixNano":"1"', metadata={'"timeUnixNano":"2"': "x"})
    (line,) = TelemetryData([event]).otlp_json(Signal.LOGS)
    assert times_of_line(line) == (event.time_unix_nano, event.time_unix_nano)
    assert min(times_of_line(line[:-1])) >= event.time_unix_nano


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_damaged_line_gives_what_looks_like_times(cut):
    """So that no range becomes too narrow."""
    (line,) = TelemetryData([], [TelemetryMetric("m", 1)]).otlp_json(Signal.METRICS)
    assert times_of_line(line) == times_of_line(line[:-cut])


def test_extent_holds_all():
    """And is nothing where there is no record."""
    extent = TimeRange()
    assert (extent.first, extent.last) == (0, 0)
    extent.add(b"no line")
    assert (extent.first, extent.last) == (0, 0)
    span = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"%d"}]}]}]}'
    for time in (20, 10, 30, 2**64 + 5):
        extent.add(span % time)
    assert (extent.first, extent.last) == (10, 2**64 - 1)
