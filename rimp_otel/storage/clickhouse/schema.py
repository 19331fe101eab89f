"""The tables: those of the OpenTelemetry Collector's exporter, with three columns of our own.

What a table is like that exists already is looked up: the exporter's tables differ from version to version
(``otel_logs`` had ``TimestampTime`` before 0.151, the tables of metrics have nanoseconds before 0.160), and those
of others may lack columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from rimp_otel.errors import StorageError
from rimp_otel.models.records import MetricKind, Signal

__all__ = [
    "ORDER",
    "REST",
    "SLICE",
    "TABLES",
    "ExistingTable",
    "TableColumn",
    "TableDefinition",
    "create_statements",
    "extend_statements",
    "quote_name",
    "tables_of",
]

SLICE, ORDER, REST = "RimpSlice", "RimpOrder", "RimpRest"
"""Our columns: the hash of the slice that a row was stored with (0 for none), a number that grows with each row
that one process stores, and what no other column can hold, as JSON."""

_TEXT, _LOW, _MAP = "String", "LowCardinality(String)", "Map(LowCardinality(String), String)"
_TIME, _FLOAT = "DateTime64(9)", "Float64"

_DEDUPLICATED_BLOCKS = 10_000
_WEEK = 7 * 24 * 60 * 60


class TableColumn(NamedTuple):
    """A column of a table."""

    name: str
    type: str
    #: What compresses it, before ZSTD.
    codec: str = ""

    @property
    def definition(self) -> str:
        """The column as it stands in CREATE TABLE."""
        default = {SLICE: " DEFAULT 0", ORDER: " DEFAULT 0", REST: " DEFAULT ''"}.get(self.name, "")
        codecs = f"{self.codec}, ZSTD(1)" if self.codec else "ZSTD(1)"
        return f"{quote_name(self.name)} {self.type}{default} CODEC({codecs})"


class TableDefinition(NamedTuple):
    """One of the tables, as it is made."""

    suffix: str
    signal: Signal
    #: Of a table of metrics.
    kind: MetricKind | None
    columns: tuple[TableColumn, ...]
    #: The column with the time by which records are selected.
    time: str
    #: The columns of attributes, which get an index each.
    maps: tuple[str, ...]
    #: Further indexes and columns that the server computes, as they stand in CREATE TABLE.
    extras: tuple[str, ...]
    order_by: str
    #: What a cluster distributes rows by: the same for the same row.
    shard_by: str

    def name(self, prefix: str) -> str:
        """Return its name, given what all of them begin with: usually ``otel``."""
        return f"{prefix}_{self.suffix}"


def _nested(name: str, *columns: tuple[str, str]) -> tuple[TableColumn, ...]:
    return tuple(TableColumn(f"{name}.{field}", f"Array({type})") for field, type in columns)


_OURS = (
    TableColumn(SLICE, "UInt64"),
    TableColumn(ORDER, "UInt64", "Delta(8)"),
    TableColumn(REST, _TEXT),
)

_TRACES = TableDefinition(
    "traces",
    Signal.TRACES,
    None,
    (
        TableColumn("Timestamp", _TIME, "Delta(8)"),
        TableColumn("TraceId", _TEXT),
        TableColumn("SpanId", _TEXT),
        TableColumn("ParentSpanId", _TEXT),
        TableColumn("TraceState", _TEXT),
        TableColumn("SpanName", _LOW),
        TableColumn("SpanKind", _LOW),
        TableColumn("ServiceName", _LOW),
        TableColumn("ResourceAttributes", _MAP),
        TableColumn("ScopeName", _TEXT),
        TableColumn("ScopeVersion", _TEXT),
        TableColumn("SpanAttributes", _MAP),
        TableColumn("Duration", "UInt64"),
        TableColumn("StatusCode", _LOW),
        TableColumn("StatusMessage", _TEXT),
        *_nested("Events", ("Timestamp", _TIME), ("Name", _LOW), ("Attributes", _MAP)),
        *_nested(
            "Links",
            ("TraceId", _TEXT),
            ("SpanId", _TEXT),
            ("TraceState", _TEXT),
            ("Attributes", _MAP),
        ),
        *_OURS,
    ),
    "Timestamp",
    ("ResourceAttributes", "SpanAttributes"),
    (
        "INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1",
        "INDEX idx_duration Duration TYPE minmax GRANULARITY 1",
    ),
    "ServiceName, SpanName, toDateTime(Timestamp)",
    "cityHash64(TraceId)",
)

_MATERIALIZED = (
    *("k8s.cluster.name", "k8s.container.name", "k8s.deployment.name", "k8s.namespace.name"),
    *("k8s.node.name", "k8s.pod.name", "k8s.pod.uid", "deployment.environment.name"),
)

_LOGS = TableDefinition(
    "logs",
    Signal.LOGS,
    None,
    (
        TableColumn("Timestamp", _TIME, "Delta(8)"),
        TableColumn("TraceId", _TEXT),
        TableColumn("SpanId", _TEXT),
        TableColumn("TraceFlags", "UInt8"),
        TableColumn("SeverityText", _LOW),
        TableColumn("SeverityNumber", "UInt8"),
        TableColumn("ServiceName", _LOW),
        TableColumn("Body", _TEXT),
        TableColumn("ResourceSchemaUrl", _LOW),
        TableColumn("ResourceAttributes", _MAP),
        TableColumn("ScopeSchemaUrl", _LOW),
        TableColumn("ScopeName", _TEXT),
        TableColumn("ScopeVersion", _LOW),
        TableColumn("ScopeAttributes", _MAP),
        TableColumn("LogAttributes", _MAP),
        TableColumn("EventName", _TEXT),
        *_OURS,
    ),
    "Timestamp",
    ("ResourceAttributes", "ScopeAttributes", "LogAttributes"),
    (
        *(
            f"`__otel_materialized_{key}` {_LOW} MATERIALIZED ResourceAttributes['{key}'] CODEC(ZSTD(1))"
            for key in _MATERIALIZED
        ),
        "INDEX idx_trace_id TraceId TYPE bloom_filter(0.001) GRANULARITY 1",
        "INDEX idx_lower_body lower(Body) TYPE tokenbf_v1(32768, 3, 0) GRANULARITY 8",
    ),
    "toStartOfFiveMinutes(Timestamp), ServiceName, Timestamp",
    "cityHash64(ServiceName, Timestamp)",
)

_EXEMPLARS = _nested(
    "Exemplars",
    ("FilteredAttributes", _MAP),
    ("TimeUnix", _TIME),
    ("Value", _FLOAT),
    ("SpanId", _TEXT),
    ("TraceId", _TEXT),
)
_TEMPORALITY = TableColumn("AggregationTemporality", "Int32")


def _metric_table(suffix: str, kind: MetricKind, *own: TableColumn) -> TableDefinition:
    columns = (
        TableColumn("ResourceAttributes", _MAP),
        TableColumn("ResourceSchemaUrl", _TEXT),
        TableColumn("ScopeName", _TEXT),
        TableColumn("ScopeVersion", _TEXT),
        TableColumn("ScopeAttributes", _MAP),
        TableColumn("ScopeDroppedAttrCount", "UInt32"),
        TableColumn("ScopeSchemaUrl", _TEXT),
        TableColumn("ServiceName", _LOW),
        TableColumn("MetricName", _LOW),
        TableColumn("MetricDescription", _TEXT),
        TableColumn("MetricUnit", _TEXT),
        TableColumn("Attributes", _MAP),
        TableColumn("StartTimeUnix", _TIME, "Delta(8)"),
        TableColumn("TimeUnix", _TIME, "Delta(8)"),
        TableColumn("Flags", "UInt32"),
        *own,
        *_OURS,
    )
    return TableDefinition(
        f"metrics_{suffix}",
        Signal.METRICS,
        kind,
        columns,
        "TimeUnix",
        ("ResourceAttributes", "ScopeAttributes", "Attributes"),
        ("INDEX idx_time_minmax TimeUnix TYPE minmax GRANULARITY 1",),
        "ServiceName, MetricName, toStartOfHour(TimeUnix), cityHash64(Attributes), TimeUnix",
        "cityHash64(ServiceName, MetricName)",
    )


_DISTRIBUTION = (TableColumn("Count", "UInt64", "Delta(8)"), TableColumn("Sum", _FLOAT))
_RANGE = (TableColumn("Min", _FLOAT), TableColumn("Max", _FLOAT), _TEMPORALITY)
_COUNTS = "Array(UInt64)"

TABLES = (
    _TRACES,
    _LOGS,
    _metric_table("gauge", MetricKind.GAUGE, TableColumn("Value", _FLOAT), *_EXEMPLARS),
    _metric_table(
        "sum",
        MetricKind.SUM,
        TableColumn("Value", _FLOAT),
        *_EXEMPLARS,
        _TEMPORALITY,
        TableColumn("IsMonotonic", "Bool", "Delta(1)"),
    ),
    _metric_table(
        "histogram",
        MetricKind.HISTOGRAM,
        *_DISTRIBUTION,
        TableColumn("BucketCounts", _COUNTS),
        TableColumn("ExplicitBounds", "Array(Float64)"),
        *_EXEMPLARS,
        *_RANGE,
    ),
    _metric_table(
        "exponential_histogram",
        MetricKind.EXPONENTIAL_HISTOGRAM,
        *_DISTRIBUTION,
        TableColumn("Scale", "Int32"),
        TableColumn("ZeroCount", "UInt64"),
        TableColumn("PositiveOffset", "Int32"),
        TableColumn("PositiveBucketCounts", _COUNTS),
        TableColumn("NegativeOffset", "Int32"),
        TableColumn("NegativeBucketCounts", _COUNTS),
        *_EXEMPLARS,
        *_RANGE,
    ),
    _metric_table(
        "summary",
        MetricKind.SUMMARY,
        *_DISTRIBUTION,
        *_nested("ValueAtQuantiles", ("Quantile", _FLOAT), ("Value", _FLOAT)),
    ),
)
"""All tables, with the records' own kinds of metrics."""


