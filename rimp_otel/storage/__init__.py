"""Where batches are kept. ``TelemetryStorage`` is what to subclass for a backend of one's own."""

from __future__ import annotations

from rimp_otel.storage.base import TelemetryStorage, select
from rimp_otel.storage.file import FileStorage
from rimp_otel.storage.memory import MemoryStorage
from rimp_otel.storage.policy import FileStats
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
