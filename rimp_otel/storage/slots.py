"""The state of a recording's writer slots: who holds them, what waits in their journals."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from rimp_otel.errors import StorageError
from rimp_otel.fsutil import READ_FLAGS
from rimp_otel.journal.reader import Damage, read_journal
from rimp_otel.journal.slots import DATA_KINDS, LOCK, classify_journal_file, is_owned
from rimp_otel.journal.target import End
from rimp_otel.models.records import Signal
from rimp_otel.storage.base import RecordingLayout

__all__ = ["INTERRUPTED", "SlotState", "inspect_slots"]

INTERRUPTED = "rimp.interrupted"
"""The attribute of spans that ended with their process."""


class SlotState(NamedTuple):
    """A writer slot at one moment."""

    number: int
    #: Of its journal.
    journal: Path
    #: True if a living process of this machine holds it.
    is_owned: bool
    #: The last holder's entries in the lock file: "machine", "pid", "since" and so on.
    signature: dict[str, Any]
    #: Bytes of the journal's files.
    size: int
    #: Records that are in the journal and in no file yet.
    records: Counter[Signal]
    #: Bytes that they will take there.
    waiting: int
    #: Those of them that are spans which ended with their process.
    interrupted: int
    #: Parts of the journal that cannot be read.
    damaged: list[Damage]
    #: Up to where the journal was drained into each active file; the journal has what follows.
    ends: dict[Signal, End]
    #: Records that have no room on disk, and wait in the holder's memory; lost if it is dead.
    in_memory: int = 0

    @property
    def is_left(self) -> bool:
        """True if a process that is gone has left something to be taken over."""
        return not self.is_owned and self.size > 0


def inspect_slots(layout: RecordingLayout) -> list[SlotState]:
    """Return the state of all slots of a recording, in order. Changes nothing.

    Raises:
        StorageError: something cannot be read.
    """
    try:
        return [_inspect_slot(layout, slot) for slot in layout.slots()]
    except OSError as error:
        raise StorageError(f"cannot read {error.filename}: {error.strerror or error}") from error


def _inspect_slot(layout: RecordingLayout, slot: int) -> SlotState:
    journal = layout.journal(slot)
    owned = is_owned(journal)
    with ExitStack() as stack:
        files = {signal: _open_if_there(layout.file(signal, slot), stack) for signal in Signal}
        contents = read_journal(
            journal, lambda signal, start, length: _is_whole(files[signal], start, length)
        )
    records: Counter[Signal] = Counter()
    for signal, _, number in contents.lines:
        records[signal] += number
    mark = f'"{INTERRUPTED}"'.encode()
    return SlotState(
        number=slot,
        journal=journal,
        is_owned=owned,
        signature=_signature_of(journal),
        size=_size_of(journal),
        records=records,
        waiting=sum(len(line) + 1 for _, line, _ in contents.lines),
        interrupted=sum(line.count(mark) for _, line, _ in contents.lines),
        damaged=list(contents.damaged),
        ends=contents.ends,
        in_memory=contents.in_memory,
    )


def _open_if_there(path: Path, stack: ExitStack) -> BinaryIO | None:
    try:
        return stack.enter_context(os.fdopen(os.open(path, READ_FLAGS), "rb"))
    except OSError:  # not there, or a link: then nothing was drained into it
        return None


def _is_whole(file: BinaryIO | None, start: End, length: int) -> bool:
    if file is None:
        return False
    status, end = os.fstat(file.fileno()), start.offset + length
    is_there = status.st_ino == start.file_id and status.st_size >= end
    return is_there and os.pread(file.fileno(), 1, end - 1) == b"\n"


def _signature_of(journal: Path) -> dict[str, Any]:
    try:
        found = json.loads(_read_start(journal / LOCK))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _read_start(path: Path) -> bytes:
    file = os.open(path, READ_FLAGS)
    try:
        return os.read(file, 4_096)
    finally:
        os.close(file)


def _size_of(journal: Path) -> int:
    """Return the size of what a process wrote there: without the lock and quarantined files."""
    size = 0
    try:
        with os.scandir(journal) as entries:
            for entry in entries:
                if classify_journal_file(entry.name).kind in DATA_KINDS:
                    size += entry.stat(follow_symlinks=False).st_size
    except OSError:  # not there; or unreadable, which reading it names
        pass
    return size
