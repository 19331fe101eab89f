"""What ``rimp import`` is given: files, directories, archives, or standard input."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from rimp_otel.cli.options import UsageError
from rimp_otel.errors import StorageError

__all__ = ["DAMAGED", "Source", "size_of", "sources_of"]

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)
"""What reading a damaged archive raises."""

_TAR = (".tar", ".tar.gz", ".tgz")


class Source(NamedTuple):
    """One file of OTLP messages."""

    #: As a person would name it: of a member of an archive, both.
    name: str
    open: Callable[[], AbstractContextManager[BinaryIO]]


def sources_of(text: str, read: Callable[[int], None]) -> Iterator[Source]:
    """The files that an argument stands for; ``-`` is standard input.

    Args:
        text: a path. Of a directory or an archive (``.tar``, ``.tar.gz``, ``.zip``), its files.
        read: told how many bytes of what lies on disk were read.

    Raises:
        UsageError: it is a recording with journals.
        StorageError: an archive is damaged.
        OSError: it cannot be read.
    """
    if text == "-":
        yield Source("standard input", lambda: nullcontext(sys.stdin.buffer))
        return
    path = Path(text)
    if path.is_dir():
        for file in _files(path):
            yield Source(str(file), lambda file=file: closing(_open(file, read)))  # type: ignore[misc]
    elif text.endswith(_TAR):
        yield from _of_tar(path, read)
    elif text.endswith(".zip"):
        yield from _of_zip(path)
        read(path.stat().st_size)
    else:
        yield Source(text, lambda: closing(_open(path, read)))


def size_of(text: str) -> int:
    """How many bytes an argument stands for; 0 of standard input.

    Raises:
        UsageError: there is no such file.
    """
    path = Path(text)
    if text == "-":
        return 0
    if not path.exists():
        raise UsageError(f"there is no file {path}")
    files = _files(path) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _files(directory: Path) -> list[Path]:
    if any(directory.glob("journal*/lock")):
        raise UsageError(
            f"{directory} is a recording: look at it with --path, or import its files one by one"
        )
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.name[0] != ".")


class _Counted(io.RawIOBase):
    """A file that tells how much of it is read."""

    def __init__(self, file: Any, read: Callable[[int], None]) -> None:
        self._file, self._read = file, read

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer."""
        count: int = self._file.readinto(buffer)
        self._read(count)
        return count

    def close(self) -> None:
        """Closes the file, too."""
        self._file.close()
        super().close()


def _open(path: Path, read: Callable[[int], None]) -> Any:
    return _Counted(open(path, "rb", buffering=0), read)


def _of_tar(path: Path, read: Callable[[int], None]) -> Iterator[Source]:
    with closing(_open(path, read)) as packed:
        try:
            # As a stream: nothing is unpacked to disk, whatever the names in it say.
            with tarfile.open(fileobj=io.BufferedReader(packed), mode="r|*") as archive:
                for member in archive:
                    file = archive.extractfile(member) if member.isfile() else None
                    if file is not None:
                        yield Source(f"{path}/{member.name}", lambda file=file: closing(file))  # type: ignore[misc]
        except DAMAGED as error:
            raise StorageError(f"no tar archive, or damaged: {error}") from None


def _member_of(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> Callable[[], AbstractContextManager[BinaryIO]]:
    return lambda: closing(cast(BinaryIO, archive.open(member)))


def _of_zip(path: Path) -> Iterator[Source]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    yield Source(f"{path}/{member.filename}", _member_of(archive, member))
    except DAMAGED as error:
        raise StorageError(f"no zip archive, or damaged: {error}") from None
