"""Parquet copies of sealed files: ``traces-<first>-<last>-<id>.parquet`` beside ``….jsonl.zst``.

A copy is derived: it can be deleted at any time, and is made again. A copy that has its name is
complete: it is written under another name, with a lock that tells that a process is making it, and
then renamed. Its footer names the sealed file, the file's size, and the version of this format, and has a
checksum of all bytes of the copy; a copy with another footer, with none, or with other bytes is replaced.

``python -m rimp_otel.sql.parquet DIRECTORY`` makes the missing copies of a recording.
"""

from __future__ import annotations

import inspect
import os
import re
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from rimp_otel.errors import DecodeError, StorageError
from rimp_otel.fsutil import CREATE_FLAGS, READ_FLAGS, READ_WRITE_FLAGS, lock_file, unlock_file
from rimp_otel.models.records import Signal
from rimp_otel.sql.builder import TableBuilder
from rimp_otel.sql.extras import pyarrow
from rimp_otel.sql.logs import LogBuilder
from rimp_otel.sql.metrics import MetricBuilder
from rimp_otel.sql.spans import SpanBuilder
from rimp_otel.storage.base import reading_errors
from rimp_otel.storage.files.layout import Layout, SealedName
from rimp_otel.storage.files.lines import DataFile, list_data_files, open_data_file, read_lines

__all__ = [
    "BUILDERS",
    "HAS_BLOOM_FILTERS",
    "ParquetCounts",
    "ParquetResult",
    "is_current_parquet",
    "is_intact_parquet",
    "make_parquet_file",
    "make_parquet_files",
    "parquet_path",
]

BUILDERS: dict[Signal, Callable[[], TableBuilder]] = {
    Signal.TRACES: SpanBuilder,
    Signal.LOGS: LogBuilder,
    Signal.METRICS: MetricBuilder,
}
"""The class that makes the tables of each signal."""

HAS_BLOOM_FILTERS = (
    "bloom_filter_options" in inspect.signature(pyarrow.parquet.write_table).parameters
)
"""True if this version of PyArrow writes bloom filters."""

_VERSION = 2
_LABEL_KEY = "rimp.sealed"
_SUFFIX = ".parquet"
_MAGIC = b"PAR1"
_CHECKSUM_KEY = b" crc32:"
_NO_CHECKSUM = b"0" * 8
_READ_SIZE = 1024 * 1024

_MAX_ROWS = 100_000
_MAX_TEXT_SIZE = 64 * 1024 * 1024
_DELTA_COLUMNS = {"Timestamp", "TimeUnix", "StartTimeUnix", "ObservedTimestamp", "Duration"}
_PLAIN_COLUMNS = {"SpanId": "DELTA_LENGTH_BYTE_ARRAY", "Body": "DELTA_LENGTH_BYTE_ARRAY"}


# One copy.


class ParquetCounts(NamedTuple):
    """The contents of a copy."""

    rows: int = 0
    #: The size of the copy.
    bytes: int = 0
    #: Lines that could not be read, and are not in the copy.
    damaged: int = 0


def parquet_path(content: DataFile, directory: Path | None = None) -> Path:
    """Return the path of the copy of a sealed file, which may not exist yet.

    Args:
        content: the sealed file.
        directory: of the copy; None for the directory of the sealed file.
    """
    assert content.name is not None
    return (directory or content.path.parent) / (content.name.stem + _SUFFIX)


def is_current_parquet(content: DataFile, path: Path) -> bool:
    """Return True if ``path`` is a complete copy of the sealed file in its present state."""
    try:
        label = _footer_label(content)
        file = os.open(path, READ_FLAGS)
    except OSError:
        return False
    with os.fdopen(file, "rb") as copy:
        status = os.fstat(file)
        return stat.S_ISREG(status.st_mode) and label in _read_footer(copy, status.st_size)


