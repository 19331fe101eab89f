"""Whatever a query returns is printed without control characters, and can be interrupted."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import Any

import pytest

from rimp_otel import FileStorage, TelemetryData
from rimp_otel.cli.output import Progress
from rimp_otel.cli.sql_format import FORMATS, print_result
from rimp_otel.sql import connect
from tests.cli.records import HOSTILE, event

ESCAPE = "\x1b[31m"
QUERIES = [
    "FROM otel_logs",
    "SELECT [Body], {'a': Body}, row(Body), map([Body], [1]) FROM otel_logs",
    "SELECT Body AS explain_key, Body AS explain_value FROM otel_logs",
    "SELECT Body::INTEGER FROM otel_logs",
    "SELECT toInt64(Body), toDateTime(Body) FROM otel_logs",
    "SELECT error(Body) FROM otel_logs",
    "SELECT strptime(Body, '%Y') FROM otel_logs",
    "SELECT regexp_matches('a', Body || '(') FROM otel_logs",
    "SELECT Body::BLOB, Body::UUID FROM otel_logs",
    "SELECT Body::JSON FROM otel_logs",
    "PIVOT (SELECT Body, 1 AS n FROM otel_logs) ON Body USING sum(n)",
    "SUMMARIZE otel_logs",
    f"EXPLAIN SELECT * FROM otel_logs WHERE Body = '{ESCAPE}'",
    f"SELECT '{ESCAPE}' AS \"{ESCAPE}\"",
    f'FROM "{ESCAPE}"',
    f"SELECT {ESCAPE}",
    f"DELETE FROM otel_logs -- {ESCAPE}",
]


@pytest.mark.parametrize("format", ["table", "json"])
def test_no_control_characters(rimp: Any, format: str) -> None:
    """Recorded texts come escaped: as cells, as names of columns, in plans and in errors."""
    storage = FileStorage("telemetry")
    texts = [HOSTILE, ESCAPE + "\x9b\u202e\r\x00", "x" * 79 + ESCAPE * 100, ESCAPE * 2_000]
    storage.store(TelemetryData(events=[event(text, **{text: text}) for text in texts]))
    storage.close()
    for query in QUERIES:
        result = rimp("sql", query, "--format", format)
        shown = result.out + result.err
        assert shown, query
        unsafe = {each for each in shown if not each.isprintable()} - {"\n"}
        assert not unsafe, (query, unsafe)


@pytest.mark.parametrize("format", FORMATS)
def test_a_query_without_rows_yet_can_be_interrupted(tmp_path: Path, format: str) -> None:
    """Ctrl-C does not wait for DuckDB to have rows."""

    def press(*_: Any) -> None:
        raise KeyboardInterrupt

    args = argparse.Namespace(
        format=format, output=str(tmp_path / "out"), max_rows=10, color="never", json=False
    )
    before = signal.signal(signal.SIGALRM, press)
    try:
        with connect(tmp_path / "t") as connection:
            sql = "SELECT i FROM range(100000000000) t(i) WHERE i % 1000000007 = 5"
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                print_result(connection, args, sql, Progress("", unit="files"))
            assert connection.execute("SELECT 1").fetchall() == [(1,)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
