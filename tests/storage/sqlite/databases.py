"""What the tests of SQLiteStorage have in common."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from rimp_otel import SQLiteStorage, TelemetryData, TelemetryEvent
from tests.storage.journaled import Journaled

SECOND = 1_000_000_000


def batch(*messages: str, time: int = SECOND) -> TelemetryData:
    """Return events a nanosecond apart."""
    return TelemetryData(
        events=[
            TelemetryEvent("app", message, time_unix_nano=time + i)
            for i, message in enumerate(messages)
        ]
    )


def messages(data: TelemetryData) -> list[str]:
    """Return the messages of the events, in order."""
    return [event.message for event in data.events]


def stored(path: Path) -> list[str]:
    """Return the messages that a new storage of this path reads."""
    return messages(SQLiteStorage(path).retrieve())


def query(path: Path, sql: str, *values: object) -> list[tuple[object, ...]]:
    """Return the rows of a statement in plain SQL; commit what it changes."""
    with closing(sqlite3.connect(path)) as database, database:
        return database.execute(sql, values).fetchall()


def is_whole(path: Path) -> bool:
    """Return True if SQLite finds nothing wrong, nor in the index of messages."""
    query(path, "INSERT INTO messages (messages, rank) VALUES ('integrity-check', 1)")
    return query(path, "PRAGMA integrity_check") == [("ok",)]


def journaled(path: Path, storage: SQLiteStorage | None = None) -> Journaled:
    """Return a process that records into a database through a journal."""
    return Journaled(path, storage=storage or SQLiteStorage(path))
