"""Searching the messages of log records."""

from __future__ import annotations

import pytest

from rimp_otel import ConfigurationError, EventType, SQLiteStorage, TelemetryData, TelemetryEvent
from rimp_otel.storage.sqlite import connection, schema
from tests.storage.sqlite.databases import SECOND, batch, is_whole, messages, query

TEXTS = [
    "Connection refused by peer",
    "connection-reset after 100% of timeouts",
    "Größe überschritten: 'a_b' \"quoted\"",
    "time is up",
]


@pytest.fixture(params=["indexed", "not indexed"])
def storage(request, tmp_path, monkeypatch):
    """A storage with an index of messages, and one without, as if SQLite had no FTS5."""
    if request.param == "not indexed":
        monkeypatch.setattr(schema, "knows_fts5", lambda: False)
    elif not connection.knows_fts5():
        pytest.skip("this SQLite has no FTS5")
    storage = SQLiteStorage(tmp_path / "telemetry.db")
    storage.store(batch(*TEXTS))
    yield storage
    storage.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("refused", [0]),
        ("CONNECTION", [0, 1]),
        ("peer connection", [0]),
        ("connection time*", [1]),
        ("time*", [1, 3]),
        ("connection-reset", [1]),
        ("100%", [1]),
        ("a_b", [2]),
        ('"quoted"', [2]),
        ("überschritten", [2]),
        ("peer AND OR NOT", []),
        ("nothing", []),
    ],
)
def test_words(storage, text, expected):
    """All words are found, in any order and case; SQL's special characters are not special."""
    assert messages(storage.search(text)) == [TEXTS[i] for i in expected]


def test_whole_words_with_an_index(storage):
    """Whole words are found with an index, parts of words without."""
    indexed = schema.knows_fts5()
    assert messages(storage.search("refuse")) == ([] if indexed else TEXTS[:1])
    assert messages(storage.search("uber*")) == ([TEXTS[2]] if indexed else [])


def test_with_a_range_conditions_and_a_limit(storage):
    """Searching takes what retrieve takes."""
    severe = TelemetryEvent("a", "connection lost", EventType.ERROR, time_unix_nano=2 * SECOND)
    storage.store(TelemetryData(events=[severe]))
    assert messages(storage.search("connection", severity=17)) == ["connection lost"]
    assert messages(storage.search("connection", end_time=2)) == TEXTS[:2]
    assert messages(storage.search("connection", limit=2)) == [TEXTS[1], "connection lost"]
    assert messages(storage.search("connection", attributes={"x": 1})) == []


def test_bodies_that_are_no_text(storage):
    """Bodies that are not text are searched as JSON."""
    storage.store(TelemetryData(events=[TelemetryEvent("a", "", body={"user": ["ada", 7]})]))
    assert [event.body for event in storage.search("ada").events] == [{"user": ["ada", 7]}]


@pytest.mark.parametrize("text", ["", "  ", None, 7, "\0"])
def test_no_word_is_refused(storage, text):
    """A search for no word is refused: it would find everything."""
    with pytest.raises(ConfigurationError, match="text must hold at least one word, got "):
        storage.search(text)


def test_nul_and_odd_words(storage):
    """Odd words find nothing, and break nothing."""
    for text in ("a\0b", "***", "--", '"', "'", "\\", "NEAR(", "message:x", "(", "^x", "é" * 5_000):
        assert storage.search(text).spans == []


def test_an_index_that_came_later(tmp_path, monkeypatch):
    """An index is made of what is there, a part with each batch; all is found meanwhile."""
    monkeypatch.setattr(schema, "knows_fts5", lambda: False)
    path = tmp_path / "telemetry.db"
    old = SQLiteStorage(path)
    old.store(batch(*(f"old {i}" for i in range(5_000))))
    old.close()
    monkeypatch.undo()
    storage = SQLiteStorage(path)
    indexed = []
    for i in range(4):
        storage.store(batch(f"new {i}", time=2 * SECOND))
        assert messages(storage.search("4999")) == ["old 4999"]
        assert messages(storage.search(f"new {i}")) == [f"new {i}"]
        indexed += query(path, "SELECT indexed_to FROM state")
    assert indexed == [(2_001,), (4_002,), (5_003,), (5_004,)]
    assert is_whole(path)
    storage.close()


def test_written_by_both(tmp_path, monkeypatch):
    """What a process without FTS5 has added is indexed by the next one with it."""
    path = tmp_path / "telemetry.db"
    SQLiteStorage(path).store(batch("one"))
    monkeypatch.setattr(schema, "knows_fts5", lambda: False)
    SQLiteStorage(path).store(batch("two"))
    monkeypatch.undo()
    storage = SQLiteStorage(path)
    assert messages(storage.search("two")) == ["two"]
    storage.store(batch("three"))
    assert query(path, "SELECT indexed_to, next_id FROM state") == [(3, 4)]
    assert [messages(storage.search(word)) for word in ("one", "two", "three")] == [
        ["one"],
        ["two"],
        ["three"],
    ]
    storage.close()
