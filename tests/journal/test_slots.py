"""Writer slots: one holder each, whatever happens to the holder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys

import pytest

from rimp_otel import StorageError
from rimp_otel.journal.slots import (
    LOCK,
    JournalFile,
    JournalFileKind,
    Slot,
    classify_journal_file,
    is_owned,
    journal_file_name,
)
from tests.processes import ROOT


@pytest.fixture
def directory_of(tmp_path):
    """A function that returns the directories of slots below the test's."""
    return lambda number: tmp_path / "t" / (f"journal.{number}" if number else "journal")


def test_lowest_free_slot(directory_of):
    """Two writers get two slots; a released slot is the first to be taken again."""
    first, second = Slot.take(directory_of), Slot.take(directory_of)
    assert (first.number, second.number) == (0, 1)
    first.release()
    again = Slot.take(directory_of)
    assert again.number == 0
    again.release()
    second.release()


@pytest.mark.parametrize("kind", ["directory", "pipe", "link", "circle"])
def test_what_is_no_lock_file(directory_of, kind):
    """A slot whose lock file is something else is left alone, and the next one taken."""
    directory_of(0).mkdir(parents=True)
    lock = directory_of(0) / LOCK
    make = {
        "directory": lock.mkdir,
        "pipe": lambda: os.mkfifo(lock),
        "link": lambda: lock.symlink_to("/dev/null"),
        "circle": lambda: lock.symlink_to(LOCK),
    }
    make[kind]()
    slot = Slot.take(directory_of)
    assert slot.number == 1
    slot.release()


def test_owner_is_seen(directory_of):
    """Readers see the owner as long as it holds the slot."""
    slot = Slot.take(directory_of)
    assert is_owned(slot.directory)
    slot.release()
    assert not is_owned(slot.directory)
    assert not is_owned(directory_of(7))


def test_private(directory_of):
    """Directory and lock file are their owner's alone."""
    slot = Slot.take(directory_of)
    assert slot.directory.stat().st_mode & 0o777 == 0o700
    assert (slot.directory / LOCK).stat().st_mode & 0o777 == 0o600
    slot.release()


HOLDER = """
import sys
from pathlib import Path
from rimp_otel.journal.slots import Slot
slot = Slot.take(lambda number: Path(sys.argv[1]) / f"journal.{number}")
print(slot.number, flush=True)
sys.stdin.read()
"""


def test_killed_holder(tmp_path):
    """A killed process holds no slot any more."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert holder.stdout.readline() == b"0\n"
    slot = Slot.take(lambda number: tmp_path / f"journal.{number}")
    assert slot.number == 1
    slot.release()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    slot = Slot.take(lambda number: tmp_path / f"journal.{number}")
    assert (slot.number, slot.rebooted) == (0, False)
    slot.release()


def test_forked_child_does_not_hold(directory_of):
    """A child's release does not unlock the parent's slot, nor does its life keep it locked."""
    slot = Slot.take(directory_of)
    child = os.fork()
    if child == 0:
        ours = slot.is_ours
        slot.release()
        os._exit(int(ours or not is_owned(slot.directory)))
    assert os.waitpid(child, 0)[1] == 0
    assert slot.is_ours
    assert is_owned(slot.directory)
    slot.release()


def sign(directory, machine, boot):
    """Leave the slot as another machine or boot would."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / LOCK).write_text(json.dumps({"machine": machine, "boot": boot}))


def test_slot_of_another_machine(directory_of):
    """The slot of another machine is left alone, unless it is empty."""
    sign(directory_of(0), "other", "other")
    empty = Slot.take(directory_of)
    assert (empty.number, empty.rebooted) == (0, True)
    empty.release()
    sign(directory_of(0), "other", "other")
    (directory_of(0) / "000001.seg").write_text("x")
    slot = Slot.take(directory_of)
    assert slot.number == 1
    slot.release()


def test_slot_from_before_a_reboot(directory_of):
    """A slot from before a reboot is taken, and says so."""
    slot = Slot.take(directory_of)
    owner = json.loads((slot.directory / LOCK).read_text())
    slot.release()
    sign(directory_of(0), owner["machine"], "before")
    (directory_of(0) / "000001.seg").write_text("x")
    slot = Slot.take(directory_of)
    assert (slot.number, slot.rebooted) == (0, True)
    slot.release()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"boot": 1}', "\0" * 100])
