"""Appender: one active file, appended to by its only writer."""

from __future__ import annotations

import errno
import json
import os

import pytest

from rimp_otel import fsutil
from rimp_otel.journal.target import End
from rimp_otel.storage.files.appender import Appender
from tests.storage.recordings import line


class Device:
    """Stands between the appender and the system, and fails when it is told."""

    def __init__(self, monkeypatch):
        self.room = 1_000_000
        self.truncates = True
        self._write, self._ftruncate = os.write, os.ftruncate
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "writev", lambda file, parts: self.write(file, b"".join(parts)))
        monkeypatch.setattr(os, "ftruncate", self.ftruncate)

    def write(self, file, text):
        part = bytes(text)[: self.room]
        if not part:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(part)
        return self._write(file, part)

    def ftruncate(self, file, size):
        if not self.truncates:
            raise OSError(errno.EIO, "Input/output error")
        self._ftruncate(file, size)


def nothing(end, length):
    """Ignore the call before a write."""


@pytest.fixture
def appender(tmp_path):
    """An appender of a file that does not exist yet."""
    made = Appender(tmp_path / "logs.jsonl")
    yield made
    made.close()


def test_says_where_and_how_much_before_it_writes(appender):
    """The caller learns where a write begins, its length, and where the file ends then."""
    said = []

    def before(end, length):
        said.append((end, length, appender.path.read_bytes()))

    first = appender.append([b"one"], before)
    second = appender.append([b"two", b"three"], before)
    inode = appender.path.stat().st_ino
    assert (first, second) == (End(inode, 4), End(inode, 14))
    assert said == [(End(inode, 0), 4, b""), (End(inode, 4), 10, b"one\n")]
    assert appender.path.read_bytes() == b"one\ntwo\nthree\n"


def test_private_whatever_the_umask(appender):
    """The file is readable by its owner alone."""
    old = os.umask(0)
    try:
        appender.append([b"one"], nothing)
    finally:
        os.umask(old)
    assert appender.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("what", ["link", "dangling link", "directory", "pipe"])
def test_what_is_no_regular_file_is_refused(appender, what):
    """Anything but a regular file is refused, and left as it is."""
    if what.endswith("link"):
        target = appender.path.with_name("target")
        if what == "link":
            target.write_bytes(b"precious")
        appender.path.symlink_to(target)
    elif what == "pipe":
        os.mkfifo(appender.path)
    else:
        appender.path.mkdir()
    with pytest.raises(OSError):
        appender.append([b"one"], nothing)
    assert not (what == "dangling link" and target.exists())
    assert what != "link" or target.read_bytes() == b"precious"


def test_failed_write_is_taken_back(appender, monkeypatch):
    """A write that fails at any byte is taken back; the next one succeeds."""
    device = Device(monkeypatch)
    text = b""
    for room in range(9):
        device.room = room
        with pytest.raises(OSError, match="No space left"):
            appender.append([b"four", b"fif"], nothing)
        assert appender.path.read_bytes() == text
        device.room = 1_000_000
        appender.append([b"x"], nothing)
        text += b"x\n"
    assert appender.path.read_bytes() == text


def test_what_could_not_be_taken_back_is_before_anything_else(appender, monkeypatch):
    """What could not be taken back is cut off before the next write, even if the file was closed in
    between."""
    device = Device(monkeypatch)
    appender.append([b"one"], nothing)
    device.room, device.truncates = 3, False
    with pytest.raises(OSError, match="No space left"):
        appender.append([b"two two"], nothing)
    assert appender.path.read_bytes() == b"one\ntwo"
    appender.close()
    device.room = 1_000_000
    with pytest.raises(OSError, match="Input/output error"):
        appender.append([b"three"], nothing)
    assert appender.path.read_bytes() == b"one\ntwo"
    device.truncates = True
    appender.append([b"three"], nothing)
    assert appender.path.read_bytes() == b"one\nthree\n"
    assert appender.repaired == 0


def test_what_could_not_be_taken_back_is_left_to_a_file_that_was_moved_away(
    appender, monkeypatch, tmp_path
):
    """Nothing is cut off a new file of the same name."""
    device = Device(monkeypatch)
    device.room, device.truncates = 3, False
    with pytest.raises(OSError, match="No space left"):
        appender.append([b"two two"], nothing)
    appender.path.rename(tmp_path / "moved")
    device.room = 1_000_000
    appender.append([b"three"], nothing)
    assert appender.path.read_bytes() == b"three\n"


