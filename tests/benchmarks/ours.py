"""The package, set up as in an application: collector, stream, files, journal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream
from rimp_otel.storage.files.recording import FileRecording
from rimp_otel.storage.reading import count_line

_LONG = 600.0


@contextmanager
def recorder(path: Path, **config: Any) -> Iterator[TelemetryStream]:
    """Return a stream whose records are all in the files at the end of the block."""
    collector = TelemetryCollector(
        TelemetryConfig(storage_backend="file", storage_path=path, **config)
    )
    stream = TelemetryStream(collector)
    stream.start()
    try:
        yield stream
    finally:
        finish(stream)


def finish(stream: TelemetryStream) -> None:
    """Wait until all records are in the files."""
    if not stream.stop(_LONG):
        raise AssertionError("not all of it could be stored")


def count_records(path: Path) -> int:
    """Return how many records are in the files."""
    return sum(map(len, FileRecording(path, count_line).poll()))
