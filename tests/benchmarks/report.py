"""Results as JSON, and as a table."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tests.benchmarks.runner import Compared, Result, Spread

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


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
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


def as_json(results: list[Result], command: str, rounds: int) -> dict[str, Any]:
    """Everything that was measured."""
    return {
        "command": command,
        "rounds": rounds,
        "machine": machine(),
        "cases": [_case_json(result) for result in results],
    }


def _case_json(result: Result) -> dict[str, Any]:
    return {
        "number": result.case.number,
        "title": result.case.title,
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


def as_table(results: list[Result]) -> str:
    """A Markdown table, a line for each comparison; medians, and quartiles of the ratio."""
    lines = [
        "| # | what | ours | peer | the peer's | ratio (quartiles) | target |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        lines.append(f"| **{result.case.number}** | **{result.case.title}** | | | | | |")
        lines += map(_line, result.rows)
    return "\n".join(lines)


def _line(compared: Compared) -> str:
    row = compared.row
    peer = "" if compared.peer is None else _figure(compared.peer.median, row.unit)
    cells = (
        "",
        row.what,
        _figure(compared.ours.median, row.unit),
        _short(row.peer) if row.peer and compared.peer else "",
        peer,
        "" if row.absolute else _ratio(compared.ratio),
        _target(compared),
    )
    return f"| {' | '.join(cells)} |"


def _short(name: str) -> str:
    """A contender's name without what the row says already."""
    return name.partition(" · ")[0]


def _ratio(ratio: Spread) -> str:
    return f"**{ratio.median:.3g}** ({ratio.low:.3g} to {ratio.high:.3g})"


def _target(compared: Compared) -> str:
    row = compared.row
    if row.limit is None:
        return ""
    sign = "≥" if row.at_least else "≤"
    unit = f" {row.unit}" if row.absolute else ""
    mark = "✓" if compared.reached else "✗"
    limit = f"{row.limit:,.0f}" if row.limit >= 100 else f"{row.limit:.3g}"
    return f"{sign} {limit}{unit} {mark}"


def _figure(value: float, unit: str) -> str:
    digits = f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.3g}"
    return f"{digits}{'' if unit.startswith('/') else ' '}{unit}"
