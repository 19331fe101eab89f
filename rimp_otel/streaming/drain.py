"""From the buffer in memory into the storage: slices, retries, and their counting."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from rimp_otel.batch import TelemetryData
from rimp_otel.collector.stats import RecordCounts
from rimp_otel.errors import StorageError
from rimp_otel.otlp.lines import EncodedRecord
from rimp_otel.process import Reporter, describe_error
from rimp_otel.storage.base import TelemetryStorage

__all__ = ["SLICE_RECORDS", "BufferView", "Drain"]

SLICE_RECORDS = 256
"""Records that are stored together, so that no step takes long."""

_FAR_BEHIND, _LARGEST_SLICE = 8_192, 65_536

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_MAX_ATTEMPTS = 3
_MAX_HELD = 256


class BufferView(Protocol):
    """The collector's buffer, as a drain sees it."""

    @property
    def waiting(self) -> int:
        """The number of records that wait in memory."""

    def take(self, most: int) -> TelemetryData:
        """Remove the oldest ``most`` records from memory, and return them."""

    def rearm(self) -> None:
        """Note that the journal is drained: the stream is to be woken when it is full again."""


class Drain:
    """Empties a collector's buffer into a storage, slice by slice, in order.

    One thread drains at a time; ``run`` waits for another one, ``run_if_free`` does not. A batch
    that the storage refuses is offered again, after growing pauses, before anything behind it.

    Args:
        buffer: what to empty; None where nothing is collected.
        storage: what to store into; None where nothing waits in memory, ever.
        counts: what becomes of the records.
        offer: called with each batch that was stored.
        reporter: reports when the storage fails.
        clock: returns monotonic seconds; measures the pauses between two attempts.
    """

    def __init__(
        self,
        buffer: BufferView | None,
        storage: TelemetryStorage | None,
        counts: RecordCounts,
        offer: Callable[[TelemetryData], object],
        reporter: Reporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._buffer = buffer
        self._storage = storage
        self._counts = counts
        self._offer = offer
        self._reporter = reporter
        self._clock = clock
        #: Batches that were stored.
        self.batches = 0
        #: Attempts to store a batch that failed.
        self.errors = 0
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget in a forked child what the parent was doing."""
        # One drain at a time. Reentrant, for a storage that makes its own thread drain again.
        self._lock = threading.RLock()
        self._inside = False
        # Batches that the storage refused, or that wait behind one that it did.
        self._held: deque[TelemetryData] = deque()
        #: The number of records in them.
        self.held = 0
        self._attempts = 0
        self._pause = _FIRST_PAUSE
        self._not_before = 0.0

    def run_when_due(self) -> None:
        """Drain, unless the storage has just failed."""
        if self._clock() >= self._not_before:
            self.run()

    def run_if_free(self) -> None:
        """Drain, unless another thread is draining right now."""
        # Again, where another thread left its record to this one.
        while self._waiting and self._lock.acquire(blocking=False):
            try:
                if not self.run():
                    return
            finally:
                self._lock.release()

    def run(self, taken: list[TelemetryData] | None = None) -> bool:
        """Store what waits now, and append each stored batch to ``taken``.

        Returns:
            True if the storage took all of it.
        """
        with self._lock:
            if self._inside:
                return False
            self._inside = True
            try:
                return self._store_held(taken) and self._store_waiting(taken)
            finally:
                self._inside = False

    def recover(self) -> None:
        """Take over what an earlier process left. A buffer in memory leaves nothing."""

    @property
    def damaged(self) -> int:
        """The number of an earlier process's segments and open-span tables that were damaged."""
        return 0

    def accept_points(self, data: TelemetryData) -> None:
        """Put data points that the stream collected in line, for the next run."""
        self._counts.collect_points(len(data))
        self._hold(data)

    #: True if ``checkpoint`` keeps points for the time after the process's death.
    keeps_checkpoints = False

    def accept_encoded_points(self, records: list[EncodedRecord], failed: int = 0) -> bool:
        """Put encoded data points in line.

        Args:
            records: the points.
            failed: how many more could not be encoded.

        Returns:
            True if no death of the process can lose them any more.
        """
        raise NotImplementedError

    def checkpoint(self, points: list[EncodedRecord]) -> bool:
        """Keep points, instead of those before, for the time after the process's death.

        Returns:
            True if that was done.
        """
        raise NotImplementedError

    @property
    def _waiting(self) -> int:
        return 0 if self._buffer is None else self._buffer.waiting

    def _hold(self, data: TelemetryData) -> None:
        with self._lock:
            if len(self._held) >= _MAX_HELD:
                self._counts.drop_batch("buffer_full", data)
            else:
                self._held.append(data)
                self.held += len(data)

    def _store_held(self, taken: list[TelemetryData] | None) -> bool:
        while self._held:
            if not self._store(self._held[0]):
                return False
            data = self._held.popleft()
            self.held -= len(data)
            if taken is not None:
                taken.append(data)
        return True

    def _store_waiting(self, taken: list[TelemetryData] | None) -> bool:
        if self._buffer is None:
            return True
        # What arrives meanwhile is for the next time: this must end.
        waiting = self._buffer.waiting
        while waiting > 0:
            data = self._buffer.take(min(_slice_records(waiting), waiting))
            if not data:
                break
            waiting -= len(data)
            self._held.append(data)
            self.held += len(data)
            if not self._store_held(taken):
                return False
        return True

    def _store(self, data: TelemetryData) -> bool:
        """Return True if the batch is dealt with: stored, or given up."""
        assert self._storage is not None
        try:
            self._storage.store(data)
        except BaseException as error:
            # Even SystemExit: the batch stays what it was, one that the storage did not take.
            return self._give_up_or_wait(data, error)
        self._count_stored(data)
        return True

    def _count_stored(self, data: TelemetryData) -> None:
        self.batches += 1
        self._attempts, self._pause, self._not_before = 0, _FIRST_PAUSE, 0.0
        self._counts.store(data)
        self._offer(data)

    def _give_up_or_wait(self, data: TelemetryData, error: BaseException) -> bool:
        """Return True if the batch is given up; False if it is to be offered again."""
        self.errors += 1
        message = f"storing failed, will retry: {describe_error(error)}"
        self._reporter.warn("store", message)
        # What the storage itself will get over is tried for as long as there is room to wait.
        if not isinstance(error, (OSError, StorageError, MemoryError)):
            self._attempts += 1
        if self._attempts >= _MAX_ATTEMPTS:
            self._attempts = 0
            self._counts.drop_batch("storage_error", data)
            return True
        self._not_before = self._clock() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return False

    def close(self) -> None:
        """Close the storage."""
        if self._storage is None:
            return
        try:
            self._storage.close()
        except Exception as error:
            self._reporter.warn(
                "close", f"the storage could not be closed: {describe_error(error)}"
            )

    def report_unstored(self) -> None:
        """Report how many records are lost if the process ends now."""
        self._report_lost(self._counts.stats().pending)

    def _report_lost(self, records: int) -> None:
        if records > 0:
            self._reporter.warn("lost", _describe_lost(records))


def _describe_lost(records: int) -> str:
    if records == 1:
        return "1 record could not be stored and is lost"
    return f"{records} records could not be stored and are lost"


def _slice_records(waiting: int) -> int:
    """Return how many records to store together: many if far behind.

    Each system call of a storage gives up the interpreter, and gets it back late where other
    threads want it.
    """
    return SLICE_RECORDS if waiting < _FAR_BEHIND else min(waiting // 2, _LARGEST_SLICE)
