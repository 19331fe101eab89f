"""What a query may do: read the views, and nothing else.

DuckDB itself keeps it from files and extensions; that no statement but one that reads is run at
all is checked here, by DuckDB's own parser.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rimp_otel.errors import QueryError
from rimp_otel.query.dialect import QUANTILES
from rimp_otel.query.extras import duckdb
from rimp_otel.query.views import MACROS, VIEWS

__all__ = ["close_off", "explained", "reading_statements"]

_EXPLAIN = re.compile(r"\s*EXPLAIN\b\s*(?:ANALYZE\b\s*)?(?:\([^()]*\)\s*)?", re.IGNORECASE)
_PIVOT = re.compile(r"\s*(?:PIVOT|UNPIVOT)\b", re.IGNORECASE)
_REFUSED = (
    "a query can only read: SELECT, FROM, WITH, VALUES, DESCRIBE, SHOW, SUMMARIZE, PIVOT and"
    " EXPLAIN of those"
)


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
            raise QueryError(f"not allowed: {_shown(statement.query)}; {_REFUSED}")
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
