"""The journals of a recording that is forwarded: those of dead processes are recovered into files,
and those of living ones waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rimp_otel.config import TelemetryConfig
from rimp_otel.errors import StorageError
from rimp_otel.journal.reader import read_backlog, read_journal_ends
from rimp_otel.journal.slots import DATA_KINDS, classify_journal_file, is_owned
from rimp_otel.models.records import Signal
from rimp_otel.storage.base import RecordingLayout, reading_errors
from rimp_otel.storage.files.journal_target import SlotTakenError, SlotTarget, take_slot
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.policy import FilePolicy
from rimp_otel.storage.sqlite.storage import SQLiteStorage, slot_target
from rimp_otel.streaming.journal_drain import Recovery, recover_journal

__all__ = ["Backlog", "recover_dead_journals"]

_NEVER = 1e9
# Recovering is no occasion to rotate by age or to delete anything.
_POLICY = FilePolicy.of(TelemetryConfig())._replace(
    rotate_age=_NEVER, retain_size=None, retain_age=None, parquet=False
)


def recover_dead_journals(layout: RecordingLayout) -> int:
    """Store what processes that are gone have left in journals; return how many records that were.

    Slots that a living process holds, or perhaps one of another machine, are left alone.

    Raises:
        StorageError: something cannot be read, or could not be stored.
    """
    records = 0
    for number in layout.slots():
        journal = layout.journal(number)
        if _has_data(journal) and not is_owned(journal):
            try:
                recovery = _recover(layout, number)
            except SlotTakenError:
                continue
            records += recovery.records
            if recovery.failure:
                raise StorageError(f"cannot recover {journal}: {recovery.failure}")
    return records


def _has_data(journal: Path) -> bool:
    with reading_errors(journal):
        try:
            names = [path.name for path in journal.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return False
    return any(classify_journal_file(name).kind in DATA_KINDS for name in names)


def _recover(layout: RecordingLayout, number: int) -> Recovery:
    if isinstance(layout, Layout):
        slot = take_slot(layout, number)
        try:
            target = SlotTarget(layout, _POLICY, slot)
            try:
                return recover_journal(slot, target)
            finally:
                target.release_slot()
        finally:
            slot.release()
    with SQLiteStorage(layout.path, retain_size=None) as storage:
        target_in_database = slot_target(storage, number)
        try:
            slot = target_in_database.take_slot()
        except StorageError:  # somebody was faster, or it is another machine's
            return Recovery(0, 0, "")
        try:
            return recover_journal(slot, target_in_database)
        finally:
            target_in_database.release_slot()


class Backlog:
    """What the journals of living processes hold at one moment.

    Args:
        layout: of the recording.
    """

    def __init__(self, layout: RecordingLayout) -> None:
        self._left: dict[Path, dict[Path, dict[Signal, int]]] = {}
        for number in layout.slots():
            journal = layout.journal(number)
            if is_owned(journal) and (found := read_backlog(journal)):
                self._left[journal] = found

    @property
    def is_stored(self) -> bool:
        """True if all of it has been stored since, or is a dead process's by now."""
        self._left = {
            journal: found
            for journal, found in self._left.items()
            if is_owned(journal) and not _is_stored(found, read_journal_ends(journal).stored_until)
        }
        return not self._left

    def wait(self, seconds: float, pause: Callable[[float], object] = time.sleep) -> bool:
        """Wait until all of it has been stored; return False if it has not in so many seconds.

        Args:
            seconds: at most.
            pause: waits for so many seconds; what it returns ends the waiting, if it is true.
        """
        deadline = time.monotonic() + seconds
        while not self.is_stored:
            if time.monotonic() >= deadline or pause(0.05):
                return False
        return True

    def __str__(self) -> str:
        return ", ".join(str(journal) for journal in self._left)


def _is_stored(
    found: dict[Path, dict[Signal, int]], stored_until: dict[Path, dict[Signal, int]]
) -> bool:
    return all(
        path not in stored_until or stored_until[path][signal] > offset
        for path, offsets in found.items()
        for signal, offset in offsets.items()
    )
