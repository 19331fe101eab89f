"""This process: its forks and its exit, its locks and counters, its warnings, and its children."""

from __future__ import annotations

import atexit
import mmap
import os
import select
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from importlib import _bootstrap, import_module
from itertools import count, repeat
from operator import length_hint
from threading import RLock, get_ident
from typing import Any, Generic, Protocol, TextIO, TypeVar

__all__ = [
    "AUTORECORD_SITE",
    "AtExit",
    "BoundedCache",
    "Counter",
    "ProcessLock",
    "ProcessMark",
    "Reporter",
    "StepCounter",
    "call_in_forked_child",
    "child_environment",
    "describe_error",
    "importing",
    "make_process_mark",
]


# Forks: in a child, threads are gone, and locks may be held for ever.

# Of Linux; the module mmap does not have it.
_MADV_WIPEONFORK = 18


class _WeakMethod:
    """A bound method that does not keep its object alive.

    ``weakref.WeakMethod`` with a callback prints a traceback when the interpreter clears its modules.
    """

    __slots__ = ("_function", "_object")

    def __init__(
        self, method: Callable[[], None], on_end: Callable[[object], object] | None = None
    ) -> None:
        self._function: Callable[[Any], None] = method.__func__  # type: ignore[attr-defined]
        self._object = weakref.ref(method.__self__, on_end)  # type: ignore[attr-defined]

    def __call__(self) -> Callable[[], None] | None:
        found = self._object()
        return None if found is None else partial(self._function, found)


_numbers = count()
# By numbers that grow: they are called in the order in which they came.
_resets: dict[int, _WeakMethod] = {}
_last_resets: dict[int, _WeakMethod] = {}


class ProcessMark(Protocol):
    """An object whose first item is true in the process that made it, and in no child of that."""

    def __getitem__(self, index: int, /) -> int: ...


def make_process_mark() -> ProcessMark:
    """Return a mark of this process, which shows in a child that it is another one.

    Hooks are not enough: a fork from C runs none. And ``os.getpid`` is a system call, a tenth of what
    recording an event costs; so the mark is a page of memory that the kernel empties in children.
    """
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
    except (AttributeError, OSError, ValueError):  # no Linux, or one before 4.14
        return _PidMark()
    page[0] = 1
    return page


class _PidMark:
    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, index: int, /) -> int:
        return os.getpid() == self._pid


def call_in_forked_child(reset: Callable[[], None], last: bool = False) -> None:
    """Have a bound method called in every forked child, as long as its object lives.

    Args:
        reset: forgets what was the parent's. It must not start a thread: that thread would meet
            objects that are not reset yet.
        last: call it after all others; then it may start threads.
    """
    methods, number = _last_resets if last else _resets, next(_numbers)
    methods[number] = _WeakMethod(reset, lambda _: methods.pop(number, None))


def _reset_all() -> None:
    for method in [*_resets.copy().values(), *_last_resets.copy().values()]:
        reset = method()
        try:
            if reset is not None:
                reset()
        except Exception:  # one that fails keeps no other from being called
            sys.excepthook(*sys.exc_info())


if hasattr(os, "register_at_fork"):
    # One for all, since what is registered stays registered.
    os.register_at_fork(after_in_child=_reset_all)


# Imports within functions, and forks that come meanwhile.

# Seconds that a fork waits at most: the importing thread may itself wait for a module that the forking thread
# is in the middle of importing. What that costs is mended in the child.
_MAX_IMPORT_WAIT = 1.0


class _ImportLock:
    """A reentrant lock that knows which thread holds it."""

    def __init__(self) -> None:
        self._lock = RLock()
        self.owner: int | None = None
        self._depth = 0

    def acquire(self, timeout: float = -1) -> bool:
        if not self._lock.acquire(timeout=timeout):
            return False
        self.owner = get_ident()
        self._depth += 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if not self._depth:
            self.owner = None
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


_import_lock = _ImportLock()
_fork_holds_import_lock = False


def importing() -> AbstractContextManager[Any]:
    """Return the lock that holds off forks, for a block that imports a module.

    A child that is forked while another thread imports would wait for ever for that thread, which
    it does not have, to finish the module. So every import within a function stands in a
    ``with importing():`` block. No module may use it while it is itself being imported: a thread
    that imports under the lock might wait for that module.
    """
    return _import_lock


def _before_fork() -> None:
    global _fork_holds_import_lock
    _fork_holds_import_lock = _import_lock.acquire(timeout=_MAX_IMPORT_WAIT)


