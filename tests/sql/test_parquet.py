"""Parquet copies: plain, sorted, complete, private; every sealed file gets one."""

from __future__ import annotations

import os

import pyarrow.parquet
import pytest

from rimp_otel import FileStorage, TelemetryData
from rimp_otel.fsutil import lock_file
from rimp_otel.sql import connect, parquet
from rimp_otel.sql.extras import duckdb
from rimp_otel.sql.parquet import (
    ParquetResult,
    is_current_parquet,
    is_intact_parquet,
    make_parquet_file,
    make_parquet_files,
    parquet_path,
)
from rimp_otel.storage.files.lines import list_data_files
from tests.cli.records import span
from tests.contract.samples import everything
from tests.processes import run
from tests.sql.conftest import seal_now
from tests.storage.recordings import batch

SQL = "SELECT * FROM read_parquet('{}')"


@pytest.fixture
def sealed(path, storage):
    """Sealed files with one record of every kind, by signal."""
    storage.store(everything())
    seal_now(storage)
    return {content.signal.value: content for content in list_data_files(path / "sealed")}


def make_copy(content, **options):
    """Make the copy of a sealed file; return its path."""
    path = parquet_path(content)
    assert make_parquet_file(content, content.path.parent, path, **options) is not None
    return path


@pytest.mark.parametrize(("signal", "rows"), [("traces", 2), ("logs", 10), ("metrics", 7)])
def test_copy_of_a_sealed_file(sealed, signal, rows):
    """A copy lies beside the sealed file, is private, and says what it was made of."""
    content = sealed[signal]
    counts = make_parquet_file(content, content.path.parent, parquet_path(content))
    copy = parquet_path(content)
    assert counts == (rows, copy.stat().st_size, 0)
    assert copy.name == f"{content.name.stem}.parquet"
    assert copy.stat().st_mode & 0o777 == 0o600
    assert (is_current_parquet(content, copy), is_intact_parquet(copy)) == (True, True)
    assert [name for name in os.listdir(copy.parent) if "tmp" in name] == []
    label = pyarrow.parquet.read_metadata(copy).metadata[b"rimp.sealed"].decode()
    assert label.startswith(f"2 {content.name} {content.path.stat().st_size} {rows} 0 crc32:")


def test_read_by_pyarrow_and_duckdb(sealed):
    """Other programs read a copy without this package; times are exact."""
    copy = make_copy(sealed["traces"])
    table = pyarrow.parquet.read_table(copy)
    assert table.column("SpanName").to_pylist() == ["checkout", "bare"]
    assert table.column("Timestamp").cast("int64").to_pylist()[0] == 1_795_521_600_000_000_000
    assert dict(table.column("SpanAttributes")[0].as_py())["http.method"] == "GET"
    with duckdb.connect() as connection:
        found = connection.execute(SQL.format(copy).replace("*", "SpanName, SpanAttributes"))
        assert found.fetchall()[0][1]["sizes"] == "[1,2]"


def test_read_by_polars(sealed):
    """An independent implementation reads it, too."""
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(make_copy(sealed["traces"]))
    assert frame["SpanName"].to_list() == ["checkout", "bare"]
    assert frame["Timestamp"].dtype == polars.Datetime("ns")
    assert frame["Events"][0]["Name"] == ["cache.miss", "bare"]
    assert polars.read_parquet(make_copy(sealed["logs"])).height == 10
    assert polars.read_parquet(make_copy(sealed["metrics"]))["MetricType"].n_unique() == 5


@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
def test_features_of_parquet(sealed, signal):
    """A copy has zstd, statistics, a bloom filter of trace ids, and no types of Arrow alone."""
    copy = make_copy(sealed[signal])
    metadata = pyarrow.parquet.read_metadata(copy)
    group = metadata.row_group(0)
    columns = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    time = {"traces": "Timestamp", "logs": "Timestamp", "metrics": "TimeUnix"}[signal]
    assert columns[time].statistics.has_min_max
    assert b"ARROW:schema" not in (metadata.metadata or {})
    if signal != "metrics":
        with duckdb.connect() as connection:
            sql = f"SELECT bloom_filter_excludes FROM parquet_bloom_probe('{copy}', 'TraceId', '{{}}')"
            trace = pyarrow.parquet.read_table(copy).column("TraceId")[0].as_py()
            assert connection.execute(sql.format(trace)).fetchall() == [(False,)]
            assert connection.execute(sql.format("f" * 32)).fetchall() == [
                (parquet.HAS_BLOOM_FILTERS,)
            ]


