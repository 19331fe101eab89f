"""Tempo's query API over a recording, against what a real Tempo answered."""

from __future__ import annotations

import base64
import json
import urllib.parse
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("lark")

from rimp_otel import TelemetryData
from rimp_otel.models.records import Signal
from rimp_otel.otlp.protobuf import line_from_protobuf
from rimp_otel.storage.recording import open_storage
from tests.transport.serving import Served

ANSWERS = Path(__file__).parents[4] / "shared" / "conformance" / "tempo" / "answers.jsonl"
# The trace that the Tempo had, and when it began; two more were alike.
TRACE = bytes.fromhex("aa288231b1eccadaf2beeea592bd2273")
SPANS = [bytes.fromhex("7e86045723ef4702"), bytes.fromhex("bafbea815926fbfb")]
START = 1795878608732086918
OTHERS = {
    "64ed0cc896510eb2e9eb6b8f9acbd5e0": (
        ["55ae29ef6ab925dd", "1eec36f9eceaba23"],
        1795878606732086918,
    ),
    "6fce1dc2e966a2d39c3dbe966b0bf8b2": (
        ["8a5f0f67812227f1", "e1d6d084441e7712"],
        1795878603325236915,
    ),
}
TRACES_DATA = base64.b64decode(
    "CuYCCjIKGAoPc2VydmljZS52ZXJzaW9uEgUKAzEuMgoWCgxzZXJ2aWNlLm5hbWUSBgoEc2hvcBKvAgoKCgNsaWISAzAuMRKGAQoQqiiCMbHs"
    "ytryvu6lkr0icxIIfoYEVyPvRwIqDUdFVCAvY2hlY2tvdXQwAjmG4jJlFD7sGEEG0y1oFD7sGEogChlodHRwLnJlc3BvbnNlLnN0YXR1c19j"
    "b2RlEgMY9ANKGQoKaHR0cC5yb3V0ZRILCgkvY2hlY2tvdXR6CBIEYm9vbRgCEpcBChCqKIIxsezK2vK+7qWSvSJzEgi6++qBWSb7+yIIfoYE"
    "VyPvRwIqDFNFTEVDVCBzdG9jazADOcYkQmUUPuwYQUa72mUUPuwYShoKDmRiLnN5c3RlbS5uYW1lEggKBnNxbGl0ZUoUCgR0YWdzEgwqCgoD"
    "CgFhCgMKAWJaGQkGZ1FlFD7sGBIFcmV0cnkaBwoBbhICGAF6AA=="
)
TIMES = [0, 1_000_000, 2_000_000, 11_000_000, 50_000_000]


def traces():
    """Yield the protobuf of the three traces, the oldest first."""
    for trace, (spans, start) in reversed(OTHERS.items()):
        data = TRACES_DATA.replace(TRACE, bytes.fromhex(trace))
        for old, new in zip(SPANS, spans, strict=True):
            data = data.replace(old, bytes.fromhex(new))
        for time in TIMES:
            data = data.replace(_fixed(START + time), _fixed(start + time))
        yield data
    yield TRACES_DATA


def _fixed(number):
    return number.to_bytes(8, "little")


@pytest.fixture(scope="module", params=["recording", "recording.db"])
def server(request, tmp_path_factory):
    """Serve the recording that the answers are about: in files, some of them sealed, and in a database."""
    path = tmp_path_factory.mktemp("tempo") / request.param
    with open_storage(path) as storage:
        for number, data in enumerate(traces()):
            line = line_from_protobuf(Signal.TRACES, data)
            storage.store(TelemetryData.from_otlp_json([line]))
            if number == 0 and request.param == "recording":
                storage.rotate()
    with Served(path) as served:
        yield served


def ask(server, path, status=200, accept="application/json", **query):
    """Return the answer to a question: its JSON, or its text."""
    text = f"/tempo{path}?{urllib.parse.urlencode(query)}"
    found = server.request("GET", text, headers={"Accept": accept})
    assert found.status == status, found
    return found.json if found.headers["content-type"].endswith("json") else found.body.decode()


# What the Tempo answered.


def load_answers():
    """Return the answers, each with a name."""
    if not ANSWERS.exists():
        return []
    lines = ANSWERS.read_text().splitlines()
    return [pytest.param(a, id=f"{a['path']} {a['accept']}") for a in map(json.loads, lines)]


