"""The benchmark of ClickHouse runs on few records; no time is asserted."""

from __future__ import annotations

import sys

from tests.processes import run_process, skip_without


def test_clickhouse():
    """Both ways to insert have a row."""
    skip_without("chdb")
    skip_without("clickhouse_connect")
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.clickhouse",
        "--spans",
        "1000",
        "--rounds",
        "1",
    ]
    done = run_process(command, timeout=200)
    assert [row.split()[0] for row in done.stdout.splitlines()] == [
        "spans",
        "ClickHouseStorage",
        "clickhouse-connect",
    ], done
