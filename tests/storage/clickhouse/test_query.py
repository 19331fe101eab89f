"""Questions to the tables: conditions as parameters, and what SQL cannot tell."""

from __future__ import annotations

import pytest

from rimp_otel import ClickHouseStorage, TelemetryData, TelemetryEvent
from rimp_otel.models.filters import Filter
from rimp_otel.models.times import Window
from rimp_otel.storage.base import Selection
from rimp_otel.storage.clickhouse.query import TableQuery
from rimp_otel.storage.clickhouse.schema import TABLES, ExistingTable
from tests.clickhouse import unused_database
from tests.contract.samples import NOON, SECOND, everything

LOGS = ExistingTable(TABLES[1], "otel_logs", {c.name: c.type for c in TABLES[1].columns}, True)
HOSTILE = "x' OR 1 = 1 --\\ {service:String} `\n"
VALUES = [
    1,
    1.0,
    "1",
    True,
    "true",
    2**53 + 1,
    float(2**53),
    -(2**63),
    None,
    "",
    b"\x00",
    [1],
    [1.0],
    {},
]


@pytest.fixture(scope="module")
def storage(clickhouse):
    """Return a storage with an event for each value, and all samples."""
    with ClickHouseStorage(clickhouse.url(unused_database())) as made:
        made.store(
            TelemetryData(
                TelemetryEvent("a", str(i), metadata={"k": value}, time_unix_nano=NOON + i * SECOND)
                for i, value in enumerate(VALUES)
            )
        )
        made.store(everything())
        yield made


def test_statements_have_parameters():
    """No text of a condition is in a statement, which ends in a limit where SQL says all."""
    conditions = {"service": HOSTILE, "name": HOSTILE, "trace_id": 5, "severity": 9}
    query = TableQuery(LOGS, Selection(Window(1, 10**30), None, Filter.of(**conditions)))
    statement = query.sql(newest_first=True, limit=7)
    assert statement.endswith(
        " FROM `otel_logs` WHERE `Timestamp` >= fromUnixTimestamp64Nano({start:Int64}) AND"
        " `Timestamp` <= fromUnixTimestamp64Nano({end:Int64}) AND TraceId = {trace_id:String} AND"
        " ServiceName = {service:String} AND EventName = {name:String} AND"
        " SeverityNumber >= {severity:Int32} ORDER BY `Timestamp` DESC, `RimpOrder` DESC LIMIT 7"
    )
    assert query.is_exact
    assert query.parameters == {
        "start": 1,
        "end": 2**63 - 1,
        "trace_id": f"{5:032x}",
        "service": HOSTILE,
        "name": HOSTILE,
        "severity": 9,
    }


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_attributes_of_every_type(storage, value):
    """An attribute is found by its value and its type, of which SQL knows a text."""
    expected = [
        str(i)
        for i, event in enumerate(VALUES)
        if Filter.of(attributes={"k": value}).matches(
            TelemetryEvent("a", "", metadata={"k": event})
        )
    ]
    found = storage.retrieve(attributes={"k": value}, signals=["logs"])
    assert [event.message for event in found.events] == expected
    newest = storage.retrieve(attributes={"k": value}, signals=["logs"], limit=1)
    assert [event.message for event in newest.events] == expected[-1:]


def test_hostile_conditions(storage):
    """Texts that look like SQL are texts."""
    assert not storage.retrieve(service=HOSTILE)
    assert not storage.retrieve(name=HOSTILE)
    assert not storage.retrieve(attributes={HOSTILE: HOSTILE})
    assert storage.retrieve(name="checkout").spans


def test_batches_over_all_tables(storage):
    """Batches come oldest first, over all tables; whoever breaks off leaves no connection open."""
    batches = list(storage.iter_retrieve(batch_size=5))
    assert [len(batch) for batch in batches[:-1]] == [5] * (len(batches) - 1)
    assert TelemetryData.concat(batches) == storage.retrieve()
    iterator = storage.iter_retrieve(batch_size=1)
    assert len(next(iterator)) == 1
    iterator.close()
    assert storage.retrieve(limit=1)
