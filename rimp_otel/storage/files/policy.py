"""The options of a file storage, and the counts of its work."""

from __future__ import annotations

from typing import NamedTuple

from rimp_otel.config import TelemetryConfig

__all__ = ["FilePolicy", "FileStats"]


class FilePolicy(NamedTuple):
    """When files are rotated, how they are sealed, how long they are kept, when they are synced.

    The fields are those of TelemetryConfig.
    """

    rotate_size: int
    rotate_age: float
    compression: str
    retain_size: int | None
    retain_age: float | None
    parquet: bool
    sync: str
    sync_interval: float

    @property
    def syncs(self) -> bool:
        """True if anything is ever forced to the device."""
        return self.sync != "never"

    @classmethod
    def of(cls, config: TelemetryConfig) -> FilePolicy:
        """Return the policy of a configuration."""
        return cls(*(getattr(config, name) for name in cls._fields))


class FileStats(NamedTuple):
    """Exact counts of this process's work on a recording."""

    #: Lines appended.
    lines: int = 0
    #: Bytes appended, the ends of lines included.
    bytes: int = 0
    #: Active files that were rotated.
    rotated: int = 0
    #: Rotations that failed; the file was appended to all the same.
    rotate_failures: int = 0
    #: Files sealed, other processes' leftovers included.
    sealed: int = 0
    #: Bytes that the sealed ones had before, and have now.
    sealed_from: int = 0
    sealed_to: int = 0
    #: Attempts to seal a file that failed; it waits, whole, and is tried again.
    seal_failures: int = 0
    #: Sealed files deleted to keep within ``retain_size`` and ``retain_age``.
    deleted_files: int = 0
    #: Their bytes.
    deleted_bytes: int = 0
    #: Torn lines, of killed writers, that were ended or cut off.
    repaired: int = 0
    #: Times that the device refused to take what had been appended.
    sync_failures: int = 0
    #: Times that the writer slot was lost, because its lock file was removed from outside.
    slots_lost: int = 0

    def __add__(self, other: object) -> FileStats:
        """Return the sums."""
        if not isinstance(other, FileStats):
            return NotImplemented
        return FileStats(*map(sum, zip(self, other, strict=True)))
