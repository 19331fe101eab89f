"""Checks a whole recording for damage, changing nothing, also while it is written."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.protobuf import protobuf_from_line
from rimp_otel.otlp.scan import TimeRange
from rimp_otel.storage.base import UnreadableError
from rimp_otel.storage.files.index import IndexFault, find_index_fault, index_path
from rimp_otel.storage.files.layout import (
    FileState,
    Layout,
    SealedName,
    fingerprint,
    list_entries,
)
from rimp_otel.storage.files.lines import (
    FileKey,
    Line,
    OpenFile,
    fingerprint_of,
    list_data_files,
    open_regular_file,
    read_lines,
)
from rimp_otel.storage.slots import INTERRUPTED, SlotState, inspect_slots

__all__ = [
    "FileCheck",
    "Inspection",
    "ParseLine",
    "Problem",
    "ProblemCode",
    "Tally",
    "find_exposure",
    "parse_line",
    "parse_line_strictly",
]


# --- What can be wrong with a recording.

ParseLine = Callable[[bytes], int]
"""Returns how many records a line holds. Raises DecodeError for one that cannot be read."""


class ProblemCode(str, Enum):
    """Kinds of problems and remarks. ``Problem.detail`` has what is in parentheses."""

    #: A line that cannot be read (why not).
    BAD_LINE = "bad_line"
    #: A part of a compressed file that cannot be decompressed (why not).
    BAD_BLOCK = "bad_block"
    #: The last line has no end.
    UNENDED_LINE = "unended_line"
    #: A part of a journal that cannot be read (why not).
    BAD_JOURNAL = "bad_journal"
    #: A file or a directory that cannot be read at all (why not).
    UNREADABLE = "unreadable"
    #: A segment of a journal, or a table of open spans, that a recovery quarantined.
    QUARANTINED = "quarantined"
    #: A sealed file whose first line has another id than its name (the right id).
    WRONG_ID = "wrong_id"
    #: A sealed file with records outside of the times in its name.
    WRONG_TIMES = "wrong_times"
    #: A file that holds the same as another one (its name): sealing it was interrupted.
    DUPLICATE = "duplicate"
    #: The index of a sealed file is missing.
    INDEX_MISSING = "index_missing"
    #: The index of a sealed file is damaged, or that of another file.
    INDEX_DAMAGED = "index_damaged"
    #: The index of a sealed file does not agree with it.
    INDEX_WRONG = "index_wrong"
    #: A temporary file of a process that died.
    STALE = "stale"
    #: A file derived from a sealed file that is gone.
    ORPHAN = "orphan"
    #: A file that is not the recording's.
    FOREIGN = "foreign"
    #: A symbolic link, through which nothing is recorded.
    LINK = "link"
    #: A file of another user.
    OTHER_OWNER = "other_owner"
    #: A file that others than its owner may use (its mode in octal digits).
    EXPOSED_FILE = "exposed_file"
    #: A directory that others than its owner may use (its mode in octal digits).
    EXPOSED_DIRECTORY = "exposed_directory"


_DAMAGE = {
    ProblemCode.BAD_LINE,
    ProblemCode.BAD_BLOCK,
    ProblemCode.BAD_JOURNAL,
    ProblemCode.UNREADABLE,
    ProblemCode.QUARANTINED,
    ProblemCode.WRONG_ID,
    ProblemCode.WRONG_TIMES,
}


class Problem(NamedTuple):
    """Something that is not as it should be."""

    code: ProblemCode
    path: Path
    #: What the code does not say: see ``ProblemCode``.
    detail: str = ""
    #: Counted from 1.
    line: int | None = None
    #: In bytes.
    offset: int | None = None
    #: Bytes that cannot be read; 0 where nothing is lost, or that is not known.
    lost_bytes: int = 0
    #: How many records that is, about; None where that is not known.
    lost_records: int | None = None
    #: Of the lost records.
    signal: Signal | None = None
    #: True if a living process writes the file, so that it cannot be repaired now.
    is_in_use: bool = False

    @property
    def is_damage(self) -> bool:
        """True if the recording is not whole because of it; otherwise it is a remark."""
        return self.code in _DAMAGE

    @property
    def place(self) -> str:
        """Where it is: ``path:line``, ``path@offset``, or the path alone."""
        if self.line is not None:
            return f"{self.path}:{self.line}"
        return str(self.path) if self.offset is None else f"{self.path}@{self.offset}"


@dataclass
class Tally:
    """Counts of what was checked."""

    files: int = 0
    lines: int = 0
    #: In files; those in journals are counted there.
    records: Counter[Signal] = field(default_factory=Counter)
    #: Of the files, as they lie on disk.
    bytes: int = 0
    #: Spans that ended with their process.
    interrupted: int = 0


def parse_line(line: bytes) -> int:
    """Return how many records a line holds, as this package reads it.

    Raises:
        DecodeError: it is not OTLP JSON.
    """
    return len(decode_line(line).records)


def parse_line_strictly(line: bytes) -> int:
    """Return how many records a line holds that protobuf's parser reads, too.

    Needs the extra ``protobuf``.

    Raises:
        DecodeError: one of the two parsers cannot read it.
        MissingExtraError: the extra is not installed.
    """
    records = parse_line(line)
    try:
        protobuf_from_line(line)
    except DecodeError as error:
        raise DecodeError(f"protobuf: {error.reason}") from None
    return records


_OTHERS_CAN = stat.S_IRWXG | stat.S_IRWXO
_effective_user = getattr(os, "geteuid", lambda: 0)


def find_exposure(path: Path) -> Problem | None:
    """Return a remark if a file or directory is not its owner's alone, or is a link to one."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISLNK(status.st_mode):
        return Problem(ProblemCode.LINK, path)
    if status.st_uid != _effective_user():
        return Problem(ProblemCode.OTHER_OWNER, path)
    if status.st_mode & _OTHERS_CAN:
        is_directory = stat.S_ISDIR(status.st_mode)
        code = ProblemCode.EXPOSED_DIRECTORY if is_directory else ProblemCode.EXPOSED_FILE
        return Problem(code, path, f"{stat.S_IMODE(status.st_mode):o}")
    return None


