"""What the package itself has to say: to standard error, seldom, and never through ``logging``
(a log record could come back to where it was said, and be said again)."""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable
from typing import TextIO

__all__ = ["Reporter"]

# What is written at once into a pipe that can take anything; in characters of up to four bytes.
_LONGEST = 1_000


class Reporter:
    """Says each kind of thing at most once in ``pause`` seconds."""

    def __init__(self, pause: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause = pause
        self._clock = clock
        self._said: dict[str, float] = {}

    def say(self, kind: str, message: str) -> None:
        """Writes one line, unless something of this ``kind`` was said a short time ago, or standard
        error is a pipe that is full: whoever collects must not wait for its reader."""
        now = self._clock()
        last = self._said.get(kind)
        if last is not None and now - last < self._pause:
            return
        self._said[kind] = now
        try:
            if _has_room(sys.stderr):
                sys.stderr.write(f"rimp: {message[:_LONGEST]}\n")
        except Exception:
            # Closed, or none, or busy with what this interrupts, or an object of the application's.
            pass


def _has_room(stream: TextIO) -> bool:
    """Whether a line can be written without waiting, as far as that can be told."""
    try:
        ready = select.poll()
        ready.register(stream.fileno(), select.POLLOUT)
    except Exception:  # no file, or a closed one; or Windows, which cannot tell
        return True
    return bool(ready.poll(0))
