"""What becomes of the records, counted exactly."""

from __future__ import annotations

from typing import NamedTuple

from rimp_otel.buffer import Counter
from rimp_otel.data import TelemetryData
from rimp_otel.otlp.signals import Signal

__all__ = ["CollectorStats", "Counts"]


class CollectorStats(NamedTuple):
    """Exact counts of records. ``collected == stored + pending + sum(dropped.values())``."""

    #: Records that were taken in, of all signals; data points of OpenTelemetry metrics too.
    collected: int
    #: Of those, in the storage; without a stream, returned by ``flush()``.
    stored: int
    #: Of those, neither stored nor dropped yet.
    pending: int
    #: Of those, lost, by reason: "buffer_full", "journal_full", "encoding", "invalid_value",
    #: "storage_error", and "damaged" (in the journal of a process that died).
    dropped: dict[str, int]
    #: Calls of a listener that raised.
    listener_errors: int
    #: Of those collected, found in the journal of a process that died.
    recovered: int = 0


class Counts:
    """The counts of one collector.

    ``collected`` and ``drop`` are for any thread, signal handler or finaliser; all else is for the
    one that stores.
    """

    def __init__(self) -> None:
        #: Records that were taken in.
        self.collected = Counter()
        #: Calls of a listener that raised.
        self.listener_errors = Counter()
        self._dropped: dict[tuple[str, Signal], Counter] = {}
        self._stored = dict.fromkeys(Signal, 0)
        self._points = 0
        self._recovered = 0

    def collect_points(self, points: int, unencoded: int = 0) -> None:
        """Counts data points of OpenTelemetry's instruments, and those that cannot be encoded."""
        self._points += points + unencoded
        self.drop("encoding", Signal.METRICS, unencoded)

    def recover(self, signal: Signal, records: int, damaged: int) -> None:
        """Counts records that an earlier process left, and those of them that are damaged."""
        self._recovered += records + damaged
        self.drop("damaged", signal, damaged)

    def store(self, data: TelemetryData) -> None:
        """Counts a batch as stored, but for the records in it that could not be encoded."""
        for signal in Signal:
            skipped = data.skipped_of(signal)
            self._stored[signal] += data.count_of(signal) - skipped
            self.drop("encoding", signal, skipped)

    def drop_batch(self, reason: str, data: TelemetryData) -> None:
        """Counts a batch as lost."""
        for signal in Signal:
            self.drop(reason, signal, data.count_of(signal))

    def drop(self, reason: str, signal: Signal, records: int = 1) -> None:
        """Counts records as lost."""
        if not records:
            return
        # setdefault is one call into C: two threads get the same counter.
        counter = self._dropped.setdefault((reason, signal), Counter())
        for _ in range(records):
            counter.add_one()

    def stats(self) -> CollectorStats:
        """All of them, over the signals."""
        # In this order: a record that arrives meanwhile shows as pending, never as negative.
        stored = sum(self._stored.values())
        dropped: dict[str, int] = {}
        for (reason, _), counter in list(self._dropped.items()):
            dropped[reason] = dropped.get(reason, 0) + counter.value
        recovered = self._recovered
        collected = self.collected.value + self._points + recovered
        pending = collected - stored - sum(dropped.values())
        errors = self.listener_errors.value
        return CollectorStats(collected, stored, pending, dropped, errors, recovered)

    def of(self, signal: Signal) -> tuple[int, dict[str, int]]:
        """Of one signal: how many records were stored, and how many were dropped, by reason."""
        dropped = {
            reason: counter.value
            for (reason, of), counter in list(self._dropped.items())
            if of is signal
        }
        return self._stored[signal], dropped
