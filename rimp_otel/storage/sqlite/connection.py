"""One connection to a database file: how it is opened, and how its errors are reported."""

from __future__ import annotations

import os
import random
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from rimp_otel.errors import ConfigurationError, StorageError
from rimp_otel.fsutil import lock_file, unlock_file
from rimp_otel.storage.sqlite.fork_gate import FORK_GATE

__all__ = [
    "SUFFIXES",
    "DatabaseConnection",
    "check_database_file",
    "create_database_file",
    "is_locked",
    "knows_fts5",
    "retry_while_locked",
]


# --- The file of a database.

SUFFIXES = ("-wal", "-shm")
"""What SQLite keeps beside a database that is open, and nobody else may touch."""

# Seconds. Making a file takes a millisecond.
_MAX_WAIT, _PAUSE = 1.0, 0.001


def create_database_file(path: Path) -> None:
    """Create an empty file, readable by its owner alone, if there is none.

    Raises:
        StorageError: it cannot be created, or is not a regular file.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.path.lexists(path):
            _create_while_locked(path)
    except OSError as error:
        raise StorageError(
            f"cannot record into {path}: {error.strerror or error}; "
            "give a path to a file that can be written"
        ) from error
    check_database_file(path)


def _create_while_locked(path: Path) -> None:
    """Create the file while nobody else does.

    What a removed database left beside it would spoil the new one.
    """
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        until = time.monotonic() + _MAX_WAIT
        while not lock_file(directory):
            if time.monotonic() >= until:
                raise StorageError(f"cannot record into {path}: another process is creating it")
            time.sleep(_PAUSE)
        if not os.path.lexists(path):
            for suffix in SUFFIXES:
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            _create_file(path)
    finally:
        unlock_file(directory)
        os.close(directory)


def _create_file(path: Path) -> None:
    # Not opened, if possible: to close any descriptor of the file would release the locks that
    # SQLite holds on it in this process.
    try:
        os.mknod(path, 0o600 | stat.S_IFREG)
    except (AttributeError, PermissionError):  # pragma: no cover - other systems than Linux
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def check_database_file(path: Path) -> os.stat_result:
    """Return the status of a file; raise if it is not a regular file, or a link to one.

    Raises:
        StorageError: it is something else, or does not exist.
    """
    try:
        status = os.lstat(path)
    except OSError as error:
        raise StorageError(f"cannot open {path}: {error.strerror or error}") from error
    if stat.S_ISLNK(status.st_mode):
        raise StorageError(f"cannot open {path}: it is a symbolic link; give the path of the file")
    if stat.S_ISDIR(status.st_mode):
        raise StorageError(
            f"cannot open {path}: it is a directory; give the path of a file, such as"
            f" {path / 'telemetry.db'}"
        )
    if not stat.S_ISREG(status.st_mode):
        raise StorageError(f"cannot open {path}: it is not a regular file")
    return status


# --- The connection.

try:
    import sqlite3
except ImportError:  # pragma: no cover - a Python that was built without it
    sqlite3 = None  # type: ignore[assignment]

T = TypeVar("T")

_NO_CHECKPOINT = 1006  # SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE
_FIRST_PAUSE, _MAX_PAUSE = 0.001, 0.01

_CURES = {
    "locked": "another process has been writing it for too long",
    "full": "make room on the disk",
    "readonly": "it, or its directory, cannot be written",
    "malformed": "it is damaged: move it away, and another is made",
    "not a database": "it is something else: give another path",
    "disk i/o": "the device refused, or the file was changed from outside",
    "unable to open": "it, or its directory, cannot be read and written",
}


class DatabaseConnection:
    """A connection, for one thread at a time, and for the process that made it.

    Not made by ``sqlite3.connect``, which instrumentation replaces: recording its own statements, a
    recording would never end. To be opened and used within ``FORK_GATE.use``; whoever keeps it for
    later says so by ``is_busy``, and must be prepared to find it closed.

    Args:
        path: of a file that is there.
        mode: "rw" or "ro", as in SQLite's URIs, or "immutable".

    Raises:
        StorageError: it cannot be opened.
    """

    def __init__(self, path: Path, mode: str = "rw") -> None:
        if sqlite3 is None:  # pragma: no cover
            raise ConfigurationError("this Python was built without sqlite3: use files instead")
        self.path = path
        self._db: Any = None
        #: True while a thread uses it; False lets a fork close it.
        self.is_busy = True
        status = check_database_file(path)
        self.file_id = status.st_dev, status.st_ino
        if self.file_id in FORK_GATE.inherited:
            raise StorageError(
                f"cannot open {path}: this process was forked while its parent was using the file;"
                " start processes that record by spawning them"
            )
        self._pid = os.getpid()
        query = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
        uri = f"{Path(os.path.abspath(path)).as_uri()}?{query}"
        with _sqlite_errors(path, "open"):
            self._db = sqlite3.Connection(
                uri, timeout=0.0, isolation_level=None, check_same_thread=False, uri=True
            )
            FORK_GATE.opened(self)
            # Nothing is sorted in a shared directory; and a file's views call nothing.
            self._db.execute("PRAGMA temp_store = MEMORY")
            self._db.execute("PRAGMA trusted_schema = OFF")

    @property
    def is_open(self) -> bool:
        """True if it can be used, by this process."""
        return self._db is not None and self._pid == os.getpid()

    @contextmanager
    def _using(self, what: str) -> Iterator[Any]:
        # A fork from C runs no hooks.
        if not self.is_open:
            raise StorageError(f"cannot {what} {self.path}: the connection was closed")
        with _sqlite_errors(self.path, what):
            yield self._db

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Run one statement; return all of its rows.

        Raises:
            StorageError: the statement failed.
        """
        with self._using("use") as db:
            return list(db.execute(sql, values).fetchall())

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run one statement; return how many rows it changed.

        Raises:
            StorageError: the statement failed.
        """
        with self._using("write") as db:
            return int(db.execute(sql, values).rowcount)

    def change_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each row of values.

        Raises:
            StorageError: the statement failed.
        """
        with self._using("write") as db:
            db.executemany(sql, rows)

    def run(self, sql: str) -> None:
        """Run a statement to its end that returns no rows, but needs several steps.

        Raises:
            StorageError: the statement failed.
        """
        with self._using("write") as db:
            db.executescript(sql)

    def pages(self, sql: str, values: Sequence[Any], size: int) -> Iterator[list[Any]]:
        """Iterate over the rows of a query, ``size`` at a time.

        Raises:
            StorageError: the statement failed.
        """
        with self._using("read") as db:
            cursor = db.execute(sql, values)
        while True:
            with self._using("read"):
                rows = cursor.fetchmany(size)
            if not rows:
                return
            yield rows

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Commit the transaction at the end, or roll it back if something fails.

        Raises:
            StorageError: it could not be committed.
        """
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            self.roll_back()
            raise

    def roll_back(self) -> None:
        """Roll a transaction back, if one is open; if that fails, close the connection."""
        try:
            if self.is_open and self._db.in_transaction:
                self.execute("ROLLBACK")
        except StorageError:
            self.close()

    def close(self) -> None:
        """Close the connection; one that was inherited is left alone."""
        if not self.is_open:
            return
        db, self._db = self._db, None
        FORK_GATE.closed(self)
        try:
            with _sqlite_errors(self.path, "close"):
                db.close()
        except StorageError:
            pass  # what was committed is in the file

    def __del__(self) -> None:
        try:
            if self._db is not None and not self.is_open:
                FORK_GATE.inherit(self)
            self.close()
        except Exception:  # half made, or the interpreter is being taken down
            pass

    def close_before_fork(self) -> None:
        """Close the connection, if possible without moving the log into the database, which takes
        long."""
        if self.is_open and hasattr(self._db, "setconfig"):  # Python 3.12
            self._db.setconfig(_NO_CHECKPOINT, True)
        self.close()

    def abandon(self) -> Any:
        """Return what it holds, unclosed, and forget it."""
        db, self._db = self._db, None
        return db


def retry_while_locked(action: Callable[[], T], seconds: float) -> T:
    """Return what ``action`` returns; call it again while the database is locked.

    A fork may happen in between, and close the connection.

    Raises:
        StorageError: it is still locked after so many seconds; or something else failed.
    """
    until, pause = time.monotonic() + seconds, _FIRST_PAUSE
    while True:
        try:
            return action()
        except StorageError as error:
            if not is_locked(error) or time.monotonic() >= until:
                raise
        with FORK_GATE.pause():
            time.sleep(pause * random.random())
        pause = min(2 * pause, _MAX_PAUSE)


@contextmanager
def _sqlite_errors(path: Path, what: str) -> Iterator[None]:
    """Turn SQLite's errors into StorageErrors, but for those that are the record's own fault."""
    try:
        yield
    except (sqlite3.DataError, sqlite3.IntegrityError):
        raise
    except sqlite3.Error as error:
        text = str(error).lower()
        cures = [cure for words, cure in _CURES.items() if words in text]
        cure = f"; {cures[0]}" if cures else ""
        raise StorageError(f"cannot {what} {path}: {error}{cure}") from error


def is_locked(error: StorageError) -> bool:
    """Return True if the only reason is that another connection holds the database."""
    text = str(error.__cause__).lower()
    return "locked" in text or "busy" in text


@lru_cache(maxsize=1)
def knows_fts5() -> bool:
    """Return True if this build of SQLite has full-text search."""
    with FORK_GATE.use():
        db = sqlite3.Connection(":memory:")
        try:
            db.execute("CREATE VIRTUAL TABLE probe USING fts5 (text)")
        except sqlite3.Error:
            return False
        finally:
            db.close()
    return True
