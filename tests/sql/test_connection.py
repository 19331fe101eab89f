"""A connection sees everything that is recorded, each record once, at any time."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from rimp_otel import FileStorage
from rimp_otel.models.records import Signal
from rimp_otel.sql import connect
from rimp_otel.sql.parquet import parquet_path
from rimp_otel.sql.source import SignalSource
from rimp_otel.storage.files.lines import list_data_files
from tests.processes import run
from tests.sql.conftest import ask, seal_now, sealed_files, store
from tests.storage.journaled import Journaled
from tests.storage.recordings import batch, line

BODIES = "SELECT Body FROM otel_logs ORDER BY Body"


def bodies(connection):
    """The bodies of all log records, joined."""
    return "".join(row[0] for row in ask(connection, BODIES))


@pytest.fixture
def process(path):
    """A process that records through a journal."""
    process = Journaled(path)
    yield process
    process.close()


def test_nothing_recorded(connection, path):
    """All views exist and are empty; no file is created."""
    assert bodies(connection) == ""
    assert ask(connection, "SELECT count(*) FROM otel_traces") == [(0,)]
    assert not path.exists()


def test_a_record_on_its_way(connection, path, process):
    """A record is seen once in the journal, an active file and a sealed file, by all connections."""
    for step in (
        lambda: process.collect("a"),
        process.drain,
        lambda: process.collect("b"),
        process.storage.rotate,
        lambda: process.collect("c"),
        process.drain,
        lambda: seal_now(process.storage),
    ):
        step()
        with connect(path) as other:
            assert bodies(other) == bodies(connection)
    assert bodies(connection) == "abc"


def test_active_and_waiting_and_sealed_files(path, storage, connection):
    """Records of all files, and of several processes, are seen together."""
    storage.store(batch("a"))
    seal_now(storage)
    storage.store(batch("b"))
    other = Journaled(path)
    other.collect("c")
    (path / "sealed" / f"logs-{'0' * 16}.jsonl").write_bytes(line("d") + b"\n")
    assert bodies(connection) == "abcd"
    other.close()


def test_dead_process(path, connection, process):
    """Records in the journal of a dead process are seen."""
    process.collect("a")
    process.die()
    assert bodies(connection) == "a"


def test_path_of_a_file_family(tmp_path):
    """A path may end in .jsonl."""
    store(tmp_path / "t.jsonl", batch("a"))
    with connect(tmp_path / "t.jsonl") as connection:
        assert bodies(connection) == "a"


def test_working_directory_may_change(tmp_path, monkeypatch):
    """A relative path is resolved when the connection is made."""
    monkeypatch.chdir(tmp_path)
    store(Path("t"), batch("a"))
    with connect("t") as connection:
        monkeypatch.chdir("/")
        assert bodies(connection) == "a"


def test_only_what_is_asked_for_is_read(path, storage, connection, monkeypatch):
    """Only the signals of a query are read."""
    read = []
    refresh = SignalSource.refresh
    monkeypatch.setattr(
        SignalSource, "refresh", lambda s: read.append(s.signal.value) or refresh(s)
    )
    ask(connection, "SELECT 1")
    ask(connection, "SELECT count(*) FROM OTEL_Logs")
    assert read == ["logs"]


def test_sealed_files_get_copies(path, storage, connection):
    """Private Parquet copies are made beside them, and read from then on."""
    storage.store(batch("a"))
    (sealed,) = seal_now(storage)
    assert bodies(connection) == "a"
    (copy,) = sealed.parent.glob("*.parquet")
    assert copy.name == sealed.name.replace(".jsonl.zst", ".parquet")
    assert copy.stat().st_mode & 0o777 == 0o600
    changed = copy.stat().st_mtime_ns
    with connect(path) as again:
        assert bodies(again) == "a"
    assert copy.stat().st_mtime_ns == changed


def test_many_rows_are_dropped(path, storage, tmp_path):
    """Many rows in memory are replaced by the copies of the files that are sealed by then."""
    source = SignalSource(path, Signal.LOGS, tmp_path, max_rows=2)
    storage.store(batch("a", "b", "c"))
    assert source.refresh()
    assert (source.table().num_rows, source.files()) == (3, [])
    seal_now(storage)
    storage.store(batch("d"))
    assert source.refresh()
    (content,) = list_data_files(path / "sealed")
    assert (source.table().num_rows, source.files()) == (1, [str(parquet_path(content))])
    assert not source.refresh()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_recording_of_another_user(path, storage):
    """Copies that cannot be made beside their sealed files are made for the connection alone."""
    storage.store(batch("a"))
    (sealed,) = seal_now(storage)
    sealed.parent.chmod(0o500)
    with connect(path) as connection:
        assert bodies(connection) == "a"
    sealed.parent.chmod(0o700)
    assert list(sealed.parent.glob("*.parquet")) == []


def test_temporary_copies(path, storage, tmp_path, monkeypatch):
    """They are private, and deleted with the connection."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    storage.store(batch("a"))
    (sealed,) = seal_now(storage)
    (content,) = list_data_files(path / "sealed")
    # Nothing can be written beside the sealed file.
    sealed.with_name(f".{parquet_path(content).name}.tmp").mkdir()
    with connect(path) as connection:
        assert bodies(connection) == "a"
        (copy,) = tmp_path.glob("rimp-sql-*/*.parquet")
        assert copy.parent.stat().st_mode & 0o777 == 0o700
    assert not copy.parent.exists()
    assert list(sealed.parent.glob("*.parquet")) == []


