"""Rotel's exporter and ours write into the same tables of ClickHouse, and we read what both have written."""

from __future__ import annotations

import sys
from dataclasses import replace

from rimp_otel import ClickHouseStorage, FileStorage, TelemetryData
from rimp_otel.models.records import MetricKind
from tests.clickhouse import unused_database
from tests.contract.samples import NOON, SECOND, everything
from tests.peers.processes import wait_until
from tests.peers.servers import rotel
from tests.processes import run_process

# It names a column of summaries wrongly (ValueAtQauntiles.Value), and tells nobody but its log.
KINDS = [kind for kind in MetricKind if kind is not MetricKind.SUMMARY]


def test_tables_of_both(clickhouse, tmp_path):
    """What rotel writes into our tables is read: with its times to the nanosecond, and attributes as texts."""
    database = unused_database()
    data = everything()
    data = TelemetryData(data.events, [m for m in data.metrics if m.kind in KINDS], data.spans)
    with FileStorage(tmp_path / "telemetry") as recording:
        recording.store(data)
    with ClickHouseStorage(clickhouse.url(database)) as storage:
        storage.store(data)
        target = ["--exporter", "clickhouse", "--clickhouse-exporter-database", database]
        target += ["--clickhouse-exporter-endpoint", f"http://127.0.0.1:{clickhouse.port}"]
        target += ["--clickhouse-exporter-compression", "none"]
        with rotel(tmp_path, *target) as exporter:
            url = f"otlp+http://127.0.0.1:{exporter.http}"
            command = [sys.executable, "-m", "rimp_otel", "forward", "--once", url]
            done = run_process([*command, "--path", str(tmp_path / "telemetry")])
            assert done.returncode == 0, done
            wait_until(
                lambda: len(storage.retrieve()) >= 2 * len(data),
                lambda: (storage.retrieve(), storage.damaged, exporter.running.output),
            )
        both = storage.retrieve()
    assert storage.damaged == []
    # The one that rotel has written has no order, and comes first.
    theirs, ours = both.spans[:2]
    assert [
        (s.name, s.start_time, s.end_time, s.kind, s.status.status_code) for s in both.spans
    ] == [
        *[(ours.name, NOON, NOON + 250, ours.kind, ours.status.status_code)] * 2,
        *[("bare", NOON + SECOND, 0, both.spans[2].kind, both.spans[2].status.status_code)] * 2,
    ]
    assert theirs.context[:2] == ours.context[:2]
    assert theirs.attributes["http.method"] == "GET"
    assert (theirs.attributes["ok"], ours.attributes["ok"]) == ("true", True)
    assert [(e.name, e.timestamp) for e in theirs.events] == [
        (e.name, e.timestamp) for e in ours.events
    ]
    assert theirs.links[0].context[:2] == ours.links[0].context[:2]
    points = [m for m in both.metrics if m.kind is MetricKind.EXPONENTIAL_HISTOGRAM]
    # The exporter has no column for the threshold.
    assert points[0].point == replace(points[1].point, zero_threshold=0.0)
    assert len({m.time_unix_nano for m in both.metrics}) == len(data.metrics)
    logins = [event for event in both.events if event.message == "login"]
    assert [event.severity_number for event in logins] == [14, 14]
    assert logins[0].metadata["text"] == logins[1].metadata["text"]
