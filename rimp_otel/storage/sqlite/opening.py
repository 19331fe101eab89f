"""Opening a database file in order to read it, also where nothing can be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rimp_otel.errors import StorageError
from rimp_otel.storage.sqlite.connection import Connection, wait_for
from rimp_otel.storage.sqlite.files import SUFFIXES
from rimp_otel.storage.sqlite.gate import GATE
from rimp_otel.storage.sqlite.schema import is_readable

__all__ = ["reading"]


@contextmanager
def reading(path: Path, seconds: float) -> Iterator[Connection | None]:
    """Gives a connection in a transaction that only reads; None where nothing is recorded yet.

    Args:
        path: of the file.
        seconds: how long to wait while it is locked.

    Raises:
        StorageError: it cannot be read, or is no recording.
    """
    if not os.path.lexists(path):
        yield None
        return
    with GATE.use():
        db = _open(path, seconds)
        try:
            yield db
        finally:
            if db is not None:
                db.roll_back()
                db.close()


def _open(path: Path, seconds: float) -> Connection | None:
    try:
        return wait_for(lambda: _begin(path, "rw"), seconds)
    except StorageError as error:
        for mode in _other_modes(path):
            try:
                return _begin(path, mode)
            except StorageError:
                continue
        raise error


def _other_modes(path: Path) -> list[str]:
    # Without a log, nobody is writing: then the file needs no locks, which cannot be had in a
    # directory that cannot be written.
    has_log = path.with_name(path.name + SUFFIXES[0]).exists()
    return ["ro"] if has_log else ["ro", "immutable"]


def _begin(path: Path, mode: str) -> Connection | None:
    db = Connection(path, mode)
    try:
        db.execute("PRAGMA query_only = ON")
        db.execute("BEGIN")
        if is_readable(db):
            return db
    except BaseException:
        db.close()
        raise
    db.close()
    return None
