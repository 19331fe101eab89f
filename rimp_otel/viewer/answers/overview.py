"""Answers about a whole recording: its services with their rates, errors and durations over time, what is
new or worse than before, operations, calls between services, traces, attributes.

All of them come from rollups and indexes: how long they take does not depend on how many records there are.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from rimp_otel.analysis.activity import Activity, Operation, OperationStats
from rimp_otel.analysis.diff import diff_operations
from rimp_otel.batch import TelemetryData
from rimp_otel.errors import ConfigurationError
from rimp_otel.models.accessors import span_id_of
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.render.format import format_duration
from rimp_otel.storage.base import Selection
from rimp_otel.storage.recording import is_database
from rimp_otel.viewer.parameters import AttributeTest
from rimp_otel.viewer.questions import NotFoundError, check_time, open_watched, time_left
from rimp_otel.viewer.rollups.histogram import bin_middle, bin_start, bins_of, quantiles
from rimp_otel.viewer.rollups.rollup import (
    KINDS,
    STEPS,
    CallKey,
    FailureKey,
    LogKey,
    OperationKey,
    Rollup,
    RollupCell,
)
from rimp_otel.viewer.rollups.store import open_rollups
from rimp_otel.viewer.search.conditions import All, Comparison, Condition, Scope
from rimp_otel.viewer.search.trace_search import FoundTrace, TraceQuery, TraceSearch

__all__ = ["RecordingAnswers", "choose_step", "trace_condition"]

_STEPS = 60
_NICE = (1, 2, 3, 5)
_DAY = STEPS[-1]
_SHARES = (0.5, 0.9, 0.99)
_MAX_COMPARED = 60
_SAMPLE = 300
_MAX_CHANGES = 50
_MAX_COUNT = 20_000
_MAX_P_VALUE = 0.01
_DEADLINE = 20.0
_EMPTY = RollupCell(0, 0, 0)


class _Steps(NamedTuple):
    """A window that is divided into steps. Times are in nanoseconds since the epoch."""

    start: int
    end: int
    step: int

    @property
    def number(self) -> int:
        return (self.end - self.start) // self.step

    @property
    def before(self) -> int:
        """The start of the window before, of the same length."""
        return max(2 * self.start - self.end, 0)


def choose_step(length: int, rollups: Iterable[Rollup] = ()) -> int:
    """Return the shortest round step of which no more than 60 are needed for a length.

    Args:
        length: in nanoseconds.
        rollups: a step of up to four times that is chosen, if all of them have a level for it.
    """
    shortest = _shortest_step(length, _STEPS)
    with_levels = [rollup for rollup in rollups if rollup.levels]
    for steps in (_STEPS, _STEPS // 2, _STEPS // 4):
        step = _shortest_step(length, steps)
        if all(rollup.step_for(step) is not None for rollup in with_levels):
            return step
    return shortest


def _shortest_step(length: int, steps: int) -> int:
    for base, following in zip(STEPS, (*STEPS[1:], None), strict=True):
        factors = _NICE if following is not None else (1, 2, 7, 14, 28, 91, 364, 3_640)
        for factor in factors:
            step = base * factor
            if following is not None and following % step:
                continue
            if -(-length // step) <= steps:
                return step
    return -(-length // steps // _DAY) * _DAY


_AnswerT = TypeVar("_AnswerT", bound=Callable[..., Any])


def _retried(answer: _AnswerT) -> _AnswerT:
    """Decorate an answer to be found again if a rollup is deleted while it is looked into."""

    @wraps(answer)
    def found(self: RecordingAnswers, *args: Any, **options: Any) -> Any:
        return self._rollups.retry(lambda: answer(self, *args, **options))

    return found  # type: ignore[return-value]


class RecordingAnswers:
    """Answers the page's questions about a recording. Thread-safe.

    Answers are as JSON has them: absolute times are texts, durations numbers of nanoseconds.

    Args:
        path: of the recording, which need not exist yet.
        clock: returns nanoseconds since the epoch.
    """

    def __init__(self, path: Path, clock: Callable[[], int] = time.time_ns) -> None:
        self._path = path
        self._clock = clock
        self._rollups = open_rollups(path)
        self._search = TraceSearch(path)

    @_retried
    def info(self) -> dict[str, Any]:
        """Return what the recording is, from when to when it goes, and what was lost.

        Raises:
            PreparingError: rollups have to be made first.
            StorageError: the recording cannot be read.
        """
        rollups = [
            rollup for signal in Signal for rollup in self._rollups.rollups(signal, Window())
        ]
        facts = [rollup.facts for rollup in rollups if rollup.facts.records]
        services = {
            value
            for rollup in rollups
            for (scope, key, _), counts in rollup.attributes.items()
            if scope == "resource" and key == "service.name"
            for value in counts.values
        }
        return {
            "path": str(self._path),
            "backend": "sqlite" if is_database(self._path) else "files",
            "version": version("rimp-otel"),
            "first": _nanos_text(min((one.first for one in facts), default=0)),
            "last": _nanos_text(max((one.last for one in facts), default=0)),
            "now": str(self._clock()),
            "services": sorted(map(str, services)),
            "has_sql": _has_sql(),
            "losses": _losses(rollups),
        }

    @_retried
    def overview(self, window: Window) -> dict[str, Any]:
        """Return the services of a window over time, and what has changed since the window before.

        Raises:
            PreparingError: rollups have to be made first.
            StorageError: the recording cannot be read.
        """
        steps, rollups = self._divide(Signal.TRACES, window, with_before=True)
        numbers = _Numbers(steps, rollups)
        before = _Numbers(steps._replace(start=steps.before, end=steps.start), rollups)
        logs = self._rollups.rollups(Signal.LOGS, Window(steps.start, steps.end), steps.step)
        seconds = self._seconds(window, steps)
        return {
            "from": str(steps.start),
            "to": str(steps.end),
            "step": steps.step,
            "services": [numbers.service_json(name, seconds) for name in numbers.services()],
            "changes": _changes(before, numbers),
            "logs": _log_counts(logs, steps, ("warn", "error", "fatal")),
            "losses": _losses(rollups),
        }

    @_retried
    def operations(self, window: Window, service: str | None = None) -> dict[str, Any]:
        """Return the operations of a service, or of all, the most frequent first.

        Raises:
            PreparingError: rollups have to be made first.
            StorageError: the recording cannot be read.
        """
        steps, rollups = self._divide(Signal.TRACES, window)
        numbers = _Numbers(steps, rollups)
        seconds = self._seconds(window, steps)
        found: dict[tuple[str, str, str], RollupCell] = {}
        for key, cell in numbers.totals(OperationKey).items():
            if service is None or key.service == service:
                name = key.service, key.name, key.kind
                found[name] = found.get(name, _EMPTY).plus(cell)
        rows = [
            {
                "service": own,
                "name": name,
                "kind": kind,
                "spans": cell.records,
                "errors": cell.errors,
                "rate": cell.records / seconds,
                **_percentiles(cell),
            }
            for (own, name, kind), cell in found.items()
        ]
        return {"operations": sorted(rows, key=lambda row: (-row["spans"], row["name"]))}

    @_retried
    def map(self, window: Window) -> dict[str, Any]:
        """Return the services of a window, and which calls which.

        Raises:
            PreparingError: rollups have to be made first.
            StorageError: the recording cannot be read.
        """
        steps, rollups = self._divide(Signal.TRACES, window)
        rollups += self._rollups.calls(Window(steps.start, steps.end), steps.step)
        numbers = _Numbers(steps, rollups)
        services = []
        for name in numbers.services():
            cell = numbers.requests_of(name)
            (p99,) = quantiles(cell.histogram, (0.99,))
            services.append(
                {"name": name, "requests": cell.records, "errors": cell.errors, "p99": p99}
            )
        edges = []
        for key, cell in sorted(numbers.totals(CallKey).items()):
            p50, p99 = quantiles(cell.histogram, (0.5, 0.99))
            edges.append(
                {
                    "from": key.caller,
                    "to": key.called,
                    "calls": cell.records,
                    "errors": cell.errors,
                    "p50": p50,
                    "p99": p99,
                }
            )
        return {"services": services, "edges": edges}

    @_retried
    def trace_durations(
        self,
        window: Window,
        service: str | None = None,
        operation: str | None = None,
        kind: str | None = None,
        status: str | None = None,
    ) -> dict[str, Any]:
        """Return how many spans took how long over a window, and how many of them failed.

        Args:
            window: when they started.
            service, operation, kind: of which spans; without operation and kind, of requests.
            status: "error", or "unset" or "ok" for those that did not fail.

        Raises:
            PreparingError: rollups have to be made first.
            StorageError: the recording cannot be read.
        """
        steps, rollups = self._divide(Signal.TRACES, window)
        numbers = _Numbers(steps, rollups)

        def is_wanted(key: Any) -> bool:
            return (
                service in (None, key.service)
                and operation in (None, key.name)
                and (kind == key.kind if kind else bool(operation) or key.is_request)
            )

        every = numbers.histograms(OperationKey, is_wanted)
        failed = numbers.histograms(FailureKey, is_wanted)
        total = sum(every) + sum(failed)
        bounds, counts = _rows_of(every, total)
        _, errors = _rows_of(failed, total)
        if status == "error":
            counts = errors
        elif status:
            counts = [
                [max(own - other, 0) for own, other in zip(*rows, strict=True)]
                for rows in zip(counts, errors, strict=True)
            ]
            errors = [[0] * len(row) for row in counts]
        return {
            "from": str(steps.start),
            "to": str(steps.end),
            "step": steps.step,
            "bounds": bounds,
            "counts": counts,
            "errors": errors,
        }

    def traces(self, window: Window, condition: Condition | None, limit: int) -> dict[str, Any]:
        """Return the newest traces that have a span as asked for.

        Raises:
            ConfigurationError: the condition is impossible.
            StorageError: the recording cannot be read.
        """
        left = time_left()
        deadline = _DEADLINE if left is None else min(_DEADLINE, left * 0.8)
        query = TraceQuery(window, condition, limit, 100, deadline)
        found = self._search.find(query)
        return {
            "traces": [_trace_json(trace) for trace in found.traces],
            "is_complete": found.is_complete,
            "spans_read": found.spans_read,
        }

    def trace(self, trace_id: int) -> dict[str, Any]:
        """Return the spans and the log records of a trace as OTLP JSON.

        Raises:
            NotFoundError: there is none.
            StorageError: the recording cannot be read.
        """
        signals = frozenset({Signal.TRACES, Signal.LOGS})
        selection = Selection(filter=Filter(signals=signals, trace_id=trace_id))
        data = open_watched(self._path).retrieve(selection)
        if not trace_id or not (data.spans or data.events):
            raise NotFoundError(f"no trace {trace_id:032x} is recorded")
        return {
            "traces": {"resourceSpans": _groups_of(data, Signal.TRACES)},
            "logs": {"resourceLogs": _groups_of(data, Signal.LOGS)},
        }

    @_retried
    def attributes(self, signal: Signal, window: Window) -> dict[str, Any]:
        """Return the keys of attributes, the most frequent first.

        Raises:
            PreparingError: rollups have to be made first.
            StorageError: the recording cannot be read.
        """
        counts: Counter[tuple[str, str, str]] = Counter()
        for rollup in self._rollups.rollups(signal, window):
            check_time()
            for key, own in rollup.attributes.items():
                counts[key] += own.records
        return {
            "keys": [
                {"scope": scope, "key": key, "type": kind, "count": count}
                for (scope, key, kind), count in counts.most_common()
            ]
        }

    @_retried
    def attribute_values(
        self, signal: Signal, scope: str, key: str, prefix: str, window: Window, limit: int
    ) -> dict[str, Any]:
        """Return values of an attribute that begin with a text, the most frequent first.

        Raises:
            PreparingError: rollups have to be made first.
            StorageError: the recording cannot be read.
        """
        counts: Counter[tuple[str, Any]] = Counter()
        for rollup in self._rollups.rollups(signal, window):
            check_time()
            for (own_scope, own_key, kind), own in rollup.attributes.items():
                if (own_scope, own_key) == (scope, key):
                    for value, count in own.values.items():
                        counts[kind, value] += count
        found = [
            {"type": kind, "value": value, "count": count}
            for (kind, value), count in counts.most_common()
            if _plain_text(value).startswith(prefix)
        ]
        return {"values": found[:limit]}

    def _divide(
        self, signal: Signal, window: Window, with_before: bool = False
    ) -> tuple[_Steps, list[Rollup]]:
        """Return a window in steps, and the rollups that it is counted from."""
        start, end = window
        known = self._rollups.rollups(signal, window)
        if start is None or end is None:
            facts = [one.facts for one in known if one.facts.records]
            now = self._clock()
            if start is None:
                start = min((one.first for one in facts), default=(end or now) - 1)
            if end is None:
                end = max((one.last + 1 for one in facts), default=now)
            end = max(end, start + 1)
        step = choose_step(end - start, known)
        steps = _Steps(start // step * step, -(-end // step) * step, step)
        begin = steps.before if with_before else steps.start
        return steps, self._rollups.rollups(signal, Window(begin, steps.end), step)

    def _seconds(self, window: Window, steps: _Steps) -> float:
        """Return the length of a window, by which rates are computed."""
        start = steps.start if window.start is None else window.start
        end = steps.end if window.end is None else window.end
        return max(end - start, 1) / 1e9


class _Numbers:
    """The sums of rollups over the steps of a window."""

    def __init__(self, steps: _Steps, rollups: Iterable[Rollup]) -> None:
        self._steps = steps
        #: By key and number of the step.
        self.cells: dict[Any, dict[int, RollupCell]] = {}
        for rollup in rollups:
            self._add(rollup)

    def _add(self, rollup: Rollup) -> None:
        start, end, step = self._steps
        own = rollup.step_for(step)
        if own is None or end <= start:
            return
        check_time()
        found = self.cells
        for at, key, cell in rollup.cells(own, Window(start, end)):
            number = (at - start) // step
            cells = found.get(key)
            if cells is None:
                found[key] = {number: cell}
            else:
                known = cells.get(number)
                cells[number] = cell if known is None else known.plus(cell)

    def totals(self, kind: type[Any]) -> dict[Any, RollupCell]:
        """Return the sums over the whole window by the keys of one kind."""
        return {
            key: _sum_cells(cells.values())
            for key, cells in self.cells.items()
            if isinstance(key, kind)
        }

    def histograms(self, kind: type[Any], is_wanted: Callable[[Any], bool]) -> list[int]:
        """Return the durations of the keys that are wanted, for each step."""
        found = [0] * self._steps.number
        for key, cells in self.cells.items():
            if isinstance(key, kind) and is_wanted(key):
                for number, cell in cells.items():
                    found[number] += cell.histogram
        return found

    def services(self) -> list[str]:
        """Return the names of the services that have spans, sorted."""
        return sorted({key.service for key in self.cells if isinstance(key, OperationKey)})

    def requests_of(self, service: str) -> RollupCell:
        """Return the requests of a service over the whole window."""
        return _sum_cells(self._requests(service).values())

    def _requests(self, service: str) -> dict[int, RollupCell]:
        found: dict[int, RollupCell] = {}
        for key, cells in self.cells.items():
            if isinstance(key, OperationKey) and key.service == service and key.is_request:
                for number, cell in cells.items():
                    found[number] = found.get(number, _EMPTY).plus(cell)
        return found

    def service_json(self, service: str, seconds: float) -> dict[str, Any]:
        """Return a service as the overview shows it."""
        requests = self._requests(service)
        total = _sum_cells(requests.values())
        own = [
            (key, cells)
            for key, cells in self.cells.items()
            if isinstance(key, OperationKey) and key.service == service
        ]
        series = [requests.get(number, _EMPTY) for number in range(self._steps.number)]
        return {
            "name": service,
            "spans": sum(cell.records for _, cells in own for cell in cells.values()),
            "requests": total.records,
            "errors": total.errors,
            "rate": total.records / seconds,
            "error_rate": total.errors / total.records if total.records else 0.0,
            **_percentiles(total),
            "operations": len({(key.name, key.kind) for key, _ in own}),
            "series": {
                "requests": [cell.records for cell in series],
                "errors": [cell.errors for cell in series],
                "p99": [quantiles(cell.histogram, (0.99,))[0] for cell in series],
            },
        }


_ROW = 16


def _rows_of(histograms: list[int], total: int) -> tuple[list[int], list[list[int]]]:
    """Return the edges of rows that hold all of ``total``, and the counts of each histogram by row."""
    first, counts = bins_of(total)
    if not counts:
        return [], [[] for _ in histograms]
    low, high = first // _ROW, (first + len(counts) - 1) // _ROW
    rows = []
    for histogram in histograms:
        row = [0] * (high - low + 1)
        start, own = bins_of(histogram)
        for bin, count in enumerate(own, start):
            row[bin // _ROW - low] += count
        rows.append(row)
    return [bin_start(number * _ROW) for number in range(low, high + 2)], rows


def _sum_cells(cells: Iterable[RollupCell]) -> RollupCell:
    records = errors = histogram = 0
    for cell in cells:
        records += cell.records
        errors += cell.errors
        histogram += cell.histogram
    return RollupCell(records, errors, histogram)


def _percentiles(cell: RollupCell) -> dict[str, int | None]:
    return dict(zip(("p50", "p90", "p99"), quantiles(cell.histogram, _SHARES), strict=True))


def _log_counts(rollups: list[Rollup], steps: _Steps, names: Sequence[str]) -> dict[str, int]:
    numbers = _Numbers(steps, rollups)
    counts = dict.fromkeys(names, 0)
    for key, cell in numbers.totals(LogKey).items():
        if key.severity in counts:
            counts[key.severity] += cell.records
    return counts


def _losses(rollups: list[Rollup]) -> dict[str, Any]:
    return {
        "dropped": {},
        "interrupted": sum(rollup.facts.interrupted for rollup in rollups),
        "damaged": sum(rollup.facts.damaged for rollup in rollups),
    }


# What has changed.


def _changes(before: _Numbers, after: _Numbers) -> list[dict[str, Any]]:
    """Return what is new or different in the second window, the worst first."""
    old, new = _by_operation(before), _by_operation(after)
    if not old or not new:
        return []
    totals = [{one: _sum_cells(cells.values()) for one, cells in own.items()} for own in (old, new)]
    common = sorted(
        old.keys() & new.keys(), key=lambda one: -totals[0][one].records - totals[1][one].records
    )[:_MAX_COMPARED]
    left = _activity_of({one: old[one] for one in common})
    right = _activity_of({one: new[one] for one in common})
    found = diff_operations(left, right)
    rows: list[dict[str, Any]] = []
    for failure in _new_failures(before, after):
        rows.append(failure)
    for kind, error_changes in (("error_rate", found.failing), ("error_rate", found.recovered)):
        for change in error_changes:
            was, now = (totals[i][change.operation] for i in (0, 1))
            rates = was.errors / was.records, now.errors / now.records
            text = f"{rates[0]:.1%} → {rates[1]:.1%} of spans fail"
            rows.append(_change(kind, change.operation, *rates, text))
    for kind, changes in (("slower", found.slower), ("faster", found.faster)):
        for moved in changes:
            pair = moved.p95 if moved.moved == "tail" else moved.p50
            which = "95th percentile" if moved.moved == "tail" else "median"
            text = f"{which} {format_duration(pair[0])} → {format_duration(pair[1])}"
            rows.append(_change(kind, moved.operation, *pair, text))
    rows += _appeared("new_operation", totals[1], totals[0])
    rows += _appeared("gone_operation", totals[0], totals[1])
    return rows[:_MAX_CHANGES]


def _change(
    kind: str, operation: Operation, before: float, after: float, text: str
) -> dict[str, Any]:
    return {
        "kind": kind,
        "service": operation.service,
        "operation": operation.name,
        "before": before,
        "after": after,
        "text": text,
    }


def _by_operation(numbers: _Numbers) -> dict[Operation, dict[int, RollupCell]]:
    found: dict[Operation, dict[int, RollupCell]] = {}
    for key, cells in numbers.cells.items():
        if isinstance(key, OperationKey):
            target = found.setdefault(Operation(key.service, key.name), {})
            for number, cell in cells.items():
                target[number] = target.get(number, _EMPTY).plus(cell)
    return found


def _activity_of(operations: dict[Operation, dict[int, RollupCell]]) -> Activity:
    """Return an activity with samples of the durations, in the order of their time."""
    activity = Activity()
    for operation, cells in operations.items():
        total = _sum_cells(cells.values())
        share = min(1.0, _SAMPLE / max(total.records, 1))
        sample = [
            (number, duration)
            for number, cell in sorted(cells.items())
            for duration in _sample_durations(cell.histogram, math.ceil(cell.records * share))
        ]
        # Fisher's test takes as long as there are errors.
        scale = max(1, total.records // _MAX_COUNT)
        activity.operations[operation] = OperationStats(
            total.records // scale, total.errors // scale, sample, total.records
        )
    return activity


def _sample_durations(histogram: int, number: int) -> list[int]:
    """Return as many durations of a histogram, evenly over their ranks."""
    low, counts = bins_of(histogram)
    total = sum(counts)
    found: list[int] = []
    before = 0
    for bin, count in enumerate(counts, low):
        if count:
            before += count
            while len(found) < number and (len(found) + 0.5) * total < before * number:
                found.append(bin_middle(bin))
    return found


def _appeared(
    kind: str, here: dict[Operation, RollupCell], there: dict[Operation, RollupCell]
) -> list[dict[str, Any]]:
    """Return the operations that only the first has, unless that may be due to chance."""
    spans_here = sum(cell.records for cell in here.values())
    spans_there = sum(cell.records for cell in there.values())
    is_new = kind == "new_operation"
    rows = []
    for operation in sorted(here.keys() - there.keys(), key=lambda one: -here[one].records):
        times = here[operation].records
        if (1 - times / (spans_here + 1)) ** spans_there < _MAX_P_VALUE:
            counts = (0, times) if is_new else (times, 0)
            text = f"{times:,} times" if is_new else f"{times:,} times before, never now"
            rows.append(_change(kind, operation, *counts, text))
    return rows


def _new_failures(before: _Numbers, after: _Numbers) -> list[dict[str, Any]]:
    known, new = _count_failures(before), _count_failures(after)
    return [
        _change("new_failure", operation, 0, times, f"{text}: {times:,} times")
        for (operation, text), times in new.most_common()
        if (operation, text) not in known
    ]


def _count_failures(numbers: _Numbers) -> Counter[tuple[Operation, str]]:
    counts: Counter[tuple[Operation, str]] = Counter()
    for key, cell in numbers.totals(FailureKey).items():
        counts[Operation(key.service, key.name), key.text] += cell.records
    return counts


# Traces.


def trace_condition(
    service: str | None = None,
    operation: str | None = None,
    kind: str | None = None,
    status: str | None = None,
    min_duration: int | None = None,
    max_duration: int | None = None,
    tests: Iterable[AttributeTest] = (),
) -> Condition | None:
    """Return the condition that all of these must be true of a span; None for none.

    Args:
        service, operation: names.
        kind: one of ``KINDS``.
        status: "unset", "ok" or "error".
        min_duration, max_duration: in nanoseconds.
        tests: of attributes.

    Raises:
        ConfigurationError: one of them is impossible.
    """
    parts: list[Condition] = []

    def add(scope: Scope, key: str, operator: str, value: Any) -> None:
        if value is not None or operator == "exists":
            parts.append(Comparison(scope, key, operator, value))

    if kind is not None and kind not in KINDS:
        raise ConfigurationError(f"parameter 'kind' must be one of {', '.join(KINDS)}: {kind!r}")
    if status not in (None, "unset", "ok", "error"):
        raise ConfigurationError(f"parameter 'status' must be unset, ok or error: {status!r}")
    add(Scope.RESOURCE, "service.name", "=", service)
    add(Scope.INTRINSIC, "name", "=", operation)
    add(Scope.INTRINSIC, "kind", "=", kind)
    add(Scope.INTRINSIC, "status", "=", status)
    add(Scope.INTRINSIC, "duration", ">=", min_duration)
    add(Scope.INTRINSIC, "duration", "<=", max_duration)
    for test in tests:
        try:
            scope = Scope(test.scope)
        except ValueError:
            scopes = ", ".join(scope.value for scope in Scope)
            raise ConfigurationError(
                f"spans have no attributes of {test.scope!r}; there are {scopes}"
            ) from None
        add(scope, test.key, test.operator, test.value)
    return All(tuple(parts)) if parts else None


def _trace_json(trace: FoundTrace) -> dict[str, Any]:
    return {
        "trace_id": f"{trace.trace_id:032x}",
        "root_service": trace.root_service,
        "root_name": trace.root_name,
        "start": str(trace.start),
        "duration": trace.duration,
        "spans": trace.spans,
        "errors": trace.errors,
        "services": [
            {"name": name, "spans": counts.spans, "errors": counts.errors}
            for name, counts in trace.services.items()
        ],
        "is_interrupted": trace.is_interrupted,
        "matched": [f"{span_id_of(span):016x}" for span in trace.matched],
    }


_GROUPS = msgspec.json.Decoder(dict[str, list[msgspec.Raw]])


def _groups_of(data: TelemetryData, signal: Signal) -> list[msgspec.Raw]:
    """Return the records of a signal by resource, as text."""
    return [
        group
        for line in data.otlp_json(signal)
        for group in _GROUPS.decode(line).get(signal.resource_key, ())
    ]


# Values.


def _nanos_text(time_unix_nano: int) -> str | None:
    return str(time_unix_nano) if time_unix_nano else None


def _plain_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _has_sql() -> bool:
    return find_spec("duckdb") is not None and find_spec("pyarrow") is not None
