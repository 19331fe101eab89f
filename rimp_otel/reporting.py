"""What the package itself has to say: to standard error, seldom, and never through ``logging``
(a log record could come back to where it was said, and be said again)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

__all__ = ["Reporter"]


class Reporter:
    """Says each kind of thing at most once in ``pause`` seconds."""

    def __init__(self, pause: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause = pause
        self._clock = clock
        self._said: dict[str, float] = {}

    def say(self, kind: str, message: str) -> None:
        """Writes one line, unless something of this ``kind`` was said a short time ago."""
        now = self._clock()
        last = self._said.get(kind)
        if last is not None and now - last < self._pause:
            return
        self._said[kind] = now
        try:
            sys.stderr.write(f"rimp: {message}\n")
        except Exception:
            # Closed, or none, or busy with what this interrupts, or an object of the application's.
            pass
