"""``rimp tail`` and ``rimp logs``: lines, conditions, following."""

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
from rimp_otel.cli import tail as module
from rimp_otel.cli.tail import Feed, format_log, format_record
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import EventType, MetricKind, TelemetryEvent, TelemetryMetric
from rimp_otel.models.times import Window
from rimp_otel.render.terminal import Style
from rimp_otel.storage import FileStorage
from tests.cli.conftest import latency, queue
from tests.cli.records import (
    HOSTILE,
    HOSTILE_SHOWN,
    MS,
    STACK,
    T0,
    TRACE,
    event,
    raised,
    span,
    without_our_colour,
)
from tests.storage.recordings import batch


def test_everything(rimp: Any, shop: Path) -> None:
    """All signals are printed in the order of time, a span at its end."""
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


def test_default_number(rimp: Any, shop: Path) -> None:
    """Ten records are printed, or with --since all."""
    assert len(rimp("tail").out.splitlines()) == 10
    assert len(rimp("tail", "--since", "2026-11-18").out.splitlines()) == 12
    assert rimp("tail", "-n", "0").out == ""


def test_choices(rimp: Any, shop: Path) -> None:
    """Signal and time range are combined."""
    since = "2026-11-18T11:06:40.092Z"
    signals = ["--signal", "logs", "--signal", "metrics"]
    lines = rimp("tail", "--since", since, *signals).out.splitlines()
    assert [line.split()[2] for line in lines] == ["WARN", "ERROR", "METRIC"]
    assert rimp("tail", "--signal", "logs", "metrics", "--since", since).out.splitlines() == lines


def test_json(rimp: Any, shop: Path) -> None:
    """Each line is one JSON object."""
    lines = rimp("tail", "--json", "-n", "all").out.splitlines()
    assert len(lines) == 12
    assert {json.loads(line)["signal"] for line in lines} == {"traces", "logs", "metrics"}


def test_records_of_one_time_keep_their_order(rimp: Any, record: Any) -> None:
    """Records of the same time are printed in the order of recording."""
    record(TelemetryData(events=[event(f"m{i}", 1) for i in range(5)]))
    assert [line.split()[4] for line in rimp("tail").out.splitlines()] == [
        "m0", "m1", "m2", "m3", "m4",
    ]  # fmt: skip


def test_colour() -> None:
    """Services, severities and errors are coloured; times and attributes are dim."""
    line = format_record(event("boom", 1, 1, EventType.ERROR, "", n=1), Style(color=True))
    assert line == (
        "\x1b[2m11-18 11:06:40.001\x1b[0m  \x1b[31mERROR  \x1b[0m\x1b[2mapp\x1b[0m             "
        "  \x1b[31mboom\x1b[0m  \x1b[2mn=1  trace=4bf92f35\x1b[0m"
    )


def test_odd_records() -> None:
    """A record without value, message, name or end still makes a line."""
    style = Style()
    no_value = TelemetryMetric("m", 0, flags=1, time_unix_nano=T0)
    named = TelemetryEvent("s", "", event_name="user.login", time_unix_nano=0)
    ratio = TelemetryMetric("cpu", 0.25, "1", time_unix_nano=T0)
    assert format_record(no_value, style).split()[3:] == ["m", "no", "value"]
    assert format_record(ratio, style).endswith("  cpu  0.25")
    assert format_record(named, style) == "-  INFO   s                 user.login"
    assert format_record(span("", 1, 0, 0, None), style).endswith("(no name)  open  trace=4bf92f35")


def test_interrupted_span() -> None:
    """An interrupted span has its own mark."""
    cut = span("a", 1, 0, 0, 7, error="process terminated", **{"rimp.interrupted": True})
    line = "a  7 ms  ✂ process terminated  trace=4bf92f35"
    assert format_record(cut, Style()).endswith(line)


def test_empty_distribution() -> None:
    """An empty histogram has no mean."""
    empty = TelemetryMetric(
        "h",
        0.0,
        "s",
        kind=MetricKind.HISTOGRAM,
        point=type(latency().point)(0),  # type: ignore[misc]
    )
    assert format_record(empty, Style()).endswith("h  n=0")


