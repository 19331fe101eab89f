"""Destinations over gRPC that are dead, slow, broken or something else: what is made of their answers."""

from __future__ import annotations

import gzip
import os
import socket
import struct
import threading
import time
from concurrent import futures

import grpc
import h2.errors
import pytest

from rimp_otel.transport.forwarding.destination import (
    Delivered,
    DestinationOptions,
    Refused,
    RetryLater,
    Stopped,
    open_destination,
)
from tests.transport.certificates import Authority
from tests.transport.grpc_peers import (
    OK_HEADERS,
    RawServer,
    StubServer,
    framed,
    refusing,
    send,
    traces,
    wait_until,
)

MIB = 1024 * 1024


def replying(message=b"", trailers=(("grpc-status", "0"),), is_compressed=False):
    """Return an answer with a message and trailers."""

    def answer(connection, stream):
        headers = [*OK_HEADERS, ("grpc-encoding", "gzip")] if is_compressed else OK_HEADERS
        connection.http.send_headers(stream, headers)
        connection.send(stream, framed(message, is_compressed))
        connection.http.send_headers(stream, trailers, end_stream=True)

    return answer


def only(headers, body=b""):
    """Return an answer that is headers, and perhaps a body without trailers."""

    def answer(connection, stream):
        connection.http.send_headers(stream, headers, end_stream=not body)
        if body:
            connection.http.send_data(stream, body, end_stream=True)

    return answer


def outcome_of(answer, **options):
    """Return what is made of an answer."""
    with RawServer(answer) as server:
        return send(server.url, **options)


def test_a_right_answer_is_a_success():
    """So what the other tests see is due to what is wrong there."""
    assert outcome_of(replying()) == Delivered()
    assert outcome_of(replying(b"\x0a\x02\x08\x01")) == Delivered(1)


def test_compression_is_what_was_asked_for():
    """By the URL, which wins over the options."""
    found = []

    def answer(connection, stream):
        found.append(connection.headers.get("grpc-encoding", "none"))
        replying()(connection, stream)

    with RawServer(answer) as server:
        send(server.url)
        send(server.url, compression="gzip")
        send(f"{server.url}?compression=gzip", compression="none")
        send(f"{server.url}?compression=none", compression="gzip")
    # To this machine itself it is not worth its time.
    assert [name.replace("identity", "none") for name in found] == ["none", "gzip", "gzip", "none"]


# Nobody there, or nobody who answers.


def test_nobody_listens():
    """A later attempt may find somebody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = send(f"otlp+grpc://127.0.0.1:{port}")
    assert isinstance(outcome, RetryLater)
    assert "refused" in outcome.reason


def test_a_name_that_does_not_exist():
    """It may exist later."""
    assert isinstance(send("otlp+grpc://nothing.invalid:4317"), RetryLater)


def wait_for_the_end(connection):
    """Read until the other end closes, and say nothing."""
    while connection.recv(65_536):
        pass


def begin_only(connection, stream):
    """Begin an answer that never ends."""
    connection.http.send_headers(stream, OK_HEADERS)


def drip(connection, stream):
    """Send an answer byte by byte, more slowly than anybody waits."""
    connection.http.send_headers(stream, OK_HEADERS)
    for byte in framed(b"\x0a\x7e" + bytes(126)):
        connection.send(stream, bytes([byte]))
        time.sleep(0.1)


@pytest.mark.parametrize(
    "server",
    [
        {"accept": wait_for_the_end},
        {"answer": lambda *_: None},
        {"answer": begin_only},
        {"answer": drip},
    ],
    ids=["no HTTP/2", "no answer", "no end", "drip"],
)
@pytest.mark.parametrize("scheme", ["otlp+grpc", "otlp+grpcs"])
def test_a_server_that_hangs_blocks_nobody(server, scheme, tmp_path):
    """The deadline holds, wherever it hangs."""
    with RawServer(**server) as found:
        began = time.monotonic()
        outcome = send(f"{scheme}://{found.place}", timeout=0.3)
        assert time.monotonic() - began < 30.0
    assert isinstance(outcome, RetryLater)


def test_a_deadline_holds_for_large_requests_too():
    """The server does not read them."""
    with RawServer(accept=lambda connection: released.wait(60.0)) as server:
        released = threading.Event()
        batch = traces(*["a" * 1_000] * 3_000)
        outcome = send(server.url, batch, timeout=0.3)
        released.set()
    assert isinstance(outcome, RetryLater)


def test_a_server_that_comes_back_is_found_again():
    """By the same destination, as soon as the forwarder tries again."""
    with StubServer() as server:
        destination = open_destination(server.url, DestinationOptions())
        assert destination.send(traces("a"), 30.0) == Delivered()
    for _ in range(3):
        assert isinstance(destination.send(traces("a"), 30.0), RetryLater)
    with StubServer(port=server.port):
        wait_until(lambda: destination.send(traces("a"), 30.0) == Delivered())
    destination.close()


# Connections that break.


def reset_connection(connection, stream):
    """Close with a reset of TCP, whatever waits to be sent."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.socket.close()


