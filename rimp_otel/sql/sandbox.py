"""What a query may do: read the views, and nothing else.

DuckDB itself keeps it from files and extensions. That no statement but one that reads is run, and
no table function that does something else, is checked here, by DuckDB's own parser.
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
from rimp_otel.sql.views import MACROS, VIEWS

__all__ = ["QUANTILES", "close_off", "explained", "reading_statements", "translated"]


# --- ClickHouse's parametric functions, ``quantile(0.99)(Duration)``, which no macro can have.

QUANTILES = (
    "_quantile(p, x) AS quantile_cont(x, p)",
    "_quantileIf(p, x, c) AS quantile_cont(CASE WHEN c THEN x END, p)",
    "_quantileExact(p, x) AS quantile_disc(x, p)",
    "_quantileExactIf(p, x, c) AS quantile_disc(CASE WHEN c THEN x END, p)",
)
"""The macros: of one quantile, or of a list of them."""

_CALL = re.compile(
    r"\bquantile(?P<several>s)?(?P<kind>Exact|TDigest|Timing|BFloat16)?(?P<condition>If)?"
    r"\s*\((?P<levels>\s*[0-9.]+\s*(?:,\s*[0-9.]+\s*)*)\)\s*\(",
    re.IGNORECASE,
)


def translated(sql: str) -> str:
    """The query in DuckDB's words. Text that does not parse stays as it is."""
    if not _CALL.search(sql):
        return sql
    # Where each of DuckDB's tokens begins, in bytes; a text or a comment is one token, or none.
    starts = {start for start, _ in duckdb.tokenize(sql)}
    return _CALL.sub(
        lambda call: _translated(call) if len(sql[: call.start()].encode()) in starts else call[0],
        sql,
    )


def _translated(call: re.Match[str]) -> str:
    exact = "Exact" if (call["kind"] or "").lower() == "exact" else ""
    levels = f"[{call['levels']}]" if call["several"] else call["levels"]
    return f"_quantile{exact}{'If' if call['condition'] else ''}({levels}, "


# --- What a query may do: read the views, and nothing else.

_EXPLAIN = re.compile(r"\s*EXPLAIN\b\s*(?:ANALYZE\b\s*)?(?:\([^()]*\)\s*)?", re.IGNORECASE)
_PIVOT = re.compile(r"\s*(?:PIVOT|UNPIVOT)\b", re.IGNORECASE)
# Table functions that only read, and read only what may be read. There are others, in each version
# of DuckDB more: they log into files, run what they are given, or take a text for an address.
_HARMLESS = re.compile(
    r"(?:duckdb|parquet|pragma|read)_\w+|query_table|range|generate_series|unnest|repeat|repeat_row"
    r"|json_each|json_tree|glob|sniff_csv|histogram|histogram_values|summary|show\w*|version"
    r"|pg_timezone_names|icu_calendar_names|test_all_types|test_vector_types"
)
_NAME = re.compile(r'"(?:[^"]|"")*"|\w+')
_REFUSED = (
    "a query can only read: SELECT, FROM, WITH, VALUES, DESCRIBE, SHOW, SUMMARIZE, PIVOT and"
    " EXPLAIN of those"
)

# What DuckDB keeps of files' contents: one that is replaced, since it was damaged, would be read from
# there (seen with DuckDB 1.5).
_CONTENT_CACHE = "enable_external_file_cache"


def close_off(raw: Any, directories: Sequence[Path], spill: Path) -> None:
    """Prepares a connection for queries of others, and lets nobody undo that.

    Args:
        raw: DuckDB's connection.
        directories: what may be read.
        spill: the directory for what does not fit into memory.
    """
    allowed = [f"{directory}/" for directory in directories]
    raw.execute("SET TimeZone = 'UTC'")
    raw.execute("SET python_enable_replacements = false")
    raw.execute("SET autoinstall_known_extensions = false")
    raw.execute("SET autoload_known_extensions = false")
    raw.execute("SET parquet_metadata_cache = true")
    raw.execute(f"SET temp_directory = {_literal(str(spill))}")
    raw.execute(f"SET allowed_directories = [{', '.join(map(_literal, allowed))}]")
    try:
        raw.execute(f"SET {_CONTENT_CACHE} = false")
    except duckdb.Error:  # a version that has no such cache
        pass
    raw.execute("SET enable_external_access = false")
    for macro in (*MACROS, *QUANTILES):
        raw.execute(f"CREATE MACRO {macro}")
    raw.execute("SET lock_configuration = true")


def reading_statements(raw: Any, sql: str) -> list[str]:
    """The statements of a query, all of which only read.

    Raises:
        QueryError: one does not parse, or does something else; or there is none.
    """
    try:
        statements = raw.extract_statements(sql)
    except duckdb.Error as error:
        raise explained(raw, error) from None
    if not statements:
        raise QueryError("the query is empty: give a SELECT, or DESCRIBE otel_traces")
    for statement in statements:
        if not _reads(raw, statement):
            raise QueryError(f"not allowed: {_shown(statement.query or sql)}; {_REFUSED}")
    for name in _calls(sql):
        if name in _harmful():
            raise QueryError(f"not allowed: {name}(); it does more than read the recording")
    return [statement.query for statement in statements]


def _reads(raw: Any, statement: Any) -> bool:
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
def _harmful() -> frozenset[str]:
    """The names of the table functions that are not known to be harmless."""
    with duckdb.connect() as connection:
        sql = (
            "SELECT DISTINCT lower(function_name) FROM duckdb_functions()"
            " WHERE function_type IN ('table', 'pragma', 'table_macro')"
        )
        names = [name for (name,) in connection.execute(sql).fetchall()]
    return frozenset(name for name in names if not _HARMLESS.fullmatch(name))


def _calls(sql: str) -> Iterator[str]:
    """The names of the functions that are called, in lower case."""
    text = sql.encode()
    tokens = [start for start, kind in duckdb.tokenize(sql) if "comment" not in str(kind)]
    for start, following in pairwise(tokens):
        name = _NAME.match(text[start:following].decode())
        if name is not None and text[following : following + 1] == b"(":
            yield name[0].strip('"').replace('""', '"').lower()


def _shown(query: str) -> str:
    text = " ".join(query.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def explained(raw: Any, error: Exception, sql: str = "") -> QueryError:
    """An error of DuckDB's in our words; where a name was wrong, with those that there are."""
    text = str(error).strip()
    if isinstance(error, duckdb.CatalogException) and "Table with name" in text:
        text = re.sub(r"\nDid you mean [^\n]*", "", text)
        return QueryError(f"{text}\nthere are: {', '.join(VIEWS)}")
    if isinstance(error, duckdb.BinderException):
        named = [view for view in VIEWS if re.search(rf"\b{view}\b", sql, re.IGNORECASE)]
        lines = [f"{view} has: {', '.join(_columns(raw, view))}" for view in named]
        return QueryError("\n".join([text, *lines]))
    return QueryError(text)


def _columns(raw: Any, view: str) -> list[str]:
    return [row[0] for row in raw.execute(f"DESCRIBE {view}").fetchall()]


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