def test_interrupted_append_is_taken_back(appender):
    """An append that is interrupted before its write, as by Ctrl+C, is taken back."""

    def before(end, length):
        raise KeyboardInterrupt

    appender.append([b"one"], nothing)
    with pytest.raises(KeyboardInterrupt):
        appender.append([b"two"], before)
    appender.append([b"three"], nothing)
    assert appender.path.read_bytes() == b"one\nthree\n"


def test_file_cut_at_every_byte(tmp_path):
    """Complete lines stay, the next one stands alone, and a rest is no part of it."""
    lines = [line("a"), line("b"), line("c")]
    text = b"".join(one + b"\n" for one in lines)
    path = tmp_path / "logs.jsonl"
    for cut in range(len(text) + 1):
        path.write_bytes(text[:cut])
        appender = Appender(path)
        appender.append([line("next")], nothing)
        appender.close()
        *before, last = path.read_bytes().splitlines()
        assert json.loads(last)
        assert b'"next"' in last
        whole = text[:cut].count(b"\n")
        assert before[:whole] == lines[:whole]
        torn = text[:cut].split(b"\n")[-1]
        assert before[whole:] == ([torn] if torn else [])
        assert appender.repaired == bool(torn)


def test_file_with_one_changed_byte_at_every_place(tmp_path):
    """A changed byte costs its line, or two if it was the end of one."""
    lines = [line("a"), line("b"), line("c")]
    text = b"".join(one + b"\n" for one in lines)
    path = tmp_path / "logs.jsonl"
    for at in range(len(text)):
        path.write_bytes(text[:at] + bytes([text[at] ^ 0x55]) + text[at + 1 :])
        appender = Appender(path)
        appender.append([line("next")], nothing)
        appender.close()
        found = path.read_bytes().splitlines()
        assert b'"next"' in found[-1]
        lost = 2 if text[at : at + 1] == b"\n" and at < len(text) - 1 else 1
        assert len(set(lines) & set(found)) >= 3 - lost


def test_settling_an_append_that_was_cut_at_every_byte(tmp_path):
    """An interrupted append is complete, or not there at all."""
    path = tmp_path / "logs.jsonl"
    for written in range(5):
        path.write_bytes(b"one\n" + b"two\n"[:written])
        appender = Appender(path)
        assert appender.resolve_append(End(path.stat().st_ino, 4), 4) is (written == 4)
        assert path.read_bytes() == (b"one\ntwo\n" if written == 4 else b"one\n")
        assert appender.resolve_append(End(path.stat().st_ino, 4), 4) is (written == 4)
        appender.close()


def test_settling_where_the_tail_was_repaired_before(tmp_path):
    """A line that lacked only its end is complete; another is cut off."""
    path = tmp_path / "logs.jsonl"
    for written, whole in ((b"two\n", True), (b"tw\n", False)):
        path.write_bytes(b"one\n" + written)
        appender = Appender(path)
        assert appender.resolve_append(End(path.stat().st_ino, 4), 4) is whole
        appender.close()
        assert path.read_bytes() == b"one\n" + written * whole


def test_settling_in_a_file_that_is_not_the_one(appender):
    """Another file is not changed, and none is created."""
    assert not appender.resolve_append(End(1, 0), 4)
    assert not appender.path.exists()
    appender.append([b"one"], nothing)
    assert not appender.resolve_append(End(appender.path.stat().st_ino + 1, 0), 2)
    assert appender.path.read_bytes() == b"one\n"


def test_where_it_ends(appender):
    """Asking where the file ends repairs its tail, and creates nothing."""
    assert appender.end(create=False) == End(0, 0)
    assert not appender.path.exists()
    appender.path.write_bytes(b"one\ntw")
    assert appender.end(create=False) == End(appender.path.stat().st_ino, 7)
    assert appender.path.read_bytes() == b"one\ntw\n"


