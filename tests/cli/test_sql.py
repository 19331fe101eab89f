"""``rimp sql``: formats, messages and the shell."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from rimp_otel import TelemetryData
from rimp_otel.cli.output import Progress
from rimp_otel.cli.sql_format import FORMATS, escape_formula
from rimp_otel.cli.sql_shell import Shell
from rimp_otel.sql import connect
from tests.cli.records import HOSTILE, HOSTILE_SHOWN, event, span

ERRORS = "SELECT SpanName, Duration FROM otel_traces WHERE StatusCode = 'Error' ORDER BY Duration"


def test_table(rimp: Any, shop: Path) -> None:
    """A table is aligned, with numbers to the right."""
    assert rimp("sql", ERRORS) == (
        0,
        "SpanName         Duration\n"
        "charge card     111000000\n"
        "POST /charge    122000000\n"
        "POST /checkout  231000000\n",
        "",
    )


def test_json(rimp: Any, shop: Path) -> None:
    """JSON has one object per line, with nested values and exact times."""
    query = (
        "SELECT Body, Timestamp, LogAttributes, CAST('nan' AS DOUBLE) AS n, 1 AS a, 2 AS a, NULL AS z"
        " FROM otel_logs ORDER BY Timestamp LIMIT 1"
    )
    code, out, err = rimp("sql", query, "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "Body": "cart loaded",
        "Timestamp": "2026-11-18 11:06:40.018",
        "LogAttributes": {"items": "3"},
        "n": "NaN",
        "a": 1,
        "a_1": 2,
        "z": None,
    }
    assert rimp("sql", query, "--json").out == out


def test_csv(rimp: Any, record: Any) -> None:
    """In CSV, no text is a formula, and numbers stay numbers."""
    names = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "a=1", 'say "x", y']
    record(TelemetryData(spans=[span(name, at + 1) for at, name in enumerate(names)]))
    query = 'SELECT SpanName, -Duration AS "=d" FROM otel_traces ORDER BY SpanId'
    code, out, err = rimp("sql", query, "--format", "csv")
    assert (code, err) == (0, "")
    assert out.split("\n")[:6] == [
        "SpanName,'=d",
        "'=1+1,-1000000",
        "'+1,-1000000",
        "'-1,-1000000",
        "'@x,-1000000",
        "'\tx,-1000000",
    ]
    assert out.endswith('"\'\rx",-1000000\na=1,-1000000\n"say ""x"", y",-1000000\n')


@pytest.mark.parametrize("text", ["=", "+", "-", "@", "\t", "\r"])
def test_escape_formula(text: str) -> None:
    """Texts that a spreadsheet would run are escaped."""
    assert escape_formula(f"{text}x") == f"'{text}x"
    assert escape_formula(f"x{text}") == f"x{text}"


def test_parquet(rimp: Any, shop: Path, tmp_path: Path) -> None:
    """The name of the file determines the format; only its owner may read it."""
    assert rimp("sql", ERRORS, "--output", "errors.parquet", "--max-rows", "2").code == 0
    table = pyarrow.parquet.read_table("errors.parquet")
    assert table.column("SpanName").to_pylist() == ["charge card", "POST /charge"]
    assert os.stat("errors.parquet").st_mode & 0o777 == 0o600


def test_output(rimp: Any, shop: Path) -> None:
    """The format can be given or derived from the name of the file."""
    for name, first in (("x.csv", "SpanName,Duration"), ("x.json", '{"SpanName": "charge card"')):
        assert rimp("sql", ERRORS, "--output", name) == (0, "", "")
        assert Path(name).read_text().startswith(first)
    assert rimp("sql", ERRORS, "--output", "x.xlsx") == (
        2,
        "",
        "rimp: unknown format of --output x.xlsx: choose one with --format\n",
    )
    assert rimp("sql", ERRORS, "--output", "x.xlsx", "--format", "csv").code == 0


def test_max_rows(rimp: Any, shop: Path) -> None:
    """--max-rows limits the rows, with a warning."""
    out = "\n".join(["n", "0", "1", ""])
    query = "SELECT n FROM range(3) t(n)"
    assert rimp("sql", query, "--max-rows", "2") == (
        0,
        out,
        "rimp: printed only the first 2 rows (see --max-rows)\n",
    )
    assert rimp("sql", query, "--max-rows", "3") == (0, f"{out}2\n", "")
    assert len(rimp("sql", "FROM range(2500)").out.splitlines()) == 2_501


def test_recording(rimp: Any, shop: Path) -> None:
    """The recording is given as an argument or by --path."""
    shop.rename("other")
    assert "no recording at telemetry" in rimp("sql", "SELECT 1").err
    count = "SELECT count(*) AS n FROM otel_traces"
    assert rimp("sql", count, "other") == rimp("sql", count, "--path", "other") == (0, "n\n7\n", "")


def test_errors(rimp: Any, shop: Path) -> None:
    """Errors of the query are printed, with exit code 1."""
    code, out, err = rimp("sql", "SELECT x FROM otel_logs")
    assert (code, out) == (1, "")
    lines = err.splitlines()
    assert lines[0] == 'rimp: Binder Error: Referenced column "x" not found in FROM clause!'
    assert lines[-1].startswith("rimp: otel_logs has: Timestamp, TimestampTime, TraceId, ")
    code, out, err = rimp("sql", "COPY otel_logs TO 'x.csv'")
    assert (code, out) == (1, "")
    assert err.startswith("rimp: not allowed: COPY otel_logs TO 'x.csv'; a query can only read: ")
    assert not Path("x.csv").exists()


def test_timeout(rimp: Any, shop: Path) -> None:
    """--timeout stops an endless query."""
    query = "SELECT count(*) FROM range(1000000000000) t(x) WHERE x % 7 = 3"
    assert rimp("sql", query, "--timeout", "0.1") == (
        1,
        "",
        "rimp: stopped after 0.1 s: ask for less, or allow more time\n",
    )
    assert rimp("sql", query, "--timeout", "0").code == 2


def test_from_a_pipe(rimp: Any, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements can come from a pipe; the rows of the last are printed."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT 1;\nSELECT 2 AS b;\n"))
    assert rimp("sql") == (0, "b\n2\n", "")


def test_hostile_text(rimp: Any, record: Any) -> None:
    """Control characters are escaped."""
    record(TelemetryData(events=[event(HOSTILE)]))
    shown = HOSTILE_SHOWN.replace(r"\ud800", "\ufffd")
    assert rimp("sql", "SELECT Body FROM otel_logs").out == f"Body\n{shown}\n"
    out = rimp("sql", "SELECT Body FROM otel_logs", "--json").out
    assert out.isascii()
    assert json.loads(out) == {"Body": HOSTILE.replace("\ud800", "\ufffd")}


def test_plan(rimp: Any, shop: Path) -> None:
    """A plan is printed as DuckDB draws it."""
    out = rimp("sql", "EXPLAIN SELECT 1").out
    assert len(out.splitlines()) > 3
    assert "explain_value" not in out


def test_damage(rimp: Any, shop: Path) -> None:
    """Damaged lines are reported."""
    with (shop / "traces.jsonl").open("ab") as file:
        file.write(b"no JSON\n")
    assert rimp("sql", "SELECT count(*) AS n FROM otel_traces") == (
        0,
        "n\n7\n",
        "rimp: skipped 1 damaged line (see 'rimp stats')\n",
    )


def arguments(**more: Any) -> argparse.Namespace:
    """Return the options of ``rimp sql``."""
    given = {"format": "table", "max_rows": 100, "output": None, "color": "never", **more}
    return argparse.Namespace(**given)


def typed(*lines: str) -> Any:
    """Return a function that reads these lines, then Ctrl-D."""
    waiting = list(lines)

    def read(prompt: str) -> str:
        if not waiting:
            raise EOFError
        line = waiting.pop(0)
        if line == "^C":
            raise KeyboardInterrupt
        return line

    return read


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the path of the history."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def test_shell(shop: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shell runs statements over several lines, commands, and goes on after errors and interrupts."""
    read = typed(
        "SELECT count(*) AS n",
        "FROM otel_traces;",
        "",
        ".tables",
        ".format json",
        "SELECT 1 AS a;",
        "SELECT x;",
        ".format parquet",
        "SELECT",
        "^C",
        "SELECT 2 AS b;",
    )
    with connect(shop) as connection:
        assert Shell(connection, arguments(), Progress("decoding"), read).run() == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[:4] == [
        "SQL over the recording; .help prints help",
        "n",
        "7",
        "otel_traces",
    ]
    assert '{"a": 1}\nSQL ends with a semicolon.' in out
    assert out.endswith('^C\n{"b": 2}\n\n')
    assert err.startswith('rimp: Binder Error: Referenced column "x"')


