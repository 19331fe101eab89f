"""Counts what is added to a recording."""

from __future__ import annotations

import os
from collections import Counter

from rimp_otel.errors import StorageError
from rimp_otel.models.records import Signal
from rimp_otel.storage.files.recording import FileRecording
from rimp_otel.storage.reading import count_line
from rimp_otel.storage.recording import Recording
from rimp_otel.storage.sqlite.recording import SQLiteRecording

__all__ = ["Added"]


class Added:
    """What is added to a recording from now on, by anybody."""

    def __init__(self, path: str | os.PathLike[str], is_database: bool = False) -> None:
        make = SQLiteRecording if is_database else FileRecording
        self._recording: Recording = make(path, count_line)
        self._recording.skip()
        self.records: Counter[Signal] = Counter()
        #: Bytes of OTLP JSON that they take.
        self.size = 0

    def count(self) -> Counter[Signal]:
        """The records that were added, by signal; ``size`` is then how many bytes they take."""
        try:
            for data in self._recording.poll(final=True):
                for signal in filter(data.count_of, Signal):
                    self.records[signal] += data.count_of(signal)
                    self.size += sum(len(line) + 1 for line in data.otlp_json(signal))
        except StorageError:
            pass  # what can be read is counted; `rimp stats` says what cannot
        return self.records
