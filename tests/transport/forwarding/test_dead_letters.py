"""Dead letters: OTLP JSON lines with a reason, of which the cursor knows how many count."""

from __future__ import annotations

import json

import pytest

from rimp_otel.batch import TelemetryData, decode_batch
from rimp_otel.errors import StorageError
from rimp_otel.models.records import Signal, TelemetryEvent
from rimp_otel.transport.forwarding.cursor import Cursor
from rimp_otel.transport.forwarding.dead_letters import DeadLetters
from rimp_otel.transport.forwarding.delivery import Letter


def letter(message, why='bad "quoted",\n"rimp.refused":{}'):
    """Return a letter."""
    (line,) = TelemetryData([TelemetryEvent("source", message, time_unix_nano=1)]).otlp_json(
        Signal.LOGS
    )
    return Letter(line, "by_destination", why)


@pytest.fixture
def cursor(tmp_path):
    """A cursor that is on disk."""
    cursor = Cursor(tmp_path / "logs.json")
    cursor.save()
    return cursor


def test_letters_come_back_as_they_were(cursor):
    """And are lines that any reader of OTLP JSON takes."""
    letters = DeadLetters(Signal.LOGS, cursor)
    assert list(letters) == []
    letters.append([letter("a"), letter("b", "ü")], 1)
    assert list(letters) == [letter("a"), letter("b", "ü")]
    lines = letters.path.read_bytes().splitlines()
    assert [decode_batch(line).events[0].message for line in lines] == ["a", "b"]
    assert json.loads(lines[1])["rimp.refused"] == {
        "reason": "by_destination",
        "message": "ü",
        "time": "1",
    }
    assert letters.path.stat().st_mode & 0o777 == 0o600


def test_what_the_cursor_does_not_know_is_cut_off(cursor):
    """A death between the two leaves no letter twice."""
    DeadLetters(Signal.LOGS, cursor).append([letter("a")], 1)
    cursor.save()
    DeadLetters(Signal.LOGS, cursor).append([letter("lost")], 1)  # and never saved
    again = Cursor(cursor.path)
    letters = DeadLetters(Signal.LOGS, again)
    assert list(letters) == [letter("a")]
    letters.append([letter("b")], 1)
    assert list(letters) == [letter("a"), letter("b")]


def test_a_file_has_a_bound(cursor):
    """Past it, records are only counted: they are in the recording still."""
    letters = DeadLetters(Signal.LOGS, cursor, max_size=800)
    letters.append([letter("a")], 1)
    letters.append([letter("b")] * 9, 1)
    assert list(letters) == [letter("a")]


def test_a_new_file_takes_the_place_of_the_one_before(cursor):
    """Once the cursor is saved."""
    letters = DeadLetters(Signal.LOGS, cursor)
    letters.append([letter("a"), letter("b")], 1)
    before = letters.replace([letter("b")], 2)
    assert before != letters.path
    assert list(letters) == [letter("b")]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"version":2}',
        '{"version":1,"files":[]}',
        '{"version":1,"files":{},"record":0,"anchor":"","ledger":{}}',
    ],
)
def test_a_damaged_cursor_is_named(cursor, text):
    """With what to do."""
    cursor.path.write_text(text)
    with pytest.raises(StorageError, match=r"it is damaged .*remove it"):
        Cursor(cursor.path)
