"""Exceptions and failures for the page, by type and place, over time."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rimp_otel.analysis.errors import ErrorCollection, ErrorKind, ErrorSummary
from rimp_otel.models.accessors import start_of, time_of
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.storage.base import Selection
from rimp_otel.viewer.answers.line_sieve import sieve_lines
from rimp_otel.viewer.answers.time_steps import NewestParts, TimeSteps, bounded_window
from rimp_otel.viewer.questions import check_time, open_watched

__all__ = ["find_exceptions"]

_SIGNALS = frozenset({Signal.TRACES, Signal.LOGS})
_STATUS = re.compile(rb'"code"\s*:\s*(?:"?2|"STATUS_CODE_ERROR)')
_MAX_STACK = 20_000
# Spans are stored by their start, and their exceptions come later.
_LONGEST_SPAN = 300 * 10**9
_BUDGET = 2.0


def find_exceptions(
    path: Path,
    window: Window,
    service: str | None = None,
    limit: int = 200,
    clock: Callable[[], int] = time.time_ns,
    budget: float = _BUDGET,
) -> dict[str, Any]:
    """Return the errors of spans and log records, the most frequent first; as ``rimp errors`` counts.

    Args:
        path: of the recording, which need not exist yet.
        window: when they happened.
        service: whose; None for all.
        limit: how many kinds.
        clock: returns nanoseconds since the epoch.
        budget: seconds after which the answer is of the newest part of the window alone.

    Raises:
        StorageError: the recording cannot be read.
    """
    window = bounded_window(open_watched(path), _SIGNALS, window, clock)
    grid = TimeSteps.of(window)
    errors = _TimedErrors(window, grid)
    filter = Filter(_SIGNALS, service=service)
    recording = open_watched(path, sieve_lines(_may_have_error))
    parts = NewestParts(Window((window.start or 0) - _LONGEST_SPAN, window.end), budget)
    for part in parts:
        for data in recording.batches(Selection(part, None, filter), check_time):
            for span in data.spans:
                if part.contains(start_of(span)) and filter.matches(span):
                    errors.add_span(span)
            for event in data.events:
                if part.contains(time_of(event)) and filter.matches(event):
                    errors.add_event(event)
    found = sorted(errors.errors(), key=lambda error: (-error.count, -error.last))
    return {
        "errors": [_error_json(error, errors.series(error.kind)) for error in found[:limit]],
        "from": str(grid.start),
        "step": grid.step,
        "is_complete": parts.is_complete,
    }


def _may_have_error(text: bytes) -> bool:
    # An attribute, a status, or something that is written as escapes; looking for parts is faster.
    if b"exception." in text or b"\\u00" in text:
        return True
    return b'"code"' in text and _STATUS.search(text) is not None


class _TimedErrors(ErrorCollection):
    """An error collection that knows when each kind happened.

    Args:
        window: errors outside of this time are left out.
        grid: the steps of time.
    """

    def __init__(self, window: Window, grid: TimeSteps) -> None:
        super().__init__(window)
        self._grid = grid
        self._times: dict[ErrorKind, Counter[int]] = {}

    def series(self, kind: ErrorKind) -> list[int]:
        """Return how often an error happened in each step; repetitions of one count too."""
        counts = self._times.get(kind, Counter())
        return [counts[at] for at in range(self._grid.count)]

    def on_occurrence(self, kind: ErrorKind, time: int) -> None:
        """Count an occurrence."""
        at = self._grid.index(time)
        if at is not None:
            self._times.setdefault(kind, Counter())[at] += 1


def _error_json(error: ErrorSummary, series: list[int]) -> dict[str, Any]:
    kind = error.kind
    return {
        "type": kind.type,
        "message": error.message,
        "place": str(kind.frame) if kind.frame else kind.name,
        "name": kind.name or None,
        "service": kind.service,
        "stack": error.stack[-_MAX_STACK:],
        "count": error.count,
        "first": str(error.first),
        "last": str(error.last),
        "trace_id": f"{error.trace_id:032x}" if error.trace_id else None,
        "span_id": f"{error.span_id:016x}" if error.span_id else None,
        "series": series,
    }
