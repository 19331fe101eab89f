"""SQL over recordings, and the Parquet copies of sealed files. Needs the extra ``sql``.

Public are ``connect``, ``Connection`` and ``QueryError``. Imports the models, ``otlp`` and ``storage``.
Importing this package imports neither DuckDB nor PyArrow: the first connection does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import rimp_otel.sql
from rimp_otel.errors import QueryError
from rimp_otel.lazy_exports import export_lazily
from rimp_otel.models.records import Signal

if TYPE_CHECKING:
    from rimp_otel.sql.connection import Connection as Connection


def connect(
    path: str | os.PathLike[str],
    timeout: float | None = None,
    progress: Callable[[Signal, int, int], None] | None = None,
    max_memory: int | None = None,
) -> rimp_otel.sql.Connection:  # loaded when asked for, by `typing.get_type_hints` too
    """Return a DuckDB connection with views over everything that is recorded at ``path``.

    The views are ``otel_traces``, ``otel_logs``, ``otel_metrics_gauge``, ``…_sum``, ``…_histogram``,
    ``…_exponential_histogram`` and ``…_summary``; docs/sql.md lists their columns. A query sees what
    was recorded before it began: in files, also sealed ones, and in the journals of living and of
    dead processes. It can read nothing else, and change nothing. What it has to decode of sealed
    files is kept beside them, as Parquet copies.

    Args:
        path: as given to FileStorage or SQLiteStorage. There need be nothing yet.
        timeout: seconds that a statement may take; None for any.
        progress: called before a sealed file is decoded, with its signal, the number of files that are
            decoded already, and the number of all that have to be.
        max_memory: bytes that queries may take, and again as many in temporary files; None for DuckDB's
            own limits.

    Raises:
        ConfigurationError: ``timeout`` is no number above 0.
        MissingExtraError: the extra ``sql`` is not installed.
    """
    from rimp_otel.sql.connection import Connection

    return Connection(path, timeout, progress, max_memory)


export_lazily(__name__, {"Connection": "rimp_otel.sql.connection"})
__all__ = ["Connection", "QueryError", "connect"]
