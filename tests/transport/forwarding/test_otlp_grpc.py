"""The destination over gRPC: what is sent, how each answer is taken, and what is kept secret."""

from __future__ import annotations

import threading
from concurrent import futures
from contextlib import contextmanager

import grpc
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import Signal
from rimp_otel.transport.forwarding.destination import (
    Batch,
    Delivered,
    DestinationOptions,
    Refused,
    RetryLater,
    Stopped,
    open_destination,
)
from rimp_otel.transport.grpc_wire import METHODS, encode_details
from rimp_otel.transport.receiving.security import ServerSecurity
from tests.processes import run
from tests.transport.certificates import Authority
from tests.transport.grpc_peers import (
    TOKEN,
    StubServer,
    receiving,
    recorded,
    refusing,
    send,
    traces,
)

SECRET = "a-secret-of-a-test"


# What is sent.


def test_a_batch_arrives(tmp_path):
    """In a recording on the other end."""
    with receiving(tmp_path) as peer:
        assert send(f"otlp+grpc://{peer.address}", traces("a", "b")) == Delivered()
    assert recorded(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("compression", [None, "gzip", "none"])
def test_each_signal_has_its_method(compression):
    """All of them take protobuf."""
    batches = [
        traces("a"),
        Batch(Signal.LOGS, [b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}'], 1),
        Batch(Signal.METRICS, [b'{"resourceMetrics":[]}'], 0),
    ]
    with StubServer() as server:
        destination = open_destination(server.url, DestinationOptions(compression=compression))
        for batch in batches:
            assert destination.send(batch, 30.0) == Delivered()
        destination.close()
        assert server.methods == [METHODS[batch.signal] for batch in batches]
        spans = ExportTraceServiceRequest.FromString(server.bodies[0]).resource_spans
        assert spans[0].scope_spans[0].spans[0].name == "a"
        assert server.metadata[0]["user-agent"].startswith("rimp-otel ")


def test_headers_are_metadata():
    """Their names in lower case; the user of a URL is an authorization, unless there is one."""
    with StubServer() as server:
        send(server.url, headers={"X-Tenant": " t ", "data-bin": "raw"})
        assert server.metadata[-1]["x-tenant"] == "t"
        assert server.metadata[-1]["data-bin"] == b"raw"
        url = f"otlp+grpc://us%40er:pass%20word@127.0.0.1:{server.port}"
        send(url)
        assert server.metadata[-1]["authorization"] == "Basic dXNAZXI6cGFzcyB3b3Jk"
        send(url, headers={"Authorization": "Bearer x"})
        assert server.metadata[-1]["authorization"] == "Bearer x"


def test_a_batch_that_is_too_large_is_not_sent():
    """It is split instead; a single record is sent, since only the receiver knows better."""
    point = '{"bucketCounts":[' + ",".join(["1"] * 100) + "]}"
    line = (
        '{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","histogram":{"dataPoints":['
        f"{point}]}}}}]}}]}}]}}"
    ).encode()
    with StubServer() as server:
        batch = Batch(Signal.METRICS, [line, line], 2)
        outcome = send(server.url, batch, max_request_size=len(line) * 2)
        assert isinstance(outcome, Refused)
        assert "is larger than" in outcome.reason
        assert server.bodies == []
        batch = Batch(Signal.METRICS, [line], 1)
        assert send(server.url, batch, max_request_size=len(line)) == Delivered()
        assert len(server.bodies[0]) > len(line)


def test_requests_stay_below_what_receivers_take():
    """4 MiB, unless another bound is given."""
    destination = open_destination("otlp+grpc://127.0.0.1", DestinationOptions())
    assert destination.max_request_size == 4 * 1024 * 1024
    assert destination.name == "otlp+grpc://127.0.0.1"


def test_what_cannot_be_encoded_is_refused():
    """So that all but the record that is to blame is sent."""
    with StubServer() as server:
        outcome = send(server.url, Batch(Signal.TRACES, [b'{"resourceSpans":7}'], 1))
        assert isinstance(outcome, Refused)
        assert server.bodies == []


# What is answered.


@pytest.mark.parametrize(
    "body",
    [b"", b"\x0a\x00", b"\xff garbage", ExportLogsServiceResponse().SerializeToString()],
)
def test_a_full_success(body):
    """In each form that servers send; what cannot be read is a success too, since the status is."""
    with StubServer(lambda *_: body) as server:
        assert send(server.url) == Delivered()


@pytest.mark.parametrize("rejected", [0, 3])
def test_a_partial_success(rejected):
    """With a number, or as a warning; without a secret that the server repeats."""
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = rejected
    answer.partial_success.error_message = f"bad: {SECRET}\n"
    with StubServer(lambda *_: answer.SerializeToString()) as server:
        outcome = send(server.url, headers={"authorization": f"Bearer {SECRET}"})
        assert outcome == Delivered(rejected, "bad: ***")


RETRYABLE = {
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNAVAILABLE",
    "DATA_LOSS",
}


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.name != "OK"])
def test_each_status(code):
    """By the specification's table; what an operator must mend drops nothing."""
    with StubServer(refusing(code)) as server:
        outcome = send(server.url)
        reason = f"127.0.0.1:{server.port}: {code.name}: because"
    if code.name in RETRYABLE:
        assert outcome == RetryLater(reason)
    elif code.name in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        assert outcome == Stopped(reason)
    elif code.name == "UNIMPLEMENTED":
        assert outcome == Stopped(reason, is_signal_only=True)
    else:
        assert outcome == Refused(reason)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.name != "OK"])
