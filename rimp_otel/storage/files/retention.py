"""Retention: the oldest sealed files are deleted, so that a recording keeps within its bounds.

Only regular files are deleted whose names are exactly those of sealed files, and what was derived
from them: the same name with ``.idx``, ``.parquet`` or ``.rollup``. Never a link, never anything else.

What a destination has not acknowledged is kept beyond the bounds, up to one of its own. Past that a
file is deleted all the same, after how many records it has was noted for the destination.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from rimp_otel.errors import DecodeError, StorageError
from rimp_otel.fsutil import READ_WRITE_FLAGS, lock_file, unlock_file
from rimp_otel.otlp.scan import count_records
from rimp_otel.storage.files.layout import DERIVED_SUFFIXES, SealedName
from rimp_otel.storage.files.lines import OpenFile, open_regular_file, read_lines
from rimp_otel.storage.forwarding import DestinationHold, ExpiredNote, write_note

__all__ = ["Deleted", "SealedFile", "delete_expired", "delete_sealed_file", "list_sealed"]


class SealedFile(NamedTuple):
    """A file among the sealed ones."""

    #: The time of its last record, or when it was last changed: nanoseconds since the epoch.
    until: int
    path: Path
    name: SealedName
    #: In bytes.
    size: int
    #: When it was last changed, in nanoseconds since the epoch.
    changed: int


class Deleted(NamedTuple):
    """Counts of deleted files."""

    files: int = 0
    bytes: int = 0
    #: Records in them that had not been forwarded to some destination, perhaps a part of them.
    expired: int = 0
    #: Why one could not be deleted that should have been.
    error: OSError | None = None


def list_sealed(directory: Path) -> list[SealedFile]:
    """Return the sealed and waiting files, oldest first."""
    found = []
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    for name in map(SealedName.parse, names):
        sealed = name and _inspect_sealed(directory / str(name), name)
        if sealed:
            found.append(sealed)
    return sorted(found)


def _inspect_sealed(path: Path, name: SealedName) -> SealedFile | None:
    try:
        status = os.lstat(path)
    except OSError:  # somebody else has sealed or deleted it
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    # A file without a record has no last one.
    return SealedFile(
        name.last or status.st_mtime_ns, path, name, status.st_size, status.st_mtime_ns
    )


def delete_expired(
    directory: Path,
    size: int | None,
    age: float | None,
    now: float,
    stuck: Collection[str] = (),
    holds: Sequence[DestinationHold] = (),
) -> Deleted:
    """Delete the oldest files, until the bounds are kept.

    Args:
        directory: of the sealed files.
        size: bytes that they may take; None for any.
        age: seconds that their newest record may be old; None for any. Of a waiting file, the
            time since it was changed counts.
        now: seconds since the epoch.
        stuck: names of waiting files that count for ``size``. The others are about to be sealed,
            and will take a fraction of their size.
        holds: of destinations, which keep what they have not acknowledged, as far as each says.

    Raises:
        OSError: the directory cannot be read.
    """
    if size is None and age is None:
        return Deleted()
    too_old = -1 if age is None else int((now - age) * 1e9)
    deleted = Deleted()
    total, is_full = 0, False
    kept = _Kept(holds)
    for found in reversed(list_sealed(directory)):
        counts = not found.name.is_waiting or found.path.name in stuck
        total += found.size * counts
        # What is older than a file that does not fit goes with it, also if it were small enough.
        is_full = is_full or (size is not None and total > size)
        until = found.changed if found.name.is_waiting else found.until
        if ((is_full and counts) or until < too_old) and not kept.keeps(found):
            deleted = _delete_one(found, deleted, kept.without(found))
    return deleted


class _Kept:
    """What destinations keep of the files that are to be deleted, the newest first."""

    def __init__(self, holds: Sequence[DestinationHold]) -> None:
        self._holds = holds
        self._bytes = [0] * len(holds)

    def without(self, found: SealedFile) -> list[Path]:
        """Return the directories of the destinations that have not acknowledged all of a file."""
        return [hold.directory for hold in self._holds if not _has(hold, found)]

    def keeps(self, found: SealedFile) -> bool:
        """Return True if one of them keeps the file; it counts from now on."""
        is_kept = False
        for number, hold in enumerate(self._holds):
            if not _has(hold, found):
                self._bytes[number] += found.size
                is_kept = is_kept or self._bytes[number] <= hold.size
        return is_kept


def _has(hold: DestinationHold, found: SealedFile) -> bool:
    return hold.has_all_of(found.name.signal, found.name.id)


def _delete_one(found: SealedFile, before: Deleted, without: list[Path]) -> Deleted:
    expired = 0
    try:
        if without:
            expired = _count_file_records(found)
            write_note(without, ExpiredNote(found.name.signal, found.name.id, expired))
        if not delete_sealed_file(found):
            return before
    except (OSError, StorageError) as error:
        # The others go all the same.
        return before._replace(error=error if isinstance(error, OSError) else OSError(str(error)))
    return before._replace(
        files=before.files + 1,
        bytes=before.bytes + found.size,
        expired=before.expired + expired,
    )


def _count_file_records(found: SealedFile) -> int:
    """Return how many records a file has, as a forwarder counts them.

    Raises:
        OSError, StorageError: it cannot be read.
    """
    file = open_regular_file(found.path)
    if file is None:
        return 0
    records = 0
    with file:
        opened = OpenFile(found.path, file, found.name.compression, is_sealed=True)
        for line in read_lines(opened, 0, 0, None, torn=True):
            if line.text is not None and (text := line.text.strip()):
                try:
                    records += count_records(text)
                except DecodeError:
                    continue
                time.sleep(0)  # others want the interpreter too
    return records


def delete_sealed_file(found: SealedFile) -> bool:
    """Delete a file and what was derived from it; return True if it was there to be deleted.

    A waiting file that is being sealed stays.

    Raises:
        OSError: it could not be deleted.
    """
    try:
        if found.name.is_waiting:
            if not _unlink_unless_locked(found.path):
                return False
        else:
            found.path.unlink()
    except FileNotFoundError:
        return False
    if not found.name.is_waiting:
        for suffix in DERIVED_SUFFIXES:
            _unlink_derived(found.path.with_name(found.name.stem + suffix))
    return True


def _unlink_unless_locked(path: Path) -> bool:
    file = os.open(path, READ_WRITE_FLAGS)
    try:
        if not lock_file(file):
            return False
        path.unlink()
        unlock_file(file)
        return True
    finally:
        os.close(file)


def _unlink_derived(path: Path) -> None:
    try:
        if stat.S_ISREG(os.lstat(path).st_mode):
            path.unlink()
    except OSError:
        pass  # it was not there, which is the usual case
