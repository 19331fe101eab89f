"""Measuring: rounds in which ours and the peer take turns, so that both meet the same noise."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

Work = Callable[[int], None]
"""Does the case's work for so many records, all of it: what is in a background thread too."""


class Contender(NamedTuple):
    """One side of a case."""

    name: str
    #: Sets up, and returns the work; what is set up is not measured.
    prepare: Callable[[], Work]


class Case(NamedTuple):
    """One question, and who answers it."""

    name: str
    #: What one record is.
    unit: str
    records: int
    ours: Contender
    peer: Contender
    #: What both do as well and is not counted, such as making the span.
    baseline: Contender | None
    #: Ours over the peer: at most this, or at least (if ``faster``).
    target: float
    #: Whether the figure is records a second, where more is better, or time, where less is.
    faster: bool
    #: "cpu" (of the whole process, all threads) or "wall".
    clock: str


class Result(NamedTuple):
    """The medians of a case's rounds."""

    case: Case
    #: Microseconds a record, less the baseline's.
    ours: float
    peer: float
    #: Of each round: ours over the peer.
    ratios: list[float]

    @property
    def ratio(self) -> float:
        """The median ratio; for ``faster`` cases of records a second."""
        return statistics.median(self.ratios)

    @property
    def reached(self) -> bool:
        """Whether the target is reached."""
        return (
            self.ratio >= self.case.target if self.case.faster else self.ratio <= self.case.target
        )


def run_case(case: Case, rounds: int) -> Result:
    """Measures a case; the first round warms up and is not counted."""
    ours, peers, ratios = [], [], []
    for number in range(rounds + 1):
        base = _measure(case.baseline, case) if case.baseline else 0.0
        # Which of the two goes first changes from round to round.
        order = (case.ours, case.peer) if number % 2 else (case.peer, case.ours)
        times = {contender.name: _measure(contender, case) - base for contender in order}
        own, other = times[case.ours.name], times[case.peer.name]
        if number:
            ours.append(own)
            peers.append(other)
            ratios.append(other / own if case.faster else own / other)
    return Result(case, statistics.median(ours), statistics.median(peers), ratios)


def _measure(contender: Contender, case: Case) -> float:
    """Microseconds a record."""
    work = contender.prepare()
    gc.collect()
    clock = time.process_time if case.clock == "cpu" else time.perf_counter
    start = clock()
    work(case.records)
    return (clock() - start) / case.records * 1e6
