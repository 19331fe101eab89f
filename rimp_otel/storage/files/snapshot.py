"""The files and journals of a recording at one moment, while others append, rotate, seal and
delete.

Nobody is locked out. The order in which things are looked at makes it right. A record moves from a
journal to the active file of its slot, and with that among the sealed ones; never back. So, for
each slot: its files are opened, then its journal is read, which says up to where they count; then
it is checked that they are still the active ones. The sealed files are listed last. A file that is
found there and was not there before either is one of the opened files, which is left out, or was
rotated meanwhile: it may hold what was read from a journal, and is marked as not certain.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from rimp_otel.journal.reader import Damage, JournalContents, read_journal
from rimp_otel.journal.target import End
from rimp_otel.models.records import Signal
from rimp_otel.storage.base import UnreadableError, reading_errors
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.lines import (
    DataFile,
    FileKey,
    OpenFile,
    fingerprint_of,
    list_data_files,
    open_data_file,
    open_regular_file,
)
from rimp_otel.storage.reading import JournalLine, LineDecoder

__all__ = ["Snapshot"]


_ATTEMPTS = 10
_MAX_OPEN = 96


class Snapshot:
    """The data files and journals of a recording at one moment.

    A context manager: it holds some of the files open.

    Args:
        layout: of the recording.
        decoder: notes the damage of the journals, and what cannot be read at all.

    Raises:
        StorageError: the recording cannot be read.
    """

    def __init__(self, layout: Layout, decoder: LineDecoder) -> None:
        self._decoder = decoder
        self._sealed = layout.sealed
        #: The sealed files, those with the oldest records first.
        self.sealed: list[DataFile] = []
        #: The active files, by slot.
        self.active: list[DataFile] = []
        #: Oldest first, for each slot.
        self.journal: list[JournalLine] = []
        #: What living processes have measured and not stored: points that later ones replace.
        self.measured: list[JournalLine] = []
        # In the journals.
        self._damaged: list[Damage] = []
        self._files: dict[FileKey, BinaryIO] = {}
        # Of files that were opened without being read: what they hold is in the journal.
        self._left_out: set[FileKey] = set()
        self._opened = ExitStack()
        with ExitStack() as on_error:
            on_error.callback(self._opened.close)
            self._look(layout)
            on_error.pop_all()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._opened.close()

    @property
    def in_journals(self) -> list[JournalLine]:
        """All that the journals hold: what is to be stored, and what later measurements replace."""
        return [*self.journal, *self.measured]

    def open(self, data_file: DataFile) -> OpenFile | None:
        """Open a data file; return None if it was deleted meanwhile, or cannot be read, which is noted.
        The caller closes it."""
        file = self._files.get(data_file.key)
        if file is not None:
            again = os.fdopen(os.dup(file.fileno()), "rb")
            return OpenFile(data_file.path, again, "none", is_sealed=False)
        try:
            return open_data_file(data_file, self._sealed)
        except UnreadableError as error:
            self._decoder.note_unreadable(error)
            return None

    def _look(self, layout: Layout) -> None:
        slots = layout.slots()  # those that appear from now on are the next snapshot's
        before = {data_file.key for data_file in self._list_sealed()}
        for slot in slots:
            self._look_at_slot(layout, slot)
        known = {data_file.key for data_file in self.active} | self._left_out
        self.sealed = [
            data_file if data_file.key in before else data_file._replace(is_certain=False)
            for data_file in self._list_sealed()
            if data_file.key not in known
        ]
        self._decoder.note_in_journals(self._damaged)

    def _list_sealed(self) -> list[DataFile]:
        try:
            return list_data_files(self._sealed)
        except UnreadableError as error:
            self._decoder.note_unreadable(error)
            return []

    def _look_at_slot(self, layout: Layout, slot: int) -> None:
        paths = {signal: layout.file(signal, slot) for signal in Signal}
        for _ in range(_ATTEMPTS):
            files = _ActiveFiles(paths)
            try:
                with reading_errors(layout.journal(slot)):
                    contents = read_journal(layout.journal(slot), files.is_whole)
                if files.are_still_active():
                    self._take(files, contents)
                    return
            finally:
                files.close()
        # They are rotated faster than we look. Read what is there now, to its end: it holds all
        # that was not in the journal then, and perhaps some of what was.
        files = _ActiveFiles(paths)
        try:
            self._take(files, contents, is_certain=False)
        finally:
            files.close()

    def _take(
        self, files: _ActiveFiles, contents: JournalContents, is_certain: bool = True
    ) -> None:
        self.journal += [JournalLine(signal, line) for signal, line, _ in contents.lines]
        self.measured += [JournalLine(Signal.METRICS, line) for line in contents.measured]
        self._damaged += contents.damaged
        for error in files.unreadable.values():
            self._decoder.note_unreadable(error)
        for signal, file in files.opened.items():
            limit = files.limit(signal, contents) if is_certain else None
            id = fingerprint_of(file)
            if id is None:
                continue
            # Without a limit of the journal's, it may hold what the journal holds too.
            certain = is_certain and (bool(contents.ends) or not contents.lines)
            data_file = DataFile(signal, id, files.paths[signal], None, limit, certain)
            if limit == 0:
                self._left_out.add(data_file.key)
                continue
            self.active.append(data_file)
            if len(self._files) < _MAX_OPEN:
                self._keep(data_file, file)

    def _keep(self, data_file: DataFile, file: BinaryIO) -> None:
        kept = os.fdopen(os.dup(file.fileno()), "rb")
        self._files[data_file.key] = self._opened.enter_context(kept)


class _ActiveFiles:
    """The active files of a slot, opened."""

    def __init__(self, paths: dict[Signal, Path]) -> None:
        self.paths = paths
        self.opened: dict[Signal, BinaryIO] = {}
        self.unreadable: dict[Signal, UnreadableError] = {}
        try:
            for signal, path in paths.items():
                try:
                    file = open_regular_file(path)
                except UnreadableError as error:
                    self.unreadable[signal] = error
                    continue
                if file is not None:
                    self.opened[signal] = file
            self._ends = {signal: _end_of(file) for signal, file in self.opened.items()}
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for file in self.opened.values():
            file.close()

    def is_whole(self, signal: Signal, start: End, length: int) -> bool:
        """Return True if the file holds all of a line, given by its start and its length."""
        file = self.opened.get(signal)
        if file is None:
            return False
        now, end = _end_of(file), start.offset + length
        return (
            now.file_id == start.file_id
            and now.offset >= end
            and os.pread(file.fileno(), 1, end - 1) == b"\n"
        )

    def are_still_active(self) -> bool:
        """Return True if these are still the active files, and there are no others."""
        return all(
            _inode_of(path) == self._inode(signal)
            for signal, path in self.paths.items()
            if signal not in self.unreadable
        )

    def _inode(self, signal: Signal) -> int | None:
        end = self._ends.get(signal)
        return None if end is None else end.file_id

    def limit(self, signal: Signal, contents: JournalContents) -> int | None:
        """Return up to where the file holds what the journal does not.

        Into a file that the journal does not know, nothing had been drained when the journal was
        read: only what it held before counts, since what comes next is from there.
        """
        if not contents.size and not contents.lines:
            return None
        before = self._ends[signal]
        end = contents.ends.get(signal)
        return end.offset if end and end.file_id == before.file_id else before.offset


def _end_of(file: BinaryIO) -> End:
    status = os.fstat(file.fileno())
    return End(status.st_ino, status.st_size)


def _inode_of(path: Path) -> int | None:
    try:
        status = os.stat(path)
    except OSError:  # not there; or unreadable, which was noted when it was opened
        return None
    return status.st_ino if stat.S_ISREG(status.st_mode) else None
