"""Deletes the oldest records, a few with each batch, so that nobody waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from rimp_otel.errors import StorageError
from rimp_otel.storage.sqlite.connection import Connection
from rimp_otel.storage.sqlite.rows import LARGEST_TIME

__all__ = ["Retention"]

_LEAST, _TIMES_ARRIVED = 256, 2
# Pages that are given back to the disk at once; and that stay with the file, for what comes next.
_GIVEN_BACK, _KEPT = 256, 1_024
_OLDEST = "SELECT id FROM records WHERE time <= ? ORDER BY time, id LIMIT ?"
_UNINDEX = (
    "INSERT INTO messages (messages, rowid, message) SELECT 'delete', id, message FROM records"
    " WHERE id = ? AND id <= (SELECT indexed_to FROM state) AND message IS NOT NULL"
)
_UNUSED = (
    "DELETE FROM origins WHERE last_record <"
    " (SELECT coalesce(min(id), (SELECT next_id FROM state)) FROM records)"
)


class Retention(NamedTuple):
    """What is kept.

    Each batch makes room for about twice its records, so that a file which has become too large,
    or its records too old, shrinks steadily.
    """

    #: Bytes of the file that may be in use; None for any number.
    size: int | None = None
    #: Seconds; None for ever.
    age: float | None = None
    #: Seconds since the epoch.
    clock: Callable[[], float] = time.time

    def run(self, db: Connection, has_index: bool, arrived: int) -> int:
        """Deletes what is not to be kept any more, as far as it has to be done now.

        Args:
            db: may write; not in a transaction.
            has_index: whether there is an index of messages.
            arrived: records that were just stored.

        Returns:
            How many records were deleted; 0 where that was not possible now.
        """
        if self.size is None and self.age is None:
            return 0
        try:
            before = self._before(db)
            if before is None:
                return 0
            db.execute("BEGIN IMMEDIATE")
            with db.committing():
                deleted = _delete(db, before, max(_LEAST, _TIMES_ARRIVED * arrived), has_index)
            _give_back(db)
        except StorageError:
            return 0  # the next batch brings the next attempt
        return deleted

    def _before(self, db: Connection) -> int | None:
        """Records of up to this time may go; None for none."""
        if self.size is not None and _size_in_use(db) > self.size:
            return LARGEST_TIME
        if self.age is None:
            return None
        before = round((self.clock() - self.age) * 1e9) - 1
        found = db.execute("SELECT 1 FROM records WHERE time <= ? LIMIT 1", (before,))
        return before if found else None


def _delete(db: Connection, before: int, most: int, has_index: bool) -> int:
    ids = db.execute(_OLDEST, (before, most))
    if has_index:
        db.change_many(_UNINDEX, ids)
    db.change_many("DELETE FROM records WHERE id = ?", ids)
    db.change(_UNUSED)
    return len(ids)


def _size_in_use(db: Connection) -> int:
    return (_pragma(db, "page_count") - _pragma(db, "freelist_count")) * _pragma(db, "page_size")


def _give_back(db: Connection) -> None:
    if _pragma(db, "freelist_count") > _KEPT:
        db.run(f"PRAGMA incremental_vacuum({_GIVEN_BACK})")


def _pragma(db: Connection, name: str) -> int:
    ((value,),) = db.execute(f"PRAGMA {name}")
    return int(value)
