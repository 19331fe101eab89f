"""``rimp diff``: two recordings, or two time ranges of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.analysis.activity import Activity
from rimp_otel.analysis.diff import diff_operations
from rimp_otel.batch import TelemetryData
from rimp_otel.cli.diff import format_differences
from rimp_otel.render.terminal import Style
from rimp_otel.storage import FileStorage
from tests.cli.records import HOSTILE, MS, span, without_our_colour


def requests(
    first: int, duration: int, error: str | None = None, number: int = 100
) -> TelemetryData:
    """Return one request per second from ``first`` seconds after T0; those with an error have a query."""
    spans = []
    for i in range(first, first + number):
        start, wobble = i * 1_000, i * 7 % 13
        trace_id = i + 1
        why = error if i % 4 == 0 else None
        spans.append(
            span("GET /", 1, 0, start, start + duration + wobble, error=why, trace_id=trace_id)
        )
        if error:
            spans.append(span("SELECT", 2, 1, start, start + 5, "db", trace_id=trace_id))
    return TelemetryData(spans=spans)


@pytest.fixture
def before_and_after() -> None:
    """Make two recordings."""
    FileStorage("before").store(requests(0, 100))
    FileStorage("after").store(requests(0, 200, "E: bank 7 is down"))


@pytest.mark.usefixtures("before_and_after")
def test_two_recordings(rimp: Any) -> None:
    """The worst differences come first."""
    assert rimp("diff", "before", "after") == (
        0,
        """\
A  before  2026-11-18 11:06:40.000 to 2026-11-18 11:08:19.104  100 spans
B  after  2026-11-18 11:06:40.000 to 2026-11-18 11:08:19.204  200 spans

slower
OPERATION    SPANS      P50                     P95                     P
shop  GET /  100 → 100  106 ms → 206 ms (+94%)  112 ms → 212 ms (+89%)  <0.0001

fails more often
OPERATION    ERRORS          RATE          P
shop  GET /  0/100 → 25/100  0.0% → 25.0%  <0.0001

new errors
TIMES  WHERE        TRACE     ERROR
   25  shop  GET /  00000000  E: bank # is down

calls added
CALLER → CALLED
shop  GET / → db  SELECT  100 times in 100

1 operation compared
""",
        "",
    )


@pytest.mark.usefixtures("before_and_after")
def test_the_other_way_round(rimp: Any) -> None:
    """Improvements come last."""
    titles = [line for line in rimp("diff", "after", "before").out.splitlines() if line.islower()]
    assert titles == [
        "calls removed",
        "faster",
        "fails less often",
        "1 operation compared",
    ]


def test_two_windows_of_one_recording(rimp: Any, record: Any) -> None:
    """Spans belong to the time range that they start in."""
    record(requests(0, 100))
    record(requests(100, 200, "down"))
    at = "2026-11-18T11:08:20Z"
    found = json.loads(rimp("diff", "--window-a", f"..{at}", "--window-b", f"{at}..", "--json").out)
    assert found["a"] == {
        "first": "2026-11-18T11:06:40.000000000Z",
        "last": "2026-11-18T11:08:19.104000000Z",
        "spans": 100,
    }
    assert (found["b"]["spans"], found["compared"], found["too_few"]) == (200, 1, 0)
    (slower,) = found["slower"]
    assert slower.pop("p_value") < 0.0001
    assert slower == {
        "service": "shop",
        "name": "GET /",
        "moved": "median and tail",
        "counts": [100, 100],
        "p50_ns": [106 * MS, 206 * MS],
        "p95_ns": [112 * MS, 212 * MS],
    }
    assert found["failing"][0]["errors"] == [0, 25]
    assert found["calls_added"] == [
        {
            "caller": {"service": "shop", "name": "GET /"},
            "called": {"service": "db", "name": "SELECT"},
            "count": 100,
            "caller_counts": [100, 100],
        }
    ]
    assert found["new_errors"] == [
        {"service": "shop", "name": "GET /", "text": "down", "count": 25, "trace_id": f"{101:032x}"}
    ]
    assert (found["faster"], found["recovered"], found["calls_removed"]) == ([], [], [])


@pytest.mark.usefixtures("before_and_after")
def test_choices(rimp: Any) -> None:
    """The smallest change, the exit code and the service can be chosen."""
    assert "slower" not in rimp("diff", "before", "after", "--min-change", "95%").out
    assert rimp("diff", "before", "after", "--exit-code").code == 1
    assert rimp("diff", "before", "before", "--window-b", "2026..", "--exit-code").code == 0
    code, _, err = rimp("diff", "before", "after", "--service", "db")
    assert (code, err.splitlines()) == (
        2,
        [
            "rimp: no service 'db' in before: there is 'shop'",
            "rimp: nothing to compare: no records in before in that time range",
        ],
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "nothing to compare: give two recordings, or --window-a and --window-b"),
        (["before", "before"], "nothing to compare: give two"),
        (["before", "--path", "after"], "--path with A alone is ambiguous"),
        (["before", "nowhere"], "no recording at nowhere"),
        (["--window-a", "1h"], "argument --window-a: invalid time range '1h': expected START..END"),
        (
            ["--min-change", "x"],
            "argument --min-change: expected a percentage such as 25%, got 'x'",
        ),
    ],
)
@pytest.mark.usefixtures("before_and_after")
def test_usage_errors(rimp: Any, argv: list[str], message: str) -> None:
    """Usage errors have exit code 2 and a message."""
    code, out, err = rimp("diff", *argv)
    assert (code, out) == (2, "")
    assert err.startswith(f"rimp: {message}")


def test_no_difference(rimp: Any) -> None:
    """The number of compared operations is printed."""
    FileStorage("a").store(requests(0, 100))
    FileStorage("b").store(requests(500, 100, number=9))
    assert rimp("diff", "a", "b").out.splitlines()[-1] == (
        "no significant difference (0 operations compared, 1 with too few spans)"
    )
    assert Path("a").exists()


@pytest.mark.parametrize("color", [False, True])
def test_hostile_recordings(color: bool) -> None:
    """Control characters are escaped."""
    before, after = Activity(), Activity()
    for i in range(20):
        before.add_span(span(HOSTILE, 1, 0, 0, 100, HOSTILE, trace_id=i + 1))
        after.add_span(span(HOSTILE, 1, 0, 0, 900 + i, HOSTILE, HOSTILE, trace_id=i + 1))
        after.add_span(span(HOSTILE + "x", 2, 1, 0, 1, HOSTILE, trace_id=i + 1))
    found = diff_operations(before, after)
    assert found.slower
    assert found.failing
    assert found.added
    assert found.new_failures
    lines = format_differences(found, before, after, [HOSTILE, HOSTILE], 200, Style(color))
    assert all(without_our_colour(line).isprintable() or not line for line in lines)


def test_many_differences_are_cut() -> None:
    """A section has at most twenty rows; --json has all."""
    before, after = Activity(), Activity()
    before.add_span(span("a", 1))
    for i in range(100):
        text = "".join(chr(97 + int(digit)) for digit in str(i))
        after.add_span(span("a", 1, error=text))
    lines = format_differences(
        diff_operations(before, after), before, after, ["a", "b"], 100, Style()
    )
    assert "and 80 more (see --json)" in lines


def test_both_recordings_are_checked_before_one_is_read(rimp: Any, shop: Path) -> None:
    """A second recording that does not exist is told without reading the first."""
    (shop / "traces.jsonl").write_bytes(b"damaged\n")
    code, out, err = rimp("diff", str(shop), "missing")
    assert (code, out) == (2, "")
    assert "no recording at missing" in err
    assert "skipped" not in err