def test_lines_after_a_place(appender):
    """The complete lines of this file after a place are returned."""
    assert appender.lines_after(End(1, 0)) == []
    appender.path.write_bytes(b"one\ntwo\nthree\nfou")
    inode = appender.path.stat().st_ino
    assert appender.lines_after(End(inode, 4)) == [b"two", b"three"]
    assert appender.lines_after(End(inode, 0)) == [b"one", b"two", b"three"]
    assert appender.lines_after(End(inode, 100)) == []
    assert appender.lines_after(End(inode + 1, 0)) == []


def test_first_line(appender):
    """The first line is returned however long it is; for an empty file, it is empty."""
    appender.end()
    assert appender.first_line() == b""
    appender.append([b"x" * 200_000, b"y"], nothing)
    assert appender.first_line() == b"x" * 200_000


@pytest.mark.parametrize("act", ["rename", "delete", "replace", "truncate", "copytruncate"])
def test_what_others_do_to_the_file(appender, tmp_path, act):
    """Changes from outside are noticed with the next append."""
    appender.append([b"one"], nothing)
    if act == "rename":
        appender.path.rename(tmp_path / "moved")
    elif act == "delete":
        appender.path.unlink()
    elif act == "replace":
        (tmp_path / "new").write_bytes(b"new\n")
        (tmp_path / "new").replace(appender.path)
    else:
        os.truncate(appender.path, 2 if act == "truncate" else 0)
    appender.append([b"two"], nothing)
    kept = {"replace": b"new\n", "truncate": b"on\n"}.get(act, b"")
    assert appender.path.read_bytes() == kept + b"two\n"


def test_when_it_was_born(tmp_path):
    """A new file begins now; an old one by its first line, but not after its last change."""
    path = tmp_path / "logs.jsonl"
    times = iter([100.0])
    new = Appender(path, clock=lambda: next(times))
    new.append([b"one"], nothing)
    assert new.born == 100.0
    new.close()

    def born(text):
        path.write_bytes(text)
        os.utime(path, (50.0, 50.0))
        appender = Appender(path)
        appender.end()
        found = appender.born
        appender.close()
        return found

    at = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"%d"}]}]}]}\n'
    assert born(at % 20_000_000_000) == 20.0
    assert born(at % 20_000_000_000 + at % 40_000_000_000) == 20.0
    assert born(at % 90_000_000_000) == 50.0
    assert born(b"no times\n") == 50.0


def test_truncated_file_is_born_anew(tmp_path):
    """A truncated file begins again."""
    clock = iter([100.0])
    appender = Appender(tmp_path / "logs.jsonl", clock=lambda: next(clock))
    appender.append([b"one"], nothing)
    os.truncate(appender.path, 0)
    os.utime(appender.path, (200.0, 200.0))
    appender.end()
    assert appender.born == 200.0
    appender.close()


def test_sync_is_of_what_was_appended(tmp_path, monkeypatch):
    """Appended data is synced once, a new file's directory too; nothing if that is not wanted."""
    synced = []
    monkeypatch.setattr(fsutil, "_sync", lambda file: synced.append(os.fstat(file).st_ino))
    appender = Appender(tmp_path / "a")
    appender.sync()
    appender.append([b"one"], nothing)
    appender.sync()
    appender.sync()
    file, directory = (os.stat(path).st_ino for path in (tmp_path / "a", tmp_path))
    assert synced == [file, directory]
    appender.append([b"two"], nothing)
    appender.sync()
    assert synced == [file, directory, file]
    appender.close()
    never = Appender(tmp_path / "b", syncs=False)
    never.append([b"one"], nothing)
    never.sync()
    never.close()
    assert synced == [file, directory, file]


def test_failed_sync_is_tried_again(appender, monkeypatch):
    """After a failed sync, the data is still to be forced."""
    outcomes = iter([OSError(errno.EIO, "Input/output error"), None, None])

    def sync(file):
        if error := next(outcomes):
            raise error

    monkeypatch.setattr(fsutil, "_sync", sync)
    appender.append([b"one"], nothing)
    with pytest.raises(OSError, match="Input/output"):
        appender.sync()
    assert appender.is_dirty
    appender.sync()
    assert not appender.is_dirty


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else(appender):
    """Another user's file is left alone: that user could read what is recorded."""
    appender.path.write_text("")
    os.chown(appender.path, 65_534, 65_534)
    with pytest.raises(PermissionError, match="It belongs to another user"):
        appender.append([line(1)], nothing)
    assert appender.path.read_text() == ""