# --- Checking one file: every line of it, and its name.

_MARK = f'"{INTERRUPTED}"'.encode()


class FileCheck:
    """Reads one opened file from its start to its end, line by line.

    Args:
        found: the file.
        signal: whose records it holds.
        parse_line: reads a line.
        tally: what is read is counted there.
        torn: True if a last line without an end is damage; else a process may be writing it.
        limit: a last line without an end that begins there, or later, is no damage: the journal
            still has it.
    """

    def __init__(
        self,
        found: OpenFile,
        signal: Signal,
        parse_line: ParseLine,
        tally: Tally,
        torn: bool = True,
        limit: int | None = None,
    ) -> None:
        self._found = found
        self._signal = signal
        self._parse = parse_line
        self._tally = tally
        self._torn = torn
        self._limit = limit
        self._times = TimeRange()
        self._first: bytes | None = None
        self._records = self._size = 0

    def run(self) -> Iterator[Problem]:
        """Yield what is wrong with the file."""
        end = 0
        self._tally.files += 1
        self._tally.bytes += os.fstat(self._found.file.fileno()).st_size
        for line in read_lines(self._found, 0, 0, None, self._torn):
            problem = self._check(line, end)
            if problem is not None:
                yield problem
            end = line.end

    def _check(self, line: Line, start: int) -> Problem | None:
        text = line.text
        if text is None:
            return self._problem(ProblemCode.BAD_BLOCK, line, start, line.reason)
        if not text.endswith(b"\n") and self._limit is not None and start >= self._limit:
            return None
        if line.number == 1:
            self._first = text
        stripped = text.strip()
        if stripped:
            try:
                self._count(stripped, self._parse(stripped))
            except DecodeError as error:
                return self._problem(ProblemCode.BAD_LINE, line, start, error.reason)
        if not text.endswith(b"\n") and self._found.compression == "none":
            return Problem(ProblemCode.UNENDED_LINE, self._found.path, line=line.number)
        return None

    def _count(self, line: bytes, records: int) -> None:
        self._tally.lines += 1
        self._tally.records[self._signal] += records
        self._tally.interrupted += line.count(_MARK)
        self._records += records
        self._size += len(line)
        if self._found.is_sealed:
            self._times.add(line)

    def _problem(self, code: ProblemCode, line: Line, start: int, reason: str) -> Problem:
        lost = line.end - start
        return Problem(
            code,
            self._found.path,
            reason,
            line.number,
            lost_bytes=lost,
            lost_records=self._about(lost),
            signal=self._signal,
        )

    def _about(self, size: int) -> int | None:
        """Return how many records that many bytes are, about, by those before; None if unknown."""
        return max(1, round(size * self._records / self._size)) if self._size and size else None

    def wrong_id(self, name: SealedName) -> str | None:
        """Return the id that the name should have, once the file was read; None if it has it."""
        if self._first is None:
            return None  # empty, or damaged there
        id = fingerprint(self._first)
        return None if id == name.id else id

    def wrong_range(self, name: SealedName) -> tuple[int, int] | None:
        """Return the times that the name should have, once the file was read; None if it has them."""
        times = self._times
        if name.first is None or name.last is None or not self._records:
            return None
        if name.first <= times.first and times.last <= name.last:
            return None
        return min(times.first, name.first), max(times.last, name.last)