def tables_of(signals: Iterable[Signal]) -> list[TableDefinition]:
    """Return the tables that have records of these signals."""
    wanted = set(signals)
    return [table for table in TABLES if table.signal in wanted]


# Tables that exist.


class ExistingTable(NamedTuple):
    """A table as it is in the database."""

    table: TableDefinition
    #: Its name, in the database that is connected to.
    name: str
    #: The types of its columns, by their names.
    types: Mapping[str, str]
    #: True if a block that is inserted twice is stored once.
    is_deduplicating: bool

    @property
    def columns(self) -> list[TableColumn]:
        """The columns of ours that it has."""
        return [column for column in self.table.columns if column.name in self.types]

    @property
    def missing(self) -> list[TableColumn]:
        """The columns that it lacks."""
        return [column for column in self.table.columns if column.name not in self.types]

    @property
    def has_nanoseconds(self) -> bool:
        """True if the time by which records are selected is stored as it is, not in seconds."""
        return self.types[self.table.time].startswith("DateTime64(9")

    def has(self, name: str) -> bool:
        """Return True if it has a column of this name."""
        return name in self.types

    def check(self) -> None:
        """Check that it can be written and read.

        Raises:
            StorageError: it has attributes as JSON, or no time.
        """
        for name in (*self.table.maps, self.table.time):
            found = self.types.get(name, "nothing")
            if not found.startswith(("Map(", "DateTime")) and (
                name == self.table.time or name in self.types
            ):
                raise StorageError(
                    f"cannot use the table {self.name}: its column {name} is {found}, not"
                    f" {'a map' if name in self.table.maps else 'a time'}, as the Collector's exporter makes it"
                    " without json: give another prefix"
                )


