"""Results as a table and as JSON."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

from tests.benchmarks.measure import Result


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "opentelemetry-sdk": version("opentelemetry-sdk"),
        "rimp-otel": version("rimp-otel"),
    }


def as_json(results: list[Result], command: str, rounds: int) -> dict[str, Any]:
    """Everything that was measured."""
    return {
        "command": command,
        "rounds": rounds,
        "machine": machine(),
        "cases": [
            {
                "name": result.case.name,
                "records": result.case.records,
                "clock": result.case.clock,
                "ours": {"name": result.case.ours.name, "us": result.ours},
                "peer": {"name": result.case.peer.name, "us": result.peer},
                "ratio": result.ratio,
                "ratios": result.ratios,
                "target": result.case.target,
                "reached": result.reached,
            }
            for result in results
        ],
    }


def as_table(results: list[Result]) -> str:
    """A Markdown table, a row for each case."""
    rows = [
        "| what | ours, µs | peer | peer, µs | ratio (lowest to highest) | target |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        case = result.case
        spread = f"{min(result.ratios):.2f} to {max(result.ratios):.2f}"
        rate = f" ({1 / result.ours:.2f} million/s)" if case.faster else ""
        sign, noun = ("≥", "times its speed") if case.faster else ("≤", "of its time")
        rows.append(
            f"| {case.name} | {result.ours:.2f}{rate} | {case.peer.name} | {result.peer:.2f} "
            f"| **{result.ratio:.2f}** {noun} ({spread}) | {sign} {case.target:.2f} |"
        )
    return "\n".join(rows)
