"""Looking through a recording for damage of every kind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from rimp_otel import FileStorage, TelemetryData, TelemetryMetric
from rimp_otel.errors import DecodeError
from rimp_otel.journal.format import HEADER_SIZE
from rimp_otel.models.records import Signal
from rimp_otel.storage.files import verify as inspection_module
from rimp_otel.storage.files.layout import Layout, SealedName
from rimp_otel.storage.files.verify import Inspection, ProblemCode, parse_line, parse_line_strictly
from tests.storage.journaled import Journaled
from tests.storage.recordings import batch, text_of


def inspect(path, **options):
    """Return a finished inspection, and what it found."""
    look = Inspection(Layout(path), **options)
    return look, list(look.problems())


def found(path):
    """Return what is damaged, as (name of the file, line or offset, code, detail)."""
    return [
        (p.path.name, p.line if p.line is not None else p.offset, p.code, p.detail)
        for p in inspect(path)[1]
        if p.is_damage
    ]


def remarks(path):
    """Return the remarks, as (name, code, detail)."""
    return [(p.path.name, p.code, p.detail) for p in inspect(path)[1] if not p.is_damage]


@pytest.fixture
def path(tmp_path):
    """The path of a recording with files of all kinds, and no writer: 3 lines in each file of log
    records, and 40 records waiting in a journal."""
    path = tmp_path / "t"
    for compression in ("zstd", "gzip", "none"):
        storage = FileStorage(path, compression=compression)
        for text in "abc":
            storage.store(batch(*(f"{compression} {text}{number}" for number in range(10))))
        storage.rotate()
        storage.close()
    process = Journaled(path)
    for number in range(3):
        process.collect(f"{number}", f"{number} again")
        process.drain()
    process.collect(*map(str, range(40)))
    process.die()
    return path


def sealed(path, suffix):
    """Return the sealed file of that suffix."""
    (found,) = [p for p in (path / "sealed").iterdir() if p.name.endswith(suffix)]
    return found


def test_whole(path):
    """Nothing is damaged, everything is counted, nothing is changed."""
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in path.rglob("*") if p.is_file()}
    look, problems = inspect(path)
    assert problems == []
    assert (look.tally.files, look.tally.lines, look.tally.interrupted) == (4, 12, 0)
    assert look.tally.records == {Signal.LOGS: 96}
    (slot,) = look.slots
    assert (slot.is_owned, slot.is_left, slot.records) == (False, True, {Signal.LOGS: 40})
    assert slot.waiting > 40 * 50
    assert slot.signature["pid"] == os.getpid()
    assert before == {
        p: (p.stat().st_mtime_ns, p.stat().st_size) for p in path.rglob("*") if p.is_file()
    }


def test_damaged_line(path):
    """A damaged line is found with its place and its cost."""
    file = path / "logs.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    size = len(lines[1])
    file.write_bytes(lines[0] + b"x" + lines[1][1:] + lines[2])
    (problem,) = inspect(path)[1]
    assert problem.place == f"{file}:2"
    assert problem.code is ProblemCode.BAD_LINE
    assert problem.detail.startswith("JSON is ")
    assert (problem.lost_bytes, problem.lost_records, problem.signal) == (size, 2, Signal.LOGS)
    assert not problem.is_in_use


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_flipped_byte_in_a_sealed_file(path, suffix):
    """A flipped byte is found wherever it makes something unreadable, with the size of it."""
    file = sealed(path, suffix)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.write_bytes(data)
    (problem,) = inspect(path)[1]
    assert problem.path == file
    assert problem.lost_bytes > 100 or suffix == ".jsonl.gz"
    assert problem.code in (ProblemCode.BAD_LINE, ProblemCode.BAD_BLOCK)


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst"])
def test_cut_sealed_file(path, suffix):
    """A file that ends too early is damaged, wherever it was cut."""
    file = sealed(path, suffix)
    data = file.read_bytes()
    for size in range(0, len(data), 7):
        file.write_bytes(data[:size])
        assert [problem.path for problem in inspect(path)[1]] == [file], size


def test_names(path):
    """The id must be that of the first line, the times those of the records."""
    first, second = sealed(path, ".zst"), sealed(path, ".gz")
    name = SealedName.parse(first.name)
    first.rename(first.with_name(str(name._replace(id="0123456789abcdef"))))
    name = SealedName.parse(second.name)
    second.rename(second.with_name(str(name._replace(first=1, last=name.last - 1))))
    third = SealedName.parse(sealed(path, ".jsonl").name)
    wider = third._replace(first=third.first - 5, last=third.last + 5)
    sealed(path, ".jsonl").rename(path / "sealed" / str(wider))
    assert sorted((p.path.suffix, p.lost_bytes, p.code) for p in inspect(path)[1]) == [
        (".gz", 0, ProblemCode.WRONG_TIMES),
        (".idx", 0, ProblemCode.INDEX_MISSING),
        (".idx", 0, ProblemCode.ORPHAN),
        (".idx", 0, ProblemCode.ORPHAN),
        (".idx", 0, ProblemCode.ORPHAN),
        (".zst", 0, ProblemCode.WRONG_ID),
    ]


def test_deliberately_other_id(path):
    """A file whose id was taken has another one, and that is right."""
    file = sealed(path, ".zst")
    name = SealedName.parse(file.name)
    shutil.copy(file, file.with_name(str(name._replace(id="0123456789abcdef"))))
    assert found(path) == []


def test_torn_tail(path):
    """A torn tail that the journal knows of is none; any other is damage, or a remark."""
    file = path / "logs.jsonl"
    whole = file.read_bytes()
    with file.open("ab") as opened:
        opened.write(whole[:100])
    assert found(path) == []  # the journal has what was being written there
    shutil.rmtree(path / "journal")
    assert found(path) == [("logs.jsonl", 4, ProblemCode.BAD_LINE, "Input data was truncated")]
    file.write_bytes(whole[:-1])
    assert found(path) == []
    assert remarks(path) == [("logs.jsonl", ProblemCode.UNENDED_LINE, "")]


def test_living_writer(tmp_path):
    """A line that is just being written is not damage; a damaged line before it is."""
    path = tmp_path / "t"
    process = Journaled(path)
    process.collect("a")
    process.drain()
    process.collect("b")
    file = path / "logs.jsonl"
    whole = file.read_bytes()
    with file.open("ab") as opened:
        opened.write(whole[:100])
    look, problems = inspect(path)
    assert problems == []
    assert look.slots[0].is_owned
    assert look.slots[0].records == {Signal.LOGS: 1}
    file.write_bytes(b"x" + whole[1:] + whole)
    (problem,) = inspect(path)[1]
    assert problem.line == 1
    assert problem.is_in_use
    process.die()


def test_damaged_frame(path):
    """A damaged frame in a journal is named by its offset."""
    segment, _ = sorted((path / "journal").glob("*.seg"))  # and the spare
    data = bytearray(segment.read_bytes())
    end = data.rindex(b"\n")
    start = data.rindex(b"\nl", 0, end) + 1
    data[start : start + 1] = b"?"
    segment.write_bytes(data)
    assert found(path) == [(segment.name, start, ProblemCode.BAD_JOURNAL, "it is no frame")]
    assert start > HEADER_SIZE


def test_put_aside(path):
    """A quarantined file is damage, until it is repaired."""
    segment, _ = sorted((path / "journal").glob("*.seg"))  # and the spare
    segment.rename(segment.with_name(segment.name + ".damaged"))
    assert found(path) == [(segment.name + ".damaged", None, ProblemCode.QUARANTINED, "")]


def test_damaged_open_spans(path):
    """A damaged table of open spans is named."""
    (path / "journal" / "000009.open").write_bytes(b"nonsense")
    assert found(path) == [
        ("000009.open", 0, ProblemCode.BAD_JOURNAL, "open spans in it are damaged")
    ]


def test_leftovers_and_foreign_files(path):
    """Stale and foreign files are remarks, and no damage."""
    for name in ("notes.txt", "journal/notes", "sealed/x.jsonl", "traces.01.jsonl"):
        (path / name).write_text("x")
    for name in (".logs.jsonl.tmp-77", "journal/000009.tmp", "sealed/.logs-0123456789abcdef.tmp-7"):
        (path / name).write_text("x")
    assert found(path) == []
    assert sorted(remarks(path)) == [
        (".logs-0123456789abcdef.tmp-7", ProblemCode.STALE, ""),
        (".logs.jsonl.tmp-77", ProblemCode.STALE, ""),
        ("000009.tmp", ProblemCode.STALE, ""),
        ("notes", ProblemCode.FOREIGN, ""),
        ("notes.txt", ProblemCode.FOREIGN, ""),
        ("traces.01.jsonl", ProblemCode.FOREIGN, ""),
        ("x.jsonl", ProblemCode.FOREIGN, ""),
    ]


def test_what_is_beside_a_family_is_not_looked_at(tmp_path):
    """Only what is named like a family's files is looked at."""
    storage = FileStorage(tmp_path / "app.jsonl")
    storage.store(batch("a"))
    storage.close()
    for name in ("syslog", "app-notes.txt", "apples"):
        (tmp_path / name).write_text("x")
    assert remarks(tmp_path / "app.jsonl") == [("app-notes.txt", ProblemCode.FOREIGN, "")]