def test_a_delay_that_is_asked_for(code):
    """It makes RESOURCE_EXHAUSTED one to be repeated, and no other."""
    details = encode_details(code.value[0], "because", 2.5)
    with StubServer(refusing(code, details=details)) as server:
        outcome = send(server.url)
        reason = f"127.0.0.1:{server.port}: {code.name}: because"
    if code.name == "RESOURCE_EXHAUSTED":
        assert outcome == RetryLater(reason, 2.5, is_throttled=True)
    elif code.name in RETRYABLE:
        assert outcome == RetryLater(reason, 2.5)
    else:
        assert isinstance(outcome, (Refused, Stopped))


def test_details_that_cannot_be_read_ask_for_nothing():
    """The status alone counts."""
    answer = refusing(grpc.StatusCode.RESOURCE_EXHAUSTED, details=b"\xff\xff")
    with StubServer(answer) as server:
        assert isinstance(send(server.url), Refused)


def test_a_missing_signal_stops_only_itself():
    """A server that has no logs takes traces."""

    def answer(body, context):
        if METHODS[Signal.LOGS] in server.methods[-1:]:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "no logs here")
        return b""

    with StubServer(answer) as server:
        destination = open_destination(server.url, DestinationOptions())
        logs = Batch(Signal.LOGS, [b'{"resourceLogs":[]}'], 0)
        reason = f"127.0.0.1:{server.port}: UNIMPLEMENTED: no logs here"
        assert destination.send(logs, 30.0) == Stopped(reason, is_signal_only=True)
        assert destination.send(traces("a"), 30.0) == Delivered()
        destination.close()


# Secrets.


def test_no_text_has_a_secret():
    """Whatever the server repeats of what it was sent."""

    def answer(_, context):
        given = dict(context.invocation_metadata())
        context.abort(grpc.StatusCode.UNAUTHENTICATED, f"unknown: {sorted(given.items())}")

    headers = {"authorization": f"Bearer {SECRET}", "x-key": "another-secret", "k-bin": "third-one"}
    with StubServer(answer) as server:
        url = f"otlp+grpc://user:fourth-one@127.0.0.1:{server.port}?token=fifth-one"
        with pytest.raises(ConfigurationError) as raised:
            send(url, headers=headers)
        text = str(raised.value)
        destination = open_destination(url.partition("?")[0], DestinationOptions(headers=headers))
        text += f"{destination.name} {destination!r} {destination.send(traces('a'), 30.0)}"
        destination.close()
    for secret in (SECRET, "another-secret", "third-one", "fourth-one", "fifth-one"):
        assert secret not in text
    assert "Bearer" not in text
    assert "unknown: " in text


