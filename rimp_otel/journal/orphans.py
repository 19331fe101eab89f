"""What a process leaves in its journal beside segments: spans that were open, and its crash.

The next owner of the slot makes a segment of them, of the same number, and then deletes them. All
of that comes before anything is drained: so where the segment is there, it has been made whole; and
where it is not, nothing of it was stored. A reader makes the same records, and changes nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from rimp_otel.batch import decode_batch
from rimp_otel.errors import DecodeError
from rimp_otel.journal.format import HEADER_SIZE, LETTERS, Header, Origins, definition, frames_in
from rimp_otel.journal.interrupted import (
    OpenSpansLeft,
    crash_event_fragment,
    crash_name,
    interrupted_fragments,
    read_crash,
    read_open_spans,
)
from rimp_otel.journal.open_spans import open_spans_name
from rimp_otel.journal.segment import put_aside, segment_name, sync_names
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import EncodedRecord, Envelope, Envelopes, join_line, resource_envelope
from rimp_otel.otlp.values import to_bytes

__all__ = ["LeftoverLines", "Leftovers", "convert_leftovers", "read_leftovers"]

_KINDS = re.compile(r"([0-9]{6,})\.(?:open|crash)")
_TEMPORARY = ".tmp"
_TIMES = re.compile(rb'"(?:endTimeUnixNano|timeUnixNano)":"([0-9]{1,19})"')
_LAST = 64 * 1024
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_NOTHING = OpenSpansLeft([], 0, 0, 0)

IsFinished = Callable[[str], bool]
SpanLines = Callable[[int], Iterable[bytes]]
"""Lines that may hold spans which started at a time, in nanoseconds since the epoch, or later."""


class Leftovers(NamedTuple):
    """What one process left beside segments, as records."""

    records: list[tuple[Signal, EncodedRecord]]
    #: Of its parts, those that made no sense.
    damaged: int


def convert_leftovers(directory: Path, stored: SpanLines | None = None) -> int:
    """Makes segments of what processes that are gone left in a journal; its slot must be locked.

    Args:
        directory: of the journal.
        stored: after a loss of power: gives the lines that may hold a span which started at that
            time, or later. Then a table may be older than what was recorded.

    Returns:
        How many parts were damaged; their files are put aside.
    """
    for name in os.listdir(directory):
        if name.endswith(_TEMPORARY):
            (directory / name).unlink()
    segments = _Contents(directory)
    damaged = 0
    for number in _numbers(directory):
        path = directory / segment_name(number)
        if not path.exists():
            left = _read(directory, number, segments, stored)
            damaged += left.damaged
            _write_segment(path, number, left.records)
            if left.damaged:
                put_aside(directory / open_spans_name(number))
        for name in (open_spans_name(number), crash_name(number)):
            (directory / name).unlink(missing_ok=True)
    return damaged


class LeftoverLines(NamedTuple):
    """What processes that are gone left beside segments, as OTLP JSON lines."""

    #: With how many records each holds.
    lines: list[tuple[Signal, bytes, int]]
    #: Files of which a part made no sense.
    damaged: list[Path]


def read_leftovers(directory: Path, segments: list[bytes]) -> LeftoverLines:
    """The same records, with nothing changed, of a journal whose owner is gone."""
    found = LeftoverLines([], [])
    for number in _numbers(directory):
        if (directory / segment_name(number)).exists():
            continue
        left = _read(directory, number, segments)
        for signal, fragment in left.records:
            line = join_line(signal, {_origin_of(fragment): to_bytes(fragment.text)})
            found.lines.append((signal, line, 1))
        if left.damaged:
            found.damaged.append(directory / open_spans_name(number))
    return found


class _Contents:
    """The segments' bytes, read one after another: together they may be all of ``journal_size``."""

    def __init__(self, directory: Path) -> None:
        self._paths = [path for path in directory.glob("*.seg") if not path.is_symlink()]

    def __iter__(self) -> Iterator[bytes]:
        for path in self._paths:
            if path.is_file():
                yield path.read_bytes()


def _numbers(directory: Path) -> list[int]:
    try:
        names = os.listdir(directory)
    except OSError:
        return []
    return sorted({int(match[1]) for name in names if (match := _KINDS.fullmatch(name))})


