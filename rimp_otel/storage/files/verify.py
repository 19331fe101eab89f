"""Looking through a whole recording for damage, changing nothing, also while it is written."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from rimp_otel.errors import DecodeError, StorageError
from rimp_otel.journal.reader import Damage, read_journal
from rimp_otel.journal.slots import LOCK, is_owned
from rimp_otel.journal.target import End
from rimp_otel.models.records import Signal
from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.protobuf import protobuf_from_line
from rimp_otel.otlp.scan import TimeRange
from rimp_otel.storage.base import RecordingLayout
from rimp_otel.storage.files.index import fault_of, index_path
from rimp_otel.storage.files.layout import (
    Kind,
    Layout,
    SealedName,
    damaged_directory,
    fingerprint,
    places,
)
from rimp_otel.storage.files.lines import (
    ContentId,
    Found,
    Line,
    fingerprint_of,
    lines_of,
    open_file,
)

__all__ = [
    "INTERRUPTED",
    "FileCheck",
    "Inspection",
    "Parse",
    "Problem",
    "SlotState",
    "Tally",
    "exposed",
    "look_at_slots",
    "parse",
    "parse_strictly",
]


# --- What can be wrong with a recording, and how much of it was looked at.

Parse = Callable[[bytes], int]
"""How many records a line holds. Raises DecodeError for one that cannot be read."""


class Problem(NamedTuple):
    """Something that is not as it should be."""

    path: Path
    #: What is wrong, in words.
    reason: str
    #: What ``rimp repair`` does about it, in words; empty for nothing.
    cure: str = ""
    #: Counted from 1.
    line: int | None = None
    #: In bytes.
    offset: int | None = None
    #: What cannot be read, in bytes; 0 where nothing is lost, or that is not known.
    lost_bytes: int = 0
    #: How many records that is, about; None where that is not known.
    lost_records: int | None = None
    #: Of the lost records.
    signal: Signal | None = None
    #: Whether the recording is not whole because of it; otherwise it is a remark.
    is_damage: bool = True

    @property
    def place(self) -> str:
        """Where it is: ``path:line``, ``path@offset``, or the path alone."""
        if self.line is not None:
            return f"{self.path}:{self.line}"
        return str(self.path) if self.offset is None else f"{self.path}@{self.offset}"


@dataclass
class Tally:
    """What was looked at."""

    files: int = 0
    lines: int = 0
    #: In files; those in journals are counted there.
    records: Counter[Signal] = field(default_factory=Counter)
    #: Of the files, as they lie on disk.
    bytes: int = 0
    #: Spans that ended with their process.
    interrupted: int = 0


def parse(line: bytes) -> int:
    """How many records a line holds, as this package reads it.

    Raises:
        DecodeError: it is not OTLP JSON.
    """
    return len(decode_line(line).records)


def parse_strictly(line: bytes) -> int:
    """The same, of a line that protobuf's own parser reads too. Needs the extra ``protobuf``.

    Raises:
        DecodeError: one of them cannot.
        MissingExtraError: the extra is not installed.
    """
    records = parse(line)
    try:
        protobuf_from_line(line)
    except DecodeError as error:
        raise DecodeError(f"protobuf: {error.reason}") from None
    return records


# --- What lies in a recording's directories: what belongs there, what was left, what is foreign.
_OTHERS_CAN = stat.S_IRWXG | stat.S_IRWXO
_user = getattr(os, "geteuid", lambda: 0)


def exposed(path: Path) -> Problem | None:
    """A remark on a file or directory that is not its owner's alone, or is a link to one."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    reason = ""
    if stat.S_ISLNK(status.st_mode):
        reason = "it is a link, through which nothing is recorded"
    elif status.st_uid != _user():
        reason = "it belongs to another user"
    elif status.st_mode & _OTHERS_CAN:
        right = "700" if stat.S_ISDIR(status.st_mode) else "600"
        mode = f"{stat.S_IMODE(status.st_mode):o}"
        reason = f"others may use it (mode {mode}); 'chmod {right}' makes it private"
    return Problem(path, reason, is_damage=False) if reason else None


# --- What the writer slots of a recording are doing: who holds them, and what waits in their journals.

