"""What was given out of journals is not given again out of files."""

from __future__ import annotations

import pytest

from rimp_otel import TelemetryData, TelemetryEvent, TelemetryMetric
from rimp_otel.models.records import Signal
from rimp_otel.storage.files.snapshot import JournalLine, Shown
from tests.storage.recordings import batch


def lines(*batches):
    """Of logs, as a journal gives them."""
    return [JournalLine(Signal.LOGS, data.otlp_json(Signal.LOGS)[0]) for data in batches]


def messages(batches):
    """Of their events."""
    return [event.message for data in batches if data for event in data.events]


@pytest.fixture
def shown():
    """After a poll that gave 1 and 2 out of a journal."""
    shown = Shown()
    shown.begin(lines(ONE, TWO))
    assert messages(shown.fresh()) == ["1", "2"]
    shown.end()
    return shown


ONE, TWO, THREE = batch("1"), batch("2"), batch("3")
ALL = TelemetryData(events=[*ONE.events, *TWO.events, *THREE.events])


def test_still_in_the_journal(shown):
    """Is not given again, in whatever lines it is."""
    shown.begin(lines(ONE, TWO, THREE))
    assert messages(shown.fresh()) == ["3"]
    shown.end()
    shown.begin(lines(ALL))
    assert messages(shown.fresh()) == []


def test_in_a_file_now(shown):
    """Is left out of its line."""
    shown.begin([])
    assert messages([shown.without(ALL, is_certain=True)]) == ["3"]
    assert messages([shown.without(ALL, is_certain=True)]) == ["1", "2", "3"]


def test_a_line_of_known_records_only(shown):
    """Is nothing."""
    shown.begin([])
    assert shown.without(ONE, is_certain=True) is None


def test_a_line_of_unknown_records_only(shown):
    """Stays the same batch."""
    shown.begin([])
    assert shown.without(THREE, is_certain=True) is THREE


def test_what_was_not_met_is_forgotten(shown):
    """After a poll that read everything."""
    shown.begin([])
    shown.end()
    shown.begin([])
    assert shown.without(ONE, is_certain=True) is ONE


def test_what_was_not_met_is_expected_after_a_poll_that_was_broken_off(shown):
    """Which has not read everything."""
    shown.begin(lines(TWO, THREE))
    shown.begin(lines(TWO, THREE))
    assert shown.without(ONE, is_certain=True) is None
    assert messages(shown.fresh()) == ["3"]


def test_in_a_journal_and_in_a_file_that_is_not_certain():
    """Is given once, and expected nowhere after."""
    shown = Shown()
    shown.begin(lines(ONE, TWO))
    assert messages([shown.without(ALL, is_certain=False)]) == ["3"]
    assert messages(shown.fresh()) == ["1", "2"]
    shown.end()
    shown.begin([])
    assert shown.without(ONE, is_certain=True) is ONE


def test_given_before_and_now_in_both(shown):
    """Is not given again."""
    shown.begin(lines(ONE, TWO))
    assert messages([shown.without(ALL, is_certain=False)]) == ["3"]
    assert messages(shown.fresh()) == []


def test_points_of_different_metrics():
    """Are different, though their texts are equal."""
    point = {"value": 1.0, "time_unix_nano": 1}
    first = TelemetryData(metrics=[TelemetryMetric("a", **point)])
    second = TelemetryData(metrics=[TelemetryMetric("b", **point)])
    shown = Shown()
    shown.begin([JournalLine(Signal.METRICS, first.otlp_json(Signal.METRICS)[0])])
    assert len(list(shown.fresh())) == 1
    shown.end()
    shown.begin([])
    assert shown.without(second, is_certain=True) is second
    assert shown.without(first, is_certain=True) is None


def test_a_line_that_cannot_be_decoded():
    """Is nothing; the journal's reader has reported it."""
    shown = Shown()
    for _ in range(2):
        shown.begin([JournalLine(Signal.LOGS, b"not json"), *lines(ONE)])
        list(shown.fresh())
        shown.end()
    shown.begin([])
    assert shown.without(ONE, is_certain=True) is None


def test_skip():
    """Takes all for given."""
    shown = Shown()
    shown.begin(lines(ONE, TWO))
    shown.skip()
    shown.begin(lines(TWO, THREE))
    assert shown.without(ONE, is_certain=True) is None
    assert messages(shown.fresh()) == ["3"]


def test_many_equal_records():
    """Each is worth one."""
    event = TelemetryEvent("a", "same", time_unix_nano=1, observed_time_unix_nano=1)
    shown = Shown()
    shown.begin(lines(TelemetryData(events=[event] * 3)))
    assert messages(shown.fresh()) == ["same"] * 3
    shown.end()
    shown.begin(lines(TelemetryData(events=[event] * 2)))
    files = [shown.without(TelemetryData(events=[event] * 2), is_certain=True)]
    assert messages([*files, *shown.fresh()]) == ["same"]
