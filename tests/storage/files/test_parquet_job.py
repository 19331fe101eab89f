"""Having twins made: outside of the application, seldom, and never at its cost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rimp_otel import FileStorage
from rimp_otel.config import TelemetryConfig
from rimp_otel.storage.files import parquet_job as twinning
from rimp_otel.storage.files.parquet_job import TwinMaker, environment
from tests.processes import run
from tests.storage.recordings import batch, names


class Clock:
    """Seconds that go on when they are told to."""

    now = 0.0

    def __call__(self):
        return self.now


def test_at_most_once_a_minute():
    """However often it is woken."""
    started, clock = [], Clock()
    maker = TwinMaker(Path("/rec"), started.append, clock)
    for clock.now in (0, 1, 59.9, 60, 61):
        maker.wake()
    assert len(started) == 2
    assert started[0][-5:] == ["-m", "rimp_otel.cli.main", "parquet", "--path", "/rec"]
    assert started[0][4] == sys.executable


def test_without_the_extra(monkeypatch, capsys):
    """It says once how to install it."""
    monkeypatch.setattr(twinning, "find_spec", lambda name: None)
    started = []
    TwinMaker(Path("/rec"), started.append).wake()
    assert started == []
    assert capsys.readouterr().err == (
        "rimp: no Parquet twins are made: DuckDB is not installed. Install it with: "
        "pip install 'rimp-otel[sql]'\n"
    )


def test_embedded_python(monkeypatch, capsys):
    """Another program is not started in Python's place."""
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    started = []
    TwinMaker(Path("/rec"), started.append).wake()
    assert started == []
    assert "'/usr/bin/uwsgi' is no Python" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError("no processes"), subprocess.TimeoutExpired("sh", 10)])
def test_what_fails(error, capsys):
    """Is said, and raises nothing."""

    def start(command):
        raise error

    TwinMaker(Path("/rec"), start).wake()
    assert capsys.readouterr().err.startswith("rimp: 'rimp parquet' cannot be started: ")


def test_environment():
    """Without what makes this process be recorded."""
    site = str(Path(twinning.__file__).parents[2] / "otel" / "autorecord_site")
    given = {
        "PATH": "/bin",
        "OTEL_PYTHON_CONFIGURATOR": "rimp",
        "RIMP_PARQUET": "1",
        "PYTHONPATH": os.pathsep.join([site, "/lib"]),
    }
    assert environment(given) == {
        "PATH": "/bin",
        "PYTHONPATH": "/lib",
        "OTEL_SDK_DISABLED": "true",
    }


def test_only_where_it_is_asked_for(tmp_path, monkeypatch):
    """RIMP_PARQUET is off by default; rotating wakes it where it is on."""
    started = []
    monkeypatch.setattr(twinning, "_run", started.append)
    for parquet in (False, True):
        storage = FileStorage(tmp_path / str(parquet), parquet=parquet)
        storage.store(batch("a"))
        storage.rotate()
        storage._writer.sealer.run()
        storage.close()
    assert {command[-1] for command in started} == {str(tmp_path / "True")}
    assert TelemetryConfig.from_env({"RIMP_PARQUET": "1"}).parquet


def test_a_real_process(tmp_path):
    """Makes the twin after the application has ended, and is no child of it."""
    pytest.importorskip("duckdb")
    pytest.importorskip("pyarrow")
    script = """
    import os, sys
    from rimp_otel import FileStorage, TelemetryData, TelemetryEvent
    storage = FileStorage(sys.argv[1], parquet=True)
    storage.store(TelemetryData(events=[TelemetryEvent("a", "b")]))
    storage.rotate()
    storage._writer.sealer.run()
    storage.close()
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        print("no children")
    """
    assert run(script, tmp_path / "t") == "no children\n"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        made = [name for name in names(tmp_path / "t" / "sealed") if name.endswith(".parquet")]
        if made:
            break
        time.sleep(0.05)
    assert len(made) == 1
