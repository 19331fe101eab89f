"""SlotWriter: one slot, its lock and its files."""

from __future__ import annotations

import errno
import os
import shutil
import stat

import pytest

from rimp_otel import fsutil
from rimp_otel.config import TelemetryConfig
from rimp_otel.errors import StorageError
from rimp_otel.journal.slots import Slot
from rimp_otel.journal.target import End
from rimp_otel.models.records import Signal
from rimp_otel.storage.files import writer as writer_module
from rimp_otel.storage.files.layout import Layout, SealedName, fingerprint
from rimp_otel.storage.files.policy import FilePolicy, FileStats
from rimp_otel.storage.files.sealer import Sealer
from rimp_otel.storage.files.writer import SlotWriter, make_unique_line
from tests.processes import run
from tests.storage.recordings import contents, files, line, messages, names

POLICY = FilePolicy.of(TelemetryConfig())
LOGS, TRACES = Signal.LOGS, Signal.TRACES


class Quiet(Sealer):
    """A sealer that seals nothing by itself."""

    def wake(self):
        """Do nothing."""


class Clock:
    """A clock that stands still unless it is moved."""

    def __init__(self):
        self.now = 1_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    """The clock for files' ages and for syncs."""
    return Clock()


@pytest.fixture
def make(tmp_path, clock):
    """Make writers of one recording, and close them."""
    made = []

    def make(for_journal=False, **policy):
        layout = Layout(tmp_path / "t")
        options = POLICY._replace(**policy)
        made.append(SlotWriter(layout, options, Quiet(layout, options), for_journal, clock, clock))
        return made[-1]

    yield make
    for writer in made:
        writer.close()


def nothing(end, length):
    """Ignore the call before a write."""


def active(tmp_path, slot=0, signal=LOGS):
    """Return the text of an active file, without the blanks that make a first line unique."""
    path = Layout(tmp_path / "t").file(signal, slot)
    return [row.rstrip(b" \t") for row in path.read_bytes().splitlines()] if path.exists() else []


def test_takes_a_slot_with_the_first_append(make, tmp_path):
    """The lowest free slot is taken, and released when the writer is closed."""
    first, second = make(), make()
    assert names(tmp_path) == []
    first.append_all({LOGS: [b"a"]})
    second.append_all({LOGS: [b"b"]})
    assert names(tmp_path / "t") == ["journal", "journal.1", "logs.1.jsonl", "logs.jsonl"]
    assert (active(tmp_path), active(tmp_path, 1)) == ([b"a"], [b"b"])
    first.close()
    second.append_all({LOGS: [b"c"]})
    third = make()
    third.append_all({LOGS: [b"d"]})
    assert (active(tmp_path), active(tmp_path, 1)) == ([b"a", b"d"], [b"b", b"c"])
    first.append_all({LOGS: [b"e"]})
    assert active(tmp_path, 2) == [b"e"]


def test_all_signals_or_none(make, tmp_path):
    """All signals are appended or none, whichever fails."""
    writer = make()
    writer.append_all({LOGS: [b"a"], TRACES: []})
    assert names(tmp_path / "t") == ["journal", "logs.jsonl"]
    Layout(tmp_path / "t").file(TRACES).mkdir()
    for lines in ({LOGS: [b"b"], TRACES: [b"c"]}, {TRACES: [b"c"], LOGS: [b"b"]}):
        with pytest.raises(StorageError) as caught:
            writer.append_all(lines)
        path = tmp_path / "t" / "traces.jsonl"
        assert str(caught.value) == f"cannot append to {path}: Is a directory"
    assert active(tmp_path) == [b"a"]
    assert writer.stats() == FileStats(lines=1, bytes=2)


def test_counts_lines_and_bytes(make):
    """Lines and bytes are counted, line ends included."""
    writer = make()
    writer.append_all({LOGS: [b"abc", b"de"], TRACES: [b"f"]})
    writer.append(LOGS, [b"ghi"], nothing)
    assert writer.stats() == FileStats(lines=4, bytes=4 + 3 + 2 + 4)


def test_line_never_holds_another(make, tmp_path):
    """A text with line ends between its tokens becomes one line."""
    make().append_all({LOGS: [b'{"a":\n1}']})
    assert active(tmp_path) == [b'{"a": 1}']


