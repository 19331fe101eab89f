"""The sandbox: a query can read the recording and do nothing else, in ClickHouse's words too."""

from __future__ import annotations

import os
import threading

import pytest

from rimp_otel.errors import ConfigurationError, QueryError
from rimp_otel.sql import connect
from rimp_otel.sql.sandbox import translate_statement
from tests.sql.conftest import ask, seal_now

NOT_ALLOWED = [
    "COPY otel_traces TO '{outside}/x.csv'",
    "COPY (SELECT 1) TO '{sealed}/x.parquet' (USE_TMP_FILE false)",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{outside}/x.csv'",
    "EXPLAIN (ANALYZE) COPY (SELECT 1) TO '{outside}/x.csv'",
    "EXPORT DATABASE '{outside}/x'",
    "ATTACH '{outside}/x.db'",
    "ATTACH ':memory:' AS x",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CREATE TABLE x AS SELECT 1",
    "CREATE VIEW otel_logs AS SELECT 1",
    "CREATE MACRO now() AS 1",
    "CREATE SECRET (TYPE s3)",
    "DROP VIEW otel_traces",
    "INSERT INTO otel_logs VALUES (1)",
    "DELETE FROM otel_logs",
    "UPDATE otel_logs SET Body = ''",
    "SET threads = 1",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "PRAGMA enable_profiling",
    "CALL enable_logging()",
    "BEGIN",
    "CHECKPOINT",
    "VACUUM",
    "PREPARE x AS SELECT 1",
    "SELECT 1; COPY (SELECT 1) TO '{outside}/x.csv'",
]
REFUSED = [
    "IMPORT DATABASE '{outside}'",
    "SELECT * FROM read_csv('{outside}/secret.csv')",
    "SELECT * FROM read_text('{outside}/secret.csv')",
    "SELECT * FROM read_blob('{outside}/secret.csv')",
    "SELECT * FROM '{outside}/secret.csv'",
    "SELECT * FROM glob('{outside}/*')",
    "SELECT * FROM sniff_csv('{outside}/secret.csv')",
    "SELECT * FROM read_parquet('{sealed}/../../secret.parquet')",
    "SELECT * FROM parquet_metadata('{outside}/secret.csv')",
    "SELECT * FROM enable_logging(storage='file', storage_path='{outside}/log')",
    "SELECT * FROM query('COPY (SELECT 1) TO ''{outside}/x.csv''')",
    "WITH x AS (DELETE FROM otel_logs RETURNING *) SELECT * FROM x",
    "SELECT * FROM local_variable",
    "SELECT getenv('HOME')",
    'SELECT * FROM "enable_logging" /* why */ ()',
    "SELECT * FROM system.main.enable_logging()",
    "SELECT * FROM checkpoint()",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM query('SELECT * FROM enable_' || 'logging()')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "SELECT ü, 'enable_logging(' FROM (SELECT 1 AS ü), enable_logging()",
]
ALLOWED = [
    "SELECT 1",
    "FROM otel_logs",
    "VALUES (1)",
    "WITH x AS (SELECT 1) FROM x",
    "DESCRIBE otel_logs",
    "SHOW TABLES",
    "SUMMARIZE otel_logs",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE FROM otel_logs",
    "TABLE otel_logs",
    "SELECT 1; SELECT 2",
    "SELECT * FROM query_table('otel_' || 'logs')",
    "SELECT 'enable_logging()', 1 AS checkpoint -- enable_logging()",
    "SELECT * FROM duckdb_settings()",
    "-- why\nSELECT /* not */ 1",
]


@pytest.fixture
def places(tmp_path, path, storage, everything_stored):
    """A recording with sealed files, and a secret beside it."""
    seal_now(storage)
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    return {"outside": str(tmp_path), "sealed": str(path / "sealed")}


def file_names(directory):
    """The names of all files below a directory."""
    return sorted(name for _, _, names in os.walk(directory) for name in names)


@pytest.mark.parametrize("sql", NOT_ALLOWED)
def test_statements_that_do_more_than_read(tmp_path, places, connection, sql):
    """They are not run, and the message says what is allowed."""
    ask(connection, "SELECT (SELECT count(*) FROM otel_traces) + (SELECT count(*) FROM otel_logs)")
    ask(connection, "FROM otel_metrics_sum")
    before = file_names(tmp_path)
    with pytest.raises(QueryError, match=r"^not allowed: .*; a query can only read: SELECT, "):
        connection.execute(sql.format(**places))
    with pytest.raises(QueryError, match=r"^not allowed: "):
        connection.sql(sql.format(**places))
    assert file_names(tmp_path) == before


@pytest.mark.parametrize("sql", REFUSED)
def test_functions_that_do_more_than_read(tmp_path, places, connection, sql):
    """They are refused, here or by DuckDB."""
    local_variable = connection.sql("SELECT 1").to_arrow_table()
    assert local_variable.num_rows == 1
    ask(connection, "SELECT (SELECT count(*) FROM otel_traces) + (SELECT count(*) FROM otel_logs)")
    ask(connection, "FROM otel_metrics_sum")
    before = file_names(tmp_path)
    with pytest.raises(QueryError):
        ask(connection, sql.format(**places))
    assert file_names(tmp_path) == before


