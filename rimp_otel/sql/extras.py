"""The packages of the extra ``sql``: DuckDB answers queries, PyArrow makes columns and Parquet files.

Modules import them from here, so that without them there is one clear error.
"""

from __future__ import annotations

from rimp_otel.errors import MissingExtraError

__all__ = ["duckdb", "pyarrow"]

try:
    import duckdb
    import pyarrow
    import pyarrow.compute
    import pyarrow.parquet
except ImportError as error:
    name = "PyArrow" if (error.name or "").startswith("pyarrow") else "DuckDB"
    raise MissingExtraError(name, "sql") from error
