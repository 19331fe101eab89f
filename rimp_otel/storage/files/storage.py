"""``FileStorage``: OTLP JSON lines in files that are appended to, rotated, sealed and deleted.

On disk, for ``FileStorage("telemetry")`` (``layout`` has the names)::

    telemetry/traces.jsonl  logs.jsonl  metrics.jsonl    what slot 0 writes: active files
    telemetry/journal/                                   slot 0's lock, and its journal if any
    telemetry/traces.1.jsonl  ...  journal.1/            slot 1: another process, at the same time
    telemetry/sealed/                                    rotated files, compressed

Every active file has one writer. ``store`` appends through a writer that all storages of one path
and one policy in a process share, as the three exporters' are. A journal appends through one of its
own, which nobody else uses: where the files end stays as the journal's headers say.

Guarantees: when ``store`` returns, the files hold the whole batch; when it raises, they hold none of
it. A process that is killed in between may leave a part of the batch, but no part of a line. A loss
of power costs what came after the last sync: nothing with "always"; with "interval", at most
``sync_interval`` seconds of what is drained or stored steadily; with "never", what the system had not
written by itself, which may be a file that was just sealed. A process that is killed loses nothing
that was stored, under any of them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from rimp_otel.batch import TelemetryData
from rimp_otel.config import TelemetryConfig
from rimp_otel.journal.target import DirectoryTarget, JournalTarget
from rimp_otel.models.records import Signal
from rimp_otel.process import importing
from rimp_otel.storage.base import RecordedStorage
from rimp_otel.storage.files.journal_target import FileJournalTarget
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.policy import FilePolicy, FileStats
from rimp_otel.storage.files.sealer import Sealer
from rimp_otel.storage.files.writer import SlotWriter

if TYPE_CHECKING:
    from rimp_otel.storage.files.recording import FileRecording

__all__ = ["FileStorage"]

_DEFAULT = FilePolicy.of(TelemetryConfig())

# Shared by the storages of this process, for as long as one of them is there.
_writers: WeakValueDictionary[tuple[str, FilePolicy], SlotWriter] = WeakValueDictionary()


class FileStorage(RecordedStorage):
    """Appends batches to ``traces.jsonl``, ``logs.jsonl`` and ``metrics.jsonl``.

    Each line is OTLP JSON as the OpenTelemetry file exporter specification has it. Lines are
    appended whole; a batch is appended to all of its files or to none. Several processes may
    write one recording: each has files of its own, and readers merge. Files are made when the first
    record comes, readable by their owner alone (0600, directories 0700); symbolic links are not
    followed.

    Thread-safe: all methods may be called from any thread, and ``store`` also from code that
    interrupts another ``store``, such as a signal handler. A forked child opens files of its own.

    Args:
        path: a directory, or the name of a family of files that ends in ``.jsonl``:
            ``/var/log/telemetry.jsonl`` stands for ``/var/log/telemetry-traces.jsonl`` and so on.
        rotate_size: bytes that a file may have; what would exceed them goes into another. A
            batch that is larger by itself has a file of its own.
        rotate_age: seconds after which the next batch goes into another file.
        compression: of sealed files: "zstd", "gzip" or "none".
        retain_size: bytes of sealed files that are kept, the newest; None keeps all.
        retain_age: seconds for which sealed files are kept; None keeps all.
        parquet: have a background process make Parquet copies of sealed files (extra ``sql``).
        sync: when files are forced to the device, which only a power failure makes matter:
            "interval", "always" (before ``store`` returns) or "never".
        sync_interval: seconds between two syncs, with "interval".
        seal: older name of ``parquet``.

    Raises:
        ConfigurationError: an argument has a value that is not allowed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        rotate_size: int = _DEFAULT.rotate_size,
        rotate_age: float = _DEFAULT.rotate_age,
        compression: str = _DEFAULT.compression,
        retain_size: int | None = _DEFAULT.retain_size,
        retain_age: float | None = _DEFAULT.retain_age,
        parquet: bool = _DEFAULT.parquet,
        sync: str = _DEFAULT.sync,
        sync_interval: float = _DEFAULT.sync_interval,
        seal: bool | None = None,
    ) -> None:
        config = TelemetryConfig(
            storage_path=path,
            rotate_size=rotate_size,
            rotate_age=rotate_age,
            compression=compression,
            retain_size=retain_size,
            retain_age=retain_age,
            parquet=parquet,
            sync=sync,
            sync_interval=sync_interval,
            seal=seal,
        )
        self.layout = Layout(path)
        self.policy = FilePolicy.of(config)
        # Absolute, so that a program may change its working directory.
        self._absolute = Layout(Path(os.path.abspath(self.layout.path)))
        self._shared: SlotWriter | None = None
        self._targets: list[FileJournalTarget] = []

    @property
    def _writer(self) -> SlotWriter:
        """The writer of batches that are stored."""
        if self._shared is None:
            policy, layout = self.policy, self._absolute
            made = SlotWriter(layout, policy, Sealer(layout, policy))
            self._shared = _writers.setdefault((os.fspath(layout.path), policy), made)
        return self._shared

    @property
    def _sealer(self) -> Sealer:
        sealer = self._writer.sealer
        assert sealer is not None  # only a SlotTarget's writer has none
        return sealer

    @classmethod
    def from_config(cls, config: TelemetryConfig) -> FileStorage:
        """Return the storage that a configuration describes."""
        return cls(config.path, **FilePolicy.of(config)._asdict())

    def store(self, data: TelemetryData) -> None:
        """Append a batch.

        Raises:
            StorageError: it could not be appended; no file holds any of it.
        """
        self._writer.append_all({signal: data.otlp_json(signal) for signal in Signal})

    def rotate(self) -> None:
        """Seal what this storage has written so far, and what others left to be sealed.

        Returns when that is done. What cannot be sealed now is tried again later.

        Raises:
            StorageError: a file could not be rotated; it is appended to as before.
        """
        self._writer.rotate()
        for target in self._targets:
            target.rotate()
        self._sealer.run()

    def stats(self) -> FileStats:
        """Return what has been done in this process: by this storage, by the journals that are
        drained into it, and by other storages that share its files."""
        stats = sum((target.stats() for target in self._targets), self._writer.stats())
        return stats + self._sealer.stats()

    def _open_recording(self) -> FileRecording:
        with importing():
            from rimp_otel.storage.files.recording import FileRecording
        return FileRecording(self._absolute.path)

    def close(self) -> None:
        """Sync and close the files, and release their slot; the next batch opens them again.

        A journal that is drained into the files keeps its own slot until it is closed.
        """
        if self._shared is not None:
            self._shared.close()

    @property
    def _has_place_for_journals(self) -> bool:  # type: ignore[override]
        return type(self).store is FileStorage.store

    def journal_target(self, path: str | os.PathLike[str] | None = None) -> JournalTarget:
        """Return a journal in a slot of this recording, whatever ``path`` is.

        It appends to the files of its slot without calling ``store``. Where a subclass has a
        ``store`` of its own, it is called instead, and then ``path`` counts.
        """
        if not self._has_place_for_journals:
            target = super().journal_target(path)
            return target or DirectoryTarget(self.store, self._absolute.journal)
        files = FileJournalTarget(self._absolute, self.policy, self._writer)
        self._targets.append(files)
        return files

    def __repr__(self) -> str:
        return f"FileStorage({os.fspath(self.layout.path)!r})"
