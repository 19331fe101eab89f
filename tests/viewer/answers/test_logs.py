"""The page's questions for log records."""

from __future__ import annotations

import json
import time

import pytest

pytest.importorskip("starlette")

from rimp_otel import TelemetryData
from rimp_otel.storage.recording import open_storage
from rimp_otel.viewer.answers.logs import LogAnswers, LogQuery
from rimp_otel.viewer.parameters import AttributeTest
from tests.transport.serving import Served
from tests.viewer.shown import Shown

S = 10**9
START = 1_795_521_600 * S


def attribute(key, **value):
    """Return an attribute as OTLP JSON has it."""
    return {"key": key, "value": value}


def log(number, body, severity=9, at=None, **fields):
    """Return a log record of a second."""
    return {
        "timeUnixNano": str(START + (number if at is None else at) * S),
        "severityNumber": severity,
        "body": {"stringValue": body},
        "attributes": [attribute("n", intValue=str(number)), attribute("half", doubleValue=0.5)],
        **fields,
    }


def line(*records, service="shop"):
    """Return a line of log records."""
    resource = {"attributes": [attribute("service.name", stringValue=service)]}
    scope = {"name": "lib", "attributes": [attribute("team", stringValue="core")]}
    scopes = [{"scope": scope, "logRecords": list(records)}]
    return json.dumps({"resourceLogs": [{"resource": resource, "scopeLogs": scopes}]}).encode()


def store(path, *lines, rotate=False):
    """Add lines to a recording."""
    with open_storage(path) as storage:
        for one in lines:
            storage.store(TelemetryData.from_otlp_json([one]))
        if rotate:
            storage.rotate()


SPECIAL = [
    log(40, "Payment FAILED for Ünal", 17, traceId="0a" * 16, spanId="0b" * 8),
    log(41, "debugging", 5, attributes=[attribute("user", stringValue="Ada Lovelace")]),
    log(42, "text that is written as escapes: \u00fcber", 21),
    log(43, "no severity", 0),
]


@pytest.fixture(scope="module", params=["recording", "recording.db"])
def shown(request, tmp_path_factory):
    """Show a recording: some of it sealed, some not, in files and in a database."""
    path = tmp_path_factory.mktemp("logs") / request.param
    first = [line(*(log(n, f"message {n}") for n in range(at, at + 10))) for at in range(0, 40, 10)]
    store(path, *first, rotate=request.param == "recording")
    store(path, line(*SPECIAL, service="bank"))
    with Shown(path) as running:
        yield running


def bodies(answer):
    """Return the texts of an answer's records."""
    found = []
    for resource in answer["logs"]["resourceLogs"]:
        for scope in resource["scopeLogs"]:
            found += [record["body"]["stringValue"] for record in scope["logRecords"]]
    assert len(found) == answer["count"]
    return found


def ask(shown, **query):
    """Return the texts that are found."""
    return bodies(shown.get("/api/logs", **query))


def test_pages(shown):
    """The newest first, each record once, oldest first within a page."""
    pages = []
    before = ""
    while True:
        answer = shown.get("/api/logs", limit=9, before=before)
        pages.append(bodies(answer))
        assert answer["is_complete"]
        before = answer["older"]
        if before is None:
            break
    assert pages[0] == ["message 35", "message 36", "message 37", "message 38", "message 39"] + [
        record["body"]["stringValue"] for record in SPECIAL
    ]
    every = [body for page in reversed(pages) for body in page]
    assert every[:40] == [f"message {n}" for n in range(40)]
    assert len(every) == 44


