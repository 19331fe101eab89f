"""Single calls of gRPC clients that are not ours: what they are told."""

from __future__ import annotations

import base64
import json

import pytest

from tests.peers.records import read_recording
from tests.peers.senders import METHODS, PROFILES, call_with_buf, call_with_grpcurl
from tests.peers.servers import rimp_serve

TRACE_ID, SPAN_ID = bytes(range(16)), bytes(range(8, 16))
TOKEN = "a-token-of-the-tests"

clients = pytest.mark.parametrize("call", [call_with_grpcurl, call_with_buf])


@pytest.fixture
def serve(tmp_path):
    """A receiver of ours, into ``recording``."""
    with rimp_serve(tmp_path / "recording", tmp_path / "serve.log") as receiver:
        yield receiver


def request_with(*spans):
    """Return a request in protobuf's JSON mapping, whose ids are base64."""
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shell"}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}


def span(name, trace_id=TRACE_ID):
    """Return a span in protobuf's JSON mapping."""
    return {
        "traceId": base64.b64encode(trace_id).decode(),
        "spanId": base64.b64encode(SPAN_ID).decode(),
        "name": name,
        "startTimeUnixNano": "1700000000000000000",
        "endTimeUnixNano": "1700000000000000001",
    }


def code_of(done):
    """Return the name of the status that a client was answered, in small letters, and the message."""
    if not done.returncode:
        return "ok", ""
    try:
        answer = json.loads(done.stderr)
    except ValueError:  # grpcurl's is text: "Code: Unimplemented", "Message: …"
        lines = dict(
            line.strip().split(": ", 1) for line in done.stderr.splitlines() if ": " in line
        )
        answer = {"code": lines["Code"], "message": lines.get("Message", "")}
    names = {3: "invalidargument", 12: "unimplemented", 16: "unauthenticated"}
    code = answer["code"]
    return names.get(code, str(code).lower().replace("_", "")), answer.get("message", "")


@clients
def test_span_is_recorded(serve, tmp_path, call):
    """A span is answered with nothing, and is in the recording."""
    done = call(serve.grpc, METHODS["traces"], request_with(span("by hand")), tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (0, {}), done
    (recorded,) = read_recording(tmp_path / "recording").spans
    assert recorded.name == "by hand"
    assert recorded.context.trace_id == int.from_bytes(TRACE_ID, "big")
    assert recorded.resource.attributes["service.name"] == "shell"


@clients
@pytest.mark.parametrize("signal", METHODS)
def test_empty_request_is_no_error(serve, tmp_path, call, signal):
    """A request without any record succeeds."""
    done = call(serve.grpc, METHODS[signal], {}, tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (0, {}), done


@clients
def test_bad_record_costs_itself(serve, tmp_path, call):
    """Of two spans, one with an id of five bytes, one is recorded, and the reason says which is not."""
    request = request_with(span("bad", b"12345"), span("good"))
    done = call(serve.grpc, METHODS["traces"], request, tmp_path)
    partial = json.loads(done.stdout)["partialSuccess"]
    assert partial["rejectedSpans"] == "1"
    assert "resourceSpans[0].scopeSpans[0].spans[0]" in partial["errorMessage"]
    assert [s.name for s in read_recording(tmp_path / "recording").spans] == ["good"]


@clients
def test_unknown_method(serve, tmp_path, call):
    """Profiles are not taken, which says nothing about the other signals."""
    done = call(serve.grpc, PROFILES, {}, tmp_path)
    assert code_of(done)[0] == "unimplemented"
    assert call(serve.grpc, METHODS["traces"], {}, tmp_path).returncode == 0


def test_grpc_on_the_http_port(serve, tmp_path):
    """A client that takes the wrong port fails at once, and the server goes on."""
    assert call_with_buf(serve.http, METHODS["traces"], {}, tmp_path).returncode
    assert call_with_buf(serve.grpc, METHODS["traces"], {}, tmp_path).returncode == 0


@pytest.fixture
def guarded(tmp_path):
    """A receiver of ours that wants a token."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    options = ("--token-file", str(file))
    with rimp_serve(tmp_path / "recording", tmp_path / "serve.log", *options) as receiver:
        yield receiver


@clients
def test_token(guarded, tmp_path, call):
    """Without the token a call is UNAUTHENTICATED and nothing is recorded; with it all is well."""
    request = request_with(span("by hand"))
    done = call(guarded.grpc, METHODS["traces"], request, tmp_path)
    assert code_of(done)[0] == "unauthenticated"
    assert not read_recording(tmp_path / "recording").spans
    header = "-rpc-header" if call is call_with_grpcurl else "--header"
    options = (header, f"authorization: Bearer {TOKEN}")
    done = call(guarded.grpc, METHODS["traces"], request, tmp_path, *options)
    assert done.returncode == 0, done
    assert len(read_recording(tmp_path / "recording").spans) == 1
    assert TOKEN not in guarded.running.output
