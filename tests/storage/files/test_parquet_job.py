"""ParquetJob: copies are made outside of the application, seldom, and never at its cost."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from rimp_otel import FileStorage
from rimp_otel.config import TelemetryConfig
from rimp_otel.storage.files import parquet_job
from rimp_otel.storage.files.parquet_job import ParquetJob
from tests.processes import run
from tests.storage.recordings import batch, names


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self):
        return self.now


def test_at_most_once_a_minute():
    """The process is started at most once a minute."""
    started, clock = [], Clock()
    maker = ParquetJob(Path("/rec"), started.append, clock)
    for clock.now in (0, 1, 59.9, 60, 61):
        maker.start_if_due()
    assert len(started) == 2
    assert started[0][-3:] == ["-m", "rimp_otel.sql.parquet", "/rec"]
    assert started[0][4] == sys.executable


def test_without_the_extra(monkeypatch, capsys):
    """The message says once how to install the extra."""
    monkeypatch.setattr(parquet_job, "find_spec", lambda name: None)
    started = []
    ParquetJob(Path("/rec"), started.append).start_if_due()
    assert started == []
    assert capsys.readouterr().err == (
        "rimp: no Parquet copies are made: DuckDB is not installed. Install it with: "
        "pip install 'rimp-otel[sql]'\n"
    )


def test_embedded_python(monkeypatch, capsys):
    """Another program is not started in Python's place."""
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    started = []
    ParquetJob(Path("/rec"), started.append).start_if_due()
    assert started == []
    assert "'/usr/bin/uwsgi' is no Python interpreter" in capsys.readouterr().err


@pytest.mark.parametrize("error", [OSError("no processes"), subprocess.TimeoutExpired("sh", 10)])
def test_what_fails(error, capsys):
    """A failure is reported, and raises nothing."""

    def start(command):
        raise error

    ParquetJob(Path("/rec"), start).start_if_due()
    assert capsys.readouterr().err.startswith(
        "rimp: no Parquet copies are made: cannot start a process: "
    )


def test_only_where_it_is_asked_for(tmp_path, monkeypatch):
    """RIMP_PARQUET is off by default; if it is on, rotating starts the job."""
    started = []
    monkeypatch.setattr(parquet_job, "_run_command", started.append)
    for parquet in (False, True):
        storage = FileStorage(tmp_path / str(parquet), parquet=parquet)
        storage.store(batch("a"))
        storage.rotate()
        storage._writer.sealer.run()
        storage.close()
    assert {command[-1] for command in started} == {str(tmp_path / "True")}
    assert TelemetryConfig.from_env({"RIMP_PARQUET": "1"}).parquet


def test_a_real_process(tmp_path):
    """The copy is made after the application has ended, by a process that is not its child."""
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
