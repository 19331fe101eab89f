"""What a crash suite has to know of a storage: where it lies, and how its records are counted."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.sqlite.recording import SQLiteRecording
from rimp_otel.storage.sqlite.schema import DatabaseLayout
from tests.crash.audit import Found, by_reader, found_in, in_files, note_record, nothing

__all__ = ["BACKENDS", "Backend"]


class Backend(NamedTuple):
    """A storage, and the ways to read it."""

    #: As TelemetryConfig's ``storage_backend`` has it.
    name: str
    #: Of the recording, in a directory.
    path: str
    layout: Callable[[Path], Layout]
    #: Counts by the package's own reader, which also sees what is in the journals.
    by_reader: Callable[[Path], Found]
    #: Counts without the package, after a recovery.
    counted: Callable[[Path], Found]

    def left(self, path: Path) -> list[Path]:
        """Return the files in the journals, but for their locks."""
        layout = self.layout(path)
        found = [file for slot in layout.slots() for file in layout.journal(slot).iterdir()]
        return sorted(file for file in found if file.name != "lock")


def by_database_reader(path: Path) -> Found:
    """Read with ``SQLiteRecording``, which changes nothing."""
    reader, found = SQLiteRecording(path), nothing()
    for data in reader.poll(final=True):
        found = found_in(data, found)
    return found._replace(damaged=[str(damage) for damage in reader.damaged])


def in_database(path: Path) -> Found:
    """Read with SQL and a JSON parser; what SQLite itself finds wrong is damaged."""
    found = nothing()
    if not path.exists():
        return found
    with contextlib.closing(sqlite3.connect(path)) as database:
        (verdict,) = database.execute("PRAGMA integrity_check").fetchone()
        if verdict != "ok":
            found.damaged.append(verdict)
        with contextlib.suppress(sqlite3.OperationalError):  # where there is no FTS5
            database.execute("INSERT INTO messages (messages, rank) VALUES ('integrity-check', 1)")
        rows = database.execute(
            "SELECT signal, text, origins.head, origins.tail"
            " FROM records LEFT JOIN origins ON origins.id = metric"
        )
        for signal, text, head, tail in rows:
            record = json.loads(text if head is None else f"{head}{text}{tail}")
            note_record(("spans", "logRecords", "metrics")[signal], record, found)
    return found


BACKENDS = {
    "file": Backend("file", "telemetry", Layout, by_reader, in_files),
    "sqlite": Backend("sqlite", "telemetry.db", DatabaseLayout, by_database_reader, in_database),
}
"""By name."""
