"""Version 3 of Jaeger's query API over a recording."""

from __future__ import annotations

import json
import urllib.parse

import pytest

pytest.importorskip("starlette")

from starlette.datastructures import QueryParams

from rimp_otel import TelemetryData
from rimp_otel.storage.recording import open_storage
from rimp_otel.viewer.answers.overview import RecordingAnswers
from rimp_otel.viewer.jaeger import v3
from rimp_otel.viewer.questions import PreparingError
from tests.transport.serving import Served
from tests.viewer.jaeger.test_v1 import DATABASE, DETAILED, SERVICE, TRACE, line, span

FROM, TO = "2026-11-24T12:00:00Z", "2026-11-24T12:01:00Z"
TIMES = {"query.startTimeMin": FROM, "query.startTimeMax": TO}


@pytest.fixture(scope="module", params=["recording", "recording.db"])
def server(request, tmp_path_factory):
    """Serve a recording of a few traces, in files (some of them sealed) and in a database."""
    path = tmp_path_factory.mktemp("jaeger") / request.param
    lines = [
        line(SERVICE, DETAILED),
        line(DATABASE, span(2, "SELECT", parent=1, start=0.25, seconds=0.5, kind=3)),
        *(line(SERVICE, span(n, "poll", trace=n, start=n, seconds=n / 10)) for n in range(10, 40)),
    ]
    with open_storage(path) as storage:
        for number, one in enumerate(lines):
            storage.store(TelemetryData.from_otlp_json([one]))
            if number == 10 and request.param == "recording":
                storage.rotate()
    with Served(path) as served:
        yield served


def ask(server, path, status=200, **query):
    """Return the answer to a question."""
    text = f"/jaeger/api/v3/{path}?{urllib.parse.urlencode(query)}"
    found = server.request("GET", text, headers={})
    assert found.status == status, found
    assert found.headers["content-type"] == "application/json"
    return found.json


def spans_in(answer):
    """Return the spans of an answer, in order."""
    assert answer.keys() == {"result"}
    assert answer["result"].keys() == {"resourceSpans"}
    resources = answer["result"]["resourceSpans"]
    return [s for r in resources for scope in r["scopeSpans"] for s in scope["spans"]]


def numbers(answer):
    """Return the ids of the traces of an answer, as numbers."""
    return list(dict.fromkeys(int(one["traceId"], 16) for one in spans_in(answer)))


def test_services_and_operations(server):
    """What there is, sorted; operations with their kinds."""
    assert ask(server, "services") == {"services": [DATABASE, SERVICE]}
    found = ask(server, "operations", service=SERVICE)["operations"]
    assert found == [
        {"name": "GET /cart", "spanKind": "server"},
        {"name": "poll", "spanKind": "server"},
    ]
    select = {"operations": [{"name": "SELECT", "spanKind": "client"}]}
    assert ask(server, "operations", service=DATABASE, spanKind="client") == select
    assert ask(server, "operations", service=DATABASE, span_kind="server") == {"operations": []}
    assert ask(server, "operations", service="nobody") == {"operations": []}


