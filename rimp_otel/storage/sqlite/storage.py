"""The storage in one SQLite file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from typing_extensions import Unpack

from rimp_otel.batch import TelemetryData
from rimp_otel.config import TelemetryConfig
from rimp_otel.errors import ConfigurationError, StorageError
from rimp_otel.journal.target import DirectoryTarget
from rimp_otel.models.filters import Conditions
from rimp_otel.models.records import Signal
from rimp_otel.models.times import TimeLike
from rimp_otel.process import ProcessLock, call_in_forked_child
from rimp_otel.storage.base import RecordedStorage, Selection
from rimp_otel.storage.reading import LineDecoder
from rimp_otel.storage.sqlite.fork_gate import FORK_GATE
from rimp_otel.storage.sqlite.query import DatabaseQuery, parse_words
from rimp_otel.storage.sqlite.recording import SQLiteRecording
from rimp_otel.storage.sqlite.rows import line_to_rows
from rimp_otel.storage.sqlite.schema import DatabaseLayout
from rimp_otel.storage.sqlite.writer import DatabaseWriter, Retention, SQLiteStats

__all__ = ["SQLiteStorage", "slot_target"]

_DEFAULT = TelemetryConfig()
_LOCK_TIMEOUT = 2.0


class SQLiteStorage(RecordedStorage):
    """Keeps batches in one SQLite file, indexed by time and by trace, with full-text search.

    Each batch is one transaction. Several processes may record into one file, and read it at any
    time. It is created when the first record comes, readable by its owner alone (0600, a directory
    that is made for it 0700); symbolic links are not followed, and a database of another program is
    left alone. While it is open there are two more files beside it, ``-wal`` and ``-shm``, which
    belong to it.

    Safe for several threads: they store one after the other, and retrieve at any time.

    Args:
        path: of the file.
        retain_size: bytes of the file that may be in use; the oldest records are deleted beyond.
            None keeps all.
        retain_age: seconds for which records are kept; None keeps all.
        sync: when what is stored is forced to the device, which only a power failure makes matter:
            "interval" (with the journal, or when SQLite does it), "always" (before ``store``
            returns) or "never" (when SQLite does it).
        lock_timeout: seconds that ``store`` and ``retrieve`` wait at most for another process that
            holds the file; past it, they raise StorageError.

    Raises:
        ConfigurationError: an argument has a value that is not allowed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        retain_size: int | None = _DEFAULT.retain_size,
        retain_age: float | None = _DEFAULT.retain_age,
        sync: str = _DEFAULT.sync,
        lock_timeout: float = _LOCK_TIMEOUT,
    ) -> None:
        # Checks them.
        TelemetryConfig(
            storage_path=path,
            retain_size=retain_size,
            retain_age=retain_age,
            sync=sync,
        )
        _check_lock_timeout("lock_timeout", lock_timeout)
        #: The path that was passed, as a Path.
        self.path = Path(path)
        # Absolute, so that a program may change its working directory.
        self._layout = DatabaseLayout(os.path.abspath(path))
        self._timeout = lock_timeout
        self._syncs = sync != "never"
        synchronous = "FULL" if sync == "always" else "NORMAL"
        retention = Retention(retain_size, retain_age, forward=self._layout.forward)
        self._writer = DatabaseWriter(self._layout.path, retention, synchronous, lock_timeout)
        self._lock = ProcessLock()
        # The process that stores right now; a child forked from it does not.
        self._busy = 0
        call_in_forked_child(self._renew)

    @classmethod
    def from_config(cls, config: TelemetryConfig) -> SQLiteStorage:
        """Return the storage that a configuration names."""
        return cls(
            config.path,
            retain_size=config.retain_size,
            retain_age=config.retain_age,
            sync=config.sync,
        )

    def _renew(self) -> None:
        self._writer.renew()

    @contextmanager
    def _alone(self) -> Iterator[DatabaseWriter]:
        """Hold the writer, for this thread."""
        lock = self._lock()
        if not lock.acquire(timeout=self._timeout):
            raise StorageError(
                f"cannot write {self.path}: another thread has been writing it for too long"
            )
        try:
            if self._busy == os.getpid():
                raise StorageError(f"cannot write {self.path}: the interrupted code is writing it")
            self._busy = os.getpid()
            try:
                with FORK_GATE.use():
                    yield self._writer
            finally:
                self._busy = 0
        finally:
            lock.release()

    def store(self, data: TelemetryData) -> None:
        """Keep the batch, in one transaction; not again if its slice has been stored before.

        Raises:
            StorageError: it could not be stored; then the file holds none of it.
            DecodeError: a line of it is not OTLP JSON.
        """
        rows = [
            row
            for signal in Signal
            for line in data.otlp_json(signal)
            for row in line_to_rows(line)
        ]
        if rows:
            with self._alone() as writer:
                writer.write(rows, data.slice_id)

    def _open_recording(self) -> SQLiteRecording:
        return SQLiteRecording(self._layout.path, lock_timeout=self._timeout)

    def search(
        self,
        text: str,
        start_time: TimeLike | None = None,
        end_time: TimeLike | None = None,
        limit: int | None = None,
        **conditions: Unpack[Conditions],
    ) -> TelemetryData:
        """Return the log records whose message holds all words of a text, in any order.

        Case does not matter. If SQLite has full-text search (FTS5), whole words are found, and the
        beginnings of words that end in a star; without, what contains them.

        Args:
            text: words, such as ``connection refused`` or ``time*``.
            start_time, end_time, limit, conditions: as for ``retrieve``.

        Raises:
            ConfigurationError: an argument is not allowed.
            StorageError: the file cannot be read.
        """
        selection = Selection.of(start_time, end_time, limit, **conditions)
        words, recording = parse_words(text), self._open_recording()
        try:
            return recording.search(words, selection)
        finally:
            self.damaged = recording.damaged

    def stats(self) -> SQLiteStats:
        """Return what this storage has done in this process."""
        return self._writer.stats

    def close(self) -> None:
        """Close the file; the next batch opens it again."""
        with self._alone() as writer:
            writer.close()

    _has_place_for_journals = True

    def journal_target(self, path: str | os.PathLike[str] | None = None) -> DirectoryTarget:
        """Return a journal in a directory beside the file, whatever ``path`` is.

        A slice's id is committed with its records, so that each slice is stored exactly once.
        """
        query = DatabaseQuery(self._layout.path, self._timeout, LineDecoder())
        return DirectoryTarget(self.store, self._layout.journal, query.lines_since, self._sync)

    def _sync(self) -> None:
        """Force what was stored to the device, unless the policy is "never"."""
        if self._syncs:
            with self._alone() as writer:
                writer.sync()

    def __repr__(self) -> str:
        return f"SQLiteStorage({os.fspath(self.path)!r})"


def slot_target(storage: SQLiteStorage, number: int) -> DirectoryTarget:
    """Return the journal of one slot of a storage, to recover what is left there.

    Its ``take_slot`` takes that slot and no other, or raises a StorageError.
    """

    def directory_of(other: int) -> Path:
        journal = storage._layout.journal(number)
        if other:  # the next one, since this one is taken
            raise StorageError(f"cannot take {journal}: a living process may record into it")
        return journal

    query = DatabaseQuery(storage._layout.path, storage._timeout, LineDecoder())
    return DirectoryTarget(storage.store, directory_of, query.lines_since, storage._sync)


def _check_lock_timeout(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 3_600:
        raise ConfigurationError(
            f"{name} must be a number of seconds > 0 and <= 3600, got {value!r}"
        )