def test_exception_of_a_log_record() -> None:
    """The exception that logger.exception() recorded follows the message."""
    attributes = dict(raised("KeyError", "'x'", 0).attributes or {})
    line = format_record(event("failed", 0, 0, EventType.ERROR, trace_id=0, **attributes), Style())
    assert line.endswith("  failed  KeyError: 'x'")


@pytest.mark.parametrize("color", [False, True])
def test_hostile_records(color: bool) -> None:
    """Names, messages, sources, services, units, keys and values are escaped."""
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


def test_following(rimp: Any, record: Any, meanwhile: Any) -> None:
    """New records are printed as they come, also in files that did not exist before."""
    meanwhile(
        lambda: record(TelemetryData(events=[event("first", 1)])),
        lambda: record(TelemetryData(metrics=[queue()], events=[event("second", 2)])),
    )
    code, out, err = rimp("tail", "-f")
    assert code == 130
    assert [line.split("  ")[-2].strip() for line in out.splitlines()] == [
        "first", "4 {job}", "second",
    ]  # fmt: skip
    assert err.startswith("rimp: waiting: no recording at telemetry")


def test_following_past_what_is_no_file(rimp: Any, record: Any, meanwhile: Any) -> None:
    """What cannot be read is named once, when it appears, and the rest goes on."""
    traces = Path("telemetry/traces.jsonl")
    meanwhile(
        lambda: record(TelemetryData(events=[event("first", 1)])),
        lambda: os.mkfifo(traces),
        lambda: record(TelemetryData(events=[event("second", 2)])),
        lambda: record(TelemetryData(events=[event("third", 3)])),
    )
    code, out, err = rimp("tail", "-f")
    assert code == 130
    assert [line.split("  ")[-2].strip() for line in out.splitlines()] == [
        "first", "second", "third",
    ]  # fmt: skip
    assert err.count(f"rimp: skipped {traces}: Not a regular file") == 1


def command(*argv: str) -> subprocess.Popen[str]:
    """Start the command in its own process."""
    pipe = subprocess.PIPE
    argv = (sys.executable, "-m", "rimp_otel.cli.main", *argv)
    env = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.Popen(argv, stdout=pipe, stderr=pipe, encoding="utf-8", env=env)


def test_interrupt_ends_following(shop: Path) -> None:
    """Ctrl-C ends the command with exit code 130 and no message."""
    with command("tail", "-f", "-n", "1") as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline().endswith("method=GET\n")
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
        assert process.stderr.read() == ""


def test_closed_pipe(shop: Path) -> None:
    """A closed pipe, as in ``rimp tail | head -1``, is a success."""
    with command("tail", "-n", "all") as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0


def texts_of(records: list[Any]) -> list[str]:
    """Return the messages of log records and the names of spans."""
    return [getattr(record, "message", None) or record.name for record in records]


def feed(path: Path, follows: bool = False, window: Window = Window()) -> Feed:  # noqa: B008
    """Return a feed of all records."""
    return Feed(path, window, Filter(), follows)


def test_newest(record: Any) -> None:
    """The newest records come in the order of time, a span at its end."""
    path = record(TelemetryData([event("b", 20), event("a", 10)], [], [span("s", 1, 0, 0, 15)]))
    assert texts_of(feed(path).newest(2)) == ["s", "b"]
    assert texts_of(feed(path).newest(sys.maxsize)) == ["a", "s", "b"]
    assert feed(path).newest(0) == []


def test_window_is_about_the_ends_of_spans(record: Any) -> None:
    """A span that ends in the window is found, even if it started before."""
    path = record(
        TelemetryData([], [], [span("long", 1, 0, 0, 60_000), span("short", 2, 0, 0, 10)])
    )
    assert texts_of(feed(path, window=Window(T0 + 50_000 * MS)).newest(9)) == ["long"]
    assert texts_of(feed(path, window=Window(None, T0 + 50_000 * MS)).newest(9)) == ["short"]


