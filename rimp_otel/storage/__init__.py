"""Where batches are kept. ``TelemetryStorage`` is what to subclass for a backend of one's own.

Each name is loaded when it is first asked for (PEP 562): who records into files needs no SQLite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimp_otel.names import on_demand

if TYPE_CHECKING:
    from rimp_otel.storage.base import TelemetryStorage
    from rimp_otel.storage.file import FileStorage
    from rimp_otel.storage.memory import MemoryStorage
    from rimp_otel.storage.policy import FileStats
    from rimp_otel.storage.selecting import select
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
    "FileStats": "policy",
    "FileStorage": "file",
    "MemoryStorage": "memory",
    "SQLiteStats": "sqlite",
    "SQLiteStorage": "sqlite",
    "TelemetryStorage": "base",
    "select": "selecting",
}

__getattr__, __dir__ = on_demand(__name__, _HOMES)
