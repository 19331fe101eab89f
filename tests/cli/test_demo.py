"""``rimp demo``: a real service is recorded, shown, and gone afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rimp_otel import FileStorage, TelemetryData
from rimp_otel.cli import demo, demo_service
from rimp_otel.cli.demo import format_histogram, make_room
from rimp_otel.cli.options import UsageError
from rimp_otel.models.records import HistogramPoint
from rimp_otel.render.terminal import Style

for module in ("flask", "requests", "opentelemetry.instrumentation.flask"):
    pytest.importorskip(module)

DEMO = [sys.executable, "-m", "rimp_otel.cli.main", "demo"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the demo of this module ran, with what it said in ``out`` and ``err``."""
    path = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        DEMO, cwd=path, env={**os.environ, "COLUMNS": "100"}, capture_output=True, timeout=110
    )
    (path / "out").write_bytes(done.stdout)
    (path / "err").write_bytes(done.stderr)
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(scope="module")
def shown(directory: Path) -> str:
    """What the demo said, with what differs from run to run replaced."""
    text = (directory / "out").read_text("utf-8")
    for pattern, name in ((r"[\d.]+ (µs|ms|s)\b", "T"), (r"\b[0-9a-f]{8,32}\b", "ID")):
        text = re.sub(pattern, name, text)
    return text


@pytest.fixture(scope="module")
def recorded(directory: Path) -> TelemetryData:
    """What the demo recorded."""
    return FileStorage(directory / "rimp-demo").retrieve()


@pytest.mark.parametrize(
    "line",
    [
        "A small shop  Flask, SQLite, an HTTP call, logging, and no recording code",
        "43 requests in T · 37 OK · 4 Not Found · 1 Conflict · 1 Internal Server Error",
        "spans     187 in 45 traces, 4 errors, 2 interrupted",
        "logs      39 records (31 info, 7 warning, 1 error)",
        "journals  1 journal: 1 left by a process that died",
        "The slowest request  rimp trace ID",
        "POST /checkout  T",
        "The request that failed  POST /checkout   rimp trace ID",
        "                   PaymentError: the bank refused card *0069: expired",
        "Killed by SIGKILL in the middle of a request  rimp trace ID",
        "43 requests were answered, 43 are recorded; and of the one that was not:",
        "A metric: shop.checkout.duration  orders: 14 paid, 2 failed",
        "  rimp trace ID --path rimp-demo   one of them",
    ],
)
def test_shown_line(shown: str, line: str) -> None:
    """The same in every run."""
    assert line in shown.splitlines()


def test_shown_text(directory: Path, shown: str) -> None:
    """It fits on a screen of 100 columns and 75 lines, says nothing else, and has no colour."""
    lines = shown.splitlines()
    assert len(lines) <= 75
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in shown
    assert (directory / "err").read_bytes() == b""


def test_slow_request_is_drawn(shown: str) -> None:
    """Each step of the slowest request has its line, with what was logged."""
    slow, _, _ = shown.partition("Killed by")
    assert re.findall(r"[├└]─ (.*?)  ", slow) == [
        "SELECT",
        "GET",
        "GET /inventory/<sku>",
        "SELECT",
        "charge card",
        "UPDATE",
        "INSERT",
    ]
    assert re.search(r"WARN  the bank is slow, trying again  attempt=2 +\+T", shown)


def test_interrupted_request_is_drawn(shown: str) -> None:
    """As far as it had come: what it had finished, what it was doing, and what it had logged."""
    _, _, killed = shown.partition("Killed by")
    assert re.findall(r"^(?:[│ ]*[├└]─ )?(✂ .*?|\w.*?)  .*[━╸╺]", killed, re.MULTILINE)[:6] == [
        "✂ POST /checkout",
        "SELECT",
        "GET",
        "GET /inventory/<sku>",
        "SELECT",
        "✂ charge card",
    ]
    assert re.search(r"WARN  the bank does not answer  card=\*0404 +\+T", killed)


def test_one_trace_through_all_libraries(recorded: TelemetryData) -> None:
    """Flask, sqlite3 and requests, on both sides of the HTTP call; the log records belong to it."""
    slow = next(event for event in recorded.events if event.message.startswith("the bank is slow"))
    spans = [span for span in recorded.spans if span.context.trace_id == slow.trace_id]
    scopes = {span.instrumentation_scope.name.rpartition(".")[2] for span in spans}
    assert scopes == {"flask", "sqlite3", "requests", "shop"}
    assert len(spans) == 8
    charge = next(span for span in spans if span.name == "charge card")
    assert slow.span_id == charge.context.span_id


def test_failure_is_recorded_with_its_traceback(recorded: TelemetryData) -> None:
    """In the span and in the log record."""
    (error,) = [event for event in recorded.events if event.event_type.value == "error"]
    assert error.message == "Exception on /checkout [POST]"
    assert error.metadata["exception.type"] == "PaymentError"
    assert "in charge\n    raise PaymentError" in error.metadata["exception.stacktrace"]
    failed = [span for span in recorded.spans if span.status.status_code.name == "ERROR"]
    whole = [span for span in failed if "rimp.interrupted" not in span.attributes]
    assert sorted(span.name for span in whole) == ["POST /checkout", "charge card"]


