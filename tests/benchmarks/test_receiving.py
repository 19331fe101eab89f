"""The benchmark of receiving runs on few records; no time is asserted."""

from __future__ import annotations

import sys

from tests.processes import run_process


def test_receiving():
    """Each way to send has a row, and idle connections are counted."""
    command = [sys.executable, "-m", "tests.benchmarks.receiving", "--alone"]
    done = run_process([*command, "--spans", "3000", "--rounds", "1", "--idle", "100"], timeout=200)
    rows = done.stdout.splitlines()
    assert [row.split("|")[1].strip() for row in rows if row.startswith("|")] == [
        "sent as",
        "---",
        "HTTP, protobuf",
        "HTTP, JSON",
        "gRPC",
    ], done
    assert rows[-1].startswith("100 idle connections: ")
