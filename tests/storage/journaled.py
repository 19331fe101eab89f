"""A process that records through a journal, and does each step when it is told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig
from rimp_otel.collector.collector import CollectorBuffer
from rimp_otel.journal.journal import Journal
from rimp_otel.process import Reporter
from rimp_otel.storage.base import RecordedStorage
from rimp_otel.streaming.journal_drain import JournalDrain
from tests.journal.records import die


class Journaled:
    """One process.

    Args:
        path: of the recording.
        open_spans: True to note spans that have started.
        storage: what the journal is drained into; by default, files at the path.
        policy: of the FileStorage.
    """

    def __init__(
        self,
        path: Path,
        open_spans: bool = False,
        storage: RecordedStorage | None = None,
        **policy: Any,
    ) -> None:
        self.storage = storage or FileStorage(path, sync="never", **policy)
        self.collector = TelemetryCollector(TelemetryConfig(sync="never"))
        target = self.storage.journal_target()
        assert target is not None
        self.target = target
        self.journal = Journal(self.target, 64 * 1024 * 1024, Reporter(), open_spans)
        self.buffer = CollectorBuffer(self.collector)
        self.buffer.attach(self, self.journal)
        self._drain = JournalDrain(
            self.journal,
            self.target,
            self.buffer.counts,
            lambda data: None,
            Reporter(),
            self.buffer,
            self.storage,
        )

    def wake(self) -> None:
        """Do nothing: each step is told."""

    @property
    def held(self) -> int:
        """The number of records that the drain holds."""
        return self._drain.held

    def collect(self, *messages: str) -> None:
        """Collect log records into the journal."""
        for message in messages:
            self.collector.collect_event("a", message)

    def drain(self) -> None:
        """Drain the journal into the storage."""
        self._drain.run()

    def sync(self) -> None:
        """Sync what is due, as the stream's thread does from time to time."""
        self._drain.sync()

    def recover(self) -> None:
        """Take a slot, and what its last owner left."""
        self.journal.open()

    def close(self) -> None:
        """End as a process should."""
        self._drain.close()
        self.storage.close()

    def die(self) -> None:
        """End without a word, as a killed process."""
        die(self.journal)
