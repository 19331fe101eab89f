"""``rimp stats``: counts, files, times and damage."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from rimp_otel import FileStorage, TelemetryData
from rimp_otel.cli.stats import RecordingStats, format_stats
from rimp_otel.models.records import Signal
from rimp_otel.render.format import format_bytes
from rimp_otel.render.terminal import Style
from rimp_otel.storage.files.recording import DamagedLine, RecordingFile
from tests.cli.records import HOSTILE, HOSTILE_SHOWN, event, span, without_our_colour
from tests.storage.journaled import Journaled


def test_for_people(rimp: Any, shop: Path) -> None:
    """The statistics fit a page."""
    with (shop / "logs.jsonl").open("ab") as file:
        file.write(b'{"resourceLogs": 7}\n')
    code, out, err = rimp("stats")
    assert (code, err) == (0, "")
    assert out.splitlines()[:8] == [
        "telemetry",
        "spans     7 in 1 trace, 3 errors",
        "logs      3 records (1 info, 1 warning, 1 error)",
        "metrics   2 points",
        "services  shop  8 records",
        "          stock  3 records",
        "          payment  1 record",
        "time      2026-11-18 11:06:40.000 to 2026-11-18 11:06:40.250 (250 ms)",
    ]
    assert [line.split()[-1] for line in out.splitlines()[8:11]] == [
        "telemetry/traces.jsonl",
        "telemetry/logs.jsonl",
        "telemetry/metrics.jsonl",
    ]
    assert out.splitlines()[11].startswith("damaged   telemetry/logs.jsonl:2: ")


def test_json(rimp: Any, shop: Path) -> None:
    """JSON has the documented fields."""
    with (shop / "traces.jsonl").open("ab") as file:
        file.write(b"torn")
    stats = json.loads(rimp("stats", "--json").out)
    (damaged,) = stats.pop("damaged")
    assert (damaged["path"], damaged["line"]) == ("telemetry/traces.jsonl", 2)
    assert damaged["reason"]
    (journal,) = stats.pop("journals")
    assert (journal["path"], journal["owned"]) == ("telemetry/journal", False)
    assert stats == {
        "spans": 7,
        "traces": 1,
        "errors": 3,
        "interrupted_spans": 0,
        "logs": 3,
        "logs_by_severity": {"debug": 0, "info": 1, "warning": 1, "error": 1},
        "metric_points": 2,
        "services": {"shop": 8, "stock": 3, "payment": 1},
        "first": "2026-11-18T11:06:40.000000000Z",
        "last": "2026-11-18T11:06:40.250000000Z",
        "files": [
            {"signal": name, "path": f"telemetry/{name}.jsonl", "bytes": size}
            for name, size in sizes(shop).items()
        ],
        "sealed": {"files": 0, "bytes": 0},
    }


def test_journals(rimp: Any, shop: Path) -> None:
    """Journals are listed with their owners; their records count like all others."""
    living, dead = Journaled(shop), Journaled(shop)
    for process in (living, dead):
        process.collect("a", "b")
    dead.die()
    out = rimp("stats").out
    found = json.loads(rimp("stats", "--json").out)
    living.close()
    assert "logs      7 records (5 info, 1 warning, 1 error)" in out
    owned = f"1 in use by process {os.getpid()}"
    assert f"journals  2 journals: {owned}, 1 left by a dead process\n" in out
    assert re.search(r"^ {10}4 records \([\d.]+ k?B\) in them, included above$", out, re.MULTILINE)
    assert [(j["owned"], j["records"]["logs"]) for j in found["journals"]] == [
        (True, 2),
        (False, 2),
    ]


def test_sealed_files_are_summed_up(rimp: Any, shop: Path) -> None:
    """Sealed files are summed up."""
    storage = FileStorage(shop)
    storage.rotate()
    for number in range(3):
        storage.store(TelemetryData(events=[event(str(number))]))
        storage.rotate()
    storage.close()
    size = sum(file.stat().st_size for file in (shop / "sealed").glob("*.zst"))
    assert json.loads(rimp("stats", "--json").out)["sealed"] == {"files": 6, "bytes": size}
    assert f"files     {format_bytes(size):>8}  6 sealed files\n" in rimp("stats").out


def test_interrupted_spans(rimp: Any, record: Any) -> None:
    """Interrupted spans are counted, and are errors."""
    cut = span("a", 1, error="process terminated", **{"rimp.interrupted": True})
    record(TelemetryData(spans=[cut, span("b", 2)]))
    assert "spans     2 in 1 trace, 1 error, 1 interrupted\n" in rimp("stats").out
    assert json.loads(rimp("stats", "--json").out)["interrupted_spans"] == 1


def test_damaged_journal(rimp: Any, shop: Path) -> None:
    """Unreadable and quarantined parts of a journal are listed."""
    process = Journaled(shop)
    process.collect("a", "b")
    process.die()
    (segment,) = (shop / "journal").glob("*.seg")
    segment.write_bytes(segment.read_bytes().replace(b"\nl", b"\n?"))
    (shop / "journal" / "000009.seg.damaged").write_bytes(b"x")
    out = rimp("stats").out
    assert re.search(r"^damaged   telemetry/journal/\d+\.seg.*: it is no frame", out, re.MULTILINE)
    assert (
        "telemetry/journal/000009.seg.damaged: quarantined by a recovery (see 'rimp repair')\n"
        in out
    )


def sizes(path: Path) -> dict[str, int]:
    """Return the sizes of the files of a recording."""
    return {s.value: (path / f"{s.value}.jsonl").stat().st_size for s in Signal}


def test_empty_recording(rimp: Any) -> None:
    """Files without a line are a recording without records."""
    Path("telemetry").mkdir()
    Path("telemetry/logs.jsonl").touch()
    assert rimp("stats") == (
        0,
        "telemetry\n"
        "spans     0 in 0 traces\n"
        "logs      0 records\n"
        "metrics   0 points\n"
        "files          0 B  telemetry/logs.jsonl\n"
        "damaged   nothing\n",
        "",
    )


@pytest.mark.parametrize("color", [False, True])
def test_hostile_names(color: bool) -> None:
    """Services, paths and reasons are escaped."""
    path = Path(HOSTILE.replace("\x00", ""))
    stats = RecordingStats(
        files=[RecordingFile(Signal.LOGS, path, 3)], damaged=[DamagedLine(path, 1, HOSTILE)]
    )
    stats.add(span(HOSTILE, 1, service=HOSTILE))
    text = without_our_colour("".join(format_stats(stats, Style(color))))
    assert text.isprintable()
    assert text.count(HOSTILE_SHOWN) == 2
