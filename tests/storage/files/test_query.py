"""Retrieving from files and journals: few files are read, and batches come in order."""

from __future__ import annotations

import random

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from rimp_otel import (
    ConfigurationError,
    EventType,
    FileStorage,
    MemoryStorage,
    StorageError,
    TelemetryData,
    TelemetryEvent,
    TelemetryMetric,
)
from rimp_otel.storage.base import with_times
from rimp_otel.storage.files import blocks as compression
from rimp_otel.storage.files import query as sweep
from rimp_otel.storage.files import snapshot as snapshots
from rimp_otel.storage.files.layout import SealedName
from tests.storage.journaled import Journaled
from tests.storage.recordings import files


def at(*seconds):
    """Return events at these times, which are also their messages."""
    return TelemetryData(
        events=[
            TelemetryEvent("a", str(second), time_unix_nano=int(second * 1e9)) for second in seconds
        ]
    )


def messages(data):
    """Return the messages of the events."""
    return [event.message for event in data.events]


@pytest.fixture
def storage(tmp_path):
    """A storage with three sealed files, and an active one."""
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
    """The records of all files come in order."""
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
    """Only files whose names overlap the range are read."""
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
    """Files are read from the newest on, until there are enough records."""
    assert messages(storage.retrieve(limit=limit)) == found
    assert opened == read


def test_records_without_a_time(tmp_path):
    """Records without a time are those of 1970."""
    storage = FileStorage(tmp_path / "t")
    storage.store(TelemetryData(events=[TelemetryEvent("a", "timeless", time_unix_nano=0)]))
    storage.rotate()
    storage.store(at(5))
    assert messages(storage.retrieve(limit=1)) == messages(storage.retrieve(start_time=1))
    assert len(storage.retrieve()) == 2


def test_journals(tmp_path):
    """Journals of living processes and of dead ones are read."""
    first, second = Journaled(tmp_path / "t"), Journaled(tmp_path / "t")
    first.collect("1")
    second.collect("2")
    second.die()
    assert sorted(messages(FileStorage(tmp_path / "t").retrieve())) == ["1", "2"]
    first.close()
    assert sorted(messages(FileStorage(tmp_path / "t").retrieve())) == ["1", "2"]


@pytest.mark.parametrize("seed", range(20))
def test_the_same_as_the_storage_in_memory(tmp_path, seed):
    """Files, ranges and limits of any kind give what memory gives."""
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
    """Reading finds what was written, also after the working directory changed."""
    monkeypatch.chdir(tmp_path)
    storage = FileStorage("t")
    storage.store(at(1))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert messages(storage.retrieve()) == ["1"]


# Batches in order, in little memory.


def some(chance, number):
    """Return a few records of all signals, some of them long before the others."""
    late = chance.random() < 0.2
    times = [
        10**9 * (chance.randrange(1, 1 + number) if late else number) + chance.randrange(10**8)
        for _ in range(4)
    ]
    kind = chance.choice(list(EventType))
    spans = [
        ReadableSpan("s", SpanContext(chance.randrange(1, 9), 1, False), start_time=time)
        for time in times[:2]
    ]
    return TelemetryData(
        [TelemetryEvent("a", "m", kind, time_unix_nano=times[2])],
        [TelemetryMetric("m", 1, time_unix_nano=times[3])],
        spans,
    )


def all_times(batches):
    """Return the times of each batch, in order."""
    return [sorted(time for time, _, _ in with_times(batch)) for batch in batches]


CONDITIONS = [
    {},
    {"start_time": 20, "end_time": 40},
    {"signals": ["logs", "metrics"]},
    {"trace_id": 3},
    {"severity": EventType.WARNING, "end_time": 50},
    {"name": "m"},
]


@pytest.mark.one_python
@pytest.mark.parametrize("most", [0, 10, 100_000])
@pytest.mark.parametrize("seed", range(8))
def test_the_same_as_retrieve(tmp_path, monkeypatch, seed, most):
    """Batches hold what retrieve returns, whatever lies where, and however few may wait."""
    chance = random.Random(seed)
    monkeypatch.setattr(compression, "BLOCK_SIZE", 2_000)
    monkeypatch.setattr(sweep, "MAX_WAITING", most)
    monkeypatch.setattr(sweep, "_MAX_OPEN", 2)
    storage, memory = FileStorage(tmp_path / "t"), MemoryStorage()
    for number in range(1, 61):
        data = some(chance, number)
        storage.store(data)
        memory.store(data)
        if chance.random() < 0.15:
            storage.rotate()
    for index in list(storage.layout.sealed.glob("*.idx"))[::3]:
        index.unlink()
    for conditions in CONDITIONS:
        expected = sorted(time for time, _, _ in with_times(memory.retrieve(**conditions)))
        for each in (storage, memory):
            found = all_times(each.iter_retrieve(**conditions, batch_size=7))
            assert [time for batch in found for time in batch] == expected
            assert all(len(batch) == 7 for batch in found[:-1])
        assert sorted(time for time, _, _ in with_times(storage.retrieve(**conditions))) == expected