def _read(
    directory: Path, number: int, segments: Iterable[bytes], stored: SpanLines | None = None
) -> Leftovers:
    left, damaged = _NOTHING, 0
    try:
        left = read_open_spans(directory / open_spans_name(number))
    except FileNotFoundError:
        pass
    except OSError:
        damaged = 1
    is_finished = _finder(segments)
    if stored is not None:
        left = _without_stored(left, is_finished, stored)
    records: list[tuple[Signal, EncodedRecord]] = [
        (Signal.TRACES, fragment)
        for fragment in interrupted_fragments(left, _last_time(segments), is_finished)
    ]
    return Leftovers(records + _crash(directory, number, left, segments), damaged + left.damaged)


def _without_stored(
    left: OpenSpansLeft, is_finished: IsFinished, stored: SpanLines
) -> OpenSpansLeft:
    """Without the spans that were recorded with their ends, whatever the table says."""
    if not left.spans:
        return left
    ids = _span_ids(stored(left.spans[0].noted.start_time_unix_nano))
    spans = [
        span for span in left.spans if span.span_id not in ids and not is_finished(span.span_id)
    ]
    return left._replace(spans=spans)


def _span_ids(lines: Iterable[bytes]) -> set[str]:
    found = set()
    for line in lines:
        try:
            spans = decode_batch(line.strip()).spans
        except DecodeError:
            continue
        found |= {f"{span.context.span_id:016x}" for span in spans}
    return found


def _crash(
    directory: Path, number: int, left: OpenSpansLeft, segments: Iterable[bytes]
) -> list[tuple[Signal, EncodedRecord]]:
    try:
        crash = read_crash(directory / crash_name(number))
    except OSError:
        return []
    if crash is None:
        return []
    resource = _resource(left, segments)
    return [
        (Signal.LOGS, crash_event_fragment(crash.text, resource, crash.time_unix_nano, left.pid))
    ]


def _resource(left: OpenSpansLeft, segments: Iterable[bytes]) -> Envelope:
    """The resource of what that process recorded."""
    for span in left.spans:
        if span.origin is not None:
            return span.origin[0]
    for segment in segments:
        first = segment[HEADER_SIZE : HEADER_SIZE + _LAST]
        records = frames_in(first, HEADER_SIZE, Origins()).records
        if records:
            return records[0].origin[0]
    return resource_envelope(None)


def _finder(segments: Iterable[bytes]) -> IsFinished:
    """Looks for the frame of a span with that id. It is in a segment, if anywhere: none is deleted
    while a span is being recorded whose frame may be in it."""

    def is_finished(span_id: str) -> bool:
        # Its own: spans and log records within it, and links to it, have the same id elsewhere.
        frame = re.compile(
            rb'\nt[0-9]+ \{"traceId":"[0-9a-f]{32}","spanId":"%b"' % span_id.encode()
        )
        return any(frame.search(segment) for segment in segments)

    return is_finished


def _last_time(segments: Iterable[bytes]) -> int:
    """When the last of the records came to be."""
    return max(
        (
            int(time)
            for segment in segments
            for time in _TIMES.findall(segment.rstrip(b"\0")[-_LAST:])
        ),
        default=0,
    )


def _write_segment(path: Path, number: int, records: list[tuple[Signal, EncodedRecord]]) -> None:
    """Whole, or not at all."""
    if not records:
        return
    temporary = path.with_suffix(_TEMPORARY)
    file = os.open(temporary, _FLAGS, 0o600)
    with os.fdopen(file, "wb") as opened:
        opened.write(_header(number))
        for index, (signal, fragment) in enumerate(records, 1):
            opened.write(to_bytes(definition(index, _origin_of(fragment))))
            opened.write(to_bytes(f"{LETTERS[signal]}{index} {fragment.text}\n"))
        opened.flush()
        os.fsync(opened.fileno())
    temporary.rename(path)
    sync_names(path.parent)


def _header(number: int) -> bytes:
    words = [0] * (HEADER_SIZE // 8)
    header = Header(words)
    header.start(number)
    header.complete()
    words[-1] = int.from_bytes(os.urandom(8), "little")
    return b"".join(word.to_bytes(8, "little") for word in words)


def _origin_of(fragment: EncodedRecord) -> Envelopes:
    return fragment.resource, fragment.scope, fragment.metric
