"""``rimp stats``: counts, sizes, times, and losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.cli.render import Style
from rimp_otel.cli.stats import RecordingStats, format_stats
from rimp_otel.otlp.signals import Signal
from rimp_otel.storage.reader import DamagedLine, RecordingFile

from .records import HOSTILE, HOSTILE_SHOWN, span, without_our_colour


def test_for_people(rimp: Any, shop: Path) -> None:
    """Everything that the recording holds, on a page."""
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
    """The documented shape."""
    with (shop / "traces.jsonl").open("ab") as file:
        file.write(b"torn")
    stats = json.loads(rimp("stats", "--json").out)
    (damaged,) = stats.pop("damaged")
    assert (damaged["path"], damaged["line"]) == ("telemetry/traces.jsonl", 2)
    assert damaged["reason"]
    assert stats == {
        "spans": 7,
        "traces": 1,
        "errors": 3,
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
    }


def sizes(path: Path) -> dict[str, int]:
    """Of the files of the recording."""
    return {s.value: (path / f"{s.value}.jsonl").stat().st_size for s in Signal}


def test_an_empty_recording(rimp: Any) -> None:
    """Files without a line are a recording of nothing."""
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
    """Services, paths and reasons come out escaped."""
    path = Path(HOSTILE.replace("\x00", ""))
    stats = RecordingStats(
        files=[RecordingFile(Signal.LOGS, path, 3)], damaged=[DamagedLine(path, 1, HOSTILE)]
    )
    stats.add(span(HOSTILE, 1, service=HOSTILE))
    text = without_our_colour("".join(format_stats(stats, Style(color))))
    assert text.isprintable()
    assert text.count(HOSTILE_SHOWN) == 2
