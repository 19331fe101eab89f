"""Repairing recordings that are damaged in every way."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from itertools import islice

import pytest

from rimp_otel import FileStorage, TelemetryConfig
from rimp_otel.fsutil import lock_file
from rimp_otel.journal.format import HEADER_SIZE
from rimp_otel.journal.slots import Slot
from rimp_otel.models.records import Signal
from rimp_otel.storage.files import rewrite as mending
from rimp_otel.storage.files.layout import Layout, SealedName, fingerprint
from rimp_otel.storage.files.policy import FilePolicy
from rimp_otel.storage.files.recording import FileRecording
from rimp_otel.storage.files.repair import ActionCode, Repair
from rimp_otel.storage.files.verify import Inspection
from rimp_otel.streaming.journal_drain import recover_journal
from tests.storage.journaled import Journaled
from tests.storage.recordings import batch, files, names, text_of

POLICY = FilePolicy.of(TelemetryConfig())


def repair(path, **options):
    """Return what a repair did, as (name of the file, code, number)."""
    actions = list(Repair(Layout(path), POLICY, recover_journal, **options).run())
    return [(action.path.name, action.code.value, action.number) for action in actions]


def is_whole(path):
    """Return True if nothing is damaged."""
    return [p.place for p in Inspection(Layout(path)).problems() if p.is_damage] == []


def messages(path):
    """Return the messages of all events, as readers see them."""
    reader = FileRecording(path)
    return sorted(e.message for data in reader.poll(final=True) for e in data.events)


def state_of(path):
    """Return every file with its content, its inode and its times."""
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name != "lock")
    return [(p, p.read_bytes(), p.stat().st_ino, p.stat().st_mtime_ns) for p in files]


def repaired_for_good(path):
    """Return True if it is whole, and another repair changes nothing."""
    before = state_of(path)
    assert is_whole(path)
    assert repair(path) == []
    assert state_of(path) == before
    return True


@pytest.fixture
def path(tmp_path):
    """The path of a recording of 3 lines, with 2 records waiting in the journal of a dead process."""
    path = tmp_path / "t"
    process = Journaled(path)
    for text in "abc":
        process.collect(f"{text}1", f"{text}2")
        process.drain()
    process.collect("d1", "d2")
    process.die()
    return path


@pytest.fixture
def file(path):
    """The active file of the log records."""
    return path / "logs.jsonl"


@pytest.fixture(params=["zstd", "gzip", "none"])
def sealed(tmp_path, request):
    """A sealed file of 3 lines, each in a block of its own."""
    storage = FileStorage(tmp_path / "t", compression=request.param)
    for text in "abc":
        storage.store(batch(*(f"{text}{number:04} " + "x" * 60 for number in range(1_000))))
    storage.rotate()
    storage.close()
    (sealed,) = files(tmp_path / "t" / "sealed")
    return sealed


ALL = ["a1", "a2", "b1", "b2", "c1", "c2", "d1", "d2"]


def test_journal_of_a_dead_process_is_stored(path):
    """The journal is stored as the next process would; then there is nothing left to do."""
    assert repair(path) == [("journal", "recovered", 2)]
    assert names(path / "journal") == ["lock"]
    assert messages(path) == ALL
    assert repaired_for_good(path)


def test_living_processes_are_left_alone(path):
    """Living processes are left alone, other slots are repaired."""
    living = Journaled(path)
    living.recover()
    other = Journaled(path)
    other.collect("e")
    other.die()
    living.collect("f")
    assert repair(path) == [("journal", "left_in_use", 0), ("journal.1", "recovered", 1)]
    assert messages(path) == [*ALL, "e", "f"]
    living.drain()
    living.close()
    assert messages(path) == [*ALL, "e", "f"]


def test_damaged_line_is_moved(path, file):
    """A damaged line is moved byte for byte, into a file that says where it is from."""
    first, second, third = file.read_bytes().splitlines(keepends=True)
    damaged = b"\xff\0{" + second[3:]
    file.write_bytes(first + damaged + third)
    assert repair(path) == [("journal", "recovered", 2), ("logs.jsonl", "moved_lines", 1)]
    (kept,) = (path / "damaged").iterdir()
    assert kept.name.startswith("logs-20")
    assert kept.name.endswith("Z.jsonl")
    assert kept.read_bytes() == damaged
    assert (kept.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o600, 0o600)
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert file.read_bytes().splitlines(keepends=True)[:2] == [first, third]
    assert messages(path) == [text for text in ALL if text[0] != "b"]
    assert repaired_for_good(path)


@pytest.mark.parametrize("line", [0, 1, 2])
def test_damaged_line_anywhere(path, file, line):
    """Several lines are moved, also the first, whose place another one takes."""
    repair(path)
    lines = file.read_bytes().splitlines(keepends=True)
    for damaged in {line, 1}:
        lines[damaged] = b"?" + lines[damaged]
    file.write_bytes(b"".join(lines))
    assert repair(path) == [("logs.jsonl", "moved_lines", len({line, 1}))]
    assert repaired_for_good(path)
    assert len(messages(path)) == 8 - 2 * len({line, 1})


def test_nothing_but_damage(path, file):
    """The file is empty then."""
    repair(path)
    file.write_bytes(b"nonsense\n" * 3)
    assert repair(path) == [("logs.jsonl", "moved_lines", 3)]
    assert file.read_bytes() == b""
    assert repaired_for_good(path)


def test_torn_tail(path, file):
    """A torn tail is cut off if the journal has the line, ended if it is complete, else moved."""
    whole = file.read_bytes()
    shutil.rmtree(path / "journal")
    file.write_bytes(whole[:-1])
    assert repair(path) == [("logs.jsonl", "ended", 1)]
    assert file.read_bytes() == whole
    file.write_bytes(whole + whole[:50])
    assert repair(path) == [("logs.jsonl", "moved_lines", 1)]
    assert file.read_bytes() == whole
    assert repaired_for_good(path)


def test_what_is_written_after_a_repair(path, file):
    """A writer continues where it stopped."""
    file.write_bytes(b"?" + file.read_bytes())
    repair(path)
    process = Journaled(path)
    process.collect("e")
    process.drain()
    process.close()
    assert messages(path) == [*ALL[2:], "e"]
    assert is_whole(path)


def die_at(step):
    """End this process at one of the system calls that rewriting makes."""
    left = [step]

    def mortal(call):
        def wrapped(*args, **kwargs):
            left[0] -= 1
            if not left[0]:
                os._exit(0)
            return call(*args, **kwargs)

        return wrapped

    for name in ("rename", "fstat"):
        setattr(os, name, mortal(getattr(os, name)))
    for name in ("sync_file", "sync_directory", "_write_texts"):
        setattr(mending, name, mortal(getattr(mending, name)))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("step", range(1, 40, 2))
def test_killed_at_any_step(path, file, step):
    """Nothing is lost or there twice, and the next repair does the rest."""
    lines = file.read_bytes().splitlines(keepends=True)
    lines[0] = b"?" + lines[0][1:]
    file.write_bytes(b"".join(lines))
    if not (child := os.fork()):
        die_at(step)
        repair(path)
        os._exit(0)
    os.waitpid(child, 0)
    assert messages(path) == ALL[2:]
    repair(path)
    assert messages(path) == ALL[2:]
    assert repaired_for_good(path)
    assert Counter(kept.read_bytes() for kept in (path / "damaged").iterdir()) == {lines[0]: 1}


def damage_block(sealed, block):
    """Flip a byte in the middle of one of a sealed file's three blocks."""
    data = bytearray(sealed.read_bytes())
    data[len(data) * (2 * block + 1) // 6] ^= 0x55
    sealed.write_bytes(data)


@pytest.mark.parametrize("block", [0, 1, 2])
def test_damaged_block(tmp_path, sealed, block):
    """The file is kept as it was, and what can be read is a file of its own."""
    if sealed.suffix == ".jsonl":
        pytest.skip("it has no blocks")
    damage_block(sealed, block)
    damaged = sealed.read_bytes()
    path = tmp_path / "t"
    before = messages(path)
    assert 1_000 < len(before) < 3_000
    assert repair(path) == [(sealed.name, "moved_lines", 1)]
    (kept,) = (path / "damaged").iterdir()
    assert kept.read_bytes() == damaged
    assert kept.name.endswith(sealed.name.partition(".")[2])
    (mended,) = files(path / "sealed")
    name = SealedName.parse(mended.name)
    assert name.id == fingerprint(text_of(mended).split(b"\n")[0])
    assert messages(path) == before
    assert repaired_for_good(path)


@pytest.mark.parametrize("line", [0, 1, 2])
def test_damaged_line_in_a_sealed_file(tmp_path, sealed, line):
    """The line is moved; the name says what the file holds then."""
    path, name = tmp_path / "t", SealedName.parse(sealed.name)
    lines = text_of(sealed).splitlines(keepends=True)
    lines[line] = b"?" + lines[line]
    packed = [mending.choose_compressor(name.compression)[1](text) for text in lines]
    sealed.write_bytes(b"".join(lines if name.compression == "none" else packed))
    before = messages(path)
    assert repair(path) == [(sealed.name, "moved_lines", 1)]
    (kept,) = (path / "damaged").iterdir()
    assert kept.read_bytes() == lines[line]
    assert messages(path) == before
    (mended,) = files(path / "sealed")
    found = SealedName.parse(mended.name)
    assert (found.compression, found.id == name.id) == (name.compression, line > 0)
    assert name.first <= found.first <= found.last <= name.last
    assert repaired_for_good(path)


def test_sealed_file_of_which_nothing_is_left(tmp_path, sealed):
    """The file is kept, and gone from the recording."""
    sealed.write_bytes(b"nonsense\n")
    path = tmp_path / "t"
    assert repair(path) == [(sealed.name, "moved_lines", 1)]
    assert names(path / "sealed") == []
    (kept,) = (path / "damaged").iterdir()
    assert kept.read_bytes() == b"nonsense\n"


def test_wrong_names(tmp_path, sealed):
    """Wrong names are corrected."""
    path, name = tmp_path / "t", SealedName.parse(sealed.name)
    wrong = name._replace(id="0123456789abcdef", first=name.last, last=name.last)
    sealed.rename(sealed.with_name(str(wrong)))
    assert repair(path) == [(f"{name.stem}.idx", "removed_orphan", 0), (str(wrong), "renamed", 0)]
    assert [file.name for file in files(path / "sealed")] == [sealed.name]
    assert repaired_for_good(path)


def test_wrong_name_and_damaged_line(tmp_path, sealed):
    """One repair corrects both."""
    path, name = tmp_path / "t", SealedName.parse(sealed.name)
    lines = text_of(sealed).splitlines(keepends=True)
    lines[0] = lines[0].replace(b"a0001 x", b"a0001 y")
    lines[1] = b"?" + lines[1]
    packed = [mending.choose_compressor(name.compression)[1](text) for text in lines]
    sealed.write_bytes(b"".join(lines if name.compression == "none" else packed))
    assert [kind for _, kind, _ in repair(path)] == ["moved_lines"]
    assert repaired_for_good(path)


def test_first_line_removed_without_a_moment_of_two_files(tmp_path, sealed, monkeypatch):
    """Killed between the two renames, there is one file, whose name is corrected next time."""
    path = tmp_path / "t"
    if sealed.name.endswith(".jsonl"):
        pytest.skip("it has no blocks")
    damage_block(sealed, 0)
    before = messages(path)
    with monkeypatch.context() as patch:
        patch.setattr(
            mending, "_rename_sealed", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            repair(path)
    assert names(path / "sealed") == [sealed.name]
    assert messages(path) == before
    assert [kind for _, kind, _ in repair(path)] == ["renamed"]
    assert messages(path) == before
    assert repaired_for_good(path)


def test_waiting_files_are_sealed(path, file):
    """Waiting files are sealed, and an earlier attempt is removed; nothing is deleted by age."""
    line = file.read_bytes().splitlines(keepends=True)[0]
    waiting = f"logs-{fingerprint(line)}"
    (path / "sealed").mkdir(mode=0o700)
    (path / "sealed" / f"{waiting}.jsonl").write_bytes(line)
    (path / "sealed" / ".logs-0123456789abcdef.tmp-7").write_bytes(b"x")
    repair(path)
    (sealed,) = names(path / "sealed")
    assert sealed.endswith(f"{waiting[5:]}.jsonl.zst")


def test_leftovers_are_removed(path):
    """Our temporary files are removed, and nothing else."""
    repair(path)
    (path / "sealed").mkdir(mode=0o700)
    left = [".logs.jsonl.tmp-77", "journal/000009.tmp", "sealed/.logs-1-2-0123456789abcdef.tmp-7"]
    for name in [*left, ".other.tmp-1", "notes.txt", "journal/notes"]:
        (path / name).write_text("x")
    assert sorted(repair(path)) == [
        (".logs-1-2-0123456789abcdef.tmp-7", "removed", 0),
        (".logs.jsonl.tmp-77", "removed", 0),
        ("000009.tmp", "removed", 0),
    ]
    assert names(path / "journal") == ["lock", "notes"]
    assert (path / "notes.txt").exists()


def test_damaged_frame(path):
    """A damaged frame costs its record; the segment is kept."""
    segment, _ = sorted((path / "journal").glob("*.seg"))  # and the spare
    data = segment.read_bytes()
    assert data.count(b'"d2"') == 1
    segment.write_bytes(data.replace(b'"d2"', b'"d2?'))
    done = repair(path)
    assert done[:2] == [("journal", "recovered", 1), ("journal", "lost", 1)]
    assert [kind for _, kind, _ in done[2:]] == ["moved_file"]
    assert messages(path) == ALL[:-1]
    assert b'"d2?' in next((path / "damaged").iterdir()).read_bytes()
    assert repaired_for_good(path)


def test_segment_that_was_put_aside(path):
    """Records that only a quarantined segment holds are stored once, however often it is tried."""
    segment, _ = sorted((path / "journal").glob("*.seg"))  # and the spare
    data = segment.read_bytes()
    aside = segment.with_name(segment.name + ".damaged")
    segment.unlink()
    for _ in range(2):
        aside.write_bytes(bytes(8) + data[8:])
        repair(path)
        assert messages(path) == ALL
    assert len(names(path / "damaged")) == 2
    assert repaired_for_good(path)


def test_segment_that_nobody_can_read(path):
    """An unreadable segment is kept."""
    aside = path / "journal" / "000009.seg.damaged"
    aside.write_bytes(os.urandom(100_000))
    repair(path)
    assert messages(path) == ALL
    assert len(names(path / "damaged")) == 1
    assert repaired_for_good(path)


def sign(path, **owner):
    """Make another machine the last that held the slot."""
    lock = path / "journal" / "lock"
    lock.write_text(json.dumps({**json.loads(lock.read_text()), **owner}))


def test_another_machine(path):
    """A journal of another machine is stored only if the caller takes it over."""
    sign(path, machine="another", boot="another")
    assert repair(path) == [("journal", "left_to_others", 0)]
    assert messages(path) == ALL
    assert repair(path, take_over=True) == [("journal", "recovered", 2)]
    assert messages(path) == ALL
    assert repaired_for_good(path)


def test_copy_from_another_machine(path, tmp_path):
    """Files of a copy have other inodes; nothing is stored twice."""
    sign(path, machine="another", boot="another")
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    shutil.rmtree(path)
    assert repair(copy, take_over=True) == [("journal", "recovered", 2)]
    assert messages(copy) == ALL


def test_taking_over_does_not_take_from_the_living(path):
    """A slot in use is not taken, whoever signed its lock."""
    living = Journaled(path)
    living.recover()
    sign(path, machine="another", boot="another")
    assert repair(path, take_over=True) == [("journal", "left_in_use", 0)]
    living.die()


def test_one_repair_at_a_time(path):
    """Only one repair changes the sealed files, which have no slot."""
    storage = FileStorage(path)
    storage.store(batch("e"))
    storage.rotate()
    storage.close()
    with Locked(path / "sealed"):
        assert ("sealed", "left_to_repair", 0) in repair(path)


class Locked:
    """Another process that repairs the files in a directory."""

    def __init__(self, directory):
        self.file = os.open(directory, os.O_RDONLY)

    def __enter__(self):
        assert lock_file(self.file)

    def __exit__(self, *_):
        os.close(self.file)


def test_full_disk(path, monkeypatch):
    """A failure is reported, and everything is as it was."""

    def full(*_):
        raise OSError(28, "No space left on device")

    repair(path)
    file = path / "logs.jsonl"
    file.write_bytes(b"?" + file.read_bytes())
    before = file.read_bytes()
    monkeypatch.setattr(mending, "_write_texts", full)
    assert repair(path) == [("journal", "failed", 0)]
    assert file.read_bytes() == before
    assert names(path) == ["damaged", "journal", "logs.jsonl"]


def test_journal_that_cannot_be_stored(path, file):
    """The files, which its header speaks of, are left as they are."""
    file.write_bytes(b"?" + file.read_bytes()[1:])
    before = state_of(path)
    actions = list(Repair(Layout(path), POLICY, lambda *_: (0, 0, "the disk is full")).run())
    assert [(action.code, action.detail) for action in actions] == [
        (ActionCode.NOT_ALL_STORED, "the disk is full")
    ]
    assert state_of(path) == before


def test_family(tmp_path):
    """What is kept lies beside the files."""
    storage = FileStorage(tmp_path / "app.jsonl")
    storage.store(batch("a"))
    storage.close()
    file = tmp_path / "app-logs.jsonl"
    file.write_bytes(file.read_bytes() + b"?\n")
    assert repair(tmp_path / "app.jsonl") == [("app-logs.jsonl", "moved_lines", 1)]
    assert names(tmp_path) == ["app-damaged", "app-journal", "app-logs.jsonl"]
    assert names(tmp_path / "app-damaged")[0].startswith("app-logs-20")


def test_links_are_not_followed(path, tmp_path):
    """A file that is a link stays what it is, and so does its target."""
    repair(path)
    (tmp_path / "elsewhere").write_text("nonsense\n")
    (path / "traces.jsonl").symlink_to(tmp_path / "elsewhere")
    assert repair(path) == []
    assert (tmp_path / "elsewhere").read_text() == "nonsense\n"


def test_slot_is_given_back(path):
    """The next process can take the slot."""
    repair(path)
    slot = Slot.take(Layout(path).journal)
    assert slot.number == 0
    slot.release()
    assert Signal.LOGS.value in Layout(path).file(Signal.LOGS).name


def everything(path):
    """Make a recording with files of every kind; return the messages of its 42 events."""
    texts = iter([f"{number}/{number * 7919}" for number in range(42)])
    for compression in ("zstd", "gzip", "none"):
        storage = FileStorage(path, compression=compression)
        for _ in range(3):
            storage.store(batch(*islice(texts, 3)))
        storage.rotate()
        storage.close()
    process = Journaled(path)
    for _ in range(3):
        process.collect(*islice(texts, 3))
        process.drain()
    process.collect(*texts)
    process.die()


@pytest.mark.parametrize("seed", range(30))
def test_any_damage(tmp_path, seed):
    """After one damage anywhere, a repair leaves it whole, with all that could be read, once."""
    chance, path = random.Random(seed), tmp_path / "t"
    everything(path)
    file = chance.choice(sorted(file for file in path.rglob("*") if file.is_file()))
    data = bytearray(file.read_bytes())
    # Of a segment what is used; of the spare, the header.
    used = (data.rfind(b"\n") + 1 or HEADER_SIZE) if file.suffix == ".seg" else len(data)
    place = chance.randrange(used)
    if chance.random() < 0.5:
        data[place] ^= chance.randrange(1, 256)
    else:
        del data[place:]
    file.write_bytes(data)
    seen = messages(path)
    repair(path)
    found = messages(path)
    assert set(seen) <= set(found)
    assert len(found) == len(set(found))
    assert repaired_for_good(path)