@pytest.mark.parametrize(
    "answer",
    [
        reset_connection,
        lambda connection, _: connection.socket.shutdown(socket.SHUT_RDWR),
        lambda connection, _: connection.http.close_connection(0, last_stream_id=0),
        lambda connection, _: connection.http.close_connection(11, b"too_many_pings", 0),
        lambda connection, _: connection.socket.sendall(bytes(range(256)) * 20),
    ],
    ids=["reset", "closed", "GOAWAY", "GOAWAY for pings", "garbage"],
)
def test_a_connection_that_breaks_is_opened_again(answer):
    """The batch is sent again, and the destination is as good as new."""
    answers = iter([answer])
    with RawServer(lambda *request: next(answers, replying())(*request)) as server:
        destination = open_destination(server.url, DestinationOptions())
        assert isinstance(destination.send(traces("a"), 30.0), RetryLater)
        wait_until(lambda: destination.send(traces("a"), 30.0) == Delivered())
        destination.close()


def test_a_connection_that_is_closed_between_two_batches_costs_none():
    """By GOAWAY after the answer, as servers do that have a greatest age of connections."""

    def answer(connection, stream):
        replying()(connection, stream)
        connection.http.close_connection(0)

    with RawServer(answer) as server:
        destination = open_destination(server.url, DestinationOptions())
        outcomes = []

        def deliver():
            outcomes.append(destination.send(traces("a"), 30.0))
            return outcomes.count(Delivered()) == 5

        wait_until(deliver)
        destination.close()
        assert all(isinstance(outcome, (Delivered, RetryLater)) for outcome in outcomes)
        assert len(server.connections) >= 5


@pytest.mark.parametrize("code", list(h2.errors.ErrorCodes))
def test_a_call_that_is_reset_has_no_answer(code):
    """So it is made again, whatever status grpc makes of it; the forwarder splits what is reset for ever."""
    outcome = outcome_of(lambda connection, stream: connection.http.reset_stream(stream, code))
    kind = Stopped if code is h2.errors.ErrorCodes.INADEQUATE_SECURITY else RetryLater
    assert isinstance(outcome, kind)


# Answers that are none.


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, Stopped),
        (400, Refused),
        (401, Stopped),
        (403, Stopped),
        (404, Stopped),
        (405, Stopped),
        (413, Refused),
        (415, Stopped),
        (429, RetryLater),
        (500, Refused),
        (502, RetryLater),
        (503, RetryLater),
        (504, RetryLater),
    ],
)
def test_a_proxy_answers_in_http(status, kind):
    """As it would be taken over HTTP."""
    headers = [(":status", str(status)), ("content-type", "text/html")]
    outcome = outcome_of(only(headers, b"<html>no</html>"))
    assert isinstance(outcome, kind)
    assert str(status) in outcome.reason or kind is Stopped
    if status == 429:
        assert outcome.is_throttled
    if kind is Stopped:
        assert outcome.is_signal_only is (status in (404, 405))


@pytest.mark.parametrize(
    "answer",
    [
        only([(":status", "200"), ("content-type", "text/html")], b"<html>welcome</html>"),
        only(OK_HEADERS),
        only(OK_HEADERS, framed(b"")),
        only(OK_HEADERS, b"\x07\xff\xff\xff\xffnothing"),
    ],
    ids=["web page", "no status", "no trailers", "no message"],
)
def test_an_answer_without_a_status_stops(answer):
    """Nothing is dropped, and it is said."""
    outcome = outcome_of(answer)
    assert isinstance(outcome, Stopped)
    assert outcome.is_signal_only
    assert "no answer of OTLP" in outcome.reason


@pytest.mark.parametrize(
    "status", [("grpc-status", "99"), ("grpc-status", "abc"), ("grpc-status", "-1")]
)
def test_a_status_that_is_none_is_refused(status):
    """As an unknown one."""
    assert isinstance(outcome_of(only([*OK_HEADERS, status])), Refused)


def test_a_success_without_a_message_is_a_success():
    """Its status says so."""
    assert outcome_of(only([*OK_HEADERS, ("grpc-status", "0")])) == Delivered()


def test_a_message_that_cannot_be_decompressed():
    """The batch is not dropped for it, but split."""
    assert isinstance(outcome_of(replying(b"no gzip", is_compressed=True)), Refused)


def test_a_server_that_speaks_http_1_stops():
    """The reason says what was meant."""

    def accept(connection):
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        wait_for_the_end(connection)

    with RawServer(accept=accept) as server:
        outcome = send(server.url)
    assert isinstance(outcome, Stopped)
    assert "otlp+http://" in outcome.reason