def quote_name(name: str) -> str:
    """Return the name of a table or a column as SQL."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


# Making them.


def create_statements(
    table: TableDefinition, prefix: str, cluster: str = "", retain_age: float | None = None
) -> Iterator[str]:
    """Yield the statements that make a table if it is missing, and what belongs to it.

    Args:
        table: which.
        prefix: what the names of all tables begin with.
        cluster: on which to make it, replicated, with a distributed table over it; "" for one server.
        retain_age: seconds after which rows are deleted; None for never.
    """
    name = table.name(prefix)
    lines = [
        *(column.definition for column in table.columns),
        *_indexes(table),
        *table.extras,
        f"INDEX idx_rimp_slice {SLICE} TYPE bloom_filter(0.01) GRANULARITY 1",
    ]
    yield _create_table(
        name,
        lines,
        f"toDate({table.time})",
        table.order_by,
        cluster,
        _expiry(table.time, retain_age),
    )
    if cluster:
        yield _create_distributed(name, cluster, table.shard_by)
    if table is not _TRACES:
        return
    lookup, local = f"{name}_trace_id_ts", "_local" if cluster else ""
    lines = [
        "`TraceId` String CODEC(ZSTD(1))",
        "`Start` DateTime CODEC(Delta(4), ZSTD(1))",
        "`End` DateTime CODEC(Delta(4), ZSTD(1))",
        "INDEX idx_trace_id TraceId TYPE bloom_filter(0.01) GRANULARITY 1",
    ]
    expiry = _expiry("Start", retain_age)
    yield _create_table(lookup, lines, "toDate(Start)", "TraceId, Start", cluster, expiry)
    yield (
        f"CREATE MATERIALIZED VIEW IF NOT EXISTS {quote_name(f'{lookup}_mv')}{_on_cluster(cluster)}"
        f" TO {quote_name(lookup + local)} AS SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End"
        f" FROM {quote_name(name + local)} WHERE TraceId != '' GROUP BY TraceId"
    )
    if cluster:
        yield _create_distributed(lookup, cluster, "cityHash64(TraceId)")


def _indexes(table: TableDefinition) -> Iterator[str]:
    short = {"ResourceAttributes": "res", "ScopeAttributes": "scope", "SpanAttributes": "span"}
    for column in table.maps:
        index = f"idx_{short.get(column, 'log' if table is _LOGS else '')}_attr".replace("__", "_")
        for part, function in (("key", "mapKeys"), ("value", "mapValues")):
            yield f"INDEX {index}_{part} {function}({column}) TYPE bloom_filter(0.01) GRANULARITY 1"


def _create_table(
    name: str, lines: list[str], partition_by: str, order_by: str, cluster: str, expiry: str
) -> str:
    engine, window = "MergeTree", f"non_replicated_deduplication_window = {_DEDUPLICATED_BLOCKS}"
    if cluster:
        engine = "ReplicatedMergeTree"
        window = (
            f"replicated_deduplication_window = {_DEDUPLICATED_BLOCKS},"
            f" replicated_deduplication_window_seconds = {_WEEK}"
        )
    return (
        f"CREATE TABLE IF NOT EXISTS {quote_name(f'{name}_local' if cluster else name)}{_on_cluster(cluster)} ("
        + ", ".join(lines)
        + f") ENGINE = {engine} PARTITION BY {partition_by} ORDER BY ({order_by}){expiry}"
        f" SETTINGS index_granularity = 8192, ttl_only_drop_parts = 1, {window}"
    )


def _expiry(time: str, retain_age: float | None) -> str:
    if retain_age is None:
        return ""
    return f" TTL toDateTime({time}) + toIntervalSecond({max(round(retain_age), 1)})"


def _create_distributed(name: str, cluster: str, shard_by: str) -> str:
    local = quote_name(f"{name}_local")
    quoted = quote_name(name)
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted}{_on_cluster(cluster)} AS {local} ENGINE ="
        f" Distributed({quote_name(cluster)}, currentDatabase(), {local}, {shard_by})"
    )


def _on_cluster(cluster: str) -> str:
    return f" ON CLUSTER {quote_name(cluster)}" if cluster else ""


def extend_statements(existing: ExistingTable) -> Iterator[str]:
    """Yield the statements that add to a table of others what it lacks."""
    if existing.missing:
        added = ", ".join(f"ADD COLUMN IF NOT EXISTS {c.definition}" for c in existing.missing)
        yield f"ALTER TABLE {quote_name(existing.name)} {added}"
    if not existing.is_deduplicating:
        yield (
            f"ALTER TABLE {quote_name(existing.name)}"
            f" MODIFY SETTING non_replicated_deduplication_window = {_DEDUPLICATED_BLOCKS}"
        )
