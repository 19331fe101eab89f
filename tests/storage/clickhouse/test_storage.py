"""The storage in ClickHouse: what the contract of all storages does not say."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from rimp_otel import (
    ClickHouseStorage,
    ConfigurationError,
    MissingExtraError,
    StorageError,
    TelemetryConfig,
    TelemetryData,
    TelemetryEvent,
)
from rimp_otel.batch import set_slice_id
from tests.clickhouse import unused_database
from tests.contract.samples import NOON, everything, span
from tests.crash.running import call_in_child


@pytest.fixture
def database(clickhouse):
    """Return the name of a database that there is not yet."""
    return unused_database()


@pytest.fixture
def storage(clickhouse, database, tmp_path):
    """Return a storage in a database of its own."""
    with ClickHouseStorage(clickhouse.url(database), journal_path=tmp_path / "journal") as made:
        yield made


def of_slice(data, slice_id):
    """Return a batch that comes out of a journal under a name."""
    set_slice_id(data, slice_id)
    return data


def test_tables_are_those_of_the_collector(clickhouse, database, storage):
    """A first batch makes all tables; Grafana's plug-in finds what it asks for."""
    assert not storage.retrieve()
    assert clickhouse.ask(f"SELECT name FROM system.databases WHERE name = '{database}'") == []
    storage.store(everything())
    tables = clickhouse.ask(
        f"SELECT name FROM system.tables WHERE database = '{database}' ORDER BY name"
    )
    assert [name for (name,) in tables] == [
        "otel_logs",
        "otel_metrics_exponential_histogram",
        "otel_metrics_gauge",
        "otel_metrics_histogram",
        "otel_metrics_sum",
        "otel_metrics_summary",
        "otel_traces",
        "otel_traces_trace_id_ts",
        "otel_traces_trace_id_ts_mv",
    ]
    assert clickhouse.ask(
        "SELECT toUnixTimestamp64Nano(Timestamp), TraceId, SpanId, ParentSpanId, SpanName, SpanKind,"
        " ServiceName, SpanAttributes, Duration, StatusCode, StatusMessage, `Events.Name`, `Links.TraceId`"
        f" FROM {database}.otel_traces WHERE SpanName = 'checkout'"
    ) == [
        [
            NOON,
            f"{2**127 + 1:032x}",
            f"{2**63 + 1:016x}",
            f"{3:016x}",
            "checkout",
            "Server",
            "shop",
            {"http.method": "GET", "sizes": "[1,2]", "ratio": "0.5", "ok": "true"},
            250,
            "Error",
            "broken",
            ["cache.miss", "bare"],
            [f"{5:032x}"],
        ]
    ]
    lookup = f"SELECT count() FROM {database}.otel_traces_trace_id_ts WHERE TraceId != ''"
    assert clickhouse.ask(lookup) == [[2]]


def test_a_slice_is_stored_once(clickhouse, database, storage):
    """A slice that comes again, in this process or another one, is there once."""
    for _ in range(2):
        storage.store(of_slice(everything(), "journal-traces-10-20"))
    with ClickHouseStorage(clickhouse.url(database)) as other:
        other.store(of_slice(everything(), "journal-traces-10-20"))
        assert len(other.retrieve()) == len(everything())
        other.store(of_slice(everything(), "journal-traces-20-30"))
    assert len(storage.retrieve()) == 2 * len(everything())


def test_a_slice_is_stored_once_after_many_others(clickhouse, database, storage):
    """A process that comes back finds its slice, although the server has forgotten the block."""
    data = TelemetryData(spans=[span()])
    storage.store(of_slice(data, "journal-traces-10-20"))
    clickhouse.ask(
        f"ALTER TABLE {database}.otel_traces MODIFY SETTING non_replicated_deduplication_window = 0"
    )
    with ClickHouseStorage(clickhouse.url(database)) as other:
        other.store(of_slice(data, "journal-traces-10-20"))
        assert len(other.retrieve()) == 1


def test_batches_without_a_slice_are_never_taken_for_repeated(storage):
    """Equal batches that come out of no journal are stored each."""
    event = TelemetryEvent("a", "b", time_unix_nano=NOON)
    storage.store(TelemetryData([event]))
    storage.store(TelemetryData([event]))
    assert storage.retrieve().events == [event, event]