def test_damaged_signature(directory_of, text):
    """A damaged signature is nobody's, perhaps by a loss of power."""
    directory_of(0).mkdir(parents=True)
    (directory_of(0) / LOCK).write_text(text)
    slot = Slot.take(directory_of)
    assert (slot.number, slot.rebooted) == (0, True)
    slot.release()


def test_links_are_not_followed(directory_of, tmp_path):
    """Neither the directory nor the lock may be a link."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    directory_of(0).parent.mkdir()
    directory_of(0).symlink_to(elsewhere)
    slot = Slot.take(directory_of)
    assert slot.number == 1
    assert os.listdir(elsewhere) == []
    slot.release()
    (directory_of(1) / LOCK).unlink()
    (directory_of(1) / LOCK).symlink_to(tmp_path / "file")
    slot = Slot.take(directory_of)
    assert slot.number == 2
    assert not (tmp_path / "file").exists()
    slot.release()


def test_no_directory_can_be_made(tmp_path):
    """The error says where, why, and what to do."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot record into .*file: File exists; give a"):
        Slot.take(lambda number: tmp_path / "file" / "journal")


def test_descriptor_that_was_closed_by_others(directory_of, tmp_path):
    """Another file that got the lock's descriptor is not closed."""
    slot = Slot.take(directory_of)
    os.close(slot._lock)
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_RDWR)
    assert other == slot._lock
    slot.release()
    os.write(other, b"open")
    os.close(other)


def test_pipe_in_the_locks_place_keeps_no_reader_waiting(directory_of):
    """A pipe in the lock's place keeps no reader waiting."""
    directory_of(0).mkdir(parents=True)
    os.mkfifo(directory_of(0) / LOCK)
    assert not is_owned(directory_of(0))


def test_lock_file_that_was_removed(directory_of):
    """Without its lock file the slot is held by its directory's lock, and nobody else takes it."""
    slot = Slot.take(directory_of)
    (slot.directory / LOCK).unlink()
    assert slot.is_held
    assert is_owned(slot.directory)
    other = Slot.take(directory_of)
    assert other.number == 1
    other.release()
    slot.release()
    assert not is_owned(slot.directory)
    again = Slot.take(directory_of)
    assert again.number == 0
    again.release()


def test_directory_that_was_removed(directory_of):
    """Without its directory the slot is not held; its descriptors are closed all the same."""
    slot = Slot.take(directory_of)
    (slot.directory / LOCK).unlink()
    slot.directory.rmdir()
    assert not slot.is_held
    files = slot._lock, slot._directory_lock
    slot.release()
    for file in files:
        with pytest.raises(OSError):
            os.fstat(file)


def test_directory_that_cannot_be_locked(directory_of, monkeypatch):
    """On a file system that locks files alone, the lock file decides, by its name."""
    flock = fcntl.flock

    def flock_files(file, operation):
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", flock_files)
    slot = Slot.take(directory_of)
    assert slot.is_held
    assert is_owned(slot.directory)
    assert Slot.take(directory_of).number == 1
    (slot.directory / LOCK).unlink()
    assert not slot.is_held
    slot.release()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("lock", JournalFile(JournalFileKind.LOCK)),
        ("000001.seg", JournalFile(JournalFileKind.SEGMENT, 1)),
        ("1234567.seg", JournalFile(JournalFileKind.SEGMENT, 1_234_567)),
        ("000002.open", JournalFile(JournalFileKind.OPEN_SPANS, 2)),
        ("000003.crash", JournalFile(JournalFileKind.CRASH, 3)),
        ("000004.metrics", JournalFile(JournalFileKind.CHECKPOINT, 4)),
        ("000002.tmp", JournalFile(JournalFileKind.TEMPORARY, 2)),
        (
            "000001.seg.damaged",
            JournalFile(JournalFileKind.QUARANTINED, 1, JournalFileKind.SEGMENT),
        ),
        ("x.seg.damaged", JournalFile(JournalFileKind.QUARANTINED)),
        ("x.seg", JournalFile(JournalFileKind.FOREIGN)),
        ("٠٠٠٠٠٣.seg", JournalFile(JournalFileKind.FOREIGN)),
        ("notes.txt", JournalFile(JournalFileKind.FOREIGN)),
    ],
)
def test_names_in_a_journal(name, file):
    """A name says what its file is, and names are made as they are read."""
    assert classify_journal_file(name) == file
    if file.number is not None and file.former_kind is None:
        assert journal_file_name(file.number, file.kind) == name