# What is given.


@pytest.mark.parametrize(
    "url",
    [
        "otlp+grpc://",
        "otlp+grpc://host/v1/traces",
        "otlp+grpc://host:port",
        "otlp+grpc://host:99999",
        "otlp+grpc://host:0",
        "otlp+grpc://[::1",
        "otlp+grpc:host:4317",
    ],
)
def test_a_url_has_a_host_and_a_port(url):
    """And no path, since gRPC has methods."""
    with pytest.raises(ConfigurationError, match=r"otlp\+grpc://HOST:PORT"):
        open_destination(url, DestinationOptions())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"encoding": "json"}, "must be protobuf"),
        ({"headers": {"na!me": SECRET}}, "cannot be metadata"),
        ({"headers": {"grpc-timeout": SECRET}}, "cannot be metadata"),
        ({"headers": {"name": f"{SECRET}ü"}}, "must be ASCII"),
        ({"ca_file": "/no/such/file"}, "cannot read /no/such/file"),
        ({"certificate_file": "/no/such/file"}, "cannot use /no/such/file"),
    ],
)
def test_options_are_checked(options, match):
    """Before anything is sent, and without a secret in the message."""
    with pytest.raises(ConfigurationError, match=match) as raised:
        open_destination("otlp+grpcs://127.0.0.1:4317", DestinationOptions(**options))
    assert SECRET not in str(raised.value)


def test_requests_go_to_the_address_that_is_given(monkeypatch):
    """Not to a proxy that a variable names."""
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with StubServer() as server:
        assert send(server.url) == Delivered()


@pytest.mark.parametrize("query", ["compression=zstd", "token=x", "encoding=json"])
def test_a_url_has_no_other_parameters(query):
    """Compression alone may be asked for there."""
    with pytest.raises(ConfigurationError, match="compression"):
        open_destination(f"otlp+grpc://127.0.0.1:4317?{query}", DestinationOptions())


def test_signals_may_differ():
    """Each has its own headers, and its own time."""
    options = {Signal.LOGS: DestinationOptions(headers={"x": "of-logs"}, timeout=0.05)}
    may_end = threading.Event()

    def answer(body, context):
        if METHODS[Signal.LOGS] == server.methods[-1]:
            may_end.wait(60.0)
        return b""

    with StubServer(answer) as server:
        destination = open_destination(
            server.url, DestinationOptions(headers={"x": "general"}, signals=options)
        )
        assert destination.send(traces("a"), 30.0) == Delivered()
        outcome = destination.send(Batch(Signal.LOGS, [b'{"resourceLogs":[]}'], 0), 600.0)
        assert isinstance(outcome, RetryLater)
        assert [found["x"] for found in server.metadata] == ["general", "of-logs"]
        destination.close()
        may_end.set()


# TLS.


@contextmanager
def tls_receiving(tmp_path, **more):
    """Receive over TLS; yield the peer, its authority, and the options of a client."""
    authority = Authority(tmp_path)
    pair, client = authority.issue("server"), authority.issue("client")
    security = ServerSecurity(certificate=pair.certificate, key=pair.key, **more)
    options = {
        "ca_file": str(authority.certificate),
        "certificate_file": str(client.certificate),
        "key_file": str(client.key),
    }
    with receiving(tmp_path / "recording", security) as peer:
        yield f"otlp+grpcs://localhost:{peer.address.port}", authority, options


def test_tls_with_a_client_certificate(tmp_path):
    """And with a token."""
    with tls_receiving(tmp_path, client_ca=tmp_path / "authority.pem", tokens=(TOKEN,)) as found:
        url, _, options = found
        outcome = send(url, **options)
        assert isinstance(outcome, Stopped)
        assert "UNAUTHENTICATED" in outcome.reason
        assert send(url, headers={"authorization": f"Bearer {TOKEN}"}, **options) == Delivered()
    assert recorded(tmp_path / "recording") == ["a"]


