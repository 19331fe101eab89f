"""The sandbox of queries, which can read the views and do nothing else.

DuckDB itself keeps a query from files and extensions. Here its statements and table functions are
checked, by DuckDB's own parser: all must be known to read only. ClickHouse's parametric functions are
translated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from rimp_otel.errors import QueryError
from rimp_otel.sql.extras import duckdb
from rimp_otel.sql.views import MACROS, VIEWS, quote_literal

__all__ = ["QUANTILES", "check_statements", "explain_error", "lock_down", "translate_statement"]


# What no macro can define: ClickHouse's parametric functions, such as ``quantile(0.99)(Duration)``,
# and ``current_timestamp``.

QUANTILES = (
    "_quantile(p, x) AS quantile_cont(x, p)",
    "_quantileIf(p, x, c) AS quantile_cont(CASE WHEN c THEN x END, p)",
    # Of four values, ClickHouse's exact median is the third, DuckDB's the second.
    "_exact_index(p, n) AS least(CAST(floor(p * n) AS BIGINT) + 1, n)",
    "_quantileExact(p, x) AS"
    " list_sort(list(x) FILTER (WHERE x IS NOT NULL))[_exact_index(p, count(x))]",
    "_quantileExactIf(p, x, c) AS _quantileExact(p, CASE WHEN c THEN x END)",
    "_quantilesExact(p, x) AS list_select(list_sort(list(x) FILTER (WHERE x IS NOT NULL)),"
    " list_transform(p, lambda q: _exact_index(q, count(x))))",
    "_quantilesExactIf(p, x, c) AS _quantilesExact(p, CASE WHEN c THEN x END)",
)
"""Macros for one quantile, or for a list of them."""

_CALL = re.compile(
    r"\bquantile(?P<several>s)?(?P<kind>Exact|TDigest|Timing|BFloat16)?(?P<condition>If)?"
    r"\s*\((?P<levels>\s*[0-9.]+\s*(?:,\s*[0-9.]+\s*)*)\)\s*\("
    # DuckDB's has a time zone, which the times of a recording have not.
    r"|(?<![.])(?<!\bAS )\b(?P<now>current_timestamp)\b(?!\s*[.])(?:\s*\(\s*\))?",
    re.IGNORECASE,
)


def translate_statement(sql: str) -> str:
    """Return the statements with parametric functions, and ``current_timestamp``, as calls of macros.
    Text that does not parse stays as it is."""
    if not _CALL.search(sql):
        return sql
    # Where DuckDB's tokens begin, in bytes; a literal or a comment is one token, or none.
    starts = {start for start, _ in duckdb.tokenize(sql)}
    return _CALL.sub(
        lambda call: _macro_call(call) if len(sql[: call.start()].encode()) in starts else call[0],
        sql,
    )


def _macro_call(call: re.Match[str]) -> str:
    if call["now"]:
        return "now()"
    exact = "Exact" if (call["kind"] or "").lower() == "exact" else ""
    several = "s" if call["several"] and exact else ""
    levels = f"[{call['levels']}]" if call["several"] else call["levels"]
    return f"_quantile{several}{exact}{'If' if call['condition'] else ''}({levels}, "


# What a statement may do.

_EXPLAIN = re.compile(r"\s*EXPLAIN\b\s*(?:ANALYZE\b\s*)?(?:\([^()]*\)\s*)?", re.IGNORECASE)
_PIVOT = re.compile(r"\s*(?:PIVOT|UNPIVOT)\b", re.IGNORECASE)
# Table functions that only read, and read only what may be read. Others, of which each version of
# DuckDB has more, log into files, run their arguments, or take a text for an address.
_HARMLESS_FUNCTIONS = re.compile(
    r"(?:duckdb|parquet|pragma|read)_\w+|query_table|range|generate_series|unnest|repeat|repeat_row"
    r"|json_each|json_tree|glob|sniff_csv|histogram|histogram_values|summary|show\w*|version"
    r"|pg_timezone_names|icu_calendar_names|test_all_types|test_vector_types"
)
_NAME = re.compile(r'"(?:[^"]|"")*"|\w+')
_WHAT_IS_ALLOWED = (
    "a query can only read: SELECT, FROM, WITH, VALUES, DESCRIBE, SHOW, SUMMARIZE, PIVOT and"
    " EXPLAIN of those"
)

# DuckDB's cache of the contents of files: a damaged file that is replaced would still be read from
# there (seen with DuckDB 1.5).
_CONTENT_CACHE = "enable_external_file_cache"


def lock_down(
    raw: Any, directories: Sequence[Path], spill: Path, max_memory: int | None = None
) -> None:
    """Restrict a connection to reading, define the macros, and lock its configuration.

    Args:
        raw: a connection of DuckDB's.
        directories: whose files may be read.
        spill: the directory for data that do not fit into memory.
        max_memory: bytes that queries may take, and again as many in that directory; None for DuckDB's
            own limits.
    """
    allowed = [f"{directory}/" for directory in directories]
    raw.execute("SET TimeZone = 'UTC'")
    raw.execute("SET python_enable_replacements = false")
    raw.execute("SET autoinstall_known_extensions = false")
    raw.execute("SET autoload_known_extensions = false")
    raw.execute("SET parquet_metadata_cache = true")
    raw.execute(f"SET temp_directory = {quote_literal(str(spill))}")
    raw.execute(f"SET allowed_directories = [{', '.join(map(quote_literal, allowed))}]")
    try:
        raw.execute(f"SET {_CONTENT_CACHE} = false")
    except duckdb.Error:  # a version that has no such cache
        pass
    if max_memory is not None:
        raw.execute(f"SET memory_limit = '{max_memory}B'")
        raw.execute(f"SET max_temp_directory_size = '{max_memory}B'")
    raw.execute("SET enable_external_access = false")
    for macro in (*MACROS, *QUANTILES):
        raw.execute(f"CREATE MACRO {macro}")
    raw.execute("SET lock_configuration = true")


def check_statements(raw: Any, sql: str) -> list[str]:
    """Return the statements of a query, if all of them only read.

    Raises:
        QueryError: there is no statement, or one that does not parse or does more.
    """
    try:
        statements = raw.extract_statements(sql)
    except duckdb.Error as error:
        raise explain_error(raw, error) from None
    if not statements:
        raise QueryError("the query is empty: give a SELECT, or DESCRIBE otel_traces")
    for statement in statements:
        if not _is_read_only(raw, statement):
            raise QueryError(
                f"not allowed: {_shorten_query(statement.query or sql)}; {_WHAT_IS_ALLOWED}"
            )
    for name in _called_functions(sql):
        if name in _refused_functions():
            raise QueryError(f"not allowed: {name}(); it does more than read the recording")
    return [statement.query for statement in statements]


def _is_read_only(raw: Any, statement: Any) -> bool:
    kinds = duckdb.StatementType
    if statement.type == kinds.SELECT:
        return True
    if statement.type == kinds.MULTI:
        return _PIVOT.match(statement.query) is not None
    explain = _EXPLAIN.match(statement.query) if statement.type == kinds.EXPLAIN else None
    if explain is None:
        return False
    inner = raw.extract_statements(statement.query[explain.end() :])
    return len(inner) == 1 and bool(inner[0].type == kinds.SELECT)


@cache
def _refused_functions() -> frozenset[str]:
    """Return the names of all table functions that are not known to be harmless."""
    with duckdb.connect() as connection:
        sql = (
            "SELECT DISTINCT lower(function_name) FROM duckdb_functions()"
            " WHERE function_type IN ('table', 'pragma', 'table_macro')"
        )
        names = [name for (name,) in connection.execute(sql).fetchall()]
    return frozenset(name for name in names if not _HARMLESS_FUNCTIONS.fullmatch(name))


def _called_functions(sql: str) -> Iterator[str]:
    """Yield the names of the functions that are called, in lower case."""
    text = sql.encode()
    tokens = [start for start, kind in duckdb.tokenize(sql) if "comment" not in str(kind)]
    for start, following in pairwise(tokens):
        name = _NAME.match(text[start:following].decode())
        if name is not None and text[following : following + 1] == b"(":
            yield name[0].strip('"').replace('""', '"').lower()


def _shorten_query(query: str) -> str:
    text = " ".join(query.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def explain_error(raw: Any, error: Exception, sql: str = "") -> QueryError:
    """Return an error of DuckDB's as ours, with the names that exist if one was wrong."""
    text = str(error).strip()
    if isinstance(error, duckdb.CatalogException) and "Table with name" in text:
        text = re.sub(r"\nDid you mean [^\n]*", "", text)
        return QueryError(f"{text}\nthere are: {', '.join(VIEWS)}")
    if isinstance(error, duckdb.BinderException):
        named = [view for view in VIEWS if re.search(rf"\b{view}\b", sql, re.IGNORECASE)]
        lines = [f"{view} has: {', '.join(_view_columns(raw, view))}" for view in named]
        return QueryError("\n".join([text, *lines]))
    return QueryError(text)


def _view_columns(raw: Any, view: str) -> list[str]:
    return [row[0] for row in raw.execute(f"DESCRIBE {view}").fetchall()]