def test_exposed_files(path):
    """Files that others may read, and links, are remarks."""
    (path / "logs.jsonl").chmod(0o644)
    (path / "sealed").chmod(0o750)
    (path / "traces.1.jsonl").symlink_to("/etc/hostname")
    assert sorted(remarks(path)) == [
        ("logs.jsonl", ProblemCode.EXPOSED_FILE, "644"),
        ("sealed", ProblemCode.EXPOSED_DIRECTORY, "750"),
        ("traces.1.jsonl", ProblemCode.LINK, ""),
    ]


def test_seal_that_did_not_end(path):
    """A file and what was sealed of it hold the same, and count once."""
    file = sealed(path, ".zst")
    name = SealedName.parse(file.name)
    waiting = name._replace(first=None, last=None, compression="none")
    copy = path / "sealed" / str(waiting)
    copy.write_bytes(text_of(file))
    copy.chmod(0o600)
    look, problems = inspect(path)
    assert look.tally.lines == 12
    assert [(p.code, p.detail) for p in problems if not p.is_damage] == [
        (ProblemCode.DUPLICATE, file.name)
    ]
    assert [p.name for p in look.waiting] == [str(waiting)]


def test_sealed_while_it_is_looked_at(path, monkeypatch):
    """A file that goes away is met under its new name."""
    storage = FileStorage(path)
    storage.store(batch("new"))

    def started(file):
        if file == path / "logs.jsonl":
            storage.rotate()

    look, problems = inspect(path, started=started)
    assert problems == []
    assert look.tally.records[Signal.LOGS] == 97
    storage.close()
    assert inspection_module._ROUNDS > 1


