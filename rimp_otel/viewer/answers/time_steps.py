"""Equal steps of time, by which numbers are shown: aligned, so that they stay as time goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rimp_otel.batch import TelemetryData
from rimp_otel.errors import ConfigurationError
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.storage.base import Recording, Selection, with_times

__all__ = ["NewestParts", "TimeSteps", "bounded_window", "nice_step"]

_SECOND = 10**9
_MAX_STEPS = 2_000
# Of a window in parts: how many there would be if all took as long as the first one, nanoseconds of the
# shortest, and seconds for one.
_PARTS = 64
_LEAST_WIDTH = 10**6
_FAST, _SLOW = 0.1, 0.5
_NICE_SECONDS = (
    *(1, 2, 5, 10, 15, 30),
    *(60 * n for n in (1, 2, 5, 10, 15, 30)),
    *(3_600 * n for n in (1, 2, 3, 6, 12)),
    *(86_400 * n for n in (1, 2, 7, 14, 28)),
)


@dataclass(frozen=True)
class TimeSteps:
    """Steps of equal length. Times are in nanoseconds since the epoch."""

    start: int
    #: The length of each.
    step: int
    #: How many there are.
    count: int

    @classmethod
    def of(cls, window: Window, count: int = 60, step: int | None = None) -> TimeSteps:
        """Return steps that cover a window.

        Args:
            window: with both ends.
            count: about how many steps.
            step: the length of one, instead.

        Raises:
            ConfigurationError: there would be too many.
        """
        start, end = window
        assert start is not None
        assert end is not None
        step = step or nice_step((end - start) // count)
        first = start // step * step
        number = -((first - end) // step)
        if number > _MAX_STEPS:
            raise ConfigurationError(
                f"a step of {step} ns makes {number} of them: give a longer one, for {_MAX_STEPS} at most"
            )
        return cls(first, step, max(number, 1))

    @property
    def end(self) -> int:
        """The end of the last one."""
        return self.start + self.step * self.count

    def index(self, time_unix_nano: int) -> int | None:
        """Return the number of the step that a time is in, from 0; None if it is in none."""
        at = (time_unix_nano - self.start) // self.step
        return at if 0 <= at < self.count else None

    def spread(self, start: int, end: int) -> Iterator[tuple[int, float]]:
        """Yield the steps that an interval overlaps, each with the share of the interval in it."""
        if end <= start:
            at = self.index(end)
            if at is not None:
                yield at, 1.0
            return
        first = max((start - self.start) // self.step, 0)
        last = min(-((self.start - end) // self.step), self.count)
        for at in range(first, last):
            begin = self.start + at * self.step
            overlap = min(end, begin + self.step) - max(start, begin)
            if overlap > 0:
                yield at, overlap / (end - start)


class NewestParts:
    """Divides a window, for work that may have to stop before its end: the newest part comes first.

    The next part is the longer, the faster the work on the one before was. Iterable once.

    Args:
        window: with both ends.
        budget: seconds after which no further part begins.
        width: of the first part, in nanoseconds; None for one that suits the window.
        monotonic: returns seconds that never go back.
    """

    def __init__(
        self,
        window: Window,
        budget: float,
        width: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        start, end = window
        assert start is not None
        assert end is not None
        self._start = start
        #: The beginning of what was worked on.
        self.reached = end
        self._width = max((end - start) // _PARTS if width is None else width, _LEAST_WIDTH)
        self._monotonic = monotonic
        self._until = monotonic() + budget

    @property
    def is_complete(self) -> bool:
        """True if all of the window was worked on."""
        return self.reached <= self._start

    def __iter__(self) -> Iterator[Window]:
        """Iterate over the parts."""
        while not self.is_complete:
            began = self._monotonic()
            if began > self._until:
                return
            part = Window(max(self.reached - self._width, self._start), self.reached)
            yield part
            self.reached = part.start or 0
            took = self._monotonic() - began
            if took < _FAST:
                self._width *= 4
            elif took > _SLOW:
                self._width = max(self._width // 2, _LEAST_WIDTH)


def nice_step(least: int) -> int:
    """Return a step as people count time, of at least so many nanoseconds."""
    for seconds in _NICE_SECONDS:
        if seconds * _SECOND >= least and least > _SECOND // 2:
            return seconds * _SECOND
    if least > _SECOND:
        days = 28 * 86_400 * _SECOND
        return -(-least // days) * days
    step = 1
    while True:
        for factor in (1, 2, 5):
            if step * factor >= least:
                return step * factor
        step *= 10


def bounded_window(
    recording: Recording, signals: frozenset[Signal], window: Window, clock: Callable[[], int]
) -> Window:
    """Return a window with both ends: where one is open, that of what is recorded.

    Args:
        recording: the recording.
        signals: whose records count.
        window: the window.
        clock: returns the end of the time of a recording in which nothing is.
    """
    start, end = window
    selection = Selection(window, None, Filter(signals))
    if start is None:
        first = next(iter(recording.iter_retrieve(selection, 1)), None)
        start = _earliest_time(first) if first else None
    if end is None:
        newest = recording.retrieve(selection._replace(limit=1))
        end = _earliest_time(newest) + 1 if newest else None
    if start is None:
        start = (end if end is not None else clock()) - 3_600 * _SECOND
    if end is None or end <= start:
        end = max(clock(), start + 1)
    return Window(start, end)


def _earliest_time(data: TelemetryData) -> int:
    return min(found for found, _, _ in with_times(data))