def test_a_server_that_is_not_trusted_stops(tmp_path):
    """By its authority or its name; once its files are right the same destination goes on."""
    with tls_receiving(tmp_path) as (url, authority, options):
        other = Authority(tmp_path, "other")
        ca_file = tmp_path / "trusted.pem"
        ca_file.write_bytes(other.certificate.read_bytes())
        destination = open_destination(url, DestinationOptions(ca_file=str(ca_file)))
        outcome = destination.send(traces("a"), 30.0)
        assert isinstance(outcome, Stopped)
        assert "CERTIFICATE_VERIFY_FAILED" in outcome.reason
        ca_file.write_bytes(authority.certificate.read_bytes())
        assert destination.send(traces("a"), 30.0) == Delivered()
        destination.close()
    named = authority.issue("named", "subjectAltName=DNS:elsewhere.example")
    security = ServerSecurity(certificate=named.certificate, key=named.key)
    with receiving(tmp_path / "second", security) as peer:
        outcome = send(f"otlp+grpcs://localhost:{peer.address.port}", **options)
        assert isinstance(outcome, Stopped)
        assert "Hostname" in outcome.reason


def test_tls_and_none_do_not_go_together(tmp_path):
    """The reason says what may be meant; it may also be a proxy that starts: it is tried again."""
    with tls_receiving(tmp_path) as (url, _, options):
        outcome = send(url.replace("grpcs", "grpc"))
        assert isinstance(outcome, RetryLater)
        assert "(does it speak TLS? That is otlp+grpcs://)" in outcome.reason
    with receiving(tmp_path / "plain") as peer:
        outcome = send(f"otlp+grpcs://localhost:{peer.address.port}", **options)
        assert isinstance(outcome, RetryLater)
        assert "(does it speak without TLS? That is otlp+grpc://)" in outcome.reason
    with tls_receiving(tmp_path, client_ca=tmp_path / "authority.pem") as (url, _, options):
        outcome = send(url, ca_file=options["ca_file"])
        assert isinstance(outcome, RetryLater)
        assert "(does it ask for a client's certificate?)" in outcome.reason


# Closing, threads, forks.


def test_threads_share_a_destination():
    """One for each signal."""
    with StubServer() as server, futures.ThreadPoolExecutor(6) as threads:
        destination = open_destination(server.url, DestinationOptions())
        found = list(threads.map(lambda n: destination.send(traces(str(n)), 30.0), range(100)))
        destination.close()
    assert found == [Delivered()] * 100


def test_closing_ends_what_runs():
    """It is sent again by the next one; after that nothing is sent."""
    has_begun, may_end = threading.Event(), threading.Event()

    def answer(*_):
        has_begun.set()
        may_end.wait(60.0)
        return b""

    with StubServer(answer) as server, futures.ThreadPoolExecutor(1) as threads:
        destination = open_destination(server.url, DestinationOptions())
        sent = threads.submit(destination.send, traces("a"), 600.0)
        assert has_begun.wait(60.0)
        destination.close()
        assert isinstance(sent.result(60.0), RetryLater)
        assert destination.send(traces("a"), 600.0) == RetryLater("the destination is closed")
        destination.close()
        may_end.set()


def test_nothing_is_sent_after_a_fork():
    """grpc's threads are not in the child; it is told, does not hang, and the parent goes on."""
    script = """
    import os, sys
    from rimp_otel.transport.forwarding.destination import DestinationOptions, open_destination
    from tests.transport.grpc_peers import StubServer, traces
    with StubServer() as server:
        destination = open_destination(server.url, DestinationOptions())
        print(destination.send(traces("a"), 30.0), flush=True)
        if os.fork() == 0:
            another = open_destination(server.url, DestinationOptions())
            print(destination.send(traces("b"), 30.0), another.send(traces("b"), 30.0), flush=True)
            another.close()
            destination.close()
            os._exit(0)
        print(os.wait()[1])
        print(destination.send(traces("c"), 30.0), len(server.bodies), flush=True)
        destination.close()
    """
    first, child, code, last = run(script).splitlines()
    assert child.count("Stopped") == child.count("after a fork") == 2
    assert (first, code, last) == (str(Delivered()), "0", f"{Delivered()} 2")
