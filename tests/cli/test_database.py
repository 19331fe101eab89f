"""The commands over a recording in an SQLite file."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rimp_otel import FileStorage, SQLiteStorage, TelemetryData
from rimp_otel.cli.tail import Feed
from rimp_otel.models.filters import Filter
from rimp_otel.models.times import Window
from rimp_otel.sql import connect
from tests.cli.records import checkout, event
from tests.cli.test_run import LOG_ONE, RIMP, environment


def shop() -> TelemetryData:
    """Return one trace with its log records."""
    spans, events = checkout()
    return TelemetryData(events, spans=spans)


@pytest.fixture
def database() -> Path:
    """Make a recording of one trace in the working directory."""
    path = Path("telemetry.db")
    storage = SQLiteStorage(path)
    storage.store(shop())
    storage.close()
    return path


def test_traces_by_their_first_digits(rimp: Any, database: Path) -> None:
    """The index of the database finds them: the same as in files, also where none or several match."""
    storage, files = SQLiteStorage(database), FileStorage("files")
    other = TelemetryData([event("other", trace_id=0x4BF0 << 112)])
    for kept in (storage, files):
        kept.store(other)
    files.store(shop())
    for digits in ("4bf9", "4bf0", "4", "4bf", "5", "0", "0" * 32, "4bf91"):
        inside, outside = (rimp("trace", digits, "--path", p) for p in (str(database), "files"))
        assert inside.code == outside.code
        assert inside.out == outside.out
        assert inside.err.replace(str(database), "files") == outside.err
    with closing(sqlite3.connect(database)) as db:
        sql = "SELECT DISTINCT trace_id FROM records WHERE trace_id BETWEEN ? AND ?"
        (plan,) = db.execute(f"EXPLAIN QUERY PLAN {sql}", (b"a", b"b")).fetchall()
    assert "records_trace" in plan[3]


@pytest.mark.parametrize(
    "command",
    [
        ["traces"],
        ["traces", "--errors", "--name", "charge card", "--json"],
        ["tail", "-n", "all"],
        ["tail", "-n", "3"],
        ["logs"],
        ["logs", "--severity", "warn", "--grep", "stock", "--until", "2026-11-19"],
        ["metrics"],
        ["top", "--at", "2026-11-18T11:06:41Z", "--json"],
        ["trace", "4bf92f3577b34da6a3ce929d0e0e4736"],
        ["trace", "4bf92f"],
        ["trace", "4"],
        ["stats", "--json"],
    ],
)
def test_same_as_files(rimp: Any, database: Path, command: list[str]) -> None:
    """The output is the same as for files."""
    FileStorage("files").store(shop())
    in_files = rimp(*command, "--path", "files")
    in_database = rimp(*command, "--path", str(database))
    assert in_database.code == 0
    if command[0] == "stats":
        for result in (told := json.loads(in_database.out), other := json.loads(in_files.out)):
            del result["files"], result["journals"]
        assert told == other
    else:
        assert in_database.out == in_files.out


def test_trace(rimp: Any, database: Path) -> None:
    """A trace is found by the prefix of its id."""
    FileStorage("files").store(shop())
    prefix = json.loads(rimp("traces", "--json", "--path", str(database)).out)["trace_id"][:8]
    assert rimp("trace", prefix, "--path", str(database)).out == (
        rimp("trace", prefix, "--path", "files").out
    )


def test_diff_and_export(rimp: Any, database: Path) -> None:
    """Databases can be compared, exported from and imported into."""
    assert rimp("diff", "telemetry.db", "telemetry.db", "--window-b", "2026..").code == 0
    assert rimp("export", "--trace", "4b", "out", "--path", str(database)).out.startswith(
        "out: 7 spans and 3 log"
    )
    assert rimp("import", "out", "--path", "again.db").code == 0
    again = SQLiteStorage("again.db").retrieve()
    assert (len(again.spans), len(again.events)) == (7, 3)


def test_following(rimp: Any, database: Path) -> None:
    """New records are returned once."""
    feed = Feed(database, Window(), Filter(), follows=True)
    assert len(feed.newest(4)) == 4
    assert feed.new() == []
    storage = SQLiteStorage(database)
    storage.store(TelemetryData(events=[event("news")]))
    storage.close()
    assert [record.message for record in feed.new()] == ["news"]  # type: ignore[union-attr]


def test_files(rimp: Any, database: Path) -> None:
    """The database counts as one file."""
    (file,) = json.loads(rimp("stats", "--json", "--path", str(database)).out)["files"]
    assert file == {"signal": None, "path": str(database), "bytes": database.stat().st_size}


def test_the_default_path(rimp: Any, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment determines the default path."""
    assert rimp("stats").code == 2
    monkeypatch.setenv("RIMP_STORAGE_BACKEND", "sqlite")
    assert rimp("stats").out.startswith("telemetry.db\n")


