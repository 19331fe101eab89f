"""Case 10: the cost of imports."""

from __future__ import annotations

import os
import sys
import time
from functools import partial

from tests.benchmarks import peers
from tests.benchmarks.child import check
from tests.benchmarks.model import Case, Contender, Figures, Row, Task

_SDK = "import opentelemetry.sdk.trace, opentelemetry.sdk.trace.export"
_SIGNALS = f"{_SDK}, opentelemetry.sdk.metrics.export, opentelemetry.sdk._logs.export"
_FILE = "opentelemetry.exporter.otlp.json.file"
# What records: the package alone loads nothing until it is asked for.
_OURS = "from rimp_otel import FileStorage, TelemetryCollector, TelemetryStream, install"
_TRACES = f"import {_FILE}.trace_exporter"
_ALL = f"{_TRACES}, {_FILE}.metric_exporter, {_FILE}._log_exporter"
# Or it would be ours alone that is compiled each time, where it is not installed but cloned.
_ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}


def _imported(task: Task, code: str) -> Figures:
    """Measure in a fresh interpreter each time, with compiled modules as in an installed package."""
    _run(code)
    runs = [_run(code) for _ in range(task.records)]
    return {
        "cpu": min(cpu for cpu, _ in runs) * 1e3,
        "wall": min(wall for _, wall in runs) * 1e3,
    }


def _run(code: str) -> tuple[float, float]:
    begun = time.perf_counter()
    pid = os.spawnve(os.P_NOWAIT, sys.executable, [sys.executable, "-c", code], _ENVIRONMENT)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - begun
    check(status, 0, "is the interpreter's answer")
    return usage.ru_utime + usage.ru_stime, wall


def _contender(name: str, code: str, *needs: str) -> Contender:
    return Contender(name, partial(_imported, code=code), needs)


CASES = (
    Case(
        10,
        "Import time",
        "CPU time of a fresh interpreter that imports the SDK and then one of them, less that of one"
        " that imports the SDK alone; the fastest of several. Ours records all three signals, and"
        " brings in the SDK's part of each, so *three signals* is less the SDK's three and against the"
        " exporter's three; *traces* is less the SDK's tracing only, and against its span exporter. What is imported of ours is"
        " what `install()` needs, by name: `import rimp_otel` alone loads next to nothing.",
        5,
        1,
        (
            _contender("the SDK · three signals", _SIGNALS),
            _contender("rimp-otel · three signals", f"{_SIGNALS}; {_OURS}"),
            _contender(
                "JSON file exporter · three signals", f"{_SIGNALS}; {_ALL}", peers.JSON_FILE
            ),
            _contender("the SDK · traces", _SDK),
            _contender("rimp-otel · traces", f"{_SDK}; {_OURS}"),
            _contender("JSON file exporter · traces", f"{_SDK}; {_TRACES}", peers.JSON_FILE),
        ),
        tuple(
            Row(
                f"added to the SDK's, {kind}",
                f"rimp-otel · {kind}",
                f"JSON file exporter · {kind}",
                1,
                unit="ms",
                minus=f"the SDK · {kind}",
            )
            for kind in ("three signals", "traces")
        ),
    ),
)
