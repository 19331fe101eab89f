"""How a program ends is in the recording: exceptions, exit code, signal, and a span around it."""

from __future__ import annotations

import inspect
import multiprocessing.process
import os
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


CHILD = """
import multiprocessing, sys

def work():
    raise KeyError("gone")

if __name__ == "__main__":
    child = multiprocessing.get_context(sys.argv[1]).Process(target=work, name="worker")
    child.start()
    child.join()
    print(child.exitcode)
"""


@pytest.mark.skipif(
    "_exit_function()" not in inspect.getsource(multiprocessing.process),
    reason="this multiprocessing calls nothing while an exception ends a process",
)
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_an_exception_in_a_process_of_multiprocessing(method: str) -> None:
    """It is recorded with its stack and the exit code, and printed as always."""
    Path("orders.py").write_text(CHILD)
    command = [sys.executable, "orders.py", method]
    done = run("--quiet", "--", *command)
    plain = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == (plain.stdout, plain.stderr) != ("1\n", "")
    (event,) = FileStorage("telemetry").retrieve().events
    assert event.message == "uncaught exception in process worker"
    assert event.metadata["exception.type"] == "KeyError"
    assert "in work" in str(event.metadata["exception.stacktrace"])
    assert event.metadata["process.exit.code"] == 1
    assert event.event_type.value == "error"


def test_children_that_end_in_order() -> None:
    """Nothing is said of an exit code, nor of an exception that is caught."""
    code = (
        "import multiprocessing, sys\n"
        "def leave():\n    sys.exit(3)\n"
        "if __name__ == '__main__':\n"
        "    child = multiprocessing.get_context('fork').Process(target=leave)\n"
        "    child.start()\n    child.join()\n"
    )
    done, data = run_script(code)
    assert (done.returncode, messages(data)) == (0, [])


def test_an_exception_in_a_task_that_nobody_awaits() -> None:
    """asyncio logs it when the task goes, also at the very end, where nothing can be stored any more."""
    code = (
        "import asyncio\n"
        "async def fail():\n    raise ValueError('lost')\n"
        "async def main():\n    global task\n"
        "    task = asyncio.create_task(fail())\n    await asyncio.sleep(0.001)\n"
        "asyncio.run(main())\n"
    )
    done, data = run_script(code)
    plain = subprocess.run(
        [sys.executable, "orders.py"], env=environment(), capture_output=True, text=True, timeout=60
    )
    # Where Python prints a stack of its own, as 3.13 does here, we are in it.
    ours = [line for line in done.stderr.splitlines() if "logging_capture.py" not in line]
    assert (done.returncode, ours) == (0, plain.stderr.splitlines())
    # asyncio may also log that logging has failed, which has nowhere to write any more.
    event = data.events[0]
    assert event.message.startswith("Task exception was never retrieved")
    assert event.metadata["exception.type"] == "ValueError"


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


@pytest.mark.parametrize("kind", ["module", "console script", "long path"])
def test_a_module_and_a_console_script_have_a_root_span(kind: str) -> None:
    """``python -m`` and the commands that packages install are programs as scripts are."""
    code = "from opentelemetry import trace\ntrace.get_tracer('t').start_span('one').end()\n"
    command = [sys.executable, "-m", "orders"]
    first = ""
    if kind == "console script":
        first = f"#!{sys.executable}\n"
    elif kind == "long path":
        first = f"#!/bin/sh\n'''exec' \"{sys.executable}\" \"$0\" \"$@\"\n' '''\n"
    if first:
        command = [os.path.abspath("orders")]
    path = Path("orders" if first else "orders.py")
    path.write_text(first + code)
    path.chmod(0o700)
    done = run("--quiet", "--", *command)
    assert (done.returncode, done.stderr) == (0, "")
    spans = {span.name: span for span in FileStorage("telemetry").retrieve().spans}
    assert spans.keys() == {"one", "orders"}
    assert spans["one"].parent.span_id == spans["orders"].context.span_id


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
