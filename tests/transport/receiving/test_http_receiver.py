"""OTLP over HTTP into a real ``rimp serve``, byte by byte where it matters."""

from __future__ import annotations

import gzip
import json
import socket
import zlib

import pytest
import zstandard
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from rimp_otel.models.records import Signal
from rimp_otel.storage.recording import open_recording
from tests.transport.serving import (
    DEADLINE,
    JSON,
    PROTOBUF,
    Served,
    gauges,
    logs,
    span,
    span_names,
    traces,
)

MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server for all tests that leave it as it was."""
    with Served(tmp_path_factory.mktemp("serve") / "telemetry") as running:
        yield running


def protobuf_request(*numbers):
    """Return an export request of spans in protobuf."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in numbers:
        scope.spans.add(
            trace_id=bytes(15) + bytes([number + 1]),
            span_id=bytes(7) + bytes([number + 1]),
            name=f"protobuf-{number}",
            start_time_unix_nano=1,
            end_time_unix_nano=2,
        )
    return request.SerializeToString()


def test_all_signals_with_their_resources(tmp_path):
    """What is sent is recorded as it is; nothing of the server is in it."""
    path = tmp_path / "telemetry"
    with Served(path) as running:
        assert running.post(traces(span(1), span(2), service="shop")).json == {}
        assert running.post(logs("hello"), Signal.LOGS).json == {}
        assert running.post(gauges(4, 5), Signal.METRICS).json == {}
        said = running.end()
    assert said == "rimp: received 3 requests: 2 spans, 1 log record and 2 metric points\n"
    data = open_recording(path).retrieve()
    assert [(s.name, s.resource.attributes) for s in data.spans] == [
        ("span-1", {"service.name": "shop"}),
        ("span-2", {"service.name": "shop"}),
    ]
    assert [event.message for event in data.events] == ["hello"]
    assert [metric.value for metric in data.metrics] == [4, 5]
    assert {r.attributes.get("service.name") for r in (data.events[0].resource,)} == {None}


def test_answers_have_the_content_type_of_the_request(served):
    """Of a success, an empty message; protobuf's is no byte at all."""
    done = served.post(traces(span(1)), headers={"Content-Type": "application/json; charset=utf-8"})
    assert (done.status, done.headers["content-type"]) == (200, "application/json")
    assert done.body == b"{}"
    done = served.post(protobuf_request(1), headers=PROTOBUF)
    assert (done.status, done.headers["content-type"]) == (200, "application/x-protobuf")
    assert done.body == b""
    assert "server" not in done.headers
    for body, headers in ((b"{}", JSON), (b"", PROTOBUF), (b'{"resourceSpans":[]}', JSON)):
        assert served.post(body, headers=headers).status == 200


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("zstd", zstandard.compress),
        ("identity", bytes),
    ],
)
def test_compressed_bodies(served, encoding, compress):
    """Small ones, and ones that another thread decompresses."""
    for spans in (1, 3_000):
        body = traces(*map(span, range(spans))).encode()
        done = served.post(compress(body), headers={**JSON, "Content-Encoding": encoding})
        assert (done.status, done.body) == (200, b"{}")


def test_chunked_bodies(served):
    """As Node sends them, without a length."""
    body = traces(*map(span, range(2_000))).encode()
    parts = iter([body[:1], body[1:70_000], body[70_000:]])
    assert served.request("POST", "/v1/traces", parts).json == {}


def test_bad_records_cost_themselves(served):
    """The answer says how many were refused, and where the first ones are."""
    body = traces(span(1), span(2, traceId="nonsense"), span(3, spanId="00"))
    done = served.post(body)
    partial = done.json["partialSuccess"]
    assert (done.status, partial["rejectedSpans"]) == (200, "2")
    assert "spans[1].traceId" in partial["errorMessage"]
    request = ExportTraceServiceRequest.FromString(protobuf_request(1, 2))
    request.resource_spans[0].scope_spans[0].spans[1].trace_id = b"short"
    done = served.post(request.SerializeToString(), headers=PROTOBUF)
    answer = ExportTraceServiceResponse.FromString(done.body)
    assert answer.partial_success.rejected_spans == 1
    assert "traceId" in answer.partial_success.error_message


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{", JSON),
        (b"[]", JSON),
        (b"\xff\xff", PROTOBUF),
        (traces(span(1, traceId="x")).encode(), JSON),
        (b"no gzip", {**JSON, "Content-Encoding": "gzip"}),
        (gzip.compress(b"{}", mtime=0)[:-3], {**PROTOBUF, "Content-Encoding": "gzip"}),
    ],
)
def test_what_cannot_be_decoded(served, body, headers):
    """400 with a Status, in the content type of the request."""
    done = served.post(body, headers=headers)
    assert (done.status, done.headers["content-type"]) == (400, headers["Content-Type"])
    if headers["Content-Type"] == JSON["Content-Type"]:
        assert done.json["code"] == 3
        assert done.json["message"]
    else:
        assert done.body.startswith(b"\x08\x03\x12")


