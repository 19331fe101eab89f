"""Which files a recording is made of."""

from __future__ import annotations

import os
from pathlib import Path

from rimp_otel.errors import StorageError
from rimp_otel.otlp.signals import Signal

__all__ = ["Layout"]


class Layout:
    """The files of the recording at ``path``: one for each signal, as the OpenTelemetry file
    exporter specification demands.

    ``telemetry`` is a directory with ``traces.jsonl`` and so on; ``telemetry.jsonl`` stands for
    ``telemetry-traces.jsonl`` and so on beside each other.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.is_family = self.path.suffix == ".jsonl"

    @property
    def directory(self) -> Path:
        """The directory that the files lie in."""
        return self.path.parent if self.is_family else self.path

    def file(self, signal: Signal) -> Path:
        """The file of one signal."""
        if self.is_family:
            return self.path.with_name(f"{self.path.stem}-{signal.value}.jsonl")
        return self.path / f"{signal.value}.jsonl"

    def make_directory(self) -> None:
        """Makes the directory, private to its owner, where there is none.

        Raises:
            StorageError: it cannot be made.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot record into {self.directory}: {error.strerror or error}; "
                "give a path to a directory that can be written, or a file family ending in .jsonl"
            ) from error