def test_sorted(path, storage):
    """Rows are sorted by service, name and time."""
    spans = [
        span("b", 1, start=9, service="shop"),
        span("b", 2, start=3, service="shop"),
        span("a", 3, start=5, service="shop"),
        span("z", 4, start=1, service="mail"),
    ]
    storage.store(TelemetryData(spans=spans))
    seal_now(storage)
    (content,) = list_data_files(path / "sealed")
    table = pyarrow.parquet.read_table(make_copy(content))
    ids = [int(id, 16) for id in table.column("SpanId").to_pylist()]
    assert ids == [4, 3, 2, 1]


def test_row_groups(path, storage):
    """Many rows become row groups, so that memory is bounded."""
    for number in range(5):
        spans = [span(f"n{at % 3}", 100 * number + at + 1, start=at) for at in range(7)]
        storage.store(TelemetryData(spans=spans))
    seal_now(storage)
    (content,) = list_data_files(path / "sealed")
    copy = make_copy(content, max_rows=10)
    assert pyarrow.parquet.read_metadata(copy).num_row_groups == 3
    ids = pyarrow.parquet.read_table(copy).column("SpanId").to_pylist()
    expected = {100 * number + at + 1 for number in range(5) for at in range(7)}
    assert {int(id, 16) for id in ids} == expected
    assert len(ids) == 35


