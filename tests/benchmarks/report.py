"""Results as JSON and as a table."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tests.benchmarks.runner import Compared, Result

_DISTRIBUTIONS = (
    "rimp-otel",
    "opentelemetry-sdk",
    "opentelemetry-exporter-otlp-json-file",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-instrumentation-logging",
    "loguru",
    "structlog",
    "duckdb",
)


def describe_machine() -> dict[str, Any]:
    """Return a description of this machine."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        **{name: _version(name) for name in _DISTRIBUTIONS},
    }


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def as_json(
    results: list[Result], command: str, rounds: int, machine: dict[str, Any]
) -> dict[str, Any]:
    """Return all measurements as JSON values."""
    return {
        "command": command,
        "rounds": rounds,
        "machine": machine,
        "cases": [_case_json(result) for result in results],
    }


def _case_json(result: Result) -> dict[str, Any]:
    return {
        "number": result.case.number,
        "title": result.case.title,
        "about": result.case.about,
        "records": result.records,
        "contenders": result.figures,
        "rows": [_row_json(compared) for compared in result.rows],
    }


def _row_json(compared: Compared) -> dict[str, Any]:
    row = compared.row
    return {
        **row._asdict(),
        "ours": {"name": row.ours, **compared.ours._asdict()},
        "peer": None if compared.peer is None else {"name": row.peer, **compared.peer._asdict()},
        "ratio": compared.ratio._asdict(),
        "reached": compared.reached,
    }


def as_table(found: dict[str, Any]) -> str:
    """Return a Markdown table of ``as_json``'s values: medians, and quartiles of the ratio."""
    lines = [
        "| # | what | ours | peer | the peer's | ratio (quartiles) | target |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in found["cases"]:
        lines.append(f"| **{case['number']}** | **{case['title']}** | | | | | |")
        lines += map(_line, case["rows"])
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    ours, peer = row["ours"], row["peer"]
    cells = (
        "",
        row["what"],
        format_figure(ours["median"], row["unit"]),
        peer["name"].partition(" · ")[0] if peer else "",
        format_figure(peer["median"], row["unit"]) if peer else "",
        "" if row["absolute"] else _ratio(**row["ratio"]),
        _target(row),
    )
    return f"| {' | '.join(cells)} |"


def _ratio(median: float, low: float, high: float) -> str:
    return f"**{median:.3g}** ({low:.3g} to {high:.3g})"


def _target(row: dict[str, Any]) -> str:
    limit = row["limit"]
    if limit is None:
        return ""
    sign = "≥" if row["at_least"] else "≤"
    unit = f" {row['unit']}" if row["absolute"] else ""
    number = f"{limit:,.0f}" if limit >= 100 else f"{limit:.3g}"
    return f"{sign} {number}{unit} {'✓' if row['reached'] else '✗'}"


def format_figure(value: float, unit: str) -> str:
    """Return a number with its unit, as people read it."""
    digits = f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
    return f"{digits}{'' if unit.startswith('/') else ' '}{unit}"
