"""Journal targets: where a journal lives, and what its records are stored into."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from rimp_otel.batch import TelemetryData
from rimp_otel.journal.slots import Slot
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import LINE_SIZE
from rimp_otel.process import call_in_forked_child

__all__ = ["NO_FILE", "DirectoryTarget", "End", "JournalTarget"]


class End(NamedTuple):
    """A place in a signal's active file."""

    #: The file's inode; 0 where there is no file.
    file_id: int
    #: In bytes.
    offset: int


NO_FILE = End(0, 0)
"""The end of a file that does not exist."""


class JournalTarget(ABC):
    """Where a journal lives, and what its records are stored into. Each journal has one.

    ``take_slot`` runs in whichever thread opens the journal; everything else only in the thread that
    drains it, one at a time. Implementations need no lock beyond what their storage needs anyway.
    """

    #: True if a ``store`` that raises has left nothing behind. Where that is not certain, the same
    #: slice is offered again with the same ``slice_id``, also by the next process.
    reverts_failed_store = False

    #: Bytes of a journal that are stored at once, if the drain is not far behind.
    slice_size = 4 * LINE_SIZE

    @abstractmethod
    def take_slot(self) -> Slot:
        """Return the writer slot that the journal belongs to; take one if none is held.

        Raises:
            StorageError: no slot could be taken.
        """

    @abstractmethod
    def release_slot(self) -> None:
        """Release the slot, since the journal is closed."""

    @abstractmethod
    def store(self, signal: Signal, data: TelemetryData, before: Callable[[End, int], None]) -> End:
        """Store all records of ``data``, or raise.

        Args:
            signal: the one signal that ``data`` has records of.
            data: a slice of the journal. Its ``slice_id`` is the same if it is offered again.
            before: called right before the write, with the place where the write starts and its
                length in bytes, line ends included; ``NO_FILE`` and 0 if it is not a file.

        Returns:
            Where the signal's file ends after the write; ``NO_FILE`` if it is not a file.
        """

    def resolve_append(self, signal: Signal, start: End, length: int) -> bool:
        """Return True if a write that a death interrupted is complete; else cut off its part.

        Called at recovery, and only for a write whose length was not 0.
        """
        return False

    def ends(self) -> dict[Signal, End]:
        """Return where each signal's file ends, after repairing a torn line at its end.

        Empty if the records are not stored into files.
        """
        return {}

    def lines_after(self, signal: Signal, start: End) -> list[bytes]:
        """Return the complete lines of the signal's file from ``start`` on.

        Empty if ``start`` lies in another file.
        """
        return []

    def lines_since(self, signal: Signal, time_unix_nano: int) -> Iterable[bytes]:
        """Return all stored OTLP JSON lines that may hold a record of that time or a later one.

        Called after a loss of power, when headers may be older than what is stored.
        """
        return []

    def sync(self) -> None:  # noqa: B027 - most storages decide by themselves
        """Force everything that was stored to the device, before the journal deletes its copy.

        Raises:
            StorageError, OSError: the device refused. It is tried again later.
        """


class DirectoryTarget(JournalTarget):
    """A journal in a directory of its own, drained into any storage by its ``store`` method.

    Args:
        store: called with each slice; stores all of it, or raises.
        directory_of: returns the journal directory of a slot, given its number.
        lines_since: returns what ``JournalTarget.lines_since`` does; nothing by default.
        sync: forces what was stored to the device; by default the storage decides when to sync.
        slice_size: bytes that are stored at once; by default as for files.
    """

    def __init__(
        self,
        store: Callable[[TelemetryData], object],
        directory_of: Callable[[int], Path],
        lines_since: Callable[[Signal, int], Iterable[bytes]] | None = None,
        sync: Callable[[], None] | None = None,
        slice_size: int | None = None,
    ) -> None:
        if slice_size is not None:
            self.slice_size = slice_size
        self._slot: Slot | None = None
        self._store = store
        self._directory_of = directory_of
        self._lines_since = lines_since
        self._sync = sync
        # The parent's slot: an open descriptor would keep it taken after the parent's death.
        call_in_forked_child(self.release_slot)

    @classmethod
    def at(
        cls, store: Callable[[TelemetryData], object], path: str | os.PathLike[str]
    ) -> DirectoryTarget:
        """Return a target with the journals ``journal``, ``journal.1`` and so on in a directory."""
        absolute = Path(os.path.abspath(path))
        return cls(store, lambda number: absolute / (f"journal.{number}" if number else "journal"))

    def take_slot(self) -> Slot:
        """Return the slot; take one if none is held, or the one held was lost."""
        slot = self._slot
        if slot is None or not slot.is_ours or not slot.is_held:
            self.release_slot()
            slot = self._slot = Slot.take(self._directory_of)
        return slot

    def release_slot(self) -> None:
        """Release the slot, if one is held."""
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.release()

    def __del__(self) -> None:
        self.release_slot()

    def store(self, signal: Signal, data: TelemetryData, before: Callable[[End, int], None]) -> End:
        """Pass the slice to the storage. Only the storage can tell a repeated ``slice_id``."""
        before(NO_FILE, 0)
        self._store(data)
        return NO_FILE

    def lines_since(self, signal: Signal, time_unix_nano: int) -> Iterable[bytes]:
        """Return what the storage has of that time or later, if it can tell."""
        return [] if self._lines_since is None else self._lines_since(signal, time_unix_nano)

    def sync(self) -> None:
        """Force what was stored to the device, if the storage can be told to."""
        if self._sync is not None:
            self._sync()