@pytest.mark.parametrize("number", [0, 2, sys.maxsize])
def test_feed_following(record: Any, number: int) -> None:
    """Each new record is returned once, after the newest ones."""
    path = record(TelemetryData([event("a", 1), event("b", 2), event("c", 3)]))
    following = feed(path, follows=True)
    assert texts_of(following.newest(number)) == ["a", "b", "c"][3 - min(number, 3) :]
    assert following.new() == []
    record(TelemetryData([event("e", 5), event("d", 4)]))
    assert texts_of(following.new()) == ["d", "e"]
    assert following.new() == []


def test_record_between_two_reads(record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that arrives between the two reads is returned once, equal records each."""
    path = record(TelemetryData([event("a", 1)]))
    following = feed(path, follows=True)
    look = module.retrieve_records

    def record_meanwhile(*args: Any) -> TelemetryData:
        record(TelemetryData([event("twice", 2), event("twice", 2)]))
        found = look(*args)
        record(TelemetryData([event("twice", 2)]))
        return found

    monkeypatch.setattr(module, "retrieve_records", record_meanwhile)
    assert texts_of(following.newest(9)) == ["a", "twice", "twice"]
    assert texts_of(following.new()) == ["twice"]


def test_old_files_are_not_read(record: Any) -> None:
    """The newest records are found without reading older sealed files."""
    path = record(TelemetryData([event("old", 1)]))
    FileStorage(path).rotate()
    (sealed,) = (path / "sealed").glob("*.zst")
    sealed.write_bytes(b"not zstd")
    record(TelemetryData([event(f"m{i}", 10 + i) for i in range(2_100)]))
    assert texts_of(feed(path).newest(2)) == ["m2098", "m2099"]
    following = feed(path, follows=True)
    assert texts_of(following.newest(1)) == ["m2099"]
    assert following.new() == []


def test_logs_everything(rimp: Any, shop: Path) -> None:
    """Only log records are printed, in the order of time, each with its span."""
    assert rimp("logs") == (
        0,
        """\
11-18 11:06:40.018  INFO   shop/app          cart loaded  items=3  trace=4bf92f35  span=0000000000000001
11-18 11:06:40.092  WARN   stock/app         stock is low  sku=A-17  left=2  trace=4bf92f35  span=0000000000000004
11-18 11:06:40.228  ERROR  shop/app          payment failed, order kept  order=4711  trace=4bf92f35  span=0000000000000001
""",
        "",
    )


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["--severity", "warn"], ["stock is low", "payment failed, order kept"]),
        (["--level", "error"], ["payment failed, order kept"]),
        (["--service", "stock"], ["stock is low"]),
        (["--grep", "stock|cart"], ["cart loaded", "stock is low"]),
        (["--attr", "order=4711"], ["payment failed, order kept"]),
        (["--attr", "items", "--attr", "service.name=shop"], ["cart loaded"]),
        (["--attr", "items=4"], []),
        (["--trace", "4bf9", "-n", "1"], ["payment failed, order kept"]),
        (["--trace", f"{TRACE:032x}", "-n", "1"], ["payment failed, order kept"]),
        (["--trace", "5"], []),
        (["--since", "2026-11-18T11:06:40.092Z"], ["stock is low", "payment failed, order kept"]),
        (["--until", "2026-11-18T11:06:40.092Z"], ["cart loaded"]),
        (["-n", "0"], []),
    ],
)
def test_logs_choices(rimp: Any, shop: Path, argv: list[str], shown: list[str]) -> None:
    """Conditions select records, alone and combined."""
    code, out, err = rimp("logs", "--json", *argv)
    assert (code, err) == (0, "")
    assert [json.loads(line)["message"] for line in out.splitlines()] == shown


def test_logs_json(rimp: Any, shop: Path) -> None:
    """The JSON objects are those of rimp tail."""
    (line,) = rimp("logs", "--json", "-n", "1").out.splitlines()
    assert json.loads(line) == {
        "signal": "logs",
        "time": "2026-11-18T11:06:40.228000000Z",
        "service": "shop",
        "scope": "app",
        "severity": "error",
        "severity_number": 17,
        "severity_text": "",
        "event_name": "",
        "message": "payment failed, order kept",
        "attributes": {"order": 4711},
        "trace_id": f"{TRACE:032x}",
        "span_id": "0000000000000001",
    }


def test_logs_default_number(rimp: Any, record: Any) -> None:
    """Twenty records are printed, or all of a time range or trace."""
    record(TelemetryData(events=[event(f"m{i}", i) for i in range(30)]))
    assert len(rimp("logs").out.splitlines()) == 20
    assert len(rimp("logs", "--since", "2026-11-18").out.splitlines()) == 30
    assert len(rimp("logs", "--until", "2026-11-19").out.splitlines()) == 30
    assert len(rimp("logs", "--trace", "4").out.splitlines()) == 30


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--grep", "("], "argument --grep: invalid regular expression '(': "),
        (["--severity", "bad"], "argument --severity/--level: expected trace, debug, "),
        (["--attr", "=1"], "argument --attr: expected KEY=VALUE or KEY, got '=1'"),
        (["--trace", "x"], "argument --trace: invalid trace id 'x': "),
        (["--service", ""], "--service must not be empty"),
        (["--since", "1h", "--until", "2h"], "empty time range: --until must be after --since"),
    ],
)
def test_usage_errors(rimp: Any, shop: Path, argv: list[str], message: str) -> None:
    """Usage errors have exit code 2 and a message."""
    code, out, err = rimp("logs", *argv)
    assert (code, out) == (2, "")
    assert err.startswith(f"rimp: {message}")


def test_logs_of_a_damaged_recording(rimp: Any, shop: Path) -> None:
    """Readable records are printed, and damage is reported."""
    with open(shop / "logs.jsonl", "a") as file:
        file.write("nonsense\n")
    code, out, err = rimp("logs")
    assert (code, out.count("\n")) == (0, 3)
    assert err == "rimp: skipped 1 damaged line (see 'rimp stats')\n"


@pytest.mark.parametrize("color", [False, True])
def test_logs_hostile_records(color: bool) -> None:
    """Control characters are escaped."""
    line = format_log(event(HOSTILE, 0, 1, source=HOSTILE, **{HOSTILE: HOSTILE}), Style(color))
    line = without_our_colour(line)
    assert line.isprintable()
    assert HOSTILE_SHOWN in line


def test_logs_following(rimp: Any, record: Any, meanwhile: Any) -> None:
    """New records are printed if they meet the conditions."""
    for message in ("first", "second", "third"):
        meanwhile(lambda text=message: record(TelemetryData(events=[event(text, 1)])))
    code, out, err = rimp("logs", "-f", "--grep", "^(first|second)", "--json")
    assert code == 130
    assert [json.loads(line)["message"] for line in out.splitlines()] == ["first", "second"]
    assert err.startswith("rimp: waiting: no recording at telemetry")


def test_log_outside_of_a_trace() -> None:
    """A record without a span has no span id."""
    assert format_log(event("x", 0, trace_id=0), Style()).endswith("  x")


def test_stacks(rimp: Any, record: Any) -> None:
    """A stack is one place on the record's line, and with ``--stack`` all its lines are below."""
    attributes = {"exception.type": "ConnectionError", "exception.stacktrace": STACK + HOSTILE}
    record(TelemetryData(events=[event("failed", **attributes), event("well", 1)]))
    folded = rimp("logs").out.splitlines()
    assert len(folded) == 2
    assert "ConnectionError (in charge, bank.py:42)" in folded[0]
    shown = rimp("logs", "--stack").out.splitlines()
    assert [shown[0], shown[-1]] == folded
    assert shown[1:6] == [f"    {line}" for line in STACK.splitlines()]
    assert all(line.isprintable() for line in shown)


def test_following_ends_with_its_reader(tmp_path: Path) -> None:
    """``rimp tail -f | head -1`` ends when head does, though nothing more is recorded."""
    FileStorage(tmp_path / "t").store(batch("one"))
    command = f"{sys.executable} -m rimp_otel tail -f -n all --path {tmp_path / 't'} | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
