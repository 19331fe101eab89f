"""The header of a segment: what it says survives any cut between two stores."""

from __future__ import annotations

from contextlib import suppress

import pytest

from rimp_otel.journal.format import HEADER_SIZE, Header, Intent, read_header
from rimp_otel.journal.target import End
from rimp_otel.models.records import Signal

TRACES, LOGS, METRICS = tuple(Signal)


class Words(list):
    """Memory that a process dies in after a number of stores."""

    def __init__(self):
        super().__init__([0] * (HEADER_SIZE // 8))
        self.left = 10**9

    def __setitem__(self, index, value):
        if self.left <= 0:
            raise InterruptedError
        self.left -= 1
        super().__setitem__(index, value)

    def to_bytes(self):
        """As it lies in the file."""
        return b"".join(word.to_bytes(8, "little") for word in self)


@pytest.fixture
def words():
    """The memory of a new header."""
    words = Words()
    header = Header(words)
    header.initialize(7)
    header.complete()
    return words


def test_new_header(words):
    """Nothing is stored yet."""
    state = read_header(words.to_bytes())
    assert state.number == 7
    assert state.stored_until == dict.fromkeys(tuple(Signal), HEADER_SIZE)
    assert state.file_ends == dict.fromkeys(tuple(Signal), End(0, 0))
    assert state.intent is None


def test_incomplete_header():
    """Is none, whatever else it holds."""
    words = Words()
    Header(words).initialize(7)
    assert read_header(words.to_bytes()) is None
    assert read_header(b"RIMPJNL1") is None


def test_intent_and_finish(words):
    """The one says what is being stored, the other that it has been."""
    header = Header(words)
    intent = Intent(LOGS, HEADER_SIZE, 5_000, End(3, 100), 50)
    header.intend(intent)
    assert header.state().intent == intent
    header.finish(LOGS, 5_000, End(3, 150), 9)
    state = header.state()
    assert (state.intent, state.generation) == (None, 9)
    assert state.stored_until == {TRACES: HEADER_SIZE, LOGS: 5_000, METRICS: HEADER_SIZE}
    assert state.file_ends[LOGS] == End(3, 150)


@pytest.mark.parametrize("stores", range(22))
def test_death_between_any_two_stores(words, stores):
    """Leaves the state before or after, or an intent that decides which."""
    header = Header(words)
    header.intend(Intent(LOGS, HEADER_SIZE, 4_500, End(3, 0), 100))
    header.finish(LOGS, 4_500, End(3, 100), 1)
    words.left = stores
    with suppress(InterruptedError):
        header.intend(Intent(LOGS, 4_500, 5_000, End(3, 100), 50))
        header.finish(LOGS, 5_000, End(3, 150), 2)
    state = read_header(words.to_bytes())
    if state.intent is None:
        pair = state.stored_until[LOGS], state.file_ends[LOGS]
        assert pair in {(4_500, End(3, 100)), (5_000, End(3, 150))}
    else:
        assert state.intent == Intent(LOGS, 4_500, 5_000, End(3, 100), 50)


def test_given_up(words):
    """Is as if it had never been intended."""
    header = Header(words)
    before = header.state()
    header.intend(Intent(TRACES, HEADER_SIZE, 5_000, End(3, 100), 50))
    header.clear_intent()
    assert header.state() == before


def test_roll_back(words):
    """To what was stored at the last sync."""
    header = Header(words)
    header.finish(LOGS, 5_000, End(3, 150), 1)
    header.set_synced({LOGS: 5_000}, {LOGS: End(3, 150)})
    header.finish(LOGS, 6_000, End(3, 250), 2)
    header.roll_back()
    assert header.stored_until(LOGS) == 5_000
    assert header.state().file_ends[LOGS] == End(3, 150)


def test_roll_back_with_a_damaged_note(words):
    """To the beginning, of the file too."""
    header = Header(words)
    header.finish(LOGS, 5_000, End(3, 150), 1)
    header.set_synced({LOGS: 5_000}, {LOGS: End(3, 150)})
    words[25] ^= 1 << 20
    header.roll_back()
    assert header.stored_until(LOGS) == HEADER_SIZE
    assert header.state().file_ends[LOGS] == End(3, 0)


@pytest.mark.parametrize("bit", [0, 7, 63])
@pytest.mark.parametrize("index", range(16, 24))
def test_damaged_intent(words, index, bit):
    """Is none."""
    header = Header(words)
    header.intend(Intent(Signal.METRICS, HEADER_SIZE, 5_000, End(3, 100), 50))
    words[index] ^= 1 << bit
    assert header.state().intent is None


def test_damaged_done(words):
    """Shows, with both of what it may have been."""
    header = Header(words)
    header.set_stored_until(TRACES, 5_000)
    words[4] = 2**50
    assert header.state().stored_until == {TRACES: 0, LOGS: HEADER_SIZE, METRICS: HEADER_SIZE}
    assert header.state().candidates[TRACES] == (2**50, 5_000)
