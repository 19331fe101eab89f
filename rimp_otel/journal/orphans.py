"""Orphans: what a dead process left beside segments: open spans, its crash, measurements.

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
from rimp_otel.fsutil import CREATE_NEW_FLAGS, open_regular, sync_directory
from rimp_otel.journal.checkpoint import join_points, read_checkpoint
from rimp_otel.journal.format import (
    FRAME_ENDS,
    HEADER_SIZE,
    Definitions,
    Header,
    encode_frames,
    parse_frames,
)
from rimp_otel.journal.interrupted import (
    OpenSpansLeft,
    encode_crash_event,
    encode_interrupted_spans,
    read_crash,
    read_open_spans,
)
from rimp_otel.journal.segment import quarantine_file
from rimp_otel.journal.slots import JournalFileKind, classify_journal_file, journal_file_name
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import (
    EncodedRecord,
    Envelope,
    RecordEnvelopes,
    join_line,
    resource_envelope,
)
from rimp_otel.otlp.values import to_bytes

__all__ = ["OrphanLines", "Orphans", "convert_orphans", "read_orphans"]

_ORPHANS = {JournalFileKind.OPEN_SPANS, JournalFileKind.CRASH, JournalFileKind.CHECKPOINT}
_TIMES = re.compile(rb'"(?:endTimeUnixNano|timeUnixNano)":"([0-9]{1,19})"')
# Bytes in which the first record of a segment is looked for, and the last times.
_SAMPLE = 64 * 1024
_NO_OPEN_SPANS = OpenSpansLeft([], 0, 0, 0)

IsFinished = Callable[[str], bool]
"""Returns True if a span of that id, 16 hex digits, was recorded with its end."""

SpanLines = Callable[[int], Iterable[bytes]]
"""Returns lines that may hold spans which started at a time, in nanoseconds since the epoch, or
later."""


class Orphans(NamedTuple):
    """The orphans of one process, as records."""

    records: list[tuple[Signal, EncodedRecord]]
    #: The number of its parts that made no sense, by their files.
    damaged: dict[Path, int]


def convert_orphans(directory: Path, stored: SpanLines | None = None) -> int:
    """Make segments of what processes that are gone left in a journal; its slot must be locked.

    Args:
        directory: of the journal.
        stored: after a loss of power: returns the lines that may hold a span which started at that
            time, or later. Then a table may be older than what was recorded.

    Returns:
        How many parts were damaged; their files are put into quarantine.

    Raises:
        OSError: a segment could not be written; nothing is lost.
    """
    for name in os.listdir(directory):
        if classify_journal_file(name).kind is JournalFileKind.TEMPORARY:
            (directory / name).unlink()
    segments = _SegmentContents(directory)
    damaged = 0
    for number in _orphan_numbers(directory):
        path = directory / journal_file_name(number, JournalFileKind.SEGMENT)
        if not path.exists():
            orphans = _read_numbered(directory, number, segments, stored)
            damaged += sum(orphans.damaged.values())
            _write_segment(path, number, orphans.records)
            for file in orphans.damaged:
                quarantine_file(file)
        for kind in _ORPHANS:
            (directory / journal_file_name(number, kind)).unlink(missing_ok=True)
    return damaged


class OrphanLines(NamedTuple):
    """The orphans of processes that are gone, as OTLP JSON lines."""

    #: With how many records each holds.
    lines: list[tuple[Signal, bytes, int]]
    #: Files of which a part made no sense.
    damaged: list[Path]


def read_orphans(directory: Path, segments: list[bytes]) -> OrphanLines:
    """Return the records that ``convert_orphans`` would make, and change nothing.

    Args:
        directory: of a journal whose owner is gone.
        segments: the contents of its segments.
    """
    found = OrphanLines([], [])
    for number in _orphan_numbers(directory):
        if (directory / journal_file_name(number, JournalFileKind.SEGMENT)).exists():
            continue
        orphans = _read_numbered(directory, number, segments)
        points = [record for signal, record in orphans.records if signal is Signal.METRICS]
        found.lines.extend((Signal.METRICS, *joined) for joined in join_points(points))
        for signal, record in orphans.records:
            if signal is Signal.METRICS:
                continue
            line = join_line(signal, {_envelopes_of(record): to_bytes(record.text)})
            found.lines.append((signal, line, 1))
        found.damaged.extend(orphans.damaged)
    return found


class _SegmentContents:
    """The segments' bytes, read one after another: together they may be all of ``journal_size``."""

    def __init__(self, directory: Path) -> None:
        self._paths = [
            directory / name
            for name in os.listdir(directory)
            if classify_journal_file(name).kind is JournalFileKind.SEGMENT
        ]

    def __iter__(self) -> Iterator[bytes]:
        for path in self._paths:
            try:
                file = open_regular(path)
            except OSError:
                continue  # stored, and gone; or nothing that can be read
            with os.fdopen(file, "rb") as opened:
                yield opened.read()