def test_few_wait(tmp_path, monkeypatch):
    """Few records wait, though each block has a span of the very beginning."""
    monkeypatch.setattr(compression, "BLOCK_SIZE", 1_000)
    monkeypatch.setattr(sweep, "MAX_WAITING", 20)
    storage = FileStorage(tmp_path / "t")
    for number in range(1, 101):
        times = [number, *(10**6 * number + i for i in range(9))]
        storage.store(
            TelemetryData([TelemetryEvent("a", "m", time_unix_nano=time) for time in times])
        )
    storage.rotate()
    waiting = []
    original = sweep.heappush

    def heappush(heap, item):
        original(heap, item)
        waiting.append(sum(isinstance(item[-1], tuple) and len(item) == 4 for item in heap))

    monkeypatch.setattr(sweep, "heappush", heappush)
    batches = list(storage.iter_retrieve(batch_size=10))
    found = [event.time_unix_nano for batch in batches for event in batch.events]
    assert found == sorted(found)
    assert len(set(found)) == 1_000
    assert max(waiting) < 60


def test_journals_too(tmp_path):
    """Batches include the journals of living processes and of dead ones."""
    first, second = Journaled(tmp_path / "t"), Journaled(tmp_path / "t")
    first.collect("1")
    first.drain()
    first.collect("2")
    second.collect("3")
    second.die()
    batches = list(FileStorage(tmp_path / "t").iter_retrieve(batch_size=2))
    messages = [event.message for batch in batches for event in batch.events]
    assert messages == ["1", "2", "3"]
    assert [len(batch) for batch in batches] == [2, 1]
    first.close()


def test_damaged_lines_are_named_once(tmp_path):
    """A damaged line is named once, also in a file that is read as a whole."""
    storage = FileStorage(tmp_path / "t")
    storage.store(TelemetryData([TelemetryEvent("a", "1")]))
    active = tmp_path / "t" / "logs.jsonl"
    active.write_bytes(active.read_bytes() + b"no json\n")
    storage.store(TelemetryData([TelemetryEvent("a", "2")]))
    for _ in range(2):
        batches = list(storage.iter_retrieve())
        assert [event.message for batch in batches for event in batch.events] == ["1", "2"]
        assert [damaged.line for damaged in storage.damaged] == [2]
        storage.rotate()


def test_deleted_while_it_is_read(tmp_path):
    """A file that is deleted meanwhile is no error."""
    storage = FileStorage(tmp_path / "t")
    for number in range(3):
        storage.store(TelemetryData([TelemetryEvent("a", "m", time_unix_nano=number + 1)]))
        storage.rotate()
    batches = storage.iter_retrieve(batch_size=1)
    assert next(batches).events[0].time_unix_nano == 1
    for path in storage.layout.sealed.iterdir():
        path.unlink()
    assert list(batches) == []


def test_replaced_while_it_is_read(tmp_path, monkeypatch):
    """A file that a repair replaced is an error: positions in it mean nothing any more."""
    monkeypatch.setattr(compression, "BLOCK_SIZE", 100)
    monkeypatch.setattr(sweep, "_MAX_OPEN", 1)
    storage = FileStorage(tmp_path / "t")
    for numbers in ((1, 3, 5), (2, 4, 6)):
        for number in numbers:
            storage.store(TelemetryData([TelemetryEvent("a", "m", time_unix_nano=number)]))
        storage.rotate()
    batches = storage.iter_retrieve(batch_size=1)
    assert [next(batches).events[0].time_unix_nano for _ in range(2)] == [1, 2]
    for path in files(storage.layout.sealed):
        path.with_name("new").write_bytes(path.read_bytes())
        path.with_name("new").rename(path)
    with pytest.raises(StorageError, match="another file has taken its place; begin again"):
        list(batches)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_wrong_arguments_are_named_at_once(tmp_path, kind):
    """A wrong argument is an error at once, not with the first batch."""
    storage = MemoryStorage() if kind == "memory" else FileStorage(tmp_path / "t")
    for size in (0, -1, 1.5, True, "5", None):
        with pytest.raises(
            ConfigurationError, match=f"batch_size must be an integer >= 1, got {size!r}"
        ):
            storage.iter_retrieve(batch_size=size)
    with pytest.raises(ConfigurationError, match="'soon' is not a point in time"):
        storage.iter_retrieve("soon")
    with pytest.raises(ConfigurationError, match="severity must be an EventType"):
        storage.iter_retrieve(severity=-1)
    assert list(storage.iter_retrieve()) == []
