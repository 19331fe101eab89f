"""Retrieving from files and journals, and from no more files than it takes."""

from __future__ import annotations

import random

import pytest

from rimp_otel import FileStorage, MemoryStorage, TelemetryData, TelemetryEvent
from rimp_otel.storage.files import snapshot as snapshots
from rimp_otel.storage.files.layout import SealedName
from tests.storage.journaled import Journaled


def at(*seconds):
    """Events at these times, which are also their messages."""
    return TelemetryData(
        events=[
            TelemetryEvent("a", str(second), time_unix_nano=int(second * 1e9)) for second in seconds
        ]
    )


def messages(data):
    """Of its events."""
    return [event.message for event in data.events]


@pytest.fixture
def storage(tmp_path):
    """Three sealed files, and an active one."""
    storage = FileStorage(tmp_path / "t")
    for seconds in ((10, 11, 19), (20, 29), (25, 35)):
        storage.store(at(*seconds))
        storage.rotate()
    storage.store(at(40, 15))
    return storage


@pytest.fixture
def opened(monkeypatch):
    """The first times in the names of the sealed files that were opened."""
    opened = []
    original = snapshots.open_data_file

    def find(content, sealed):
        name = content.name
        opened.append(name.first // 10**9 if isinstance(name, SealedName) else None)
        return original(content, sealed)

    monkeypatch.setattr(snapshots, "open_data_file", find)
    return opened


def test_everything_in_order(storage, opened):
    """Of all files."""
    assert messages(storage.retrieve()) == ["10", "11", "15", "19", "20", "25", "29", "35", "40"]
    assert opened == [25, 20, 10]


@pytest.mark.parametrize(
    ("start", "end", "found", "read"),
    [
        (20, 26, ["20", "25"], [25, 20]),
        (None, 20, ["10", "11", "15", "19"], [10]),
        (29, None, ["29", "35", "40"], [25, 20]),
        (36, None, ["40"], []),
        (19, 20, ["19"], [10]),
        (35, 35, [], [25]),
        (50, 60, [], []),
    ],
)
def test_a_range(storage, opened, start, end, found, read):
    """Reads the files that may hold some of it, as their names say."""
    assert messages(storage.retrieve(start, end)) == found
    assert opened == read


@pytest.mark.parametrize(
    ("limit", "found", "read"),
    [
        (0, [], []),
        (1, ["40"], []),
        (2, ["35", "40"], [25]),
        (4, ["25", "29", "35", "40"], [25, 20]),
        (5, ["20", "25", "29", "35", "40"], [25, 20]),
        (7, ["15", "19", "20", "25", "29", "35", "40"], [25, 20, 10]),
    ],
)
def test_a_limit(storage, opened, limit, found, read):
    """Reads from the newest file on, until there are enough."""
    assert messages(storage.retrieve(limit=limit)) == found
    assert opened == read


def test_records_without_a_time(tmp_path):
    """Are those of 1970."""
    storage = FileStorage(tmp_path / "t")
    storage.store(TelemetryData(events=[TelemetryEvent("a", "timeless", time_unix_nano=0)]))
    storage.rotate()
    storage.store(at(5))
    assert messages(storage.retrieve(limit=1)) == messages(storage.retrieve(start_time=1))
    assert len(storage.retrieve()) == 2


def test_journals(tmp_path):
    """Of living processes and of dead ones."""
    first, second = Journaled(tmp_path / "t"), Journaled(tmp_path / "t")
    first.collect("1")
    second.collect("2")
    second.die()
    assert sorted(messages(FileStorage(tmp_path / "t").retrieve())) == ["1", "2"]
    first.close()
    assert sorted(messages(FileStorage(tmp_path / "t").retrieve())) == ["1", "2"]


@pytest.mark.parametrize("seed", range(20))
def test_the_same_as_the_storage_in_memory(tmp_path, seed):
    """For any files, ranges and limits."""
    chance = random.Random(seed)
    storage, memory = FileStorage(tmp_path / "t", rotate_size=1_000), MemoryStorage()
    for number in range(chance.randrange(60)):
        # All times differ: of two with the same, which one is the newest is anybody's guess.
        seconds = [chance.randrange(1000) + (7 * number + i) / 10_000 for i in range(4)]
        data = at(*seconds[: chance.randrange(1, 4)])
        storage.store(data)
        memory.store(data)
        if chance.random() < 0.1:
            storage.rotate()
    for _ in range(20):
        start, end = chance.choice([None, chance.randrange(1000)]), chance.randrange(1000)
        limit = chance.choice([None, chance.randrange(50)])
        expected = memory.retrieve(start, end, limit)
        assert messages(storage.retrieve(start, end, limit)) == messages(expected)
    storage.rotate()


def test_absolute(tmp_path, monkeypatch):
    """Reads where it writes, also after a change of the working directory."""
    monkeypatch.chdir(tmp_path)
    storage = FileStorage("t")
    storage.store(at(1))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert messages(storage.retrieve()) == ["1"]
