"""Where batches are kept. ``TelemetryStorage`` is what to subclass for a backend of one's own.

Each name is loaded when it is first asked for (PEP 562): who records into files needs no SQLite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimp_otel.lazy_exports import export_lazily

if TYPE_CHECKING:
    from rimp_otel.storage.base import TelemetryStorage as TelemetryStorage
    from rimp_otel.storage.base import select as select
    from rimp_otel.storage.files.policy import FileStats as FileStats
    from rimp_otel.storage.files.storage import FileStorage as FileStorage
    from rimp_otel.storage.memory import MemoryStorage as MemoryStorage
    from rimp_otel.storage.sqlite import SQLiteStats as SQLiteStats
    from rimp_otel.storage.sqlite import SQLiteStorage as SQLiteStorage

export_lazily(
    __name__,
    {
        "FileStats": "rimp_otel.storage.files.policy",
        "FileStorage": "rimp_otel.storage.files.storage",
        "MemoryStorage": "rimp_otel.storage.memory",
        "SQLiteStats": "rimp_otel.storage.sqlite",
        "SQLiteStorage": "rimp_otel.storage.sqlite",
        "TelemetryStorage": "rimp_otel.storage.base",
        "select": "rimp_otel.storage.base",
    },
)
