"""``rimp repair``: what it says, and how it ends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.processes import run
from tests.storage.journaled import Journaled


@pytest.fixture
def broken(shop: Path) -> Path:
    """A recording with a damaged line, and with two records of a process that died."""
    process = Journaled(shop)
    process.collect("a", "b")
    process.die()
    file = shop / "traces.jsonl"
    file.write_bytes(file.read_bytes() + b"nonsense\n")
    return shop


def test_for_people(rimp: Any, broken: Path) -> None:
    """What was done, and what there is then."""
    code, out, err = rimp("repair")
    assert (code, err) == (0, "")
    for pattern, name in ((r"\d{8}T\d{6}\.\d{9}Z", "TIME"), (r"\([\d.]+ kB\)", "(N kB)")):
        out = re.sub(pattern, name, out)
    assert out == (
        "telemetry/journal: stored 2 records that a process had left in it\n"
        "telemetry/traces.jsonl: moved 1 damaged line to telemetry/damaged/traces-TIME.jsonl\n"
        "telemetry\n"
        "checked      4 lines with 14 records in 3 files (N kB)\n"
        "journals     1 journal, empty\n"
        "kept         1 file (9 B) of an earlier repair in telemetry/damaged\n"
        "damaged      nothing\n"
    )
    assert rimp("repair").out.splitlines()[0] == "telemetry"
    assert rimp("verify").code == 0


def test_dry_run(rimp: Any, broken: Path) -> None:
    """Says the same before, and changes nothing."""
    before = sorted((path, path.stat().st_mtime_ns) for path in broken.rglob("*"))
    code, out, err = rimp("repair", "--dry-run")
    assert (code, err) == (1, "")
    first, second = out.splitlines()
    assert first.startswith("telemetry/journal: stores 2 records that a process left in it, and ")
    assert second == (
        "telemetry/traces.jsonl:2: JSON is malformed: invalid character (byte 4); "
        "moves it to damaged/"
    )
    assert sorted((path, path.stat().st_mtime_ns) for path in broken.rglob("*")) == before
    rimp("repair")
    assert rimp("repair", "--dry-run") == (0, "there is nothing to do\n", "")


def test_json(rimp: Any, broken: Path) -> None:
    """The documented shape."""
    plan = json.loads(rimp("repair", "--dry-run", "--json").out)
    assert [step["path"] for step in plan["would_do"]] == [
        "telemetry/journal",
        "telemetry/traces.jsonl:2",
    ]
    assert plan["whole"] is False
    code, out, _ = rimp("repair", "--json")
    found = json.loads(out)
    assert code == 0
    assert [(step["path"], step["kind"], step["number"]) for step in found["done"]] == [
        ("telemetry/journal", "recovered", 2),
        ("telemetry/traces.jsonl", "moved", 1),
    ]
    assert found["whole"] is True
    assert found["records"] == {"traces": 7, "logs": 5, "metrics": 2}


def test_living_process(rimp: Any, broken: Path) -> None:
    """Is left alone, and its damage stays for now: exit code 1."""
    process = Journaled(broken)
    process.recover()
    code, out, _ = rimp("repair")
    assert code == 1
    assert out.splitlines()[0] == (
        "telemetry/journal: left alone: a living process records into it"
    )
    assert ", once the process that writes it has ended" in out
    process.die()
    assert rimp("repair").code == 0


VICTIM = """
import os, signal, sys
from opentelemetry import trace
from rimp_otel import TelemetryConfig, install
telemetry = install(TelemetryConfig(storage_backend="file", storage_path=sys.argv[1]))
tracer = trace.get_tracer("t")
with tracer.start_as_current_span("outer"):
    with tracer.start_as_current_span("finished"):
        telemetry.collector.collect_event("app", "said")
    with tracer.start_as_current_span("inner"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill(rimp: Any, tmp_path: Path) -> None:
    """A real process, killed within two spans: they are stored as what they are, once."""
    run(VICTIM, tmp_path / "telemetry", code=-9)
    before = rimp("verify").out
    assert "interrupted  2 spans ended with their process" in before
    assert "stored 4 records that a process had left in it" in rimp("repair").out
    records = [json.loads(line) for line in rimp("tail", "-n", "all", "--json").out.splitlines()]
    spans = {record["name"]: record for record in records if record["signal"] == "traces"}
    assert sorted(spans) == ["finished", "inner", "outer"]
    assert [
        name for name in sorted(spans) if spans[name]["attributes"].get("rimp.interrupted")
    ] == [
        "inner",
        "outer",
    ]
    assert spans["inner"]["parent_span_id"] == spans["outer"]["span_id"]
    assert spans["inner"]["status_message"] == "process terminated"
    assert [record["message"] for record in records if record["signal"] == "logs"] == ["said"]
    assert rimp("verify").code == 0


def test_nothing_there(rimp: Any) -> None:
    """A usage error, as everywhere."""
    for command in ("verify", "repair"):
        code, out, err = rimp(command)
        assert (code, out) == (2, "")
        assert err.startswith("rimp: no recording at telemetry: ")
