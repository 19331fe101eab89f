"""Runs a program so that whoever started this process notices no difference.

The program stays in the process group, so that the terminal and the shell treat both as one job:
Ctrl-C, Ctrl-Z and the window's size reach it directly. What is sent to this process alone, with
``kill``, is sent on.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

__all__ = ["forwarded_signals", "run_program"]

_NOT_FORWARDED = {
    # Job control: the default action is right, the program has its own.
    *("SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT", "SIGCHLD", "SIGURG", "SIGKILL"),
    # Faults of this process itself; and what Python ignores.
    *("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGSYS", "SIGPIPE", "SIGXFSZ"),
}
_OF_TERMINAL = {"SIGINT", "SIGQUIT", "SIGWINCH"}


def forwarded_signals() -> set[int]:
    """The signals that are sent on: all that would end or inform a program, unless ignored."""
    return {
        number
        for number in map(int, signal.valid_signals())
        if _name(number) not in _NOT_FORWARDED and signal.getsignal(number) != signal.SIG_IGN
    }


def run_program(command: Sequence[str], env: Mapping[str, str]) -> int:
    """Runs the command to its end.

    Returns:
        Its exit code; of a program that was killed by signal n, -n.

    Raises:
        OSError: it cannot be started.
    """
    if not hasattr(os, "posix_spawnp"):
        return subprocess.call(list(command), env=dict(env))
    forwarded = forwarded_signals()
    # Where the default is to ignore a signal, some systems discard it although it is waited for.
    handlers = {number: signal.signal(number, _nothing) for number in _ignored_by_default()}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, forwarded | {signal.SIGCHLD})
    try:
        pid = os.posix_spawnp(
            command[0],
            list(command),
            env,
            setsigmask=mask,
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
        return _wait(pid, forwarded)
    finally:
        _discard(forwarded)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _ignored_by_default() -> list[int]:
    numbers = [signal.SIGCHLD, signal.SIGWINCH]
    return [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]


def _nothing(*_: object) -> None:
    pass


def _wait(pid: int, forwarded: set[int]) -> int:
    while True:
        number, is_for_the_program = _next(forwarded | {signal.SIGCHLD}, pid)
        if number == signal.SIGCHLD:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
        elif is_for_the_program:
            os.kill(pid, number)  # which is there until waitpid returns it


def _next(signals: set[int], pid: int) -> tuple[int, bool]:
    """Waits for a signal; which one, and whether the program does not have it yet."""
    if not hasattr(signal, "sigwaitinfo"):
        number = signal.sigwait(signals)
        return number, not (_name(number) in _OF_TERMINAL and _in_foreground())
    info = signal.sigwaitinfo(signals)
    # Above 0, the kernel sent it: to all of the terminal's foreground. The program itself sends
    # here only what it sends to its whole group.
    return info.si_signo, info.si_code <= 0 and info.si_pid != pid


def _in_foreground() -> bool:
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


def _discard(signals: set[int]) -> None:
    """Forgets what came too late for the program, which must not end this process."""
    while pending := signal.sigpending() & signals:
        signal.sigwait(pending)


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
