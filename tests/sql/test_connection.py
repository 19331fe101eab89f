"""What a connection sees: everything that is recorded, each record once, at any time."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

import pytest

from rimp_otel.errors import StorageError
from rimp_otel.sql import connect
from rimp_otel.sql import connection as module
from rimp_otel.sql.source import Source
from tests.processes import run
from tests.sql.conftest import ask, seal_now, sealed_files, store
from tests.storage.journaled import Journaled
from tests.storage.recordings import batch, line

BODIES = "SELECT Body FROM otel_logs ORDER BY Body"


def bodies(connection):
    """Of all log records."""
    return "".join(row[0] for row in ask(connection, BODIES))


@pytest.fixture
def process(path):
    """One that records, through a journal."""
    process = Journaled(path)
    yield process
    process.close()


def test_nothing_recorded(connection, path):
    """All views are there, and empty; nothing is made."""
    assert bodies(connection) == ""
    assert ask(connection, "SELECT count(*) FROM otel_traces") == [(0,)]
    assert not path.exists()


def test_a_record_on_its_way(connection, path, process):
    """In the journal, in a file, among the sealed ones: seen once, by one connection and others."""
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


def test_active_and_waiting_and_sealed(path, storage, connection):
    """Are put together, also of several processes."""
    storage.store(batch("a"))
    seal_now(storage)
    storage.store(batch("b"))
    other = Journaled(path)
    other.collect("c")
    (path / "sealed" / f"logs-{'0' * 16}.jsonl").write_bytes(line("d") + b"\n")
    assert bodies(connection) == "abcd"
    other.close()


def test_dead_process(path, connection, process):
    """What it left in its journal is there."""
    process.collect("a")
    process.die()
    assert bodies(connection) == "a"


def test_family(tmp_path):
    """A path that ends in .jsonl."""
    store(tmp_path / "t.jsonl", batch("a"))
    with connect(tmp_path / "t.jsonl") as connection:
        assert bodies(connection) == "a"


def test_working_directory_may_change(tmp_path, monkeypatch):
    """A relative path stays what it was."""
    monkeypatch.chdir(tmp_path)
    store(Path("t"), batch("a"))
    with connect("t") as connection:
        monkeypatch.chdir("/")
        assert bodies(connection) == "a"


def test_only_what_is_asked_for_is_read(path, storage, connection, monkeypatch):
    """Logs are decoded when logs are asked for."""
    read = []
    refresh = Source.refresh
    monkeypatch.setattr(Source, "refresh", lambda s: read.append(s.signal.value) or refresh(s))
    ask(connection, "SELECT 1")
    ask(connection, "SELECT count(*) FROM OTEL_Logs")
    assert read == ["logs"]


def test_sealed_files_get_twins(path, storage, connection):
    """Beside them, private; they are read from then on."""
    storage.store(batch("a"))
    (sealed,) = seal_now(storage)
    assert bodies(connection) == "a"
    (twin,) = sealed.parent.glob("*.parquet")
    assert twin.name == sealed.name.replace(".jsonl.zst", ".parquet")
    assert twin.stat().st_mode & 0o777 == 0o600
    changed = twin.stat().st_mtime_ns
    with connect(path) as again:
        assert bodies(again) == "a"
    assert twin.stat().st_mtime_ns == changed


def test_many_records_are_let_go(path, storage, connection, monkeypatch):
    """Once a connection holds many, it starts over, with the twins of what is sealed by then."""
    monkeypatch.setattr("rimp_otel.sql.source._MANY", 2)
    storage.store(batch("a", "b", "c"))
    assert bodies(connection) == "abc"
    (sealed,) = seal_now(storage)
    storage.store(batch("d"))
    assert bodies(connection) == "abcd"
    assert sealed.with_name(sealed.name.replace(".jsonl.zst", ".parquet")).exists()
    assert connection._sources["logs"].table().num_rows == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_recording_of_somebody_else(path, storage):
    """Without the right to write there, twins are made aside, for this connection."""
    storage.store(batch("a"))
    (sealed,) = seal_now(storage)
    sealed.parent.chmod(0o500)
    with connect(path) as connection:
        assert bodies(connection) == "a"
    sealed.parent.chmod(0o700)
    assert list(sealed.parent.glob("*.parquet")) == []


def test_no_room_for_twins(path, storage, monkeypatch):
    """The same; what was put aside is removed."""
    storage.store(batch("a"))
    (sealed,) = seal_now(storage)
    make, made = module.Source.__init__.__globals__["make_twin"], []

    def make_twin(content, directory, twin):
        if twin.parent == directory:
            raise OSError(28, "No space left on device")
        made.append(twin)
        return make(content, directory, twin)

    monkeypatch.setattr("rimp_otel.sql.source.make_twin", make_twin)
    with connect(path) as connection:
        assert bodies(connection) == "a"
        assert made[0].exists()
        assert made[0].parent.stat().st_mode & 0o777 == 0o700
    assert not made[0].parent.exists()
    assert list(sealed.parent.glob("*.parquet")) == []


def test_retention_in_between(path, storage, connection):
    """What was deleted since the last query is gone, without an error."""
    storage.store(batch("a"))
    (sealed,) = seal_now(storage)
    storage.store(batch("b"))
    assert bodies(connection) == "ab"
    for file in sealed.parent.iterdir():
        file.unlink()
    assert bodies(connection) == "b"


def test_damaged_twin(path, storage, connection):
    """Whose end is whole: it is made anew when reading it fails."""
    storage.store(batch("a"))
    (sealed,) = seal_now(storage)
    assert bodies(connection) == "a"
    (twin,) = sealed.parent.glob("*.parquet")
    data = bytearray(twin.read_bytes())
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    data[4:end] = b"\xff" * (end - 4)
    twin.write_bytes(data)
    with connect(path) as again:
        assert bodies(again) == "a"
    assert twin.read_bytes() != data


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + b"\0" * 40 + b"PAR1", b"x" * 100])
def test_what_is_no_twin(path, storage, data):
    """Is replaced by one."""
    storage.store(batch("a"))
    (sealed,) = seal_now(storage)
    twin = sealed.with_name(sealed.name.replace(".jsonl.zst", ".parquet"))
    twin.write_bytes(data)
    with connect(path) as connection:
        assert bodies(connection) == "a"
    assert twin.read_bytes().startswith(b"PAR1")


def test_damaged_lines(path, storage, connection):
    """Are left out and counted; the others are there."""
    storage.store(batch("a"))
    storage.close()
    with (path / "logs.jsonl").open("ab") as file:
        file.write(b"no JSON\n" + line("b") + b'\n{"resourceLogs":[{"scopeLogs":7}]}\n')
    assert bodies(connection) == "ab"
    assert connection.damaged() == 2


def test_damaged_sealed_file(path, storage, connection):
    """What can be read of it is there."""
    storage.store(batch("a"))
    (sealed,) = seal_now(storage)
    sealed.write_bytes(sealed.read_bytes()[:-9])
    assert bodies(connection) == ""


def test_foreign_files(path, storage, connection):
    """Of other names, also Parquet files, are no part of the recording."""
    storage.store(batch("a"))
    (sealed,) = seal_now(storage)
    (sealed.parent / "other.parquet").write_bytes(b"x")
    (sealed.parent / "notes.txt").write_text("x")
    assert bodies(connection) == "a"
    assert (sealed.parent / "other.parquet").read_bytes() == b"x"


def test_line_that_is_being_written(path, storage, connection):
    """Foreign writers may have written a part; that costs nothing but this line."""
    storage.store(batch("a"))
    storage.close()
    with (path / "logs.jsonl").open("ab") as file:
        file.write(line("b")[:40])
    assert bodies(connection) == "a"


def test_unreadable(tmp_path):
    """Is said."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "logs.jsonl").mkdir()
    with (
        connect(tmp_path / "t") as connection,
        pytest.raises(StorageError, match=r"^cannot read .*logs\.jsonl: Is a directory$"),
    ):
        bodies(connection)


