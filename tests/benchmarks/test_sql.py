"""The benchmark of SQL works; its measurements are not asserted here."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.sql import measure


def test_every_figure_is_there(tmp_path: Path) -> None:
    """All figures are measured over few spans; the benchmark raises if answers differ."""
    rows = measure(tmp_path, spans=1_000, rounds=1, json_spans=None)
    rows = [row for row in rows if "chDB" not in f"{row}"]  # a peer, where it is installed
    assert [what.split(",")[0] for what, *_ in rows] == [
        "sealing",
        "memory of sealing all",
        "Parquet",
        "p99 by operation over 1",
        "one trace by its id",
        "active JSON lines into p99 by operation",
        "active JSON lines into a table of all columns",
    ]
    assert all(figure and target for _, figure, target, _ in rows)
