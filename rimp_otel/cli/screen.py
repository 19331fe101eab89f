"""A terminal that shows frames, and gives keys; as it was, however this ends."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Screen", "open_screen"]

_ENTER = "\x1b[?1049h\x1b[?25l"  # the other screen, without a cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"


class Screen:
    """What `open_screen` gives."""

    def __init__(self, wakeup: int) -> None:
        self._wakeup = wakeup

    def size(self) -> tuple[int, int]:
        """Columns and lines, as they are now."""
        try:
            return tuple(os.get_terminal_size(sys.stdout.fileno()))  # type: ignore[return-value]
        except OSError:
            return 80, 24

    def show(self, lines: Sequence[str]) -> None:
        """Shows a frame in the place of the last one, without flicker."""
        height = self.size()[1]
        text = "\x1b[K\r\n".join(lines[:height])
        sys.stdout.write(f"\x1b[H{text}\x1b[K\x1b[J")
        sys.stdout.flush()

    def key(self, seconds: float) -> str:
        """The key that is pressed within that time; empty if none is, or the size has changed."""
        waited = [sys.stdin.fileno(), self._wakeup]
        ready, _, _ = select.select(waited, [], [], max(seconds, 0))
        if self._wakeup in ready:
            os.read(self._wakeup, 4096)
        if sys.stdin.fileno() not in ready:
            return ""
        pressed = os.read(sys.stdin.fileno(), 64)
        # A terminal that has gone away reads as its end.
        return pressed.decode("latin-1")[:1] if pressed else "q"


@contextmanager
def open_screen() -> Iterator[Screen]:
    """Takes the terminal of standard input and output, until the block is left.

    Ctrl-C raises KeyboardInterrupt, SIGTERM and SIGHUP raise SystemExit; Ctrl-Z gives the terminal back
    for as long as this process is stopped.
    """
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def enter() -> None:
        tty.setcbreak(descriptor, termios.TCSANOW)
        _write(_ENTER)

    def leave() -> None:
        _write(_LEAVE)
        try:
            termios.tcsetattr(descriptor, termios.TCSANOW, before)
        except termios.error:
            pass  # the terminal has gone away

    def stop(number: int, frame: FrameType | None) -> None:
        leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        enter()

    with _waking() as wakeup, _handling(stop):
        enter()
        try:
            yield Screen(wakeup)
        finally:
            leave()


@contextmanager
def _waking() -> Iterator[int]:
    """A descriptor that can be read after a signal."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    os.set_blocking(reading, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)


@contextmanager
def _handling(stop: Any) -> Iterator[None]:
    handlers = {
        signal.SIGWINCH: lambda number, frame: None,
        signal.SIGTERM: _end,
        signal.SIGHUP: _end,
        signal.SIGTSTP: stop,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        pass  # the terminal has gone away
