"""ClickHouse's parametric functions, ``quantile(0.99)(Duration)``, which no macro can have.

``quantile(0.99)(`` becomes ``_quantile(0.99, ``, a macro. Everything else stays as it is, and so does
what stands in texts and comments.
"""

from __future__ import annotations

import re

from rimp_otel.query.extras import duckdb

__all__ = ["QUANTILES", "translated"]

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
