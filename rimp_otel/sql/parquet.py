"""Parquet twins of sealed files: ``traces-<first>-<last>-<id>.parquet`` beside ``….jsonl.zst``.

A twin is derived: it can be deleted at any time, and is made anew. It is whole once it has its
name: it is written under another one, with a lock that says that somebody is at it, and renamed.
Its footer says which file, of which size, it was made of, and by which version of this module;
one that says anything else, or has no whole footer, is made anew.
"""

from __future__ import annotations

import inspect
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from rimp_otel.errors import DecodeError, StorageError
from rimp_otel.fsutil import acquire, release
from rimp_otel.models.records import Signal
from rimp_otel.sql.builder import Builder
from rimp_otel.sql.extras import pyarrow
from rimp_otel.sql.logs import LogBuilder
from rimp_otel.sql.metrics import MetricBuilder
from rimp_otel.sql.spans import SpanBuilder
from rimp_otel.storage.base import reading_errors
from rimp_otel.storage.files.layout import Layout, SealedName
from rimp_otel.storage.files.lines import Content, find, lines_of, list_contents

__all__ = [
    "BUILDERS",
    "Made",
    "Sealed",
    "is_readable",
    "is_whole",
    "make_twin",
    "seal",
    "twin_path",
]


# --- Parquet twins of sealed files: ``traces-<first>-<last>-<id>.parquet`` beside ``….jsonl.zst``.

BUILDERS: dict[Signal, Callable[[], Builder]] = {
    Signal.TRACES: SpanBuilder,
    Signal.LOGS: LogBuilder,
    Signal.METRICS: MetricBuilder,
}
"""What makes the tables of a signal."""

_VERSION = 1
_KEY = "rimp.sealed"
_SUFFIX = ".parquet"
_MAGIC = b"PAR1"
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

_MOST_ROWS = 100_000
_MOST_TEXT = 64 * 1024 * 1024
_HAS_BLOOM = "bloom_filter_options" in inspect.signature(pyarrow.parquet.write_table).parameters
_DELTA = {"Timestamp", "TimeUnix", "StartTimeUnix", "ObservedTimestamp", "Duration"}
_PLAIN = {"SpanId": "DELTA_LENGTH_BYTE_ARRAY", "Body": "DELTA_LENGTH_BYTE_ARRAY"}


class Made(NamedTuple):
    """What a twin was made of."""

    rows: int = 0
    #: Of the twin.
    bytes: int = 0
    #: Lines that could not be read, and are not in it.
    damaged: int = 0


def twin_path(content: Content, directory: Path | None = None) -> Path:
    """Where the twin of a sealed file is, or is to be.

    Args:
        content: the sealed file.
        directory: where, if not beside it.
    """
    assert content.name is not None
    return (directory or content.path.parent) / (content.name.stem + _SUFFIX)


def is_whole(content: Content, path: Path) -> bool:
    """Whether there is a twin that was made of this sealed file, as it is, and is whole."""
    try:
        label = _label(content)
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | os.O_NONBLOCK)
    except OSError:
        return False
    with os.fdopen(file, "rb") as twin:
        status = os.fstat(file)
        return stat.S_ISREG(status.st_mode) and label in _footer(twin, status.st_size)


def is_readable(path: Path) -> bool:
    """Whether all of a twin can be read; its pages have checksums."""
    try:
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as twin:
            for _ in twin.iter_batches():
                pass
    except (OSError, pyarrow.ArrowException):
        return False
    return True


def _label(content: Content) -> bytes:
    """What the footer says: the version, the sealed file's name, and its size in bytes."""
    return f"{_VERSION} {content.name} {content.path.stat().st_size} ".encode()


def _footer(file: BinaryIO, size: int) -> bytes:
    if size < 12 or file.read(4) != _MAGIC:
        return b""
    file.seek(size - 8)
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or length > size - 12:
        return b""
    file.seek(size - 8 - length)
    return file.read(length)


