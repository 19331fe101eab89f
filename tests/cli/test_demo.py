"""``rimp demo``: records a real service, shows the recording, and leaves no process."""

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
from rimp_otel.cli.demo import prepare_directory
from rimp_otel.cli.demo_service import ServiceError, run_service
from rimp_otel.cli.options import UsageError

for module in ("flask", "requests", "opentelemetry.instrumentation.flask"):
    pytest.importorskip(module)

DEMO = [sys.executable, "-m", "rimp_otel", "demo"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run one demo for this module; its output is in ``out`` and ``err``."""
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
    """Return the output of the demo, with times and ids replaced."""
    text = (directory / "out").read_text("utf-8")
    for pattern, name in ((r"[\d.]+ (µs|ms|s)\b", "T"), (r"\b[0-9a-f]{8,32}\b", "ID")):
        text = re.sub(pattern, name, text)
    return text


@pytest.fixture(scope="module")
def recorded(directory: Path) -> TelemetryData:
    """Return the records of the demo."""
    return FileStorage(directory / "rimp-demo").retrieve()


@pytest.mark.parametrize(
    "line",
    [
        "A small shop  Flask, SQLite, an HTTP call, logging, and no recording code",
        "43 requests in T · 37 OK · 4 Not Found · 1 Conflict · 1 Internal Server Error",
        "spans     187 in 45 traces, 4 errors, 2 interrupted",
        "logs      39 records (31 info, 7 warning, 1 error)",
        "journals  1 journal: 1 left by a dead process",
        "The slowest request  rimp trace ID",
        "POST /checkout  T",
        "The request that failed  rimp logs --trace ID",
        "Killed by SIGKILL in the middle of a request  rimp trace ID",
        "43 requests answered, 43 recorded; the unanswered request:",
        "A metric  rimp metrics shop.checkout.duration",
        "  rimp trace ID --path rimp-demo   show one of them",
    ],
)
def test_line(shown: str, line: str) -> None:
    """Every demo prints these lines."""
    assert line in shown.splitlines()


def test_failure_is_printed(shown: str) -> None:
    """The log records of the failed request end with the exception and its place."""
    _, _, failed = shown.partition("The request that failed")
    log, _, metric = " ".join(failed.split()).partition("Killed by")
    assert "PaymentError: the bank refused card *0069: expired (in charge, app.py:" in log
    assert "n=16 " in metric


def test_size(directory: Path, shown: str) -> None:
    """The report fits 100 columns and 75 lines, and has no colour; standard error is empty."""
    lines = shown.splitlines()
    assert len(lines) <= 75
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in shown
    assert (directory / "err").read_bytes() == b""


def test_slow_request_is_drawn(shown: str) -> None:
    """Each step of the slowest request has its line, with its log records."""
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
    """The interrupted request is drawn as far as it had come."""
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
    """A trace spans Flask, sqlite3, requests and both sides of the HTTP call, with its log records."""
    slow = next(event for event in recorded.events if event.message.startswith("the bank is slow"))
    spans = [span for span in recorded.spans if span.context.trace_id == slow.trace_id]
    scopes = {span.instrumentation_scope.name.rpartition(".")[2] for span in spans}
    assert scopes == {"flask", "sqlite3", "requests", "shop"}
    assert len(spans) == 8
    charge = next(span for span in spans if span.name == "charge card")
    assert slow.span_id == charge.context.span_id


def test_failure_is_recorded_with_its_traceback(recorded: TelemetryData) -> None:
    """The failure is in the span and in the log record."""
    (error,) = [event for event in recorded.events if event.event_type.value == "error"]
    assert error.message == "Exception on /checkout [POST]"
    assert error.metadata["exception.type"] == "__main__.PaymentError"
    assert "in charge\n    raise PaymentError" in error.metadata["exception.stacktrace"]
    failed = [span for span in recorded.spans if span.status.status_code.name == "ERROR"]
    whole = [span for span in failed if "rimp.interrupted" not in span.attributes]
    assert sorted(span.name for span in whole) == ["POST /checkout", "charge card"]


def test_interrupted_request_is_recorded(recorded: TelemetryData) -> None:
    """Its interrupted spans are in one trace with the finished ones."""
    cut = {span.name: span for span in recorded.spans if "rimp.interrupted" in span.attributes}
    assert sorted(cut) == ["POST /checkout", "charge card"]
    root, inner = cut["POST /checkout"], cut["charge card"]
    assert inner.parent.span_id == root.context.span_id
    assert inner.status.description == "process terminated"
    spans = [s for s in recorded.spans if s.context.trace_id == root.context.trace_id]
    assert len(spans) == 6


def test_nothing_but_the_journal_is_left(directory: Path, rimp: Callable[..., Any]) -> None:
    """The recording is whole, and a repair stores the records in the journal."""
    path = str(directory / "rimp-demo")
    assert rimp("verify", "--path", path).code == 0
    before = FileStorage(path).retrieve()
    code, out, _ = rimp("repair", "--path", path)
    assert code == 0
    assert "left by a dead process\n" in out
    assert len(FileStorage(path).retrieve()) == len(before)


def test_metrics_are_there(recorded: TelemetryData) -> None:
    """The metrics count all answered orders."""
    orders = {m.tags["outcome"]: m.value for m in recorded.metrics if m.name == "shop.orders"}
    assert orders == {"paid": 14, "failed": 2}


def test_nothing_is_left_running(directory: Path) -> None:
    """The service has ended with the demo."""
    assert processes_recording(directory / "rimp-demo") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """A signal ends the service, too."""
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
    """Return the ids of the processes that record there, by /proc."""
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


def test_failing_service(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The output of a service that does not start is printed."""
    (tmp_path / "app.py").write_text("raise SystemExit('no port is free')")
    failing = run_service(tmp_path / "rec", tmp_path / "app.py")
    with pytest.raises(ServiceError, match=r"^the service did not start; see its output above$"):
        failing.__enter__()
    assert capsys.readouterr().err.endswith("no port is free\n")


def test_missing_extra(rimp: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install, and no directory is made."""
    monkeypatch.setitem(sys.modules, "flask", None)
    assert rimp("demo") == (
        1,
        "",
        "rimp: flask is not installed. Install it with: pip install 'rimp-otel[demo]'\n",
    )
    assert not Path("rimp-demo").exists()


def test_earlier_demo_is_replaced(tmp_path: Path) -> None:
    """An earlier demo is replaced unless it is kept; the directory is private."""
    path = tmp_path / "a" / "demo"
    prepare_directory(path, keep=False)
    (path / "traces.jsonl").write_text("{}\n")
    for left in ("journal", "sealed", "damaged"):
        (path / left).mkdir()
    prepare_directory(path, keep=True)
    assert (path / "traces.jsonl").exists()
    prepare_directory(path, keep=False)
    assert sorted(entry.name for entry in path.iterdir()) == [".rimp-demo"]
    assert path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["traces.jsonl"], "d exists and was not made by a demo: give another --path"),
        ([".rimp-demo", "notes.txt"], "d/notes.txt was not made by a demo, and would be deleted: "),
    ],
)
def test_other_directory_is_kept(names: list[str], said: str, keep: bool) -> None:
    """A recording or files of the user are not deleted."""
    path = Path("d")
    path.mkdir()
    for name in names:
        (path / name).touch()
    with pytest.raises(UsageError, match=f"^{re.escape(said)}"):
        prepare_directory(path, keep)
    assert sorted(entry.name for entry in path.iterdir()) == sorted(names)


def test_not_a_directory(tmp_path: Path) -> None:
    """A file or a link to a directory is not replaced."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(UsageError, match="exists and is not a directory"):
            prepare_directory(tmp_path / name, keep=False)
