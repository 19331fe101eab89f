"""Retention: the oldest sealed files are deleted, so that a recording keeps within its bounds.

Only regular files are deleted whose names are exactly those of sealed files, and what was derived
from them: the same name with ``.idx`` or ``.parquet``. Never a link, never anything else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from rimp_otel.fsutil import READ_WRITE_FLAGS, lock_file, unlock_file
from rimp_otel.storage.files.layout import DERIVED_SUFFIXES, SealedName

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
    directory: Path, size: int | None, age: float | None, now: float, stuck: Collection[str] = ()
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

    Raises:
        OSError: the directory cannot be read.
    """
    if size is None and age is None:
        return Deleted()
    too_old = -1 if age is None else int((now - age) * 1e9)
    deleted = Deleted()
    total, is_full = 0, False
    for found in reversed(list_sealed(directory)):
        counts = not found.name.is_waiting or found.path.name in stuck
        total += found.size * counts
        # What is older than a file that does not fit goes with it, also if it were small enough.
        is_full = is_full or (size is not None and total > size)
        until = found.changed if found.name.is_waiting else found.until
        if (is_full and counts) or until < too_old:
            deleted = _delete_one(found, deleted)
    return deleted


def _delete_one(found: SealedFile, before: Deleted) -> Deleted:
    try:
        if not delete_sealed_file(found):
            return before
    except OSError as error:
        return before._replace(error=error)  # the others go all the same
    return before._replace(files=before.files + 1, bytes=before.bytes + found.size)


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
