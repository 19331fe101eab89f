"""Recordings that are missing, empty, damaged or being written, in all commands that read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rimp_otel import TelemetryConfig
from rimp_otel.batch import TelemetryData
from rimp_otel.collector.collector import TelemetryCollector
from rimp_otel.storage import FileStorage
from rimp_otel.streaming.stream import TelemetryStream
from tests.cli.conftest import latency, queue
from tests.cli.records import checkout

READING = [
    ["tail"],
    ["logs"],
    ["traces"],
    ["trace", "4b"],
    ["top", "--at", "2026-11-18T11:06:41Z"],
    ["metrics"],
    ["metrics", "queue.length"],
    [
        "diff",
        "--window-a",
        "..2026-11-18T11:06:40.050Z",
        "--window-b",
        "2026-11-18T11:06:40.050Z..",
    ],
    ["export", "--trace", "4b", "out"],
    ["stats"],
]
each_command = pytest.mark.parametrize("command", READING, ids=lambda argv: "-".join(argv[:2]))


@each_command
def test_empty_directory(rimp: Any, command: list[str]) -> None:
    """An empty directory is no recording."""
    Path("telemetry").mkdir()
    code, out, err = rimp(*command)
    assert (code, out) == (2, "")
    assert err.startswith("rimp: no recording at telemetry: record a program with 'rimp run")


@each_command
def test_other_files(rimp: Any, command: list[str]) -> None:
    """Other files may be OTLP to import."""
    Path("telemetry").mkdir()
    Path("telemetry/otel.json").write_text("{}")
    code, out, err = rimp(*command)
    assert (code, out) == (2, "")
    assert err.startswith(
        "rimp: no recording at telemetry, but other files: convert OTLP files with 'rimp import',"
    )


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("otel.json", "is a file, not a recording: 'rimp import' converts OTLP files to one"),
        ("telemetry/traces.jsonl", "is one file of a recording: give its directory, telemetry"),
        ("telemetry/logs.1.jsonl", "is one file of a recording: give its directory, telemetry"),
        ("telemetry/notes.jsonl", "is a file, not a recording: 'rimp import' converts"),
    ],
)
@each_command
def test_path_of_a_file(rimp: Any, shop: Path, command: list[str], path: str, message: str) -> None:
    """The path of a file is explained."""
    Path(path).touch()
    code, out, err = rimp(*command, "--path", path)
    assert (code, out) == (2, "")
    assert err.startswith(f"rimp: {path} {message}")


@each_command
def test_empty_files(rimp: Any, command: list[str]) -> None:
    """An empty recording raises no traceback."""
    Path("telemetry").mkdir()
    Path("telemetry/traces.jsonl").touch()
    code, out, err = rimp(*command)
    assert code in (0, 1, 2)
    assert out or not code or err.startswith("rimp: ")
    assert "Traceback" not in err


def damage(path: Path) -> None:
    """Add a torn line, NULs, garbage, and an invalid sealed file."""
    with open(path / "traces.jsonl", "a") as file:
        file.write('{"resourceSpans":[{"sco')
    with open(path / "logs.jsonl", "ab") as log:
        log.write(b"\0\0\0\0\n")
    with open(path / "metrics.jsonl", "ab") as metrics:
        metrics.write(bytes(range(128, 256)) + b"\n\n[]\n")
    (path / "sealed").mkdir(exist_ok=True)
    (path / "sealed" / "traces-1-2000000000000000000-0123456789abcdef.jsonl.zst").write_bytes(b"x")


@each_command
def test_damage(rimp: Any, shop: Path, command: list[str]) -> None:
    """Readable records are printed as without the damage, which is reported."""
    whole = rimp(*command)
    damage(shop)
    if Path("out").exists():
        os.rename("out", "other")
    code, out, err = rimp(*command)
    assert code == whole.code == 0
    if command != ["stats"]:
        assert out == whole.out
        assert "skipped" in err
        assert "(see 'rimp stats')" in err


@each_command
def test_being_written(rimp: Any, command: list[str]) -> None:
    """Records in the journal of a living process are printed, and nothing is changed."""
    spans, events = checkout()
    config = TelemetryConfig(storage_backend="file", storage_path="telemetry", flush_interval=3_600)
    collector = TelemetryCollector(config)
    stream = TelemetryStream(collector)
    with stream:
        stream.flush()  # the stream's thread has begun, and does nothing more for an hour
        collector.collect_event("app", "just now")
        FileStorage("telemetry").store(TelemetryData(events, [queue(), latency()], spans))
        before = {path: path.stat().st_size for path in Path("telemetry").rglob("*")}
        code, out, err = rimp(*command)
        assert {path: path.stat().st_size for path in Path("telemetry").rglob("*")} == before
    assert (code, err) == (0, "")
    if command == ["logs"]:
        assert "just now" in out
    if command[0] in ("trace", "traces"):
        assert "POST /checkout" in out


@each_command
def test_json_is_json(rimp: Any, shop: Path, command: list[str]) -> None:
    """Each line of --json is an object in ASCII."""
    code, out, err = rimp(*command, "--json")
    assert (code, err) == (0, "")
    assert out.isascii()
    for line in out.splitlines():
        assert isinstance(json.loads(line), dict)
