"""Parquet twins: plain files that hold what the sealed file holds, sorted, and can be trusted."""

from __future__ import annotations

import os

import pyarrow.parquet
import pytest

from rimp_otel import FileStorage, TelemetryData
from rimp_otel.fsutil import acquire
from rimp_otel.sql import parquet as twins
from rimp_otel.sql.extras import duckdb
from rimp_otel.sql.parquet import is_readable, is_whole, make_twin, twin_path
from rimp_otel.storage.files.lines import list_contents
from tests.cli.records import span
from tests.contract.samples import everything
from tests.sql.conftest import seal_now

SQL = "SELECT * FROM read_parquet('{}')"


@pytest.fixture
def sealed(path, storage):
    """The sealed files of one of everything, by their signals."""
    storage.store(everything())
    seal_now(storage)
    return {content.signal.value: content for content in list_contents(path / "sealed")}


def made(content, path=None):
    """The path of a content's twin, which is made now."""
    path = path or twin_path(content)
    assert make_twin(content, content.path.parent, path) is not None
    return path


@pytest.mark.parametrize(("signal", "rows"), [("traces", 2), ("logs", 10), ("metrics", 7)])
def test_what_is_made(sealed, signal, rows):
    """A file beside the sealed one, of its owner alone, that says what it was made of."""
    content = sealed[signal]
    done = make_twin(content, content.path.parent, twin_path(content))
    twin = twin_path(content)
    assert done == (rows, twin.stat().st_size, 0)
    assert twin.name == f"{content.name.stem}.parquet"
    assert twin.stat().st_mode & 0o777 == 0o600
    assert (is_whole(content, twin), is_readable(twin)) == (True, True)
    assert [name for name in os.listdir(twin.parent) if "tmp" in name] == []
    label = pyarrow.parquet.read_metadata(twin).metadata[b"rimp.sealed"].decode()
    assert label == f"1 {content.name} {content.path.stat().st_size} {rows} 0"


def test_read_by_pyarrow_and_duckdb(sealed):
    """The same, with nothing of this package's; times are exact."""
    twin = made(sealed["traces"])
    table = pyarrow.parquet.read_table(twin)
    assert table.column("SpanName").to_pylist() == ["checkout", "bare"]
    assert table.column("Timestamp").cast("int64").to_pylist()[0] == 1_795_521_600_000_000_000
    assert dict(table.column("SpanAttributes")[0].as_py())["http.method"] == "GET"
    with duckdb.connect() as connection:
        found = connection.execute(SQL.format(twin).replace("*", "SpanName, SpanAttributes"))
        assert found.fetchall()[0][1]["sizes"] == "[1,2]"


def test_read_by_polars(sealed):
    """And by an engine that is neither."""
    polars = pytest.importorskip("polars")
    frame = polars.read_parquet(made(sealed["traces"]))
    assert frame["SpanName"].to_list() == ["checkout", "bare"]
    assert frame["Timestamp"].dtype == polars.Datetime("ns")
    assert frame["Events"][0]["Name"] == ["cache.miss", "bare"]
    assert polars.read_parquet(made(sealed["logs"])).height == 10
    assert polars.read_parquet(made(sealed["metrics"]))["MetricType"].n_unique() == 5