INTERRUPTED = "rimp.interrupted"
"""The attribute of spans that ended with their process."""

_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FLAGS |= getattr(os, "O_NONBLOCK", 0)  # a pipe of that name must not keep us waiting


class SlotState(NamedTuple):
    """A writer slot at one moment."""

    number: int
    #: Of its journal.
    journal: Path
    #: Whether a living process of this machine holds it.
    is_owned: bool
    #: What the last that took it wrote into the lock file: "machine", "pid", "since" and so on.
    signature: dict[str, Any]
    #: Bytes of the journal's files.
    size: int
    #: Records that are in the journal and in no file yet.
    records: Counter[Signal]
    #: Bytes that they will take there.
    waiting: int
    #: Those of them that are spans which ended with their process.
    interrupted: int
    #: What of the journal cannot be read.
    damaged: list[Damage]
    #: Where the journal's owner had got to in each active file; what follows, the journal has.
    ends: dict[Signal, End]

    @property
    def is_left(self) -> bool:
        """Whether a process that is gone has left something to be taken over."""
        return not self.is_owned and self.size > 0


def look_at_slots(layout: RecordingLayout) -> list[SlotState]:
    """All slots of a recording, in order. Changes nothing.

    Raises:
        StorageError: something cannot be read.
    """
    try:
        return [_look_at(layout, slot) for slot in layout.slots()]
    except OSError as error:
        raise StorageError(f"cannot read {error.filename}: {error.strerror or error}") from error


def _look_at(layout: RecordingLayout, slot: int) -> SlotState:
    journal = layout.journal(slot)
    owned = is_owned(journal)
    with ExitStack() as stack:
        files = {signal: _open(layout.file(signal, slot), stack) for signal in Signal}
        contents = read_journal(
            journal, lambda signal, start, length: _is_whole(files[signal], start, length)
        )
    records: Counter[Signal] = Counter()
    for signal, _, number in contents.lines:
        records[signal] += number
    mark = f'"{INTERRUPTED}"'.encode()
    return SlotState(
        number=slot,
        journal=journal,
        is_owned=owned,
        signature=_signature(journal),
        size=_size_of(journal),
        records=records,
        waiting=sum(len(line) + 1 for _, line, _ in contents.lines),
        interrupted=sum(line.count(mark) for _, line, _ in contents.lines),
        damaged=list(contents.damaged),
        ends=contents.ends,
    )


def _open(path: Path, stack: ExitStack) -> BinaryIO | None:
    try:
        return stack.enter_context(os.fdopen(os.open(path, _FLAGS), "rb"))
    except OSError:  # not there, or a link: then nothing was drained into it
        return None


def _is_whole(file: BinaryIO | None, start: End, length: int) -> bool:
    if file is None:
        return False
    status, end = os.fstat(file.fileno()), start.offset + length
    is_there = status.st_ino == start.file_id and status.st_size >= end
    return is_there and os.pread(file.fileno(), 1, end - 1) == b"\n"


def _signature(journal: Path) -> dict[str, Any]:
    try:
        found = json.loads(_read(journal / LOCK))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> bytes:
    file = os.open(path, _FLAGS)
    try:
        return os.read(file, 4_096)
    finally:
        os.close(file)


def _size_of(journal: Path) -> int:
    """Of what a process wrote there: not of the lock, nor of what was put aside."""
    size = 0
    try:
        with os.scandir(journal) as entries:
            for entry in entries:
                if entry.name.endswith((".seg", ".open", ".crash")):
                    size += entry.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        pass
    return size


# --- Checking one file of a recording: every line of it, and what its name says.

_MARK = f'"{INTERRUPTED}"'.encode()
_MOVE = "moves it to damaged/"
_MOVE_FILE = "moves the file to damaged/, and what can be read of it into a new one"


