"""The benchmark of answers works; its measurements are not asserted here."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("lark")

from tests.benchmarks.shop import shop_path
from tests.benchmarks.viewing import measure


def test_every_figure_is_there(tmp_path: Path) -> None:
    """All figures are measured over few spans."""
    rows = measure(shop_path(tmp_path, 6_000), spans=6_000, rounds=1)
    assert len(rows) == 1 + 13 + 4
    assert all(figure for _, figure, *_ in rows)