def test_current_copies(sealed):
    """A copy that is truncated, or of another file or state of a file, is not current."""
    content = sealed["logs"]
    copy = make_copy(content)
    data = copy.read_bytes()
    for broken in (data[:-1], data[:-100], data[: len(data) // 2], b"", data + b"x"):
        copy.write_bytes(broken)
        assert not is_current_parquet(content, copy)
    copy.write_bytes(data)
    assert is_current_parquet(content, copy)
    assert not is_current_parquet(sealed["metrics"], copy)
    content.path.write_bytes(content.path.read_bytes() + b"\0")
    assert not is_current_parquet(content, copy)
    content.path.unlink()
    assert not is_current_parquet(content, copy)


def test_links_are_not_followed(sealed, tmp_path):
    """Symbolic links are followed neither to read a copy nor to write one."""
    content = sealed["logs"]
    copy = make_copy(content)
    elsewhere = tmp_path / "elsewhere"
    copy.rename(elsewhere)
    copy.symlink_to(elsewhere)
    assert not is_current_parquet(content, copy)
    unfinished = copy.with_name(f".{copy.name}.tmp")
    victim = tmp_path / "victim"
    victim.write_text("kept")
    unfinished.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        make_parquet_file(content, copy.parent, copy)
    assert victim.read_text() == "kept"


def test_a_copy_that_another_process_makes(sealed):
    """It is left to that process; an unfinished copy of a killed process is replaced."""
    content = sealed["logs"]
    copy = parquet_path(content)
    unfinished = copy.with_name(f".{copy.name}.tmp")
    unfinished.write_bytes(b"begun")
    file = os.open(unfinished, os.O_RDWR)
    assert lock_file(file)
    assert make_parquet_file(content, copy.parent, copy) is None
    assert unfinished.read_bytes() == b"begun"
    os.close(file)
    assert make_parquet_file(content, copy.parent, copy) is not None
    assert (is_current_parquet(content, copy), unfinished.exists()) == (True, False)


def test_a_sealed_file_that_is_deleted_meanwhile(sealed, monkeypatch):
    """No copy is left of a sealed file that retention deletes while it is copied."""
    content = sealed["logs"]
    find = parquet.open_data_file

    def find_and_delete(*args):
        found = find(*args)
        content.path.unlink()
        return found

    monkeypatch.setattr(parquet, "open_data_file", find_and_delete)
    assert make_parquet_file(content, content.path.parent, parquet_path(content)) is None
    assert [n for n in os.listdir(content.path.parent) if "parquet" in n] == []


def test_a_failure_leaves_nothing_behind(sealed, monkeypatch):
    """An unfinished copy is removed."""
    content = sealed["logs"]

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "open_data_file", fail)
    with pytest.raises(OSError, match="No space left"):
        make_parquet_file(content, content.path.parent, parquet_path(content))
    assert [n for n in os.listdir(content.path.parent) if "parquet" in n] == []


def test_retention_deletes_copies(path):
    """A copy is deleted with its sealed file; other Parquet files stay."""
    with_retention = FileStorage(path, retain_size=0)
    with_retention.store(everything())
    (path / "sealed").mkdir(mode=0o700)
    (path / "sealed" / "other.parquet").write_bytes(b"x")
    keeping = FileStorage(path)
    with_retention.close()
    seal_now(keeping)
    for content in list_data_files(path / "sealed"):
        make_copy(content)
    assert len(list((path / "sealed").glob("*.parquet"))) == 4
    with_retention._writer.sealer.run()
    assert os.listdir(path / "sealed") == ["other.parquet"]
    keeping.close()


def test_damaged_lines_are_counted(path, storage):
    """Lines that cannot be read are counted, and left out."""
    storage.store(everything())
    storage.close()
    with (path / "logs.jsonl").open("ab") as file:
        file.write(b"no JSON\n")
    seal_now(storage)
    (content,) = [c for c in list_data_files(path / "sealed") if c.signal.value == "logs"]
    counts = make_parquet_file(content, path / "sealed", parquet_path(content))
    assert (counts.rows, counts.damaged) == (10, 1)
    assert is_current_parquet(content, parquet_path(content))


def test_copy_without_rows(path, storage):
    """The copy of a sealed file without records has all columns."""
    storage.store(everything())
    seal_now(storage)
    (content,) = [c for c in list_data_files(path / "sealed") if c.signal.value == "logs"]
    content.path.write_bytes(b"")
    copy = make_copy(content)
    assert is_current_parquet(content, copy)
    table = pyarrow.parquet.read_table(copy)
    assert (table.num_rows, table.num_columns) == (0, 24)


@pytest.fixture
def directory(path, storage):
    """A directory with two sealed files."""
    for message in "ab":
        storage.store(batch(message))
        seal_now(storage)
    return path / "sealed"


def parquet_names(directory):
    """The names of the Parquet files in a directory."""
    return sorted(name for name in os.listdir(directory) if name.endswith(".parquet"))


def test_no_recording(path):
    """Without a recording nothing is made, which is no error."""
    assert make_parquet_files(path) == ParquetResult()
    assert not path.exists()


def test_missing_copies_are_made(path, directory):
    """A second time there is nothing to do."""
    calls = []
    done = make_parquet_files(
        path, lambda file, number, total: calls.append((file.suffix, number, total))
    )
    assert (done.made, done.records, done.kept, done.damaged, done.errors) == (2, 2, 0, 0, ())
    assert calls == [(".zst", 0, 2), (".zst", 1, 2)]
    assert done.bytes == sum((directory / name).stat().st_size for name in parquet_names(directory))
    assert all(
        is_current_parquet(content, parquet_path(content)) for content in list_data_files(directory)
    )
    again = make_parquet_files(path)
    assert (again.made, again.kept) == (0, 2)


def test_rebuild_and_check(path, directory):
    """Copies are replaced on demand, or if reading them shows that they are damaged."""
    make_parquet_files(path)
    assert make_parquet_files(path, rebuild=True).made == 2
    assert make_parquet_files(path, check=True).made == 0
    copy = directory / parquet_names(directory)[0]
    data = bytearray(copy.read_bytes())
    data[20:60] = b"\xff" * 40
    copy.write_bytes(data)
    assert make_parquet_files(path).made == 0
    assert make_parquet_files(path, check=True).made == 1


def damage(data: bytes, kind: str, at: float) -> bytes:
    """Return the bytes of a file with damage at a place from 0 to 1."""
    place = int((len(data) - 1) * at)
    if kind == "flip":
        return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
    if kind == "cut":
        return data[:place] + data[place + 100 :]
    if kind == "insert":
        return data[:place] + b"inserted" + data[place:]
    half = len(data) // 2
    return data[:place] + data[half : half + 64] + data[place + 64 :]  # spliced


@pytest.mark.parametrize("kind", ["flip", "cut", "insert", "splice"])
@pytest.mark.parametrize("at", [0, 0.1, 0.4, 0.7, 0.9, 0.97, 1])
def test_damage_is_found(sealed, kind, at):
    """Every byte of a copy counts, though its size and time be unchanged."""
    copy = make_copy(sealed["logs"])
    assert is_intact_parquet(copy)
    with duckdb.connect() as raw:
        rows = raw.execute(SQL.format(copy)).fetchall()
    status = copy.stat()
    copy.write_bytes(damage(copy.read_bytes(), kind, at))
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not is_intact_parquet(copy)
    with connect(sealed["logs"].path.parent.parent) as connection:
        sql = "SELECT count(), min(Timestamp), max(Body) FROM otel_logs"
        expected = [(len(rows), min(row[0] for row in rows), max(row[7] for row in rows))]
        assert connection.execute(sql).fetchall() == expected
    assert is_intact_parquet(copy)


def test_orphans(path, directory):
    """Copies without a sealed file are removed; links and files of other names stay."""
    make_parquet_files(path)
    (content, other) = list_data_files(directory)
    content.path.unlink()
    (directory / "mine.parquet").write_bytes(b"x")
    link = directory / f"logs-1-2-{'a' * 16}.parquet"
    link.symlink_to(directory / "mine.parquet")
    (directory / f".{other.name.stem}.parquet.tmp").write_bytes(b"begun by one who was killed")
    (directory / ".mine.parquet.tmp").write_bytes(b"x")
    assert make_parquet_files(path).removed == 1
    assert parquet_names(directory) == sorted(
        [".mine.parquet", "mine.parquet", link.name, parquet_path(other).name][1:]
    )
    assert [name for name in os.listdir(directory) if "tmp" in name] == [".mine.parquet.tmp"]


def test_one_at_a_time(path, directory):
    """While a process makes copies, another one does nothing."""
    file = os.open(directory, os.O_RDONLY)
    assert lock_file(file)
    assert make_parquet_files(path).is_busy
    os.close(file)
    assert make_parquet_files(path).made == 2


def test_a_sealed_file_that_cannot_be_read(path, directory):
    """The other files get their copies."""
    (content, _) = list_data_files(directory)
    content.path.unlink()
    content.path.mkdir()
    assert make_parquet_files(path).made == 1


def test_copies_that_cannot_be_written(path, directory):
    """Each failure is reported."""
    for content in list_data_files(directory):
        copy = parquet_path(content)
        copy.with_name(f".{copy.name}.tmp").mkdir()
    done = make_parquet_files(path)
    assert done.made == 0
    assert len(done.errors) == 2
    assert done.errors[0].startswith(f"cannot make the Parquet copy of {directory}/logs-")
    assert done.errors[0].endswith(".jsonl.zst: Is a directory")


def test_a_killed_process(path, directory):
    """The next process makes all copies."""
    script = """
    import os, sys
    from rimp_otel.sql import parquet
    def die(*args):
        os._exit(9)
    parquet.os.rename = die
    parquet.make_parquet_files(sys.argv[1])
    """
    run(script, path, code=9)
    assert parquet_names(directory) == []
    assert [name for name in os.listdir(directory) if name.endswith(".tmp")] != []
    assert make_parquet_files(path).made == 2
    assert [name for name in os.listdir(directory) if name.endswith(".tmp")] == []
