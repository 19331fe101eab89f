"""Shared by the readers of files and of SQLite: damaged lines, journals, records seen before."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rimp_otel.batch import TelemetryData, batch_of_lines, decode_batch
from rimp_otel.errors import DecodeError
from rimp_otel.fsutil import describe_obstacle
from rimp_otel.journal.reader import Damage
from rimp_otel.journal.slots import DATA_KINDS, classify_journal_file
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import EncodedRecord, join_lines
from rimp_otel.otlp.scan import count_records, signal_of_line
from rimp_otel.storage.base import (
    DamagedLine,
    RecordingFile,
    RecordingFileKind,
    RecordingLayout,
    UnreadableError,
)

__all__ = [
    "Decode",
    "JournalLine",
    "LineDecoder",
    "SeenRecords",
    "count_line",
    "list_files",
    "list_journal_files",
]

Decode = Callable[[bytes], TelemetryData]
"""Makes a batch of an OTLP JSON line. Raises DecodeError for one that it cannot read."""


def count_line(line: bytes) -> TelemetryData:
    """Return a batch of one OTLP JSON line whose records are counted now, and decoded when needed.

    Ten times as fast as to decode them.

    Raises:
        DecodeError: it is not of OTLP JSON's shape.
    """
    return batch_of_lines(signal_of_line(line), [line], count_records(line))


# --- Lines, and those that are damaged.


class LineDecoder:
    """Makes batches of lines, and keeps a list of those that are damaged.

    Args:
        decode: makes a batch of a line; ``decode_batch`` if None.
    """

    def __init__(self, decode: Decode | None = None) -> None:
        self.decode: Decode = decode or decode_batch
        #: Lines that were skipped so far, in the order in which they were met.
        self.damaged: list[DamagedLine] = []
        self._known: set[DamagedLine] = set()
        self._in_journals: set[Damage] = set()

    def decode_line(
        self, path: Path, number: int, text: bytes | None, reason: str = ""
    ) -> TelemetryData | None:
        """Return a batch of a line of a file; None for a blank or damaged one.

        Args:
            path: of the file.
            number: of the line, counted from 1.
            text: of the line; None for one that cannot be read.
            reason: why it cannot.
        """
        if text is not None:
            text = text.strip()
            if not text:
                return None
            try:
                return self.decode(text)
            except DecodeError as error:
                reason = error.reason
        self.note(path, number, reason)
        return None

    def note(self, path: Path, number: int, reason: str) -> None:
        """Note a damaged line, or a damaged record of a database."""
        damaged = DamagedLine(path, number, reason)
        if damaged not in self._known:  # a line may be read twice
            self._known.add(damaged)
            self.damaged.append(damaged)

    def note_unreadable(self, error: UnreadableError) -> None:
        """Note a file or a directory that cannot be read at all."""
        self.note(error.path, 0, error.reason)

    def note_in_journals(self, found: Iterable[Damage]) -> None:
        """Note the damage that the journals have now, where it is new."""
        now = list(found)
        self.damaged += [
            DamagedLine(damage.path, 0, _describe_in_journal(damage))
            for damage in now
            if damage not in self._in_journals
        ]
        self._in_journals = set(now)


def _describe_in_journal(damage: Damage) -> str:
    # What is said of the whole file has no place.
    return f"at byte {damage.offset}: {damage.reason}" if damage.offset else damage.reason


# --- Files.


def list_files(
    paths: Iterable[Path], kind: RecordingFileKind, signal: Signal | None = None
) -> list[RecordingFile]:
    """Return those of the files that are there, with their sizes."""
    found: list[RecordingFile] = []
    for path in paths:
        try:
            found.append(RecordingFile(signal, path, path.stat().st_size, kind))
        except OSError:
            continue  # rotated, sealed or deleted since; or unreadable, which reading it names
    return found


def list_journal_files(layout: RecordingLayout) -> list[RecordingFile]:
    """Return the files of all journals of a recording that can be listed.

    Raises:
        StorageError: the recording's directory cannot be read.
    """
    return [
        file
        for slot in layout.slots()
        for file in list_files(_files_in_journal(layout.journal(slot)), "journal")
    ]


def _files_in_journal(journal: Path) -> list[Path]:
    try:
        names = os.listdir(journal)
    except OSError as error:
        describe_obstacle(error)  # which reading it names
        return []
    return [journal / name for name in sorted(names) if _holds_records(name)]


def _holds_records(name: str) -> bool:
    kind, _, former_kind = classify_journal_file(name)
    return (former_kind or kind) in DATA_KINDS


# --- Records that are in a journal, and later, or at the same time, in what it is drained into.


class JournalLine(NamedTuple):
    """An OTLP JSON line of records that are in a journal, and not stored yet."""

    signal: Signal
    text: bytes


_Record = tuple[Any, ...]


class SeenRecords:
    """Remembers which records were returned out of journals, so that each is returned once.

    What a journal held at the last poll, and does not any more, has been stored since, and is met
    there in this poll. So only that has to be looked for, and what the journals hold now is
    all there is to remember. Records are told from each other by their text and what they belong
    to; of two that are the same in all, it does not matter which is which.
    """

    def __init__(self) -> None:
        #: Returned, and in a journal still, as far as is known.
        self._returned: list[JournalLine] = []
        # Returned, and to be met where it has been stored.
        self._expected: Counter[_Record] = Counter()
        # In the journals now, and stored too.
        self._met: Counter[_Record] = Counter()
        self._fresh: deque[JournalLine] = deque()
        self._lines: list[JournalLine] = []
        self._held: Counter[_Record] | None = None

    def begin(self, journal: Iterable[JournalLine]) -> None:
        """Begin a poll, in which the journals hold these lines."""
        gone = Counter(self._returned)
        self._lines = list(journal)
        self._returned, self._held = [], None
        self._fresh.clear()
        for line in self._lines:
            if gone[line] > 0:
                gone[line] -= 1
                self._returned.append(line)
            else:
                self._fresh.append(line)
        self._expected += _records_of(gone.elements())
        self._expected -= self._met
        self._met = Counter()

    def skip(self) -> None:
        """Take all that the journals hold for returned."""
        self._returned = self._lines
        self._fresh.clear()
        self.end()

    def without_seen(self, data: TelemetryData, is_certain: bool) -> TelemetryData | None:
        """Return stored records, but for those that were returned before; None for none.

        Args:
            data: the records.
            is_certain: True if none of them is in a journal too, in this poll.
        """
        left: TelemetryData | None = data
        if not is_certain and self._lines:
            if self._held is None:
                self._held = _records_of(self._lines)
            left = _without_records(data, self._held, self._met)
        return left and _without_records(left, self._expected)

    def fresh(self) -> Iterator[TelemetryData]:
        """Iterate over what the journals hold and was not returned yet."""
        while self._fresh:
            line = self._fresh.popleft()
            self._returned.append(line)
            data = _decode_journal_line(line)
            left = data and _without_records(data, self._expected)
            if left:
                yield left

    def end(self) -> None:
        """End the poll: what was expected and not met was lost or deleted."""
        self._expected.clear()
        self._lines, self._held = [], None


def _records_of(found: Iterable[JournalLine]) -> Counter[_Record]:
    records: Counter[_Record] = Counter()
    for line in found:
        data = _decode_journal_line(line)
        if data is not None:
            records.update(map(_to_record, data.encoded_records(line.signal)))
    return records


def _decode_journal_line(line: JournalLine) -> TelemetryData | None:
    try:
        return decode_batch(line.text)
    except DecodeError:  # which the journal's reader has looked for, and reported
        return None


def _to_record(encoded: EncodedRecord) -> _Record:
    return encoded[1:]


def _without_records(
    data: TelemetryData, records: Counter[_Record], taken: Counter[_Record] | None = None
) -> TelemetryData | None:
    """Return the data without these records, each of which is then taken from ``records``."""
    if not records:
        return data
    texts: list[bytes] = []
    is_changed = False
    for signal in Signal:
        kept = []
        for encoded in data.encoded_records(signal):
            record = _to_record(encoded)
            if records[record] <= 0:
                kept.append(encoded)
                continue
            is_changed = True
            records[record] -= 1
            if not records[record]:
                del records[record]
            if taken is not None:
                taken[record] += 1
        texts += join_lines(signal, kept)
    if not is_changed:
        return data
    return TelemetryData.from_otlp_json(texts) if texts else None
