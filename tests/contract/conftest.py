"""The storages that the contract is checked on; each contract test runs on all of them."""

from __future__ import annotations

import sqlite3

import pytest

from rimp_otel import (
    ClickHouseStorage,
    FileStorage,
    MemoryStorage,
    SQLiteStorage,
    TelemetryData,
    TelemetryStorage,
)
from rimp_otel.models.records import Signal
from rimp_otel.storage import select


class TwoMethods(TelemetryStorage):
    """A user's own database with two methods, as the documentation describes it."""

    def __init__(self, path):
        self.connection = sqlite3.connect(path, check_same_thread=False)
        self.connection.execute("create table if not exists lines (line text)")

    def store(self, data):
        with self.connection:
            for signal in Signal:
                for line in data.otlp_json(signal):
                    self.connection.execute("insert into lines values (?)", (line.decode(),))

    def retrieve(self, start_time=None, end_time=None, limit=None):
        rows = self.connection.execute("select line from lines order by rowid")
        return select(
            TelemetryData.from_otlp_json(line for (line,) in rows), start_time, end_time, limit
        )

    def close(self):
        """Do nothing."""


@pytest.fixture(scope="session")
def clickhouse_storage(clickhouse, tmp_path_factory):
    """Return a storage in ClickHouse, which the tests empty."""
    journals = tmp_path_factory.mktemp("journals")
    with ClickHouseStorage(clickhouse.url("contract"), journal_path=journals) as made:
        yield made


@pytest.fixture(params=["memory", "directory", "family", "sqlite", "clickhouse", "two methods"])
def storage(request, tmp_path):
    """Return an empty storage of each kind."""
    if request.param == "clickhouse":
        # Making the tables takes longer than most tests.
        yield request.getfixturevalue("clickhouse_storage")
        request.getfixturevalue("clickhouse").clear("contract")
        return
    if request.param == "two methods":
        made = TwoMethods(tmp_path / "own.db")
        yield made
        made.connection.close()
        return
    made = {
        "memory": lambda: MemoryStorage(),
        "directory": lambda: FileStorage(tmp_path / "telemetry"),
        "sqlite": lambda: SQLiteStorage(tmp_path / "new" / "telemetry.db"),
        "family": lambda: FileStorage(tmp_path / "telemetry.jsonl"),
    }[request.param]()
    yield made
    made.close()
