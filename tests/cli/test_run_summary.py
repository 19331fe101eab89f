"""Counting the records that are added to a recording."""

from __future__ import annotations

from pathlib import Path

import pytest

from rimp_otel import FileStorage
from rimp_otel.cli.run_summary import AddedRecords
from rimp_otel.models.records import Signal
from tests.contract.samples import everything
from tests.storage.journaled import Journaled
from tests.storage.recordings import batch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a recording with sealed, active and journaled records."""
    storage = FileStorage(tmp_path / "t")
    storage.store(everything())
    storage.rotate()
    storage.store(everything())
    process = Journaled(tmp_path / "t")
    process.collect("before")
    process.die()
    return tmp_path / "t"


def test_no_new_records(path: Path) -> None:
    """Earlier records are not counted."""
    added = AddedRecords(path)
    assert (added.count().total(), added.size) == (0, 0)


def test_new_recording(tmp_path: Path) -> None:
    """Added records are counted by signal."""
    added = AddedRecords(tmp_path / "t")
    FileStorage(tmp_path / "t").store(everything())
    assert added.count() == {Signal.TRACES: 2, Signal.LOGS: 10, Signal.METRICS: 7}
    files = (tmp_path / "t").glob("*.jsonl")
    assert added.size == sum(file.stat().st_size for file in files)


def test_records_in_all_places(path: Path) -> None:
    """Sealed, active, or left by a killed process in its journal; what was left there before, and
    is stored now, does not count."""
    added = AddedRecords(path)
    process = Journaled(path)
    process.collect("1")
    process.drain()
    process.storage.rotate()
    process.collect("2", "3")
    process.drain()
    process.collect("4")
    process.die()
    storage = FileStorage(path)
    storage.store(batch("5"))
    storage.rotate()
    assert added.count() == {Signal.LOGS: 5}
    assert added.count() == {Signal.LOGS: 5}


def test_damage(path: Path) -> None:
    """Damaged lines are not counted."""
    added = AddedRecords(path)
    with (path / "logs.1.jsonl").open("ab") as file:
        file.write(b"damaged\n")
    FileStorage(path).store(batch("1"))
    assert added.count() == {Signal.LOGS: 1}


def test_unreadable_recording(path: Path) -> None:
    """An unreadable recording raises nothing."""
    added = AddedRecords(path)
    (path / "logs.7.jsonl").mkdir()
    assert added.count().total() == 0
