"""Forwarding into ClickHouse: each record once, also where the forwarder is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from rimp_otel import ClickHouseStorage, FileStorage, SQLiteStorage, TelemetryData, TelemetryEvent
from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import Signal
from rimp_otel.transport.forwarding.destination import (
    Batch,
    Delivered,
    Refused,
    RetryLater,
    Stopped,
    destination_name,
    open_destination,
)
from rimp_otel.transport.forwarding.destination_options import DestinationOptions
from rimp_otel.transport.forwarding.forwarder import Forwarder, ForwarderOptions
from tests.clickhouse import unused_database
from tests.contract.samples import everything, span
from tests.processes import ROOT

OPTIONS = DestinationOptions()
SPAN = Batch(Signal.TRACES, list(TelemetryData(spans=[span()]).otlp_json(Signal.TRACES)), 1)


@pytest.fixture
def url(clickhouse):
    """Return the URL of a database that there is not yet."""
    return clickhouse.url(unused_database())


@pytest.fixture
def destination(url):
    """Return a destination that is that database."""
    opened = open_destination(url, OPTIONS)
    yield opened
    opened.close()


def forward_once(path, destination):
    """Forward what is there; return how many records were acknowledged."""
    forwarder = Forwarder(path, [destination], ForwarderOptions(once=True))
    forwarder.start()
    assert forwarder.wait(60)
    forwarder.close()
    assert [outcome.failure for outcome in forwarder.outcomes()] == ["", "", ""]
    return sum(outcome.ledger.acknowledged for outcome in forwarder.outcomes())


@pytest.mark.parametrize("kind", ["files", "database"])
def test_what_is_recorded_comes_back_equal(tmp_path, url, destination, kind):
    """A recording is forwarded, and retrieved from ClickHouse as it was."""
    make, path = FileStorage, tmp_path / "telemetry"
    if kind == "database":
        make, path = SQLiteStorage, tmp_path / "telemetry.db"
    with make(path) as storage:
        storage.store(everything())
        expected = storage.retrieve()
    assert forward_once(path, destination) == len(everything())
    assert forward_once(path, destination) == 0
    with ClickHouseStorage(url) as stored:
        assert stored.retrieve() == expected


def start_forwarder(path, url):
    """Start `rimp forward --once`."""
    command = [sys.executable, "-m", "rimp_otel", "forward", "--path", str(path), "--once", url]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_killed_between_block_and_cursor(clickhouse, tmp_path, url):
    """The forwarder is killed after a block was inserted, and more is recorded before the next one starts."""
    path = tmp_path / "telemetry"

    def record(*numbers):
        with FileStorage(path) as storage:
            storage.store(TelemetryData([TelemetryEvent("a", str(i)) for i in numbers]))

    with ClickHouseStorage(url) as stored:
        stored._tables.make()
        record(0, 1, 2)
        clickhouse.control(hang=1)
        forwarder = start_forwarder(path, url)
        assert clickhouse.control(wait=1)["hanging"] == 1
        forwarder.send_signal(signal.SIGKILL)
        forwarder.communicate()
        assert len(stored.retrieve()) == 3
        record(3, 4)
        again = start_forwarder(path, url)
        assert "5 records" in again.communicate(timeout=60)[0] or again.returncode == 0
        assert [event.message for event in stored.retrieve().events] == ["0", "1", "2", "3", "4"]


def test_refused_record_is_split_off(clickhouse, url, destination):
    """What does not fit into the table is refused, for the forwarder to find the record."""
    with ClickHouseStorage(url) as stored:
        stored._tables.make()
    database = url.rpartition("/")[2]
    clickhouse.ask(f"ALTER TABLE {database}.otel_traces MODIFY COLUMN StatusMessage FixedString(4)")
    outcome = destination.send(SPAN, 10)
    assert isinstance(outcome, Refused)
    assert "FixedString" in outcome.reason


def test_full_server_is_asked_again(clickhouse, url, destination):
    """A server that has no room gets the batch again."""
    assert destination.send(SPAN, 10) == Delivered()
    clickhouse.control(fail=1)
    outcome = destination.send(SPAN, 10)
    assert isinstance(outcome, RetryLater)
    assert "Not enough space" in outcome.reason


def test_what_somebody_has_to_mend(clickhouse, url):
    """A database without tables, and nobody may make them: the destination stops."""
    opened = open_destination(f"{url}?create=no", OPTIONS)
    assert opened.send(SPAN, 10) == Stopped(
        "there is no table for traces, and the URL says create=no"
    )
    opened.close()


def test_secrets_stay_secret(monkeypatch):
    """No password of the URL, or of the environment, is in an outcome or a name."""
    url = "clickhouse+http://me:hunter22@127.0.0.1:9/db"
    opened = open_destination(url, OPTIONS)
    assert opened.name == destination_name(url) == "clickhouse+http://127.0.0.1:9/db"
    outcome = opened.send(SPAN, 1)
    assert isinstance(outcome, RetryLater)
    assert "hunter22" not in outcome.reason
    monkeypatch.setenv("CLICKHOUSE_USER", "me")
    monkeypatch.setenv("CLICKHOUSE_PASSWORD", "hunter23")
    outcome = open_destination("clickhouse+http://127.0.0.1:9/db", OPTIONS).send(SPAN, 1)
    assert "hunter23" not in outcome.reason
    with pytest.raises(ConfigurationError, match="must be like"):
        open_destination("clickhouse+http://h/a/b", OPTIONS)
