"""SQLiteStorage: one file, for its owner alone, and what can go wrong with it."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from contextlib import closing

import pytest

from rimp_otel import (
    ConfigurationError,
    SQLiteStorage,
    StorageError,
    TelemetryConfig,
    TelemetryData,
    TelemetryEvent,
    install,
)
from rimp_otel.models.records import Signal
from rimp_otel.storage import FileStorage
from rimp_otel.storage import SQLiteStorage as Exported
from rimp_otel.streaming.stream import storage_for
from tests.contract.samples import everything
from tests.processes import run
from tests.storage.sqlite.databases import batch, is_whole, messages, query, stored


@pytest.fixture
def path(tmp_path):
    """The path of a database that does not exist yet."""
    return tmp_path / "telemetry.db"


@pytest.fixture
def storage(path):
    """A storage at that path."""
    storage = SQLiteStorage(path, lock_timeout=0.01)
    yield storage
    storage.close()


def mode(path):
    """Return a file's permissions."""
    return oct(stat.S_IMODE(os.stat(path).st_mode))


def test_private_to_its_owner(tmp_path):
    """The file, what SQLite keeps beside it, and new directories are private."""
    path = tmp_path / "new" / "telemetry.db"
    storage = SQLiteStorage(path)
    assert not path.exists()
    storage.store(batch("one"))
    names = sorted(file.name for file in path.parent.iterdir())
    assert names == ["telemetry.db", "telemetry.db-shm", "telemetry.db-wal"]
    assert {mode(file) for file in path.parent.iterdir()} == {"0o600"}
    assert mode(path.parent) == "0o700"
    storage.close()
    assert [file.name for file in path.parent.iterdir()] == ["telemetry.db"]


def test_reading_makes_nothing(storage, path):
    """Reading creates no file, and leaves nothing beside a closed one."""
    assert not storage.retrieve()
    assert not path.exists()
    storage.store(batch("one"))
    storage.close()
    assert messages(storage.retrieve()) == ["one"]
    assert os.listdir(path.parent) == ["telemetry.db"]


def test_write_ahead_log(storage, path):
    """Reading and writing do not keep each other waiting."""
    storage.store(batch("one"))
    assert query(path, "PRAGMA journal_mode") == [("wal",)]
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM records").fetchall() == [(1,)]
        storage.store(batch("two"))
        assert reader.execute("SELECT count(*) FROM records").fetchall() == [(1,)]
    assert stored(path) == ["one", "two"]


def test_links_are_not_followed(storage, path, tmp_path):
    """Links are refused wherever they lead, for writing and reading."""
    target = tmp_path / "target.db"
    SQLiteStorage(target).store(batch("kept"))
    path.symlink_to(target)
    for action in (storage.retrieve, lambda: storage.store(batch("one"))):
        with pytest.raises(StorageError, match=r"telemetry\.db: it is a symbolic link"):
            action()
    assert stored(target) == ["kept"]


def test_a_directory_is_refused(tmp_path):
    """A directory is refused, and a path that would do is named."""
    with pytest.raises(StorageError, match=r"is a directory; give .*telemetry\.db"):
        SQLiteStorage(tmp_path).store(batch("one"))


def test_a_directory_that_cannot_be_made(tmp_path):
    """A directory that cannot be created is named, with the reason."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot record into .*telemetry\.db: "):
        SQLiteStorage(tmp_path / "file" / "telemetry.db").store(batch("one"))


def test_another_programs_database_is_left_alone(storage, path):
    """Another program's database is left alone, whether it says whose it is or not."""
    query(path, "CREATE TABLE users (name)")
    before = path.read_bytes()
    for action in (storage.retrieve, lambda: storage.store(batch("one"))):
        with pytest.raises(StorageError, match="it is a database of another program"):
            action()
    assert path.read_bytes() == before
    query(path, "DROP TABLE users")
    query(path, "PRAGMA application_id = 7")
    with pytest.raises(StorageError, match="it is a database of another program"):
        storage.store(batch("one"))


def test_what_is_no_database_is_left_alone(storage, path):
    """A file that is no database is left alone, and named."""
    path.write_text(
        "a letter to my aunt, which is longer than SQLite's header of a hundred bytes" * 2
    )
    before = path.read_bytes()
    for action in (storage.retrieve, lambda: storage.store(batch("one"))):
        with pytest.raises(
            StorageError, match=r"telemetry\.db: file is not a database; it is some"
        ):
            action()
    assert path.read_bytes() == before


