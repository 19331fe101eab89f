"""``rimp ui``: its line, its address, the browser, and its end."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

pytest.importorskip("starlette")

from tests.processes import ROOT, run, run_process
from tests.transport.serving import DEADLINE

LINE = re.compile(
    r"rimp: showing (\S+) at http://127\.0\.0\.1:(\d+)/#token=([\w-]{20,}) \(Ctrl\+C ends it\)\n"
)


@contextmanager
def running(path, *options, **env):
    """Run the command; yield its process, and the port and the token of its line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rimp_otel", "ui", "--path", str(path), *options],
        env={**os.environ, "PYTHONPATH": str(ROOT), "BROWSER": "", "DISPLAY": "", **env},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stderr.readline()
        match = LINE.fullmatch(line)
        assert match, line + process.stderr.read()
        assert match[1] == str(path)
        yield process, int(match[2]), match[3]
    finally:
        process.kill()
        process.communicate()


def status(port, token=""):
    """Return the status of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request("GET", "/jaeger/api/services", headers=headers)
    found = connection.getresponse().status
    connection.close()
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_from_its_line_to_its_end(tmp_path, number):
    """The link has the token; besides, what is missing is said, and nothing is made on disk."""
    path = tmp_path / "t"
    with running(path, "--address", "127.0.0.1:0") as (process, port, token):
        assert (status(port), status(port, token)) == (401, 200)
        assert process.stderr.readline() == (
            f"rimp: nothing is recorded at {path} yet: what comes is shown\n"
        )
        process.send_signal(number)
        assert process.communicate(timeout=DEADLINE) == ("", "")
        assert process.returncode == 0
    assert os.listdir(tmp_path) == []


def test_the_default_port_and_another_one(tmp_path):
    """A second one takes a free port."""
    with running(tmp_path / "a") as (_, first, _), running(tmp_path / "b") as (_, second, token):
        assert first != second
        assert 7467 not in (second,)
        assert status(second, token) == 200


def test_the_browser(tmp_path):
    """It is given the link; with --no-open it is not started."""
    script = tmp_path / "browser"
    opened = tmp_path / "opened"
    script.write_text(f'#!/bin/sh\necho "$1" > {opened}.new\nmv {opened}.new {opened}\n')
    script.chmod(0o755)
    options = ("--address", "127.0.0.1:0")
    with running(tmp_path / "t", *options, "--no-open", BROWSER=str(script)) as (process, _, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
    assert not opened.exists()
    with running(tmp_path / "t", *options, BROWSER=str(script)) as (process, port, token):
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0  # once the browser was started
        assert opened.read_text() == f"http://127.0.0.1:{port}/#token={token}\n"


def ui(*options):
    """Run the command, which must end by itself."""
    return run_process([sys.executable, "-m", "rimp_otel", "ui", "--no-open", *options])


def test_addresses(tmp_path):
    """Only this machine; a port that is taken is told, if it was asked for."""
    with running(tmp_path / "t", "--address", "127.0.0.1:0") as (_, port, _):
        taken = ui("--path", str(tmp_path), "--address", f"127.0.0.1:{port}")
    assert taken.returncode == 1
    assert "the address is in use; stop what listens there" in taken.stderr
    for address in ("0.0.0.0:7467", "[::]:7467", "192.0.2.1:80", "unix:/tmp/x"):
        done = ui("--address", address)
        assert done.returncode == 2, address
        assert "must be of this machine, such as 127.0.0.1:7467" in done.stderr


def test_no_recording(tmp_path):
    """A file that is none is told; what is not there yet is waited for."""
    (tmp_path / "x.jsonl").write_text("{}")
    done = ui("--path", str(tmp_path / "x.jsonl"))
    assert (done.returncode, "no recording" in done.stderr) == (1, True)


def test_a_database_of_the_same_name(tmp_path):
    """It is told where the page would stay empty."""
    (tmp_path / "t.db").touch()
    with running(tmp_path / "t", "--address", "127.0.0.1:0") as (process, _, _):
        assert process.stderr.readline() == (
            f"rimp: no recording at {tmp_path}/t, but there is {tmp_path}/t.db: give --path {tmp_path}/t.db\n"
        )


@pytest.mark.parametrize(("missing", "named"), [("starlette", "Starlette"), ("uvicorn", "uvicorn")])
def test_without_the_extra(tmp_path, missing, named):
    """It says what to install."""
    script = f"""
import sys
sys.modules[{missing!r}] = None
from rimp_otel.cli.main import main
sys.exit(main(["ui", "--no-open", "--path", sys.argv[1]]))
"""
    done = run_process([sys.executable, "-c", script, str(tmp_path / "t")])
    assert (done.returncode, done.stderr) == (
        1,
        f"rimp: {named} is not installed. Install it with: pip install 'rimp-otel[ui]'\n",
    )


def test_help_loads_nothing_more():
    """Neither the SDK nor a server is imported for the help."""
    script = """
import sys
from rimp_otel.cli.main import main
try:
    main(["ui", "--help"])
except SystemExit:
    pass
print([name for name in ("opentelemetry", "starlette", "uvicorn", "duckdb") if name in sys.modules])
"""
    assert run(script).splitlines()[-1] == "[]"
