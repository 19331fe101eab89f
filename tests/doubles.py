"""Stand-ins that tests observe and steer, without a sleep."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rimp_otel.batch import TelemetryData
from rimp_otel.storage import TelemetryStorage, select

DEADLINE = 20.0
"""Seconds after which a test gives up waiting for what should come at once."""


class Gathered:
    """A list of batches that other threads append to, and that can be waited for."""

    def __init__(self) -> None:
        self.batches: list[TelemetryData] = []
        self._changed = threading.Condition()

    def __call__(self, data: TelemetryData) -> None:
        with self._changed:
            self.batches.append(data)
            self._changed.notify_all()

    def wait_for(self, records: int) -> None:
        """Waits until this many records have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= records, DEADLINE), self.count

    @property
    def count(self) -> int:
        """How many records have come."""
        return sum(map(len, self.batches))

    @property
    def messages(self) -> list[str]:
        """Of the events, in the order in which they came."""
        return [event.message for batch in self.batches for event in batch.events]


class ListStorage(TelemetryStorage):
    """Keeps batches in a list; calls ``before`` with each, which may raise or hang."""

    def __init__(self, before: Callable[[TelemetryData], object] | None = None) -> None:
        self.stored = Gathered()
        self.attempts = Gathered()
        self.before = before
        self.closed = 0

    def store(self, data: TelemetryData) -> None:
        self.attempts(data)
        if self.before is not None:
            self.before(data)
        self.stored(data)

    def retrieve(self, start_time=None, end_time=None, limit=None) -> TelemetryData:
        return select(TelemetryData.concat(self.stored.batches), start_time, end_time, limit)

    def close(self) -> None:
        self.closed += 1


class Gate:
    """Holds up whoever calls it until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, data: object = None) -> None:
        self.reached.set()
        assert self.opened.wait(DEADLINE)