def test_slot_that_a_journal_left_is_not_taken_without_one(make, tmp_path):
    """Such a slot must first be recovered."""
    journal = Layout(tmp_path / "t").journal()
    journal.mkdir(parents=True)
    (journal / "000001.seg").write_bytes(b"records")
    plain, journaled = make(), make(for_journal=True)
    plain.append_all({LOGS: [b"a"]})
    assert (active(tmp_path), active(tmp_path, 1)) == ([], [b"a"])
    slot = journaled.take()
    assert (slot.number, slot.directory) == (0, journal)
    assert journaled.take() is slot


def test_the_protocol_of_a_journal(make, tmp_path):
    """A journal appends, resolves, asks where the file ends, and what came after."""
    writer = make(for_journal=True)
    slot = writer.take()
    said = []
    assert writer.end_of(LOGS) == End(0, 0)
    end = writer.append(LOGS, [b"abc"], lambda start, length: said.append((start, length)))
    inode = (tmp_path / "t" / "logs.jsonl").stat().st_ino
    assert (said, end) == ([(End(inode, 0), 4)], End(inode, 4))
    assert writer.end_of(LOGS) == end
    writer.append(LOGS, [b"de"], nothing)
    assert writer.lines_after(LOGS, end) == [b"de"]
    assert writer.resolve_append(LOGS, end, 3)
    assert not writer.resolve_append(LOGS, end, 4)
    assert writer.end_of(LOGS) == end
    writer.close()
    assert not slot.is_ours
    assert writer.stats().repaired == 1


def test_first_line_says_what_it_will_take(make, tmp_path):
    """The announced length includes the blanks that make a first line unique."""
    make().append_all({LOGS: [b"a"]})
    writer = make(for_journal=True)
    said = []
    end = writer.append(LOGS, [b"a"], lambda start, length: said.append(length))
    assert (said, end.offset) == ([3], 3)
    assert (tmp_path / "t" / "logs.1.jsonl").read_bytes() == b"a\t\n"


def test_lost_slot_is_taken_anew(make, tmp_path):
    """A slot is taken again if the journal's directory or all of it was removed; without its lock file
    it is still held, by the lock of the directory."""
    writer = make()
    for lost, gone in enumerate(["t/journal/lock", "t/journal", "t"]):
        writer.append_all({LOGS: [b"a"]})
        if gone.endswith("lock"):
            (tmp_path / gone).unlink()
        else:
            shutil.rmtree(tmp_path / gone)
        writer.append_all({LOGS: [b"b"]})
        assert active(tmp_path)[-1:] == [b"b"]
        assert writer.stats().slots_lost == lost


def test_lost_slot_that_somebody_else_has_taken(make, tmp_path):
    """A slot that another process has taken stays its own: no file has two writers."""
    writer = make()
    writer.append_all({LOGS: [b"a"]})
    shutil.rmtree(tmp_path / "t" / "journal")
    other = make()
    other.append_all({LOGS: [b"b"]})
    writer.append_all({LOGS: [b"c"]})
    assert (active(tmp_path), active(tmp_path, 1)) == ([b"a", b"b"], [b"c"])


def test_lost_slot_of_a_journal_is_taken_anew_or_not_at_all(make, tmp_path):
    """It must be the same slot, since the journal lies there."""
    writer = make(for_journal=True)
    writer.append(LOGS, [b"a"], nothing)
    shutil.rmtree(tmp_path / "t")
    writer.append(LOGS, [b"b"], nothing)
    assert active(tmp_path) == [b"b"]
    shutil.rmtree(tmp_path / "t" / "journal")
    other = make()
    other.append_all({LOGS: [b"c"]})
    for _ in range(2):
        with pytest.raises(StorageError, match="another process has taken its slot"):
            writer.append(LOGS, [b"d"], nothing)
    other.close()
    writer.append(LOGS, [b"e"], nothing)
    assert active(tmp_path) == [b"b", b"c", b"e"]