@pytest.mark.parametrize("signal", ["traces", "logs", "metrics"])
def test_as_parquet_has_it(sealed, signal):
    """zstd, statistics; a bloom filter of the trace ids; no types that only Arrow knows."""
    twin = made(sealed[signal])
    metadata = pyarrow.parquet.read_metadata(twin)
    group = metadata.row_group(0)
    columns = {group.column(at).path_in_schema: group.column(at) for at in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    time = {"traces": "Timestamp", "logs": "Timestamp", "metrics": "TimeUnix"}[signal]
    assert columns[time].statistics.has_min_max
    assert b"ARROW:schema" not in (metadata.metadata or {})
    if signal != "metrics":
        with duckdb.connect() as connection:
            sql = f"SELECT bloom_filter_excludes FROM parquet_bloom_probe('{twin}', 'TraceId', '{{}}')"
            trace = pyarrow.parquet.read_table(twin).column("TraceId")[0].as_py()
            assert connection.execute(sql.format(trace)).fetchall() == [(False,)]
            assert connection.execute(sql.format("f" * 32)).fetchall() == [(twins._HAS_BLOOM,)]


def test_sorted(path, storage):
    """By service, name and time."""
    spans = [
        span("b", 1, start=9, service="shop"),
        span("b", 2, start=3, service="shop"),
        span("a", 3, start=5, service="shop"),
        span("z", 4, start=1, service="mail"),
    ]
    storage.store(TelemetryData(spans=spans))
    seal_now(storage)
    (content,) = list_contents(path / "sealed")
    table = pyarrow.parquet.read_table(made(content))
    ids = [int(id, 16) for id in table.column("SpanId").to_pylist()]
    assert ids == [4, 3, 2, 1]


def test_many_batches(path, storage, monkeypatch):
    """Are row groups of one file: memory is bounded."""
    monkeypatch.setattr(twins, "_MOST_ROWS", 10)
    for number in range(5):
        spans = [span(f"n{at % 3}", 100 * number + at + 1, start=at) for at in range(7)]
        storage.store(TelemetryData(spans=spans))
    seal_now(storage)
    (content,) = list_contents(path / "sealed")
    twin = made(content)
    assert pyarrow.parquet.read_metadata(twin).num_row_groups == 3
    ids = pyarrow.parquet.read_table(twin).column("SpanId").to_pylist()
    expected = {100 * number + at + 1 for number in range(5) for at in range(7)}
    assert {int(id, 16) for id in ids} == expected
    assert len(ids) == 35


def test_whole_or_not(sealed):
    """Cut off, of another file, of another version of a file: not whole."""
    content = sealed["logs"]
    twin = made(content)
    data = twin.read_bytes()
    for broken in (data[:-1], data[:-100], data[: len(data) // 2], b"", data + b"x"):
        twin.write_bytes(broken)
        assert not is_whole(content, twin)
    twin.write_bytes(data)
    assert is_whole(content, twin)
    assert not is_whole(sealed["metrics"], twin)
    content.path.write_bytes(content.path.read_bytes() + b"\0")
    assert not is_whole(content, twin)
    content.path.unlink()
    assert not is_whole(content, twin)


def test_links_are_not_followed(sealed, tmp_path):
    """Neither to read a twin, nor to write one."""
    content = sealed["logs"]
    twin = made(content)
    elsewhere = tmp_path / "elsewhere"
    twin.rename(elsewhere)
    twin.symlink_to(elsewhere)
    assert not is_whole(content, twin)
    unfinished = twin.with_name(f".{twin.name}.tmp")
    victim = tmp_path / "victim"
    victim.write_text("kept")
    unfinished.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        make_twin(content, twin.parent, twin)
    assert victim.read_text() == "kept"


def test_somebody_else_is_at_it(sealed):
    """Then it is left to them; what a killed one had begun is begun anew."""
    content = sealed["logs"]
    twin = twin_path(content)
    unfinished = twin.with_name(f".{twin.name}.tmp")
    unfinished.write_bytes(b"begun")
    file = os.open(unfinished, os.O_RDWR)
    assert acquire(file)
    assert make_twin(content, twin.parent, twin) is None
    assert unfinished.read_bytes() == b"begun"
    os.close(file)
    assert make_twin(content, twin.parent, twin) is not None
    assert (is_whole(content, twin), unfinished.exists()) == (True, False)


def test_deleted_meanwhile(sealed, monkeypatch):
    """No twin is left of a sealed file that retention took while it was made."""
    content = sealed["logs"]
    write = twins._write

    def deleting(*args):
        made = write(*args)
        content.path.unlink()
        return made

    monkeypatch.setattr(twins, "_write", deleting)
    assert make_twin(content, content.path.parent, twin_path(content)) is None
    assert [n for n in os.listdir(content.path.parent) if "parquet" in n] == []


def test_failure(sealed, monkeypatch):
    """Leaves nothing behind."""
    content = sealed["logs"]

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(twins, "_write", full)
    with pytest.raises(OSError, match="No space left"):
        make_twin(content, content.path.parent, twin_path(content))
    assert [n for n in os.listdir(content.path.parent) if "parquet" in n] == []


def test_retention_takes_them_along(path):
    """With its sealed file goes its twin; other Parquet files stay."""
    with_retention = FileStorage(path, retain_size=0)
    with_retention.store(everything())
    (path / "sealed").mkdir(mode=0o700)
    (path / "sealed" / "other.parquet").write_bytes(b"x")
    keeping = FileStorage(path)
    with_retention.close()
    seal_now(keeping)
    for content in list_contents(path / "sealed"):
        made(content)
    assert len(list((path / "sealed").glob("*.parquet"))) == 4
    with_retention._writer.sealer.run()
    assert os.listdir(path / "sealed") == ["other.parquet"]
    keeping.close()


def test_damaged_lines_are_counted(path, storage):
    """They are not in it."""
    storage.store(everything())
    storage.close()
    with (path / "logs.jsonl").open("ab") as file:
        file.write(b"no JSON\n")
    seal_now(storage)
    (content,) = [c for c in list_contents(path / "sealed") if c.signal.value == "logs"]
    done = make_twin(content, path / "sealed", twin_path(content))
    assert (done.rows, done.damaged) == (10, 1)
    assert is_whole(content, twin_path(content))


def test_nothing_in_it(path, storage):
    """Of a sealed file without records: a twin without rows, with all columns."""
    storage.store(everything())
    seal_now(storage)
    (content,) = [c for c in list_contents(path / "sealed") if c.signal.value == "logs"]
    content.path.write_bytes(b"")
    twin = made(content)
    assert is_whole(content, twin)
    table = pyarrow.parquet.read_table(twin)
    assert (table.num_rows, table.num_columns) == (0, 24)