def make_twin(content: Content, sealed: Path, path: Path) -> Made | None:
    """Makes the twin of a sealed file, readable by its owner alone.

    Args:
        content: the sealed file.
        sealed: the directory of sealed files.
        path: of the twin.

    Returns:
        What it was made of; None where somebody else is at it, or the sealed file is gone.

    Raises:
        StorageError: the sealed file cannot be read.
        OSError: the twin cannot be written.
    """
    with _locked(path.with_name(f".{path.name}.tmp")) as unfinished:
        if unfinished is None:
            return None
        made = _write(content, sealed, unfinished)
        if made is None or not content.path.exists():  # retention took it meanwhile
            return None
        os.fsync(unfinished.fileno())
        os.rename(path.with_name(f".{path.name}.tmp"), path)
        return made


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO | None]:
    """An empty file of that name that nobody else writes; it is removed if it keeps the name."""
    file = os.open(path, _FLAGS, 0o600)
    with os.fdopen(file, "r+b") as opened:
        if not acquire(file) or not _is_still(path, file):
            yield None
            return
        try:
            os.fchmod(file, 0o600)
            os.ftruncate(file, 0)
            yield opened
        finally:
            if _is_still(path, file):
                path.unlink()
            release(file)


def _is_still(path: Path, file: int) -> bool:
    try:
        named = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(named.st_mode) and os.path.samestat(os.fstat(file), named)


def _write(content: Content, sealed: Path, target: BinaryIO) -> Made | None:
    label = _label(content).decode()
    tables = _Tables(content, sealed)
    writer = None
    rows = 0
    try:
        for table in tables:
            rows += table.num_rows
            if writer is None:
                writer = _writer(target, table)
            writer.write_table(table, row_group_size=max(table.num_rows, 1))
        if not tables.is_there:
            return None
        writer = writer or _writer(target, tables.builder.schema().empty_table())
        writer.add_key_value_metadata({_KEY: f"{label}{rows} {tables.damaged}"})
    finally:
        if writer is not None:
            writer.close()
    target.flush()
    return Made(rows, os.fstat(target.fileno()).st_size, tables.damaged)


class _Tables:
    """A sealed file as sorted tables of a bounded size."""

    def __init__(self, content: Content, sealed: Path) -> None:
        self.builder = BUILDERS[content.signal]()
        self.damaged = 0
        self.is_there = False
        self._content = content
        self._sealed = sealed

    def __iter__(self) -> Iterator[Any]:
        found = find(self._content, self._sealed)
        if found is None:
            return
        self.is_there = True
        builder = self.builder
        with found.file, reading_errors(found.path):
            for line in lines_of(found, 0, 0, None, True):
                self._add(line.text)
                if builder.rows >= _MOST_ROWS or builder.size >= _MOST_TEXT:
                    yield builder.take(is_sorted=True)
        if builder.rows:
            yield builder.take(is_sorted=True)

    def _add(self, text: bytes | None) -> None:
        if text is not None and not text.strip():
            return
        try:
            if text is None:
                raise DecodeError("it cannot be unpacked")
            self.builder.add(text)
        except DecodeError:
            self.damaged += 1


def _writer(target: BinaryIO, table: Any) -> Any:
    leaves = list(_leaves(table.schema))
    encodings = {name: "DELTA_BINARY_PACKED" for name in leaves if name in _DELTA}
    encodings |= {name: kind for name, kind in _PLAIN.items() if name in leaves}
    options: dict[str, Any] = {}
    if _HAS_BLOOM and "TraceId" in leaves:
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


def _leaves(schema: Any) -> Iterator[str]:
    """The paths of the columns as Parquet has them."""
    for field in schema:
        yield from _leaves_of(field.name, field.type)


def _leaves_of(path: str, kind: Any) -> Iterator[str]:
    types = pyarrow.types
    if types.is_map(kind):
        yield from (f"{path}.key_value.key", f"{path}.key_value.value")
    elif types.is_list(kind):
        yield from _leaves_of(f"{path}.list.element", kind.value_type)
    elif types.is_struct(kind):
        for field in kind:
            yield from _leaves_of(f"{path}.{field.name}", field.type)
    else:
        yield path


# --- ``rimp parquet``: makes the Parquet twins that are missing, one after the other.

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


if __name__ == "__main__":
    # The process that ``storage.files.parquet_job`` starts.
    seal(sys.argv[1])
