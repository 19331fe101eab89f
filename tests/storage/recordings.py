"""Looking at what lies on disk, without the reader of the package."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import zstandard

from rimp_otel import TelemetryData, TelemetryEvent
from rimp_otel.models.records import Signal
from rimp_otel.storage.files.layout import Layout, SealedName, fingerprint


def batch(*messages: str) -> TelemetryData:
    """Return events with these messages."""
    return TelemetryData(events=[TelemetryEvent("a", message) for message in messages])


def line(*messages: str) -> bytes:
    """Return events with these messages as one OTLP JSON line."""
    (text,) = batch(*messages).otlp_json(Signal.LOGS)
    return text


def text_of(path: Path) -> bytes:
    """Return a file's text, decompressed."""
    packed = path.read_bytes()
    if path.suffix == ".zst":
        reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        return reader.read()
    return gzip.decompress(packed) if path.suffix == ".gz" else packed


def contents(path: Path, signal: Signal = Signal.LOGS) -> list[bytes]:
    """Return the text of each file, once: sealed ones first, then the active ones by their slots."""
    while True:
        try:
            return _contents(path, signal)
        except FileNotFoundError:
            pass  # just being sealed


def _contents(path: Path, signal: Signal) -> list[bytes]:
    layout, found = Layout(path), {}
    if layout.sealed.exists():
        for file in sorted(layout.sealed.iterdir()):
            name = SealedName.parse(file.name)
            if name is not None and name.signal is signal:
                found[name.id] = text_of(file)
    for slot in layout.slots():
        active = layout.file(signal, slot)
        if active.exists() and (text := active.read_bytes()):
            found[fingerprint(text.partition(b"\n")[0])] = text
    return list(found.values())


def messages(path: Path) -> list[str]:
    """Return the messages of all events in all files, each line of which must be whole."""
    return [
        record["body"]["stringValue"]
        for text in contents(path)
        for row in text.splitlines()
        for resource in json.loads(row)["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]


def files(directory: Path) -> list[Path]:
    """Return the files in a directory, in order, without derived ones (indexes)."""
    return sorted(path for path in directory.iterdir() if path.suffix != ".idx")


def names(directory: Path) -> list[str]:
    """Return the names of the files; none if there is no directory."""
    return [path.name for path in files(directory)] if directory.exists() else []
