"""Writer slots, and what lies in the directory of a slot's journal.

A slot is the right to write a recording's files of one number. It has one holder at a time, who
holds a lock on a file in the journal's directory. All that may lie there, by its name:

===================== ========================================================================
``lock``              the lock file, signed by the last holder
``000001.seg``        a segment of the journal
``000002.open``       the table of spans that are open
``000003.crash``      what ``faulthandler`` writes if the process crashes
``000004.metrics``    what the instruments have measured and is not stored yet
``000002.tmp``        a segment that is being made of the files of a dead process
``000001.seg.damaged`` a file of those kinds that was found damaged, in quarantine
===================== ========================================================================

Numbers grow over the life of a journal. Whatever has another name is foreign, and is left alone.
"""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from rimp_otel.errors import StorageError
from rimp_otel.fsutil import CREATE_FLAGS, READ_FLAGS, lock_file

__all__ = [
    "DATA_KINDS",
    "LOCK",
    "JournalFile",
    "JournalFileKind",
    "Slot",
    "classify_journal_file",
    "is_owned",
    "journal_file_name",
]

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "lock"
"""The name of the lock file in a slot's journal directory."""

_MAX_SLOTS = 1_024
_user = getattr(os, "geteuid", lambda: 0)  # Windows has none, and reports 0 for every file


class JournalFileKind(Enum):
    """The kinds of files in a journal's directory; the values are what their names end with."""

    LOCK = LOCK
    SEGMENT = ".seg"
    OPEN_SPANS = ".open"
    CRASH = ".crash"
    CHECKPOINT = ".metrics"
    TEMPORARY = ".tmp"
    QUARANTINED = ".damaged"
    FOREIGN = ""


DATA_KINDS = frozenset(
    {
        JournalFileKind.SEGMENT,
        JournalFileKind.OPEN_SPANS,
        JournalFileKind.CRASH,
        JournalFileKind.CHECKPOINT,
    }
)
"""The kinds of files that hold what was recorded."""

_NUMBERED = r"([0-9]{6,})(\.seg|\.open|\.crash|\.metrics|\.tmp)(\.damaged)?"


class JournalFile(NamedTuple):
    """The meaning of a name in a journal's directory."""

    kind: JournalFileKind
    #: None of the lock file, and of files that are not the journal's.
    number: int | None = None
    #: The kind that a file in quarantine was of, if its name tells.
    former_kind: JournalFileKind | None = None


def classify_journal_file(name: str) -> JournalFile:
    """Return the meaning of a name in a journal's directory."""
    match = re.fullmatch(_NUMBERED, name, re.ASCII)
    if match is not None:
        number, kind = int(match[1]), JournalFileKind(match[2])
        if match[3]:
            return JournalFile(JournalFileKind.QUARANTINED, number, kind)
        return JournalFile(kind, number)
    if name == LOCK:
        return JournalFile(JournalFileKind.LOCK)
    for kind in (JournalFileKind.QUARANTINED, JournalFileKind.TEMPORARY):
        if name.endswith(kind.value):
            return JournalFile(kind)
    return JournalFile(JournalFileKind.FOREIGN)


def journal_file_name(number: int, kind: JournalFileKind) -> str:
    """Return the name of a journal's file."""
    return f"{number:06d}{kind.value}"


class Slot:
    """A writer's slot, from when it is taken until it is released or the process dies.

    Two locks are held: that of the lock file, and that of the directory, which stays when somebody
    removes the lock file. The kernel releases them with the process, however it ends: ownership is never a matter of
    process ids. A slot that is taken may hold what its last owner left in its journal.
    """

    def __init__(self, number: int, directory: Path, locks: _Locks, rebooted: bool = False) -> None:
        #: Counted from 0.
        self.number = number
        #: The directory of the slot's journal.
        self.directory = directory
        #: True if the machine was restarted since the slot was last held: then files may lack what
        #: was not synced.
        self.rebooted = rebooted
        self._lock, self._directory_lock = locks
        self._opened = os.fstat(self._lock)
        self._opened_directory = os.stat(directory)
        self._pid = os.getpid()

    @classmethod
    def take(cls, directory_of: Callable[[int], Path], first: int = 0) -> Slot:
        """Take the lowest slot that nobody holds.

        Args:
            directory_of: returns the journal directory of a slot number.
            first: the lowest number that may be taken.

        Raises:
            StorageError: none could be taken, such as in a directory that cannot be written.
        """
        for number in range(first, first + _MAX_SLOTS):
            directory = directory_of(number)
            try:
                locked = _try_to_lock(directory)
            except OSError as error:
                raise StorageError(
                    f"cannot record into {directory.parent}: {error.strerror or error}; "
                    "give a path to a directory that can be written, or a file family ending in"
                    " .jsonl"
                ) from error
            if locked is not None:
                return cls(number, directory, *locked)
        raise StorageError(
            f"cannot record into {directory_of(first).parent}: all {_MAX_SLOTS} writer slots are"
            " taken, or hold what earlier writers left; end some writers, or give another path"
        )

    def confirm(self) -> None:
        """Note in the lock file that what the last owner left has been taken over.

        Only now does the file say that the slot was held since the machine was started: a death
        before must not hide that.
        """
        _sign(self._lock)

    @property
    def is_ours(self) -> bool:
        """True if this process took the slot and has not released it; False in a forked child."""
        return self._lock >= 0 and self._pid == os.getpid()

    def release(self) -> None:
        """Release the slot.

        In a forked child, only close the inherited descriptor: unlocking would take the lock from
        the living parent.
        """
        open_ones = [
            lock
            for lock, opened in (
                (self._lock, self._opened),
                (self._directory_lock, self._opened_directory),
            )
            if lock >= 0 and _is_same_file(lock, opened)
        ]
        self._lock = self._directory_lock = -1
        for lock in open_ones:
            os.close(lock)

    @property
    def is_held(self) -> bool:
        """True if the directory is still there, and locked: itself, or by its lock file."""
        if not _is_same_file(self._lock, self._opened):
            return False
        if _is_same_file(self._directory_lock, self._opened_directory):
            path, opened = self.directory, self._opened_directory
        else:
            path, opened = self.directory / LOCK, self._opened
        try:
            return os.path.samestat(os.stat(path), opened)
        except OSError:
            return False


