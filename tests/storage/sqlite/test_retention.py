"""Deleting the oldest records, by the file's size and by their age."""

from __future__ import annotations

from rimp_otel import SQLiteStorage, TelemetryConfig, TelemetryData, TelemetryEvent
from rimp_otel.models.records import ResourceInfo
from rimp_otel.storage.sqlite.writer import Retention
from tests.storage.sqlite.databases import SECOND, batch, is_whole, messages, query


def test_by_age(tmp_path):
    """What is older goes with the next batch, out of the index too."""
    path = tmp_path / "telemetry.db"
    storage = SQLiteStorage(path)
    storage._writer._retention = Retention(age=60.0, clock=lambda: 1_000.0)
    storage.store(batch("old", time=939 * SECOND))
    storage.store(batch("new", time=940 * SECOND))
    assert messages(storage.retrieve()) == ["new"]
    assert messages(storage.search("old")) == []
    assert storage.stats().deleted == 1
    assert is_whole(path)
    storage.close()


def test_by_size(tmp_path):
    """The file stays about as large as it may be, with the newest records."""
    path = tmp_path / "telemetry.db"
    storage = SQLiteStorage(path, retain_size=400_000)
    for number in range(60):
        texts = [f"{number} {i} {'x' * 500}" for i in range(40)]
        storage.store(batch(*texts, time=(number + 1) * SECOND))
    found = messages(storage.retrieve())
    assert found[-1].startswith("59 39 ")
    assert 0 < len(found) < 1_000
    assert storage.stats().deleted == 2_400 - len(found)
    storage.close()
    assert path.stat().st_size < 1_500_000
    assert is_whole(path)


def test_space_is_given_back(tmp_path):
    """Where less is kept than before."""
    path = tmp_path / "telemetry.db"
    storage = SQLiteStorage(path)
    for number in range(20):
        storage.store(
            batch(*(f"{i} {'x' * 1_000}" for i in range(500)), time=(number + 1) * SECOND)
        )
    storage.close()
    before = path.stat().st_size
    storage = SQLiteStorage(path, retain_size=400_000)
    for number in range(50):
        storage.store(batch("later", time=(100 + number) * SECOND))
    assert "later" in messages(storage.retrieve())
    storage.close()
    assert path.stat().st_size < before / 3
    assert is_whole(path)


def test_resources_go_with_their_last_record(tmp_path):
    """Those of many short-lived processes are not kept for ever."""
    path = tmp_path / "telemetry.db"
    storage = SQLiteStorage(path)
    storage._writer._retention = Retention(age=60.0, clock=lambda: 1_000.0)
    for number in range(3):
        event = TelemetryEvent(
            "app",
            "x",
            time_unix_nano=(900 + 40 * number) * SECOND,
            resource=ResourceInfo({"service.name": f"s{number}"}),
        )
        storage.store(TelemetryData(events=[event]))
    assert query(path, "SELECT name FROM origins WHERE kind = 'resource'") == [("s1",), ("s2",)]
    assert [e.resource.attributes for e in storage.retrieve().events] == [
        {"service.name": "s1"},
        {"service.name": "s2"},
    ]
    storage.close()


def test_as_configured(tmp_path):
    """By the same fields as files."""
    config = TelemetryConfig(
        storage_backend="sqlite", storage_path=tmp_path / "x.db", retain_size=7, retain_age=8.0
    )
    assert SQLiteStorage.from_config(config)._writer._retention[:2] == (7, 8.0)
