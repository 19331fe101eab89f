"""Stores what a process left in its journal, by the same code as a recorder that starts there."""

from __future__ import annotations

from typing import NamedTuple

from rimp_otel.collector import TelemetryCollector
from rimp_otel.config import TelemetryConfig
from rimp_otel.data import TelemetryData
from rimp_otel.journal.buffer import Journal
from rimp_otel.journal.homes import FileHome
from rimp_otel.journal.recovery import segment_files
from rimp_otel.journaldrain import JournalDrain
from rimp_otel.reporting import Reporter
from rimp_otel.slots import Slot
from rimp_otel.storage.slotstorage import SlotStorage

__all__ = ["Recovery", "recover_journal"]

# Of the segment that opening a journal makes, the smallest there is.
_SIZE = 512 * 1024


class Recovery(NamedTuple):
    """What became of a journal."""

    #: Stored now.
    records: int
    #: Records that could not be read; their segments were put aside.
    damaged: int
    #: Why not all of it could be stored; empty where all was.
    failure: str


def recover_journal(slot: Slot, storage: SlotStorage) -> Recovery:
    """Stores all that the journal of a slot holds, and deletes its files."""
    collector = TelemetryCollector(TelemetryConfig(storage_backend="file"))
    reporter = _Listener()
    home = FileHome(storage)
    journal = Journal(home, _SIZE, reporter, open_spans=False)
    collector.attach(_NoStream(), journal)
    drain = JournalDrain(collector, storage, _ignore, reporter, journal, home, storage)
    try:
        drain.recover()
        drain.run()
    finally:
        drain.close()
    stats = collector.stats()
    damaged = stats.dropped.get("damaged", 0)
    failed = bool(segment_files(slot.directory))
    failure = (reporter.said or ["it is still in use"])[-1] if failed else ""
    return Recovery(stats.recovered - damaged, damaged, failure)


class _Listener(Reporter):
    """Keeps what there is to say for the command, which says it in its own words."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, kind: str, message: str) -> None:
        self.said.append(message)


class _NoStream:
    """Of a collector that collects nothing."""

    def wake(self) -> None:
        """Nothing waits."""

    def flush(self) -> TelemetryData:
        """Nothing."""
        return TelemetryData()

    def drain(self, timeout: float, ending: bool = False) -> bool:
        """Nothing is left."""
        return True


def _ignore(data: TelemetryData) -> None:
    """There are no consumers."""
