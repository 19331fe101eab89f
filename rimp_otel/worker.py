"""The stream's background thread: does what is due, and what it is asked for in between."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from rimp_otel.consumers import suppress_instrumentation

__all__ = ["Request", "Worker"]


_PAUSE_AFTER_ERROR = 1.0


class Request:
    """Something to do on a thread, and whether it is done."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self.action = action
        self.done = threading.Event()
        self.result: Any = None

    def run(self) -> None:
        """Does it. Raises nothing."""
        try:
            self.result = self.action()
        except BaseException:
            # What a storage may raise: not even SystemExit may end the thread.
            self.result = None
        finally:
            self.done.set()

    def wait(self, deadline: float) -> bool:
        """Whether it is done before ``deadline`` (of ``time.monotonic``)."""
        return self.done.wait(max(0.0, deadline - time.monotonic()))


class _End:
    """Ends the thread that takes it."""


class Worker:
    """A daemon thread that calls ``tick`` when it is due and when it is woken.

    Args:
        tick: called with no argument; returns the seconds until it is due again.
        name: of the thread.
    """

    def __init__(self, tick: Callable[[], float], name: str) -> None:
        self._tick = tick
        self._name = name
        self.renew()

    def renew(self) -> None:
        """Forgets the thread and all that it was asked for, as in a forked child."""
        # SimpleQueue.put is one call into C that takes no lock which a signal handler could meet.
        self._inbox: queue.SimpleQueue[Request | _End | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._woken = False
        self._here = threading.local()
        # Threads that were not waited for to their end, since what they do may hang.
        self._left: list[threading.Thread] = []

    @property
    def running(self) -> bool:
        """Whether the thread lives."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_current(self) -> bool:
        """Whether this is called by what the worker does, on whatever thread."""
        return getattr(self._here, "working", False)

    def start(self) -> bool:
        """Starts the thread where there is none; False if the interpreter starts none any more."""
        if self.running:
            return True
        inbox: queue.SimpleQueue[Request | _End | None] = queue.SimpleQueue()
        thread = threading.Thread(target=self._run, args=(inbox,), name=self._name, daemon=True)
        self._inbox, self._woken = inbox, False
        try:
            thread.start()
        except RuntimeError:
            return False
        self._thread = thread
        return True

    def wake(self) -> None:
        """Makes a tick due now. Safe from a signal handler or a finaliser."""
        if not self._woken:
            self._woken = True
            self._inbox.put(None)

    def perform(self, action: Callable[[], Any], deadline: float) -> tuple[bool, Any]:
        """Calls ``action`` on the thread, and waits for it.

        Where there is no thread, it is called on one made for it, so that even an action that
        hangs keeps no caller past the deadline; at the interpreter's exit, on the caller's. What
        the worker does cannot wait for the worker: then it is not called at all.

        Returns:
            Whether it was done before ``deadline`` (of ``time.monotonic``), and what it returned.
        """
        if self.is_current:
            return False, None
        request = Request(action)
        if self.running:
            self._inbox.put(request)
        elif not self._run_aside(request) and self._is_alone(deadline):
            self._run_here(request)
        done = request.wait(deadline)
        return done, request.result if done else None

    def aside(self, action: Callable[[], Any]) -> Request:
        """Calls ``action`` on a thread made for it, since it may hang."""
        request = Request(action)
        if not self._run_aside(request):
            self._run_here(request)
        return request

    def stop(self, deadline: float) -> bool:
        """Ends the thread; False if it still runs at ``deadline``."""
        thread, self._thread = self._thread, None
        if thread is None:
            return True
        self._inbox.put(_End())
        if thread is threading.current_thread():
            return False
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            self._left.append(thread)
        return not thread.is_alive()

    def _is_alone(self, deadline: float) -> bool:
        """Whether no other thread does anything any more that it was asked for, at ``deadline``."""
        for thread in self._left:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._left)

    def _run(self, inbox: queue.SimpleQueue[Request | _End | None]) -> None:
        suppress_instrumentation()
        self._here.working = True
        next_tick = time.monotonic() + self._tick_safely()
        while True:
            try:
                message = inbox.get(timeout=max(0.0, next_tick - time.monotonic()))
            except queue.Empty:
                message = None
            if isinstance(message, _End):
                _run_rest(inbox)
                return
            if message is not None:
                message.run()
                continue
            self._woken = False
            next_tick = time.monotonic() + self._tick_safely()

    def _tick_safely(self) -> float:
        try:
            return self._tick()
        except BaseException:
            return _PAUSE_AFTER_ERROR

    def _run_aside(self, request: Request) -> bool:
        """False if the interpreter starts no thread any more."""

        def run() -> None:
            suppress_instrumentation()
            self._run_here(request)

        thread = threading.Thread(target=run, name="rimp-aside", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._left = [*(left for left in self._left if left.is_alive()), thread]
        return True

    def _run_here(self, request: Request) -> None:
        here = self._here
        here.working = True
        try:
            request.run()
        finally:
            here.working = False


def _run_rest(inbox: queue.SimpleQueue[Request | _End | None]) -> None:
    """Does what was asked for while the thread was told to end."""
    while not inbox.empty():
        message = inbox.get()
        if isinstance(message, Request):
            message.run()
