"""The destination ``file:``: files of OTLP JSON lines, one for all signals or a directory with one for each.

A batch is acknowledged once it is forced to the device. A file whose end is torn, by a forwarder that was
killed, is repaired before more is appended; the batch is then sent again.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from urllib.parse import unquote, urlsplit

from rimp_otel.errors import ConfigurationError
from rimp_otel.fsutil import READ_FLAGS, lock_file, unlock_file
from rimp_otel.models.records import Signal
from rimp_otel.process import describe_error
from rimp_otel.storage.files.appender import Appender
from rimp_otel.transport.forwarding.destination import (
    Batch,
    Delivered,
    Destination,
    Outcome,
    RetryLater,
    Stopped,
    destination_name,
    is_path,
)
from rimp_otel.transport.forwarding.destination_options import DestinationOptions

__all__ = ["FileDestination", "open_file"]

_MAX_REQUEST = 64 * 1024 * 1024
_COMPRESSED = (".zst", ".gz")
# Of a device, which may be mended or have room again; of everything else somebody has to be told.
_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.ESTALE})


def open_file(url: str, options: DestinationOptions) -> Destination:
    """Return the destination of a path, or of a URL ``file:///path``.

    A path that ends in ``.jsonl`` or ``.json``, or at which there is a file, is one file for all
    signals; any other is a directory, with ``traces.jsonl``, ``logs.jsonl`` and ``metrics.jsonl``.

    Raises:
        ConfigurationError: the path is not allowed, or cannot be written to.
    """
    return FileDestination(url, options)


class FileDestination:
    """Appends batches to files, by ``open_file``. It syncs them before it acknowledges."""

    def __init__(self, url: str, options: DestinationOptions) -> None:
        self.name = destination_name(url)
        self.max_request_size = options.max_request_size or _MAX_REQUEST
        path = Path(os.path.abspath(_path_of(url)))
        if path.suffix in _COMPRESSED:
            raise ConfigurationError(
                f"a destination cannot be compressed, got {path}: give a path ending in .jsonl"
            )
        is_directory = path.is_dir() or (
            not path.exists() and path.suffix not in (".jsonl", ".json")
        )
        directory = path if is_directory else path.parent
        _make_directory(directory)
        single = None if is_directory else _LineFile(path)
        self._files = {
            signal: single or _LineFile(directory / f"{signal.value}.jsonl") for signal in Signal
        }

    def send(self, batch: Batch, timeout: float) -> Outcome:
        """Append a batch, and force it to the device. Raises nothing."""
        file = self._files[batch.signal]
        try:
            return file.append(batch, timeout)
        except OSError as error:
            reason = f"cannot write {file.path}: {error.strerror or error}"
            return RetryLater(reason) if error.errno in _PASSING else Stopped(reason)
        except Exception as error:
            return RetryLater(f"cannot write {file.path}: {describe_error(error)}")

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()


class _LineFile:
    """One file, which no other forwarder appends to meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._appender = Appender(path)
        # Signals that share a file append one after another.
        self._lock = threading.Lock()
        self._guard = -1

    def append(self, batch: Batch, timeout: float) -> Outcome:
        """Append a batch, and force it to the device.

        Raises:
            OSError: it cannot be written.
        """
        if not self._lock.acquire(timeout=timeout):
            return RetryLater(f"another signal is being written to {self.path}")
        try:
            self._appender.end()  # which creates it
            if not self._take_guard():
                return RetryLater(f"another process forwards into {self.path}")
            self._appender.append([line.strip() for line in batch.lines], lambda *_: None)
            self._appender.sync()
            return Delivered()
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the file. Several signals may share one, and close it each."""
        with self._lock:
            self._appender.close()
            guard, self._guard = self._guard, -1
            if guard >= 0:
                unlock_file(guard)
                os.close(guard)

    def _take_guard(self) -> bool:
        """Lock the file; return False if another process has locked it."""
        if self._guard < 0:
            guard = os.open(self.path, READ_FLAGS)
            if not lock_file(guard):
                os.close(guard)
                return False
            self._guard = guard
        return True


def _path_of(url: str) -> str:
    if is_path(url):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.netloc not in ("", "localhost") or not parts.path or parts.query:
        raise ConfigurationError(
            f"a file must be given as its path or as file:///PATH, got {destination_name(url)!r}"
        )
    return unquote(parts.path)


def _make_directory(directory: Path) -> None:
    """Create the directory, private to its owner, if there is none.

    Raises:
        ConfigurationError: it cannot be created, or is a recording, which would be forwarded into
            itself.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.glob("journal*/lock")):
            raise ConfigurationError(
                f"{directory} is a recording, which nothing else may write into: give another path"
            )
    except OSError as error:
        raise ConfigurationError(
            f"cannot write into {directory}: {error.strerror or error}; give another path"
        ) from None
