"""Programs of others that read our query APIs: two servers for language models."""

from __future__ import annotations

import json
import time
import urllib.request

import pytest

from tests.peers.environment import find_command
from tests.peers.mcp_client import mcp_server
from tests.peers.servers import rimp_serve

S = 10**9
SHOP, STOCK = "shop", "stock"


def trace(number, start, fails):
    """Return the request of a trace of two services."""
    trace_id = f"{number:032x}"
    root = {
        "traceId": trace_id,
        "spanId": "00000000000000a1",
        "name": "GET /checkout",
        "kind": 2,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + S),
        "attributes": [
            {"key": "http.response.status_code", "value": {"intValue": "500" if fails else "200"}}
        ],
        "status": {"code": 2, "message": "boom"} if fails else {},
    }
    child = {
        "traceId": trace_id,
        "spanId": "00000000000000a2",
        "parentSpanId": "00000000000000a1",
        "name": "SELECT stock",
        "kind": 3,
        "startTimeUnixNano": str(start + S // 4),
        "endTimeUnixNano": str(start + S // 2),
    }
    services = [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": name}}]},
            "scopeSpans": [{"scope": {"name": "tests"}, "spans": [span]}],
        }
        for name, span in ((SHOP, root), (STOCK, child))
    ]
    return {"resourceSpans": services}


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """A receiver of ours that has got three traces of the last minute, of which one has failed."""
    path = tmp_path_factory.mktemp("readers")
    with rimp_serve(path / "recording", path / "serve.log") as receiver:
        now = time.time_ns()
        for number in (1, 2, 3):
            request = urllib.request.Request(
                f"http://127.0.0.1:{receiver.http}/v1/traces",
                json.dumps(trace(number, now - number * 10 * S, number == 2)).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request) as answer:
                assert answer.status == 200
        yield receiver


@pytest.fixture(scope="module", params=["tempo", "jaeger"])
def telemetry(request, serve, tmp_path_factory):
    """opentelemetry-mcp with one of its back ends, over our API of the same name."""
    command = [find_command("opentelemetry-mcp"), "--backend", request.param]
    command += ["--url", f"http://127.0.0.1:{serve.http}/{request.param}"]
    log = tmp_path_factory.mktemp("log") / "opentelemetry-mcp.log"
    with mcp_server(command, log) as server:
        yield server


def test_opentelemetry_mcp_lists_services(telemetry):
    """By the roots that it finds in Tempo, by name in Jaeger."""
    found = telemetry.call("list_services")["services"]
    assert SHOP in found


def test_opentelemetry_mcp_searches(telemetry):
    """It finds traces by service, operation and duration, and reads each of them."""
    found = telemetry.call(
        "search_traces", service_name=SHOP, operation_name="GET /checkout", min_duration_ms=500
    )
    assert found["count"] == 3
    assert {one["trace_id"] for one in found["traces"]} == {f"{n:032x}" for n in (1, 2, 3)}
    assert {one["span_count"] for one in found["traces"]} == {2}


def test_opentelemetry_mcp_counts_errors(telemetry):
    """The trace that has failed, and no other."""
    found = telemetry.call("find_errors", service_name=SHOP)
    assert found["count"] == 1
    (error,) = found["error_traces"]
    assert error["trace_id"] == f"{2:032x}"


def test_opentelemetry_mcp_reads_a_trace(telemetry):
    """With both spans, their services and attributes."""
    found = telemetry.call("get_trace", trace_id=f"{2:032x}")
    assert [span["operation_name"] for span in found["spans"]] == ["GET /checkout", "SELECT stock"]
    assert [span["service_name"] for span in found["spans"]] == [SHOP, STOCK]


@pytest.fixture(scope="module")
def jaeger(serve, tmp_path_factory):
    """jaeger-mcp over our API of Jaeger."""
    log = tmp_path_factory.mktemp("log") / "jaeger-mcp.log"
    url = f"http://127.0.0.1:{serve.http}/jaeger"
    with mcp_server([find_command("jaeger-mcp")], log, JAEGER_URL=url) as server:
        yield server


def test_jaeger_mcp_lists(jaeger):
    """Services, and the operations of one."""
    assert jaeger.call("jaeger_list_services")["services"] == [SHOP, STOCK]
    found = jaeger.call("jaeger_list_operations", service=STOCK)["operations"]
    assert "SELECT stock" in json.dumps(found)


def test_jaeger_mcp_searches(jaeger):
    """By operation and duration: the newest first, one of which has failed; and reads that trace."""
    found = jaeger.call(
        "jaeger_search_traces", service=SHOP, operation="GET /checkout", min_duration="500ms"
    )
    assert [one["trace_id"] for one in found["traces"]] == [f"{n:032x}" for n in (1, 2, 3)]
    assert [one["errors_count"] for one in found["traces"]] == [0, 1, 0]
    assert {one["root_service"] for one in found["traces"]} == {SHOP}
    read = jaeger.call("jaeger_get_trace", trace_id=f"{2:032x}")
    assert "SELECT stock" in json.dumps(read)


def test_jaeger_mcp_finds_dependencies(jaeger):
    """Which service calls which."""
    found = jaeger.call("jaeger_get_dependencies")
    assert found["edges"] == [{"parent": SHOP, "child": STOCK, "call_count": 3}]
