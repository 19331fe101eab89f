"""Which services there are in a recording, and which operations each has."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from rimp_otel.batch import TelemetryData
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.otlp.scan import summarize_line
from rimp_otel.storage.base import Selection
from rimp_otel.storage.files.index import DamagedIndexError, open_index
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.lines import DataFile, FileKey, open_data_file, read_lines
from rimp_otel.storage.files.stored import list_stored
from rimp_otel.storage.recording import is_database, open_recording
from rimp_otel.viewer.questions import PreparingError
from rimp_otel.viewer.rollups.rollup import OperationKey
from rimp_otel.viewer.rollups.store import open_rollups

__all__ = ["OperationCatalog"]

_MAX_SPANS = 200_000  # that are read of a database


class OperationCatalog:
    """The services and operations of a recording's spans. Thread-safe.

    They are those of its rollups. Until all of these are made, sealed files are known by their indexes,
    and each other line is read once.

    Args:
        path: of the recording, which need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._rollups = open_rollups(path)
        # What each file has, and up to where it was read; None once there is nothing more to come.
        self._operations: dict[FileKey, dict[str, set[str]]] = {}
        self._offsets: dict[FileKey, tuple[int, int] | None] = {}

    def operations(self) -> dict[str, set[str]]:
        """Return the names of spans by service, up to now.

        Until there are rollups, of a database those of the newest 200,000 spans, and of a sealed file a
        name counts for each service that it shares a block with.

        Raises:
            StorageError: the recording cannot be read.
        """
        try:
            found: dict[str, set[str]] = {}
            for rollup in self._rollups.rollups(Signal.TRACES, Window()):
                for key in rollup.keys:
                    if isinstance(key, OperationKey):
                        found.setdefault(key.service, set()).add(key.name)
            return found
        except PreparingError:
            return self._read_operations()

    def _read_operations(self) -> dict[str, set[str]]:
        with self._lock:
            if is_database(self._path):
                return self._read_database()
            found: dict[str, set[str]] = {}
            files = list_stored(Layout(self._path), Signal.TRACES)
            self._forget_all_but(file.key for file in files)
            for file in files:
                for service, names in self._operations_in(file).items():
                    found.setdefault(service, set()).update(names)
            return found

    def _forget_all_but(self, keys: Iterable[FileKey]) -> None:
        kept = set(keys)
        self._operations = {key: own for key, own in self._operations.items() if key in kept}
        self._offsets = {key: own for key, own in self._offsets.items() if key in kept}

    def _operations_in(self, file: DataFile) -> dict[str, set[str]]:
        found = self._operations.setdefault(file.key, {})
        position = self._offsets.get(file.key, (0, 0))
        if position is not None:
            self._offsets[file.key] = self._read(file, position, found)
        return found

    def _read(
        self, file: DataFile, position: tuple[int, int], found: dict[str, set[str]]
    ) -> tuple[int, int] | None:
        name = file.name
        if name is not None and not name.is_waiting and position == (0, 0):
            with open_index(file.path, name) as index:
                try:
                    known = None if index is None else index.operations()
                except (DamagedIndexError, ValueError, KeyError):
                    known = None
            if known is not None:
                found.update(known)
                return None
        opened = open_data_file(file, Layout(self._path).sealed)
        if opened is None:
            return None
        with opened.file:
            for line in read_lines(opened, *position, file.limit, opened.is_sealed):
                position = line.end, line.number
                if line.text is not None:
                    summary = summarize_line(line.text)
                    for service in summary.services:
                        found.setdefault(service, set()).update(summary.names)
        return None if name is not None else position

    def _read_database(self) -> dict[str, set[str]]:
        recording = open_recording(self._path, must_exist=False)
        selection = Selection.of(limit=_MAX_SPANS, signals="traces")
        return _operations_of(recording.retrieve(selection))


def _operations_of(data: TelemetryData) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for span in data.spans:
        service = span.resource.attributes.get("service.name")
        found.setdefault(str(service or ""), set()).add(span.name)
    return found
