"""The files of one writer slot that is held already: for whoever repairs what its owner left."""

from __future__ import annotations

import os
from pathlib import Path

from rimp_otel.errors import StorageError
from rimp_otel.fsutil import acquire
from rimp_otel.journal.slots import LOCK, Slot, is_owned
from rimp_otel.models.records import Signal
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.policy import FilePolicy
from rimp_otel.storage.files.sealer import Sealer
from rimp_otel.storage.files.storage import FileStorage
from rimp_otel.storage.files.writer import Writer

__all__ = ["SlotStorage", "SlotTakenError", "take_slot"]


class SlotTakenError(StorageError):
    """Somebody else holds the slot, or may."""


def take_slot(layout: Layout, number: int, take_over: bool = False) -> Slot:
    """Takes exactly this slot, which must have been there.

    Args:
        layout: of the recording.
        number: of the slot.
        take_over: also if another machine was the last to hold it, whose locks do not reach here.

    Raises:
        SlotTakenError: a living process holds it, or perhaps one of another machine.
        StorageError: it cannot be locked, such as for lack of permission.
    """

    try:
        return _take(layout, number)
    except SlotTakenError:
        if not take_over or is_owned(layout.journal(number)):
            raise
    _unsign(layout.journal(number))
    return _take(layout, number)


def _take(layout: Layout, number: int) -> Slot:
    def directory_of(other: int) -> Path:
        if other == number:
            return layout.journal(number)
        living = is_owned(layout.journal(number))
        why = "a living process records into it" if living else _WHY_NOT
        raise SlotTakenError(f"cannot take {layout.journal(number)}: {why}")

    return Slot.take(directory_of, number)


_WHY_NOT = (
    "it belongs to another user, or another machine was the last to hold it and may still do so"
    " (--take-over, if it does not)"
)


def _unsign(journal: Path) -> None:
    """Makes the lock file nobody's, unless it is held. Whoever takes the slot then does as after a
    loss of power, which that machine may have had: it looks for each record in the files."""
    try:
        file = os.open(journal / LOCK, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return  # whoever takes the slot says why
    try:
        if acquire(file):
            os.ftruncate(file, 0)
    finally:
        os.close(file)


class SlotStorage(FileStorage):
    """Appends to the files of one slot, for a journal or by itself, and seals nothing.

    Args:
        layout: of the recording.
        policy: how its files are kept.
        slot: held by the caller, who also releases it.
    """

    def __init__(self, layout: Layout, policy: FilePolicy, slot: Slot) -> None:
        super().__init__(layout.path, **policy._asdict())
        sealer = _Nothing(self._absolute, policy)
        self._own = _SlotWriter(self._absolute, policy, sealer, slot)

    def append_line(self, signal: Signal, line: bytes) -> None:
        """Appends one line, given without its end.

        Raises:
            StorageError: it could not be appended; the file is as it was.
        """
        self.append(signal, [line], lambda end, length: None)


class _Nothing(Sealer):
    """Leaves sealing to the caller."""

    def wake(self) -> None:
        """Nothing."""


class _SlotWriter(Writer):
    def __init__(self, layout: Layout, policy: FilePolicy, sealer: Sealer, slot: Slot) -> None:
        super().__init__(layout, policy, sealer, for_journal=True)
        self._given = slot

    def _take_anew(self) -> Slot:
        given = self._given
        return _Borrowed(given.number, given.directory, given._lock, given.rebooted)


class _Borrowed(Slot):
    """A slot that whoever gave it releases."""

    def release(self) -> None:
        """Nothing."""