def test_a_server_that_refuses(clickhouse, storage):
    """An insert that fails raises a StorageError, and succeeds when it comes again."""
    data = of_slice(TelemetryData(spans=[span()]), "journal-traces-10-20")
    storage.store(TelemetryData(spans=[span()]))
    clickhouse.control(fail=1)
    with pytest.raises(StorageError, match=r"cannot write clickhouse\+http://.*Not enough space"):
        storage.store(data)
    storage.store(data)
    assert len(storage.retrieve().spans) == 2


def test_a_server_that_is_not_there(tmp_path):
    """The error names the server, without the password."""
    storage = ClickHouseStorage("clickhouse+http://me:secret@127.0.0.1:9/db")
    with pytest.raises(StorageError, match=r"cannot read clickhouse\+http://127.0.0.1:9/db: ") as e:
        storage.retrieve()
    assert "secret" not in str(e.value)
    assert repr(storage) == "ClickHouseStorage('clickhouse+http://127.0.0.1:9/db')"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "http://host/db",
            "a ClickHouse URL must be like clickhouse.http://HOST:8123/DATABASE, got",
        ),
        ("clickhouse+http:///db", "must be like"),
        ("clickhouse+http://h:x/db", "must be like"),
        ("clickhouse+http://h/a/b", "its path is one database"),
        (
            "clickhouse+http://h/a?table=x",
            "has the unknown parameter 'table': give cluster, create",
        ),
        ("clickhouse+http://h/a?create=true", "create must be yes or no, got 'true'"),
        (None, "a ClickHouse URL must be like"),
    ],
)
def test_wrong_urls(url, message):
    """A wrong URL is named with what is allowed."""
    with pytest.raises(ConfigurationError, match=message):
        ClickHouseStorage(url)


def test_a_configuration_names_it(tmp_path):
    """A URL as the path stands for ClickHouse, and no password of it is shown."""
    config = TelemetryConfig(storage_path="clickhouse+https://me:secret@host/db")
    assert config.storage_backend == "clickhouse"
    assert "secret" not in repr(config)
    assert "clickhouse+https://me:***@host/db" in repr(config)
    storage = ClickHouseStorage.from_config(config)
    assert repr(storage) == "ClickHouseStorage('clickhouse+https://host/db')"
    with pytest.raises(ConfigurationError, match="needs storage_path='clickhouse"):
        ClickHouseStorage.from_config(TelemetryConfig(storage_backend="clickhouse"))


def test_forked_child(storage):
    """A child that was forked from a process with connections makes its own."""
    event = TelemetryEvent("a", "b", time_unix_nano=NOON)
    storage.store(TelemetryData([event]))
    assert call_in_child(storage.store, TelemetryData([event])) is None
    storage.store(TelemetryData([event]))
    assert storage.retrieve().events == [event] * 3


def test_without_the_client_library(monkeypatch):
    """The extra is named where the client library is not installed."""
    monkeypatch.setitem(sys.modules, "clickhouse_connect", None)
    storage = ClickHouseStorage("clickhouse+http://host/db")
    with pytest.raises(MissingExtraError, match=r"pip install 'rimp-otel\[clickhouse\]'"):
        storage.store(TelemetryData(spans=[span()]))


def test_threads_at_once(storage):
    """Threads store and retrieve at the same time; every record is there once."""
    storage.store(TelemetryData([TelemetryEvent("a", "first")]))

    def work(number):
        for i in range(5):
            storage.store(TelemetryData([TelemetryEvent("a", f"{number}-{i}")]))
            storage.retrieve(limit=1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    expected = ["first", *(f"{number}-{i}" for number in range(4) for i in range(5))]
    assert sorted(event.message for event in storage.retrieve().events) == sorted(expected)


def test_errors_are_not_logged(clickhouse, storage, caplog):
    """The client library logs nothing of an error that is raised: a log that is recorded would come back."""
    storage.store(TelemetryData(spans=[span()]))
    clickhouse.control(fail=1)
    with pytest.raises(StorageError):
        storage.store(TelemetryData(spans=[span()]))
    nobody = ClickHouseStorage("clickhouse+http://127.0.0.1:9/db")
    with pytest.raises(StorageError):
        nobody.retrieve()
    assert caplog.records == []
