"""Points in time in every accepted form."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rimp_otel import ConfigurationError
from rimp_otel.models.times import from_unix_nano, parse_duration, to_unix_nano
from tests.processes import run

S = 10**9
NOON = 1_795_521_600_000_000_000  # 2026-11-24T12:00:00Z


@pytest.fixture
def in_berlin(monkeypatch):
    """Set the local time zone to one hour ahead of UTC."""
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "given_time",
    [
        datetime(2026, 11, 24, 12, tzinfo=timezone.utc),
        datetime(2026, 11, 24, 14, tzinfo=timezone(timedelta(hours=2))),
        datetime(2026, 11, 24, 13),
        "2026-11-24T12:00:00Z",
        "2026-11-24t12:00:00z",
        " 2026-11-24T12:00:00+00:00 ",
        "2026-11-24T14:00+02:00",
        "2026-11-24 13:00",
        NOON // 1_000_000_000,
        NOON / 1_000_000_000,
    ],
)
def test_forms_of_one_time(given_time, in_berlin):
    """All forms are the same instant; without a zone they are local."""
    assert to_unix_nano(given_time) == NOON


def test_date_alone_is_its_local_midnight(in_berlin):
    """A date alone is its local midnight, as for datetime.fromisoformat."""
    assert to_unix_nano("2026-11-24") == NOON - 13 * 3_600 * 1_000_000_000


def test_fractions_of_seconds():
    """Fractions are exact to the microsecond, also from a float and before the epoch."""
    assert to_unix_nano("2026-11-24T12:00:00.123456Z") == NOON + 123_456_000
    assert to_unix_nano(1_795_521_600.25) == NOON + 250_000_000
    assert to_unix_nano(-0.5) == -500_000_000
    assert to_unix_nano(-2) == -2_000_000_000


@pytest.mark.parametrize(
    "text", ["2026-11-24T12:00:00.5Z", "2026-11-24T12:00:00.500000000Z", "2026-11-24T12:00:00,5Z"]
)
def test_iso_fraction_of_any_length(text):
    """Fractions of any length are read on every Python, with and without dateutil."""
    script = """
    import sys
    sys.modules["dateutil"] = None
    from rimp_otel.models.times import to_unix_nano
    print(to_unix_nano(sys.argv[1]))
    """
    assert run(script, text) == f"{NOON + 500_000_000}\n"


@pytest.mark.parametrize("wrong", [True, None, [], b"2026", float("nan"), float("inf"), 1j])
def test_other_types_are_refused(wrong):
    """The message of a wrong type has the value and the allowed forms."""
    with pytest.raises(ConfigurationError, match="is not a point in time: give a datetime"):
        to_unix_nano(wrong)


@pytest.mark.parametrize("wrong", ["", " ", "Z", "soon", "2026-13-01", "2026-11-24T25:00:00Z"])
def test_other_texts_are_refused(wrong):
    """A text that is not a time is refused, with and without dateutil."""
    with pytest.raises(ConfigurationError, match="is not a point in time"):
        to_unix_nano(wrong)


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_a_configuration_error(text):
    """Any text is a time or raises ConfigurationError."""
    try:
        assert isinstance(to_unix_nano(text), int)
    except ConfigurationError:
        pass


def test_ends_of_the_calendar():
    """datetime.min and datetime.max stand for an open end, in any zone."""
    assert to_unix_nano(datetime.min) <= -62_135_500_000 * 10**9
    assert to_unix_nano(datetime.max) >= 253_402_200_000 * 10**9
    far = timezone(timedelta(hours=14))
    assert to_unix_nano(datetime.min.replace(tzinfo=far)) == -62_135_596_800 * 10**9


def test_dateutil_widens_the_strings():
    """With dateutil, more strings are read."""
    pytest.importorskip("dateutil")
    assert to_unix_nano("24 Nov 2026 12:00 UTC") == NOON


def test_without_dateutil_the_error_names_it():
    """Without dateutil, the message of a string that is not ISO 8601 names it."""
    script = """
    import sys
    sys.modules["dateutil"] = None
    from rimp_otel.models.times import to_unix_nano
    print(to_unix_nano("2026-11-24T12:00:00Z"))
    try:
        to_unix_nano("24 Nov 2026")
    except ValueError as error:
        print(str(error).endswith("with python-dateutil: pip install 'rimp-otel[types]'"))
    """
    assert run(script) == f"{NOON}\nTrue\n"


def test_from_unix_nano():
    """The datetime is aware, in UTC, cut off to microseconds, for any time."""
    assert from_unix_nano(NOON + 1_999).isoformat() == "2026-11-24T12:00:00.000001+00:00"
    assert from_unix_nano(-1).isoformat() == "1969-12-31T23:59:59.999999+00:00"
    assert from_unix_nano(10**30) == datetime.max.replace(tzinfo=timezone.utc)
    assert from_unix_nano(-(10**30)) == datetime.min.replace(tzinfo=timezone.utc)


@given(st.datetimes(timezones=st.just(timezone.utc)))
def test_datetime_there_and_back(moment):
    """Any datetime comes back exactly."""
    assert from_unix_nano(to_unix_nano(moment)) == moment


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("0s", 0),
        ("12ns", 12),
        ("500us", 500_000),
        ("500 µs", 500_000),
        ("250ms", 250_000_000),
        ("1.5s", 1_500_000_000),
        ("5m", 300 * S),
        ("2h", 7_200 * S),
        ("1d", 86_400 * S),
        ("1m 30s", 90 * S),
    ],
)
def test_duration(text: str, nanos: int) -> None:
    """A duration can have any unit, and several of them."""
    assert parse_duration(text) == nanos


@pytest.mark.parametrize("text", ["", "5", "fast", "-1s", "1s-", "5 parsecs"])
def test_invalid_duration(text: str) -> None:
    """A number without a unit is refused, since its unit is unknown."""
    with pytest.raises(ConfigurationError, match=r"^invalid duration '.*': expected a number with"):
        parse_duration(text)
