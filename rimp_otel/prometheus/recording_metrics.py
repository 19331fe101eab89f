"""The metrics of a recording that is being written, as a page that is scraped."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rimp_otel.errors import DecodeError, StorageError
from rimp_otel.models.records import Signal
from rimp_otel.process import Reporter, describe_error
from rimp_otel.prometheus.families import Families, Family
from rimp_otel.prometheus.names import TranslationStrategy
from rimp_otel.prometheus.pages import MetricsPage, Pages
from rimp_otel.prometheus.state import load_state, save_state
from rimp_otel.prometheus.table import SeriesTable
from rimp_otel.storage.base import Recording
from rimp_otel.storage.reading import count_line
from rimp_otel.storage.recording import layout_of, open_recording

__all__ = ["RecordingMetrics"]

# Seconds between two readings, and for how long after the last page.
_FOLLOW_PAUSE = 1.0
_MAX_FOLLOWED = 300.0
_SAVE_PAUSE = 60.0
_MAX_SAVE_WAIT = 2.0
_STATE = "state"


class RecordingMetrics:
    """The metrics of a recording, read further with each scrape. Thread-safe.

    The first scrape reads all metrics that there are, since what ended processes had counted belongs to
    the sums.

    Args:
        path: of the recording, which need not exist yet.
        strategy: how names are translated.
        gauges: how gauges of several processes become one; see ``SeriesTable``.
        stale_after: seconds without a point after which a series is left out.
        clock: returns nanoseconds since the epoch.
        patience: seconds to wait for another page, such as the first one, that is being made.
        keeps_state: True to note beside the recording what was counted, so that whoever serves it next
            goes on from there, whatever retention has deleted.
    """

    def __init__(
        self,
        path: Path,
        strategy: TranslationStrategy = TranslationStrategy.UNDERSCORES_WITH_SUFFIXES,
        gauges: Mapping[str, str] | None = None,
        stale_after: float = 300.0,
        clock: Callable[[], int] = time.time_ns,
        patience: float = 8.0,
        keeps_state: bool = False,
    ) -> None:
        self._path = path
        self._new_table = partial(SeriesTable, gauges, stale_after)
        self._open()
        self._state = layout_of(path).prometheus / _STATE if keeps_state else None
        self._has_begun = False
        # When the state was saved, in monotonic seconds.
        self._saved = 0.0
        self._families = Families(strategy)
        self._pages = Pages()
        # What processes had measured and not stored when that was read last.
        self._measured: set[bytes] = set()
        self._clock = clock
        self._lock = threading.Lock()
        self._patience = patience
        # When a page was asked for last, in monotonic seconds.
        self._asked = -math.inf
        self._reporter = Reporter()
        #: What the last page left out, by reason.
        self.dropped: Counter[str] = Counter()

    def _open(self) -> None:
        self._recording: Recording = open_recording(self._path, must_exist=False, decode=count_line)
        self._table: SeriesTable = self._new_table()

    def follow(self) -> float | None:
        """Read what was stored since the last time, so that the next page has little to read.

        Nothing is read while nobody asks for pages, or while one is made. Raises nothing.

        Returns:
            Seconds after which to do so again; None if that is not before the next page.
        """
        if time.monotonic() - self._asked > _MAX_FOLLOWED:
            return None
        if self._lock.acquire(blocking=False):
            try:
                self._read_stored()
            except StorageError:
                pass  # the next page says it
            finally:
                self._lock.release()
        return _FOLLOW_PAUSE

    def write_page(self, accept: str = "") -> MetricsPage:
        """Return the page, up to what was recorded until now.

        Args:
            accept: the request's header; empty for none.

        Raises:
            StorageError: the recording cannot be read, or not soon.
        """
        with self._reading():
            return self._pages.write(self._collect(), accept)

    def collect(self) -> list[Family]:
        """Return all series, up to what was recorded until now, by the names of their families.

        Raises:
            StorageError: the recording cannot be read, or not soon.
        """
        with self._reading():
            return self._collect()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=self._patience):
            raise StorageError(f"the metrics of {self._recording.path} are being read: ask again")
        try:
            yield
            self._asked = time.monotonic()
        finally:
            self._lock.release()

    def _collect(self) -> list[Family]:
        self._read_stored()
        self._read_measured()
        now = self._clock()
        self._table.fold_ended(now)
        families = self._families.collect(self._table, now)
        self.dropped = self._families.dropped
        if self.dropped:
            counts = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items())
            self._reporter.warn("metrics", f"left out of /metrics: {counts}")
        return families

    def save(self) -> None:
        """Note what was counted, if that is to be kept. Raises nothing."""
        if self._lock.acquire(timeout=_MAX_SAVE_WAIT):
            try:
                self._save()
            finally:
                self._lock.release()

    def _save(self) -> None:
        state, self._saved = self._state, time.monotonic()
        if state is None or not self._has_begun:
            return
        try:
            state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            save_state(state, self._table, self._recording.position())
        except (OSError, TypeError, ValueError, OverflowError) as error:
            self._reporter.warn("state", f"cannot keep {state}: {describe_error(error)}")

    def _load(self) -> None:
        self._has_begun, self._saved = True, time.monotonic()
        if self._state is None:
            return
        position = load_state(self._state, self._table)
        if position is not None and not self._recording.resume(position):
            self._open()  # it is of another recording

    def _read_stored(self) -> None:
        if not self._has_begun:
            self._load()
        for data in self._recording.poll(signal=Signal.METRICS):
            if data.count_of(Signal.METRICS):  # journals hold other signals too
                for line in data.otlp_json(Signal.METRICS):
                    self._add(line)
        if time.monotonic() - self._saved > _SAVE_PAUSE:
            self._save()

    def _read_measured(self) -> None:
        lines = self._recording.measured
        for line in lines:
            if line not in self._measured:
                self._add(line)
        self._measured = set(lines)

    def _add(self, line: bytes) -> None:
        try:
            self._table.add_line(line)
        except DecodeError:
            pass  # it was read as far as that; `rimp verify` tells
