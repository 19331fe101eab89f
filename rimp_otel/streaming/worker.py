"""The threads of a stream: the worker, which drains, and one for each consumer."""

from __future__ import annotations

import _thread
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from opentelemetry import context as context_api

from rimp_otel.batch import TelemetryData
from rimp_otel.process import Reporter, describe_error

__all__ = [
    "Consumer",
    "ConsumerFunction",
    "ConsumerStats",
    "QuietThread",
    "Task",
    "Worker",
    "suppress_instrumentation",
]


ConsumerFunction = Callable[[TelemetryData], object]
"""Anything that takes a batch; what it returns is ignored."""


class ConsumerStats(NamedTuple):
    """Exact counts of one consumer, in records."""

    #: The consumer's name, for people.
    name: str
    #: Records whose batch was handed to it, whether it raised or not.
    delivered: int
    #: Of those, records in batches on which it raised.
    failed: int
    #: Records that it never saw, because its queue was full.
    missed: int
    #: The exception that it raised last, with its type; None if it raised none.
    last_error: str | None = None


class QuietThread(threading.Thread):
    """A daemon thread that ends without a word where gevent or eventlet came after its start.

    They replace the function that tells one thread from another, so that ``threading`` does not find the
    thread in its own list any more.
    """

    def _delete(self) -> None:
        with suppress(KeyError):
            super()._delete()  # type: ignore[misc]


class _UnawaitedThread:
    """A daemon thread whose start waits for nothing, and which ``threading`` does not know.

    ``threading.Thread.start`` waits until the thread runs. Where threads are greenlets, others run
    meanwhile: the application's, in a forked child that must not do what its parent does.
    """

    def __init__(self, run: Callable[[], None]) -> None:
        self._run = run
        self._ended = threading.Event()
        self.ident: int | None = None

    def start(self) -> None:
        # Looked up now, since gevent and eventlet replace it.
        _thread.start_new_thread(self._bootstrap, ())

    def _bootstrap(self) -> None:
        self.ident = threading.get_ident()
        try:
            self._run()
        finally:
            self._ended.set()

    def is_alive(self) -> bool:
        return not self._ended.is_set()

    def join(self, timeout: float | None = None) -> None:
        self._ended.wait(timeout)


class Consumer:
    """Hands batches to one function, in their order, on a thread of its own.

    Its bounded queue keeps it from disturbing the stream or another consumer. ``offer`` is for the
    draining thread; all else may be called from any thread.

    Args:
        function: what takes the batches.
        queue_size: batches that may wait; what comes while it is full is missed, and counted.
        reporter: reports what the function raises.
    """

    def __init__(
        self, function: ConsumerFunction, queue_size: int, reporter: Reporter | None = None
    ) -> None:
        self.function = function
        self._reporter = reporter or Reporter()
        self._queue_size = queue_size
        self._delivered = self._failed = self._missed = 0
        self._offered = self._finished = 0
        self._last_error: BaseException | None = None
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start with an empty queue and no thread, as in a forked child."""
        self._queue: deque[TelemetryData] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._finished = self._offered

    def start(self) -> None:
        """Start the thread, if there is none. Otherwise the first ``offer`` does."""
        with self._changed:
            self._start()

    def offer(self, data: TelemetryData) -> None:
        """Put a batch into the queue. Never waits."""
        with self._changed:
            if len(self._queue) >= self._queue_size:
                self._missed += len(data)
                return
            self._queue.append(data)
            self._offered += 1
            if self._start():
                self._changed.notify_all()
                return
        self._deliver_waiting()

    def _start(self) -> bool:
        """Return True if there is a thread now that will deliver."""
        if self._thread is not None and self._thread.is_alive():
            return True
        self._closed = False
        thread = QuietThread(target=self._run, name="rimp-consumer", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is exiting, and starts no thread any more
            return False
        self._thread = thread
        return True

    def _run(self) -> None:
        suppress_instrumentation()
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if not self._queue:
                    self._thread = None  # under the lock: what is offered next starts another
                    return
            self._deliver_waiting(most=1)

    def _deliver_waiting(self, most: int | None = None) -> None:
        while self._queue and (most is None or most > 0):
            try:
                data = self._queue.popleft()
            except IndexError:  # another thread has delivered it
                return
            self._deliver(data)
            most = None if most is None else most - 1
            with self._changed:
                self._finished += 1
                self._changed.notify_all()

    def _deliver(self, data: TelemetryData) -> None:
        records = len(data)
        try:
            self.function(data)
        except BaseException as error:
            # Even SystemExit: nothing that a consumer raises may end the thread that feeds it.
            self._failed += records
            self._last_error = error
            name = self._name
            self._reporter.warn(
                f"consumer {name}", f"the consumer {name} raised {describe_error(error)}"
            )
        self._delivered += records

    def wait(self, deadline: float) -> bool:
        """Wait until what has been offered up to now was handled; return False at ``deadline``.

        Args:
            deadline: on ``time.monotonic``'s clock.
        """
        with self._changed:
            offered = self._offered
            while self._finished < offered:
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return False
        return True

    @property
    def is_current(self) -> bool:
        """True if this is called by the consumer's function, on its thread."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """End the thread once the queue is empty. Another ``offer`` starts one again."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def last_error(self) -> BaseException | None:
        """The exception that the function raised last."""
        return self._last_error

    def stats(self) -> ConsumerStats:
        """Return what has been counted up to now."""
        error = self._last_error
        last_error = None if error is None else describe_error(error)
        return ConsumerStats(self._name, self._delivered, self._failed, self._missed, last_error)

    @property
    def _name(self) -> str:
        return getattr(self.function, "__qualname__", None) or repr(self.function)