def test_nothing(tmp_path):
    """An empty place is whole."""
    look, problems = inspect(tmp_path / "t")
    assert (problems, look.slots, look.kept, look.tally.files) == ([], [], [], 0)


def test_kept(path):
    """What earlier repairs kept is listed, and not read."""
    (path / "damaged").mkdir(mode=0o700)
    (path / "damaged" / "x.jsonl").write_text("nonsense")
    look, problems = inspect(path)
    assert problems == []
    assert look.kept == [path / "damaged" / "x.jsonl"]


def test_parse():
    """The records of a line are counted."""
    data = TelemetryData(metrics=[TelemetryMetric("m", 1), TelemetryMetric("m", 2)])
    (line,) = data.otlp_json(Signal.METRICS)
    assert (parse_line(line), parse_line_strictly(line)) == (2, 2)


def test_parse_strictly():
    """What only protobuf refuses is refused, and the message says by whom."""
    pytest.importorskip("google.protobuf")
    deep = b'{"arrayValue":{"values":[' * 60 + b'{"intValue":"1"}' + b"]}}" * 60
    line = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":%s}]}]}]}' % deep
    assert parse_line(line) == 1
    with pytest.raises(DecodeError, match=r"^protobuf: "):
        parse_line_strictly(line)


def test_progress(path):
    """Each file is announced before it is read."""
    files: list[Path] = []
    inspect(path, started=files.append)
    assert [file.name.partition("-")[0] for file in files] == ["logs.jsonl", *["logs"] * 3]
