"""Recording the standard library's logging, seen from outside: each program in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rimp_otel import FileStorage
from tests.processes import ROOT

pytest.importorskip("opentelemetry.instrumentation.logging")

INSTALL = "import logging, rimp_otel\ntelemetry = rimp_otel.install()\n"


def run(program: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """A Python program, until it has ended."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=directory,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def messages(directory: Path) -> list[str]:
    """What was recorded."""
    return [event.message for event in FileStorage(directory / "telemetry").retrieve().events]


def test_a_warning_is_recorded_and_still_printed(tmp_path: Path) -> None:
    """The program prints what it printed without us, and ends without a word of ours."""
    ended = run(INSTALL + "logging.getLogger('shop').warning('low on %s', 'tea')", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "low on tea\n")
    assert messages(tmp_path) == ["low on tea"]


def test_basic_config_still_works_after_install(tmp_path: Path) -> None:
    """The recorder is no handler of the root logger, so logging is not taken for configured."""
    program = (
        INSTALL + "logging.basicConfig(level='INFO', format='%(message)s')\nlogging.info('up')"
    )
    ended = run(program, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "up\n")
    assert messages(tmp_path) == ["up"]


def test_arguments_that_do_not_fit_raise_nothing(tmp_path: Path) -> None:
    """The program goes on, as it does without us; the record is kept without its arguments."""
    ended = run(INSTALL + "logging.error('%d orders', 'no')\nprint('went on')", tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "went on\n")
    assert "--- Logging error ---" in ended.stderr
    assert messages(tmp_path) == ["%d orders"]


def test_a_logger_that_does_not_propagate_is_recorded(tmp_path: Path) -> None:
    """Such as uvicorn's, which the root logger's handlers never see."""
    program = INSTALL + "log = logging.getLogger('web')\nlog.propagate = False\nlog.error('down')"
    assert run(program, tmp_path).returncode == 0
    assert messages(tmp_path) == ["down"]


def test_nothing_is_captured_where_that_is_not_wanted(tmp_path: Path) -> None:
    """``capture_logging=False`` leaves logging alone."""
    program = (
        "import logging, rimp_otel\nrimp_otel.install(capture_logging=False)\nlogging.error('x')"
    )
    assert run(program, tmp_path).returncode == 0
    assert messages(tmp_path) == []


def test_installing_twice_records_each_record_once_for_each(tmp_path: Path) -> None:
    """Each of the two recorders gets the record once."""
    program = (
        INSTALL + "from rimp_otel import MemoryStorage\n"
        "other = rimp_otel.install(storage=MemoryStorage())\n"
        "logging.error('x')\nother.collector.force_flush(5_000)\nprint(len(other.storage.retrieve()))"
    )
    ended = run(program, tmp_path)
    # An SDK whose MeterProvider takes no second reader is told about before.
    assert (ended.returncode, ended.stdout) == (0, "1\n")
    assert ended.stderr.splitlines()[-1] == "ERROR:root:x"
    assert messages(tmp_path) == ["x"]
