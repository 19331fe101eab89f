"""``rimp parquet``: what it prints."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.storage import FileStorage


@pytest.fixture(autouse=True)
def priority(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the amounts by which the priority was lowered."""
    lowered: list[int] = []
    monkeypatch.setattr(os, "nice", lowered.append)
    return lowered


@pytest.fixture
def sealed(shop: Path) -> Path:
    """Make a recording of three sealed files."""
    storage = FileStorage(shop)
    storage.rotate()
    storage._writer.sealer.run()
    storage.close()
    return shop


def test_parquet_copies(rimp: Any, sealed: Path, priority: list[int]) -> None:
    """They are made with low priority; a second time there is nothing to do."""
    code, out, err = rimp("parquet")
    assert (code, err) == (0, "")
    assert out.startswith("converted 3 files (12 records, ")
    assert out.endswith("), 0 already converted\n")
    assert priority == [10]
    assert rimp("parquet", "--path", str(sealed)) == (
        0,
        "converted 0 files, 3 already converted\n",
        "",
    )
    assert rimp("parquet", str(sealed), "--check") == (
        0,
        "converted 0 files, 3 already converted\n",
        "",
    )
    assert rimp("parquet", "--rebuild").out.startswith("converted 3 files (")


def test_json(rimp: Any, sealed: Path) -> None:
    """JSON is one object with all counts."""
    found = json.loads(rimp("parquet", "--json").out)
    assert found.pop("bytes") > found.pop("sealed_bytes") > 0
    assert found == {
        "made": 3,
        "records": 12,
        "damaged": 0,
        "kept": 0,
        "removed": 0,
        "errors": [],
        "is_busy": False,
    }


def test_errors(rimp: Any, sealed: Path) -> None:
    """A copy that cannot be written makes exit code 1."""
    for file in (sealed / "sealed").glob("*.jsonl.zst"):
        stem = file.name.removesuffix(".jsonl.zst")
        (file.parent / f".{stem}.parquet.tmp").mkdir()
    code, out, err = rimp("parquet")
    assert (code, out) == (1, "converted 0 files, 0 already converted\n")
    assert err.count("Is a directory\n") == 3


def test_copies_are_not_reported(rimp: Any, sealed: Path) -> None:
    """``rimp verify`` reports no copies, nor those that are being made."""
    rimp("parquet")
    (sealed / "sealed" / f".logs-1-2-{'a' * 16}.parquet.tmp").write_bytes(b"")
    (sealed / "sealed" / f".logs-1-2-{'a' * 16}.parquet.tmp").chmod(0o600)
    code, out, _ = rimp("verify")
    assert code == 0
    assert "unrelated file" not in out


def test_older_name(rimp: Any, sealed: Path) -> None:
    """``rimp seal`` still works, and the list of commands does not show it."""
    assert rimp("seal").out.startswith("converted 3 files (12 records, ")
    assert "seal " not in rimp("--help").out
    assert "'rimp seal' is an older name" in rimp("parquet", "--help").out