def test_file_is_rotated_before_it_becomes_too_long(make, tmp_path):
    """A line that is too long has a file of its own; none is split."""
    writer = make(rotate_size=10, compression="none")
    for row in (b"1234", b"5678", b"9", b"x" * 20, b"a", b"b"):
        writer.append_all({LOGS: [row]})
    sealed = Layout(tmp_path / "t").sealed
    assert sorted(file.read_bytes() for file in files(sealed)) == [
        b"1234\n5678\n",
        b"9\n",
        b"x" * 20 + b"\n",
    ]
    assert active(tmp_path) == [b"a", b"b"]
    assert writer.stats().rotated == 3
    assert sealed.stat().st_mode & 0o777 == 0o700


def test_rotated_file_is_named_by_its_first_line(make, tmp_path):
    """The rotated file is named by its first line, and waits to be sealed."""
    writer = make(rotate_size=1)
    writer.append_all({LOGS: [b"a", b"b"]})
    writer.append_all({LOGS: [b"c"]})
    assert names(Layout(tmp_path / "t").sealed) == [f"logs-{fingerprint(b'a')}.jsonl"]


def test_file_is_rotated_when_it_is_too_old(make, tmp_path, clock):
    """A file's age counts from its beginning, also by an earlier process."""
    writer = make(rotate_age=60.0)
    writer.append_all({LOGS: [b"a"]})
    clock.now += 59.0
    writer.append_all({LOGS: [b"b"]})
    clock.now += 1.0
    writer.append_all({LOGS: [b"c"]})
    assert active(tmp_path) == [b"c"]
    writer.close()
    path = tmp_path / "t" / "logs.jsonl"
    os.utime(path, (clock.now, clock.now))
    clock.now += 61.0
    make(rotate_age=60.0).append_all({LOGS: [b"d"]})
    assert active(tmp_path) == [b"d"]


def test_equal_first_lines_make_different_files(make, tmp_path):
    """Equal first lines make different ids, also in two slots, and after sealing."""
    first, second = make(rotate_size=1), make(rotate_size=1)
    for _ in range(4):
        first.append_all({LOGS: [line("same")]})
        second.append_all({LOGS: [line("same")] * 2})
    first.sealer.run()
    for _ in range(2):
        first.append_all({LOGS: [line("same")]})
        second.append_all({LOGS: [line("same")] * 2})
    assert len(contents(tmp_path / "t")) == 12
    assert messages(tmp_path / "t") == ["same"] * 18


def test_blanks_are_the_number_of_the_slot(tmp_path):
    """The blanks are the slot's number in binary; none for the first."""
    assert make_unique_line(b"a", LOGS, tmp_path / "none", 0) == b"a"
    assert make_unique_line(b"a", LOGS, tmp_path / "none", 6) == b"a\t\t "
    made = {make_unique_line(b"a", LOGS, tmp_path / "none", slot) for slot in range(1_024)}
    assert len(made) == 1_024


def test_foreign_first_line_replaces_no_other_file(make, tmp_path):
    """Files that begin with an equal foreign line are both kept."""
    writer = make(compression="none")
    for rest in (b"a", b"b"):
        writer.append_all({LOGS: [rest]})
        path = tmp_path / "t" / "logs.jsonl"
        path.write_bytes(b"\n" + rest + b"\n")
        writer.rotate()
    sealed = Layout(tmp_path / "t").sealed
    assert sorted(file.read_bytes() for file in files(sealed)) == [b"\na\n", b"\nb\n"]
    assert all(SealedName.parse(name) for name in names(sealed))


def test_rotation_that_fails_costs_nothing(make, tmp_path, capfd):
    """The file is appended to; once it is possible, it is rotated."""
    writer = make(rotate_size=1)
    sealed = Layout(tmp_path / "t").sealed
    writer.append_all({LOGS: [b"a"]})
    sealed.write_bytes(b"in the way")
    writer.append_all({LOGS: [b"b"]})
    writer.append_all({LOGS: [b"c"]})
    assert active(tmp_path) == [b"a", b"b", b"c"]
    assert (writer.stats().rotate_failures, writer.stats().rotated) == (2, 0)
    path = tmp_path / "t" / "logs.jsonl"
    assert capfd.readouterr().err.startswith(f"rimp: cannot rotate {path}: ")
    with pytest.raises(StorageError, match=f"cannot rotate the files of {sealed}: "):
        writer.rotate()
    sealed.unlink()
    writer.append_all({LOGS: [b"d"]})
    assert active(tmp_path) == [b"d"]
    assert names(sealed) == [f"logs-{fingerprint(b'a')}.jsonl"]


