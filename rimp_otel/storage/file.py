"""The storage in files: three of OTLP JSON lines, append-only."""

from __future__ import annotations

import os
from contextlib import ExitStack
from threading import RLock

from rimp_otel.data import TelemetryData
from rimp_otel.forking import in_forked_child
from rimp_otel.otlp.signals import Signal
from rimp_otel.storage.appender import Appender
from rimp_otel.storage.base import Selection, TelemetryStorage, timed, untimed
from rimp_otel.storage.layout import Layout
from rimp_otel.storage.reader import DamagedLine, RecordingReader
from rimp_otel.times import TimeLike

__all__ = ["FileStorage"]


class FileStorage(TelemetryStorage):
    """Appends batches to ``traces.jsonl``, ``logs.jsonl`` and ``metrics.jsonl``.

    Each line is OTLP JSON as the OpenTelemetry file exporter specification has it. Lines are
    appended whole; a batch is appended to all of its files or to none. Several processes may
    append to one recording. Files are made when the first record comes, readable by their owner
    alone (0600, a directory 0700); symbolic links are not followed.

    Args:
        path: a directory, or the name of a family of files that ends in ``.jsonl``:
            ``/var/log/telemetry.jsonl`` stands for ``/var/log/telemetry-traces.jsonl`` and so on.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.layout = Layout(path)
        #: Lines that the last ``retrieve`` skipped, because they were no OTLP JSON.
        self.damaged: list[DamagedLine] = []
        self._appenders = {
            signal: Appender(self.layout.file(signal), self.layout.make_directory)
            for signal in Signal
        }
        self._renew_lock()
        in_forked_child(self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = RLock()

    def store(self, data: TelemetryData) -> None:
        """Appends the batch.

        Raises:
            StorageError: it could not be appended; then no file holds any of it.
        """
        lines = {signal: data.otlp_json(signal) for signal in Signal}
        with self._lock, ExitStack() as undo:
            for signal, found in lines.items():
                if found:
                    undo.enter_context(self._appenders[signal].appending(found))

    def retrieve(
        self,
        start_time: TimeLike | None = None,
        end_time: TimeLike | None = None,
        limit: int | None = None,
    ) -> TelemetryData:
        """The records of the range, as the contract says. Changes nothing on disk."""
        selection = Selection.of(start_time, end_time, limit)
        reader = RecordingReader(self.layout.path)
        # What is certain not to be among the newest is let go of while reading.
        keep = None if limit is None else max(4 * limit, 10_000)
        found: list[tuple[int, str, object]] = []
        for data in reader.poll(final=True):
            found += [record for record in timed(data) if selection.holds(record[0])]
            if keep is not None and len(found) > keep:
                found = selection.newest(found)
        self.damaged = reader.damaged
        return untimed(selection.newest(found))

    def close(self) -> None:
        """Closes the files; the next batch opens them again."""
        with self._lock:
            for appender in self._appenders.values():
                appender.close()

    def __repr__(self) -> str:
        return f"FileStorage({os.fspath(self.layout.path)!r})"
