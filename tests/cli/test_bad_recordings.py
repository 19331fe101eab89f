"""Recordings that are empty, of something else, damaged, or being written: clear words, no traceback."""

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
def test_nothing_there(rimp: Any, command: list[str]) -> None:
    """An empty directory is no recording."""
    Path("telemetry").mkdir()
    code, out, err = rimp(*command)
    assert (code, out) == (2, "")
    assert err.startswith("rimp: no recording at telemetry: record one with 'rimp run -- python")


@each_command
def test_something_else(rimp: Any, command: list[str]) -> None:
    """Other files may be somebody's OTLP."""
    Path("telemetry").mkdir()
    Path("telemetry/otel.json").write_text("{}")
    code, out, err = rimp(*command)
    assert (code, out) == (2, "")
    assert err.startswith(
        "rimp: no recording at telemetry, but other files: 'rimp import' makes one of OTLP files;"
    )


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("otel.json", "is a file, and no recording: 'rimp import' makes one of an OTLP file"),
        ("telemetry/traces.jsonl", "is one file of a recording: give its directory, telemetry"),
        ("telemetry/logs.1.jsonl", "is one file of a recording: give its directory, telemetry"),
        ("telemetry/notes.jsonl", "is a file, and no recording: 'rimp import' makes one of"),
    ],
)
@each_command
def test_a_file(rimp: Any, shop: Path, command: list[str], path: str, message: str) -> None:
    """In the place of a directory."""
    Path(path).touch()
    code, out, err = rimp(*command, "--path", path)
    assert (code, out) == (2, "")
    assert err.startswith(f"rimp: {path} {message}")


@each_command
def test_empty_files(rimp: Any, command: list[str]) -> None:
    """A recording that holds nothing yet is no crash, whatever was asked."""
    Path("telemetry").mkdir()
    Path("telemetry/traces.jsonl").touch()
    code, out, err = rimp(*command)
    assert code in (0, 1, 2)
    assert out or not code or err.startswith("rimp: ")
    assert "Traceback" not in err


def damage(path: Path) -> None:
    """A torn line, NULs, garbage, and a sealed file that is none."""
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
    """What can be read is shown as it would be without it, and that something cannot is said."""
    whole = rimp(*command)
    damage(shop)
    if Path("out").exists():
        os.rename("out", "other")
    code, out, err = rimp(*command)
    assert code == whole.code == 0
    if command != ["stats"]:
        assert out == whole.out
        assert "skipped" in err
        assert "'rimp stats' lists them" in err


@each_command
def test_being_written(rimp: Any, command: list[str]) -> None:
    """What is in a living process's journal is shown, and nothing is changed."""
    spans, events = checkout()
    config = TelemetryConfig(storage_backend="file", storage_path="telemetry", flush_interval=3_600)
    collector = TelemetryCollector(config)
    stream = TelemetryStream(collector)
    with stream:
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
    """Of every command, each line is an object in ASCII."""
    code, out, err = rimp(*command, "--json")
    assert (code, err) == (0, "")
    assert out.isascii()
    for line in out.splitlines():
        assert isinstance(json.loads(line), dict)