def test_sealed_is_no_link(make, tmp_path):
    """Nothing is moved to where a link leads."""
    writer = make()
    writer.append_all({LOGS: [b"a"]})
    (tmp_path / "elsewhere").mkdir()
    Layout(tmp_path / "t").sealed.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="cannot rotate"):
        writer.rotate()
    assert names(tmp_path / "elsewhere") == []
    assert active(tmp_path) == [b"a"]


def test_rotating_what_is_not_there(make, tmp_path):
    """Rotating nothing makes nothing."""
    make().rotate()
    assert names(tmp_path) == []


def test_interrupting_code_appends_elsewhere(make, tmp_path):
    """A signal handler or finaliser in the middle of an append appends elsewhere; nothing is
    spoilt."""
    writer = make(for_journal=True)

    def before(end, length):
        writer.append_all({LOGS: [b"inner"]})
        with pytest.raises(StorageError, match="the interrupted code is using it"):
            writer.append(LOGS, [b"inner"], nothing)
        with pytest.raises(StorageError, match="the interrupted code is using it"):
            writer.sync()
        writer.close()

    writer.append(LOGS, [b"outer"], before)
    writer.append_all({LOGS: [b"after"]})
    assert (active(tmp_path), active(tmp_path, 1)) == ([b"outer", b"after"], [b"inner"])
    assert writer.stats().lines == 3


class Syncs:
    """Counts syncs, and fails when it is told."""

    def __init__(self, monkeypatch):
        self.files = 0
        self.fails = False
        monkeypatch.setattr(fsutil, "_sync", self.sync)

    def sync(self, file):
        if stat.S_ISDIR(os.fstat(file).st_mode):
            return
        if self.fails:
            raise OSError(errno.EIO, "Input/output error")
        self.files += 1


def test_sync_always(make, tmp_path, monkeypatch):
    """Lines are synced before an append returns; what cannot be synced is taken back."""
    syncs, writer = Syncs(monkeypatch), make(sync="always")
    writer.append_all({LOGS: [b"a"], TRACES: [b"b"]})
    assert syncs.files == 2
    writer.append(LOGS, [b"c"], nothing)
    assert syncs.files == 3
    syncs.fails = True
    with pytest.raises(StorageError, match=r"cannot append to .*logs.jsonl: Input/output error"):
        writer.append_all({LOGS: [b"d"]})
    with pytest.raises(StorageError, match="Input/output error"):
        writer.append(LOGS, [b"e"], nothing)
    assert active(tmp_path) == [b"a", b"c"]
    assert (writer.stats().sync_failures, writer.stats().lines) == (2, 3)
    syncs.fails = False


def test_sync_per_interval(make, monkeypatch, clock):
    """Stores and close sync when it is due; a failed sync does not fail a stored batch."""
    syncs, writer = Syncs(monkeypatch), make(sync_interval=5.0)
    writer.append_all({LOGS: [b"a"]})
    clock.now += 4.9
    writer.append_all({LOGS: [b"b"]})
    assert syncs.files == 0
    clock.now += 0.1
    writer.append_all({LOGS: [b"c"]})
    assert syncs.files == 1
    syncs.fails = True
    clock.now += 5.0
    writer.append_all({LOGS: [b"d"]})
    with pytest.raises(StorageError, match="cannot sync"):
        writer.sync()
    assert writer.stats().sync_failures == 2
    syncs.fails = False
    writer.close()
    assert syncs.files == 2


def test_sync_never(make, monkeypatch, clock):
    """Not even close syncs."""
    syncs, writer = Syncs(monkeypatch), make(sync="never", rotate_size=1)
    for _ in range(3):
        writer.append_all({LOGS: [b"a"]})
        clock.now += 100.0
    writer.sync()
    writer.close()
    assert syncs.files == 0


def test_rotated_file_is_synced_first(make, monkeypatch):
    """A rotated file is as safe as the policy says."""
    syncs, writer = Syncs(monkeypatch), make(rotate_size=1)
    writer.append_all({LOGS: [b"a"]})
    assert syncs.files == 0
    writer.append_all({LOGS: [b"b"]})
    assert syncs.files == 1


