"""``seal``: every sealed file has a twin afterwards, and nothing else has changed."""

from __future__ import annotations

import os

import pytest

from rimp_otel.fsutil import acquire
from rimp_otel.sql.parquet import is_whole, seal, twin_path
from rimp_otel.storage.files.lines import list_contents
from tests.processes import run
from tests.sql.conftest import seal_now
from tests.storage.recordings import batch


@pytest.fixture
def directory(path, storage):
    """With two sealed files."""
    for message in "ab":
        storage.store(batch(message))
        seal_now(storage)
    return path / "sealed"


def parquets(directory):
    """The names of the twins."""
    return sorted(name for name in os.listdir(directory) if name.endswith(".parquet"))


def test_nothing_there(path):
    """Is no error."""
    assert seal(path) == ()[:0] or seal(path).made == 0
    assert not path.exists()


def test_all_that_are_missing(path, directory):
    """Are made; a second time there is nothing to do."""
    told = []
    done = seal(path, lambda file, number, total: told.append((file.suffix, number, total)))
    assert (done.made, done.records, done.kept, done.damaged, done.errors) == (2, 2, 0, 0, ())
    assert told == [(".zst", 0, 2), (".zst", 1, 2)]
    assert done.bytes == sum((directory / name).stat().st_size for name in parquets(directory))
    assert all(is_whole(content, twin_path(content)) for content in list_contents(directory))
    again = seal(path)
    assert (again.made, again.kept) == (0, 2)


def test_rebuild_and_check(path, directory):
    """Anew on demand; or if reading one shows that it is damaged."""
    seal(path)
    assert seal(path, rebuild=True).made == 2
    assert seal(path, check=True).made == 0
    twin = directory / parquets(directory)[0]
    data = bytearray(twin.read_bytes())
    data[20:60] = b"\xff" * 40
    twin.write_bytes(data)
    assert seal(path).made == 0
    assert seal(path, check=True).made == 1


def test_orphans(path, directory):
    """Twins without their sealed file go; files of other names stay, and so do links."""
    seal(path)
    (content, other) = list_contents(directory)
    content.path.unlink()
    (directory / "mine.parquet").write_bytes(b"x")
    link = directory / f"logs-1-2-{'a' * 16}.parquet"
    link.symlink_to(directory / "mine.parquet")
    (directory / f".{other.name.stem}.parquet.tmp").write_bytes(b"begun by one who was killed")
    (directory / ".mine.parquet.tmp").write_bytes(b"x")
    assert seal(path).removed == 1
    assert parquets(directory) == sorted(
        [".mine.parquet", "mine.parquet", link.name, twin_path(other).name][1:]
    )
    assert [name for name in os.listdir(directory) if "tmp" in name] == [".mine.parquet.tmp"]


def test_one_at_a_time(path, directory):
    """While a process is at it, another one does nothing."""
    file = os.open(directory, os.O_RDONLY)
    assert acquire(file)
    assert seal(path).is_busy
    os.close(file)
    assert seal(path).made == 2


def test_what_cannot_be_read(path, directory):
    """Costs itself."""
    (content, _) = list_contents(directory)
    content.path.unlink()
    content.path.mkdir()
    assert seal(path).made == 1


def test_no_room(path, directory, monkeypatch):
    """Is said for each."""

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rimp_otel.sql.parquet.make_twin", full)
    done = seal(path)
    assert done.made == 0
    assert len(done.errors) == 2
    assert done.errors[0].startswith(f"cannot make the twin of {directory}/logs-")
    assert done.errors[0].endswith(".jsonl.zst: No space left on device")


def test_killed(path, directory):
    """In the middle of it: the next one does it all."""
    script = """
    import os, sys
    from rimp_otel.sql import parquet as sealing, parquet as twins
    def die(*args):
        os._exit(9)
    twins.os.rename = die
    sealing.seal(sys.argv[1])
    """
    run(script, path, code=9)
    assert parquets(directory) == []
    assert [name for name in os.listdir(directory) if name.endswith(".tmp")] != []
    assert seal(path).made == 2
    assert [name for name in os.listdir(directory) if name.endswith(".tmp")] == []