def test_shell_sees_new_records(
    shop: Path, record: Any, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A statement sees records that were added before it."""
    query = "SELECT count(*) AS n FROM otel_logs;"
    lines = iter([query, query])

    def read(prompt: str) -> str:
        line = next(lines, ".quit")
        if line == query:
            record(TelemetryData(events=[event("new")]))
        return line

    with connect(shop) as connection:
        Shell(connection, arguments(), Progress("decoding"), read).run()
    assert capsys.readouterr().out.splitlines()[1:] == ["n", "4", "n", "5"]


def test_completion(shop: Path) -> None:
    """Views, columns and functions are completed, ignoring case."""
    with connect(shop) as connection:
        shell = Shell(connection, arguments(), Progress("decoding"), typed())
    found = [shell._complete("otel_m", at) for at in range(6)]
    assert found[0] == "otel_metrics_exponential_histogram"
    assert found[-1] is None
    assert shell._complete("spanna", 0) == "SpanName"
    assert shell._complete("tostartofi", 0) == "toStartOfInterval"
    assert shell._complete("nothing_like_it", 0) is None


def test_history(shop: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history is private; a directory that cannot be written to is no error."""
    with connect(shop) as connection:
        Shell(connection, arguments(), Progress("decoding"), typed(".quit")).run()
        history = home / "rimp-otel" / "sql_history"
        assert history.stat().st_mode & 0o777 == 0o600
        monkeypatch.setenv("XDG_STATE_HOME", str(shop / "traces.jsonl"))
        assert Shell(connection, arguments(), Progress("decoding"), typed(".quit")).run() == 0


def test_shell_on_a_terminal(rimp: Any, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without SQL, the shell starts on a terminal."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("XDG_STATE_HOME", str(shop / "state"))
    monkeypatch.setattr(sys, "stdin", Terminal(".quit\n"))
    code, out, _ = rimp("sql")
    assert (code, out.splitlines()[0]) == (0, "SQL over the recording; .help prints help")


def test_without_the_extra(rimp: Any, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says what to install."""
    for name in list(sys.modules):
        if name.startswith(("rimp_otel.sql", "rimp_otel.cli.sql_shell", "pyarrow")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    for argv in (["sql", "SELECT 1"], ["parquet"]):
        assert rimp(*argv) == (
            1,
            "",
            "rimp: DuckDB is not installed. Install it with: pip install 'rimp-otel[sql]'\n",
        )


def test_formats() -> None:
    """There are these formats."""
    assert FORMATS == ("table", "json", "csv", "parquet")