def test_retention_in_between(path, storage, connection):
    """Records that were deleted since the last query are gone, without an error."""
    storage.store(batch("a"))
    (sealed,) = seal_now(storage)
    storage.store(batch("b"))
    assert bodies(connection) == "ab"
    for file in sealed.parent.iterdir():
        file.unlink()
    assert bodies(connection) == "b"


def test_damaged_copy(path, storage, connection):
    """A copy with a whole footer is replaced when reading it fails."""
    storage.store(batch("a"))
    (sealed,) = seal_now(storage)
    assert bodies(connection) == "a"
    (copy,) = sealed.parent.glob("*.parquet")
    data = bytearray(copy.read_bytes())
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[4:end] = b"\xff" * (end - 4)
    copy.write_bytes(data)
    with connect(path) as again:
        assert bodies(again) == "a"
    assert copy.read_bytes() != data


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\0" * 40 + b"PAR1", b"x" * 100])
def test_a_file_that_is_no_copy(path, storage, data):
    """A file with the name of a copy is replaced by one."""
    storage.store(batch("a"))
    (sealed,) = seal_now(storage)
    copy = sealed.with_name(sealed.name.replace(".jsonl.zst", ".parquet"))
    copy.write_bytes(data)
    with connect(path) as connection:
        assert bodies(connection) == "a"
    assert copy.read_bytes().startswith(b"PAR1")


def test_damaged_lines(path, storage, connection):
    """They are left out and counted; the others are seen."""
    storage.store(batch("a"))
    storage.close()
    with (path / "logs.jsonl").open("ab") as file:
        file.write(b"no JSON\n" + line("b") + b'\n{"resourceLogs":[{"scopeLogs":7}]}\n')
    assert bodies(connection) == "ab"
    assert connection.damaged() == 2


def test_damaged_sealed_file(path, storage, connection):
    """Records that can be read are seen."""
    storage.store(batch("a"))
    (sealed,) = seal_now(storage)
    sealed.write_bytes(sealed.read_bytes()[:-9])
    assert bodies(connection) == ""


