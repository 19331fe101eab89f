"""Lines that may hold a record which a journal still has: asked for after a loss of power."""

from __future__ import annotations

from collections.abc import Iterator

from rimp_otel.otlp.signals import Signal
from rimp_otel.storage.content import Content, find, lines_of, list_contents
from rimp_otel.storage.layout import Layout

__all__ = ["rotated_since"]


def rotated_since(layout: Layout, signal: Signal, time_unix_nano: int) -> Iterator[bytes]:
    """The lines of all rotated files that may hold a record of that time or a later one.

    Args:
        layout: of the recording.
        signal: whose files.
        time_unix_nano: as ``retrieve`` understands it, in nanoseconds since the epoch.

    Raises:
        StorageError: a file cannot be read.
    """
    for content in list_contents(layout.sealed):
        if content.signal is signal and _may_hold(content, time_unix_nano):
            yield from _lines(content, layout)


def _may_hold(content: Content, time_unix_nano: int) -> bool:
    name = content.name
    return name is None or name.last is None or name.last >= time_unix_nano


def _lines(content: Content, layout: Layout) -> Iterator[bytes]:
    found = find(content, layout.sealed)
    if found is None:
        return  # retention took it
    with found.file:
        for line in lines_of(found, 0, 0, None, torn=False):
            if line.text is not None:
                yield line.text
