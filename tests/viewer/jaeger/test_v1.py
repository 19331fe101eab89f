"""Jaeger's query API over a recording."""

from __future__ import annotations

import json
import urllib.parse

import pytest

pytest.importorskip("starlette")

from rimp_otel import TelemetryData
from rimp_otel.storage.recording import open_storage
from rimp_otel.viewer.search.catalog import OperationCatalog
from tests.transport.serving import Served

S = 10**9
START = 1_795_521_600 * S
SERVICE, DATABASE = "shop", "db"
TRACE = 0xABC


def attribute(key, **value):
    """Return an attribute as OTLP JSON has it."""
    return {"key": key, "value": value}


def span(number, name="GET /cart", *, trace=TRACE, parent=0, start=0.0, seconds=1.0, **fields):
    """Return a span as OTLP JSON has it."""
    begin = START + int(start * S)
    found = {
        "traceId": f"{trace:032x}",
        "spanId": f"{number:016x}",
        "name": name,
        "kind": 2,
        "startTimeUnixNano": str(begin),
        "endTimeUnixNano": str(begin + int(seconds * S)),
        **fields,
    }
    return found | ({"parentSpanId": f"{parent:016x}"} if parent else {})


def line(service, *spans):
    """Return a line of spans of a service."""
    resource = {
        "attributes": [
            attribute("service.name", stringValue=service),
            attribute("zone", intValue="7"),
        ]
    }
    scopes = [{"scope": {"name": "lib", "version": "2"}, "spans": list(spans)}]
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]}).encode()


EVENT = {
    "timeUnixNano": str(START + 5_000),
    "name": "exception",
    "attributes": [attribute("exception.type", stringValue="KeyError")],
}
DETAILED = span(
    1,
    attributes=[
        attribute("text", stringValue="a"),
        attribute("yes", boolValue=True),
        attribute("int", intValue="9007199254740993"),
        attribute("double", doubleValue=0.5),
        attribute("nan", doubleValue="NaN"),
        attribute("bytes", bytesValue="AAE="),
        attribute("list", arrayValue={"values": [{"stringValue": "x"}]}),
    ],
    events=[EVENT],
    links=[{"traceId": "0d" * 16, "spanId": "0e" * 8}],
    status={"code": 2, "message": "broken"},
    traceState="a=b",
)


