"""Sealing one file: its lines are compressed, and it is named by their times.

A waiting file is the truth until it is deleted, and that is the last step: a death in between
leaves it as it was, with perhaps a temporary file, or the sealed one, beside it. The next process
does it again. A lock on the waiting file keeps two from doing so at once.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from rimp_otel.fsutil import (
    CREATE_NEW_FLAGS,
    READ_WRITE_FLAGS,
    lock_file,
    sync_directory,
    sync_file,
    unlock_file,
)
from rimp_otel.otlp.scan import TimeRange, summarize_line
from rimp_otel.storage.files.blocks import choose_compressor, gather_blocks
from rimp_otel.storage.files.index import TAIL, Indexer, write_index
from rimp_otel.storage.files.layout import SealedName, sealing_stem
from rimp_otel.storage.files.retention import delete_sealed_file, list_sealed

__all__ = ["make_sealed_file", "remove_stale_files"]

_READ_SIZE = 64 * 1024

_locked: set[int] = set()


def _close_inherited() -> None:
    """Close inherited files in a forked child, which would keep the locks of what its parent seals."""
    while _locked:
        os.close(_locked.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


def make_sealed_file(path: Path, name: SealedName, compression: str, syncs: bool) -> int | None:
    """Seal one waiting file.

    Args:
        path: of the waiting file.
        name: its name, parsed.
        compression: one of ``SUFFIXES``.
        syncs: True to force the sealed file to the device before the waiting file is deleted.

    Returns:
        The sealed file's size in bytes; None if another process seals it, or has done so.

    Raises:
        OSError: it could not be sealed; it waits as before.
    """
    try:
        file = os.open(path, READ_WRITE_FLAGS)
    except FileNotFoundError:
        return None
    with os.fdopen(file, "rb", _READ_SIZE) as source:
        if not lock_file(file):
            return None
        _locked.add(file)
        try:
            if not _is_named(path, file):
                return None
            _remove_unfinished(path, name)
            return _write_sealed_file(path, name, source, compression, syncs)
        finally:
            _locked.discard(file)
            unlock_file(file)


def _write_sealed_file(
    path: Path, name: SealedName, source: BinaryIO, compression: str, syncs: bool
) -> int:
    size = os.fstat(source.fileno()).st_size
    if not size:
        path.unlink()
        return 0
    summary = _Summary()
    if compression == "none":
        for text in gather_blocks(_source_lines(source, summary)):
            summary.indexer.end_block(len(text), text[-TAIL:])
        if syncs:
            sync_file(source.fileno())
        _publish_sealed_file(path, path, summary, name, compression, syncs)
        return size
    compression, compress = choose_compressor(compression)
    made = path.with_name(f".{name.stem}.tmp-{os.getpid()}")
    try:
        size = _write_blocks(source, made, compress, summary, syncs)
        _publish_sealed_file(made, path, summary, name, compression, syncs)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    return size


class _Summary:
    """The times and index of a file, gathered while it is read."""

    def __init__(self) -> None:
        self.times = TimeRange()
        self.indexer = Indexer()

    def add(self, line: bytes) -> None:
        """Add a line, with its end if it has one."""
        summary = summarize_line(line)
        self.times.add(line, summary)
        self.indexer.add(line, summary)


def _publish_sealed_file(
    made: Path, path: Path, summary: _Summary, name: SealedName, compression: str, syncs: bool
) -> None:
    """Rename the new file to its name, and only then delete the waiting one."""
    times = summary.times
    sealed = name._replace(first=times.first, last=times.last, compression=compression)
    target = path.with_name(str(sealed))
    os.rename(made, target)
    if syncs:
        sync_directory(path.parent)
    _remove_duplicates(path.parent, sealed)
    try:
        status = os.stat(target)
        write_index(target, sealed, summary.indexer.build(status.st_size, status.st_mtime_ns))
    except OSError:
        pass  # it is read without, and the index is made later
    path.unlink(missing_ok=True)


def _write_blocks(
    source: BinaryIO, path: Path, compress: Callable[[bytes], bytes], summary: _Summary, syncs: bool
) -> int:
    size = 0
    file = os.open(path, CREATE_NEW_FLAGS, 0o600)
    with os.fdopen(file, "wb", 0) as target:
        for text in gather_blocks(_source_lines(source, summary)):
            began = time.perf_counter()
            compressed = compress(text)
            size += len(compressed)
            summary.indexer.end_block(len(compressed), compressed[-TAIL:])
            block = memoryview(compressed)
            while block:
                block = block[target.write(block) :]
            # Half of a processor at most: the application wants it more. A lower priority would
            # be worse: a thread that waits for a processor may hold the interpreter meanwhile.
            time.sleep(min(time.perf_counter() - began, 0.1))
        if syncs:
            sync_file(file)
    return size


def _source_lines(source: BinaryIO, summary: _Summary) -> Iterator[bytes]:
    """Iterate over the lines of a file. Other threads may run after each 64 KiB or so."""
    since = 0
    for line in source:
        summary.add(line)
        since += len(line)
        if since >= _READ_SIZE:
            since = 0
            time.sleep(0)
        yield line


def _is_named(path: Path, file: int) -> bool:
    """Return True if the open file is a regular one, and still has that name."""
    try:
        opened, named = os.fstat(file), os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(opened.st_mode) and os.path.samestat(opened, named)


def _remove_duplicates(directory: Path, sealed: SealedName) -> None:
    """Remove what was made of the same file, with another compression, by a process that died
    before the waiting file was deleted."""
    for found in list_sealed(directory):
        same = (found.name.signal, found.name.id) == (sealed.signal, sealed.id)
        if same and not found.name.is_waiting and found.name != sealed:
            delete_sealed_file(found)


def _remove_unfinished(path: Path, name: SealedName) -> None:
    """Remove what others had begun: they are dead, since the file's lock is ours."""
    for other in os.listdir(path.parent):
        if sealing_stem(other) == name.stem:
            _unlink_regular(path.with_name(other))


def _unlink_regular(path: Path) -> None:
    try:
        if stat.S_ISREG(os.lstat(path).st_mode):
            path.unlink()
    except FileNotFoundError:
        pass


def remove_stale_files(directory: Path) -> None:
    """Remove temporary files whose waiting file is gone.

    Raises:
        OSError: one cannot be removed, or the directory cannot be read.
    """
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        stem = sealing_stem(name)
        # Looked at now, not in the list: somebody may have begun just after it was made.
        if stem and not os.path.lexists(directory / f"{stem}.jsonl"):
            _unlink_regular(directory / name)
