"""The tables: those of other programs and of older versions, and those of a cluster."""

from __future__ import annotations

import pytest

from rimp_otel import (
    ClickHouseStorage,
    MemoryStorage,
    StorageError,
    TelemetryData,
    TelemetryEvent,
    TelemetryMetric,
)
from rimp_otel.models.records import Exemplar
from rimp_otel.storage.clickhouse.schema import TABLES, create_statements
from tests.clickhouse import unused_database
from tests.contract.samples import NOON, RESOURCE, SCOPE, events, everything

MAP = "Map(LowCardinality(String), String)"
# otel_logs before 0.151 of the Collector, and before it had event names.
OLD_LOGS = f"""(
    Timestamp DateTime64(9), TimestampTime DateTime DEFAULT toDateTime(Timestamp), TraceId String, SpanId String,
    TraceFlags UInt8, SeverityText LowCardinality(String), SeverityNumber UInt8,
    ServiceName LowCardinality(String), Body String, ResourceSchemaUrl LowCardinality(String),
    ResourceAttributes {MAP}, ScopeSchemaUrl LowCardinality(String), ScopeName String,
    ScopeVersion LowCardinality(String), ScopeAttributes {MAP}, LogAttributes {MAP}
) ENGINE = MergeTree PARTITION BY toDate(TimestampTime) ORDER BY (ServiceName, TimestampTime, Timestamp)"""
# Of gauges since 0.160 of the Collector.
SECONDS = f"""(
    ResourceAttributes {MAP}, ResourceSchemaUrl String, ScopeName String, ScopeVersion String,
    ScopeAttributes {MAP}, ScopeDroppedAttrCount UInt32, ScopeSchemaUrl String,
    ServiceName LowCardinality(String), MetricName LowCardinality(String), MetricDescription String,
    MetricUnit String, Attributes {MAP}, StartTimeUnix DateTime, TimeUnix DateTime, Value Float64, Flags UInt32,
    Exemplars Nested (
        FilteredAttributes {MAP}, TimeUnix DateTime, Value Float64, SpanId String, TraceId String
    )
) ENGINE = MergeTree ORDER BY (ServiceName, MetricName, TimeUnix)"""


@pytest.fixture
def database(clickhouse):
    """Return the name of an empty database."""
    name = unused_database()
    clickhouse.ask(f"CREATE DATABASE {name}")
    return name


def point():
    """Return a point whose times are no whole seconds, with an exemplar."""
    return TelemetryMetric(
        "load",
        7,
        tags={"core": 1},
        time_unix_nano=NOON + 5,
        start_time_unix_nano=NOON + 1,
        exemplars=[Exemplar(2, NOON + 3, 9, 8, {"e": 1})],
        scope=SCOPE,
        resource=RESOURCE,
    )


