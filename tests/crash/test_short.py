"""The short form of each suite, in a process of its own; ``docs/reliability.md`` has the long ones."""

from __future__ import annotations

import sys

import pytest

from tests.processes import run_process

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="needs /proc, pidfds and pipe sizes"
)


@pytest.mark.parametrize(
    "suite",
    [
        "kill",
        "kill --backend sqlite",
        # What files are read as.
        pytest.param("cut", marks=pytest.mark.one_python),
        pytest.param("damage", marks=pytest.mark.one_python),
        pytest.param("power", marks=pytest.mark.one_python),
        "reenter",
        "workers",
        "burst",
        "full",
        "readers",
        "receiver",
        # The other one of the pair runs on each Python.
        pytest.param("receiver --backend sqlite", marks=pytest.mark.one_python),
        pytest.param("simulate", marks=pytest.mark.one_python),
        pytest.param("forwarder", marks=pytest.mark.one_python),
        "forwarder --backend sqlite",
        pytest.param("forwarder --expire", marks=pytest.mark.one_python),
    ],
)
def test_short_form(suite):
    """Nothing is lost, twice or wrong; the figures say what was tried."""
    name, *options = suite.split()
    command = [sys.executable, "-m", f"tests.crash.{name}", "--short", *options]
    done = run_process(command, timeout=280.0)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "failures              0" in done.stdout


def test_peers_short_form():
    """All of 400 finished spans are kept, however the program dies; peers only where installed."""
    command = [sys.executable, "-m", "tests.crash.peers", "--rounds", "1"]
    done = run_process(command, timeout=280.0)
    assert done.returncode == 0, done.stdout + done.stderr
