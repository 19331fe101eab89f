"""``rimp logs``: choices, formats, following."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.batch import TelemetryData
from rimp_otel.cli import tail as feed
from rimp_otel.cli.tail import follow, format_log
from rimp_otel.models.records import EventType
from rimp_otel.render.terminal import Style
from tests.cli.records import HOSTILE, HOSTILE_SHOWN, TRACE, event, without_our_colour


def test_everything(rimp: Any, shop: Path) -> None:
    """Log records alone, in the order of time, each with its span."""
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
def test_choices(rimp: Any, shop: Path, argv: list[str], shown: list[str]) -> None:
    """Each condition, and several together."""
    code, out, err = rimp("logs", "--json", *argv)
    assert (code, err) == (0, "")
    assert [json.loads(line)["message"] for line in out.splitlines()] == shown


def test_json(rimp: Any, shop: Path) -> None:
    """The objects of rimp tail."""
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


def test_twenty_if_not_told_otherwise(rimp: Any, record: Any) -> None:
    """All, where a time or a trace is given."""
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
    """Exit code 2, and what is wrong."""
    code, out, err = rimp("logs", *argv)
    assert (code, out) == (2, "")
    assert err.startswith(f"rimp: {message}")


def test_damage_is_told(rimp: Any, shop: Path) -> None:
    """What can be read is shown."""
    with open(shop / "logs.jsonl", "a") as file:
        file.write("nonsense\n")
    code, out, err = rimp("logs")
    assert (code, out.count("\n")) == (0, 3)
    assert err == "rimp: skipped 1 damaged line; 'rimp stats' lists them\n"


@pytest.mark.parametrize("color", [False, True])
def test_hostile_records(color: bool) -> None:
    """Nothing raw on the terminal."""
    line = format_log(event(HOSTILE, 0, 1, source=HOSTILE, **{HOSTILE: HOSTILE}), Style(color))
    line = without_our_colour(line)
    assert line.isprintable()
    assert HOSTILE_SHOWN in line


def test_following(rimp: Any, record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes is shown if it is chosen; also where there was no recording yet."""
    steps = iter([[event("first", 1)], [event("second", 2, event_type=EventType.ERROR)], [event("third", 3)]])  # fmt: skip

    def work_meanwhile() -> None:
        batch = next(steps, None)
        if batch is None:
            raise KeyboardInterrupt
        record(TelemetryData(events=batch))

    def follow_on(show_new: Any) -> None:
        follow(show_new, sleep=lambda _: work_meanwhile())

    monkeypatch.setattr(feed, "follow", follow_on)
    code, out, err = rimp("logs", "-f", "--grep", "^(first|second)", "--json")
    assert code == 130
    assert [json.loads(line)["message"] for line in out.splitlines()] == ["first", "second"]
    assert err.startswith("rimp: waiting; no recording at telemetry")


def test_no_span_no_id() -> None:
    """A record outside of a trace says nothing of one."""
    assert format_log(event("x", 0, trace_id=0), Style()).endswith("  x")