def test_a_damaged_file(storage, path):
    """A damaged file is a StorageError; once it is moved away, another is created."""
    storage.store(batch(*(f"message {i}" for i in range(2_000))))
    storage.close()
    with open(path, "r+b") as file:
        file.seek(4_096)
        file.write(os.urandom(path.stat().st_size - 8_192))
    with pytest.raises(StorageError, match="malformed; it is damaged: move it away"):
        storage.retrieve()
    with pytest.raises(StorageError, match="malformed"):
        storage.store(batch("one"))
    path.rename(path.with_suffix(".damaged"))
    storage.store(batch("two"))
    assert stored(path) == ["two"]


def test_a_damaged_record_costs_itself(storage, path):
    """A damaged record is skipped, and named."""
    storage.store(batch("one", "two", "three"))
    query(path, "UPDATE records SET text = 'x' || text WHERE message = 'two'")
    assert messages(storage.retrieve()) == ["one", "three"]
    ((where, number, reason),) = storage.damaged
    assert (where, number) == (path, 2)
    assert "malformed" in reason


def test_a_locked_file_is_an_error_that_passes(storage, path):
    """After lock_timeout, storing fails for now; reading is not affected."""
    storage.store(batch("one"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="database is locked; another process"):
            storage.store(batch("two"))
        assert messages(storage.retrieve()) == ["one"]
        other.execute("ROLLBACK")
    storage.store(batch("two"))
    assert stored(path) == ["one", "two"]


def test_waits_for_a_lock(path):
    """A lock that is released in time is waited for."""
    storage = SQLiteStorage(path, lock_timeout=20.0)
    storage.store(batch("one"))
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.02, lambda: other.execute("ROLLBACK"))
        timer.start()
        storage.store(batch("two"))
        timer.join()
    storage.close()
    assert stored(path) == ["one", "two"]


