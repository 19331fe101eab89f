"""A bar for what takes long: on standard error, and only where that is a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rimp_otel.cli.render import Style, clip

__all__ = ["Progress"]

_PATIENCE = 0.5
_EVERY = 0.1
_BAR = 24


class Progress:
    """How far something is. It appears after half a second, and goes without a trace.

    Args:
        what: is being done, such as "reading".
        total: of what is to be done, in ``unit``; 0 where that is not known.
        unit: what is counted, such as "files".
        stream: standard error, if not given.
        clock: seconds.
    """

    def __init__(
        self,
        what: str,
        total: int,
        unit: str = "files",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0
        self._stream = stream or sys.stderr
        self._clock = clock
        self._next = clock() + _PATIENCE
        self._is_shown = False
        self._is_on = self._stream.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()

    def advance(self, by: int = 1, what: str = "") -> None:
        """So much more is done; ``what`` names what comes now."""
        self.done += by
        self.what = what or self.what
        if self._is_on and self._clock() >= self._next:
            self._next = self._clock() + _EVERY
            self._draw()

    def clear(self) -> None:
        """Takes the bar away, as before something else is printed."""
        if self._is_shown:
            self._write("\r\x1b[K")
            self._is_shown = False

    def _draw(self) -> None:
        self._is_shown = True
        text = clip(
            f"rimp: {Style().clean(self.what)}  {self._state()}", _columns(self._stream) - 1
        )
        self._write(f"\r\x1b[K{text}")

    def _state(self) -> str:
        if not self.total:
            return f"{self.done:,} {self.unit}"
        share = min(self.done / self.total, 1.0)
        full = int(share * _BAR)
        return f"[{'#' * full}{' ' * (_BAR - full)}] {share:4.0%} of {self.total:,} {self.unit}"

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._is_on = False  # a terminal that has gone away stops nothing


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