@pytest.fixture(scope="module", params=["recording", "recording.db"])
def server(request, tmp_path_factory):
    """Serve a recording of a few traces, in files (some of them sealed) and in a database."""
    path = tmp_path_factory.mktemp("jaeger") / request.param
    lines = [
        line(SERVICE, DETAILED),
        line(DATABASE, span(2, "SELECT", parent=1, start=0.25, seconds=0.5)),
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
    text = f"/jaeger/api/{path}?{urllib.parse.urlencode(query, doseq=True)}"
    found = server.request("GET", text, headers={})
    assert found.status == status, found
    assert found.headers["content-type"] == "application/json"
    return found.json["errors" if status != 200 else "data"]


def numbers(traces):
    """Return the ids of traces, as numbers."""
    return [int(trace["traceID"], 16) for trace in traces]


def test_services_and_operations(server):
    """What there is, sorted."""
    assert ask(server, "services") == [DATABASE, SERVICE]
    found = {name: ask(server, f"services/{name}/operations") for name in (SERVICE, DATABASE)}
    # Of a sealed file, names count for all services in the same block.
    assert [name for name in found[SERVICE] if name != "SELECT"] == ["GET /cart", "poll"]
    assert "SELECT" in found[DATABASE]
    assert ask(server, "services/nobody/operations") == []
    kinds = ask(server, "operations", service=DATABASE)
    assert kinds == [{"name": name, "spanKind": ""} for name in found[DATABASE]]


def test_a_trace(server):
    """All of a span has its place, by OpenTelemetry's rules for Jaeger; an unknown trace is 404."""
    (trace,) = ask(server, f"traces/{TRACE:032x}")
    assert trace["traceID"] == f"{TRACE:032x}"
    assert {p["serviceName"] for p in trace["processes"].values()} == {SERVICE, DATABASE}
    first, second = trace["spans"]
    assert trace["processes"][first["processID"]]["tags"] == [
        {"key": "zone", "type": "int64", "value": 7}
    ]
    assert (first["startTime"], first["duration"]) == (START // 1_000, 1_000_000)
    assert first["references"] == [
        {"refType": "FOLLOWS_FROM", "traceID": "0d" * 16, "spanID": "0e" * 8}
    ]
    assert second["references"] == [
        {"refType": "CHILD_OF", "traceID": f"{TRACE:032x}", "spanID": f"{1:016x}"}
    ]
    assert [tuple(tag.values()) for tag in first["tags"]] == [
        ("text", "string", "a"),
        ("yes", "bool", True),
        ("int", "int64", 9007199254740993),
        ("double", "float64", 0.5),
        ("nan", "string", "nan"),
        ("bytes", "binary", "AAE="),
        ("list", "string", '["x"]'),
        ("span.kind", "string", "server"),
        ("otel.status_code", "string", "ERROR"),
        ("otel.status_description", "string", "broken"),
        ("error", "bool", True),
        ("otel.scope.name", "string", "lib"),
        ("otel.scope.version", "string", "2"),
        ("w3c.tracestate", "string", "a=b"),
    ]
    (log,) = first["logs"]
    assert log["timestamp"] == START // 1_000 + 5
    assert [field["value"] for field in log["fields"]] == ["exception", "KeyError"]
    assert ask(server, "traces/abc")[0]["spans"] == trace["spans"]
    assert ask(server, "traces/dddd", status=404) == [{"code": 404, "msg": "trace not found"}]
    assert ask(server, "traces/nothex", status=400)[0]["code"] == 400


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"limit": 3}, [39, 38, 37]),
        ({"operation": "GET /cart"}, [TRACE]),
        ({"operation": "poll", "minDuration": "3.7s"}, [39, 38, 37]),
        ({"operation": "poll", "maxDuration": "1100ms"}, [11, 10]),
        ({"tags": '{"error":"true"}'}, [TRACE]),
        ({"tags": '{"text":"a","zone":"7"}'}, [TRACE]),
        ({"tag": ["int:9007199254740993", "otel.scope.name:lib"]}, [TRACE]),
        ({"tags": '{"exception.type":"KeyError"}'}, [TRACE]),
        ({"tags": '{"text":"b"}'}, []),
        ({"start": (START + 20 * S) // 1_000, "end": (START + 22 * S) // 1_000}, [21, 20]),
    ],
)
def test_search(server, query, expected):
    """The newest traces come first, each as a whole."""
    found = ask(server, "traces", service=SERVICE, **query)
    assert numbers(found) == expected
    assert all(
        len(trace["spans"]) == (2 if trace["traceID"].endswith("abc") else 1) for trace in found
    )


def test_search_by_ids(server):
    """Several can be asked for."""
    found = ask(server, "traces", traceID=[f"{10:032x}", f"{11:032x}"])
    assert numbers(found) == [10, 11]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({}, "parameter 'service' is required"),
        ({"service": "x", "limit": "many"}, "'limit' must be a whole number"),
        ({"service": "x", "minDuration": "5"}, "invalid duration '5'"),
        ({"service": "x", "tags": "[1]"}, "'tags' must be a JSON object"),
    ],
)
def test_what_is_no_question(server, query, message):
    """It is answered with what is wrong."""
    assert message in ask(server, "traces", status=400, **query)[0]["msg"]


def test_dependencies(server):
    """One service calls another where a span of one is the parent of one of the other."""
    now, ever = (START + 3_600 * S) // 10**6, 10**8
    found = ask(server, "dependencies", endTs=now, lookback=ever)
    assert found == [{"parent": SERVICE, "child": DATABASE, "callCount": 1}]
    assert ask(server, "dependencies", endTs=now - ever, lookback=ever) == []


def test_the_catalog_follows(tmp_path):
    """What is stored, rotated and sealed later is there at the next question."""
    catalog = OperationCatalog(tmp_path)
    assert catalog.operations() == {}
    with open_storage(tmp_path) as storage:
        for name in ("one", "two", "three"):
            storage.store(TelemetryData.from_otlp_json([line(name, span(1, name))]))
            assert name in catalog.operations()
            storage.rotate()
    expected = {name: {name} for name in ("one", "two", "three")}
    assert catalog.operations() == OperationCatalog(tmp_path).operations() == expected
