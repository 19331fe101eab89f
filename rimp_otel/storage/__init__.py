"""Where batches are kept. ``TelemetryStorage`` is what to subclass for a backend of one's own.

Each name is loaded when it is first asked for (PEP 562): who records into files needs no SQLite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimp_otel.lazy_exports import on_demand

if TYPE_CHECKING:
    from rimp_otel.storage.base import TelemetryStorage, select
    from rimp_otel.storage.files.policy import FileStats
    from rimp_otel.storage.files.storage import FileStorage
    from rimp_otel.storage.memory import MemoryStorage
    from rimp_otel.storage.sqlite import SQLiteStats, SQLiteStorage

__all__ = [
    "FileStats",
    "FileStorage",
    "MemoryStorage",
    "SQLiteStats",
    "SQLiteStorage",
    "TelemetryStorage",
    "select",
]

_HOMES = {
    "FileStats": "files.policy",
    "FileStorage": "files.storage",
    "MemoryStorage": "memory",
    "SQLiteStats": "sqlite",
    "SQLiteStorage": "sqlite",
    "TelemetryStorage": "base",
    "select": "base",
}

__getattr__, __dir__ = on_demand(__name__, _HOMES)
