"""A full-screen terminal that shows frames and reads keys, and that is restored in any case."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rimp_otel.cli.signals import exit_on_signal, handle_signals

__all__ = ["Screen", "open_screen"]

_ENTER = "\x1b[?1049h\x1b[?25l"  # the alternate screen, without a cursor
_LEAVE = "\x1b[?25h\x1b[?1049l"


class Screen:
    """A terminal that `open_screen` has taken."""

    def __init__(self, wakeup: int) -> None:
        self._wakeup = wakeup

    def size(self) -> tuple[int, int]:
        """Return the current columns and lines."""
        try:
            return tuple(os.get_terminal_size(sys.stdout.fileno()))  # type: ignore[return-value]
        except OSError:
            return 80, 24

    def show(self, lines: Sequence[str]) -> None:
        """Replace the last frame with another, without flicker."""
        height = self.size()[1]
        text = "\x1b[K\r\n".join(lines[:height])
        sys.stdout.write(f"\x1b[H{text}\x1b[K\x1b[J")
        sys.stdout.flush()

    def key(self, seconds: float) -> str:
        """Return the key that is pressed within that time; empty if none is, or the size changes."""
        descriptors = [sys.stdin.fileno(), self._wakeup]
        ready, _, _ = select.select(descriptors, [], [], max(seconds, 0))
        if self._wakeup in ready:
            os.read(self._wakeup, 4096)
        if sys.stdin.fileno() not in ready:
            return ""
        pressed = os.read(sys.stdin.fileno(), 64)
        # A terminal that has gone away reads as at its end.
        return pressed.decode("latin-1")[:1] if pressed else "q"


@contextmanager
def open_screen() -> Iterator[Screen]:
    """Take the terminal of standard input and output, and restore it at the end of the block.

    Ctrl-C raises KeyboardInterrupt, SIGTERM and SIGHUP raise SystemExit. Ctrl-Z restores the terminal
    while this process is stopped.
    """
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def enter() -> None:
        tty.setcbreak(descriptor, termios.TCSANOW)
        _write_or_ignore(_ENTER)

    def leave() -> None:
        _write_or_ignore(_LEAVE)
        try:
            termios.tcsetattr(descriptor, termios.TCSANOW, before)
        except termios.error:
            pass  # the terminal has gone away

    def stop(number: int, frame: FrameType | None) -> None:
        leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        enter()

    handlers: dict[int, Callable[[int, Any], object]] = {
        signal.SIGWINCH: lambda number, frame: None,
        signal.SIGTERM: exit_on_signal,
        signal.SIGHUP: exit_on_signal,
        signal.SIGTSTP: stop,
    }
    with _wakeup_descriptor() as wakeup, handle_signals(handlers):
        enter()
        try:
            yield Screen(wakeup)
        finally:
            leave()


@contextmanager
def _wakeup_descriptor() -> Iterator[int]:
    """Yield a file descriptor that becomes readable when a signal arrives."""
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


def _write_or_ignore(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        pass  # the terminal has gone away
