"""Tells how many records come to a recording, as they come: one thread follows it for all who listen."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from rimp_otel.errors import RimpError
from rimp_otel.models.records import Signal
from rimp_otel.process import Reporter, describe_error
from rimp_otel.storage.reading import count_line
from rimp_otel.storage.recording import open_recording

__all__ = ["LiveChanges"]

_POLL_SECONDS = 0.25
_HEARTBEAT_SECONDS = 15.0
_MAX_LISTENERS = 100


class LiveChanges:
    """The changes of a recording as server-sent events, for any number of listeners of one event loop.

    The recording is followed while somebody listens.

    Args:
        path: of the recording, which need not exist yet.
        interval: seconds between two looks.
        heartbeat: seconds between two comments where nothing happens, which keep connections open.
    """

    def __init__(
        self,
        path: Path,
        interval: float = _POLL_SECONDS,
        heartbeat: float = _HEARTBEAT_SECONDS,
    ) -> None:
        self._path = path
        self._interval = interval
        self._heartbeat = heartbeat
        self._listeners: set[_Listener] = set()
        self._lock = threading.Lock()
        self._is_closed = False
        # Set to end the thread that follows now.
        self._stop: threading.Event | None = None
        self._reporter = Reporter()

    @property
    def is_full(self) -> bool:
        """True if no more may listen."""
        return len(self._listeners) >= _MAX_LISTENERS

    async def events(self) -> AsyncIterator[bytes]:
        """Iterate over events and comments, as text of ``text/event-stream``, until it is closed.

        The first one is a comment: what is recorded from then on is told.
        """
        listener = _Listener(asyncio.get_running_loop())
        self._add(listener)
        try:
            await listener.is_following.wait()
            yield b": following\n\n"
            while not self._is_closed:
                try:
                    await asyncio.wait_for(listener.has_news.wait(), self._heartbeat)
                except asyncio.TimeoutError:
                    yield b": alive\n\n"
                    continue
                counts = listener.take()
                if counts:
                    yield _to_event(counts)
        finally:
            self._remove(listener)

    def close(self) -> None:
        """End all streams. Thread-safe."""
        with self._lock:
            self._is_closed = True
            listeners = list(self._listeners)
            if self._stop is not None:
                self._stop.set()
        for listener in listeners:
            listener.wake()

    def _add(self, listener: _Listener) -> None:
        with self._lock:
            self._listeners.add(listener)
            if self._stop is None and not self._is_closed:
                self._stop = threading.Event()
                threading.Thread(
                    target=self._follow, args=(self._stop,), name="rimp-live", daemon=True
                ).start()
            elif self._is_closed or self._stop is None or self._is_following:
                listener.begin()

    def _remove(self, listener: _Listener) -> None:
        with self._lock:
            self._listeners.discard(listener)
            if not self._listeners and self._stop is not None:
                self._stop.set()
                self._stop = None
                self._is_following = False

    _is_following = False

    def _follow(self, stop: threading.Event) -> None:
        recording = open_recording(self._path, must_exist=False, decode=count_line)
        is_begun = False
        while not stop.is_set():
            try:
                if not is_begun:
                    recording.skip()
                    is_begun = True
                    self._begin(stop)
                counts: Counter[str] = Counter()
                for data in recording.poll():
                    for signal in Signal:
                        counts[signal.value] += data.count_of(signal)
                    if stop.is_set():
                        return
                if +counts:
                    self._tell(stop, counts)
            except (RimpError, OSError) as error:
                message = f"cannot follow {self._path}: {describe_error(error)}"
                self._reporter.warn("live", message)
            stop.wait(self._interval)

    def _begin(self, stop: threading.Event) -> None:
        with self._lock:
            if self._stop is stop:
                self._is_following = True
                for listener in self._listeners:
                    listener.begin()

    def _tell(self, stop: threading.Event, counts: Counter[str]) -> None:
        with self._lock:
            if self._stop is stop:
                for listener in self._listeners:
                    listener.add(counts)


class _Listener:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.has_news = asyncio.Event()
        self.is_following = asyncio.Event()

    def begin(self) -> None:
        self._call(self.is_following.set)

    def add(self, counts: Counter[str]) -> None:
        with self._lock:
            self._counts += counts
        self._call(self.has_news.set)

    def wake(self) -> None:
        self._call(self.is_following.set)
        self._call(self.has_news.set)

    def take(self) -> Counter[str]:
        self.has_news.clear()
        with self._lock:
            counts, self._counts = self._counts, Counter()
        return counts

    def _call(self, function: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function)  # type: ignore[arg-type]
        except RuntimeError:  # the loop is closed
            pass


def _to_event(counts: Counter[str]) -> bytes:
    data = ", ".join(f'"{signal.value}": {counts[signal.value]}' for signal in Signal)
    return f"event: change\ndata: {{{data}}}\n\n".encode()