def is_intact_parquet(path: Path) -> bool:
    """Return True if the bytes of a copy are those that were written.

    DuckDB does not look at the checksums of pages: a flipped bit would become a wrong answer.
    """
    try:
        file = os.open(path, READ_FLAGS)
    except OSError:
        return False
    with os.fdopen(file, "rb") as copy:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return False
        try:
            place = _find_checksum(copy, status.st_size)
            return place > 0 and _read_checksum(copy, place) == _compute_checksum(copy, place)
        except OSError:
            return False


def _find_checksum(copy: BinaryIO, size: int) -> int:
    """Return where in a copy its checksum is, in bytes; 0 for one without."""
    footer = _read_footer(copy, size)
    at = footer.find(_CHECKSUM_KEY)
    return 0 if at < 0 else size - 8 - len(footer) + at + len(_CHECKSUM_KEY)


def _read_checksum(copy: BinaryIO, place: int) -> bytes:
    copy.seek(place)
    return copy.read(len(_NO_CHECKSUM))


def _compute_checksum(copy: BinaryIO, place: int) -> bytes:
    """Return the checksum of a copy, in which zeros stand in its place."""
    copy.seek(0)
    checksum, left = 0, place
    while left > 0 and (data := copy.read(min(left, _READ_SIZE))):
        checksum = zlib.crc32(data, checksum)
        left -= len(data)
    checksum = zlib.crc32(_NO_CHECKSUM, checksum)
    copy.seek(place + len(_NO_CHECKSUM))
    while data := copy.read(_READ_SIZE):
        checksum = zlib.crc32(data, checksum)
    return b"%08x" % checksum


def _footer_label(content: DataFile) -> bytes:
    """Return what the footer contains: the version, the sealed file's name, its size in bytes."""
    return f"{_VERSION} {content.name} {content.path.stat().st_size} ".encode()


def _read_footer(file: BinaryIO, size: int) -> bytes:
    """Return the footer of a Parquet file; empty if the file is incomplete."""
    file.seek(0)
    if size < 12 or file.read(4) != _MAGIC:
        return b""
    file.seek(size - 8)
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or length > size - 12:
        return b""
    file.seek(size - 8 - length)
    return file.read(length)