def test_as_duckdb(connection, everything_stored):
    """Parameters, relations, and all that fetches."""
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
    with pytest.raises(AttributeError):
        connection._private  # noqa: B018


def test_data_frames(connection, everything_stored):
    """Where pandas is there."""
    pytest.importorskip("pandas")
    frame = connection.execute("SELECT SpanName, Timestamp FROM otel_traces ORDER BY 2").df()
    assert list(frame["SpanName"]) == ["checkout", "bare"]
    assert frame["Timestamp"][0].value == 1_795_521_600_000_000_000


def test_what_is_put_aside_goes(path, monkeypatch):
    """When the connection is closed, and when it is forgotten."""
    made = []
    make = module.tempfile.mkdtemp
    monkeypatch.setattr(module.tempfile, "mkdtemp", lambda **a: made.append(make(**a)) or made[-1])
    connect(path).close()
    connection = connect(path)
    assert [os.path.exists(directory) for directory in made] == [False, True]
    del connection
    gc.collect()
    assert [os.path.exists(directory) for directory in made] == [False, False]


def test_forked_child(path, storage):
    """Takes nothing away from its parent when it ends."""
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
    """Is told of what has to be decoded first, once."""
    storage.store(batch("a"))
    seal_now(storage)
    told = []
    for _ in range(2):
        with connect(path, progress=lambda *what: told.append(what)) as connection:
            bodies(connection)
    assert told == [("logs", 0, 1)]


def test_twins_of_a_copy(tmp_path, path, storage, connection):
    """Go with it."""
    storage.store(batch("a"))
    seal_now(storage)
    bodies(connection)
    shutil.copytree(path, tmp_path / "copy")
    told = []
    with connect(tmp_path / "copy", progress=lambda *what: told.append(what)) as copy:
        assert bodies(copy) == "a"
    assert told == []
    assert len(sealed_files(tmp_path / "copy")) == 1
