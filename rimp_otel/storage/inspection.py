"""Looking through a whole recording for damage, changing nothing, also while it is written."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from rimp_otel.errors import StorageError
from rimp_otel.otlp.signals import Signal
from rimp_otel.storage.checking import FileCheck
from rimp_otel.storage.content import ContentId, Found, fingerprint_of, open_file
from rimp_otel.storage.indexing import fault_of, index_path
from rimp_otel.storage.layout import Layout, SealedName
from rimp_otel.storage.placing import Kind, damaged_directory, exposed, places
from rimp_otel.storage.problems import Parse, Problem, Tally, parse
from rimp_otel.storage.slotstates import SlotState, look_at_slots

__all__ = ["Inspection"]

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