def test_a_full_disk_keeps_nothing_of_a_batch(storage, path):
    """On a full disk nothing of a batch is kept; the error passes."""
    storage.store(batch("one"))
    storage._writer._db.execute("PRAGMA max_page_count = 20")
    with pytest.raises(StorageError, match="database or disk is full; make room on the disk"):
        storage.store(batch(*("long" * 100 for _ in range(1_000))))
    assert stored(path) == ["one"]
    storage.store(batch("two"))
    assert stored(path) == ["one", "two"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_cannot_be_written(storage, path):
    """A file that cannot be written is an error that passes."""
    storage.store(batch("one"))
    storage.close()
    path.chmod(0o400)
    with pytest.raises(StorageError, match="cannot be written"):
        storage.store(batch("two"))
    path.chmod(0o600)
    storage.store(batch("two"))
    assert stored(path) == ["one", "two"]


@pytest.mark.parametrize("suffixes", [[""], ["", "-wal", "-shm"]])
def test_a_file_that_is_removed_while_open(storage, path, suffixes):
    """The next batch creates a removed file again."""
    storage.store(batch("one"))
    for suffix in suffixes:
        os.unlink(f"{path}{suffix}")
    storage.store(batch("two"))
    assert stored(path) == ["two"]
    assert storage.stats().opened == 2
    assert is_whole(path)


def test_a_file_that_is_removed_while_it_is_written(storage, path, monkeypatch):
    """A batch whose file was removed meanwhile is offered again."""
    storage.store(batch("one"))
    insert = storage._writer._insert

    def remove(db, rows):
        insert(db, rows)
        path.unlink()

    monkeypatch.setattr(storage._writer, "_insert", remove)
    with pytest.raises(StorageError, match="the file was removed or replaced"):
        storage.store(batch("two"))
    monkeypatch.undo()
    storage.store(batch("two"))
    assert stored(path) == ["two"]


def test_the_working_directory_may_change(tmp_path, monkeypatch):
    """The file stays where it was when the working directory changes."""
    monkeypatch.chdir(tmp_path)
    storage = SQLiteStorage("telemetry.db")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    storage.store(batch("one"))
    storage.close()
    assert stored(tmp_path / "telemetry.db") == ["one"]
    assert repr(storage) == "SQLiteStorage('telemetry.db')"


def test_what_it_interrupts(storage, path, monkeypatch):
    """A signal handler that stores while its thread stores is refused; nothing is spoilt."""
    storage.store(batch("one"))
    refused = []
    insert = storage._writer._insert

    def interrupted(db, rows):
        try:
            storage.store(batch("inner"))
        except StorageError as error:
            refused.append(str(error))
        insert(db, rows)

    monkeypatch.setattr(storage._writer, "_insert", interrupted)
    storage.store(batch("two"))
    assert refused == [f"cannot write {path}: the interrupted code is writing it"]
    assert stored(path) == ["one", "two"]


def test_threads_and_storages(path):
    """Several threads and storages may record into one file, and read it meanwhile."""
    storages = [SQLiteStorage(path, lock_timeout=50.0) for _ in range(2)]

    def record(number):
        for i in range(20):
            storages[number % 2].store(batch(f"{number}-{i}"))
            storages[number % 2].retrieve(limit=3)

    threads = [threading.Thread(target=record, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for storage in storages:
        storage.close()
    assert sorted(stored(path)) == sorted(f"{n}-{i}" for n in range(4) for i in range(20))
    assert is_whole(path)


def test_forked_children(tmp_path):
    """Each child opens the file for itself, also in the middle of its parent's writing; the parent
    continues with its own connection, however the child ends."""
    script = """
    import os, sys, threading
    from rimp_otel import SQLiteStorage, TelemetryData, TelemetryEvent
    storage = SQLiteStorage(sys.argv[1], lock_timeout=50.0)
    def store(message):
        storage.store(TelemetryData(events=[TelemetryEvent("a", message, time_unix_nano=1)]))
    store("before")
    done = threading.Event()
    def work():
        while not done.is_set():
            store("thread")
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    for number in range(12):
        if (child := os.fork()) == 0:
            store(f"child {number}")
            if number % 3 == 0:
                storage.close()
            if number % 3 == 1:
                raise SystemExit(0)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    done.set()
    thread.join()
    store("after")
    storage.close()
    """
    path = tmp_path / "telemetry.db"
    run(script, path)
    found = stored(path)
    assert [message for message in found if message != "thread"] == [
        "before",
        *(f"child {number}" for number in range(12)),
        "after",
    ]
    assert is_whole(path)


def test_is_not_recorded_itself(tmp_path):
    """If sqlite3 is instrumented, our statements make no spans: there would be ever more."""
    pytest.importorskip("opentelemetry.instrumentation.sqlite3")
    script = """
    import sqlite3, sys
    from opentelemetry import trace
    from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
    from rimp_otel import TelemetryConfig, install
    SQLite3Instrumentor().instrument()
    config = TelemetryConfig(storage_backend="sqlite", storage_path=sys.argv[1])
    with install(config) as telemetry:
        sqlite3.connect(":memory:").cursor().execute("SELECT 1")
        telemetry.collector.flush()
        telemetry.storage.retrieve()
    print([span.name for span in telemetry.storage.retrieve().spans])
    """
    assert run(script, tmp_path / "telemetry.db") == "['SELECT']\n"


def test_named_by_a_configuration(tmp_path, monkeypatch):
    """A configuration names the storage; its default path is in the working directory."""
    storage = storage_for(TelemetryConfig(storage_backend="sqlite", storage_path=tmp_path / "x"))
    assert isinstance(storage, SQLiteStorage)
    assert storage.path == tmp_path / "x"
    monkeypatch.setenv("RIMP_STORAGE_BACKEND", "sqlite")
    config = TelemetryConfig.from_env()
    assert os.fspath(config.path) == "telemetry.db"
    assert os.fspath(storage_for(config).path) == "telemetry.db"
    assert Exported is SQLiteStorage


def test_installed(path):
    """All three signals come through the journal, which leaves nothing behind."""
    config = TelemetryConfig(storage_backend="sqlite", storage_path=path)
    telemetry = install(config, capture_logging=False)
    telemetry.collector.collect_event("app", "started")
    telemetry.collector.collect_metric("load", 0.5)
    assert telemetry.shutdown()
    data = telemetry.storage.retrieve()
    assert messages(data) == ["started"]
    assert [metric.name for metric in data.metrics][:1] == ["load"]
    assert telemetry.collector.stats().pending == 0
    journal = path.with_name("telemetry.db.journal")
    assert [file.name for file in journal.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"path": ""}, "storage_path must be a path or None, got ''"),
        ({"path": "x", "retain_size": -1}, "retain_size must be an integer >= 0, got -1"),
        ({"path": "x", "sync": "often"}, "sync must be .*, got 'often'"),
        (
            {"path": "x", "lock_timeout": 0},
            "lock_timeout must be a number of seconds > 0 and <= 3600, got 0",
        ),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    """A wrong argument is named, with what is allowed."""
    with pytest.raises(ConfigurationError, match=message):
        SQLiteStorage(**arguments)


def test_lines_are_kept_as_they_are(storage, path):
    """What a file keeps of foreign lines, such as unknown fields, a database keeps too."""
    line = (
        b'{"resourceSpans":[{"resource":{"attributes":[],"x":1},"scopeSpans":[{"spans":'
        b'[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","new":[1.50],'
        b'"kind":"SPAN_KIND_SERVER","startTimeUnixNano":1}]}]}]}'
    )
    storage.store(TelemetryData.from_otlp_json([line]))
    ((text,),) = query(path, "SELECT text FROM records")
    assert text.encode() == line[line.index(b'{"traceId') : -len(b"]}]}]}")]
    assert storage.retrieve(trace_id="0af7651916cd43dd8448eb211c80319c").spans[0].kind.name == (
        "SERVER"
    )


def test_gives_the_same_as_files(storage, tmp_path):
    """Equal lines in files and in a database are read equally."""
    files = FileStorage(tmp_path / "files")
    for kept in (storage, files):
        kept.store(everything())
    for signal in Signal:
        assert storage.retrieve().otlp_json(signal) == files.retrieve().otlp_json(signal)


def test_in_batches(storage, path):
    """Batches come in order, without what is stored meanwhile, and without holding the file."""
    times = [5, 1, 3, 3, 2, 4, 3]
    for number, time in enumerate(times):
        storage.store(batch(str(number), time=time))
    batches = storage.iter_retrieve(batch_size=2)
    first = next(batches)
    storage.store(batch("later", time=9))
    storage.close()
    assert os.listdir(path.parent) == ["telemetry.db"]
    assert [messages(data) for data in [first, *batches]] == [
        ["1", "4"],
        ["2", "3"],
        ["6", "5"],
        ["0"],
    ]
    assert [messages(data) for data in storage.iter_retrieve(name="no")] == []
    assert [len(data) for data in storage.iter_retrieve(signals="logs", batch_size=100)] == [8]


def test_many_in_batches(storage):
    """More records than a page come in batches, many of them of one time."""
    storage.store(batch(*map(str, range(3_500))))
    storage.store(TelemetryData(events=[TelemetryEvent("a", "x", time_unix_nano=7)] * 2_500))
    found = [message for data in storage.iter_retrieve() for message in messages(data)]
    assert found == ["x"] * 2_500 + list(map(str, range(3_500)))
    assert not list(SQLiteStorage("nothing.db").iter_retrieve())


def test_wrong_batch_sizes(storage):
    """A wrong batch size is an error at once, not with the first batch."""
    for size in (0, True, "5", 1.0):
        with pytest.raises(
            ConfigurationError, match=f"batch_size must be an integer >= 1, got {size!r}"
        ):
            storage.iter_retrieve(batch_size=size)


@pytest.mark.parametrize("sync", ["always", "interval", "never"])
def test_sync(path, sync):
    """The policy decides whether to sync before store returns, or when the journal asks for it."""
    storage = SQLiteStorage(path, sync=sync)
    target = storage.journal_target()
    target.sync()
    storage.store(batch("one"))
    expected = 2 if sync == "always" else 1
    assert storage._writer._db.execute("PRAGMA synchronous") == [(expected,)]
    target.sync()
    storage.close()
    assert stored(path) == ["one"]


def test_times_that_sqlite_cannot_hold(storage):
    """Times after the year 2262 count as its end, and are returned as they were."""
    late = 2**64 - 1
    storage.store(
        TelemetryData(
            events=[
                TelemetryEvent("a", "late", time_unix_nano=late),
                TelemetryEvent("a", "soon", time_unix_nano=2**63 + 1),
            ]
        )
    )
    assert {event.time_unix_nano for event in storage.retrieve().events} == {2**63 + 1, late}
    assert messages(storage.retrieve(start_time=2**64 // 10**9)) == ["late"]
    assert messages(storage.retrieve(end_time=2**63 // 10**9)) == []
