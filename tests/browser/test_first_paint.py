"""The benchmark of the first paint works; its measurements are not asserted here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")


def test_every_view_is_measured(chromium: Any, tmp_path: Path) -> None:
    """Each view has its figures over few spans."""
    from tests.benchmarks.first_paint import measure_paints
    from tests.benchmarks.shop import shop_path

    paints = measure_paints(chromium, shop_path(tmp_path, 6_000), 1)
    assert list(paints) == ["overview", "traces", "map"]
    assert all(0 < paint.first <= paint.complete for paint in paints.values())