def test_conditions(shown):
    """All of them must be met."""
    assert ask(shown, service="bank", min_severity=17) == [
        "Payment FAILED for Ünal",
        "text that is written as escapes: über",
    ]
    assert ask(shown, trace_id="0A" * 16) == ["Payment FAILED for Ünal"]
    window = {"from": START + 3 * S, "to": START + 5 * S}
    assert ask(shown, **window) == ["message 3", "message 4"]
    assert ask(shown, limit=3, **window) == ["message 3", "message 4"]
    assert ask(shown, service="nobody") == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("payment failed", 1),
        ("ÜNAL", 1),
        ("üBER", 1),
        ("message 3", 11),
        ("lovelace", 1),
        ("lib", 44),
        ("0.5", 43),
        ("message 40", 0),
    ],
)
def test_text(shown, text, count):
    """In any case, in the message, the source and the attributes."""
    assert len(ask(shown, text=text, limit=1_000)) == count


@pytest.mark.parametrize(
    ("attr", "count"),
    [
        (["log.n >= 38", "log.n <= 40"], 3),
        (["log.n = 7.0"], 1),
        (['log.n = "7"'], 0),
        (["log.half = 0.5"], 43),
        (["log.user exists"], 1),
        (["log.user =~ Ada.*"], 1),
        (["log.user =~ Ada"], 0),
        (["log.user != Bob"], 1),
        (["any.service.name = bank"], 4),
        (["resource.service.name = shop", "log.n < 5"], 5),
        (["instrumentation.team = core"], 44),
        (["log.nothing != 5"], 0),
    ],
)
def test_attributes(shown, attr, count):
    """Types are strict; of what is absent nothing is true."""
    assert len(ask(shown, attr=attr, limit=1_000)) == count


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"attr": "log.n"}, "parameter 'attr' must be SCOPE.KEY OPERATOR VALUE"),
        ({"attr": "other.n = 5"}, "parameter 'attr' has no scope 'other'"),
        ({"attr": "log.n =~ ("}, "not a regular expression"),
        ({"attr": "log.n =~ 5"}, "n =~ 5 compares nothing"),
        ({"from": "yesterday"}, "parameter 'from' must be a whole number, got 'yesterday'"),
        ({"from": "-1"}, "must be a whole number"),
        ({"to": str(2**64 + 1)}, "must be a whole number"),
        ({"from": 5, "to": 5}, "parameter 'from' must be before 'to', got 5 and 5"),
        ({"limit": 0}, "parameter 'limit' must be a number above 0"),
        ({"trace_id": "0" * 32}, "not a trace id of 32 hexadecimal digits"),
        ({"before": "x"}, "not a cursor of an answer: 'x'"),
        ({"after": "x.y.z"}, "not a cursor of an answer: 'x.y.z'"),
    ],
)
def test_parameters_that_are_wrong(shown, query, said):
    """The error names the parameter and its value."""
    assert said in shown.get("/api/logs", 400, **query)["error"]


def test_histogram(shown):
    """Numbers by level, in steps as people count."""
    answer = shown.get("/api/logs/histogram", **{"from": START, "to": START + 60 * S, "steps": 6})
    assert (answer["from"], answer["step"]) == (str(START), 10 * S)
    nothing = [0] * 6
    assert answer["series"] == {
        "trace": nothing,
        "debug": [0, 0, 0, 0, 1, 0],
        "info": [10, 10, 10, 10, 0, 0],
        "warn": nothing,
        "error": [0, 0, 0, 0, 1, 0],
        "fatal": [0, 0, 0, 0, 1, 0],
        "unspecified": [0, 0, 0, 0, 1, 0],
    }
    found = shown.get("/api/logs/histogram", min_severity=17)
    assert sum(map(sum, found["series"].values())) == 2
    assert int(found["from"]) <= START + 40 * S < int(found["from"]) + 60 * found["step"]