def test_interrupted_request_is_recorded(recorded: TelemetryData) -> None:
    """Both of its spans, as one trace with what it had finished."""
    cut = {span.name: span for span in recorded.spans if "rimp.interrupted" in span.attributes}
    assert sorted(cut) == ["POST /checkout", "charge card"]
    root, inner = cut["POST /checkout"], cut["charge card"]
    assert inner.parent.span_id == root.context.span_id
    assert inner.status.description == "process terminated"
    spans = [s for s in recorded.spans if s.context.trace_id == root.context.trace_id]
    assert len(spans) == 6


def test_nothing_but_the_journal_is_left(directory: Path, rimp: Callable[..., Any]) -> None:
    """The recording is whole; a repair stores what the service had not come to store."""
    path = str(directory / "rimp-demo")
    assert rimp("verify", "--path", path).code == 0
    before = FileStorage(path).retrieve()
    code, out, _ = rimp("repair", "--path", path)
    assert code == 0
    assert "that a process had left in it\n" in out
    assert len(FileStorage(path).retrieve()) == len(before)


def test_metrics_are_there(recorded: TelemetryData) -> None:
    """Up to the last order that was answered."""
    orders = {m.tags["outcome"]: m.value for m in recorded.metrics if m.name == "shop.orders"}
    assert orders == {"paid": 14, "failed": 2}


def test_nothing_is_left_running(directory: Path) -> None:
    """The service has ended."""
    assert processes_recording(directory / "rimp-demo") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """However it is ended, the service ends too."""
    started = subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        while not (tmp_path / "rimp-demo" / "traces.jsonl").exists():
            assert started.poll() is None
            time.sleep(0.01)
        assert len(processes_recording(tmp_path / "rimp-demo")) == 1
        started.send_signal(number)
        out, err = started.communicate(timeout=60)
    finally:
        started.kill()
        started.wait()
    assert (started.returncode, out, err) == (128 + number, b"", b"")
    assert processes_recording(tmp_path / "rimp-demo") == []


def processes_recording(path: Path) -> list[int]:
    """The processes that record there, as Linux knows them."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("needs /proc")
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"RIMP_STORAGE_PATH={path}\0".encode() in environ.read_bytes():
                found.append(int(environ.parent.name))
        except OSError:
            continue
    return found


def test_a_service_that_fails(
    rimp: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its own words are shown."""
    (tmp_path / "app.py").write_text("raise SystemExit('no port is free')")
    monkeypatch.setattr(demo_service, "service_file", lambda: tmp_path / "app.py")
    code, out, err = rimp("demo")
    assert (code, out) == (1, "")
    assert err.endswith("no port is free\nrimp: the service did not start; what it said is above\n")


def test_missing_extra(rimp: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1, and what to install; no directory is made."""
    monkeypatch.setattr(demo, "is_installed", lambda module: module != "flask")
    assert rimp("demo") == (
        1,
        "",
        "rimp: flask is not installed. Install it with: pip install 'rimp-otel[demo]'\n",
    )
    assert not Path("rimp-demo").exists()


def test_an_earlier_demo_is_replaced(tmp_path: Path) -> None:
    """Or kept, where that is wanted; the directory is private."""
    path = tmp_path / "a" / "demo"
    make_room(path, keep=False)
    (path / "traces.jsonl").write_text("{}\n")
    for left in ("journal", "sealed", "damaged"):
        (path / left).mkdir()
    make_room(path, keep=True)
    assert (path / "traces.jsonl").exists()
    make_room(path, keep=False)
    assert sorted(entry.name for entry in path.iterdir()) == [".rimp-demo"]
    assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["traces.jsonl"], "d is there, and is not from a demo: name another with --path"),
        ([".rimp-demo", "notes.txt"], "d/notes.txt is not from a demo, and would be deleted: "),
    ],
)
def test_what_is_not_from_a_demo_stays(names: list[str], said: str, keep: bool) -> None:
    """A recording of the user's own, or anything else of theirs."""
    path = Path("d")
    path.mkdir()
    for name in names:
        (path / name).touch()
    with pytest.raises(UsageError, match=f"^{re.escape(said)}"):
        make_room(path, keep)
    assert sorted(entry.name for entry in path.iterdir()) == sorted(names)


def test_what_is_no_directory_stays(tmp_path: Path) -> None:
    """A file, and a link to a directory."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(UsageError, match="is there, and is no directory"):
            make_room(tmp_path / name, keep=False)


LATENCY = HistogramPoint(
    4, 0.5, bucket_counts=(0, 3, 0, 1, 0), explicit_bounds=(0.01, 0.1, 0.2, 0.4), min=0.04, max=0.3
)


def test_histogram() -> None:
    """From the first bucket that holds something to the last, and percentiles."""
    assert format_histogram(LATENCY, 54, Style()) == [
        "  up to 100 ms     3  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━",
        "  up to 200 ms     0",
        "  up to 400 ms     1  ━━━━━━━━━━",
        "                      p50 80 ms   p90 260 ms   p99 296 ms   max 300 ms",
    ]