# The order of scopes is any. What was looked at is Tempo's own affair: a field that is zero is left out.
def comparable(body):
    """Return an answer without what differs from one Tempo to the next."""
    if not isinstance(body, dict):
        return body
    found = {key: value for key, value in body.items() if key != "metrics"}
    if "scopes" in found:
        found["scopes"] = sorted(found["scopes"], key=lambda scope: scope["name"])
    return found


METRICS = {"inspectedBytes": (str, int), "completedJobs": int, "totalJobs": int}


@pytest.mark.skipif(not ANSWERS.exists(), reason="the conformance data is not here")
@pytest.mark.parametrize("expected", load_answers())
def test_answers_are_those_of_tempo(server, expected):
    """Statuses, types, shapes and values are the same, and protobuf byte for byte."""
    headers = {"Accept": expected["accept"]}
    found = server.request("GET", "/tempo" + expected["path"], headers=headers)
    assert found.status == expected["status"]
    assert found.headers.get("content-type", "") == expected["content_type"]
    if "base64" in expected:
        is_wrapped = "/v2/" in expected["path"]
        # A response of version 2 ends with what was looked at.
        metrics, none = (b"\x12\x04\x08\xdf\xc1\x01", b"\x12\x00") if is_wrapped else (b"", b"")
        body = base64.b64decode(expected["base64"])
        assert found.body == body.removesuffix(metrics) + none
    elif expected["content_type"].endswith("json"):
        body, answer = expected["body"], found.json
        if "limit=2" in expected["path"]:  # of the three traces it had returned any two
            body, answer = ({**one, "traces": shape(one["traces"])} for one in (body, answer))
        assert comparable(answer) == comparable(body)
        assert answer.keys() == body.keys()
        for key, value in answer.get("metrics", {}).items():
            assert isinstance(value, METRICS[key])
    else:
        assert found.body.decode() == expected["body"]