def test_close_that_cannot_sync_gives_the_slot_back(make, tmp_path, monkeypatch):
    """The slot is released, and the failure raised."""
    syncs, writer = Syncs(monkeypatch), make()
    writer.append_all({LOGS: [b"a"]})
    syncs.fails = True
    with pytest.raises(StorageError, match="cannot sync"):
        writer.close()
    syncs.fails = False
    make().append_all({LOGS: [b"b"]})
    assert active(tmp_path) == [b"a", b"b"]


def test_dropped_writer_gives_its_slot_back(make, tmp_path):
    """The slot is released with the last reference to the writer."""
    layout = Layout(tmp_path / "t")
    for _ in range(3):
        SlotWriter(layout, POLICY, Quiet(layout, POLICY)).append_all({LOGS: [b"a"]})
    assert layout.slots() == [0]
    assert active(tmp_path) == [b"a"] * 3


def test_no_slot_to_be_had(make, monkeypatch, tmp_path):
    """No free slot is an error that says what to do."""

    def take(*_):
        raise StorageError("cannot record into x: no")

    monkeypatch.setattr(writer_module.Slot, "take", take)
    with pytest.raises(StorageError, match="cannot record into x: no"):
        make().append_all({LOGS: [b"a"]})
    assert Slot.take is take


FORK = """
import ctypes, os, sys
from pathlib import Path
from rimp_otel.models.records import Signal
from rimp_otel.storage.files.storage import FileStorage
from tests.storage.recordings import batch

storage = FileStorage(sys.argv[1])
fork = ctypes.PyDLL(None).fork if sys.argv[2] == "C" else os.fork
target = storage.journal_target()
number = target.take_slot().number
before = lambda end, length: None
target.store(Signal.LOGS, batch("parent 1"), before)
descriptors = set(os.listdir("/proc/self/fd"))
if (child := fork()) == 0:
    other = target.take_slot().number
    target.store(Signal.LOGS, batch("child"), before)
    assert (number, other) == (0, 1), (number, other)
    assert storage.stats().lines == 1
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)
    target.release_slot()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
target.store(Signal.LOGS, batch("parent 2"), before)
assert target.take_slot().number == 0
assert storage.stats().lines == 2
"""


@pytest.mark.parametrize("how", ["Python", "C"])
def test_forked_child_takes_a_slot_of_its_own(tmp_path, how):
    """A child takes its own slot, also after a fork without hooks, and keeps nothing of its
    parent's open."""
    run(FORK, tmp_path / "t", how)
    assert messages(tmp_path / "t") == ["parent 1", "parent 2", "child"]


def test_child_keeps_no_slot_of_its_dead_parent(tmp_path):
    """The parent's lock ends with the parent."""
    script = """
    import os, sys
    from pathlib import Path
    from rimp_otel.journal.slots import is_owned
    from rimp_otel.storage.files.storage import FileStorage
    from tests.storage.recordings import batch
    storage = FileStorage(sys.argv[1])
    storage.store(batch("parent"))
    read, write = os.pipe()
    if os.fork() == 0:
        os.close(write)
        os.read(read, 1)  # until the parent is dying; its lock goes a moment after the pipe
        while is_owned(Path(sys.argv[1]) / "journal"):
            pass
        FileStorage(sys.argv[1]).store(batch("child"))
        os._exit(0)
    os._exit(0)
    """
    run(script, tmp_path / "t")
    # The child holds the script's output open, so that it has ended as well.
    assert messages(tmp_path / "t") == ["parent", "child"]
    assert names(tmp_path / "t") == ["journal", "logs.jsonl"]


def test_several_lines_at_once(make, tmp_path):
    """A journal that is far behind appends several lines: one note, all or none, each counted."""
    writer, said = make(for_journal=True), []
    end = writer.append(LOGS, [b"one", b"two"], lambda start, length: said.append(length))
    assert (said, end.offset) == ([8], 8)
    assert active(tmp_path) == [b"one", b"two"]
    assert writer.stats() == FileStats(lines=2, bytes=8)
