"""The exceptions of this package, as one tree.

    RimpError
    ├── ConfigurationError   a setting is wrong (also a ValueError)
    ├── DecodeError          a text is not OTLP JSON (also a ValueError)
    ├── StorageError         a storage could not take or give records
    │   └── NoRecordingError nothing is recorded at a path
    ├── QueryError           a query is wrong, not allowed, or took too long
    └── MissingExtraError    an optional dependency is not installed (also an ImportError)

Every message says what is wrong, with the value, then what to do. None of them is ever raised from
``collect_*``, ``on_start``, ``on_end`` or ``on_emit`` into an application.
"""

from __future__ import annotations

__all__ = [
    "ConfigurationError",
    "DecodeError",
    "MissingExtraError",
    "NoRecordingError",
    "QueryError",
    "RimpError",
    "StorageError",
]


class RimpError(Exception):
    """The root of this package's exceptions."""


class ConfigurationError(RimpError, ValueError):
    """A setting has a value that is not allowed."""


class DecodeError(RimpError, ValueError):
    """A text is not OTLP JSON.

    Args:
        reason: what is wrong.
        path, line: where, once known; lines count from 1.
    """

    def __init__(self, reason: str, path: str | None = None, line: int | None = None) -> None:
        self.reason = reason
        self.path = path
        self.line = line
        where = ":".join(str(part) for part in (path, line) if part is not None)
        super().__init__(f"{where}: {reason}" if where else reason)

    def at(self, path: str, line: int) -> DecodeError:
        """Return this error with the place where it was found."""
        return DecodeError(self.reason, path, line)


class StorageError(RimpError):
    """A storage could not take or give records."""


class NoRecordingError(StorageError):
    """Nothing is recorded at a path."""


class QueryError(RimpError):
    """A query is wrong, or not allowed, or took too long."""


class MissingExtraError(RimpError, ImportError):
    """An optional dependency is not installed; the message says how to install it.

    Args:
        what: the package that is missing.
        extra: the extra of this package that has it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} is not installed. Install it with: pip install 'rimp-otel[{extra}]'"
        )
