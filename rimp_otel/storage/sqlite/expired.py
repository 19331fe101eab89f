"""Records that were deleted before they were forwarded, each by its number, in a table of their own.

A cursor that passes a number finds the record, or finds it here: so each counts once, whoever deletes
meanwhile. The table is made when it is first needed, so that no older program minds it.
"""

from __future__ import annotations

from collections.abc import Sequence

from rimp_otel.storage.sqlite.connection import DatabaseConnection

__all__ = ["count_expired", "forget_expired", "note_expired"]

_CREATE = (
    "CREATE TABLE IF NOT EXISTS forward_expired (id INTEGER PRIMARY KEY, signal INTEGER NOT NULL)"
)
_COUNT = "SELECT count(*) FROM forward_expired WHERE id > ? AND id <= ? AND signal = ?"


def note_expired(db: DatabaseConnection, records: Sequence[tuple[int, int]]) -> None:
    """Note records that are deleted, by their numbers and those of their signals.

    Called in the transaction that deletes them.
    """
    if records:
        db.execute(_CREATE)
        db.change_many("INSERT OR IGNORE INTO forward_expired VALUES (?, ?)", records)


def forget_expired(db: DatabaseConnection, passed: Sequence[int]) -> None:
    """Forget the notes that all destinations have passed.

    Args:
        db: in a transaction that writes.
        passed: for each signal, the last record that all of them have dealt with.
    """
    if _has_table(db):
        for signal, last in enumerate(passed):
            db.change("DELETE FROM forward_expired WHERE id <= ? AND signal = ?", (last, signal))


def count_expired(db: DatabaseConnection, after: int, last: int, signal: int) -> int:
    """Return how many records of a signal were deleted with numbers in ``(after, last]``."""
    if not _has_table(db):
        return 0
    ((count,),) = db.execute(_COUNT, (after, last, signal))
    return int(count)


def _has_table(db: DatabaseConnection) -> bool:
    sql = "SELECT 1 FROM sqlite_master WHERE name = 'forward_expired' AND type = 'table'"
    return bool(db.execute(sql))
