"""The parts of a benchmark: cases, their contenders, and the figures that are compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Figures = dict[str, Any]
"""What one run gave: quantities by name; a list of pairs is a course over time."""


class Task(NamedTuple):
    """The work of a contender."""

    records: int
    #: Its own, empty, and removed afterwards.
    directory: Path
    #: For what is made once and kept.
    cache: Path


Run = Callable[[Task], Figures]
"""Does the work in a process of its own, checks that all of it was done, and says what it took."""


class Contender(NamedTuple):
    """A participant of a case."""

    name: str
    run: Run
    #: Distributions that it takes, with the module that shows whether they are there.
    needs: tuple[str, ...] = ()


class Row(NamedTuple):
    """One comparison: a row of the table."""

    what: str
    ours: str
    peer: str | None
    #: Of the ratio, ours over the peer's, in each round. None: reported only.
    limit: float | None = None
    #: Whether our figure itself is held against the limit.
    absolute: bool = False
    #: Whether the limit is the least that is wanted.
    at_least: bool = False
    quantity: str = "cpu"
    unit: str = "µs"
    #: Who does only what all do, which is taken off both.
    minus: str | None = None
    #: Whether the smoke form holds it against twice the limit.
    smoke: bool = True


class Case(NamedTuple):
    """One question, which contenders answer in turns."""

    number: int
    title: str
    #: What is measured, and how: for the documentation.
    about: str
    #: At scale 1, and in the smoke form.
    records: int
    smoke_records: int
    contenders: tuple[Contender, ...]
    rows: tuple[Row, ...]
    #: More would say nothing new, or take too long.
    most_rounds: int | None = None
    #: In the full form, where that is more than at scale 1.
    full_records: int | None = None
