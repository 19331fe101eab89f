"""One way to read a recording that lies in files or in an SQLite database."""

from __future__ import annotations

import os
from pathlib import Path

from rimp_otel.errors import NoRecordingError
from rimp_otel.models.records import Signal
from rimp_otel.process import importing
from rimp_otel.storage.base import FilteringStorage, Recording, RecordingLayout
from rimp_otel.storage.reading import Decode

__all__ = ["is_database", "layout_of", "open_recording", "open_storage"]

_DATABASE_SUFFIXES = {".db", ".sqlite", ".sqlite3"}

# Of single files that hold telemetry, but are no recordings.
_FOREIGN_SUFFIXES = {
    ".jsonl",
    ".json",
    ".pb",
    ".bin",
    ".proto",
    ".zst",
    ".gz",
    ".tgz",
    ".tar",
    ".zip",
}


def is_database(path: Path) -> bool:
    """Return True if a recording of this path is one in a database.

    That is a file, or, where there is nothing yet, what is named like one. The others are
    directories, or families of files.
    """
    return path.is_file() or (path.suffix in _DATABASE_SUFFIXES and not path.exists())


def open_recording(
    path: str | os.PathLike[str], *, must_exist: bool = True, decode: Decode | None = None
) -> Recording:
    """Return what reads the recording at ``path``.

    Args:
        path: as given to FileStorage or SQLiteStorage.
        must_exist: False if something may be recorded there later.
        decode: makes a batch of an OTLP JSON line; decodes it at once if None.

    Raises:
        NoRecordingError: the path is that of another file; or nothing is recorded there.
        StorageError: the directory cannot be read.
    """
    path = Path(path)
    if path.suffix in _FOREIGN_SUFFIXES and path.is_file():
        raise NoRecordingError(_describe_file(path))
    recording: Recording
    with importing():
        if is_database(path):
            from rimp_otel.storage.sqlite.recording import SQLiteRecording

            recording = SQLiteRecording(path, decode)
        else:
            from rimp_otel.storage.files.recording import FileRecording

            recording = FileRecording(path, decode)
    if must_exist and not recording.files():
        raise NoRecordingError(f"no recording at {path}: give the path that was recorded into")
    return recording


def _describe_file(path: Path) -> str:
    if path.suffix == ".jsonl" and path.stem.split(".")[0] in set(Signal):
        return f"{path} is one file of a recording: give its directory, {path.parent}"
    return f"{path} is a file, but no recording: give the path that was recorded into"


def layout_of(path: Path) -> RecordingLayout:
    """Return where the files of the recording at ``path`` lie."""
    with importing():
        if is_database(path):
            from rimp_otel.storage.sqlite.schema import DatabaseLayout

            return DatabaseLayout(path)
        from rimp_otel.storage.files.layout import Layout

        return Layout(path)


def open_storage(path: str | os.PathLike[str]) -> FilteringStorage:
    """Return the storage that adds to the recording at ``path``."""
    with importing():
        if is_database(Path(path)):
            from rimp_otel.storage.sqlite.storage import SQLiteStorage

            return SQLiteStorage(path, retain_size=None)
        from rimp_otel.storage.files.storage import FileStorage

        return FileStorage(path, retain_size=None)
