"""Retention: what is deleted, and what never is."""

from __future__ import annotations

import os

import pytest

from rimp_otel.storage.files.retention import (
    Deleted,
    delete_expired,
    delete_sealed_file,
    list_sealed,
)
from tests.storage.recordings import names

ID = "{:016x}"


def sealed(directory, number, last, size=10, suffix=".jsonl.zst", signal="logs"):
    """Make a sealed file of this size, with records until ``last`` seconds."""
    path = directory / f"{signal}-1-{last * 10**9}-{ID.format(number)}{suffix}"
    path.write_bytes(b"x" * size)
    return path


def waiting(directory, number, changed, size=10):
    """Make a waiting file of this size, changed at this second."""
    path = directory / f"logs-{ID.format(number)}.jsonl"
    path.write_bytes(b"x" * size)
    os.utime(path, (changed, changed))
    return path


def left(directory):
    """Return the numbers of the files that are there."""
    return sorted(int(found.name.id, 16) for found in list_sealed(directory))


def test_without_bounds_all_is_kept(tmp_path):
    """Without bounds nothing is deleted; a missing directory is no error."""
    sealed(tmp_path, 1, last=1)
    assert delete_expired(tmp_path, None, None, now=1e9) == Deleted(0, 0)
    assert left(tmp_path) == [1]
    assert delete_expired(tmp_path / "missing", 0, 1.0, now=1e9) == Deleted(0, 0)


@pytest.mark.parametrize(
    ("size", "kept"),
    [(100, [1, 2, 3]), (60, [1, 2, 3]), (59, [2, 3]), (31, [3]), (29, []), (0, [])],
)
def test_newest_are_kept(tmp_path, size, kept):
    """The newest files that fit are kept, by their last records, not by the files' own times."""
    for number, last in ((3, 30), (2, 20), (1, 10)):
        os.utime(sealed(tmp_path, number, last, number * 10), (100 - last, 100 - last))
    deleted = delete_expired(tmp_path, size, None, now=0)
    assert left(tmp_path) == kept
    gone = {1, 2, 3} - set(kept)
    assert deleted == Deleted(len(gone), 10 * sum(gone))


def test_nothing_older_than_what_went_is_kept(tmp_path):
    """An older file goes too, although it would still fit."""
    sealed(tmp_path, 3, last=30, size=10)
    sealed(tmp_path, 2, last=20, size=100)
    sealed(tmp_path, 1, last=10, size=1)
    assert delete_expired(tmp_path, 50, None, now=0) == Deleted(2, 101)
    assert left(tmp_path) == [3]


def test_old_ones_go(tmp_path):
    """Files go by their last record; waiting ones, and those without records, by their last change."""
    for number, last in ((1, 10), (2, 20), (3, 30)):
        sealed(tmp_path, number, last)
    waiting(tmp_path, 4, changed=15)
    waiting(tmp_path, 5, changed=25)
    empty = tmp_path / f"traces-0-0-{ID.format(6)}.jsonl"
    empty.write_bytes(b"no record\n")
    os.utime(empty, (25, 25))
    assert delete_expired(tmp_path, None, 20.0, now=40) == Deleted(2, 20)
    assert left(tmp_path) == [2, 3, 5, 6]


def test_waiting_files_count_only_where_they_are_stuck(tmp_path):
    """Waiting files count only if they cannot be sealed: the others will become smaller."""
    waiting(tmp_path, 1, changed=10, size=1_000)
    stuck = waiting(tmp_path, 2, changed=20, size=50)
    sealed(tmp_path, 3, last=5, size=10)
    assert delete_expired(tmp_path, 60, None, now=0) == Deleted(0, 0)
    assert delete_expired(tmp_path, 60, None, now=0, stuck={stuck.name}) == Deleted(0, 0)
    assert delete_expired(tmp_path, 55, None, now=0, stuck={stuck.name}) == Deleted(1, 10)
    assert delete_expired(tmp_path, 40, None, now=0, stuck={stuck.name}) == Deleted(1, 50)
    assert left(tmp_path) == [1]