def _after_fork_in_parent() -> None:
    if _fork_holds_import_lock:
        _import_lock.release()


def _after_fork_in_child() -> None:
    global _import_lock
    if _fork_holds_import_lock:
        _import_lock.release()
        return
    owner, _import_lock = _import_lock.owner, _ImportLock()
    if owner is not None:
        _forget_half_imported(owner)


def _forget_half_imported(thread: int) -> None:
    """Have the modules imported anew that ``thread``, which this child does not have, was importing.

    Their locks would never be released, as the interpreter gives them up in no child.
    """
    locks = getattr(_bootstrap, "_module_locks", {})
    for name, reference in list(locks.items()):
        lock = reference()
        if lock is not None and getattr(lock, "owner", None) == thread:
            del locks[name]
            sys.modules.pop(name, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


# The orderly end of the process.

_AFTER_ALL_OTHERS = -100


class AtExit:
    """Has a bound method called when the interpreter exits, after what was registered later.

    Also when a child process of multiprocessing or billiard ends, which calls no atexit functions but
    multiprocessing's finalizers. The method's object is kept alive until ``release``: what it still has to do is not
    forgotten with the last reference to it. After that, the method is called if the object still
    lives.

    Args:
        finish: what to call; it must not raise.
    """

    def __init__(self, finish: Callable[[], None]) -> None:
        self._kept: Callable[[], None] | None = finish
        self._number = next(_numbers)
        unregister, exits, number = atexit.unregister, _exits, self._number

        def forget(_: object) -> None:
            entry = exits.pop(number, None)
            if entry is not None:
                unregister(entry)

        self._finish = _WeakMethod(finish, forget)
        atexit.register(self)
        _exits[self._number] = self
        _finalizers.register()

    def release(self) -> None:
        """Stop keeping the object alive."""
        self._kept = None

    def __call__(self) -> None:
        """Call the method now, if its object lives."""
        if finish := self._finish():
            finish()


_exits: dict[int, AtExit] = {}


def _finish_all() -> None:
    for number in sorted(_exits.copy(), reverse=True):
        if exit := _exits.get(number):
            exit()


class _Finalizers:
    """Has multiprocessing call ``_finish_all`` at the end of its children."""

    def __init__(self) -> None:
        self._is_registered = False

    def register(self) -> None:
        """Do so from now on, if multiprocessing is imported and it was not done before."""
        util = sys.modules.get("multiprocessing.util")
        if util is not None and not self._is_registered and _exits:
            self._is_registered = True
            # After a fork multiprocessing forgets all finalizers, and then calls this.
            util.register_after_fork(self, _Finalizers._add)
            self._add()

    def _add(self) -> None:
        process, util = sys.modules["multiprocessing.process"], sys.modules["multiprocessing.util"]
        if process.parent_process() is not None or _is_child_of_billiard():
            util.Finalize(None, _finish_all, exitpriority=_AFTER_ALL_OTHERS)


_finalizers = _Finalizers()


def _load_finalizers() -> None:
    if (
        _exits and "billiard.process" in sys.modules
    ):  # whose children import them only when they run
        import_module("multiprocessing.util")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_load_finalizers, after_in_child=_finalizers.register)


def _is_child_of_billiard() -> bool:
    process = sys.modules.get("billiard.process")
    # Its children use multiprocessing's finalizers, which do not take them for children.
    return process is not None and type(process.current_process()).__name__ != "_MainProcess"


# Warnings of the package itself: to standard error, seldom, and never through ``logging``.

# Characters of up to four bytes: as many as a pipe that can take anything takes at once.
_MAX_WARNING = 1_000


class Reporter:
    """Writes warnings, each kind at most once in ``pause`` seconds. For any thread.

    Args:
        pause: seconds between two warnings of one kind.
        clock: returns monotonic seconds.
        write: takes a message; writes it to standard error by default.
    """

    def __init__(
        self,
        pause: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[str], object] | None = None,
    ) -> None:
        self._pause = pause
        self._clock = clock
        self._write = write or _write_to_stderr
        self._warned: dict[str, float] = {}

    def warn(self, kind: str, message: str) -> None:
        """Write one line, unless a warning of this ``kind`` was written a short time ago."""
        now = self._clock()
        last = self._warned.get(kind)
        if last is not None and now - last < self._pause:
            return
        self._warned[kind] = now
        self._write(message)


