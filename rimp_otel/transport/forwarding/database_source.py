"""The source of a recording in a database."""

from __future__ import annotations

from pathlib import Path

from rimp_otel.models.records import Signal
from rimp_otel.storage.sqlite.stored import RecordPlace, StoredPage, last_stored, read_stored
from rimp_otel.transport.forwarding.cursor import Cursor
from rimp_otel.transport.forwarding.ledger import DAMAGED, Ledger
from rimp_otel.transport.forwarding.sources import Portion, PortionLimits, intended_limits

__all__ = ["DatabaseSource"]


class DatabaseSource:
    """Reads the records of a database in the order in which they arrived.

    Args:
        path: of the database.
        signal: whose records.
        cursor: where it stands; moved by ``commit``.
        limits: of a portion.
        once: True to read what is there at the first call, and nothing that comes later.
        lock_timeout: seconds to wait while the database is locked.
    """

    def __init__(
        self,
        path: Path,
        signal: Signal,
        cursor: Cursor,
        limits: PortionLimits = PortionLimits(),  # noqa: B008
        once: bool = False,
        lock_timeout: float = 5.0,
    ) -> None:
        self._path = path
        self._signal = signal
        self._cursor = cursor
        self._limits = limits
        self._once = once
        self._timeout = lock_timeout
        self._until: int | None = None
        self._page: StoredPage | None = None
        #: Nothing is passed over.
        self.failure = ""

    def next(self) -> Portion | None:
        """Return the next portion; None if there is nothing more now.

        Raises:
            StorageError: the database cannot be read.
        """
        if self._once and self._until is None:
            self._until = last_stored(self._path, self._timeout)
        place = RecordPlace(self._cursor.record, self._cursor.anchor)
        size, records = intended_limits(self._cursor, self._limits)
        self._page = page = read_stored(
            self._path, self._signal, place, self._until, size, records, self._timeout
        )
        if page is None:
            return None
        if page.records or page.damaged or page.expired:
            return Portion(page.lines, page.records, f"{place.record}:{place.anchor}")
        self.commit()  # past other signals' records, so that they are not read again
        return None

    def take_damaged(self) -> int:
        """Return 0: records that cannot be read are in the ledger."""
        return 0

    def commit(self) -> None:
        """Move the cursor behind the last portion."""
        page, self._page = self._page, None
        if page is None:
            return
        cursor = self._cursor
        if page.is_another:
            cursor.repeated += cursor.ledger.passed
        cursor.record, cursor.anchor = page.place
        damaged = {DAMAGED: page.damaged} if page.damaged else {}
        cursor.ledger += Ledger(expired=page.expired, refused=damaged)

    def close(self) -> None:
        """Do nothing: nothing is held open."""
        self._page = None
