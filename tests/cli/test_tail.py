"""``rimp tail``: lines, choices, following."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.batch import TelemetryData
from rimp_otel.cli import tail as feed
from rimp_otel.cli.tail import follow, format_record
from rimp_otel.models.records import EventType, MetricKind, TelemetryEvent, TelemetryMetric
from rimp_otel.render.terminal import Style
from tests.cli.conftest import latency, queue
from tests.cli.records import HOSTILE, HOSTILE_SHOWN, T0, event, raised, span, without_our_colour


def test_everything(rimp: Any, shop: Path) -> None:
    """All signals in the order of time; a span stands where it ended."""
    assert rimp("tail", "-n", "all") == (
        0,
        """\
11-18 11:06:40.000  METRIC shop              queue.length  4 {job}  queue=mail
11-18 11:06:40.017  SPAN   shop              SELECT cart  13 ms  trace=4bf92f35
11-18 11:06:40.018  INFO   shop/app          cart loaded  items=3  trace=4bf92f35
11-18 11:06:40.089  SPAN   stock             SELECT stock  58 ms  trace=4bf92f35
11-18 11:06:40.092  WARN   stock/app         stock is low  sku=A-17  left=2  trace=4bf92f35
11-18 11:06:40.098  SPAN   stock             GET /stock/{sku}  74 ms  trace=4bf92f35
11-18 11:06:40.101  SPAN   shop              GET /stock  81 ms  trace=4bf92f35
11-18 11:06:40.221  SPAN   payment           charge card  111 ms  ✗ ConnectionError: bank.example refused the connection (in charge, bank.py:42)  trace=4bf92f35
11-18 11:06:40.226  SPAN   shop              POST /charge  122 ms  ✗ error  trace=4bf92f35
11-18 11:06:40.228  ERROR  shop/app          payment failed, order kept  order=4711  trace=4bf92f35
11-18 11:06:40.231  SPAN   shop              POST /checkout  231 ms  ✗ error  trace=4bf92f35
11-18 11:06:40.250  METRIC shop              http.server.duration  n=4 mean=0.2 s max=0.5 s  method=GET
""",
        "",
    )


def test_ten_if_not_told_otherwise(rimp: Any, shop: Path) -> None:
    """As tail does; with --since, all."""
    assert len(rimp("tail").out.splitlines()) == 10
    assert len(rimp("tail", "--since", "2026-11-18").out.splitlines()) == 12
    assert rimp("tail", "-n", "0").out == ""


def test_choices(rimp: Any, shop: Path) -> None:
    """By signal and by time, which are combined."""
    since = "2026-11-18T11:06:40.092Z"
    signals = ["--signal", "logs", "--signal", "metrics"]
    lines = rimp("tail", "--since", since, *signals).out.splitlines()
    assert [line.split()[2] for line in lines] == ["WARN", "ERROR", "METRIC"]
    assert rimp("tail", "--signal", "logs", "metrics", "--since", since).out.splitlines() == lines


def test_json(rimp: Any, shop: Path) -> None:
    """One object a line."""
    lines = rimp("tail", "--json", "-n", "all").out.splitlines()
    assert len(lines) == 12
    assert {json.loads(line)["signal"] for line in lines} == {"traces", "logs", "metrics"}


def test_records_of_one_time_keep_their_order(rimp: Any, record: Any) -> None:
    """Records of the same instant are shown as they were recorded."""
    record(TelemetryData(events=[event(f"m{i}", 1) for i in range(5)]))
    assert [line.split()[4] for line in rimp("tail").out.splitlines()] == [
        "m0", "m1", "m2", "m3", "m4",
    ]  # fmt: skip


def test_colour() -> None:
    """Services, severities and errors have colours; times and attributes step back."""
    line = format_record(event("boom", 1, 1, EventType.ERROR, "", n=1), Style(color=True))
    assert line == (
        "\x1b[2m11-18 11:06:40.001\x1b[0m  \x1b[31mERROR  \x1b[0m\x1b[2mapp\x1b[0m             "
        "  \x1b[31mboom\x1b[0m  \x1b[2mn=1  trace=4bf92f35\x1b[0m"
    )


def test_odd_records() -> None:
    """No value, no message, no name, no end: each is a line."""
    style = Style()
    no_value = TelemetryMetric("m", 0, flags=1, time_unix_nano=T0)
    named = TelemetryEvent("s", "", event_name="user.login", time_unix_nano=0)
    ratio = TelemetryMetric("cpu", 0.25, "1", time_unix_nano=T0)
    assert format_record(no_value, style).split()[3:] == ["m", "no", "value"]
    assert format_record(ratio, style).endswith("  cpu  0.25")
    assert format_record(named, style) == "-  INFO   s                 user.login"
    assert format_record(span("", 1, 0, 0, None), style).endswith("(no name)  open  trace=4bf92f35")


def test_interrupted_span() -> None:
    """Has a mark of its own."""
    cut = span("a", 1, 0, 0, 7, error="process terminated", **{"rimp.interrupted": True})
    line = "a  7 ms  ✂ process terminated  trace=4bf92f35"
    assert format_record(cut, Style()).endswith(line)


def test_empty_distribution() -> None:
    """A histogram that has counted nothing has no mean."""
    empty = TelemetryMetric(
        "h",
        0.0,
        "s",
        kind=MetricKind.HISTOGRAM,
        point=type(latency().point)(0),  # type: ignore[misc]
    )
    assert format_record(empty, Style()).endswith("h  n=0")


def test_exception_of_a_log_record() -> None:
    """What logger.exception() recorded is told in one line."""
    attributes = dict(raised("KeyError", "'x'", 0).attributes or {})
    line = format_record(event("failed", 0, 0, EventType.ERROR, trace_id=0, **attributes), Style())
    assert line.endswith("  failed  KeyError: 'x'")


@pytest.mark.parametrize("color", [False, True])
def test_hostile_records(color: bool) -> None:
    """Names, messages, sources, services, units, keys and values come out escaped."""
    boom = raised(HOSTILE, HOSTILE, 1)
    records = [
        event(HOSTILE, 0, 1, source=HOSTILE, service=HOSTILE, **{HOSTILE: HOSTILE}),
        span(HOSTILE, 1, 0, 0, 1, HOSTILE, HOSTILE, events=(boom,)),
        TelemetryMetric(HOSTILE, 1, HOSTILE, {HOSTILE: {HOSTILE: 1}}),
    ]
    for one in records:
        line = without_our_colour(format_record(one, Style(color)))
        assert line.isprintable()
        assert HOSTILE_SHOWN in line


def test_following(rimp: Any, record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes while it follows is shown, also into files that were not there before."""
    steps = iter(
        [
            lambda: record(TelemetryData(events=[event("first", 1)])),
            lambda: record(TelemetryData(metrics=[queue()], events=[event("second", 2)])),
        ]
    )

    def work_meanwhile() -> None:
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    def follow_on(show_new: Any) -> None:
        follow(show_new, sleep=lambda _: work_meanwhile())

    monkeypatch.setattr(feed, "follow", follow_on)
    code, out, err = rimp("tail", "-f")
    assert code == 130
    assert [line.split("  ")[-2].strip() for line in out.splitlines()] == [
        "first", "4 {job}", "second",
    ]  # fmt: skip
    assert err.startswith("rimp: waiting; no recording at telemetry")


def command(*argv: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    pipe = subprocess.PIPE
    argv = (sys.executable, "-m", "rimp_otel.cli.main", *argv)
    env = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.Popen(argv, stdout=pipe, stderr=pipe, encoding="utf-8", env=env)


def test_interrupt_ends_following(shop: Path) -> None:
    """Ctrl-C is no crash: exit code 130, nothing on standard error."""
    with command("tail", "-f", "-n", "1") as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline().endswith("method=GET\n")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr.read() == ""


def test_a_closed_pipe_is_no_error(shop: Path) -> None:
    """As in ``rimp tail | head -1``: the reader has what it wanted."""
    with command("tail", "-n", "all") as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0
