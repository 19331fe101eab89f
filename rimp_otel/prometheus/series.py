"""One series of all processes that measure it, added up.

What a process had counted when it ended, or began anew, stays in the sum: no counter goes back.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from operator import attrgetter
from typing import Any, NamedTuple

from rimp_otel.models.records import MetricKind
from rimp_otel.otlp.messages import OtlpExemplar
from rimp_otel.prometheus.totals import (
    Value,
    add_values,
    count_in,
    never_back,
    subtract_value,
)

__all__ = ["PER_PROCESS", "Owner", "Process", "Series", "SeriesKey"]

PER_PROCESS = "all"
"""The policy of a gauge that stays one series for each process, told by ``service.instance.id``."""

_POLICIES: Mapping[str, Callable[[list[Any]], Any]] = {
    "mostrecent": lambda values: values[-1],
    "sum": sum,
    "min": min,
    "max": max,
    "mean": lambda values: sum(values) / len(values),
    PER_PROCESS: lambda values: values[-1],
}
"""How a gauge of several processes becomes one value, given theirs, the newest last."""
_MAX_EXEMPLARS = 32
_NEVER = 2**64


class Owner(NamedTuple):
    """The service and the scope of a series."""

    service: str
    scope_name: str
    scope_version: str
    scope_schema_url: str
    scope_attributes: tuple[tuple[str, Any], ...]


class SeriesKey(NamedTuple):
    """What tells a series from all others."""

    owner: Owner
    name: str
    unit: str
    kind: MetricKind
    is_monotonic: bool
    #: The points' attributes, by key.
    attributes: tuple[tuple[str, Any], ...]


class Process:
    """What one process has said last of a series."""

    __slots__ = ("is_absent", "start", "time", "value")

    def __init__(self, start: int, time: int, value: Value) -> None:
        #: True if it has said that there is no value any more.
        self.is_absent = False
        #: From when the value counts; 0 if it does not say.
        self.start = start
        #: When it was measured.
        self.time = time
        self.value = value


class Series:
    """A series, and what each process has said of it.

    Args:
        key: its identity.
    """

    __slots__ = (
        "_oldest",
        "_shown",
        "adds_up",
        "base",
        "description",
        "exemplars",
        "is_changed",
        "key",
        "processes",
        "start",
        "time",
    )

    def __init__(self, key: SeriesKey) -> None:
        self.key = key
        self.description = ""
        #: True if values are counted: then what an ended process had counted stays in the sum.
        self.adds_up = key.kind is not MetricKind.GAUGE and (
            key.kind is not MetricKind.SUM or key.is_monotonic
        )
        #: What processes had counted that ended or began anew; None for nothing.
        self.base: Value = None
        #: Those that are known one by one.
        self.processes: dict[Hashable, Process] = {}
        #: When the first process began to count; 0 if that is not known.
        self.start = 0
        #: When the newest point was measured.
        self.time = 0
        #: The newest ones, by bucket; the only one of a counter by 0.
        self.exemplars: dict[int, OtlpExemplar] = {}
        #: True if a process has said something else since the value was asked for.
        self.is_changed = True
        self._shown: Value = None
        # Of the processes in the value that was asked for last, the oldest time.
        self._oldest = 0

    def update(
        self,
        process: Hashable,
        start: int,
        time: int,
        value: Value,
        is_delta: bool = False,
        has_returned: Callable[[Hashable], bool] | None = None,
    ) -> Process | None:
        """Take a point in; return None if it cannot be: it overlaps with what was counted.

        Args:
            process: tells the process, and what else tells streams apart.
            start: from when the point counts; 0 if it does not say.
            time: when it was measured.
            value: what was measured, or counted.
            is_delta: True if it counts what was added since the point before.
            has_returned: asked whether a process is one that was folded.
        """
        if start and self.adds_up and not is_delta:
            # Also where resources do not tell processes apart, as those of older SDKs.
            process = (process, start)
        found = self.processes.get(process)
        if found is None:
            if has_returned is not None and self.adds_up and not is_delta and has_returned(process):
                # What it had counted is in the base, nobody knows how much; it goes on from here.
                self.base = subtract_value(self.base, value)
            found = self.processes[process] = Process(start, time, value)
        elif time <= found.time:
            # The same point again, or an older one. Of deltas nobody knows which.
            is_known = not is_delta or (start, time) == (found.start, found.time)
            return found if is_known else None
        else:
            if is_delta:
                if start and start < found.time:
                    return None
                value = add_values([found.value, value])
            elif self.adds_up and _has_restarted(found, start, value):
                self._add_to_base(found)
            found.start, found.time, found.value, found.is_absent = start, time, value, False
        self.is_changed = True
        self.time = max(self.time, time)
        if start and (not self.start or start < self.start):
            self.start = start
        return found

    def go_on(self, process: Process, time: int, value: Value) -> bool:
        """Take in the next cumulative point of a process; return False if it is not that simple: it may have
        begun anew, or returned.

        Args:
            process: as ``update`` returned it.
            time: later than that of the process.
            value: what was measured, or counted.
        """
        if process.is_absent:
            return False
        if value != process.value:
            if self.adds_up and count_in(value) < count_in(process.value):
                return False
            process.value = value
            self.is_changed = True
        elif not self.adds_up:
            self.is_changed = True  # who has measured last counts, and whether it is too long ago
        process.time = time
        if time > self.time:
            self.time = time
        return True

    def remove(self, process: Hashable, start: int, time: int) -> None:
        """Note that a process says that there is no value any more; what it has counted stays.

        The series has no value once all of its processes say so, until one measures again.

        Args:
            process: as for ``update``.
            start: of the point that says so.
            time: of that point.
        """
        found = self.processes.get((process, start)) or self.processes.get(process)
        if found is not None and time >= found.time:
            found.is_absent, found.time = True, time
            self.is_changed = True

    def fold(self, before: int, most: int, on_fold: Callable[[Hashable], None]) -> None:
        """Keep no more than so many of the processes that are silent; add up what others have counted.

        Args:
            before: who has said nothing since then is silent.
            most: how many of those are kept, the newest.
            on_fold: called with each that is not kept.
        """
        if len(self.processes) <= most:
            return
        silent = [key for key, found in self.processes.items() if found.time < before]
        silent.sort(key=lambda key: self.processes[key].time)
        for key in silent[: max(0, len(silent) - most)]:
            found = self.processes.pop(key)
            if self.adds_up:
                self._add_to_base(found)
                on_fold(key)
            found.time = _NEVER
        self.is_changed = True

    def _add_to_base(self, process: Process) -> None:
        base = self.base
        self.base = process.value if base is None else add_values([base, process.value])

    def value(self, since: int, policy: str = "mostrecent") -> Value:
        """Return the value of all processes; None if there is none.

        The same object as before if nothing has changed.

        Args:
            since: processes that were silent for longer, in nanoseconds since the epoch, count only
                with what adds up.
            policy: how those of a gauge become one; one of ``GAUGE_POLICIES``.
        """
        if self.is_changed or (self._oldest < since and not self.adds_up):
            self.is_changed = False
            if self.adds_up:
                self._shown = never_back(self._total(), self._shown)
            else:
                self._shown = self._measured(since, policy)
        return self._shown

    def _total(self) -> Value:
        found: Any = self.processes.values()
        if all(process.is_absent for process in found):
            return None
        if self.key.kind is MetricKind.HISTOGRAM:
            # The bounds are those of who began last.
            found = sorted(found, key=attrgetter("start"))
        values = [process.value for process in found]
        if self.base is not None:
            values.insert(0, self.base)
        return add_values(values)

    def _measured(self, since: int, policy: str) -> Value:
        living = [
            process
            for process in self.processes.values()
            if process.time >= since and not process.is_absent
        ]
        if not living:
            return None
        living.sort(key=attrgetter("time"))
        self._oldest = living[0].time
        values = [process.value for process in living]
        is_gauge = self.key.kind is MetricKind.GAUGE
        return _POLICIES[policy](values) if is_gauge else add_values(values)

    def keep_exemplar(self, bucket: int, exemplar: OtlpExemplar) -> None:
        """Keep an exemplar, unless its bucket has a newer one, or too many buckets have one."""
        before = self.exemplars.get(bucket)
        if before is None and len(self.exemplars) >= _MAX_EXEMPLARS:
            return
        if before is None or (before.time_unix_nano or 0) <= (exemplar.time_unix_nano or 0):
            self.exemplars[bucket] = exemplar


def _has_restarted(process: Process, start: int, value: Value) -> bool:
    if start and process.start and start != process.start:
        return True
    return bool(count_in(value) < count_in(process.value))
