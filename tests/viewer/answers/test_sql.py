"""SQL over HTTP: it only reads, within limits."""

from __future__ import annotations

import json
import os
import time

import pytest

pytest.importorskip("starlette")
pytest.importorskip("duckdb")

from rimp_otel import TelemetryData
from rimp_otel.storage.recording import open_storage
from rimp_otel.viewer.answers.sql import SqlAnswers
from rimp_otel.viewer.questions import PreparingError
from tests.transport.serving import DEADLINE, JSON, span, traces
from tests.viewer.shown import OURS, Shown

ENDLESS = (
    "SELECT count(*) FROM range(10000000000) a, range(10000000000) b WHERE a.range + b.range = 7"
)


def store(path, *numbers, rotate=False):
    """Add spans to a recording."""
    with open_storage(path) as storage:
        storage.store(TelemetryData.from_otlp_json([traces(*map(span, numbers))]))
        if rotate:
            storage.rotate()


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Show a recording of a few spans."""
    path = tmp_path_factory.mktemp("sql") / "recording"
    store(path, *range(10))
    with Shown(path) as running:
        yield running


def ask(shown, sql, status=200, **fields):
    """Return the answer to a query, once copies are made that it needs."""
    body = json.dumps({"sql": sql, **fields})
    while True:
        response = shown.request("POST", "/api/sql", {**OURS, **JSON}, body)
        if response.status != 202:
            break
    assert response.status == status, response
    return response.json


def test_rows(shown):
    """Names, types and values; as many rows as are asked for."""
    answer = ask(shown, "SELECT SpanName, Duration FROM otel_traces ORDER BY Timestamp", limit=2)
    assert answer.pop("millis") > 0
    assert answer == {
        "columns": [
            {"name": "SpanName", "type": "VARCHAR"},
            {"name": "Duration", "type": "BIGINT"},
        ],
        "rows": [["span-0", 500], ["span-1", 500]],
        "is_truncated": True,
    }
    assert ask(shown, "SELECT count(*) FROM otel_traces")["rows"] == [[10]]
    assert ask(shown, "SELECT 1; SELECT 2")["rows"] == [[2]]
    assert not ask(shown, "SELECT 1 WHERE false")["is_truncated"]


def test_values(shown):
    """Exact where a browser has no such number; nested ones are JSON."""
    sql = """SELECT 9007199254740993, sum(5), 0.5, 1.25::DECIMAL(9, 2), 'nan'::DOUBLE, NULL, true,
        TIMESTAMP_NS '2026-11-24 00:00:00.000000001', [1, 2], MAP {'a': 'b'}, 'x'::BLOB, '<b>'"""
    assert ask(shown, sql)["rows"] == [
        [
            *("9007199254740993", 5, 0.5, 1.25, "nan", None, True),
            *("2026-11-24 00:00:00.000000001", "[1,2]", '{"a":"b"}', "x", "<b>"),
        ]
    ]
    (text,) = ask(shown, "SELECT repeat('x', 1000000)")["rows"][0]
    assert text == "x" * 32_768 + "…"
    assert ask(shown, "EXPLAIN SELECT 1")["columns"][0]["name"] == "explain_key"
    assert ask(shown, "DESCRIBE otel_logs")["rows"][0][:2] == ["Timestamp", "TIMESTAMP_NS"]


def test_what_came_since(shown, tmp_path):
    """Each query sees what was recorded before it."""
    store(tmp_path / "t", 1)
    with Shown(tmp_path / "t") as running:
        for number in range(2, 5):
            store(tmp_path / "t", number)
            assert ask(running, "SELECT count(*) FROM otel_traces")["rows"] == [[number]]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DROP VIEW otel_traces", "not allowed"),
        ("COPY (SELECT 1) TO '/tmp/x.csv'", "not allowed"),
        ("ATTACH '/tmp/x.db'", "not allowed"),
        ("SET memory_limit = '100GB'", "not allowed"),
        ("SELECT * FROM read_csv('/etc/passwd')", "/etc/passwd"),
        ("SELECT * FROM '/etc/passwd'", "/etc/passwd"),
        ("SELECT nothing FROM otel_traces", "otel_traces has: Timestamp"),
        ("SELECT FROM WHERE", "syntax error"),
        ("", "the query is empty"),
        ("SELECT '" + "x" * 100_000 + "'", "a query may have 100000 characters"),
    ],
)
def test_what_is_refused(shown, sql, said):
    """It only reads the recording; errors say what is wrong."""
    assert said in ask(shown, sql, 400)["error"]


def test_requests_of_another_form(shown):
    """They are told what is expected."""
    for headers, body, said in (
        ({}, "{}", "Content-Type must be application/json"),
        ({"Content-Type": "text/plain"}, '{"sql": "SELECT 1"}', "Content-Type must be"),
        (JSON, "{", 'the body must be {"sql": TEXT, "limit": N}'),
        (JSON, '{"sql": 5}', "Expected `str`, got `int`"),
        (JSON, '{"sql": "SELECT 1", "limit": 0}', "Expected `int` >= 1"),
        (JSON, " " * 1_000_001, "a query may have 1,000,000 bytes"),
    ):
        response = shown.request("POST", "/api/sql", {**OURS, **headers}, body)
        assert (response.status, said in response.json["error"]) == (400, True), response
    assert shown.request("GET", "/api/sql").status == 405


def test_limits(tmp_path):
    """A query that takes too long is ended, one that takes too much memory fails; the next is answered."""
    store(tmp_path / "t", 1)
    with Shown(tmp_path / "t", timeout=1.5) as shown:
        assert "stopped after 1.5 s" in ask(shown, ENDLESS, 504)["error"]
        body = json.dumps({"sql": "SELECT 1"})
        # Loading DuckDB may take longer than that, the first time.
        while (response := shown.request("POST", "/api/sql", {**OURS, **JSON}, body)).status != 200:
            assert response.status in (202, 504)
        assert "stopped after 1.5 s" in ask(shown, ENDLESS, 504)["error"]
        assert ask(shown, "SELECT 1")["rows"] == [[1]]
    answers = SqlAnswers(tmp_path / "t", max_memory=50_000_000)
    with pytest.raises(Exception, match=r"(?i)memory"):
        answers.query("SELECT list(repeat(i::VARCHAR, 1000)) FROM range(1000000) t(i)")
    assert answers.query("SELECT 1")["rows"] == [[1]]
    answers.close()


def test_who_asks_goes_away(shown):
    """The query is ended, and the next one is answered."""
    body = json.dumps({"sql": ENDLESS})
    connection = shown.connect()
    connection.request("POST", "/api/sql", body, {**OURS, **JSON})
    deadline = time.monotonic() + DEADLINE
    while not shown.viewer.running and time.monotonic() < deadline:
        pass
    connection.close()
    while shown.viewer.running and time.monotonic() < deadline:
        pass
    assert not shown.viewer.running
    assert ask(shown, "SELECT 1")["rows"] == [[1]]


def test_schema(shown):
    """All views, with all columns, without any reading."""
    tables = {table["name"]: table["columns"] for table in shown.get("/api/sql/schema")["tables"]}
    assert {"otel_traces", "otel_logs", "otel_metrics_gauge"} <= set(tables)
    assert tables["otel_traces"][0] == {"name": "Timestamp", "type": "TIMESTAMP_NS"}


def test_copies_that_must_be_made_first(tmp_path):
    """Whoever asks is told how far they are, until there is an answer."""
    path = tmp_path / "t"
    for number in range(5):
        store(path, number, rotate=True)
    answers = SqlAnswers(path, patience=0.0)
    told = []
    while True:
        try:
            answer = answers.query("SELECT count(*) FROM otel_traces")
            break
        except PreparingError as error:
            told.append((error.done, error.total, error.what))
    assert answer["rows"] == [[5]]
    assert {(total, what) for _, total, what in told} <= {(5, "Parquet copies")}
    assert told == sorted(told)
    answers.close()
    assert len([name for name in os.listdir(path / "sealed") if name.endswith(".parquet")]) == 5
