"""Parquet twins of sealed files: ``traces-<first>-<last>-<id>.parquet`` beside ``….jsonl.zst``.

A twin is derived: it can be deleted at any time, and is made anew. It is whole once it has its
name: it is written under another one, with a lock that says that somebody is at it, and renamed.
Its footer says which file, of which size, it was made of, and by which version of this module;
one that says anything else, or has no whole footer, is made anew.
"""

from __future__ import annotations

import inspect
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from rimp_otel.errors import DecodeError
from rimp_otel.otlp.signals import Signal
from rimp_otel.query.building import Builder
from rimp_otel.query.extras import pyarrow
from rimp_otel.query.logs import LogBuilder
from rimp_otel.query.metrics import MetricBuilder
from rimp_otel.query.spans import SpanBuilder
from rimp_otel.storage.content import Content, find, lines_of, reading
from rimp_otel.storage.locking import acquire, release

__all__ = ["BUILDERS", "Made", "is_readable", "is_whole", "make_twin", "twin_path"]

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
        with found.file, reading(found.path):
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
