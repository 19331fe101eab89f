"""The tables of a recording in SQLite, how older ones become today's, and opening a database.

``records`` has one row for each record: its text as OTLP JSON, and what filters ask for in columns
beside it. ``origins`` has what stands around records: resources, scopes and metrics, once each.
``slices`` has how far each segment of a journal has been stored, in the same transaction as its
records. ``messages`` is FTS5's index of the messages of log records, if SQLite has FTS5.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rimp_otel.errors import StorageError
from rimp_otel.fsutil import find_obstacle
from rimp_otel.models.records import Signal
from rimp_otel.storage.base import RecordingLayout
from rimp_otel.storage.sqlite.connection import (
    SUFFIXES,
    DatabaseConnection,
    knows_fts5,
    retry_while_locked,
)
from rimp_otel.storage.sqlite.fork_gate import FORK_GATE

__all__ = [
    "APPLICATION_ID",
    "SIGNALS",
    "SIGNAL_NUMBERS",
    "DatabaseLayout",
    "create_schema",
    "has_current_schema",
    "has_text_index",
    "open_for_reading",
]


APPLICATION_ID = 0x52494D50
"""What SQLite's header says whose file it is: "RIMP"."""

SIGNALS = tuple(Signal)
SIGNAL_NUMBERS = {signal: number for number, signal in enumerate(SIGNALS)}
"""Signals as ``records.signal`` has them."""

_TABLES = (
    """CREATE TABLE state (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        next_id INTEGER NOT NULL,
        indexed_to INTEGER NOT NULL
    )""",
    "INSERT INTO state VALUES (1, 1, 0)",
    """CREATE TABLE origins (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        digest BLOB NOT NULL UNIQUE,
        name TEXT,
        head TEXT NOT NULL,
        tail TEXT NOT NULL,
        last_record INTEGER NOT NULL
    )""",
    """CREATE TABLE records (
        id INTEGER PRIMARY KEY,
        signal INTEGER NOT NULL,
        time INTEGER NOT NULL,
        trace_id BLOB,
        span_id BLOB,
        name TEXT,
        severity INTEGER,
        status INTEGER,
        duration INTEGER,
        message TEXT,
        resource INTEGER NOT NULL,
        scope INTEGER NOT NULL,
        metric INTEGER,
        text TEXT NOT NULL
    )""",
    "CREATE INDEX records_time ON records (time)",
    "CREATE INDEX records_trace ON records (trace_id) WHERE trace_id IS NOT NULL",
    """CREATE TABLE slices (
        place TEXT PRIMARY KEY,
        position INTEGER NOT NULL
    ) WITHOUT ROWID""",
    """CREATE VIEW spans AS
        SELECT r.id, r.time, lower(hex(r.trace_id)) AS trace_id, lower(hex(r.span_id)) AS span_id,
            r.name, o.name AS service, r.duration, r.status, r.text
        FROM records AS r JOIN origins AS o ON o.id = r.resource WHERE r.signal = 0""",
    """CREATE VIEW logs AS
        SELECT r.id, r.time, lower(hex(r.trace_id)) AS trace_id, lower(hex(r.span_id)) AS span_id,
            r.name, o.name AS service, r.severity, r.message, r.text
        FROM records AS r JOIN origins AS o ON o.id = r.resource WHERE r.signal = 1""",
    """CREATE VIEW metrics AS
        SELECT r.id, r.time, r.name, o.name AS service, r.text
        FROM records AS r JOIN origins AS o ON o.id = r.resource WHERE r.signal = 2""",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_TABLES,)
"""The statements that lead from each version to the next, the first ones from an empty file.
``PRAGMA user_version`` has a file's version."""

_STATE = """SELECT
    (SELECT application_id FROM pragma_application_id),
    (SELECT user_version FROM pragma_user_version),
    (SELECT count(*) FROM sqlite_master)"""
_INDEX = (
    "CREATE VIRTUAL TABLE messages USING fts5"
    " (message, content='records', content_rowid='id', columnsize=0)"
)


def create_schema(db: DatabaseConnection) -> None:
    """Create the tables of a new file, or bring those of an older version up to date.

    Raises:
        StorageError: the file is another program's, a newer version's, or damaged.
    """
    if _schema_version(db) == 0:
        # Can only be chosen before there is a table.
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    if _schema_version(db) < len(MIGRATIONS) or _lacks_text_index(db):
        db.execute("BEGIN IMMEDIATE")
        with db.committing():
            _migrate_schema(db)


def _migrate_schema(db: DatabaseConnection) -> None:
    for number in range(
        _schema_version(db), len(MIGRATIONS)
    ):  # again: another process may have been here
        for statement in MIGRATIONS[number]:
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {number + 1}")
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    if _lacks_text_index(db):
        db.execute(_INDEX)
        db.execute("UPDATE state SET indexed_to = 0")


