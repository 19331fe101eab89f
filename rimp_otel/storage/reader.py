"""Reading a recording, also one that is being written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rimp_otel.data import TelemetryData
from rimp_otel.errors import DecodeError, StorageError
from rimp_otel.otlp.signals import Signal
from rimp_otel.storage.layout import Layout

__all__ = ["DamagedLine", "RecordingFile", "RecordingReader"]


class RecordingFile(NamedTuple):
    """One file of a recording."""

    signal: Signal
    path: Path
    #: In bytes, when it was looked at.
    size: int


class DamagedLine(NamedTuple):
    """A line that was skipped."""

    path: Path
    #: Counted from 1.
    line: int
    reason: str


class _Place(NamedTuple):
    """How far a file has been read."""

    inode: int
    offset: int
    lines: int


_START = _Place(-1, 0, 0)


class RecordingReader:
    """Reads a recording line by line, from where it stopped the last time. Changes nothing.

    Args:
        path: as given to FileStorage. There need be nothing yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.layout = Layout(path)
        #: Lines that were skipped so far, in the order in which they were met.
        self.damaged: list[DamagedLine] = []
        self._places: dict[Path, _Place] = {}

    def files(self) -> list[RecordingFile]:
        """The files that there are.

        Raises:
            StorageError: it is not possible to look.
        """
        found = []
        for signal in Signal:
            path = self.layout.file(signal)
            with _reading(path):
                found.append(RecordingFile(signal, path, path.stat().st_size))
        return found

    def poll(self, final: bool = False) -> Iterator[TelemetryData]:
        """What has been appended since the last poll, a batch for each line; everything at first.

        A file that was replaced or truncated is read from its start.

        Args:
            final: also read a last line that does not end yet; one that cannot be read is damaged.

        Raises:
            StorageError: a file cannot be read.
        """
        for file in self.files():
            with _reading(file.path), file.path.open("rb") as opened:
                yield from self._read(file.path, opened, final)

    def _read(self, path: Path, opened: BinaryIO, final: bool) -> Iterator[TelemetryData]:
        place = self._places[path] = self._resume(path, opened)
        opened.seek(place.offset)
        for line in opened:
            if not line.endswith(b"\n") and not final:
                break
            place = place._replace(offset=place.offset + len(line), lines=place.lines + 1)
            self._places[path] = place
            data = self._decode(path, place.lines, line)
            if data:
                yield data

    def _resume(self, path: Path, opened: BinaryIO) -> _Place:
        status = os.fstat(opened.fileno())
        place = self._places.get(path, _START)
        if place.inode != status.st_ino or place.offset > status.st_size:
            return _Place(status.st_ino, 0, 0)
        return place

    def _decode(self, path: Path, number: int, line: bytes) -> TelemetryData | None:
        text = line.strip()
        if not text:
            return None
        try:
            return TelemetryData.decoded(text)
        except DecodeError as error:
            self.damaged.append(DamagedLine(path, number, error.reason))
            return None


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        pass  # not there yet, or moved away since it was looked at
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from error