class FileCheck:
    """Reads one opened file from its start to its end, line by line.

    Args:
        found: the file.
        signal: whose records it holds.
        parse: reads a line.
        tally: what is read is counted there.
        torn: whether a last line without an end is damage; otherwise somebody may be writing it.
        limit: a last line without an end that begins there, or later, is no damage: the journal
            still has it.
    """

    def __init__(
        self,
        found: Found,
        signal: Signal,
        parse: Parse,
        tally: Tally,
        torn: bool = True,
        limit: int | None = None,
    ) -> None:
        self._found = found
        self._signal = signal
        self._parse = parse
        self._tally = tally
        self._torn = torn
        self._limit = limit
        self._extent = TimeRange()
        self._first: bytes | None = None
        self._records = self._size = 0

    def run(self) -> Iterator[Problem]:
        """What is wrong with it."""
        end = 0
        self._tally.files += 1
        self._tally.bytes += os.fstat(self._found.file.fileno()).st_size
        for line in lines_of(self._found, 0, 0, None, self._torn):
            problem = self._check(line, end)
            if problem is not None:
                yield problem
            end = line.end

    def _check(self, line: Line, start: int) -> Problem | None:
        text = line.text
        if text is None:
            return self._problem(line, start, line.reason, _MOVE_FILE)
        if not text.endswith(b"\n") and self._limit is not None and start >= self._limit:
            return None
        if line.number == 1:
            self._first = text
        stripped = text.strip()
        if stripped:
            try:
                self._count(stripped, self._parse(stripped))
            except DecodeError as error:
                return self._problem(line, start, error.reason, _MOVE)
        if not text.endswith(b"\n") and self._found.compression == "none":
            reason = "the last line does not end"
            return Problem(self._found.path, reason, "ends it", line.number, is_damage=False)
        return None

    def _count(self, line: bytes, records: int) -> None:
        self._tally.lines += 1
        self._tally.records[self._signal] += records
        self._tally.interrupted += line.count(_MARK)
        self._records += records
        self._size += len(line)
        if self._found.is_sealed:
            self._extent.add(line)

    def _problem(self, line: Line, start: int, reason: str, cure: str) -> Problem:
        lost = line.end - start
        return Problem(
            self._found.path, reason, cure, line.number, None, lost, self._about(lost), self._signal
        )

    def _about(self, size: int) -> int | None:
        """How many records that many bytes are, going by those before."""
        return max(1, round(size * self._records / self._size)) if self._size and size else None

    def wrong_id(self, name: SealedName) -> str | None:
        """The id that the name should have, once the file was read; None where it has it."""
        if self._first is None:
            return None  # empty, or damaged there
        id = fingerprint(self._first)
        return None if id == name.id else id

    def wrong_range(self, name: SealedName) -> tuple[int, int] | None:
        """The times that the name should have, once the file was read; None where it has them."""
        extent = self._extent
        if name.first is None or name.last is None or not self._records:
            return None
        if name.first <= extent.first and extent.last <= name.last:
            return None
        return min(extent.first, name.first), max(extent.last, name.last)


# --- Looking through a whole recording for damage, changing nothing, also while it is written.

_ROUNDS = 10


