"""Journal targets that drain into files: ``FileJournalTarget``, and ``SlotTarget`` for repairs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from rimp_otel.batch import TelemetryData
from rimp_otel.errors import StorageError
from rimp_otel.fsutil import READ_WRITE_FLAGS, lock_file
from rimp_otel.journal.slots import LOCK, Slot, is_owned
from rimp_otel.journal.target import End, JournalTarget
from rimp_otel.models.records import Signal
from rimp_otel.process import importing
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.policy import FilePolicy, FileStats
from rimp_otel.storage.files.writer import SlotWriter

__all__ = ["FileJournalTarget", "SlotTakenError", "SlotTarget", "take_slot"]


class FileJournalTarget(JournalTarget):
    """Drains a journal into the active files of its slot, through a writer that nobody else uses.

    So where the files end stays as the journal's headers say. Each slice is appended exactly once:
    the file itself tells whether an interrupted append is complete.

    Args:
        layout: of the recording.
        policy: how its files are kept.
        shared: the writer of batches that are stored without a journal, if there is one. It is
            synced with the journal's, and its sealer seals what both have rotated.
        slot: the slot, if the caller holds it and will release it; else the writer takes one.
    """

    reverts_failed_store = True

    def __init__(
        self,
        layout: Layout,
        policy: FilePolicy,
        shared: SlotWriter | None,
        slot: Slot | None = None,
    ) -> None:
        self._layout = layout
        self._shared = shared
        sealer = None if shared is None else shared.sealer
        self._writer = SlotWriter(layout, policy, sealer, for_journal=True, slot=slot)

    def take_slot(self) -> Slot:
        """Return the slot whose files ``store`` appends to; take one if none is held."""
        return self._writer.take()

    def release_slot(self) -> None:
        """Sync and close the files, and release the slot."""
        self._writer.close()

    def store(self, signal: Signal, data: TelemetryData, before: Callable[[End, int], None]) -> End:
        """Append all lines to the signal's file, or none of them.

        Raises:
            StorageError: they could not be appended; the file is as it was.
        """
        return self._writer.append(signal, data.otlp_json(signal), before)

    def resolve_append(self, signal: Signal, start: End, length: int) -> bool:
        """Return True if an interrupted append is complete; else cut off its part.

        Raises:
            StorageError: the file cannot be read or cut off.
        """
        return self._writer.resolve_append(signal, start, length)

    def ends(self) -> dict[Signal, End]:
        """Return where the active files end, after repairing torn lines at their ends.

        Raises:
            StorageError: a file cannot be read or repaired.
        """
        return {signal: self._writer.end_of(signal) for signal in Signal}

    def lines_after(self, signal: Signal, start: End) -> list[bytes]:
        """Return the complete lines of the active file from ``start`` on.

        Raises:
            StorageError: the file cannot be read.
        """
        return self._writer.lines_after(signal, start)

    def lines_since(self, signal: Signal, time_unix_nano: int) -> Iterator[bytes]:
        """Yield the lines of the active file, and of rotated files that may reach to that time.

        Raises:
            StorageError: a file cannot be read.
        """
        with importing():
            from rimp_otel.storage.files.lines import rotated_lines_since
        file_id, _ = self._writer.end_of(signal)
        yield from self._writer.lines_after(signal, End(file_id, 0))
        yield from rotated_lines_since(self._layout.sealed, signal, time_unix_nano)

    def sync(self) -> None:
        """Force to the device what was appended since the last sync, unless the policy is "never".

        Raises:
            StorageError: the device refused. It is tried again the next time.
        """
        if self._shared is not None:
            self._shared.sync()
        self._writer.sync()

    def rotate(self) -> None:
        """Rotate the active files, if the slot is held.

        Raises:
            StorageError: a file could not be rotated; it is appended to as before.
        """
        if self._writer.is_open:
            self._writer.rotate()

    def stats(self) -> FileStats:
        """Return what this target has done in this process, without what the sealer did."""
        return self._writer.stats()


class SlotTarget(FileJournalTarget):
    """Appends to the files of one slot that the caller holds; seals nothing. For repairs.

    Args:
        layout: of the recording.
        policy: how its files are kept.
        slot: held, and later released, by the caller.
    """

    def __init__(self, layout: Layout, policy: FilePolicy, slot: Slot) -> None:
        super().__init__(layout, policy, None, slot)

    def append_line(self, signal: Signal, line: bytes) -> None:
        """Append one line, given without its end.

        Raises:
            StorageError: it could not be appended; the file is as it was.
        """
        self._writer.append(signal, [line], lambda end, length: None)


class SlotTakenError(StorageError):
    """Another process holds the slot, or may hold it."""

    def __init__(self, journal: Path, is_in_use: bool) -> None:
        #: True if a living process of this machine holds it.
        self.is_in_use = is_in_use
        why = "a living process records into it" if is_in_use else _MAY_BE_TAKEN
        super().__init__(f"cannot take {journal}: {why}")


def take_slot(layout: Layout, number: int, take_over: bool = False) -> Slot:
    """Take exactly this slot, which must exist.

    Args:
        layout: of the recording.
        number: of the slot.
        take_over: take it even if another machine was the last to hold it. Locks of another
            machine may not be visible here.

    Raises:
        SlotTakenError: a living process holds it, or perhaps one of another machine.
        StorageError: it cannot be locked, such as for lack of permission.
    """

    try:
        return _take_only(layout, number)
    except SlotTakenError:
        if not take_over or is_owned(layout.journal(number)):
            raise
    _clear_signature(layout.journal(number))
    return _take_only(layout, number)


def _take_only(layout: Layout, number: int) -> Slot:
    """Take this slot, and no other if somebody holds it."""

    def directory_of(other: int) -> Path:
        if other == number:
            return layout.journal(number)
        journal = layout.journal(number)
        raise SlotTakenError(journal, is_owned(journal))

    return Slot.take(directory_of, number)


_MAY_BE_TAKEN = (
    "it belongs to another user, or another machine was the last to hold it and may still do so"
)


def _clear_signature(journal: Path) -> None:
    """Empty the slot's lock file, unless it is held.

    Whoever takes the slot then recovers as after a loss of power, which the other machine may have
    had: it looks for each record in the files.
    """
    try:
        file = os.open(journal / LOCK, READ_WRITE_FLAGS)
    except OSError:
        return  # taking the slot will say why
    try:
        if lock_file(file):
            os.ftruncate(file, 0)
    finally:
        os.close(file)