def describe_error(error: BaseException) -> str:
    """Return the type and the message of an exception, whatever it raises itself."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def _write_to_stderr(message: str) -> None:
    """Write one line, unless standard error is a pipe that is full: whoever collects must not wait
    for its reader."""
    try:
        if _has_room(sys.stderr):
            sys.stderr.write(f"rimp: {message[:_MAX_WARNING]}\n")
    except Exception:
        # Closed, or none, or busy with what this interrupts, or an object of the application's.
        pass


def _has_room(stream: TextIO) -> bool:
    """Return True if a line can be written without waiting, as far as that is known."""
    try:
        ready = select.poll()
        ready.register(stream.fileno(), select.POLLOUT)
    except Exception:  # no file, or a closed one; or Windows, which cannot tell
        return True
    return bool(ready.poll(0))


# Counters, locks and caches.


class Counter:
    """A count that any thread, signal handler or finaliser adds to without a lock.

    ``add_one`` is one call into C, which the interpreter does not interrupt; ``n += 1`` is several
    steps, between which another thread's addition gets lost.
    """

    __slots__ = ("add_one", "numbers")

    def __init__(self) -> None:
        #: Each step of an iteration adds one, and gives the count before. Other than ``add_one`` it is no
        #: call, so that it needs no room on the stack; and where it raises MemoryError, since there
        #: is no room for the number, one has been added.
        self.numbers: Iterator[int] = count()
        #: Adds one; returns the count before.
        self.add_one: Callable[[], int] = self.numbers.__next__

    @property
    def value(self) -> int:
        """The number of calls of ``add_one``."""
        # The only way to read an itertools.count without counting, on every Python.
        return int(repr(self.numbers)[len("count(") : -1])


class StepCounter:
    """A count that even code adds to for which there is no room on the stack, nor in memory.

    Safe from any thread, signal handler or finaliser.
    """

    __slots__ = ("steps",)

    def __init__(self) -> None:
        #: Each step of an iteration adds one. It is no call, makes no object, and raises nothing.
        self.steps: Iterator[None] = repeat(None, _MOST_STEPS)

    @property
    def value(self) -> int:
        """The number of steps."""
        return _MOST_STEPS - length_hint(self.steps)


_MOST_STEPS = 2**62


class ProcessLock:
    """A reentrant lock that is free in a forked child, where nobody is left who would release it.

    The child is known by the hook, which also covers one that has its ancestor's pid; and by the pid,
    since a fork by a C library runs no hooks.
    """

    def __init__(self) -> None:
        self._reset()
        call_in_forked_child(self._reset)

    def _reset(self) -> None:
        self._locks: dict[int, Any] = {}

    def __call__(self) -> Any:
        """Return the lock of this process, for a ``with`` statement."""
        pid = os.getpid()
        lock = self._locks.get(pid)
        return lock if lock is not None else self._locks.setdefault(pid, RLock())


Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """A cache that is emptied when it is full, before the next key is added.

    Safe for threads: each step is one call into C, and with several threads at once it holds a few
    entries more than ``size``. A key that stands for an object by its ``id`` needs a value that
    holds the object, so that no other one gets that id.

    Args:
        size: the most entries it holds.
    """

    __slots__ = ("entries", "get", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        #: To be read only. A hot path does so without a call: of a subclass of dict, it would be
        #: twice as slow.
        self.entries: dict[Key, Value] = {}
        self.get = self.entries.get

    def __len__(self) -> int:
        return len(self.entries)

    def __setitem__(self, key: Key, value: Value) -> None:
        if len(self.entries) >= self.size:
            self.entries.clear()
        self.entries[key] = value

    def setdefault(self, key: Key, value: Value) -> Value:
        """Add ``value`` unless there is one for ``key``; return the one that is there then."""
        if len(self.entries) >= self.size and key not in self.entries:
            self.entries.clear()
        return self.entries.setdefault(key, value)

    def clear(self) -> None:
        """Forget all entries."""
        self.entries.clear()


# Processes that this one starts.

AUTORECORD_SITE = os.path.join(os.path.dirname(__file__), "otel", "autorecord_site")
"""The directory on PYTHONPATH that makes a Python process record itself."""


def child_environment(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child that is not recorded, even if this process is."""
    kept = {key: value for key, value in env.items() if not key.startswith(("OTEL_", "RIMP_"))}
    path = [p for p in kept.pop("PYTHONPATH", "").split(os.pathsep) if p and p != AUTORECORD_SITE]
    return {**kept, "PYTHONPATH": os.pathsep.join(path), "OTEL_SDK_DISABLED": "true"}