def make_parquet_file(
    content: DataFile, sealed: Path, path: Path, max_rows: int = _MAX_ROWS
) -> ParquetCounts | None:
    """Make the copy of a sealed file, readable by its owner alone.

    Args:
        content: the sealed file.
        sealed: the directory of sealed files.
        path: of the copy.
        max_rows: about how many rows are sorted, and written as a row group, at a time.

    Returns:
        What it was made of; None if another process is making it, or if the sealed file is gone.

    Raises:
        StorageError: the sealed file cannot be read.
        OSError: the copy cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.tmp")
    with _create_locked_copy(unfinished) as file:
        if file is None:
            return None
        counts = _write_tables(_SealedTables(content, sealed, max_rows), file)
        if counts is None or not content.path.exists():  # deleted by retention meanwhile
            return None
        os.fsync(file.fileno())
        os.rename(unfinished, path)
        return counts


@contextmanager
def _create_locked_copy(path: Path) -> Iterator[BinaryIO | None]:
    """Yield an empty file that no other process writes, or None; remove it if it keeps its name."""
    file = os.open(path, CREATE_FLAGS, 0o600)
    with os.fdopen(file, "r+b") as opened:
        if not lock_file(file) or not _is_still_at(path, file):
            yield None
            return
        try:
            os.fchmod(file, 0o600)
            os.ftruncate(file, 0)
            yield opened
        finally:
            if _is_still_at(path, file):
                path.unlink()
            unlock_file(file)


def _is_still_at(path: Path, file: int) -> bool:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and os.path.samestat(os.fstat(file), status)


class _SealedTables:
    """The records of a sealed file as sorted tables of a bounded size."""

    def __init__(self, content: DataFile, sealed: Path, max_rows: int) -> None:
        self.content = content
        self.builder = BUILDERS[content.signal]()
        self.damaged = 0
        #: False if the sealed file is gone.
        self.is_there = False
        self._sealed = sealed
        self._max_rows = max_rows

    def __iter__(self) -> Iterator[Any]:
        found = open_data_file(self.content, self._sealed)
        if found is None:
            return
        self.is_there = True
        builder = self.builder
        with found.file, reading_errors(found.path):
            for line in read_lines(found, 0, 0, None, True):
                self._add_line(line.text)
                if builder.rows >= self._max_rows or builder.size >= _MAX_TEXT_SIZE:
                    yield builder.take_table(is_sorted=True)
        if builder.rows:
            yield builder.take_table(is_sorted=True)

    def _add_line(self, text: bytes | None) -> None:
        if text is not None and not text.strip():
            return
        try:
            if text is None:
                raise DecodeError("it cannot be decompressed")
            self.builder.add_line(text)
        except DecodeError:
            self.damaged += 1


def _write_tables(tables: _SealedTables, target: BinaryIO) -> ParquetCounts | None:
    label = _footer_label(tables.content).decode()
    writer = None
    rows = 0
    try:
        for table in tables:
            rows += table.num_rows
            if writer is None:
                writer = _open_writer(target, table)
            writer.write_table(table, row_group_size=max(table.num_rows, 1))
        if not tables.is_there:
            return None
        writer = writer or _open_writer(target, tables.builder.schema.empty_table())
        checksum = (_CHECKSUM_KEY + _NO_CHECKSUM).decode()
        writer.add_key_value_metadata({_LABEL_KEY: f"{label}{rows} {tables.damaged}{checksum}"})
    finally:
        if writer is not None:
            writer.close()
    target.flush()
    size = os.fstat(target.fileno()).st_size
    _write_checksum(target, size)
    return ParquetCounts(rows, size, tables.damaged)


def _write_checksum(copy: BinaryIO, size: int) -> None:
    place = _find_checksum(copy, size)
    checksum = _compute_checksum(copy, place)
    copy.seek(place)
    copy.write(checksum)
    copy.flush()


def _open_writer(target: BinaryIO, table: Any) -> Any:
    leaves = list(_leaf_paths(table.schema))
    encodings = {name: "DELTA_BINARY_PACKED" for name in leaves if name in _DELTA_COLUMNS}
    encodings |= {name: kind for name, kind in _PLAIN_COLUMNS.items() if name in leaves}
    options: dict[str, Any] = {}
    if HAS_BLOOM_FILTERS and "TraceId" in leaves:
        distinct = max(1, pyarrow.compute.count_distinct(table.column("TraceId")).as_py())
        options["bloom_filter_options"] = {"TraceId": {"ndv": distinct, "fpp": 0.01}}
    return pyarrow.parquet.ParquetWriter(
        target,
        table.schema,
        compression="zstd",
        use_dictionary=[name for name in leaves if name not in encodings],
        column_encoding=encodings,
        write_page_index=True,
        write_page_checksum=True,
        store_schema=False,
        **options,
    )


def _leaf_paths(schema: Any) -> Iterator[str]:
    """Yield the paths of the columns in Parquet."""
    for field in schema:
        yield from _leaf_paths_of(field.name, field.type)


def _leaf_paths_of(path: str, kind: Any) -> Iterator[str]:
    types = pyarrow.types
    if types.is_map(kind):
        yield from (f"{path}.key_value.key", f"{path}.key_value.value")
    elif types.is_list(kind):
        yield from _leaf_paths_of(f"{path}.list.element", kind.value_type)
    elif types.is_struct(kind):
        for field in kind:
            yield from _leaf_paths_of(f"{path}.{field.name}", field.type)
    else:
        yield path


# The copies of a recording.

_COPY_NAME = re.compile(
    r"\.?(?P<stem>[a-z]+-[0-9]+-[0-9]+-[0-9a-f]{16})\.parquet(?P<unfinished>\.tmp)?"
)


class ParquetResult(NamedTuple):
    """The result of `make_parquet_files`."""

    #: Copies that were made.
    made: int = 0
    #: Records in them.
    records: int = 0
    #: The size of the sealed files that they were made of.
    sealed_bytes: int = 0
    #: Their own size.
    bytes: int = 0
    #: Lines that could not be read.
    damaged: int = 0
    #: Copies that existed already.
    kept: int = 0
    #: Copies that were removed because their sealed file is gone.
    removed: int = 0
    #: Why copies could not be made.
    errors: tuple[str, ...] = ()
    #: True if another process is making copies of this recording, and nothing was done.
    is_busy: bool = False


def make_parquet_files(
    path: str | os.PathLike[str],
    progress: Callable[[Path, int, int], None] | None = None,
    rebuild: bool = False,
    check: bool = False,
) -> ParquetResult:
    """Make the copy of every sealed file that has none, or none that is complete.

    A process that does so may be killed at any time.

    Args:
        path: of the recording.
        progress: called before a copy is made, with the sealed file's path, the number of copies
            made, and the number of all that have to be.
        rebuild: replace complete copies, too.
        check: compute the checksums of complete copies, and replace those that are damaged.

    Raises:
        StorageError: the sealed files cannot be listed.
    """
    directory = Layout(path).sealed
    with _lock_directory(directory) as is_locked:
        if not is_locked:
            return ParquetResult(is_busy=True)
        sealed = [c for c in list_data_files(directory) if c.name and not c.name.is_waiting]
        missing = [content for content in sealed if rebuild or not _has_copy(content, check)]
        kept, removed = len(sealed) - len(missing), _remove_orphans(directory)
        result = ParquetResult(kept=kept, removed=removed)
        for number, content in enumerate(missing):
            if progress is not None:
                progress(content.path, number, len(missing))
            result = _add_copy(content, directory, result)
        return result


def _has_copy(content: DataFile, check: bool) -> bool:
    path = parquet_path(content)
    return is_current_parquet(content, path) and (not check or is_intact_parquet(path))


def _add_copy(content: DataFile, directory: Path, result: ParquetResult) -> ParquetResult:
    try:
        size = content.path.stat().st_size
        counts = make_parquet_file(content, directory, parquet_path(content))
    except FileNotFoundError:
        return result  # deleted by retention meanwhile
    except StorageError as error:
        return result._replace(errors=(*result.errors, str(error)))
    except OSError as error:
        reason = f"cannot make the Parquet copy of {content.path}: {error.strerror or error}"
        return result._replace(errors=(*result.errors, reason))
    if counts is None:
        return result
    return result._replace(
        made=result.made + 1,
        records=result.records + counts.rows,
        sealed_bytes=result.sealed_bytes + size,
        bytes=result.bytes + counts.bytes,
        damaged=result.damaged + counts.damaged,
    )


def _remove_orphans(directory: Path) -> int:
    """Remove copies whose sealed file is gone, and unfinished ones of killed processes; return how
    many copies were removed."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return 0
    stems = {name.stem for name in map(SealedName.parse, names) if name and not name.is_waiting}
    removed = 0
    for name in names:
        match = _COPY_NAME.fullmatch(name)
        if match is None or SealedName.parse(f"{match['stem']}.jsonl") is None:
            continue
        if match["unfinished"]:
            _remove_unlocked(directory / name)
        elif match["stem"] not in stems and _remove_file(directory / name):
            removed += 1
    return removed


def _remove_file(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    path.unlink(missing_ok=True)
    return True


def _remove_unlocked(path: Path) -> None:
    """Remove the file unless another process has locked it."""
    try:
        file = os.open(path, READ_WRITE_FLAGS)
    except OSError:
        return
    try:
        if lock_file(file):
            path.unlink(missing_ok=True)
            unlock_file(file)
    finally:
        os.close(file)


@contextmanager
def _lock_directory(directory: Path) -> Iterator[bool]:
    """Yield False if another process makes copies in the directory."""
    # Unlike a file in it, the directory itself may be a link.
    flags = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | os.O_CLOEXEC
    with reading_errors(directory):
        try:
            file = os.open(directory, flags)
        except FileNotFoundError:
            file = -1
    if file < 0:
        yield True
        return
    try:
        is_locked = lock_file(file)
        yield is_locked
        if is_locked:
            unlock_file(file)
    finally:
        os.close(file)


if __name__ == "__main__":
    # The process that ``storage.files.parquet_job`` starts.
    make_parquet_files(sys.argv[1])