@pytest.mark.parametrize("name", ["recording", "recording.db"])
def test_following(tmp_path, name):
    """What comes later is told once, whatever its time, and again if the answer was lost."""
    path = tmp_path / name
    store(path, line(log(1, "one"), log(2, "two")))
    with Shown(path) as shown:
        first = shown.get("/api/logs")
        assert bodies(first) == ["one", "two"]
        assert bodies(shown.get("/api/logs", after=first["newer"])) == []
        store(path, line(log(3, "three"), log(0, "late")))
        for _ in range(2):
            second = shown.get("/api/logs", after=first["newer"])
            assert sorted(bodies(second)) == ["late", "three"]
        store(path, line(log(4, "four")))
        third = shown.get("/api/logs", after=second["newer"])
        assert bodies(third) == ["four"]
        other = shown.get("/api/logs", text="four", after=third["newer"])
        assert bodies(other) == []
    with Shown(path) as shown:  # which knows nothing of the cursor
        store(path, line(log(5, "five")))
        assert bodies(shown.get("/api/logs", after=third["newer"])) == ["five"]


def test_following_what_is_in_a_journal(tmp_path):
    """It is told before it is stored, and only once."""
    path = tmp_path / "t"
    with Served(path) as served:
        first = served.request("GET", "/api/logs", headers={}).json
        assert first["count"] == 0
        for number in range(3):
            served.request("POST", "/v1/logs", line(log(number, f"message {number}")))
            target = f"/api/logs?after={first['newer']}"
            first = served.request("GET", target, headers={}).json
            assert bodies(first) == [f"message {number}"]
        served.end()


def test_a_past_window_is_not_followed(tmp_path):
    """Nothing new belongs to it."""
    store(tmp_path / "t", line(log(1, "one")))
    answers = LogAnswers(tmp_path / "t", clock=lambda: START + 1_000 * S)
    window = LogQuery()._replace
    old = LogQuery().window._replace(end=START + 10 * S)
    assert answers.page(window(window=old), 10)["newer"] is None
    now = LogQuery().window._replace(end=START + 999 * S)
    assert answers.page(window(window=now), 10)["newer"] is not None


def test_records_of_one_time_stay_together(tmp_path):
    """A page has all of them, however many."""
    records = [log(n, f"message {n}", at=n // 100) for n in range(300)]
    store(tmp_path / "t", line(*records))
    with Shown(tmp_path / "t") as shown:
        found, before = [], ""
        while before is not None:
            answer = shown.get("/api/logs", limit=20, before=before)
            assert answer["count"] == 100
            found += bodies(answer)
            before = answer["older"]
        assert sorted(found) == sorted(f"message {n}" for n in range(300))


def test_a_search_goes_on_where_it_stopped(tmp_path):
    """It returns when its time is over, with what it has found."""
    path = tmp_path / "t"
    lines = [
        line(*(log(n, f"needle {n}" if n % 500 == 7 else "hay") for n in range(at, at + 500)))
        for at in range(0, 5_000, 500)
    ]
    store(path, *lines)
    seconds = iter(range(10_000))
    answers = LogAnswers(path, budget=0.5, monotonic=lambda: float(next(seconds)))
    wanted = LogQuery(text="NEEDLE", tests=(AttributeTest("log", "n", ">=", 0),))
    found, before, incomplete = [], None, 0
    while True:
        page = answers.page(wanted, 100, before)
        found += json.loads(bytes(page["logs"]))["resourceLogs"]
        incomplete += not page["is_complete"]
        before = page["older"]
        if before is None:
            break
    numbers = [
        int(record["body"]["stringValue"].split()[1])
        for resource in found
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]
    assert sorted(numbers) == [500 * n + 7 for n in range(10)]
    assert incomplete > 1


def test_a_time_out(tmp_path):
    """504 says what to do, and the work ends."""
    store(tmp_path / "t", *(line(log(n, "x")) for n in range(50)))
    with Shown(tmp_path / "t", timeout=1e-6) as shown:
        said = shown.get("/api/logs", 504)["error"]
        assert said == "stopped after 1e-06 s: ask for a shorter time or with more conditions"
        deadline = time.monotonic() + 30
        while shown.viewer.running and time.monotonic() < deadline:
            pass
        assert not shown.viewer.running