# --- Checking a whole recording.

_ROUNDS = 10


class Inspection:
    """Checks a recording once. Its attributes are complete once all problems were taken.

    Args:
        layout: of the recording.
        parse_line: reads a line.
        started: called with each file before it is read.
    """

    def __init__(
        self,
        layout: Layout,
        parse_line: ParseLine = parse_line,
        started: Callable[[Path], None] = lambda path: None,
    ) -> None:
        self._layout = layout
        self._parse = parse_line
        self._started = started
        self._seen: dict[FileKey, Path] = {}
        #: Counts of what was read of files.
        self.tally = Tally()
        #: The writer slots, with what their journals hold.
        self.slots: list[SlotState] = []
        #: Files that wait to be sealed.
        self.waiting: list[Path] = []
        #: Files that earlier repairs could not keep in their place.
        self.kept: list[Path] = []

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong with the recording, in the order in which it is met.

        Raises:
            StorageError: something cannot be read at all.
            MissingExtraError: the parser needs an extra that is not installed.
        """
        self.slots = inspect_slots(self._layout)
        for slot in self.slots:
            yield from self._active_files(slot)
            yield from self._journal(slot)
        yield from self._sealed_files()
        yield from self._check_entries()
        self.kept = [path for path in _paths_in(self._layout.damaged) if _is_file(path)]

    def _active_files(self, slot: SlotState) -> Iterator[Problem]:
        for signal in Signal:
            path = self._layout.file(signal, slot.number)
            try:
                file = open_regular_file(path)
            except UnreadableError as error:
                yield _unreadable(error, signal, slot.is_owned)
                continue
            if file is None:
                continue
            with file:
                if path.is_symlink():
                    continue  # a remark; whoever records does not go through it
                self._started(path)
                self._seen[signal, fingerprint_of(file) or ""] = path
                end = slot.ends.get(signal)
                is_same = end is not None and end.file_id == os.fstat(file.fileno()).st_ino
                check = FileCheck(
                    OpenFile(path, file, "none", is_sealed=False),
                    signal,
                    self._parse,
                    self.tally,
                    torn=not slot.is_owned,
                    limit=end.offset if end is not None and is_same else None,
                )
                yield from (problem._replace(is_in_use=slot.is_owned) for problem in check.run())

    def _journal(self, slot: SlotState) -> Iterator[Problem]:
        for path, offset, reason in slot.damaged:
            yield Problem(
                ProblemCode.BAD_JOURNAL, path, reason, offset=offset, is_in_use=slot.is_owned
            )

    def _sealed_files(self) -> Iterator[Problem]:
        try:
            list_data_files(self._layout.sealed)
        except UnreadableError as error:
            yield _unreadable(error)
            return
        done: set[str] = set()
        # Again, for what was rotated, or sealed under another name, meanwhile.
        for _ in range(_ROUNDS):
            names = [name for name in self._names() if str(name) not in done]
            if not names:
                return
            for name in names:
                done.add(str(name))
                yield from self._sealed_file(self._layout.sealed / str(name), name)

    def _names(self) -> list[SealedName]:
        """Return the names of sealed files; those that wait to be sealed come last."""
        names = [
            name for path in _paths_in(self._layout.sealed) if (name := SealedName.parse(path.name))
        ]
        return sorted(names, key=lambda name: (name.is_waiting, str(name)))

    def _sealed_file(self, path: Path, name: SealedName) -> Iterator[Problem]:
        key = (name.signal, name.id)
        same = self._seen.get(key)
        if same is not None and same.parent != path.parent:
            return  # it was read before it was rotated
        try:
            file = open_regular_file(path)
        except UnreadableError as error:
            yield _unreadable(error, name.signal)
            return
        if file is None:
            return  # sealed or deleted meanwhile: then it is met under another name, or gone
        with file:
            if path.is_symlink():
                return  # a remark
            self._started(path)
            self._seen.setdefault(key, path)
            tally = self.tally if same is None else Tally()
            found = OpenFile(path, file, name.compression, is_sealed=True)
            check = FileCheck(found, name.signal, self._parse, tally)
            is_whole = True
            for problem in chain(check.run(), self._name(path, name, check)):
                is_whole = False
                yield problem
        if name.is_waiting:
            self.waiting.append(path)
        elif is_whole:  # else it is made again with the file
            yield from _check_index(path, name)
        if same is not None:
            yield Problem(ProblemCode.DUPLICATE, path, same.name)

    def _name(self, path: Path, name: SealedName, check: FileCheck) -> Iterator[Problem]:
        id = check.wrong_id(name)
        # A file whose id was taken when it was rotated has another one, on purpose.
        if id is not None and not any(
            other.signal is name.signal and other.id == id for other in self._names()
        ):
            yield Problem(ProblemCode.WRONG_ID, path, id)
        if check.wrong_range(name) is not None:
            yield Problem(ProblemCode.WRONG_TIMES, path)

    def _check_entries(self) -> Iterator[Problem]:
        owned = {slot.journal for slot in self.slots if slot.is_owned}
        for path, state in list_entries(self._layout):
            if state is FileState.STALE and path.parent in owned:
                continue
            if state in _ENTRY_PROBLEMS:
                yield Problem(_ENTRY_PROBLEMS[state], path)
            elif (remark := find_exposure(path)) is not None:
                yield remark


_ENTRY_PROBLEMS = {
    FileState.FOREIGN: ProblemCode.FOREIGN,
    FileState.STALE: ProblemCode.STALE,
    FileState.ORPHANED: ProblemCode.ORPHAN,
    FileState.QUARANTINED: ProblemCode.QUARANTINED,
}
_INDEX_FAULTS = {
    IndexFault.MISSING: ProblemCode.INDEX_MISSING,
    IndexFault.DAMAGED: ProblemCode.INDEX_DAMAGED,
    IndexFault.WRONG: ProblemCode.INDEX_WRONG,
}


def _check_index(path: Path, name: SealedName) -> Iterator[Problem]:
    """Yield a remark if the index is not right: all is read without an index, too, only slowly."""
    try:
        fault = find_index_fault(path, name)
    except FileNotFoundError:
        return  # deleted, or named otherwise, meanwhile
    if fault is not None:
        yield Problem(_INDEX_FAULTS[fault], index_path(path, name))


def _unreadable(
    error: UnreadableError, signal: Signal | None = None, is_in_use: bool = False
) -> Problem:
    return Problem(
        ProblemCode.UNREADABLE, error.path, error.reason, signal=signal, is_in_use=is_in_use
    )


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _paths_in(directory: Path) -> list[Path]:
    """Return what is in a directory; nothing if it cannot be read, which is reported elsewhere."""
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []
