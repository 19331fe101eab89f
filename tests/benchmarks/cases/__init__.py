"""The cases, a module for each group."""

from __future__ import annotations

from tests.benchmarks.cases import (
    imports,
    latency,
    logs,
    memory,
    metrics,
    native,
    reading,
    scraping,
    size,
    spans,
)
from tests.benchmarks.model import Case

__all__ = ["ALL"]

ALL: tuple[Case, ...] = tuple(
    sorted(
        (
            case
            for module in (
                spans,
                latency,
                logs,
                native,
                metrics,
                memory,
                imports,
                size,
                reading,
                scraping,
            )
            for case in module.CASES
        ),
        key=lambda case: case.number,
    )
)
"""In the order of their numbers."""
