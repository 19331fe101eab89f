"""What is in the files of a recording for certain, without what its journals hold.

A record moves from a journal into the active file of its slot, and with that among the sealed ones.
Here, records in journals are left out until they have moved: so each is met in one place, at an
offset of a file that stays what it is. Journals of processes that died are what somebody has to
recover first.
"""

from __future__ import annotations

import os

from rimp_otel.journal.reader import read_journal_ends
from rimp_otel.models.records import Signal
from rimp_otel.storage.base import UnreadableError, reading_errors
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.lines import (
    DataFile,
    FileKey,
    fingerprint_of,
    list_data_files,
    open_regular_file,
)

__all__ = ["list_stored"]

_ATTEMPTS = 10


def list_stored(layout: Layout, signal: Signal) -> list[DataFile]:
    """Return the files of one signal, those with the oldest records first, active ones last.

    Of an active file ``limit`` says up to where it is certain.

    Raises:
        StorageError: something cannot be read.
    """
    active: dict[FileKey, DataFile] = {}
    for slot in layout.slots():
        found = _look_at_slot(layout, signal, slot)
        if found is not None:
            active[found.key] = found
    # After the active ones: what is rotated meanwhile is found at least once.
    sealed = [
        found
        for found in list_data_files(layout.sealed)
        if found.signal is signal and found.path.is_file()
    ]
    known = {found.key for found in sealed}
    return [*sealed, *(found for key, found in active.items() if key not in known)]


def _look_at_slot(layout: Layout, signal: Signal, slot: int) -> DataFile | None:
    """Return the active file of a slot; None if it has nothing that is certain."""
    path, journal = layout.file(signal, slot), layout.journal(slot)
    for _ in range(_ATTEMPTS):
        try:
            file = open_regular_file(path)
        except UnreadableError:
            return None
        if file is None:
            return None
        with file, reading_errors(path):
            before = os.fstat(file.fileno())
            ends = read_journal_ends(journal).ends
            try:
                is_same = os.path.samestat(before, os.stat(path))
            except FileNotFoundError:
                is_same = False
            if is_same:
                end = ends.get(signal)
                # Of what the journal does not know, only what was there before it was read counts.
                known = end is not None and end.file_id == before.st_ino
                limit = end.offset if end is not None and known else before.st_size
                id = fingerprint_of(file) if limit else None
                return None if id is None else DataFile(signal, id, path, None, limit)
    return None  # it is rotated faster than we look: it is met among the sealed ones
