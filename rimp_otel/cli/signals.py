"""Signal handlers for a time: of commands that must put something right when they are ended."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

__all__ = ["StopSignals", "exit_on_signal", "handle_signals"]


@contextmanager
def handle_signals(handlers: Mapping[int, Callable[[int, Any], object]]) -> Iterator[None]:
    """Install signal handlers, and restore the former ones at the end of the block."""
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def exit_on_signal(number: int, frame: object) -> NoReturn:
    """Raise SystemExit, which unwinds the stack, with the exit code that shells give to a signal."""
    raise SystemExit(128 + number)


class StopSignals:
    """Waits for the signal to stop; used as a context manager."""

    def __init__(self) -> None:
        # Not an Event: its lock might be held by what the signal interrupts.
        self._read, self._write = os.pipe()
        self._before: dict[int, Any] = {}
        self._again: Callable[[], object] | None = None
        self._is_stopping = False

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            # Once all is done, whoever is impatient would only see a traceback.
            signal.signal(number, signal.SIG_IGN if self._is_stopping else handler)
        os.close(self._read)
        os.close(self._write)

    def _note(self, number: int, frame: object) -> None:
        if self._again is not None:
            self._again()
        self._is_stopping = True
        os.write(self._write, b"x")

    def wait(self) -> None:
        """Return once a signal has come."""
        while not self._is_stopping:
            select.select([self._read], [], [])

    def call_again(self, function: Callable[[], object]) -> None:
        """Call a function at the next signal."""
        self._again = function
