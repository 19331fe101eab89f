"""How a program ends is in the recording: exceptions, exit code, signal, and a span around it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rimp_otel import FileStorage
from tests.cli.test_run import environment, run

pytest.importorskip("opentelemetry.instrumentation")


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a directory of its own."""
    monkeypatch.chdir(tmp_path)


def run_script(code: str, name: str = "orders.py", **env: str) -> tuple[Any, Any]:
    """Run a script under ``rimp run``; return what it did, and what was recorded."""
    Path(name).write_text(code)
    done = run("--quiet", "--", sys.executable, name, **env)
    return done, FileStorage("telemetry").retrieve()


def messages(data: Any) -> list[str]:
    """Return the messages of events."""
    return [event.message for event in data.events]


def test_an_uncaught_exception() -> None:
    """It is recorded with its message and stack, it ends the root span, and is printed as always."""
    done, data = run_script(
        "def work():\n    raise FileNotFoundError(2, 'gone', 'a.txt')\nwork()\n"
    )
    plain = subprocess.run(
        [sys.executable, "orders.py"], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", plain.stderr)
    assert messages(data) == ["uncaught exception", "orders ended with exit code 1"]
    error, end = data.events
    assert error.metadata["exception.type"] == "FileNotFoundError"
    assert error.metadata["exception.message"] == "[Errno 2] gone: 'a.txt'"
    assert "in work" in str(error.metadata["exception.stacktrace"])
    (span,) = data.spans
    assert (span.name, span.parent, span.status.status_code.name) == ("orders", None, "ERROR")
    assert span.attributes["process.pid"] == end.metadata["process.pid"]
    assert end.metadata["process.exit.code"] == 1
    assert end.resource.attributes["service.name"] == "orders"


def test_an_exception_in_a_thread() -> None:
    """It is recorded, and printed as always."""
    code = "import threading\nt = threading.Thread(target=lambda: 1 / 0, name='T')\nt.start()\nt.join()\n"
    done, data = run_script(code)
    assert "Exception in thread T:" in done.stderr
    assert messages(data) == ["uncaught exception in thread T"]
    assert data.events[0].metadata["exception.type"] == "ZeroDivisionError"


def test_an_exit_code() -> None:
    """It is recorded; success is not."""
    _, data = run_script("import sys; sys.exit(3)")
    assert messages(data) == ["orders ended with exit code 3"]
    _, data = run_script("")
    assert len(data.events) == 1


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_a_signal(name: str) -> None:
    """It is recorded, for a crash with the stacks, and the root span comes back as an interrupted one."""
    done, data = run_script(f"import os, signal\nos.kill(os.getpid(), signal.{name})\n")
    assert done.stderr == ""
    said = messages(data)
    assert f"orders was killed by {name}" in said
    assert any("process crashed" in text for text in said) == (name == "SIGSEGV")
    (span,) = data.spans
    assert (span.name, span.attributes["rimp.interrupted"]) == ("orders", True)


def test_all_of_a_script_is_one_trace() -> None:
    """Spans and log records of the main thread belong to the root span; a process that it starts has none."""
    _, data = run_script(
        "import logging, subprocess, sys\n"
        "from opentelemetry import trace\n"
        "trace.get_tracer('t').start_span('one').end()\n"
        "logging.warning('two')\n"
        "subprocess.run([sys.executable, '-c', ''])\n"
    )
    spans = {span.name: span for span in data.spans}
    assert spans.keys() == {"one", "orders"}
    assert spans["one"].parent.span_id == spans["orders"].context.span_id
    assert data.events[0].trace_id == spans["orders"].context.trace_id


def test_a_server_has_no_root_span(tmp_path: Path) -> None:
    """Once a server is imported, each request is a trace of its own, and nothing is left of the root."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "flask.py").touch()
    code = (
        "import flask\nfrom opentelemetry import trace\n"
        "trace.get_tracer('t').start_span('request').end()\n"
    )
    for end in ("", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n"):
        _, data = run_script(code + end, PYTHONPATH=str(site))
        assert {span.name for span in data.spans} == {"request"}
        assert all(span.parent is None for span in data.spans)


def test_install_with_a_root_span() -> None:
    """``install(root_span=True)`` has it, too."""
    Path("orders.py").write_text(
        "import rimp_otel\nrimp_otel.install(root_span=True, quiet=True)\nraise ValueError('no')\n"
    )
    subprocess.run(
        [sys.executable, "orders.py"],
        env=environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    data = FileStorage("telemetry").retrieve()
    (span,) = data.spans
    assert (span.name, span.status.description) == ("orders", "ValueError: no")
    assert messages(data) == ["uncaught exception"]
    assert data.events[0].trace_id == span.context.trace_id