def test_other_requests(served):
    """Wrong paths, methods, types and encodings: what is wrong, and what would be right."""
    done = served.request("POST", "/v1development/profiles", "{}")
    assert (done.status, done.json["code"]) == (404, 5)
    assert "/v1/traces, /v1/logs, /v1/metrics" in done.json["message"]
    assert served.request("POST", "/v1/traces/", "{}").status == 404
    for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"):
        done = served.request(method, "/v1/traces", headers={})
        assert (done.status, done.headers["allow"]) == (405, "POST"), method
    for kind in ("text/plain", "application/protobuf", "application/jsonl", ""):
        done = served.post(b"{}", headers={"Content-Type": kind} if kind else {})
        assert done.status == 415, kind
        assert b"application/x-protobuf or application/json" in done.body
        assert done.headers["content-type"].startswith("text/plain")
    done = served.post(b"{}", headers={**JSON, "Content-Encoding": "br"})
    assert (done.status, done.json["code"]) == (415, 3)
    assert done.headers["accept-encoding"] == "gzip, x-gzip, deflate, zstd, identity"


def test_large_requests(tmp_path):
    """413 past the limit: by the length, by what arrives, and by what it decompresses to."""
    with Served(tmp_path / "t", "--max-request-size", "1MB") as running:
        body = traces(*(span(n, name="x" * 1_000) for n in range(2_000))).encode()
        assert running.post(body).status == 413
        assert running.request("POST", "/v1/traces", iter([body[:500_000], body])).status == 413
        for encoding, compress in (("gzip", gzip.compress), ("zstd", zstandard.compress)):
            done = running.post(compress(body), headers={**JSON, "Content-Encoding": encoding})
            assert (done.status, done.json["code"]) == (413, 8)
            assert "larger than 1000000 bytes" in done.json["message"]
        # A connection that had more to send goes on after the answer.
        connection = running.connect()
        assert running.post(body, connection=connection).status == 413
        assert running.post(traces(span(1)), connection=connection).status == 200
        connection.close()
        assert "5 too_large" in running.end()


def test_a_bomb_takes_no_memory(tmp_path):
    """A body of a megabyte that would be one of a gigabyte is refused within the limits."""
    bomb = gzip.compress(b"\0" * MEBIBYTE) * 1_000
    with Served(tmp_path / "t") as running:
        assert running.post(traces(span(1))).status == 200
        before = _peak_memory(running.process.pid)
        for _ in range(3):
            done = running.post(bomb, headers={**JSON, "Content-Encoding": "gzip"})
            assert done.status == 413
        assert _peak_memory(running.process.pid) - before < 150 * MEBIBYTE


def _peak_memory(process: int) -> int:
    with open(f"/proc/{process}/status") as file:
        (line,) = [line for line in file if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def test_half_bodies_are_not_recorded(tmp_path):
    """A connection that closes early, with a length or chunked, leaves nothing, and harms nobody."""
    body = traces(span(1)).encode()
    with Served(tmp_path / "t") as running:
        for head, sent in (
            (f"Content-Length: {len(body)}", body[:-1]),
            ("Transfer-Encoding: chunked", f"{len(body):x}\r\n".encode() + body + b"\r\n"),
        ):
            with socket.create_connection(running.address, timeout=DEADLINE) as sender:
                sender.sendall(
                    f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{head}\r\n\r\n".encode()
                    + sent
                )
        assert running.post(traces(span(2))).status == 200
        said = running.end()
    assert "received 1 request: 1 span" in said
    assert "2 disconnected" in said
    assert span_names(running.path) == ["span-2"]


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0" * 99]
)
def test_other_protocols(served, sent):
    """TLS and gRPC on the port for HTTP are refused, and harm nobody."""
    with socket.create_connection(served.address, timeout=DEADLINE) as sender:
        sender.sendall(sent + b"\r\n\r\n")
        assert sender.recv(1_000).split()[1] in (b"400", b"404")
    assert served.post(traces(span(1))).status == 200


def test_pipelined_requests(served):
    """Each is answered, in their order."""
    body = traces(span(1)).encode()
    head = f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(served.address, timeout=DEADLINE) as sender:
        sender.sendall((head.encode() + body) * 3)
        answer = b""
        while answer.count(b"HTTP/1.1 200") < 3 or not answer.endswith(b"{}"):
            part = sender.recv(10_000)
            assert part, answer
            answer += part
    assert answer.count(b"\r\n\r\n{}") == 3


def test_a_sender_that_waits_for_continue(served):
    """It is told to go on, or the answer at once."""
    body = traces(span(1)).encode()
    for kind, answer in (("application/json", b"HTTP/1.1 100 "), ("text/plain", b"HTTP/1.1 415 ")):
        with socket.create_connection(served.address, timeout=DEADLINE) as sender:
            sender.sendall(
                f"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            )
            assert sender.recv(1_000).startswith(answer)
            if answer.endswith(b"100 "):
                sender.sendall(body)
                assert b" 200 OK" in sender.recv(1_000)


def test_many_senders_at_once(tmp_path):
    """A thousand connections, each with a request: all of it is there."""
    number = 1_000
    with Served(tmp_path / "t") as running:
        connections = [running.connect() for _ in range(number)]
        for i, connection in enumerate(connections):
            connection.request("POST", "/v1/traces", traces(span(i)), JSON)
        for connection in connections:
            assert connection.getresponse().status == 200
            connection.close()
        assert f"received {number:,} requests: {number:,} spans" in running.end()
    assert span_names(running.path) == sorted(f"span-{i}" for i in range(number))


def test_json_body_that_is_not_utf8(served):
    """It is an error of the sender, not of ours."""
    body = json.dumps({"resourceSpans": []}).encode("utf-16")
    assert served.post(body).status == 400