@pytest.mark.parametrize("command", ["verify", "repair"])
def test_check_of_a_database(rimp: Any, database: Path, command: str) -> None:
    """Commands that check files name SQLite's own check."""
    result = rimp(command, "--path", str(database))
    assert result.code == 2
    assert "is a database" in result.err
    assert "sqlite3 telemetry.db 'pragma integrity_check'" in result.err


def test_not_a_database(rimp: Any) -> None:
    """A file that is no database is refused."""
    Path("letter").write_text("Dear aunt, " * 20)
    result = rimp("traces", "--path", "letter")
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        "rimp: cannot use letter: file is not a database; it is something else: give another path\n"
    )


def test_run(tmp_path: Path) -> None:
    """rimp run records into a database if the environment says so."""
    done = subprocess.run(
        [*RIMP, "run", "--", sys.executable, "-c", LOG_ONE],
        env={**environment(), "RIMP_STORAGE_BACKEND": "sqlite"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=60.0,
    )
    assert "recorded 0 spans, 1 log record and 0 metric points in telemetry.db" in done.stderr
    data = SQLiteStorage(tmp_path / "telemetry.db").retrieve()
    assert [event.message for event in data.events] == ["one"]


def test_sql(rimp: Any, database: Path) -> None:
    """SQL has the same answers as over files."""
    FileStorage("files").store(shop())
    for sql in (
        "SELECT * FROM otel_traces ORDER BY SpanId",
        "SELECT * FROM otel_logs ORDER BY Timestamp",
        "SELECT count() FROM otel_metrics_sum",
    ):
        in_database = rimp("sql", sql, "--json", "--path", str(database))
        assert in_database.code == 0
        assert in_database.out == rimp("sql", sql, "--json", "--path", "files").out != ""


def test_sql_of_what_is_recorded_meanwhile(rimp: Any, database: Path) -> None:
    """A connection that stays open reads new records, each once."""
    with connect(database) as connection:
        sql = "SELECT count(), max(Body) FROM otel_logs"
        assert connection.execute(sql).fetchall() == [(3, "stock is low")]
        storage = SQLiteStorage(database)
        storage.store(TelemetryData(events=[event("total news")]))
        assert connection.execute(sql).fetchall() == [(4, "total news")]
        storage.close()


def test_parquet_of_a_database(rimp: Any, database: Path) -> None:
    """There are no sealed files, and the message says what works."""
    result = rimp("parquet", "--path", str(database))
    assert (result.code, result.out) == (2, "")
    assert "'rimp sql' reads it as it is" in result.err
    assert (
        rimp("sql", "FROM otel_traces", "--output", "t.parquet", "--path", str(database)).code == 0
    )
    assert Path("t.parquet").read_bytes().startswith(b"PAR1")


def test_sql_of_another_programs_database(rimp: Any) -> None:
    """It is refused with its reason."""
    with closing(sqlite3.connect("other.db")) as other:
        other.execute("CREATE TABLE t (x)")
    result = rimp("sql", "FROM otel_logs", "--path", "other.db")
    assert (result.code, result.out) == (1, "")
    assert "database of another program" in result.err
