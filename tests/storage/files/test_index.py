"""The index of a sealed file: right, or not used."""

from __future__ import annotations

import os
import shutil

import pytest
import zstandard
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from rimp_otel import EventType, FileStorage, TelemetryData, TelemetryEvent
from rimp_otel.batch import decode_batch
from rimp_otel.config import TelemetryConfig
from rimp_otel.models.filters import Filter
from rimp_otel.storage.base import Selection
from rimp_otel.storage.files import blocks as compression
from rimp_otel.storage.files import chunks as seekings
from rimp_otel.storage.files import index as indexing
from rimp_otel.storage.files.index import (
    IndexFault,
    SealedFileIndex,
    build_index,
    find_index_fault,
    index_path,
    open_index,
)
from rimp_otel.storage.files.layout import Layout, SealedName
from rimp_otel.storage.files.policy import FilePolicy
from rimp_otel.storage.files.recording import FileRecording
from rimp_otel.storage.files.repair import Repair
from rimp_otel.storage.files.sealer import Sealer
from rimp_otel.storage.files.verify import Inspection, ProblemCode
from tests.storage.recordings import files, text_of

HOW = ["zstd", "gzip", "none"]
POLICY = FilePolicy.of(TelemetryConfig())


def spans(second):
    """Return two spans of one trace and one service, with the second as their number."""
    context = [SpanContext(second + 1, number, False) for number in (1, 2)]
    resource = Resource({"service.name": f"service {second % 3}"})
    start = second * 10**9
    return TelemetryData(
        spans=[
            ReadableSpan(f"name {second}", one, resource=resource, start_time=start, end_time=end)
            for one, end in zip(context, (start + 5, start + 10**6 * second), strict=True)
        ]
    )


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Make blocks of a few lines each."""
    monkeypatch.setattr(compression, "BLOCK_SIZE", 800)


@pytest.fixture(params=HOW)
def storage(request, tmp_path):
    """A storage with a sealed file of 30 lines, one a second."""
    storage = FileStorage(tmp_path / "t", compression=request.param)
    for second in range(1, 31):
        storage.store(spans(second))
    storage.rotate()
    storage.close()
    return storage


@pytest.fixture
def sealed(storage):
    """The sealed file."""
    (path,) = files(storage.layout.sealed)
    return path


@pytest.fixture
def index(sealed):
    """The index of the sealed file."""
    return index_path(sealed, SealedName.parse(sealed.name))


QUESTIONS = [
    ({"start_time": 7, "end_time": 9}, [7, 7, 8, 8]),
    ({"start_time": 29}, [29, 29, 30, 30]),
    ({"end_time": 2}, [1, 1]),
    ({"limit": 3}, [29, 30, 30]),
    ({"limit": 3, "end_time": 12}, [10, 11, 11]),
    ({"trace_id": 14}, [13, 13]),
    ({"trace_id": 99}, []),
    ({"name": "name 20"}, [20, 20]),
    ({"service": "service 1", "start_time": 24}, [25, 25, 28, 28]),
    ({"service": "none"}, []),
    ({"service": "service 2", "name": "name 3"}, []),
    ({"min_duration": 0.029}, [29, 30]),
    ({"min_duration": 0.02, "limit": 2}, [29, 30]),
]


def answers(path, questions=QUESTIONS):
    """Return the answers to questions, in seconds."""
    storage = FileStorage(path)
    return [
        [span.start_time // 10**9 for span in storage.retrieve(**question).spans]
        for question, _ in questions
    ]


EXPECTED = [expected for _, expected in QUESTIONS]


def test_made_while_sealing(storage, sealed, index):
    """The index is private, complete, and equal to one that is made later."""
    name = SealedName.parse(sealed.name)
    assert index.stat().st_mode & 0o777 == 0o600
    with sealed.open("rb") as file:
        assert index.read_bytes() == build_index(file, name.compression)
    assert find_index_fault(sealed, name) is None
    with open_index(sealed, name) as opened:
        rows = [row for i in range(len(opened.blocks)) for row in opened.rows(i)]
        assert [row.first for row in rows] == [second * 10**9 for second in range(1, 31)]
        assert [row.most for row in rows] == [second * 10**6 for second in range(1, 31)]
        assert sum(block.compressed for block in opened.blocks) == sealed.stat().st_size
        assert [block.number for block in opened.blocks][:3] == [1, 3, 5]


def test_answers(storage, sealed):
    """The answers are right with an index, and without one."""
    assert answers(storage.layout.path) == EXPECTED


LINES = [2, 2, 1, 2, 3, 1, 0, 1, 2, 0, 0, 2, 2]
BLOCKS = [1, 1, 1, 1, 2, 1, 0, 1, 2, 0, 0, 1, 1]


@pytest.mark.parametrize("number", range(len(QUESTIONS)))
def test_decodes_no_more_than_it_takes(storage, number):
    """Only the lines that hold the answer are decoded, also without an index."""
    conditions = {"start_time": None, "end_time": None, "limit": None, **QUESTIONS[number][0]}
    for _ in range(2):
        read = []

        def decode(line, read=read):
            read.append(line)
            return decode_batch(line)

        reader = FileRecording(storage.layout.path, decode)
        reader.retrieve(Selection.of(**conditions))
        assert len(read) == LINES[number]
        for index in storage.layout.sealed.glob("*.idx"):
            index.unlink()


@pytest.mark.parametrize("number", range(len(QUESTIONS)))
def test_unpacks_no_more_than_it_takes(storage, sealed, monkeypatch, number):
    """Only the blocks that hold the answer are decompressed."""
    unpacked = []
    original = seekings.decompress

    def unpack(packed, how):
        unpacked.append(packed)
        return original(packed, how)

    monkeypatch.setattr(seekings, "decompress", unpack)
    FileStorage(storage.layout.path).retrieve(**QUESTIONS[number][0])
    is_packed = storage.policy.compression != "none"
    assert len(unpacked) == is_packed * BLOCKS[number]


def test_missing(storage, sealed, index):
    """Without its index the file is read, and none is made."""
    index.unlink()
    assert answers(storage.layout.path) == EXPECTED
    assert not index.exists()


@pytest.mark.one_python
@pytest.mark.parametrize("how", ["zstd"])
def test_damaged_at_every_offset(tmp_path, how, monkeypatch):
    """An index that is cut off or has a flipped byte never leads to a wrong answer."""
    monkeypatch.setattr(indexing, "_BUCKET", 2)
    storage = FileStorage(tmp_path / "t", compression=how)
    for second in (1, 7, 8, 13, 20, 25, 28, 29, 30):
        storage.store(spans(second))
    storage.rotate()
    (sealed,) = files(storage.layout.sealed)
    index = index_path(sealed, SealedName.parse(sealed.name))
    whole = index.read_bytes()
    # One by each thing that an index knows: times, order, traces, names, durations.
    questions = [QUESTIONS[number] for number in (0, 3, 5, 7, 11)]
    expected = answers(tmp_path / "t", questions)
    assert expected[0] == [7, 7, 8, 8]
    for offset in range(len(whole)):
        index.write_bytes(whole[:offset] + bytes([whole[offset] ^ 0x41]) + whole[offset + 1 :])
        assert answers(tmp_path / "t", questions) == expected, offset
        if not offset % 7:
            index.write_bytes(whole[:offset])
            assert answers(tmp_path / "t", questions) == expected, offset


@pytest.mark.parametrize("what", ["empty", "text", "zeros", "directory", "link", "pipe", "other"])
def test_foreign(storage, sealed, index, tmp_path, what):
    """Anything may have the name of the index."""
    whole = index.read_bytes()
    index.unlink()
    if what == "directory":
        index.mkdir()
    elif what == "link":
        (tmp_path / "elsewhere").write_bytes(whole)
        index.symlink_to(tmp_path / "elsewhere")
    elif what == "pipe":
        os.mkfifo(index)
    elif what == "other":
        other = FileStorage(tmp_path / "o", compression=storage.policy.compression)
        other.store(spans(40))
        other.rotate()
        shutil.copy(next((tmp_path / "o" / "sealed").glob("*.idx")), index)
    else:
        index.write_bytes({"empty": b"", "text": b"hello\n" * 99, "zeros": bytes(999)}[what])
    assert answers(storage.layout.path) == EXPECTED


def test_of_what_the_file_was_before(storage, sealed, index, tmp_path):
    """The index of a file of another size, or that has changed since, is not used."""
    other = FileStorage(tmp_path / "o", compression=storage.policy.compression)
    for second in range(30, 0, -1):
        other.store(spans(second))
    other.rotate()
    (path,) = files(other.layout.sealed)
    shutil.copy(path, sealed)
    os.utime(sealed, (5, 5))
    assert answers(storage.layout.path) == EXPECTED
    name = SealedName.parse(sealed.name)
    with open_index(sealed, name) as opened:
        assert opened is None


def test_of_a_copied_recording(storage, sealed, index, tmp_path):
    """A copied file with checksums keeps its index; one without is read."""
    shutil.copytree(storage.layout.path, tmp_path / "copy", copy_function=shutil.copyfile)
    copy = tmp_path / "copy" / "sealed" / sealed.name
    name = SealedName.parse(sealed.name)
    os.utime(copy, (5, 5))
    with open_index(copy, name) as opened:
        assert (opened is None) == (name.compression == "none")
    assert answers(tmp_path / "copy") == EXPECTED


def test_damaged_block(storage, sealed):
    """A damaged block costs itself, and is named where it is met."""
    name = SealedName.parse(sealed.name)
    if name.compression == "none":
        pytest.skip("it has no blocks")
    with open_index(sealed, name) as opened:
        block = opened.blocks[3]
    packed, status = bytearray(sealed.read_bytes()), sealed.stat()
    packed[block.offset + block.compressed // 2] ^= 0xFF
    sealed.write_bytes(packed)
    os.utime(sealed, ns=(status.st_atime_ns, status.st_mtime_ns))
    storage = FileStorage(storage.layout.path)
    found = [span.start_time // 10**9 for span in storage.retrieve(6, 12).spans]
    assert found == [6, 6, 9, 9, 10, 10, 11, 11]
    end = block.offset + block.compressed
    assert [tuple(damaged) for damaged in storage.damaged] == [
        (sealed, 7, f"bytes {block.offset} to {end} cannot be decompressed")
    ]
    assert len(storage.retrieve(20, 22).spans) == 4
    assert storage.damaged == []


def test_damaged_lines(tmp_path):
    """Damaged lines are met by each question that their block may answer, and named."""
    storage = FileStorage(tmp_path / "t")
    for second in range(1, 5):
        storage.store(spans(second))
    active = tmp_path / "t" / "traces.jsonl"
    active.write_bytes(active.read_bytes() + b"no json\n")
    storage.store(spans(9))
    storage.rotate()
    for question in ({"start_time": 9}, {"trace_id": 10}, {"name": "name 9"}):
        found = FileStorage(tmp_path / "t")
        assert [span.name for span in found.retrieve(**question).spans] == ["name 9"] * 2
        assert [damaged.line for damaged in found.damaged] == [5]
    assert len(FileStorage(tmp_path / "t").retrieve(trace_id=2).spans) == 2


def test_lines_that_go_on_in_the_next_block(storage, sealed, index):
    """A file that other tools compressed is read as a whole, and its index says so."""
    name = SealedName.parse(sealed.name)
    if name.compression != "zstd":
        pytest.skip("one is enough")
    text = text_of(sealed)
    pack = zstandard.ZstdCompressor(write_content_size=True).compress
    sealed.write_bytes(b"".join(pack(text[i : i + 777]) for i in range(0, len(text), 777)))
    assert answers(storage.layout.path) == EXPECTED
    indexing.make_index(sealed, name)
    assert SealedFileIndex.of_bytes(index.read_bytes()).is_blank
    assert find_index_fault(sealed, name) is None
    assert answers(storage.layout.path) == EXPECTED


def test_the_blocks_of_many_traces(storage, sealed):
    """They are those of each."""
    with open_index(sealed, SealedName.parse(sealed.name)) as opened:
        each = [opened.candidates(Filter.of(trace_id=number)) for number in range(1, 40)]
        assert opened.blocks_of_traces(range(1, 40)) == sorted({n for own in each for n in own})
        assert opened.blocks_of_traces([14]) == each[13]
        assert opened.blocks_of_traces([]) == []


def test_too_many_names(tmp_path, monkeypatch):
    """Too many names are not noted; the rest is."""
    monkeypatch.setattr(indexing, "_MAX_LABELS", 8)
    storage = FileStorage(tmp_path / "t")
    for second in range(1, 31):
        storage.store(spans(second))
    storage.rotate()
    (sealed,) = files(storage.layout.sealed)
    with open_index(sealed, SealedName.parse(sealed.name)) as opened:
        assert len(opened.candidates(Filter.of(name="name 3"))) == opened.head.blocks
        assert opened.candidates(Filter.of(service="none")) == []
    assert answers(tmp_path / "t") == EXPECTED


def test_full_disk_costs_only_the_index(tmp_path, monkeypatch):
    """On a full disk the file is sealed; the next sealing makes the index."""
    storage = FileStorage(tmp_path / "t")
    storage.store(spans(1))
    with monkeypatch.context() as full:

        def no_room_for_an_index(source, target, rename=os.rename):
            if str(target).endswith(".idx"):
                raise OSError(28, "No space left on device")
            rename(source, target)

        full.setattr(os, "rename", no_room_for_an_index)
        storage.rotate()
    (sealed,) = files(storage.layout.sealed)
    assert sealed.name.endswith(".zst")
    assert sorted(storage.layout.sealed.iterdir()) == [sealed]
    Sealer(storage.layout, POLICY).run()
    assert find_index_fault(sealed, SealedName.parse(sealed.name)) is None


def test_sealer_makes_one_at_a_time(tmp_path):
    """The sealer makes one index at a time for files without a usable one."""
    storage = FileStorage(tmp_path / "t")
    for second in range(1, 4):
        storage.store(spans(second))
        storage.rotate()
    made = sorted(storage.layout.sealed.glob("*.idx"))
    made[0].unlink()
    made[2].write_bytes(b"damaged")
    sealer = Sealer(storage.layout, POLICY)

    def faults():
        return [
            find_index_fault(path, SealedName.parse(path.name))
            for path in files(storage.layout.sealed)
        ]

    assert faults() == [IndexFault.MISSING, None, IndexFault.DAMAGED]
    sealer.run()
    assert faults() == [IndexFault.MISSING, None, None]
    sealer.run()
    assert faults() == [None, None, None]


def test_verified_and_repaired(tmp_path):
    """A wrong index is no damage; a repair makes it, and removes orphans."""
    storage = FileStorage(tmp_path / "t")
    for second in range(1, 5):
        storage.store(spans(second))
        storage.rotate()
    storage.close()
    sealed = files(storage.layout.sealed)
    made = [index_path(path, SealedName.parse(path.name)) for path in sealed]
    made[0].unlink()
    made[1].write_bytes(made[1].read_bytes()[:-1] + b"?")
    left = made[2].with_name(made[2].name.replace("traces-", "logs-"))
    made[2].rename(left)
    sealed[3].unlink()
    problems = list(Inspection(storage.layout).problems())
    assert sorted((p.path, p.code, p.is_damage) for p in problems) == sorted(
        [
            (made[0], ProblemCode.INDEX_MISSING, False),
            (made[1], ProblemCode.INDEX_WRONG, False),
            (made[2], ProblemCode.INDEX_MISSING, False),
            (made[3], ProblemCode.ORPHAN, False),
            (left, ProblemCode.ORPHAN, False),
        ]
    )
    repair = Repair(Layout(tmp_path / "t"), POLICY, lambda slot, storage: (0, 0, ""))
    # The sealer of the repair makes the first that it meets.
    assert sorted((a.path, a.code.value) for a in repair.run()) == sorted(
        [
            (made[0], "indexed"),
            (made[1], "indexed"),
            (made[3], "removed_orphan"),
            (left, "removed_orphan"),
        ]
    )
    assert list(Inspection(storage.layout).problems()) == []
    assert list(repair.run()) == []


def test_goes_along(storage, sealed, index):
    """The index is renamed and deleted with its file."""
    name = SealedName.parse(sealed.name)
    wrong = name._replace(first=name.last)
    sealed.rename(sealed.with_name(str(wrong)))
    index.rename(index_path(sealed, wrong))
    assert [a.code.value for a in Repair(storage.layout, POLICY, lambda *_: (0, 0, "")).run()] == [
        "renamed"
    ]
    assert find_index_fault(sealed, name) is None
    Sealer(storage.layout, POLICY._replace(retain_size=1)).run()
    assert list(storage.layout.sealed.iterdir()) == []


def test_other_signals(tmp_path):
    """Log records are found by severity, metrics by name."""
    storage = FileStorage(tmp_path / "t")
    kinds = list(EventType)
    for number in range(20):
        kind = kinds[0] if number != 7 else EventType.ERROR
        event = TelemetryEvent("a", "x" * 300, kind, time_unix_nano=number * 10**9, trace_id=number)
        storage.store(TelemetryData([event]))
    storage.rotate()
    assert len(storage.retrieve(severity=EventType.ERROR).events) == 1
    assert [event.trace_id for event in storage.retrieve(trace_id=9).events] == [9]
