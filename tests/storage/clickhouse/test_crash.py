"""Whatever dies between a block and the journal's note of it, each record is there once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from textwrap import dedent

import pytest

from rimp_otel import ClickHouseStorage
from tests.clickhouse import start_clickhouse, unused_database
from tests.processes import ROOT, run

RECORD = """
    import sys
    from opentelemetry.sdk.trace import TracerProvider
    from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream

    url, journals, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    collector = TelemetryCollector(
        TelemetryConfig(storage_path=url, journal_path=journals, flush_interval=3000)
    )
    stream = TelemetryStream(collector)
    stream.start()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(collector)
    for i in range(first, last):
        collector.collect_event("shop", f"event {i}")
        collector.collect_metric("orders", i)
        provider.get_tracer("shop").start_span(f"span {i}").end()
    while collector.stats().pending:
        stream.flush()
    print("stored", stream.stop(60), flush=True)
"""


def start_recorder(*arguments):
    """Start a process that records, and then drains its journal."""
    command = [sys.executable, "-c", dedent(RECORD), *map(str, arguments)]
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    )


def contents(storage):
    """Return the messages, values and names of all records."""
    data = storage.retrieve()
    return (
        sorted(int(event.message.removeprefix("event ")) for event in data.events),
        sorted(metric.value for metric in data.metrics),
        sorted(int(span.name.removeprefix("span ")) for span in data.spans),
    )


@pytest.mark.parametrize("after", [0, 1, 2])
def test_killed_between_block_and_checkpoint(clickhouse, tmp_path, after):
    """The process is killed after a block was inserted; the next one records on."""
    url, journals = clickhouse.url(unused_database()), tmp_path / "journals"
    with ClickHouseStorage(url) as storage:
        storage._tables.make()
        clickhouse.control(hang=1, after=after)
        recorder = start_recorder(url, journals, 0, 20)
        assert clickhouse.control(wait=1)["hanging"] == 1
        recorder.send_signal(signal.SIGKILL)
        assert recorder.wait() == -signal.SIGKILL
        recorder.stdout.close()
        # Of three signals, those before the one that hung, and that one.
        assert sum(map(len, contents(storage))) == 20 * (after + 1)
        assert run(RECORD, url, journals, 20, 30) == "stored True\n"
        assert contents(storage) == (list(range(30)),) * 3


def test_server_is_killed(tmp_path):
    """The server dies after it has inserted a block, and comes back: the process goes on."""
    server = start_clickhouse(tmp_path / "databases")
    url = server.url("db")
    with ClickHouseStorage(url) as storage:
        storage._tables.make()
        server.control(hang=1, after=1)
        recorder = start_recorder(url, tmp_path / "journals", 0, 20)
        assert server.control(wait=1)["hanging"] == 1
        server.kill()
        again = start_clickhouse(tmp_path / "databases", server.port)
        assert recorder.communicate(timeout=60)[0] == "stored True\n"
        assert contents(storage) == (list(range(20)),) * 3
        again.kill()
