"""The sealer: whoever rotates a file has it sealed soon, along with what others left behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rimp_otel.config import DefaultSize
from rimp_otel.process import ProcessLock, Reporter, importing
from rimp_otel.storage.files.layout import Layout, is_unfinished
from rimp_otel.storage.files.policy import FilePolicy, FileStats

if TYPE_CHECKING:
    from rimp_otel.storage.files.parquet_job import ParquetJob
    from rimp_otel.storage.files.retention import SealedFile

__all__ = ["Sealer"]

_FIRST_PAUSE = 10.0
_LONGEST_PAUSE = 600.0

# One file at a time in a process, whatever many recordings it writes.
_one_at_a_time = ProcessLock()


class Sealer:
    """Seals rotated files, on a thread that ends when there is nothing more to do.

    Args:
        layout: of the recording.
        policy: how files are sealed, and which are kept.
        clock: returns seconds since the epoch.
        monotonic: returns seconds that never go back.
    """

    def __init__(
        self,
        layout: Layout,
        policy: FilePolicy,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = layout.sealed
        self._forward = layout.forward
        self._policy = policy
        self._clock = clock
        self._monotonic = monotonic
        self._reporter = Reporter()
        self._deleted_by_default = False
        self._parquet_job: ParquetJob | None = None
        if policy.parquet:
            with importing():
                from rimp_otel.storage.files.parquet_job import ParquetJob
            self._parquet_job = ParquetJob(layout.path, monotonic=monotonic)
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._wanted = False
        self._running = threading.Lock()
        self._again_at: float | None = None
        self._pause = _FIRST_PAUSE
        self._stats = FileStats()
        # Whose index was there, or was made. Names of files that were deleted cost little.
        self._indexed: set[str] = set()

    def stats(self) -> FileStats:
        """Return what it has done in this process."""
        self._renew_in_child()
        return self._stats

    def _renew_in_child(self) -> None:
        if self._pid != os.getpid():
            self._begin()

    def look(self) -> None:
        """Start the thread if any process has left something to do."""
        try:
            names = os.listdir(self._directory)
        except OSError:
            return
        if any(is_unfinished(name) for name in names):
            self.wake()

    def look_again(self) -> None:
        """Start the thread if what failed is due to be tried again."""
        if self._again_at is not None and self._monotonic() >= self._again_at:
            self.wake()

    def wake(self) -> None:
        """Start the thread, or have it look once more if it runs."""
        self._renew_in_child()
        self._wanted = True
        if self._running.acquire(blocking=False):
            try:
                threading.Thread(target=self._work, name="rimp-seal", daemon=True).start()
            except RuntimeError:  # no more threads, or the interpreter ends: the next one does it
                self._running.release()

    def _work(self) -> None:
        while True:
            try:
                while self._wanted:
                    self._wanted = False
                    self.run()
            except Exception as error:
                self._reporter.warn("seal", f"cannot seal the files in {self._directory}: {error}")
            finally:
                self._running.release()
            # Woken since it looked, by somebody who saw it run.
            if not self._wanted or not self._running.acquire(blocking=False):
                return

    def run(self) -> None:
        """Seal all that waits, and delete what is too much or too old. Never raises OSError."""
        with _one_at_a_time():
            self._renew_in_child()
            self._again_at = None
            stuck = {found.path.name for found in self._waiting() if not self._seal(found)}
            self._retain(stuck)
            self._index()
            if self._parquet_job is not None:
                self._parquet_job.start_if_due()
            if self._again_at is None:
                self._pause = _FIRST_PAUSE

    def _waiting(self) -> list[SealedFile]:
        with importing():
            from rimp_otel.storage.files.retention import list_sealed
            from rimp_otel.storage.files.sealed_file import remove_stale_files
        try:
            remove_stale_files(self._directory)
            return [found for found in list_sealed(self._directory) if found.name.is_waiting]
        except OSError as error:
            self._fail("seal", f"cannot read {self._directory}", error)
            return []

    def _seal(self, found: SealedFile) -> bool:
        """Seal one file; return False if that failed."""
        with importing():
            from rimp_otel.storage.files.sealed_file import make_sealed_file
        try:
            size = make_sealed_file(
                found.path, found.name, self._policy.compression, self._policy.syncs
            )
        except OSError as error:
            self._stats += FileStats(seal_failures=1)
            self._fail("seal", f"cannot seal {found.path}", error)
            return False
        if size is not None:
            self._stats += FileStats(sealed=1, sealed_from=found.size, sealed_to=size)
        return True

    def _retain(self, stuck: set[str]) -> None:
        with importing():
            from rimp_otel.storage.files.retention import delete_expired
            from rimp_otel.storage.forwarding import read_holds
        policy, size = self._policy, self._policy.retain_size
        is_default = isinstance(size, DefaultSize)
        if isinstance(size, DefaultSize):
            size = size.on_disk(self._directory)
        try:
            holds = read_holds(self._forward)
            deleted = delete_expired(
                self._directory, size, policy.retain_age, self._clock(), stuck, holds
            )
        except OSError as error:
            self._fail("retain", f"cannot read {self._directory}", error)
            return
        self._stats += FileStats(deleted_files=deleted.files, deleted_bytes=deleted.bytes)
        if deleted.files and is_default and not self._deleted_by_default:
            self._deleted_by_default = True
            self._reporter.warn(
                "bound",
                f"{self._directory} has reached {size} bytes, and its oldest files are deleted from now on: "
                "set RIMP_RETAIN_SIZE, retain_size, or rimp run --retain to keep more",
            )
        if deleted.expired:
            self._reporter.warn(
                "expired",
                f"{self._directory} holds all that it may for forwarding, and up to {deleted.expired}"
                " records that were not forwarded yet are deleted: mend what keeps rimp forward from"
                " sending, or hold more by its --hold (rimp forward --status)",
            )
        if deleted.error is not None:
            self._fail("retain", f"cannot delete from {self._directory}", deleted.error)

    def _index(self) -> None:
        """Make the index of one file that has none, such as one of an earlier version.

        Only of one at a time, since the application wants the processor more.
        """
        with importing():
            from rimp_otel.storage.files.index import make_index, open_index
            from rimp_otel.storage.files.retention import list_sealed
        try:
            for found in reversed(list_sealed(self._directory)):
                if not found.name.is_waiting and str(found.name) not in self._indexed:
                    with open_index(found.path, found.name) as index:
                        is_there = index is not None
                    self._indexed.add(str(found.name))
                    if not is_there:
                        make_index(found.path, found.name)
                        return
        except OSError as error:
            self._reporter.warn("index", f"cannot index the files in {self._directory}: {error}")

    def _fail(self, kind: str, what: str, error: OSError) -> None:
        self._reporter.warn(kind, f"{what}: {error.strerror or error}; it will be tried again")
        if self._again_at is None:
            self._again_at = self._monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
