"""What a journal asks of a storage that it can append to exactly once."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from rimp_otel.journal.slots import Slot
from rimp_otel.models.records import Signal
from rimp_otel.process import in_forked_child

__all__ = [
    "NO_FILE",
    "Appendable",
    "DirectoryHome",
    "End",
    "FileHome",
    "Home",
    "Remembering",
    "StorageHome",
]


# --- What a journal asks of a storage that it can append to exactly once.


class End(NamedTuple):
    """A place in a signal's active file."""

    #: The file's inode; 0 where there is no file.
    file_id: int
    #: In bytes.
    offset: int


NO_FILE = End(0, 0)
"""Where there is no file."""


@runtime_checkable
class Appendable(Protocol):
    """A storage of append-only files, one for each signal, that belong to a writer slot."""

    def take_slot(self) -> Slot:
        """The slot whose files ``append`` writes; taken now, where it was not yet.

        Raises:
            StorageError: none could be taken.
        """

    def release_slot(self) -> None:
        """The journal is closed: the slot may be released."""

    def append(
        self, signal: Signal, lines: Sequence[bytes], before: Callable[[End, int], None]
    ) -> End:
        """Appends all lines, or none of them.

        Args:
            signal: whose file to append to.
            lines: OTLP JSON, without line ends.
            before: called right before the write, with the place where it will start and the
                bytes that it will take, the lines' ends included.

        Returns:
            Where the file ends then.

        Raises:
            StorageError: it could not be appended; the file is as it was.
        """

    def settle(self, signal: Signal, start: End, length: int) -> bool:
        """After a death in the middle of ``append``: whether the line is whole; a part is cut off."""

    def end_of(self, signal: Signal) -> End:
        """Where the active file ends, once a torn line at its end has been repaired."""

    def lines_after(self, signal: Signal, start: End) -> list[bytes]:
        """The whole lines of the active file from there on; none of another file."""

    def lines_since(self, signal: Signal, time_unix_nano: int) -> Iterable[bytes]:
        """The lines of the active file, and of all others that may hold a record of that time, in
        nanoseconds since the epoch, or a later one."""

    def sync(self) -> None:
        """Forces to the device what was appended since the last time."""


# --- Where a journal lives: in the slot of a storage of files, or in a directory of its own.


class Home(Protocol):
    """Where a journal lives, and what it buffers for."""

    def take_slot(self) -> Slot:
        """The slot that the journal belongs to, taken now where it was not.

        Raises:
            StorageError: none could be taken.
        """

    def release_slot(self) -> None:
        """The journal is closed."""

    def settle(self, signal: Signal, start: End, length: int) -> bool:
        """Whether the line of an interrupted append is whole; a part of it is cut off."""

    def ends(self) -> dict[Signal, End]:
        """Where the files end that its records go to; none, where they do not go to files."""

    def lines_after(self, signal: Signal, start: End) -> list[bytes]:
        """The lines in the signal's file from there on."""

    def lines_since(self, signal: Signal, time_unix_nano: int) -> Iterable[bytes]:
        """The lines that may hold a record of that time, or a later one."""

    def sync(self) -> None:
        """Forces to the device what was stored, before the journal lets go of it."""


class Remembering(ABC):
    """A storage that has a place for journals, and remembers how far each has been stored."""

    @abstractmethod
    def journal(self, slot: int) -> Path:
        """The directory of a slot's journal."""

    @abstractmethod
    def lines_since(self, signal: Signal, time_unix_nano: int) -> Iterable[bytes]:
        """The signal's records of that time or a later one, as OTLP JSON lines."""

    @abstractmethod
    def sync(self) -> None:
        """Forces to the device what was stored."""


class FileHome:
    """The slot of a storage that appends to files."""

    def __init__(self, storage: Appendable) -> None:
        self._storage = storage
        self.take_slot = storage.take_slot
        self.release_slot = storage.release_slot
        self.settle = storage.settle
        self.lines_after = storage.lines_after
        self.lines_since = storage.lines_since
        self.sync = storage.sync

    def ends(self) -> dict[Signal, End]:
        """Where its files end."""
        return {signal: self._storage.end_of(signal) for signal in Signal}


class DirectoryHome:
    """Slots in a directory, for the journals of any other storage.

    Args:
        directory_of: the journal's directory in each slot.
    """

    def __init__(self, directory_of: Callable[[int], Path]) -> None:
        self._slot: Slot | None = None
        self._directory_of = directory_of
        # Its parent's slot, which an open descriptor would keep taken after the parent's death.
        in_forked_child(self.release_slot)

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> DirectoryHome:
        """With the slots ``journal``, ``journal.1`` and so on in a directory."""
        absolute = Path(os.path.abspath(path))
        return cls(lambda number: absolute / (f"journal.{number}" if number else "journal"))

    def take_slot(self) -> Slot:
        """The slot that the journal belongs to."""
        slot = self._slot
        if slot is None or not slot.is_ours or not slot.is_held:
            self.release_slot()
            slot = self._slot = Slot.take(self._directory_of)
        return slot

    def release_slot(self) -> None:
        """The journal is closed."""
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.release()

    def __del__(self) -> None:
        self.release_slot()

    def settle(self, signal: Signal, start: End, length: int) -> bool:
        """Nothing: only the storage itself knows, by the slice's id."""
        return False

    def ends(self) -> dict[Signal, End]:
        """None."""
        return {}

    def lines_after(self, signal: Signal, start: End) -> list[bytes]:
        """None."""
        return []

    def lines_since(self, signal: Signal, time_unix_nano: int) -> Iterable[bytes]:
        """None."""
        return []

    def sync(self) -> None:
        """Nothing: when the storage does that is its own matter."""


class StorageHome(DirectoryHome):
    """Slots beside a storage that takes a slice and notes its place in one step.

    After a death, it knows by the place whether a slice was stored. After a loss of power, where
    headers may be older than the storage, its records are looked for as those in files are.
    """

    def __init__(self, storage: Remembering) -> None:
        super().__init__(storage.journal)
        self._storage = storage

    def lines_since(self, signal: Signal, time_unix_nano: int) -> Iterable[bytes]:
        """The lines that may hold a record of that time, or a later one."""
        return self._storage.lines_since(signal, time_unix_nano)

    def sync(self) -> None:
        """Forces to the device what was stored."""
        self._storage.sync()