def _is_same_file(file: int, opened: os.stat_result) -> bool:
    """Return True if the descriptor is still that of the file that was opened.

    A program that makes itself a daemon closes all descriptors, and opens others in their place.
    """
    try:
        return file >= 0 and os.path.samestat(os.fstat(file), opened)
    except OSError:
        return False


def is_owned(directory: Path) -> bool:
    """Return True if a living process holds the slot of this journal directory.

    For readers. It takes a shared lock for a moment; a writer that comes just then takes the next
    slot instead.
    """
    if fcntl is None:  # pragma: no cover - Windows
        return False
    # The lock file first: nearly always, it is enough.
    return _is_locked(directory / LOCK) or _is_locked(directory)


def _is_locked(path: Path) -> bool:
    try:
        lock = os.open(path, READ_FLAGS)
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


class _Locks(NamedTuple):
    """The descriptors that hold a slot's locks."""

    file: int
    #: -1 where a directory cannot be locked.
    directory: int


def _try_to_lock(directory: Path) -> tuple[_Locks, bool] | None:
    """Return the descriptors of the slot's locks, and whether the machine was restarted since it was
    last held; None if another process holds it, or may."""
    is_new = _make_private_directory(directory)
    if not is_new and not _is_own_directory(directory):
        return None
    # Before the lock file is made: where somebody removed it, its holder has this lock still.
    directory_lock = _lock_directory(directory)
    if directory_lock is None:
        return None
    try:
        found = _try_to_lock_file(directory, is_new)
    except BaseException:
        _close(directory_lock)
        raise
    if found is None:
        _close(directory_lock)
        return None
    return _Locks(found[0], directory_lock), found[1]


def _lock_directory(directory: Path) -> int | None:
    """Return the descriptor that locks the directory, -1 where that cannot be done; None if another
    process holds the lock."""
    if fcntl is None or not hasattr(os, "O_DIRECTORY"):  # pragma: no cover - Windows
        return -1
    file = os.open(directory, READ_FLAGS | os.O_DIRECTORY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    except OSError:  # a file system that locks no directories, or nothing
        os.close(file)
        return -1
    return file


def _close(file: int) -> None:
    if file >= 0:
        os.close(file)


def _try_to_lock_file(directory: Path, is_new: bool) -> tuple[int, bool] | None:
    """Return the descriptor of the lock file, and whether the machine was restarted since."""
    if not is_new and not _may_be_file(directory / LOCK):
        return None
    lock = os.open(directory / LOCK, CREATE_FLAGS, 0o600)
    try:
        # Without locks, only what was not there before is nobody else's.
        held = lock_file(lock, without_locks=is_new)
        owner = _read_owner(lock)
        if held and _is_current(lock, directory) and _may_take(owner, directory):
            # Where nobody signed, or that was lost, it may have been.
            rebooted = not is_new and owner.get("boot") != _boot_id()
            if not rebooted or os.listdir(directory) == [LOCK]:
                _sign(lock)
            return lock, rebooted
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _make_private_directory(directory: Path) -> bool:
    """Make the directory, readable by its owner alone; return False if it exists."""
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def _is_own_directory(directory: Path) -> bool:
    """Return True if it is a directory, no link to one, and belongs to this process's user."""
    status = os.lstat(directory)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == _user()


def _may_be_file(path: Path) -> bool:
    """Return False for what is no regular file, such as a pipe or a link."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except FileNotFoundError:
        return True


def _is_current(lock: int, directory: Path) -> bool:
    """Return True if the locked file is still the one of that name, and ours to use."""
    opened, named = os.fstat(lock), os.stat(directory / LOCK, follow_symlinks=False)
    return os.path.samestat(opened, named) and opened.st_uid == _user()


def _read_owner(lock: int) -> dict[str, str]:
    """Return which machine and boot signed the lock file last; empty if none did."""
    try:
        owner = json.loads(os.pread(lock, 4_096, 0))
        return {key: str(owner[key]) for key in ("machine", "boot")}
    except (ValueError, KeyError, TypeError):
        return {}


def _may_take(owner: dict[str, str], directory: Path) -> bool:
    """Return False for what another machine left on a volume that both share.

    Locks may not reach across, so its owner may live. What was left empty is anybody's.
    """
    if not owner or owner["boot"] == _boot_id() or owner["machine"] == _machine_id():
        return True
    return os.listdir(directory) == [LOCK]


def _sign(lock: int) -> None:
    owner = {
        "machine": _machine_id(),
        "boot": _boot_id(),
        "pid": os.getpid(),
        "since": time.time_ns(),
    }
    os.pwrite(lock, (text := json.dumps(owner).encode() + b"\n"), 0)
    os.ftruncate(lock, len(text))


def _machine_id() -> str:
    """Return the machine's id, or its name where it has none."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        if text := _read_text(path):
            return text
    return socket.gethostname()


def _boot_id() -> str:
    """Return the id of the running kernel's boot: processes that share it share their locks."""
    return _read_text("/proc/sys/kernel/random/boot_id") or f"{_machine_id()}/?"


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