def test_foreign_files(path, storage, connection):
    """Files of other names, Parquet files too, are no part of the recording."""
    storage.store(batch("a"))
    (sealed,) = seal_now(storage)
    (sealed.parent / "other.parquet").write_bytes(b"x")
    (sealed.parent / "notes.txt").write_text("x")
    assert bodies(connection) == "a"
    assert (sealed.parent / "other.parquet").read_bytes() == b"x"


def test_line_that_is_being_written(path, storage, connection):
    """Another program may have written a part of a line; the other lines are seen."""
    storage.store(batch("a"))
    storage.close()
    with (path / "logs.jsonl").open("ab") as file:
        file.write(line("b")[:40])
    assert bodies(connection) == "a"


def test_directory_in_the_place_of_a_file(tmp_path):
    """What is no file costs itself, and the rest is answered."""
    storage = FileStorage(tmp_path / "t")
    storage.store(batch("a"))
    storage.rotate()
    storage.close()
    (tmp_path / "t" / "logs.jsonl").unlink(missing_ok=True)
    (tmp_path / "t" / "logs.jsonl").mkdir()
    with connect(tmp_path / "t") as connection:
        assert bodies(connection) == "a"


def test_methods_of_duckdb(connection, everything_stored):
    """A connection has DuckDB's methods to pass parameters and to fetch, and no others."""
    execute = connection.execute
    assert execute(
        "SELECT Body FROM otel_logs WHERE EventName = ?", ["login.failed"]
    ).fetchone() == ("login",)
    assert execute("SELECT count(*) FROM otel_traces").fetchmany(5) == [(2,)]
    assert connection.description[0][0] == "count_star()"
    relation = connection.sql("SELECT SpanName FROM otel_traces ORDER BY 1")
    assert relation.columns == ["SpanName"]
    assert relation.fetchall() == [("bare",), ("checkout",)]
    assert relation.to_arrow_table().num_rows == 2
    assert execute("SELECT 1 AS n").fetchnumpy()["n"].tolist() == [1]
    assert not hasattr(connection, "register")


def test_data_frames(connection, everything_stored):
    """A result is a data frame if pandas is there."""
    pytest.importorskip("pandas")
    frame = connection.execute("SELECT SpanName, Timestamp FROM otel_traces ORDER BY 2").df()
    assert list(frame["SpanName"]) == ["checkout", "bare"]
    assert frame["Timestamp"][0].value == 1_795_521_600_000_000_000


def test_temporary_files_are_deleted(path, tmp_path, monkeypatch):
    """They are deleted when the connection is closed, and when it is garbage."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    connect(path).close()
    assert list(tmp_path.glob("rimp-sql-*")) == []
    connection = connect(path)
    assert len(list(tmp_path.glob("rimp-sql-*"))) == 1
    del connection
    gc.collect()
    assert list(tmp_path.glob("rimp-sql-*")) == []


def test_forked_child(path, storage):
    """It deletes nothing of its parent's when it ends."""
    script = """
    import os, sys
    from rimp_otel.sql import connect
    connection = connect(sys.argv[1])
    if os.fork() == 0:
        sys.exit()
    os.wait()
    print(os.path.exists(connection._close.peek()[2][2]))
    """
    assert run(script, path) == "True\n"


def test_progress(path, storage):
    """It is called once for each file that has to be decoded."""
    storage.store(batch("a"))
    seal_now(storage)
    calls = []
    for _ in range(2):
        with connect(path, progress=lambda *what: calls.append(what)) as connection:
            bodies(connection)
    assert calls == [("logs", 0, 1)]


def test_parquet_copies_of_a_copied_recording(tmp_path, path, storage, connection):
    """They are used there, too."""
    storage.store(batch("a"))
    seal_now(storage)
    bodies(connection)
    shutil.copytree(path, tmp_path / "copy")
    calls = []
    with connect(tmp_path / "copy", progress=lambda *what: calls.append(what)) as copy:
        assert bodies(copy) == "a"
    assert calls == []
    assert len(sealed_files(tmp_path / "copy")) == 1
