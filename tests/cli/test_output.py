"""Opening recordings, progress, and the JSON of records."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from rimp_otel.cli.options import UsageError
from rimp_otel.cli.output import Progress, open_recording_at, record_json, report_damage
from rimp_otel.models.accessors import service_of, span_id_of, time_of, trace_id_of
from rimp_otel.models.records import MetricKind, SummaryPoint, TelemetryEvent, TelemetryMetric
from tests.cli.conftest import latency, queue
from tests.cli.records import MS, T0, event, raised, span


def test_no_recording() -> None:
    """The message has the path and two remedies."""
    with pytest.raises(UsageError) as caught:
        open_recording_at(Path("nowhere"))
    assert str(caught.value) == (
        "no recording at nowhere: record a program with 'rimp run -- python app.py', "
        "or give another --path"
    )


def test_a_database_of_the_same_name(tmp_path: Path) -> None:
    """The recording of the SQLite backend, whose default path is another one, is told."""
    (tmp_path / "telemetry.db").touch()
    with pytest.raises(UsageError) as caught:
        open_recording_at(tmp_path / "telemetry")
    assert str(caught.value) == (
        f"no recording at {tmp_path}/telemetry, but there is {tmp_path}/telemetry.db: "
        f"give --path {tmp_path}/telemetry.db"
    )


def test_waiting_for_a_recording(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that waits says what for, with control characters escaped."""
    open_recording_at(Path("no\x1bwhere"), wait=True)
    assert capsys.readouterr().err.startswith(r"rimp: waiting: no recording at no\x1bwhere: ")


def test_damage_is_reported_once(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only new damage is reported."""
    with (shop / "logs.jsonl").open("ab") as file:
        file.write(b"{\n")
    reader = open_recording_at(shop)
    list(reader.poll())
    assert report_damage(reader, report_damage(reader)) == 1
    assert capsys.readouterr().err == ("rimp: skipped 1 damaged line (see 'rimp stats')\n")


def test_span_json() -> None:
    """A span has the documented fields."""
    boom = raised("E", "m", 2)
    assert record_json(span("a", 7, 6, 1, 4, error="bad", events=(boom,), n=1)) == {
        "signal": "traces",
        "time": "2026-11-18T11:06:40.004000000Z",
        "service": "shop",
        "scope": "",
        "name": "a",
        "kind": "internal",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "span_id": "0000000000000007",
        "parent_span_id": "0000000000000006",
        "start": "2026-11-18T11:06:40.001000000Z",
        "duration_ns": 3 * MS,
        "status": "error",
        "status_message": "bad",
        "attributes": {"n": 1},
        "events": [
            {
                "time": "2026-11-18T11:06:40.002000000Z",
                "name": "exception",
                "attributes": {"exception.type": "E", "exception.message": "m"},
            }
        ],
    }


def test_open_span_json() -> None:
    """Unknown values are null."""
    shown = record_json(span("a", 7, 0, 1, None))
    assert (shown["duration_ns"], shown["parent_span_id"]) == (None, None)
    assert shown["time"] == shown["start"] == "2026-11-18T11:06:40.001000000Z"


def test_event_json() -> None:
    """A log record has the documented fields."""
    assert record_json(event("hello", 5, trace_id=0, n=1)) == {
        "signal": "logs",
        "time": "2026-11-18T11:06:40.005000000Z",
        "service": "shop",
        "scope": "app",
        "severity": "info",
        "severity_number": 9,
        "severity_text": "",
        "event_name": "",
        "message": "hello",
        "attributes": {"n": 1},
        "trace_id": None,
        "span_id": None,
    }


def test_metric_json() -> None:
    """A data point has the documented fields."""
    assert record_json(queue()) == {
        "signal": "metrics",
        "time": "2026-11-18T11:06:40.000000000Z",
        "service": "shop",
        "scope": "",
        "name": "queue.length",
        "kind": "gauge",
        "value": 4,
        "unit": "{job}",
        "attributes": {"queue": "mail"},
    }


def test_distribution_json() -> None:
    """Histograms and summaries have more fields; a missing value is null."""
    assert list(record_json(latency()).items())[-3:] == [("count", 4), ("min", None), ("max", 0.5)]
    point = SummaryPoint(3, 6.0, ((0.5, 2.0),))
    summary = TelemetryMetric("s", math.nan, kind=MetricKind.SUMMARY, point=point)
    assert record_json(summary)["value"] is None
    assert record_json(summary)["quantiles"] == {0.5: 2.0}


def test_records_that_lack_everything() -> None:
    """Records without context, resource or time have defaults."""
    bare = ReadableSpan("bare", resource=Resource({}))
    assert (trace_id_of(bare), span_id_of(bare), time_of(bare), service_of(bare)) == (0, 0, 0, "")
    log = TelemetryEvent("a", "b", time_unix_nano=0, observed_time_unix_nano=T0)
    assert (time_of(log), service_of(log)) == (T0, "")


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that is set by the test."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_appears_after_half_a_second_and_goes() -> None:
    """The bar appears after half a second, and is drawn at most ten times per second."""
    stream, clock = Terminal(), Clock()
    with Progress("reading", 4, "files", stream=stream, clock=clock) as progress:
        progress.advance()
        assert stream.getvalue() == ""
        clock.now = 0.5
        progress.advance()
        assert (
            stream.getvalue() == "\r\x1b[Krimp: reading  [############            ]  50% of 4 files"
        )
        clock.now = 0.55
        progress.advance()
        clock.now = 0.7
        progress.advance(label="\x1b[2J")
    bar = "[########################] 100% of 4 files"
    assert stream.getvalue().endswith(f"\r\x1b[Krimp: \\x1b[2J  {bar}\r\x1b[K")
    assert stream.getvalue().count("rimp:") == 2


def test_without_a_total() -> None:
    """Without a total, the count is shown."""
    stream, clock = Terminal(), Clock()
    progress = Progress("reading", 0, "records", stream, clock)
    clock.now = 1
    progress.advance(1_204)
    assert stream.getvalue().endswith("rimp: reading  1,204 records")
    progress.clear()
    progress.clear()
    assert stream.getvalue().count("\x1b[K") == 2


def test_nothing_where_there_is_no_terminal() -> None:
    """Nothing is drawn if the stream is no terminal."""
    stream, clock = io.StringIO(), Clock()
    with Progress("reading", 1, "files", stream=stream, clock=clock) as progress:
        clock.now = 9
        progress.advance()
    assert stream.getvalue() == ""


def test_terminal_that_goes_away() -> None:
    """A terminal that goes away raises nothing."""
    stream, clock = Terminal(), Clock()
    with Progress("reading", 1, "files", stream=stream, clock=clock) as progress:
        clock.now = 9
        stream.close()
        progress.advance()
        progress.advance()
    assert progress.done == 2


def test_show() -> None:
    """Without a unit, only the label is shown."""
    stream = Terminal()
    progress = Progress("checking", stream=stream, clock=Clock())
    with progress:
        progress.show("checking traces.jsonl")
        assert stream.getvalue() == "\r\x1b[Krimp: checking traces.jsonl ..."
    with progress:
        progress.unit = "files"
        progress.show("decoding", 1, 2)
    bar = "[############            ]  50% of 2 files"
    assert stream.getvalue().endswith(f"\r\x1b[Krimp: decoding  {bar}\r\x1b[K")
