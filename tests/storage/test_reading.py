"""SeenRecords: what was returned out of journals is not returned again out of files."""

from __future__ import annotations

import pytest

from rimp_otel import TelemetryData, TelemetryEvent, TelemetryMetric
from rimp_otel.models.records import Signal
from rimp_otel.storage.reading import JournalLine, SeenRecords
from tests.storage.recordings import batch


def lines(*batches):
    """Return lines of log records, as they come out of a journal."""
    return [JournalLine(Signal.LOGS, data.otlp_json(Signal.LOGS)[0]) for data in batches]


def messages(batches):
    """Return the messages of the events."""
    return [event.message for data in batches if data for event in data.events]


@pytest.fixture
def seen():
    """Return what has been seen after a poll that returned 1 and 2 out of a journal."""
    seen = SeenRecords()
    seen.begin(lines(ONE, TWO))
    assert messages(seen.fresh()) == ["1", "2"]
    seen.end()
    return seen


ONE, TWO, THREE = batch("1"), batch("2"), batch("3")
ALL = TelemetryData(events=[*ONE.events, *TWO.events, *THREE.events])


def test_still_in_the_journal(seen):
    """A record that is still in the journal is not returned again, in whatever lines it is."""
    seen.begin(lines(ONE, TWO, THREE))
    assert messages(seen.fresh()) == ["3"]
    seen.end()
    seen.begin(lines(ALL))
    assert messages(seen.fresh()) == []


def test_in_a_file_now(seen):
    """A record that is in a file now is left out of its line."""
    seen.begin([])
    assert messages([seen.without_seen(ALL, is_certain=True)]) == ["3"]
    assert messages([seen.without_seen(ALL, is_certain=True)]) == ["1", "2", "3"]


def test_a_line_of_known_records_only(seen):
    """Nothing remains of a line of seen records."""
    seen.begin([])
    assert seen.without_seen(ONE, is_certain=True) is None


def test_a_line_of_unknown_records_only(seen):
    """A line of new records stays the same batch."""
    seen.begin([])
    assert seen.without_seen(THREE, is_certain=True) is THREE


def test_what_was_not_met_is_forgotten(seen):
    """After a complete poll, records that were not met are forgotten."""
    seen.begin([])
    seen.end()
    seen.begin([])
    assert seen.without_seen(ONE, is_certain=True) is ONE


def test_what_was_not_met_is_expected_after_a_poll_that_was_broken_off(seen):
    """After a poll that was broken off, records that were not met are still expected."""
    seen.begin(lines(TWO, THREE))
    seen.begin(lines(TWO, THREE))
    assert seen.without_seen(ONE, is_certain=True) is None
    assert messages(seen.fresh()) == ["3"]


def test_in_a_journal_and_in_a_file_that_is_not_certain():
    """A record in both is returned once, and not expected any more."""
    seen = SeenRecords()
    seen.begin(lines(ONE, TWO))
    assert messages([seen.without_seen(ALL, is_certain=False)]) == ["3"]
    assert messages(seen.fresh()) == ["1", "2"]
    seen.end()
    seen.begin([])
    assert seen.without_seen(ONE, is_certain=True) is ONE


def test_given_before_and_now_in_both(seen):
    """A record that was returned before is not returned again."""
    seen.begin(lines(ONE, TWO))
    assert messages([seen.without_seen(ALL, is_certain=False)]) == ["3"]
    assert messages(seen.fresh()) == []


def test_points_of_different_metrics():
    """Points of different metrics are different, though their texts are equal."""
    point = {"value": 1.0, "time_unix_nano": 1}
    first = TelemetryData(metrics=[TelemetryMetric("a", **point)])
    second = TelemetryData(metrics=[TelemetryMetric("b", **point)])
    seen = SeenRecords()
    seen.begin([JournalLine(Signal.METRICS, first.otlp_json(Signal.METRICS)[0])])
    assert len(list(seen.fresh())) == 1
    seen.end()
    seen.begin([])
    assert seen.without_seen(second, is_certain=True) is second
    assert seen.without_seen(first, is_certain=True) is None


def test_a_line_that_cannot_be_decoded():
    """A line that cannot be decoded is ignored; the journal's reader has reported it."""
    seen = SeenRecords()
    for _ in range(2):
        seen.begin([JournalLine(Signal.LOGS, b"not json"), *lines(ONE)])
        list(seen.fresh())
        seen.end()
    seen.begin([])
    assert seen.without_seen(ONE, is_certain=True) is None


def test_skip():
    """Skipping takes all records as returned."""
    seen = SeenRecords()
    seen.begin(lines(ONE, TWO))
    seen.skip()
    seen.begin(lines(TWO, THREE))
    assert seen.without_seen(ONE, is_certain=True) is None
    assert messages(seen.fresh()) == ["3"]


def test_many_equal_records():
    """Each of several equal records counts as one."""
    event = TelemetryEvent("a", "same", time_unix_nano=1, observed_time_unix_nano=1)
    seen = SeenRecords()
    seen.begin(lines(TelemetryData(events=[event] * 3)))
    assert messages(seen.fresh()) == ["same"] * 3
    seen.end()
    seen.begin(lines(TelemetryData(events=[event] * 2)))
    files = [seen.without_seen(TelemetryData(events=[event] * 2), is_certain=True)]
    assert messages([*files, *seen.fresh()]) == ["same"]