def suppress_instrumentation() -> None:
    """Keep OpenTelemetry from recording what this thread does, for the rest of its life."""
    for name in ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY"):
        key = getattr(context_api, name, None)
        if key is not None:
            context_api.attach(context_api.set_value(key, True))


_PAUSE_AFTER_ERROR = 1.0


class Task:
    """Something to do on a thread, and whether it is done."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.done = threading.Event()
        self.result: Any = None

    def run(self) -> None:
        """Do it. Raises nothing."""
        try:
            self.result = self.function()
        except BaseException:
            # What a storage may raise: not even SystemExit may end the thread.
            self.result = None
        finally:
            self.done.set()

    def wait(self, deadline: float) -> bool:
        """Wait until it is done; return False at ``deadline`` (of ``time.monotonic``)."""
        return self.done.wait(max(0.0, deadline - time.monotonic()))


class _EndOfThread:
    """Ends the thread that takes it."""


class Worker:
    """A daemon thread that calls ``tick`` when it is due and when it is woken.

    ``wake`` and ``start_unawaited`` are safe from any thread, signal handler or finaliser; all else
    from any thread.

    Args:
        tick: called with no argument; returns the seconds until it is due again.
        name: of the thread.
    """

    def __init__(self, tick: Callable[[], float], name: str) -> None:
        self._tick = tick
        self._name = name
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Forget the thread and all that it was asked for, as in a forked child."""
        # SimpleQueue.put is one call into C that takes no lock which a signal handler could meet.
        self._inbox: queue.SimpleQueue[Task | _EndOfThread | None] = queue.SimpleQueue()
        self._thread: threading.Thread | _UnawaitedThread | None = None
        # The thread that was told to end last.
        self._ending: threading.Thread | _UnawaitedThread | None = None
        # Held while one of the three above changes, or the inbox is chosen: what is put into it
        # under the lock comes before the thread is told to end.
        self._changing = threading.RLock()
        self._woken = False
        #: True during a tick that ``wake`` asked for.
        self.was_woken = False
        self._here = threading.local()
        # Threads that were not waited for to their end, since what they do may hang.
        self._left: list[threading.Thread | _UnawaitedThread] = []

    @property
    def is_running(self) -> bool:
        """True if the thread lives."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_current(self) -> bool:
        """True if this is called by what the worker does, on whatever thread."""
        return getattr(self._here, "working", False)

    def start(self) -> bool:
        """Start the thread if there is none; return False if the interpreter starts none any more."""
        with self._changing:
            if self.is_running:
                return True
            inbox: queue.SimpleQueue[Task | _EndOfThread | None] = queue.SimpleQueue()
            thread = QuietThread(target=self._run, args=(inbox,), name=self._name, daemon=True)
            self._inbox, self._woken = inbox, False
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
            return True

    def start_unawaited(self) -> bool:
        """Start the thread, if there is none, without waiting for anything.

        Returns:
            False if that is not possible now.
        """
        if not self._changing.acquire(blocking=False):
            return False
        try:
            if not self.is_running:
                self._inbox, self._woken = queue.SimpleQueue(), False
                self._here = threading.local()
                inbox = self._inbox
                thread = _UnawaitedThread(lambda: self._run(inbox))
                thread.start()
                self._thread = thread
            return True
        except RuntimeError:
            return False
        finally:
            self._changing.release()

    def wake(self) -> None:
        """Make a tick due now."""
        if not self._woken:
            self._woken = True
            self._inbox.put(None)

    def perform(self, function: Callable[[], Any], deadline: float) -> tuple[bool, Any]:
        """Call ``function`` on the thread, and wait for it.

        Where there is no thread, it is called on one made for it, so that even a function that
        hangs keeps no caller past the deadline; at the interpreter's exit, on the caller's. What
        the worker does cannot wait for the worker: then it is not called at all.

        Returns:
            True if it was done before ``deadline`` (of ``time.monotonic``); and what it returned.
        """
        if self.is_current:
            return False, None
        task = Task(function)
        with self._changing:
            runs = self.is_running
            if runs:
                self._inbox.put(task)
        if not runs and not self._start_aside(task) and self._is_alone(deadline):
            self._run_here(task)
        done = task.wait(deadline)
        return done, task.result if done else None

    def run_aside(self, function: Callable[[], Any]) -> Task:
        """Call ``function`` on a thread made for it, since it may hang."""
        task = Task(function)
        if not self._start_aside(task):
            self._run_here(task)
        return task

    def stop(self, deadline: float) -> bool:
        """End the thread; return False if it still runs at ``deadline``."""
        self.end()
        return self.join(deadline)

    def end(self) -> None:
        """Tell the thread to end. Waits for nothing."""
        with self._changing:
            if self._thread is not None:
                self._ending, self._thread = self._thread, None
                self._inbox.put(_EndOfThread())

    def join(self, deadline: float) -> bool:
        """Wait for the thread that was told to end last; return False if it runs at ``deadline``."""
        thread = self._ending
        if thread is None:
            return True
        if thread.ident == threading.get_ident():
            return False
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive() and thread not in self._left:
            self._left = [*self._left, thread]
        return not thread.is_alive()

    def _is_alone(self, deadline: float) -> bool:
        """Return True if at ``deadline`` no other thread does what it was asked for any more."""
        for thread in self._left:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._left)

    def _run(self, inbox: queue.SimpleQueue[Task | _EndOfThread | None]) -> None:
        suppress_instrumentation()
        self._here.working = True
        next_tick = time.monotonic() + self._tick_safely()
        while True:
            try:
                message = inbox.get(timeout=max(0.0, next_tick - time.monotonic()))
            except queue.Empty:
                message = None
            if isinstance(message, _EndOfThread):
                _run_remaining(inbox)
                return
            if message is not None:
                message.run()
                continue
            self.was_woken, self._woken = self._woken, False
            next_tick = time.monotonic() + self._tick_safely()

    def _tick_safely(self) -> float:
        try:
            return self._tick()
        except BaseException:
            return _PAUSE_AFTER_ERROR

    def _start_aside(self, task: Task) -> bool:
        """Return False if the interpreter starts no thread any more."""

        def run() -> None:
            suppress_instrumentation()
            self._run_here(task)

        thread = QuietThread(target=run, name="rimp-aside", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._left = [*(left for left in self._left if left.is_alive()), thread]
        return True

    def _run_here(self, task: Task) -> None:
        here = self._here
        here.working = True
        try:
            task.run()
        finally:
            here.working = False


def _run_remaining(inbox: queue.SimpleQueue[Task | _EndOfThread | None]) -> None:
    """Do what was asked for while the thread was told to end."""
    while not inbox.empty():
        message = inbox.get()
        if isinstance(message, Task):
            message.run()
