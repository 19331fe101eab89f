"""What becomes of the records, counted."""

from __future__ import annotations

from rimp_otel import TelemetryData, TelemetryEvent, TelemetryMetric
from rimp_otel.collector.stats import CollectorStats, RecordCounts
from rimp_otel.models.records import Signal


def test_nothing_yet():
    """All is zero."""
    assert RecordCounts().stats() == CollectorStats(0, 0, 0, {}, 0)


def test_each_record_is_somewhere():
    """Collected is stored, pending and dropped."""
    counts = RecordCounts()
    for _ in range(5):
        counts.collected.add_one()
    counts.store(TelemetryData(events=[TelemetryEvent("a", "b")] * 2))
    counts.drop("buffer_full", Signal.LOGS)
    counts.drop("encoding", Signal.TRACES, 0)
    assert counts.stats() == CollectorStats(5, 2, 2, {"buffer_full": 1}, 0)
    assert counts.of_signal(Signal.LOGS) == (2, {"buffer_full": 1})
    assert counts.of_signal(Signal.TRACES) == (0, {})


def test_points_and_what_cannot_be_encoded_of_them():
    """Both were collected; the one is stored, the other dropped."""
    counts = RecordCounts()
    counts.collect_points(2, unencoded=1)
    counts.store(TelemetryData(metrics=[TelemetryMetric("m", 1), TelemetryMetric("m", 2)]))
    assert counts.stats() == CollectorStats(3, 2, 0, {"encoding": 1}, 0)


def test_recovered_and_damaged():
    """Collected by an earlier process, and by this one when they are found."""
    counts = RecordCounts()
    counts.recover(Signal.LOGS, 3, damaged=1)
    assert counts.stats() == CollectorStats(4, 0, 3, {"damaged": 1}, 0, recovered=4)


def test_a_batch_that_is_given_up():
    """By signal, under its reason."""
    counts = RecordCounts()
    counts.drop_batch("storage_error", TelemetryData(metrics=[TelemetryMetric("m", 1)]))
    assert counts.of_signal(Signal.METRICS) == (0, {"storage_error": 1})
