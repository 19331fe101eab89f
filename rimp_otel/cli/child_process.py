"""Runs a program in place of this process, as far as its parent can tell.

The program stays in the process group, so that the terminal and the shell treat both as one job:
Ctrl-C, Ctrl-Z and changes of the window's size reach it directly. Signals that are sent to this process alone,
as by ``kill``, are forwarded.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

__all__ = ["forwarded_signals", "run_program", "signal_name"]

_NOT_FORWARDED = {
    # Job control: the default action is right, the program has its own.
    *("SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT", "SIGCHLD", "SIGURG", "SIGKILL"),
    # Faults of this process itself, and signals that Python ignores.
    *("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS", "SIGPIPE", "SIGXFSZ"),
}
_TERMINAL_SIGNALS = {"SIGINT", "SIGQUIT", "SIGWINCH"}


def forwarded_signals() -> set[int]:
    """Return the signals that are forwarded: all that end or inform a program, unless ignored."""
    return {
        number
        for number in map(int, signal.valid_signals())
        if signal_name(number) not in _NOT_FORWARDED and signal.getsignal(number) != signal.SIG_IGN
    }


def run_program(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Run the command to its end, and return its exit code; -n if signal n killed it.

    Raises:
        OSError: the command cannot be started.
    """
    if not hasattr(os, "posix_spawnp"):
        return subprocess.call(list(command), env=dict(env))
    forwarded = forwarded_signals()
    # Some systems discard a signal that is ignored by default, although it is waited for.
    handlers = {number: signal.signal(number, _ignore) for number in _ignored_by_default()}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, forwarded | {signal.SIGCHLD})
    try:
        pid = os.posix_spawnp(
            command[0],
            list(command),
            env,
            setsigmask=mask,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
        return _wait_for_exit(pid, forwarded)
    finally:
        _discard_pending(forwarded)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _ignored_by_default() -> list[int]:
    numbers = [signal.SIGCHLD, signal.SIGWINCH]
    return [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]


def _ignore(*_: object) -> None:
    pass


def _wait_for_exit(pid: int, forwarded: set[int]) -> int:
    while True:
        number, is_for_the_program = _wait_for_signal(forwarded | {signal.SIGCHLD}, pid)
        if number == signal.SIGCHLD:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
        elif is_for_the_program:
            os.kill(pid, number)  # it exists until waitpid returns it


def _wait_for_signal(signals: set[int], pid: int) -> tuple[int, bool]:
    """Wait for a signal; return it, and True if the program has not received it, too."""
    if not hasattr(signal, "sigwaitinfo"):
        number = signal.sigwait(signals)
        return number, not (signal_name(number) in _TERMINAL_SIGNALS and _is_in_foreground())
    info = signal.sigwaitinfo(signals)
    # With a code above 0, the kernel sent it to all of the terminal's foreground group. The program
    # sends here only what it sends to its whole group.
    return info.si_signo, info.si_code <= 0 and info.si_pid != pid


def _is_in_foreground() -> bool:
    try:
        terminal = os.open(os.ctermid(), os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _discard_pending(signals: set[int]) -> None:
    """Discard signals that came too late for the program; they must not end this process."""
    while pending := signal.sigpending() & signals:
        signal.sigwait(pending)


def signal_name(number: int) -> str:
    """Return the name of a signal, such as ``SIGKILL``."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