def test_old_logs_of_others(clickhouse, database, capsys):
    """What a foreign table has no column for is lost, and somebody is told."""
    clickhouse.ask(f"CREATE TABLE {database}.otel_logs {OLD_LOGS}")
    with ClickHouseStorage(clickhouse.url(database)) as storage:
        event = events()[0]
        storage.store(TelemetryData([event]))
        (back,) = storage.retrieve().events
    assert (back.message, back.event_name, back.time_unix_nano) == ("login", "", NOON + 2 * 10**9)
    assert back.metadata["int"] == str(-(2**63))
    told = capsys.readouterr().err
    assert (
        f"the table otel_logs of clickhouse+http://127.0.0.1:{clickhouse.port}/{database}" in told
    )
    assert "was made by another program" in told
    assert "does not tell a block that is inserted twice" in told
    assert clickhouse.ask(f"SELECT toUnixTimestamp(TimestampTime) FROM {database}.otel_logs") == [
        [NOON // 10**9 + 2]
    ]


def test_foreign_tables_are_extended(clickhouse, database):
    """With extend=yes they get our columns, and lose nothing: not even nanoseconds that no column has."""
    clickhouse.ask(f"CREATE TABLE {database}.otel_logs {OLD_LOGS}")
    clickhouse.ask(f"CREATE TABLE {database}.otel_metrics_gauge {SECONDS}")
    with ClickHouseStorage(clickhouse.url(database, query="extend=yes")) as storage:
        memory = MemoryStorage()
        for each in (memory, storage):
            each.store(everything())
        assert storage.retrieve() == memory.retrieve()
        storage.store(TelemetryData(metrics=[point()]))
        assert storage.retrieve(name="load").metrics == [point()]
        noon = NOON // 10**9
        assert len(storage.retrieve(noon, noon + 1, name="load").metrics) == 1
        assert not storage.retrieve(noon + 1e-6, name="load")
        assert len(storage.retrieve(limit=1, name="load").metrics) == 1


def test_whole_seconds_of_others(clickhouse, database, capsys):
    """A table with times in seconds keeps whole seconds."""
    clickhouse.ask(f"CREATE TABLE {database}.otel_metrics_gauge {SECONDS}")
    with ClickHouseStorage(clickhouse.url(database)) as storage:
        storage.store(TelemetryData(metrics=[point()]))
        (back,) = storage.retrieve().metrics
    assert (back.value, back.time_unix_nano, back.exemplars[0].time_unix_nano) == (7.0, NOON, NOON)


def test_attributes_as_json_are_refused(clickhouse, database):
    """A table of the exporter's JSON schema is named, and not written."""
    clickhouse.ask(
        f"CREATE TABLE {database}.otel_logs"
        f" {OLD_LOGS.replace(f'LogAttributes {MAP}', 'LogAttributes JSON')}"
    )
    with (
        ClickHouseStorage(clickhouse.url(database)) as storage,
        pytest.raises(
            StorageError, match=r"otel_logs: its column LogAttributes is JSON.*, not a map"
        ),
    ):
        storage.store(TelemetryData([TelemetryEvent("a", "b")]))


def test_rows_of_others_that_cannot_be_read(clickhouse, database):
    """A row whose id is none is skipped and told of; the others are read."""
    with ClickHouseStorage(clickhouse.url(database)) as storage:
        storage.store(TelemetryData([TelemetryEvent("a", "good", time_unix_nano=NOON)]))
        clickhouse.ask(f"INSERT INTO {database}.otel_logs (TraceId, Body) VALUES ('xyz', 'bad')")
        assert [event.message for event in storage.retrieve().events] == ["good"]
        (reason,) = storage.damaged
        assert reason.startswith("a row of otel_logs: traceId='xyz' is neither 32 hex digits nor")


def test_tables_of_a_cluster(clickhouse):
    """On a cluster each table is replicated, with a distributed one over it; ClickHouse can parse it all."""
    statements = [
        statement
        for table in TABLES
        for statement in create_statements(table, "otel", "my cluster", retain_age=86_400)
    ]
    heads = [statement.partition(" (")[0] for statement in statements]
    assert heads[0] == "CREATE TABLE IF NOT EXISTS `otel_traces_local` ON CLUSTER `my cluster`"
    assert statements[1] == (
        "CREATE TABLE IF NOT EXISTS `otel_traces` ON CLUSTER `my cluster` AS `otel_traces_local` ENGINE ="
        " Distributed(`my cluster`, currentDatabase(), `otel_traces_local`, cityHash64(TraceId))"
    )
    assert "TO `otel_traces_trace_id_ts_local` AS SELECT" in statements[3]
    assert len(statements) == 2 * 7 + 3
    for statement in statements[::2]:
        assert "EXISTS `otel_traces_trace_id_ts`" in statement or (
            "ENGINE = ReplicatedMergeTree" in statement
        ) == ("_local` ON CLUSTER" in statement)
    for statement in statements:
        quoted = statement.replace("\\", "\\\\").replace("'", "\\'")
        assert clickhouse.ask(f"SELECT length(formatQuery('{quoted}')) > 0") == [[1]]


def test_expiry(clickhouse, database):
    """With retain_age, rows of the tables that are made expire."""
    with ClickHouseStorage(clickhouse.url(database), retain_age=3_600) as storage:
        storage.store(everything())
        assert not storage.retrieve(end_time=NOON // 10**9 - 1)
    found = clickhouse.ask(
        f"SELECT count() FROM system.tables WHERE database = '{database}'"
        " AND create_table_query LIKE '%TTL toDateTime(%) + toIntervalSecond(3600)%'"
    )
    assert found == [[8]]
