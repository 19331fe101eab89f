"""The packages of the extra ``sql``: DuckDB answers, PyArrow makes columns and Parquet.

Whatever needs them imports them from here, so that without them there is one clear error.
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
