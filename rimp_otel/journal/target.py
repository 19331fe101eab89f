"""What a journal asks of a storage that it can append to exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from rimp_otel.otlp.signals import Signal
from rimp_otel.slots import Slot

__all__ = ["NO_FILE", "Appendable", "End"]


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
