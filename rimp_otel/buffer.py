"""The collector's buffer in memory, and the counting that goes with it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Generic, TypeVar

__all__ = ["Counter", "MemoryBuffer"]

Record = TypeVar("Record")


class Counter:
    """A count that any thread, signal handler or finaliser adds to without a lock.

    ``add_one`` is one call into C, which the interpreter does not interrupt; ``n += 1`` is several
    steps, between which another thread's addition gets lost.
    """

    __slots__ = ("_count", "add_one")

    def __init__(self) -> None:
        self._count = count()
        #: Adds one. What it returns has no meaning.
        self.add_one: Callable[[], int] = self._count.__next__

    @property
    def value(self) -> int:
        """How many times ``add_one`` was called."""
        # The only way to read an itertools.count without counting, on every Python.
        return int(repr(self._count)[len("count(") : -1])


class MemoryBuffer(Generic[Record]):
    """Records that wait to be drained, oldest first; lost when the process dies.

    Safe from any thread, and from code that interrupts another call half way: each step is one
    call into C. With several threads it may hold a few records more than ``limit`` for a moment.

    Args:
        limit: the most records it holds.
        on_overflow: called with each record that is dropped because there were more.
    """

    def __init__(self, limit: int, on_overflow: Callable[[Record], None]) -> None:
        self.limit = limit
        self._on_overflow = on_overflow
        #: Oldest first. Whoever appends to it looks for ``limit`` himself.
        self.records: deque[Record] = deque()

    def append(self, record: Record) -> int:
        """Puts a record last, and drops the oldest if that is one too many.

        Returns:
            How many records there are now.
        """
        records = self.records
        records.append(record)
        waiting = len(records)
        if waiting > self.limit:
            self.drop_oldest()
        return waiting

    def drop_oldest(self) -> None:
        """There is one too many."""
        try:
            oldest = self.records.popleft()
        except IndexError:  # drained in the meantime
            return
        self._on_overflow(oldest)

    def drain(self, most: int) -> list[Record]:
        """Takes the oldest ``most`` records out, or all where there are fewer."""
        popleft, taken = self.records.popleft, []
        try:
            for _ in range(most):
                taken.append(popleft())
        except IndexError:
            pass
        return taken

    def __len__(self) -> int:
        return len(self.records)