def test_waiting_file_that_is_being_sealed_stays(tmp_path):
    """A file that is being sealed stays, however old it is."""
    fcntl = pytest.importorskip("fcntl")
    path = waiting(tmp_path, 1, changed=1)
    with path.open("rb") as sealer:
        fcntl.flock(sealer, fcntl.LOCK_EX)
        assert delete_expired(tmp_path, None, 1.0, now=100) == Deleted(0, 0)
        assert left(tmp_path) == [1]
    assert delete_expired(tmp_path, None, 1.0, now=100) == Deleted(1, 10)


def test_what_was_derived_goes_along(tmp_path):
    """Derived files go with their file, and stay with it."""
    old, new = sealed(tmp_path, 1, last=10), sealed(tmp_path, 2, last=20)
    for path in (old, new):
        for suffix in (".idx", ".parquet", ".other"):
            (tmp_path / path.name.replace(".jsonl.zst", suffix)).write_bytes(b"derived")
    assert delete_expired(tmp_path, 10, None, now=0) == Deleted(1, 10)
    assert sorted(os.listdir(tmp_path)) == sorted(
        [
            old.name.replace(".jsonl.zst", ".other"),
            new.name,
            *(new.name.replace(".jsonl.zst", suffix) for suffix in (".idx", ".parquet", ".other")),
        ]
    )


def test_foreign_files_are_never_touched(tmp_path):
    """Foreign files, links and directories stay, whatever they are called."""
    directory = tmp_path / "sealed"
    directory.mkdir()
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    for name in (
        "notes.txt",
        "traces.jsonl",
        f"traces-1-2-{ID.format(1)}.jsonl.zst.bak",
        f"traces-1-2-{ID.format(1)}.parquet",
        f"xtraces-1-2-{ID.format(1)}.jsonl.zst",
        f"traces-01-2-{ID.format(1)}.jsonl.zst",
        f".traces-{ID.format(1)}.tmp-1",
    ):
        (directory / name).write_bytes(b"foreign")
    (directory / f"traces-1-2-{ID.format(2)}.jsonl.zst").symlink_to(precious)
    (directory / f"traces-{ID.format(3)}.jsonl").symlink_to(precious)
    (directory / f"traces-1-2-{ID.format(4)}.jsonl.gz").mkdir()
    before = names(directory)
    assert delete_expired(directory, 0, 0.001, now=1e9) == Deleted(0, 0)
    assert names(directory) == before
    assert precious.read_bytes() == b"precious"


def test_derived_link_is_left(tmp_path):
    """A link with a derived name stays, and so does its target."""
    directory = tmp_path / "sealed"
    directory.mkdir()
    path = sealed(directory, 1, last=10)
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    link = directory / path.name.replace(".jsonl.zst", ".idx")
    link.symlink_to(precious)
    assert delete_expired(directory, 0, None, now=0) == Deleted(1, 10)
    assert os.listdir(directory) == [link.name]
    assert precious.exists()


def test_one_that_cannot_be_deleted_keeps_no_other(tmp_path, monkeypatch):
    """The others go and are counted, and the reason is returned."""
    stubborn = sealed(tmp_path, 1, last=10)
    sealed(tmp_path, 2, last=20)
    sealed(tmp_path, 3, last=5)
    real = type(stubborn).unlink

    def unlink(path, missing_ok=False):
        if path == stubborn:
            raise PermissionError(13, "Permission denied")
        real(path, missing_ok)

    monkeypatch.setattr(type(stubborn), "unlink", unlink)
    deleted = delete_expired(tmp_path, 0, None, now=0)
    assert (deleted.files, deleted.bytes) == (2, 20)
    assert isinstance(deleted.error, PermissionError)
    assert left(tmp_path) == [1]


def test_one_that_somebody_else_has_deleted(tmp_path):
    """A file that another process has deleted meanwhile is not counted."""
    sealed(tmp_path, 1, last=10)
    (found,) = list_sealed(tmp_path)
    assert delete_sealed_file(found)
    assert not delete_sealed_file(found)