def has_current_schema(db: DatabaseConnection) -> bool:
    """Return True if the tables are there, and today's; False if there are none yet.

    Raises:
        StorageError: they are another program's, or of another version.
    """
    version = _schema_version(db)
    if 0 < version < len(MIGRATIONS):
        raise StorageError(
            f"cannot read {db.path}: an older rimp-otel made it; record into it once, which brings"
            " it up to date"
        )
    return version > 0


def _schema_version(db: DatabaseConnection) -> int:
    """Return the version of the tables; 0 for an empty file.

    Raises:
        StorageError: they are another program's, or of a version that is not known here.
    """
    ((owner, version, tables),) = db.execute(_STATE)  # at one moment: it may just be being made
    if owner != APPLICATION_ID and (owner or version or tables):
        raise StorageError(
            f"cannot use {db.path}: it is a database of another program; give another path"
        )
    if version > len(MIGRATIONS):
        raise StorageError(
            f"cannot use {db.path}: a newer rimp-otel made it (its schema is {version}, known here"
            f" is {len(MIGRATIONS)}); upgrade rimp-otel, or give another path"
        )
    return int(version) if owner == APPLICATION_ID else 0


def has_text_index(db: DatabaseConnection) -> bool:
    """Return True if there is an index of messages, and this SQLite can use it."""
    return knows_fts5() and bool(
        db.execute("SELECT 1 FROM sqlite_master WHERE name = 'messages' AND type = 'table'")
    )


def _lacks_text_index(db: DatabaseConnection) -> bool:
    return knows_fts5() and not has_text_index(db)


# --- Opening a database to read it, even if nothing can be written.


@contextmanager
def open_for_reading(path: Path, seconds: float) -> Iterator[DatabaseConnection | None]:
    """Open a connection in a transaction that only reads; yield None if nothing is recorded yet.

    Args:
        path: of the file.
        seconds: how long to wait while it is locked.

    Raises:
        StorageError: it cannot be read, or is not a recording.
    """
    if not os.path.lexists(path):
        yield None
        return
    with FORK_GATE.use():
        db = _open_read_only(path, seconds)
        try:
            yield db
        finally:
            if db is not None:
                db.roll_back()
                db.close()


def _open_read_only(path: Path, seconds: float) -> DatabaseConnection | None:
    try:
        return retry_while_locked(lambda: _begin_reading(path, "rw"), seconds)
    except StorageError as error:
        for mode in _other_modes(path):
            try:
                return _begin_reading(path, mode)
            except StorageError:
                continue
        raise _explain_by_neighbours(path, error) from error


def _explain_by_neighbours(path: Path, error: StorageError) -> StorageError:
    """Return an error that names what is beside the database in the place of SQLite's own files."""
    for suffix in SUFFIXES:
        beside = path.with_name(path.name + suffix)
        reason = find_obstacle(beside)
        if reason is not None:
            return StorageError(
                f"cannot read {path}: {beside} is in the way ({reason}); move it away, or make it readable"
            )
    return error


def _other_modes(path: Path) -> list[str]:
    # Without a log, nobody is writing: then the file needs no locks, which cannot be had in a
    # directory that cannot be written.
    has_log = path.with_name(path.name + SUFFIXES[0]).exists()
    return ["ro"] if has_log else ["ro", "immutable"]


def _begin_reading(path: Path, mode: str) -> DatabaseConnection | None:
    db = DatabaseConnection(path, mode)
    try:
        db.execute("PRAGMA query_only = ON")
        db.execute("BEGIN")
        if has_current_schema(db):
            return db
    except BaseException:
        db.close()
        raise
    db.close()
    return None


# --- Files.

_SLOT = re.compile(r"\.journal(?:\.([1-9][0-9]{0,4}))?", re.ASCII)


class DatabaseLayout(RecordingLayout):
    """The paths of a database and its journals.

    For ``telemetry.db``, the journals are the directories ``telemetry.db.journal``,
    ``telemetry.db.journal.1`` and so on. (``telemetry.db-journal`` would be SQLite's.)
    """

    @property
    def directory(self) -> Path:
        """The directory that the database lies in."""
        return self.path.parent

    @property
    def forward(self) -> Path:
        """The directory of what forwarders remember: ``telemetry.db.forward``."""
        return self.path.with_name(f"{self.path.name}.forward")

    def file(self, signal: Signal, slot: int = 0) -> Path:
        """Return the path of the database, which holds all of them."""
        return self.path

    def journal(self, slot: int = 0) -> Path:
        """Return the directory of a writer slot's journal and of its lock."""
        name = f"{self.path.name}.journal{f'.{slot}' if slot else ''}"
        return self.path.with_name(name)

    def _slot_of(self, name: str) -> int | None:
        match = _SLOT.fullmatch(name.removeprefix(self.path.name))
        if match is None or not name.startswith(self.path.name):
            return None
        return int(match[1] or 0)
