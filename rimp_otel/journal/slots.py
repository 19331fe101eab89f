"""Writer slots: who writes a recording's files. One slot, one writer, held by a file lock."""

from __future__ import annotations

import json
import os
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

from rimp_otel.errors import StorageError

__all__ = ["LOCK", "Slot", "is_owned"]

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "lock"
"""The name of the lock file in a slot's journal directory."""

_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# A pipe of that name must keep nobody waiting.
_TO_LOOK = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_MOST_SLOTS = 1_024
_user = getattr(os, "geteuid", lambda: 0)  # Windows has none, and reports 0 for every file


class Slot:
    """A writer's place, from when it is taken until it is released or the process dies.

    The kernel releases the lock with the process, however it ends: ownership is never a matter of
    process ids. A slot that is taken may hold what its last owner left in its journal.
    """

    def __init__(self, number: int, directory: Path, lock: int, rebooted: bool = False) -> None:
        #: Counted from 0.
        self.number = number
        #: The journal's.
        self.directory = directory
        #: Whether the machine was started anew since the slot was last held: then files may lack
        #: what was not synced.
        self.rebooted = rebooted
        self._lock = lock
        self._opened = os.fstat(lock)
        self._pid = os.getpid()

    @classmethod
    def take(cls, directory_of: Callable[[int], Path], first: int = 0) -> Slot:
        """Takes the lowest slot that nobody holds.

        Args:
            directory_of: the journal directory of each slot number.
            first: the lowest number that may be taken.

        Raises:
            StorageError: none could be taken, such as in a directory that cannot be written.
        """
        for number in range(first, first + _MOST_SLOTS):
            directory = directory_of(number)
            try:
                lock = _try_to_lock(directory)
            except OSError as error:
                raise StorageError(
                    f"cannot record into {directory.parent}: {error.strerror or error}; "
                    "give a path to a directory that can be written, or a file family ending in"
                    " .jsonl"
                ) from error
            if lock is not None:
                return cls(number, directory, *lock)
        raise StorageError(
            f"cannot record into {directory_of(first).parent}: {_MOST_SLOTS} writers are there,"
            " or what they left; end some of them, or give another path"
        )

    def confirm(self) -> None:
        """What the last owner left has been taken over. Only now does the lock file say that it was
        held since the machine was started: a death before must not hide that."""
        _sign(self._lock)

    @property
    def is_ours(self) -> bool:
        """Whether this process took it, and has not released it: a forked child did not."""
        return self._lock >= 0 and self._pid == os.getpid()

    def release(self) -> None:
        """Lets the slot go. In a forked child: closes the inherited descriptor, and nothing else,
        since unlocking would take the lock from the living parent."""
        is_open = self._lock >= 0 and self._is_open()
        lock, self._lock = self._lock, -1
        if is_open:
            os.close(lock)

    @property
    def is_held(self) -> bool:
        """Whether the lock file is still there, and locked."""
        try:
            named = os.stat(self.directory / LOCK)
        except OSError:
            return False
        return self._is_open() and os.path.samestat(self._opened, named)

    def _is_open(self) -> bool:
        """Whether the descriptor is still that of the lock file: a program that makes itself a
        daemon closes all descriptors, and opens others in their place."""
        try:
            return os.path.samestat(os.fstat(self._lock), self._opened)
        except OSError:
            return False


def is_owned(directory: Path) -> bool:
    """Whether a living process holds the slot of this journal directory.

    For readers. It takes a shared lock for a moment; a writer that comes just then takes the next
    slot instead.
    """
    if fcntl is None:  # pragma: no cover - Windows
        return False
    try:
        lock = os.open(directory / LOCK, _TO_LOOK)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(lock)
    return False


def _try_to_lock(directory: Path) -> tuple[int, bool] | None:
    """The descriptor of the slot's lock, and whether the machine was started anew since it was
    last held; None where somebody else holds it."""
    is_new = _make_private(directory)
    if not is_new and not _is_ours(directory):
        return None
    lock = os.open(directory / LOCK, _FLAGS, 0o600)
    try:
        # Without locks, only what was not there before is nobody else's.
        held = _acquire(lock, otherwise=is_new)
        owner = _owner(lock)
        if held and _is_current(lock, directory) and _may_take(owner, directory):
            # Where nobody signed, or that was lost, it may have been.
            rebooted = not is_new and owner.get("boot") != _boot()
            if not rebooted or os.listdir(directory) == [LOCK]:
                _sign(lock)
            return lock, rebooted
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _make_private(directory: Path) -> bool:
    """Makes it, readable by its owner alone, where it is not there yet; says whether it was not."""
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def _is_ours(directory: Path) -> bool:
    """Whether it is a directory, no link to one, and belongs to this process's user."""
    status = os.lstat(directory)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == _user()


def _acquire(lock: int, otherwise: bool) -> bool:
    """Whether the lock was free; ``otherwise``, where the file system has none."""
    if fcntl is None:  # pragma: no cover - Windows
        return otherwise
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return otherwise
    return True


def _is_current(lock: int, directory: Path) -> bool:
    """Whether the locked file is still the one of that name, and ours to use."""
    opened, named = os.fstat(lock), os.stat(directory / LOCK, follow_symlinks=False)
    return os.path.samestat(opened, named) and opened.st_uid == _user()


def _owner(lock: int) -> dict[str, str]:
    """Who signed the lock file last: machine and boot; empty where nobody did."""
    try:
        owner = json.loads(os.pread(lock, 4_096, 0))
        return {key: str(owner[key]) for key in ("machine", "boot")}
    except (ValueError, KeyError, TypeError):
        return {}


def _may_take(owner: dict[str, str], directory: Path) -> bool:
    """Not what another machine left on a volume that both share: locks may not reach across, so
    its owner may live. What was left empty is anybody's."""
    if not owner or owner["boot"] == _boot() or owner["machine"] == machine():
        return True
    return os.listdir(directory) == [LOCK]


def _sign(lock: int) -> None:
    owner = {"machine": machine(), "boot": _boot(), "pid": os.getpid(), "since": time.time_ns()}
    os.pwrite(lock, (text := json.dumps(owner).encode() + b"\n"), 0)
    os.ftruncate(lock, len(text))


def machine() -> str:
    """The machine's id, or its name where it has none."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        if text := _read(path):
            return text
    return socket.gethostname()


def _boot() -> str:
    """The id of the running kernel's boot: processes that share it share their locks."""
    return _read("/proc/sys/kernel/random/boot_id") or f"{machine()}/?"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