def shape(value):
    """Return a value's shape: keys and types."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value)


# Search.


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ('{ event.n = 1 && event:name = "retry" }', ["SELECT stock"] * 3),
        ('{ rootName = "GET /checkout" && kind = client }', ["SELECT stock"] * 3),
        ('{ parent.span.http.route = "/checkout" }', ["SELECT stock"] * 3),
        ("{ span.http.route = nil }", ["SELECT stock"] * 3),
        ('{ !(name = "SELECT stock") }', ["GET /checkout"] * 3),
        ("{ duration / 5 = 2ms }", ["SELECT stock"] * 3),
        ("{ status = error } > { kind = client }", ["SELECT stock"] * 3),
        ("{ kind = client } < { status = error }", ["GET /checkout"] * 3),
        ("{ kind = client } ~ { }", []),
        ("{ status = error } && { kind = client }", ["GET /checkout", "SELECT stock"] * 3),
        ("{ status = error } &>> { kind = client }", ["GET /checkout", "SELECT stock"] * 3),
        ("{ kind = client } !> { }", ["GET /checkout", "SELECT stock"] * 3),
        ("{ } | count() > 2", []),
        ("{ } | by(name) | avg(duration) > 20ms", ["GET /checkout"] * 3),
        ("{ } | sum(duration) = 60ms", ["GET /checkout", "SELECT stock"] * 3),
    ],
)
def test_search_by_traceql(server, query, expected):
    """Relations, parents, arithmetic and pipelines are evaluated on whole traces."""
    found = ask(server, "/api/search", q=f"{query} | select(name)")["traces"]
    assert [span["name"] for trace in found for span in trace["spanSet"]["spans"]] == expected


def test_search_for_a_structure(server):
    """What Traces Drilldown asks for its structure has the places of spans in their trees."""
    query = (
        "({nestedSetParent<0 && true } &>> { kind = client }) || ({nestedSetParent<0 && true })"
        " | select(status, resource.service.name, name, nestedSetParent, nestedSetLeft, nestedSetRight)"
    )
    trace = ask(server, "/api/search", q=query, limit=1, spss=20)["traces"][0]
    (spans,) = [one["spans"] for one in trace["spanSets"]]
    values = [
        {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]} for span in spans
    ]
    keys = ("nestedSetParent", "nestedSetLeft", "nestedSetRight", "status", "service.name")
    assert [tuple(own[key] for key in keys) for own in values] == [
        ("-1", "1", "4", "error", "shop"),
        ("1", "2", "3", "unset", "shop"),
    ]


def test_search_shows_numbers_of_sets(server):
    """Groups and aggregates are attributes of the set, in the order of the query."""
    query = "{} | by(status) | count() >= 1 | max(duration) > 1ms"
    trace = ask(server, "/api/search", q=query, limit=1)["traces"][0]
    assert [one["attributes"] for one in trace["spanSets"]] == [
        [
            {"key": "by(status)", "value": {"stringValue": status}},
            {"key": "count()", "value": {"intValue": "1"}},
            {"key": "max(duration)", "value": {"intValue": duration}},
        ]
        for status, duration in (("error", "50000000"), ("unset", "10000000"))
    ]


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ({"tags": 'service.name=shop http.response.status_code=500 http.route="/checkout"'}, 3),
        ({"tags": "http.response.status_code=501"}, 0),
        ({"minDuration": "50ms", "maxDuration": "1s"}, 3),
        ({"minDuration": "51ms"}, 0),
        ({"start": 1795878606, "end": 1795878608, "q": "{}"}, 1),
        ({"start": "2026-11-28T15:10:08Z", "q": "{}"}, 1),
        ({"limit": 2, "q": "{}"}, 2),
    ],
)
def test_search_by_parameters(server, query, number):
    """Tags and durations of a trace, as before TraceQL, and times."""
    assert len(ask(server, "/api/search", **query)["traces"]) == number


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        ("/api/search", {"tags": "a"}, "invalid tags: not logfmt: a"),
        ("/api/search", {"limit": "many"}, "invalid limit: must be a whole number"),
        ("/api/search", {"minDuration": "5"}, "invalid minDuration: not a duration"),
        ("/api/search", {"start": "soon"}, "invalid start: soon"),
        ("/api/search", {"start": "5", "end": "4"}, "start must be before end"),
        ("/api/search", {"q": "{} | rate()"}, "ask /api/metrics for them"),
        ("/api/v2/search/tags", {"scope": "x"}, "invalid scope: x"),
        ("/api/v2/search/tag/foo/values", {}, "not an intrinsic or an attribute with its scope"),
        ("/api/metrics/query_range", {"q": "{}"}, "add one such as | rate()"),
        ("/api/metrics/query_range", {"q": "{} | rate()", "start": "1", "step": "1"}, "points"),
        ("/api/metrics/query", {"q": "{} | rate("}, "parse error at line 1, col 11"),
        ("/api/traces/" + "0" * 33, {}, "larger than 128 bits"),
    ],
)
def test_what_is_no_question(server, path, query, message):
    """It is answered 400 with what is wrong, in plain text."""
    assert message in ask(server, path, status=400, **query)


def test_values_of_the_first_version(server):
    """They are texts, of whatever type and scope."""
    assert ask(server, "/api/search/tag/service.name/values")["tagValues"] == ["shop"]
    path = "/api/search/tag/http.response.status_code/values"
    assert ask(server, path)["tagValues"] == ["500"]
    assert ask(server, "/api/search/tag/status/values")["tagValues"] == ["ok", "error", "unset"]


def test_values_that_a_filter_leaves(server):
    """A filter limits the values of others; of one that is being typed, what is complete."""
    path = "/api/v2/search/tag/name/values"
    checkout = [{"type": "string", "value": "GET /checkout"}]
    assert ask(server, path, q="{status=error}")["tagValues"] == checkout
    assert ask(server, path, q="{status=error && kind=server && name=}")["tagValues"] == checkout
    assert len(ask(server, path, q="{name= && status=error}")["tagValues"]) == 2


# Metrics.

RANGE = {"start": 1795878600, "end": 1795878660, "step": "15s"}


def measure(server, query, **parameters):
    """Return the samples of each series, by its labels."""
    path = (
        "/api/metrics/query" if "step" not in (RANGE | parameters) else "/api/metrics/query_range"
    )
    found = ask(server, path, q=query, **(RANGE | parameters))
    assert found.keys() == {"series", "metrics"}
    return {
        tuple(next(iter(label["value"].values())) for label in one["labels"]): [
            (int(sample["timestampMs"]) // 1_000 - RANGE["start"], sample.get("value", 0))
            for sample in one["samples"]
        ]
        for one in found["series"]
    }


REST = [(30, 0), (45, 0), (60, 0)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("{} | rate()", {("rate",): [(15, 0.4), *REST]}),
        (
            "{nestedSetParent<0 && true} | rate() by(resource.service.name)",
            {("shop",): [(15, 0.2), *REST]},
        ),
        ("{nestedSetParent<0} | rate() by(rootServiceName)", {("shop",): [(15, 0.2), *REST]}),
        (
            "{} | count_over_time() by(span.http.response.status_code)",
            {("500",): [(15, 3), *REST], ("nil",): [(15, 3), *REST]},
        ),
        (
            "{} > {} | count_over_time() by(rootName)",
            {("GET /checkout",): [(15, 3), *REST]},
        ),
        (
            "{} | quantile_over_time(duration, 0.5, 0.9) by(name)",
            {
                ("GET /checkout", 0.5): [(15, 0.05)],
                ("GET /checkout", 0.9): [(15, 0.05)],
                ("SELECT stock", 0.5): [(15, 0.01)],
                ("SELECT stock", 0.9): [(15, 0.01)],
            },
        ),
        (
            "{} | histogram_over_time(duration) with(sample=true)",
            {(0.016777216,): [(15, 3), *REST], (0.067108864,): [(15, 3), *REST]},
        ),
        ("{} | avg_over_time(duration)", {("avg_over_time",): [(15, 0.03)]}),
        (
            "{} | max_over_time(duration) by(kind)",
            {("client",): [(15, 0.01)], ("server",): [(15, 0.05)]},
        ),
        ("{} | sum_over_time(span.http.response.status_code)", {("sum_over_time",): [(15, 1500)]}),
        ("{} | rate() by(name) | topk(1)", {("GET /checkout",): [(15, 0.2), *REST]}),
        ("{name = `x`} | rate()", {}),
    ],
)
def test_measures(server, query, expected):
    """A sample tells of the step that ends with it; durations are seconds, an absent value is nil."""
    found = measure(server, query)
    assert {
        labels: [(t, pytest.approx(v)) for t, v in own] for labels, own in found.items()
    } == expected


def test_exemplars(server):
    """Spans that a histogram counts, in their bucket, lead to their traces."""
    query = "{} | histogram_over_time(duration)"
    path = "/api/metrics/query_range"
    fast, slow = ask(server, path, q=query, exemplars=2, **RANGE)["series"]
    assert "exemplars" not in fast
    assert slow["exemplars"] == [
        {
            "labels": [{"key": "trace:id", "value": {"stringValue": trace}}],
            "value": 0.05,
            "timestampMs": str(start // 10**6),
        }
        for trace, start in ((TRACE.hex(), START), *((t, s) for t, (_, s) in [*OTHERS.items()][:1]))
    ]
    assert "exemplars" not in ask(server, path, q="{} | rate()", exemplars=2, **RANGE)["series"][0]


def test_an_instant(server):
    """One value for the whole time."""
    found = ask(server, "/api/metrics/query", q="{} | rate()", start=1795878600, end=1795878660)
    name = [{"key": "__name__", "value": {"stringValue": "rate"}}]
    assert found["series"] == [{"labels": name, "value": 0.1}]


def test_comparison(server):
    """What differs between the spans that are selected and the others, by attribute."""
    query = "{} | compare({status=error})"
    series = ask(server, "/api/metrics/query", q=query, start=1795878600, end=1795878660)["series"]
    found = {
        (
            one["labels"][0]["value"]["stringValue"],
            one["labels"][1]["key"],
            *one["labels"][1]["value"].values(),
        ): one["value"]
        for one in series
    }
    assert found["selection", "name", "GET /checkout"] == 3
    assert found["baseline", "name", "SELECT stock"] == 3
    assert found["selection", "span.http.response.status_code", "500"] == 3
    assert found["selection_total", "resource.service.name", "nil"] == 3
    assert ("baseline", "span.http.response.status_code", "500") not in found
    times = (1795878606 * 10**9, 1795878608 * 10**9)
    query = f"{{}} | compare({{status=error}}, 10, {times[0]}, {times[1]})"
    found = measure(server, query)
    assert found["selection", "error"] == [(15, 1), *REST]
    assert found["baseline", "error"] == [(15, 2), *REST]


def test_health(server):
    """What a data source, or who starts it, looks at first."""
    assert ask(server, "/ready") == "ready\n"
    assert ask(server, "/api/status/buildinfo").keys() == {"version", "revision"}


def test_a_token_is_wanted(tmp_path):
    """As of whoever sends, where the server has tokens."""
    file = tmp_path / "token"
    file.write_text("a-token-of-the-tests")
    file.chmod(0o600)
    with Served(tmp_path / "recording", "--token-file", str(file)) as served:
        path = "/tempo/api/search?q=%7B%7D"
        assert served.request("GET", path, headers={}).status == 401
        headers = {"Authorization": "Bearer a-token-of-the-tests"}
        found = served.request("GET", path, headers=headers)
        assert (found.status, found.json["traces"]) == (200, [])
        assert served.request("POST", path, headers=headers).status == 405
