"""A process that records into files through a journal, and does each step when it is told to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig
from rimp_otel.collector.collector import CollectorBuffer
from rimp_otel.journal.journal import Journal
from rimp_otel.process import Reporter
from rimp_otel.streaming.journal_drain import JournalDrain
from tests.journal.records import die


class Journaled:
    """One process.

    Args:
        path: of the recording.
        open_spans: whether it notes spans that have started.
        policy: of its FileStorage.
    """

    def __init__(self, path: Path, open_spans: bool = False, **policy: Any) -> None:
        self.storage = FileStorage(path, sync="never", **policy)
        self.collector = TelemetryCollector(TelemetryConfig(sync="never"))
        self.target = self.storage.journal_target()
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
        """Is never due by itself."""

    def collect(self, *messages: str) -> None:
        """Into the journal."""
        for message in messages:
            self.collector.collect_event("a", message)

    def drain(self) -> None:
        """From the journal into the files."""
        self._drain.run()

    def recover(self) -> None:
        """Takes a slot, and what its last owner left."""
        self.journal.open()

    def close(self) -> None:
        """Ends as it should."""
        self._drain.close()
        self.storage.close()

    def die(self) -> None:
        """Without a word."""
        die(self.journal)