@pytest.mark.parametrize("sql", ALLOWED)
def test_what_is_allowed(connection, sql):
    """All statements that only read are allowed."""
    assert connection.execute(sql).fetchall() is not None
    assert connection.sql(sql) is not None


def test_wrong_column(connection):
    """The message lists the columns."""
    with pytest.raises(QueryError) as error:
        connection.execute("SELECT Nam FROM otel_traces")
    lines = str(error.value).splitlines()
    assert lines[0] == 'Binder Error: Referenced column "Nam" not found in FROM clause!'
    assert lines[-1].startswith("otel_traces has: Timestamp, TraceId, SpanId, ParentSpanId, ")


def test_wrong_view(connection):
    """The message lists the views."""
    with pytest.raises(
        QueryError, match=r"\nthere are: otel_traces, otel_traces_trace_id_ts, otel_"
    ):
        connection.execute("SELECT * FROM otel_trace")


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT (", "'"])
def test_wrong_syntax(connection, sql):
    """The message is DuckDB's."""
    with pytest.raises(QueryError, match=r"^Parser Error: "):
        connection.execute(sql)


@pytest.mark.parametrize("sql", ["", " ;", "-- nothing"])
def test_no_query(connection, sql):
    """The message says what to give."""
    with pytest.raises(
        QueryError, match=r"^the query is empty: give a SELECT, or DESCRIBE otel_tr"
    ):
        connection.execute(sql)


def test_endless_query(path):
    """A query ends after the timeout; the connection can still be used."""
    with connect(path, timeout=0.2) as connection:
        with pytest.raises(QueryError, match=r"^stopped after 0\.2 s: ask for less, or allow more"):
            connection.execute("SELECT count(*) FROM range(1000000000000) t(x) WHERE x % 7 = 3")
        assert ask(connection, "SELECT 1") == [(1,)]
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


@pytest.mark.parametrize("timeout", [0, -1, "1"])
def test_timeout_is_checked(path, timeout):
    """The timeout must be a number above 0."""
    with pytest.raises(ConfigurationError, match=f"^timeout must be .* above 0, got {timeout!r}$"):
        connect(path, timeout=timeout)


@pytest.mark.parametrize(
    ("sql", "translated"),
    [
        ("SELECT quantile(0.99)(Duration)", "SELECT _quantile(0.99, Duration)"),
        ("SELECT quantile ( 0.5 ) (x)", "SELECT _quantile( 0.5 , x)"),
        ("SELECT quantiles(0.5, 0.9)(x)", "SELECT _quantile([0.5, 0.9], x)"),
        ("SELECT quantileTDigest(.9)(x)", "SELECT _quantile(.9, x)"),
        ("SELECT quantileExact(0.9)(x)", "SELECT _quantileExact(0.9, x)"),
        ("SELECT quantilesExactIf(0.9)(x, c)", "SELECT _quantilesExactIf([0.9], x, c)"),
        ("SELECT 'ü', quantileIf(0.9)(x, c)", "SELECT 'ü', _quantileIf(0.9, x, c)"),
        ("SELECT 'quantile(0.99)(x)'", "SELECT 'quantile(0.99)(x)'"),
        ("SELECT 1 -- quantile(0.99)(x)", "SELECT 1 -- quantile(0.99)(x)"),
        ('SELECT "quantile(0.99)(x)"', 'SELECT "quantile(0.99)(x)"'),
        ("SELECT quantile(x, 0.5)", "SELECT quantile(x, 0.5)"),
        ("SELECT current_timestamp, 'current_timestamp'", "SELECT now(), 'current_timestamp'"),
        ("SELECT CURRENT_TIMESTAMP()", "SELECT now()"),
        ("SELECT t.current_timestamp", "SELECT t.current_timestamp"),
        ("SELECT quantile_cont(x, 0.5)", "SELECT quantile_cont(x, 0.5)"),
    ],
)
def test_translation(sql, translated):
    """Parametric functions are translated, but for those in literals and comments."""
    assert translate_statement(sql) == translated


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ("quantile(0.5)(x)", 4.5),
        ("quantiles(0, 0.5, 1)(x)", [0.0, 4.5, 9.0]),
        ("quantileExact(0.5)(x)", 5),
        ("quantileIf(0.5)(x, x < 3)", 1.0),
        ("round(quantile(0.99)(x) / 2, 2)", 4.46),
    ],
)
def test_quantiles(connection, call, value):
    """Quantiles of the numbers from 0 to 9."""
    assert ask(connection, f"SELECT {call} FROM range(10) t(x)") == [(value,)]


def test_translated_statements_are_checked(connection):
    """Translated or not, a statement that does more than read is refused."""
    with pytest.raises(Exception, match=r"^not allowed: "):
        connection.execute("COPY (SELECT quantile(0.5)(x) FROM range(3) t(x)) TO 'x.csv'")
