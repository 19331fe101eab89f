"""Counts the records that a program adds to a recording.

Apart from `run`, since reading needs the SDK, which `rimp run --help` must not load.
"""

from __future__ import annotations

import os
from collections import Counter

from rimp_otel.errors import StorageError
from rimp_otel.models.records import Signal
from rimp_otel.storage.base import Recording
from rimp_otel.storage.files.recording import FileRecording
from rimp_otel.storage.reading import count_line
from rimp_otel.storage.sqlite.recording import SQLiteRecording

__all__ = ["AddedRecords"]


class AddedRecords:
    """The records that any process adds to a recording from now on."""

    def __init__(self, path: str | os.PathLike[str], is_database: bool = False) -> None:
        make = SQLiteRecording if is_database else FileRecording
        self._recording: Recording = make(path, count_line)
        self._recording.skip()
        self.records: Counter[Signal] = Counter()
        #: Their size as OTLP JSON, in bytes.
        self.size = 0

    def count(self) -> Counter[Signal]:
        """Count the added records by signal, and their bytes in ``size``."""
        try:
            for data in self._recording.poll(final=True):
                for signal in filter(data.count_of, Signal):
                    self.records[signal] += data.count_of(signal)
                    self.size += sum(len(line) + 1 for line in data.otlp_json(signal))
        except StorageError:
            pass  # readable records are counted; `rimp stats` lists the damage
        return self.records
