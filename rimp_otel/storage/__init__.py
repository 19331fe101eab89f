"""The storages that keep batches, and the reading of recordings.

What lives here: the contract of a storage (``base``), the storages in memory, in files (``files``)
in SQLite (``sqlite``) and in ClickHouse (``clickhouse``), one way to read recordings of both kinds (``recording``), and what the
readers share (``reading``, ``slots``). Imports: from ``journal``, ``batch`` and below; ``sqlite``
and ``files`` do not import each other. Public: the names of this package; each is loaded when it is
first asked for (PEP 562), so that who records into files waits for no SQLite.

To write a storage of one's own, subclass ``TelemetryStorage``:

- ``store(data)`` keeps all of a batch, or raises and keeps nothing of it. It is called by one thread
  at a time. ``data.otlp_json(signal)`` is the batch as text, ``data.spans``, ``data.events`` and
  ``data.metrics`` are its records.
- ``retrieve(start_time, end_time, limit)`` returns records; ``select`` does the work for a storage
  that has them all at hand. Taking conditions, too (``**conditions``), is optional.
- ``close()`` closes what is held open, if anything is. The storage may be used again.
- Exactly once: a batch out of a journal has a ``data.slice_id``. It is the same again if the batch
  is stored again after the process died between storing it and noting that in the journal. A
  storage that keeps the id in the same transaction as the records, and skips a batch whose id it
  knows, has each record once; without, a death can store the last batch twice.
- ``journal_target(path)`` says where a journal for this storage lives, so that no record is lost
  when the process dies. The default is a directory, if the configuration names one by
  ``journal_path``; a storage that persists overrides it by ``DirectoryTarget(self.store, …)`` with
  a directory beside its data. A storage that can be written past ``store`` returns a
  ``JournalTarget`` of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimp_otel.lazy_exports import export_lazily

if TYPE_CHECKING:
    from rimp_otel.journal.target import DirectoryTarget as DirectoryTarget
    from rimp_otel.journal.target import JournalTarget as JournalTarget
    from rimp_otel.storage.base import DamagedLine as DamagedLine
    from rimp_otel.storage.base import Recording as Recording
    from rimp_otel.storage.base import RecordingFile as RecordingFile
    from rimp_otel.storage.base import Selection as Selection
    from rimp_otel.storage.base import TelemetryStorage as TelemetryStorage
    from rimp_otel.storage.base import select as select
    from rimp_otel.storage.clickhouse.storage import ClickHouseStorage as ClickHouseStorage
    from rimp_otel.storage.files.policy import FileStats as FileStats
    from rimp_otel.storage.files.storage import FileStorage as FileStorage
    from rimp_otel.storage.memory import MemoryStorage as MemoryStorage
    from rimp_otel.storage.recording import open_recording as open_recording
    from rimp_otel.storage.sqlite.storage import SQLiteStorage as SQLiteStorage
    from rimp_otel.storage.sqlite.writer import SQLiteStats as SQLiteStats

export_lazily(
    __name__,
    {
        "ClickHouseStorage": "rimp_otel.storage.clickhouse.storage",
        "DamagedLine": "rimp_otel.storage.base",
        "DirectoryTarget": "rimp_otel.journal.target",
        "FileStats": "rimp_otel.storage.files.policy",
        "FileStorage": "rimp_otel.storage.files.storage",
        "JournalTarget": "rimp_otel.journal.target",
        "MemoryStorage": "rimp_otel.storage.memory",
        "Recording": "rimp_otel.storage.base",
        "RecordingFile": "rimp_otel.storage.base",
        "SQLiteStats": "rimp_otel.storage.sqlite.writer",
        "SQLiteStorage": "rimp_otel.storage.sqlite.storage",
        "Selection": "rimp_otel.storage.base",
        "TelemetryStorage": "rimp_otel.storage.base",
        "open_recording": "rimp_otel.storage.recording",
        "select": "rimp_otel.storage.base",
    },
)