def _orphan_numbers(directory: Path) -> list[int]:
    try:
        files = map(classify_journal_file, os.listdir(directory))
    except OSError:
        return []
    return sorted({file.number for file in files if file.kind in _ORPHANS and file.number})


def _read_numbered(
    directory: Path, number: int, segments: Iterable[bytes], stored: SpanLines | None = None
) -> Orphans:
    open_spans, crash, checkpoint = (
        directory / journal_file_name(number, kind)
        for kind in (JournalFileKind.OPEN_SPANS, JournalFileKind.CRASH, JournalFileKind.CHECKPOINT)
    )
    left, damaged = _NO_OPEN_SPANS, {}
    try:
        left = read_open_spans(open_spans)
        damaged[open_spans] = left.damaged
    except FileNotFoundError:
        pass
    except OSError:
        damaged[open_spans] = 1
    is_finished = _span_finder(segments)
    if stored is not None:
        left = _remove_stored(left, is_finished, stored)
    records: list[tuple[Signal, EncodedRecord]] = [
        (Signal.TRACES, record)
        for record in encode_interrupted_spans(left, _last_time(segments), is_finished)
    ]
    records += _crash_records(crash, left, segments)
    try:
        points, is_damaged = read_checkpoint(checkpoint)
    except FileNotFoundError:
        pass
    except OSError:
        damaged[checkpoint] = 1
    else:
        records += [(Signal.METRICS, point) for point in points]
        damaged[checkpoint] = int(is_damaged)
    return Orphans(records, {path: parts for path, parts in damaged.items() if parts})


def _remove_stored(
    left: OpenSpansLeft, is_finished: IsFinished, stored: SpanLines
) -> OpenSpansLeft:
    """Remove the spans that were recorded with their ends, whatever the table says."""
    if not left.spans:
        return left
    ids = _span_ids(stored(left.spans[0].entry.start_time_unix_nano))
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


def _crash_records(
    path: Path, left: OpenSpansLeft, segments: Iterable[bytes]
) -> list[tuple[Signal, EncodedRecord]]:
    try:
        crash = read_crash(path)
    except OSError:
        return []
    if crash is None:
        return []
    resource = _resource_of_process(left, segments)
    record = encode_crash_event(crash.text, resource, crash.time_unix_nano, left.pid)
    return [(Signal.LOGS, record)]


def _resource_of_process(left: OpenSpansLeft, segments: Iterable[bytes]) -> Envelope:
    """Return the resource of what that process recorded."""
    for span in left.spans:
        if span.envelopes is not None:
            return span.envelopes[0]
    for segment in segments:
        first = segment[HEADER_SIZE : HEADER_SIZE + _SAMPLE]
        records = parse_frames(first, HEADER_SIZE, Definitions()).records
        if records:
            return records[0].envelopes[0]
    return resource_envelope(None)


def _span_finder(segments: Iterable[bytes]) -> IsFinished:
    """Return a function that looks for the frame of a span.

    It is in a segment, if anywhere: none is deleted while a span is being recorded whose frame may
    be in it.
    """

    ends = b"".join(FRAME_ENDS)

    def is_finished(span_id: str) -> bool:
        # Its own: spans and log records within it, and links to it, have the same id elsewhere. Whole:
        # of one that was being written when the process died, only a part may be there.
        head = rb't[0-9]+ \{"traceId":"[0-9a-f]{32}","spanId":"%b"' % span_id.encode()
        # One pattern for both ends of the frame before it takes ten times as long.
        frames = [re.compile(b"%b%b[^\0%b]*[%b]" % (end, head, ends, ends)) for end in FRAME_ENDS]
        return any(frame.search(segment) for segment in segments for frame in frames)

    return is_finished


def _last_time(segments: Iterable[bytes]) -> int:
    """Return the time of the last record in the segments; 0 if there is none."""
    return max(
        (
            int(time)
            for segment in segments
            for time in _TIMES.findall(segment.rstrip(b"\0")[-_SAMPLE:])
        ),
        default=0,
    )


def _write_segment(path: Path, number: int, records: list[tuple[Signal, EncodedRecord]]) -> None:
    """Write a segment whole, or not at all."""
    if not records:
        return
    temporary = path.with_suffix(JournalFileKind.TEMPORARY.value)
    file = os.open(temporary, CREATE_NEW_FLAGS, 0o600)
    with os.fdopen(file, "wb") as opened:
        opened.write(_new_header(number))
        opened.write(encode_frames(records))
        opened.flush()
        os.fsync(opened.fileno())
    temporary.rename(path)
    sync_directory(path.parent)


def _new_header(number: int) -> bytes:
    words = [0] * (HEADER_SIZE // 8)
    header = Header(words)
    header.initialize(number)
    header.complete()
    words[-1] = int.from_bytes(os.urandom(8), "little")
    return b"".join(word.to_bytes(8, "little") for word in words)


def _envelopes_of(record: EncodedRecord) -> RecordEnvelopes:
    return record.resource, record.scope, record.metric
