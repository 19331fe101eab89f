"""The hop from the buffer into the storage: slices, retries and their counting."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from rimp_otel.batch import TelemetryData
from rimp_otel.collector.collector import TelemetryCollector
from rimp_otel.errors import StorageError
from rimp_otel.process import Reporter
from rimp_otel.storage.base import TelemetryStorage

__all__ = ["SLICE", "Drain"]

SLICE = 256
"""Records that are stored together, so that no hop takes long."""

_FAR_BEHIND, _LARGEST_SLICE = 8_192, 65_536

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_ATTEMPTS = 3
_MOST_HELD = 256


class Drain:
    """Empties a collector's buffer into a storage, slice by slice, in order.

    Args:
        collector: whose buffer to empty; it also counts.
        storage: where to.
        offer: called with each batch that was stored.
        reporter: says when the storage fails.
        clock: seconds, monotonic; for the pauses between two attempts.
    """

    def __init__(
        self,
        collector: TelemetryCollector,
        storage: TelemetryStorage,
        offer: Callable[[TelemetryData], None],
        reporter: Reporter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._collector = collector
        self._storage = storage
        self._offer = offer
        self._reporter = reporter
        self._clock = clock
        self.batches = 0
        self.errors = 0
        self.renew()

    def renew(self) -> None:
        """Forgets what it was doing, as in a forked child."""
        # One drain at a time. Reentrant, for a storage that makes its own thread drain again.
        self._lock = threading.RLock()
        self._inside = False
        # Batches that the storage refused, or that wait behind one that it did.
        self._held: deque[TelemetryData] = deque()
        self._attempts = 0
        self._pause = _FIRST_PAUSE
        self._not_before = 0.0

    def run_when_due(self) -> None:
        """Drains, unless the storage has just failed."""
        if self._clock() >= self._not_before:
            self.run()

    def run_if_free(self) -> None:
        """Drains, unless that is being done right now."""
        # Again, where another thread left its record to this one.
        while self._collector.waiting and self._lock.acquire(blocking=False):
            try:
                if not self.run():
                    return
            finally:
                self._lock.release()

    def run(self, taken: list[TelemetryData] | None = None) -> bool:
        """Stores what waits now; appends what was stored to ``taken``.

        Returns:
            Whether the storage took all of it.
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
        """Takes over what an earlier process left; a buffer in memory leaves nothing."""

    @property
    def damaged(self) -> int:
        """Segments, and notes of open spans, of an earlier process that were put aside."""
        return 0

    def take_in(self, data: TelemetryData) -> None:
        """Puts data points that the stream collected in line, for the next run."""
        self._collector.counts.collect_points(len(data))
        self._hold(data)

    def _hold(self, data: TelemetryData) -> None:
        with self._lock:
            if len(self._held) >= _MOST_HELD:
                self._collector.counts.drop_batch("buffer_full", data)
            else:
                self._held.append(data)

    def _store_held(self, taken: list[TelemetryData] | None) -> bool:
        while self._held:
            if not self._store(self._held[0]):
                return False
            data = self._held.popleft()
            if taken is not None:
                taken.append(data)
        return True

    def _store_waiting(self, taken: list[TelemetryData] | None) -> bool:
        # What arrives meanwhile is for the next time: this must end.
        waiting = self._collector.waiting
        while waiting > 0:
            data = self._collector.take(min(_slice_of(waiting), waiting))
            if not data:
                break
            waiting -= len(data)
            self._held.append(data)
            if not self._store_held(taken):
                return False
        return True

    def _store(self, data: TelemetryData) -> bool:
        """Whether the batch is dealt with: stored, or given up."""
        try:
            self._storage.store(data)
        except BaseException as error:
            # Even SystemExit: the batch stays what it was, one that the storage did not take.
            return self._failed(data, error)
        self._stored(data)
        return True

    def _stored(self, data: TelemetryData) -> None:
        self.batches += 1
        self._attempts, self._pause, self._not_before = 0, _FIRST_PAUSE, 0.0
        self._collector.counts.store(data)
        self._offer(data)

    def _failed(self, data: TelemetryData, error: BaseException) -> bool:
        self.errors += 1
        self._reporter.say("store", f"records could not be stored, and wait: {_tell(error)}")
        # What the storage itself will get over is tried for as long as there is room to wait.
        if not isinstance(error, (OSError, StorageError)):
            self._attempts += 1
        if self._attempts >= _ATTEMPTS:
            self._attempts = 0
            self._collector.counts.drop_batch("storage_error", data)
            return True
        self._not_before = self._clock() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return False

    def close(self) -> None:
        """Closes the storage."""
        try:
            self._storage.close()
        except Exception as error:
            self._reporter.say("close", f"the storage could not be closed: {_tell(error)}")

    def report_leftover(self) -> None:
        """Says what is lost when the process ends now."""
        self._say_lost(self._collector.stats().pending)

    def _say_lost(self, records: int) -> None:
        if records > 0:
            self._reporter.say("lost", f"{records} records could not be stored and are lost")


def _slice_of(waiting: int) -> int:
    """Large slices where it is far behind: each system call of a storage gives up the interpreter,
    which comes back late where other threads want it."""
    return SLICE if waiting < _FAR_BEHIND else min(waiting // 2, _LARGEST_SLICE)


def _tell(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