@pytest.mark.parametrize("data", [os.urandom(5_000), b"\x00" * 5_000, b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_a_server_that_speaks_something_else(data):
    """It is tried again: an address may be taken by somebody else for a while."""

    def accept(connection):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        wait_for_the_end(connection)

    with RawServer(accept=accept) as server:
        assert isinstance(send(server.url), RetryLater)


# Answers that are too large.


def send_for_ever(connection, stream):
    """Announce a message of two gigabytes, and send it."""
    connection.http.send_headers(stream, OK_HEADERS)
    connection.send(stream, struct.pack(">?I", False, 2**31 - 1))
    while True:
        connection.send(stream, bytes(65_536))


@pytest.mark.parametrize(
    "answer",
    [
        replying(bytes(100 * MIB)),
        send_for_ever,
        only([*OK_HEADERS, ("grpc-status", "14"), ("grpc-message", "m" * 60_000)]),
    ],
    ids=["100 MiB", "endless", "metadata"],
)
def test_an_answer_that_is_too_large_stops(answer):
    """It is not read to its end, and no record is to blame for it."""
    outcome = outcome_of(answer)
    assert isinstance(outcome, Stopped)
    assert outcome.is_signal_only
    assert len(outcome.reason) < 1_000


def test_an_answer_of_4_mib_is_read():
    """As much as the specification wants."""
    text = b"m" * (4 * MIB - 100)
    size = len(text) + 5
    body = b"\x0a" + _varint(size) + b"\x12" + _varint(len(text)) + text
    outcome = outcome_of(replying(body))
    assert isinstance(outcome, Delivered)
    assert len(outcome.message) < 1_000


def _varint(value):
    digits = []
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def test_an_answer_that_is_a_bomb_is_not_decompressed():
    """The batch is split; if everything is answered so, the signal stops."""
    bomb = gzip.compress(bytes(64 * MIB), 1)
    with RawServer(replying(bomb, is_compressed=True)) as server:
        destination = open_destination(server.url, DestinationOptions())
        outcomes = [destination.send(traces("a"), 30.0) for _ in range(100)]
        destination.close()
    # Newer versions of grpc do not say which end it was that found the message too large.
    assert {type(outcome) for outcome in outcomes} <= {Refused, Stopped}
    assert isinstance(outcomes[99], Stopped)


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN])
def test_a_server_that_always_fails_stops(code):
    """A hundred times in a row it is no record that is to blame; one success in between, and it is."""
    fails = refusing(code)

    def answer(body, context):
        return b"" if len(server.bodies) == 50 else fails(body, context)

    with StubServer(answer) as server:
        destination = open_destination(server.url, DestinationOptions())
        outcomes = [destination.send(traces("a"), 30.0) for _ in range(151)]
        destination.close()
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [Refused] * 49 + [Delivered] + [Refused] * 99 + [Stopped, Refused]


# TLS.


def test_tls_that_breaks_is_tried_again(tmp_path):
    """In the middle of the handshake, by noise, or by an alert."""
    authority = Authority(tmp_path)
    for data in (b"", bytes(range(256)), b"\x15\x03\x03\x00\x02\x02\x28"):

        def accept(connection, data=data):
            connection.recv(10)
            connection.sendall(data)

        with RawServer(accept=accept) as server:
            outcome = send(f"otlp+grpcs://{server.place}", ca_file=str(authority.certificate))
        assert isinstance(outcome, RetryLater)


def test_a_file_for_tls_that_vanishes_is_no_crash(tmp_path):
    """The destination says so, and goes on once it is back."""
    authority = Authority(tmp_path)
    ca_file = tmp_path / "trusted.pem"
    ca_file.write_bytes(authority.certificate.read_bytes())
    with RawServer(accept=wait_for_the_end) as server:
        options = DestinationOptions(ca_file=str(ca_file))
        destination = open_destination(f"otlp+grpcs://{server.place}", options)
        ca_file.unlink()
        outcome = destination.send(traces("a"), 0.3)
        assert isinstance(outcome, RetryLater)
        assert "trusted.pem" in outcome.reason
        destination.close()


# Many at once.


def test_signals_do_not_wait_for_each_other():
    """One that hangs keeps no other thread from delivering."""
    release = threading.Event()

    def answer(body, context):
        if b"slow" in body:
            release.wait(60.0)
        return b""

    with StubServer(answer) as server, futures.ThreadPoolExecutor(1) as threads:
        destination = open_destination(server.url, DestinationOptions())
        slow = threads.submit(destination.send, traces("slow"), 600.0)
        wait_until(lambda: server.bodies)
        assert [destination.send(traces("a"), 30.0) for _ in range(10)] == [Delivered()] * 10
        release.set()
        assert slow.result(60.0) == Delivered()
        destination.close()
