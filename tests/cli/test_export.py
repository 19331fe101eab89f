"""``rimp export``: bundles of a trace and the records around it, and pages."""

from __future__ import annotations

import json
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.batch import TelemetryData
from rimp_otel.cli import export
from rimp_otel.models.records import Signal, TelemetryMetric
from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.protobuf import protobuf_from_line
from rimp_otel.storage import FileStorage
from tests.cli.records import MS, T0, TRACE, checkout, event, span


@pytest.fixture
def busy(record: Any) -> Path:
    """Make a recording of a checkout with records before, during and after it."""
    spans, events = checkout()
    others = [span("other", 9, 0, 0, 500, trace_id=TRACE + 1)]
    events += [event("no trace", 50, trace_id=0), event("other", 60, trace_id=TRACE + 1)]
    events += [event("a minute before", -60_000, trace_id=0), event("after", 60_232, trace_id=0)]
    metrics = [TelemetryMetric("m", at, time_unix_nano=T0 + at * MS) for at in (-60_000, 0, 60_232)]
    path: Path = record(TelemetryData(events, metrics, [*spans, *others]))
    return path


def messages(path: str) -> list[str]:
    """Return the messages of the log records in an exported directory."""
    lines = Path(path, "logs.jsonl").read_bytes().splitlines()
    return [record.message for line in lines for record in decode_line(line).records]


def test_directory(rimp: Any, busy: Path) -> None:
    """A bundle has the spans of the trace, and all logs and metrics around it."""
    code, out, err = rimp(
        "export", "--trace", "4bf92f3577b34da6a3ce929d0e0e4736", "--window", "1m", "out"
    )
    assert (code, err) == (0, "")
    assert out.startswith("out: 7 spans, 6 log records and 2 data points (")
    assert sorted(os.listdir("out")) == ["logs.jsonl", "metrics.jsonl", "traces.jsonl"]
    assert sorted(messages("out")) == [
        "a minute before", "cart loaded", "no trace", "other", "payment failed, order kept",
        "stock is low",
    ]  # fmt: skip
    assert os.stat("out").st_mode & 0o777 == 0o700
    assert os.stat("out/logs.jsonl").st_mode & 0o777 == 0o600


def test_conformant(rimp: Any, busy: Path) -> None:
    """A bundle is valid OTLP, can be read as a recording, and can be imported."""
    rimp("export", "--trace", "4bf92f3577b34da6a3ce929d0e0e4736", "out")
    for signal in Signal:
        for line in Path("out", f"{signal.value}.jsonl").read_bytes().splitlines():
            assert protobuf_from_line(line).ByteSize() > 0
    assert json.loads(rimp("stats", "--path", "out", "--json").out)["spans"] == 7
    assert rimp("import", "out", "--path", "again").code == 0
    again, out = FileStorage("again").retrieve(), FileStorage("out").retrieve()
    assert [again.otlp_json(signal) for signal in Signal] == [
        out.otlp_json(signal) for signal in Signal
    ]


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.zip"])
def test_archives(rimp: Any, busy: Path, name: str) -> None:
    """An archive has the same files."""
    rimp("export", "--trace", f"{TRACE:032x}", "plain")
    code, out, _ = rimp("export", "--trace", f"{TRACE:032x}", name, "--json")
    expected = {file.name: file.read_bytes() for file in Path("plain").iterdir()}
    assert (code, json.loads(out)["bytes"]) == (0, os.stat(name).st_size)
    if name.endswith(".zip"):
        with zipfile.ZipFile(name) as archive:
            found = {member: archive.read(member) for member in archive.namelist()}
    else:
        with tarfile.open(name) as tar:
            found = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
    assert found == expected
    assert os.stat(name).st_mode & 0o777 == 0o600


def test_window(rimp: Any, busy: Path) -> None:
    """Without a trace, all records of the time range are exported."""
    code, out, _ = rimp("export", "--since", "2026-11-18T11:07Z", "--json", "out")
    assert code == 0
    assert json.loads(out)["records"] == {"traces": 0, "logs": 1, "metrics": 1}
    assert sorted(os.listdir("out")) == ["logs.jsonl", "metrics.jsonl"]


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["out"], 2, "nothing to export: give --trace, or --since and --until"),
        (
            ["out", "--trace", "4", "--since", "1h"],
            2,
            "--since and --until do not apply to --trace",
        ),
        (
            ["telemetry", "--trace", "4bf92f3577b34da6a3ce929d0e0e4736"],
            2,
            "telemetry exists: give another name",
        ),
        (["out", "--trace", "abc"], 1, "no trace abc in telemetry"),
        (["out", "--trace", "4b"], 2, "trace id '4b' is ambiguous: 2 trace ids"),
        (["out", "--until", "2020-01-01"], 1, "no records in telemetry in that time range"),
        (
            ["out", "--trace", "4b", "--window", "5"],
            2,
            "argument --window: invalid duration '5': expected a number with a unit",
        ),
    ],
)
def test_errors(rimp: Any, busy: Path, argv: list[str], code: int, message: str) -> None:
    """After an error, nothing is written."""
    found = rimp("export", *argv)
    assert (found.code, found.out) == (code, "")
    assert found.err.startswith(f"rimp: {message}")
    assert sorted(os.listdir()) == ["telemetry"]


@pytest.mark.parametrize("name", ["out", "out.zip", "out.tar.gz"])
def test_failing_write(rimp: Any, busy: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A bundle is written as a whole or not at all."""

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.os, "rename", fail)
    code, _, err = rimp("export", "--trace", f"{TRACE:032x}", name)
    assert (code, err) == (1, "rimp: [Errno 28] No space left on device\n")
    assert sorted(os.listdir()) == ["telemetry"]


def test_page_of_trace(rimp: Any, busy: Path) -> None:
    """A page has what a bundle has, is its owner's alone, and shows the trace first."""
    code, out, err = rimp(
        "export",
        "--trace",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "--window",
        "1m",
        "--html",
        "a/b.html",
    )
    assert (code, err) == (0, "")
    assert out.startswith("a/b.html: 7 spans, 6 log records and 2 data points (")
    assert os.listdir("a") == ["b.html"]
    assert os.stat("a/b.html").st_mode & 0o777 == 0o600
    page = Path("a/b.html").read_text()
    assert (
        'data-title="b" data-view="#/trace?from=all&amp;id=4bf92f3577b34da6a3ce929d0e0e4736"'
        in page
    )
    assert "payment failed, order kept" in page


def test_page_of_window(rimp: Any, busy: Path) -> None:
    """A page of a time range has all of its records, and begins as a recording does."""
    code, out, _ = rimp("export", "--since", "2000-01-01", "--html", "all.html", "--json")
    assert code == 0
    assert json.loads(out)["records"] == {"traces": 8, "logs": 7, "metrics": 3}
    assert "data-view" not in Path("all.html").read_text().partition("module0")[0]


@pytest.mark.parametrize("out", [[], ["out", "--html", "out.html"]])
def test_one_output(rimp: Any, busy: Path, out: list[str]) -> None:
    """Either a bundle or a page is written."""
    code, _, err = rimp("export", "--trace", "4bf92f35", *out)
    assert code == 2
    assert "give either OUT or --html FILE" in err
    assert not os.path.lexists("out.html")
