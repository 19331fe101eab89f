"""What lies beside a database file: the journals of those who write into it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from rimp_otel.otlp.signals import Signal
from rimp_otel.storage.layout import Layout

__all__ = ["DatabaseLayout"]

_SLOT = re.compile(r"\.journal(?:\.([1-9][0-9]{0,4}))?", re.ASCII)


class DatabaseLayout(Layout):
    """For ``telemetry.db``, the directories ``telemetry.db.journal``, ``telemetry.db.journal.1``
    and so on. (``telemetry.db-journal`` would be SQLite's.)"""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self.is_family = True  # beside each other, not in a directory of that name

    def file(self, signal: Signal, slot: int = 0) -> Path:
        """The file of all of them."""
        return self.path

    def _named(self, name: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{name}")

    def _slot_of(self, name: str) -> int | None:
        match = _SLOT.fullmatch(name.removeprefix(self.path.name))
        if match is None or not name.startswith(self.path.name):
            return None
        return int(match[1] or 0)
