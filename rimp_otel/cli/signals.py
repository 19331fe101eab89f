"""Signal handlers for a time: of commands that must put something right when they are ended."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

__all__ = ["exit_on_signal", "handle_signals"]


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
