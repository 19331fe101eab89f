"""The routes of the page's questions: their parameters and their errors."""

from __future__ import annotations

import os
import shutil

import pytest

pytest.importorskip("starlette")

from rimp_otel import TelemetryData
from rimp_otel.storage.recording import open_storage
from tests.transport.serving import Served, logs, span, traces
from tests.viewer.shown import OURS, Shown

S = 10**9
START = 1_795_521_600 * S
FAILED = {"status": {"code": 2}, "attributes": [{"key": "n", "value": {"intValue": "7"}}]}
SPANS = [
    span(1, name="GET /", kind=2, endTimeUnixNano=str(START + S)),
    span(2, name="pay", kind=3, **FAILED),
]


@pytest.fixture(scope="module", params=["recording", "recording.db"])
def shown(request, tmp_path_factory):
    """Show a recording of two traces and a log record."""
    path = tmp_path_factory.mktemp("api") / request.param
    with open_storage(path) as storage:
        for one in (traces(*SPANS, service="shop"), logs("said")):
            storage.store(TelemetryData.from_otlp_json([one]))
    with Shown(path) as running:
        yield running


def find(shown, **query):
    """Return the ids of traces that are found, as numbers."""
    return [int(one["trace_id"], 16) for one in shown.get("/api/traces", **query)["traces"]]


def test_info(shown):
    """The page's first question."""
    info = shown.get("/api/info")
    assert (info["services"], info["first"]) == (["shop"], str(START))
    assert info["backend"] == ("sqlite" if info["path"].endswith(".db") else "files")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, [3, 2]),
        ({"limit": 1}, [3]),
        ({"service": "shop", "operation": "pay"}, [3]),
        ({"kind": "server"}, [2]),
        ({"status": "error"}, [3]),
        ({"min_duration": S // 2}, [2]),
        ({"max_duration": 500}, [3]),
        ({"attr": "span.n = 7"}, [3]),
        ({"attr": ["span.n = 7", "span.n > 7"]}, []),
        ({"q": '{ resource.service.name = "shop" && kind = client }'}, [3]),
        ({"q": "{ status = error }", "kind": "server"}, []),
        ({"from": START + 2}, [3]),
    ],
)
def test_traces(shown, query, found):
    """Each parameter is a condition, and all must be met."""
    assert find(shown, **query) == found


def test_durations(shown):
    """Spans are counted by step and duration: requests, or those of an operation; wrong kinds are refused."""

    def count(**query: str) -> int:
        return sum(map(sum, shown.get("/api/traces/durations", **query)["counts"]))

    assert count(operation="pay") == len(find(shown, operation="pay"))
    assert count(service="nobody") == 0
    assert "'kind' must be one of" in shown.get("/api/traces/durations", 400, kind="x")["error"]


def test_a_trace(shown):
    """As OTLP JSON; 404 for an unknown one."""
    answer = shown.get(f"/api/traces/{3:032x}")
    (resource,) = answer["traces"]["resourceSpans"]
    assert resource["scopeSpans"][0]["spans"][0]["name"] == "pay"
    assert answer["logs"] == {"resourceLogs": []}
    assert "is recorded" in shown.get(f"/api/traces/{5:032x}", 404)["error"]
    for wrong in ("5", "x" * 32, "0" * 32, "..%2f..%2fetc"):
        said = shown.get(f"/api/traces/{wrong}", 404 if "%2f" in wrong else 400)["error"]
        assert "%2f" in wrong or "not a trace id of 32 hexadecimal digits" in said


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/api/traces?kind=x", "parameter 'kind' must be one of"),
        ("/api/traces?status=x", "parameter 'status' must be"),
        ("/api/traces?min_duration=1s", "parameter 'min_duration' must be a whole number"),
        ("/api/traces?attr=x", "parameter 'attr' must be"),
        ("/api/traces?attr=x.y%3D5", "spans have no attributes of 'x'"),
        ("/api/traces?q=%7B", "parse error at line 1"),
        ("/api/traces?q=%7B%7D+%7C+rate()", "must be a TraceQL filter of one span"),
        ("/api/attributes?signal=x", "parameter 'signal' must be one of traces, logs, metrics"),
        ("/api/attributes/values?scope=span", "parameter 'key' is missing"),
        ("/api/overview?from=2&to=1", "parameter 'from' must be before 'to'"),
    ],
)
def test_what_is_wrong(shown, target, said):
    """400 names the parameter."""
    assert said in shown.get(target, 400)["error"]


def test_the_rest(shown):
    """Each question has an answer."""
    assert shown.get("/api/overview")["services"][0]["name"] == "shop"
    assert {one["name"] for one in shown.get("/api/operations")["operations"]} == {"GET /", "pay"}
    assert shown.get("/api/operations", service="nobody") == {"operations": []}
    assert shown.get("/api/map")["edges"] == []
    assert ("span", "n") in {
        (one["scope"], one["key"]) for one in shown.get("/api/attributes")["keys"]
    }
    (value,) = shown.get("/api/attributes/values", scope="span", key="n")["values"]
    assert value == {"type": "int", "value": 7, "count": 1}


QUESTIONS = (
    *("info", "overview", "operations", "map", "traces", "attributes", "logs", "logs/histogram"),
    *("errors", "metrics", "sql/schema"),
)


def test_nothing_is_recorded(tmp_path):
    """Each question has an answer all the same, and makes nothing."""
    with Shown(tmp_path / "none") as running:
        for question in QUESTIONS:
            running.get(f"/api/{question}")
            assert running.request("HEAD", f"/api/{question}").body == b""
            assert running.request("POST", f"/api/{question}").status == 405
    assert os.listdir(tmp_path) == []


def test_a_recording_that_goes_away(tmp_path):
    """It is looked at anew with each question."""
    with Shown(tmp_path / "t") as running:
        assert running.get("/api/logs")["count"] == 0
        with Served(tmp_path / "t") as served:
            assert served.post(traces(span(1))).status == 200
            assert find(running) == [2]
            served.end()
        shutil.rmtree(tmp_path / "t")
        assert find(running) == []


def test_caches_keep_nothing(shown):
    """Answers are of this moment, and private."""
    for target in ("/api/info", "/api/logs?limit=0", f"/api/traces/{5:032x}"):
        assert shown.request("GET", target, OURS).headers["cache-control"] == "no-store"
