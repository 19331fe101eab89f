"""``rimp seal``: makes the Parquet twins that are missing, one after the other."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rimp_otel.errors import StorageError
from rimp_otel.query.twins import is_readable, is_whole, make_twin, twin_path
from rimp_otel.storage.content import Content, list_contents
from rimp_otel.storage.layout import Layout, SealedName
from rimp_otel.storage.locking import acquire, release

__all__ = ["Sealed", "seal"]

_TWIN = re.compile(r"\.?(?P<stem>[a-z]+-[0-9]+-[0-9]+-[0-9a-f]{16})\.parquet(?P<unfinished>\.tmp)?")


class Sealed(NamedTuple):
    """What was done."""

    #: Twins that were made.
    made: int = 0
    #: Records in them.
    records: int = 0
    #: Bytes of the sealed files that they were made of, and of them.
    sealed_bytes: int = 0
    bytes: int = 0
    #: Lines that could not be read.
    damaged: int = 0
    #: Twins that were there already.
    kept: int = 0
    #: Twins that were removed, because their sealed file is gone.
    removed: int = 0
    #: Why one could not be made that should have been.
    errors: tuple[str, ...] = ()
    #: Whether another process is at it, and nothing was done.
    is_busy: bool = False


def seal(
    path: str | os.PathLike[str],
    progress: Callable[[Path, int, int], None] | None = None,
    rebuild: bool = False,
    check: bool = False,
) -> Sealed:
    """Makes the twin of every sealed file that has none, or none that is whole.

    May be killed, and run again, at any time.

    Args:
        path: of the recording.
        progress: told, before each file, which one it is, how many are done, and of how many.
        rebuild: also make those anew that seem to be whole.
        check: read those to their ends first that seem to be whole.

    Raises:
        StorageError: it is not possible to look.
    """
    directory = Layout(path).sealed
    with _alone(directory) as is_alone:
        if not is_alone:
            return Sealed(is_busy=True)
        sealed = [c for c in list_contents(directory) if c.name and not c.name.is_waiting]
        missing = [c for c in sealed if rebuild or not _is_there(c, check)]
        done = Sealed(kept=len(sealed) - len(missing), removed=_remove_orphans(directory))
        for number, content in enumerate(missing):
            if progress is not None:
                progress(content.path, number, len(missing))
            done = _make(content, directory, done)
        return done


def _is_there(content: Content, check: bool) -> bool:
    path = twin_path(content)
    return is_whole(content, path) and (not check or is_readable(path))


def _make(content: Content, directory: Path, done: Sealed) -> Sealed:
    try:
        size = content.path.stat().st_size
        made = make_twin(content, directory, twin_path(content))
    except FileNotFoundError:
        return done  # retention was faster
    except StorageError as error:
        return done._replace(errors=(*done.errors, str(error)))
    except OSError as error:
        reason = f"cannot make the twin of {content.path}: {error.strerror or error}"
        return done._replace(errors=(*done.errors, reason))
    if made is None:
        return done
    return done._replace(
        made=done.made + 1,
        records=done.records + made.rows,
        sealed_bytes=done.sealed_bytes + size,
        bytes=done.bytes + made.bytes,
        damaged=done.damaged + made.damaged,
    )


def _remove_orphans(directory: Path) -> int:
    """Removes twins whose sealed file is gone, and what a killed process had begun."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return 0
    there = {name.stem for name in map(SealedName.parse, names) if name and not name.is_waiting}
    removed = 0
    for name in names:
        match = _TWIN.fullmatch(name)
        if match is None or SealedName.parse(f"{match['stem']}.jsonl") is None:
            continue
        if match["unfinished"]:
            _remove_unlocked(directory / name)
        elif match["stem"] not in there and _remove(directory / name):
            removed += 1
    return removed


def _remove(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    path.unlink(missing_ok=True)
    return True


def _remove_unlocked(path: Path) -> None:
    try:
        file = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if acquire(file):
            path.unlink(missing_ok=True)
            release(file)
    finally:
        os.close(file)


@contextmanager
def _alone(directory: Path) -> Iterator[bool]:
    """Whether no other process makes twins of this recording: the directory is locked."""
    try:
        file = os.open(directory, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | os.O_CLOEXEC)
    except FileNotFoundError:
        yield True
        return
    try:
        is_alone = acquire(file)
        yield is_alone
        if is_alone:
            release(file)
    finally:
        os.close(file)
