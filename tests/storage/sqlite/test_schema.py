"""The tables, their versions, and what is made of older ones."""

from __future__ import annotations

import pytest

from rimp_otel import SQLiteStorage, StorageError
from rimp_otel.storage.sqlite import schema
from tests.contract.samples import everything
from tests.storage.sqlite.databases import batch, is_whole, messages, query, stored


@pytest.fixture
def path(tmp_path):
    """The path of a database with one record."""
    path = tmp_path / "telemetry.db"
    storage = SQLiteStorage(path)
    storage.store(batch("one"))
    storage.close()
    return path


def test_says_whose_it_is(path):
    """The file says whose it is, and its version."""
    assert query(path, "PRAGMA application_id") == [(0x52494D50,)]
    assert query(path, "PRAGMA user_version") == [(1,)]
    assert query(path, "PRAGMA auto_vacuum") == [(2,)]


def test_a_newer_version_is_refused(path):
    """A newer version is refused for reading and writing, and the message says what to do."""
    query(path, "PRAGMA user_version = 9")
    storage = SQLiteStorage(path)
    for action in (storage.retrieve, lambda: storage.store(batch("two"))):
        with pytest.raises(StorageError, match=r"its schema is 9, known here is 1\); upgrade rimp"):
            action()
    query(path, "PRAGMA user_version = 1")
    assert stored(path) == ["one"]


@pytest.fixture
def next_version(monkeypatch):
    """Pretend that there is a further version."""
    further = ("CREATE TABLE further (x)", "INSERT INTO further SELECT count(*) FROM records")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, further))


def test_an_older_version_is_brought_up_to_date(path, next_version):
    """Writing brings an older version up to date."""
    storage = SQLiteStorage(path)
    with pytest.raises(StorageError, match="an older rimp-otel made it; record into it once"):
        storage.retrieve()
    storage.store(batch("two"))
    assert messages(storage.retrieve()) == ["one", "two"]
    assert query(path, "PRAGMA user_version") == [(2,)]
    assert query(path, "SELECT x FROM further") == [(1,)]
    storage.close()
    SQLiteStorage(path).store(batch("three"))
    assert query(path, "SELECT x FROM further") == [(1,)]
    assert is_whole(path)


def test_a_migration_that_fails_changes_nothing(path, monkeypatch):
    """A failed migration changes nothing, and is an error that says so."""
    broken = ("CREATE TABLE further (x)", "INSERT INTO nowhere VALUES (1)")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
        with pytest.raises(StorageError, match="no such table: nowhere"):
            SQLiteStorage(path).store(batch("two"))
    assert query(path, "PRAGMA user_version") == [(1,)]
    assert stored(path) == ["one"]


def test_views_for_whoever_asks_with_sql(tmp_path):
    """The views show spans, logs and metrics, with ids in hex."""
    path = tmp_path / "telemetry.db"
    storage = SQLiteStorage(path)
    storage.store(everything())
    storage.close()
    assert query(path, "SELECT trace_id, name, service, duration, status FROM spans") == [
        ("80000000000000000000000000000001", "checkout", "shop", 250, 2),
        ("00000000000000000000000000000001", "bare", "unnamed", None, 0),
    ]
    found = query(path, "SELECT span_id, name, severity, message FROM logs WHERE severity > 9")
    assert found == [("8000000000000000", "login.failed", 14, "login")]
    assert query(path, "SELECT name FROM metrics WHERE service = 'shop' ORDER BY time") == [
        (name,)
        for name in ["gauge", "gauge", "novalue", "sum", "histogram", "exponential", "summary"]
    ]


@pytest.mark.parametrize(
    ("conditions", "index"),
    [
        ({"start_time": 1, "end_time": 2, "limit": 10}, "records_time"),
        ({"trace_id": 7, "start_time": 1, "end_time": 2}, "records_trace"),
    ],
)
def test_indexes_are_used(path, conditions, index):
    """Queries by time and by trace use the indexes."""
    from rimp_otel.storage.base import Selection
    from rimp_otel.storage.sqlite.query import SelectionQuery

    times = {name: conditions.pop(name, None) for name in ("start_time", "end_time", "limit")}
    asked = SelectionQuery(Selection.of(*times.values(), **conditions))
    plan = query(path, f"EXPLAIN QUERY PLAN {asked.sql}", *asked.values)
    assert f"USING INDEX {index}" in plan[0][3]
