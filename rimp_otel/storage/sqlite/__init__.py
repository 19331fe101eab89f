"""The storage in one SQLite file."""

from __future__ import annotations

from rimp_otel.storage.sqlite.storage import SQLiteStorage
from rimp_otel.storage.sqlite.writer import SQLiteStats

__all__ = ["SQLiteStats", "SQLiteStorage"]
