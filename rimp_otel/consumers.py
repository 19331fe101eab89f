"""Consumers, each with a thread and a bounded queue of its own, so that none disturbs another."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from opentelemetry import context as context_api

from rimp_otel.data import TelemetryData

__all__ = ["Consumer", "ConsumerFunction", "ConsumerStats", "suppress_instrumentation"]

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


class Consumer:
    """Hands batches to one function, in their order, on a thread of its own.

    Args:
        function: what takes the batches.
        queue_size: batches that may wait; what comes while it is full is missed, and counted.
    """

    def __init__(self, function: ConsumerFunction, queue_size: int) -> None:
        self.function = function
        self._queue_size = queue_size
        self._delivered = self._failed = self._missed = 0
        self._offered = self._finished = 0
        self._last_error: BaseException | None = None
        self.renew()

    def renew(self) -> None:
        """Starts with an empty queue and no thread, as in a forked child."""
        self._queue: deque[TelemetryData] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._finished = self._offered

    def start(self) -> None:
        """Starts the thread, where there is none. Else the first ``offer`` does."""
        with self._changed:
            self._start()

    def offer(self, data: TelemetryData) -> None:
        """Puts a batch into the queue. Never waits."""
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
        """Whether there is a thread now that will deliver."""
        if self._thread is not None and self._thread.is_alive():
            return True
        self._closed = False
        thread = threading.Thread(target=self._run, name="rimp-consumer", daemon=True)
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
            data = self._queue.popleft()
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
        self._delivered += records

    def wait(self, deadline: float) -> bool:
        """Waits until what has been offered up to now was handled; False after ``deadline``.

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
        """Whether this is called by the consumer's function, on its thread."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Ends the thread once the queue is empty. Another ``offer`` starts one again."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def last_error(self) -> BaseException | None:
        """What the function raised last."""
        return self._last_error

    def stats(self) -> ConsumerStats:
        """What has been counted up to now."""
        name = getattr(self.function, "__qualname__", None) or repr(self.function)
        return ConsumerStats(name, self._delivered, self._failed, self._missed)


def suppress_instrumentation() -> None:
    """Keeps OpenTelemetry from recording what this thread does, for the rest of its life."""
    for name in ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY"):
        key = getattr(context_api, name, None)
        if key is not None:
            context_api.attach(context_api.set_value(key, True))