def test_a_trace(server):
    """It is OTLP JSON with hexadecimal ids, just as it was recorded; an unknown one is 404."""
    first, second = spans_in(ask(server, f"traces/{TRACE:032x}"))
    kept = {key: value for key, value in first.items() if key in DETAILED and key != "links"}
    assert kept == {key: value for key, value in DETAILED.items() if key != "links"}
    assert (second["spanId"], second["parentSpanId"]) == (f"{2:016x}", f"{1:016x}")
    assert len(spans_in(ask(server, f"traces/{TRACE:x}", startTime=FROM))) == 2
    missing = {"error": {"httpCode": 404, "message": "No traces found"}}
    assert ask(server, f"traces/{5:032x}", 404) == missing
    assert "trace_id" in ask(server, "traces/xyz", 400)["error"]["message"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"query.searchDepth": 2}, [39, 38]),
        ({"query.search_depth": 1}, [39]),
        ({"query.num_traces": 1}, [39]),
        ({"query.serviceName": DATABASE}, [TRACE]),
        ({"query.service_name": SERVICE, "query.operation_name": "GET /cart"}, [TRACE]),
        ({"query.durationMin": "3.8s"}, [39, 38]),
        ({"query.operationName": "poll", "query.duration_max": "1s100ms"}, [11, 10]),
        ({"query.attributes": json.dumps({"int": "9007199254740993"})}, [TRACE]),
        ({"query.attributes": json.dumps({"error": "true", "zone": "7"})}, [TRACE]),
        ({"query.startTimeMin": "2026-11-24T13:00:38.5+01:00"}, [39]),
    ],
)
def test_search(server, query, expected):
    """Parameters in both spellings, RFC 3339 times, Go durations; the newest traces first."""
    assert numbers(ask(server, "traces", **(TIMES | query))) == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"query.startTimeMin": ""}, "query.startTimeMin and query.startTimeMax are required"),
        ({"query.startTimeMax": "soon"}, "malformed parameter query.startTimeMax: 'soon'"),
        ({"query.searchDepth": "x"}, "malformed parameter query.searchDepth: 'x'"),
        ({"query.durationMin": "5"}, "malformed parameter query.durationMin: '5'"),
        ({"query.attributes": "[]"}, "malformed parameter query.attributes: not a JSON object"),
    ],
)
def test_what_is_no_question(server, query, message):
    """It is answered with the parameter that is wrong."""
    found = ask(server, "traces", 400, **(TIMES | query))["error"]
    assert found["httpCode"] == 400
    assert message in found["message"]


def test_nothing_found(server):
    """A search without results is 404, as in Jaeger; summaries are none."""
    query = TIMES | {"query.serviceName": "nobody"}
    assert ask(server, "traces", 404, **query)["error"]["message"] == "No traces found"
    assert ask(server, "trace-summaries", **query) == {"summaries": []}


def test_summaries(server):
    """What a list of traces shows, without their spans."""
    query = TIMES | {"query.serviceName": DATABASE}
    begin = 1_795_521_600 * 10**9
    assert ask(server, "trace-summaries", **query)["summaries"] == [
        {
            "traceId": f"{TRACE:032x}",
            "rootServiceName": SERVICE,
            "rootOperationName": "GET /cart",
            "minStartTimeUnixNano": str(begin),
            "maxEndTimeUnixNano": str(begin + 10**9),
            "spanCount": 2,
            "errorSpanCount": 1,
            "orphanSpanCount": 0,
            "services": [
                {"name": DATABASE, "spanCount": 1, "errorSpanCount": 0},
                {"name": SERVICE, "spanCount": 1, "errorSpanCount": 1},
            ],
        }
    ]


class Preparing(RecordingAnswers):
    """Answers that have not been prepared yet."""

    def operations(self, window, service=None):
        """Raise what says so."""
        raise PreparingError(1, 2, "summaries")


def test_operations_while_summaries_are_made(tmp_path, monkeypatch):
    """They are those that the indexes know, with Jaeger's kind for unknown ones; a kind has to wait."""
    monkeypatch.setattr(v3, "_PATIENCE", 0.0)
    with open_storage(tmp_path) as storage:
        storage.store(TelemetryData.from_otlp_json([line(SERVICE, span(1), span(2, "poll"))]))
    queries = v3.JaegerV3Queries(tmp_path, Preparing(tmp_path))
    found = json.loads(queries.operations(QueryParams({"service": SERVICE})))["operations"]
    assert found == [
        {"name": "GET /cart", "spanKind": "internal"},
        {"name": "poll", "spanKind": "internal"},
    ]
    with pytest.raises(PreparingError):
        queries.operations(QueryParams({"service": SERVICE, "spanKind": "server"}))