class Inspection:
    """One look at a recording. What it found beside problems is there once all were taken.

    Args:
        layout: of the recording.
        parse: reads a line.
        started: called with each file before it is read.
    """

    def __init__(
        self,
        layout: Layout,
        parse: Parse = parse,
        started: Callable[[Path], None] = lambda path: None,
    ) -> None:
        self._layout = layout
        self._parse = parse
        self._started = started
        self._seen: dict[ContentId, Path] = {}
        #: What was read of files.
        self.tally = Tally()
        #: The writer slots, with what their journals hold.
        self.slots: list[SlotState] = []
        #: Files that wait to be sealed.
        self.waiting: list[Path] = []
        #: What earlier repairs could not mend, and kept: files.
        self.kept: list[Path] = []

    def problems(self) -> Iterator[Problem]:
        """What is wrong with it, in the order in which it is met.

        Raises:
            StorageError: something cannot be read at all.
            MissingExtraError: ``parse`` needs what is not installed.
        """
        self.slots = look_at_slots(self._layout)
        for slot in self.slots:
            yield from self._active_files(slot)
            yield from self._journal(slot)
        yield from self._sealed_files()
        yield from self._places()
        self.kept = _files_in(damaged_directory(self._layout))

    def _active_files(self, slot: SlotState) -> Iterator[Problem]:
        for signal in Signal:
            path = self._layout.file(signal, slot.number)
            if not _is_file(path):
                continue
            file = open_file(path)
            if file is None:
                continue
            with file:
                self._started(path)
                self._seen[signal, fingerprint_of(file) or ""] = path
                end = slot.ends.get(signal)
                is_same = end is not None and end.file_id == os.fstat(file.fileno()).st_ino
                check = FileCheck(
                    Found(path, file, "none", is_sealed=False),
                    signal,
                    self._parse,
                    self.tally,
                    torn=not slot.is_owned,
                    limit=end.offset if end is not None and is_same else None,
                )
                yield from (_later(problem, slot) for problem in check.run())

    def _journal(self, slot: SlotState) -> Iterator[Problem]:
        for path, offset, reason in slot.damaged:
            cure = "stores what can be read of it, and moves the rest to damaged/"
            yield _later(Problem(path, reason, cure, offset=offset), slot)

    def _sealed_files(self) -> Iterator[Problem]:
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
        """Those that wait to be sealed come last."""
        files = _files_in(self._layout.sealed)
        names = [name for path in files if (name := SealedName.parse(path.name))]
        return sorted(names, key=lambda name: (name.is_waiting, str(name)))

    def _sealed_file(self, path: Path, name: SealedName) -> Iterator[Problem]:
        key = (name.signal, name.id)
        twin = self._seen.get(key)
        if twin is not None and twin.parent != path.parent:
            return  # it was read before it was rotated
        file = open_file(path)
        if file is None:
            return  # sealed or deleted meanwhile: then it is met under another name, or gone
        with file:
            self._started(path)
            self._seen.setdefault(key, path)
            tally = self.tally if twin is None else Tally()
            found = Found(path, file, name.compression, is_sealed=True)
            check = FileCheck(found, name.signal, self._parse, tally)
            is_whole = True
            for problem in chain(check.run(), self._name(path, name, check)):
                is_whole = False
                yield problem
        if name.is_waiting:
            self.waiting.append(path)
        elif is_whole:  # else it is made anew with the file
            yield from _index(path, name)
        if twin is not None:
            reason = f"it holds the same as {twin.name}: sealing it did not end"
            yield Problem(path, reason, "seals it again", is_damage=False)

    def _name(self, path: Path, name: SealedName, check: FileCheck) -> Iterator[Problem]:
        id = check.wrong_id(name)
        # A file whose id was taken when it was rotated has another one, on purpose.
        if id is not None and not any(
            other.signal is name.signal and other.id == id for other in self._names()
        ):
            yield Problem(path, f"its name should say {id}", "renames it")
        if check.wrong_range(name) is not None:
            reason = "it holds records of times that are not within those in its name"
            yield Problem(path, reason, "renames it")

    def _places(self) -> Iterator[Problem]:
        owned = {slot.journal for slot in self.slots if slot.is_owned}
        for path, kind in places(self._layout):
            if kind is Kind.FOREIGN:
                yield Problem(path, "it is not the recording's, and stays", is_damage=False)
            elif kind is Kind.LEFT and path.parent not in owned:
                yield Problem(path, "it is left over", "removes it", is_damage=False)
            elif kind is Kind.ASIDE:
                yield Problem(
                    path,
                    "it was damaged, and put aside",
                    "stores what is in it alone, and moves it to damaged/",
                )
            elif kind is Kind.OWN and (remark := exposed(path)) is not None:
                yield remark


def _index(path: Path, name: SealedName) -> Iterator[Problem]:
    """A remark: all is read without an index too, only slowly."""
    try:
        fault = fault_of(path, name)
    except FileNotFoundError:
        return  # deleted, or named otherwise, meanwhile
    if fault is not None:
        yield Problem(index_path(path, name), fault, "makes it", is_damage=False)


def _later(problem: Problem, slot: SlotState) -> Problem:
    """The same, of a slot that nobody may touch now."""
    if not slot.is_owned or not problem.cure:
        return problem
    return problem._replace(cure=f"{problem.cure}, once the process that writes it has ended")


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _files_in(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if _is_file(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageError(f"cannot read {directory}: {error.strerror or error}") from error
