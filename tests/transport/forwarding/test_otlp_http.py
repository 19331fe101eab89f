"""The destinations over HTTP, against real servers that answer what a test says."""

from __future__ import annotations

import gzip
import json
import os
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.outgoing import request_from_lines
from rimp_otel.otlp.requests import RequestFormat, encode_response, encode_status
from rimp_otel.transport.forwarding.destination import (
    Batch,
    Delivered,
    Refused,
    RetryLater,
    Stopped,
    open_destination,
)
from rimp_otel.transport.forwarding.destination_options import DestinationOptions
from rimp_otel.transport.forwarding.otlp_http import HttpDestination
from tests.transport.certificates import Authority
from tests.transport.http_sinks import Sink, answer, read_request, run_sink, send_raw

LINE = (
    b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"5b8efff798038103d269b633813fc60c",'
    b'"spanId":"eee19b7ec3c1b174","name":"a"}]}]}]}'
)
BATCH = Batch(Signal.TRACES, [LINE], 1)
LOGS = Batch(Signal.LOGS, [b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"flags":1}]}]}]}'], 1)
PATIENCE = 20.0


def send(url: str, batch: Batch = BATCH, timeout: float = PATIENCE, **options: Any) -> Any:
    """Return what became of a batch."""
    destination = HttpDestination(url, DestinationOptions(**options))
    try:
        return destination.send(batch, timeout)
    finally:
        destination.close()


def outcome_of(*behaviours: Any, timeout: float = PATIENCE) -> Any:
    """Return what became of a batch that a server has treated so."""
    with run_sink(*behaviours) as sink:
        return send(sink.url, timeout=timeout)


# Requests.


def test_a_batch_is_posted_as_protobuf():
    """To the path of its signal, with the prefix, and not compressed on this machine."""
    with run_sink() as sink:
        assert send(f"{sink.url}/prefix/") == Delivered()
        assert send(sink.url, LOGS) == Delivered()
    first, second = sink.requests
    assert (first.path, second.path) == ("/prefix/v1/traces", "/v1/logs")
    assert first.headers["content-type"] == "application/x-protobuf"
    assert first.headers["user-agent"] == "rimp-otel"
    assert "content-encoding" not in first.headers
    assert first.body == request_from_lines(Signal.TRACES, [LINE], RequestFormat.PROTOBUF)


@pytest.mark.parametrize("by_url", [True, False])
def test_a_batch_is_posted_as_json_where_that_is_wanted(by_url):
    """By the URL or by an option: the lines as they lie on disk."""
    batch = Batch(Signal.TRACES, [LINE, LINE], 2)
    with run_sink() as sink:
        if by_url:
            send(f"{sink.url}?encoding=json&compression=gzip", batch)
        else:
            send(sink.url, batch, encoding="json", compression="gzip")
    (request,) = sink.requests
    assert request.headers["content-type"] == "application/json"
    assert request.headers["content-encoding"] == "gzip"
    assert request.body == request_from_lines(Signal.TRACES, [LINE, LINE], RequestFormat.JSON)


def test_a_connection_is_kept():
    """Several batches of a signal go over one connection."""
    with run_sink() as sink:
        destination = HttpDestination(sink.url, DestinationOptions())
        outcomes = [destination.send(BATCH, PATIENCE) for _ in range(3)]
        destination.close()
        assert destination.send(BATCH, PATIENCE) == RetryLater(
            f"cannot reach http://127.0.0.1:{sink.port}/v1/traces: the connection is closed"
        )
    assert outcomes == [Delivered()] * 3
    assert (sink.connections, len(sink.requests)) == (1, 3)


def test_a_forked_child_leaves_the_connection_to_its_parent():
    """It closes its copy, and connects anew if it sends something itself."""
    with run_sink() as sink:
        destination = HttpDestination(sink.url, DestinationOptions())
        assert destination.send(BATCH, PATIENCE) == Delivered()
        for sends in (False, True):
            child = os.fork()
            if not child:
                code = 1
                try:
                    code = not (not sends or destination.send(BATCH, PATIENCE) == Delivered())
                    destination.close()
                finally:
                    os._exit(code)
            assert os.waitpid(child, 0)[1] == 0
            assert destination.send(BATCH, PATIENCE) == Delivered()
        destination.close()
    assert (sink.connections, len(sink.requests)) == (2, 4)


def hang_up_without_an_answer(sink: Sink, connection: socket.socket) -> None:
    """Answer one request, read the next one, and hang up."""
    read_request(sink, connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    read_request(sink, connection)


@pytest.mark.parametrize("kept", [answer(times=1), hang_up_without_an_answer])
def test_a_kept_connection_that_was_closed_is_made_anew_at_once(kept):
    """The batch is delivered, whether the server hangs up before or after the request."""
    with run_sink(kept, answer()) as sink:
        destination = HttpDestination(sink.url, DestinationOptions())
        assert destination.send(BATCH, PATIENCE) == Delivered()
        assert destination.send(BATCH, PATIENCE) == Delivered()
        destination.close()
    assert sink.connections == 2


def test_a_new_connection_that_is_closed_is_not_tried_again():
    """The forwarder waits first."""
    outcome = outcome_of(send_raw())
    assert outcome.reason.endswith("/v1/traces closed the connection without an answer")
    assert isinstance(outcome, RetryLater)


def test_headers_and_the_login_are_sent():
    """A header wins over the login of the URL, whatever its case."""
    with run_sink() as sink:
        url = sink.url.replace("://", "://us%40r:p%3Ass@")
        send(url, headers={"X-Tenant": "a", "X-Word": "caf\u00e9"})
        send(url, headers={"authorization": "Bearer token"})
    first, second = sink.requests
    assert first.headers["authorization"] == "Basic dXNAcjpwOnNz"
    assert (first.headers["x-tenant"], first.headers["x-word"]) == ("a", "caf\u00e9")
    assert second.headers["authorization"] == "Bearer token"


def test_a_batch_that_is_too_large_is_refused_before_it_is_sent():
    """It is split then; a single record is tried."""
    line = LINE.replace(b'"a"', b'"' + b"a" * 1_000 + b'"')
    with run_sink() as sink:
        outcome = send(sink.url, Batch(Signal.TRACES, [line, line], 2), max_request_size=1_500)
        single = send(sink.url, Batch(Signal.TRACES, [line], 1), max_request_size=500)
    assert outcome == Refused("a request of 2,080 bytes is larger than 1,500")
    assert single == Delivered()
    assert len(sink.requests) == 1


def test_a_batch_that_cannot_be_encoded_is_refused():
    """It is split down to the line that is to blame."""
    outcome = send("otlp+http://127.0.0.1:1", Batch(Signal.TRACES, [b'{"resourceSpans":['], 1))
    assert isinstance(outcome, Refused)
    assert "cannot be encoded" in outcome.reason


def test_nothing_of_it_is_recorded_by_instrumentation():
    """While a request is sent, instrumentation is told to keep still, and afterwards not."""
    from opentelemetry import context

    class Watched(HttpDestination):
        def _send(self, *arguments: Any) -> Any:
            seen.append(dict(context.get_current()))
            return super()._send(*arguments)

    seen: list[dict[str, object]] = []
    with run_sink() as sink:
        destination = Watched(sink.url, DestinationOptions())
        destination.send(BATCH, PATIENCE)
        destination.close()
    assert set(seen[0].values()) == {True}
    assert len(seen[0]) == 2
    assert not context.get_current()


def test_headers_are_not_printed_where_a_program_debugs_http(monkeypatch, capsys):
    """A debug level of the whole process does not count."""
    monkeypatch.setattr("http.client.HTTPConnection.debuglevel", 1)
    with run_sink() as sink:
        assert send(sink.url, headers={"X-Token": "secret"}) == Delivered()
    assert capsys.readouterr().out == ""


# Answers of success.

PARTIAL = {"rejected": 2, "message": "too old"}
PROTOBUF, JSON = (
    "Content-Type: application/x-protobuf",
    "Content-Type: application/json; charset=utf-8",
)


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"", "X: y", Delivered()),
        (b"", PROTOBUF, Delivered()),
        (b"\x0a\x00", PROTOBUF, Delivered()),
        (b"{}", JSON, Delivered()),
        (b'{"partialSuccess":{}}', JSON, Delivered()),
        (b'{"partialSuccess":null}', JSON, Delivered()),
        (b"OK", "Content-Type: text/plain", Delivered()),
        (b"\xff\xff garbage", PROTOBUF, Delivered()),
        (
            encode_response(Signal.TRACES, RequestFormat.PROTOBUF, 2, "too old"),
            PROTOBUF,
            Delivered(2, "too old"),
        ),
        (
            encode_response(Signal.TRACES, RequestFormat.JSON, 2, "too old"),
            JSON,
            Delivered(2, "too old"),
        ),
        (
            encode_response(Signal.TRACES, RequestFormat.PROTOBUF, 0, "hm"),
            "X: y",
            Delivered(0, "hm"),
        ),
    ],
)
def test_success_in_all_its_forms(body, headers, expected):
    """The answer is read in its own content type; what is no answer is a full success."""
    assert outcome_of(answer(200, body, headers)) == expected


@pytest.mark.parametrize("status", [200, 202, 204])
def test_any_2xx_is_a_success(status):
    """Some gateways answer 202 or 204."""
    assert outcome_of(answer(status)) == Delivered()


def test_a_web_page_is_no_success():
    """An address that answers any request with a page would swallow everything."""
    outcome = outcome_of(answer(200, b"<html><b>Log in!</b></html>", "Content-Type: text/html"))
    assert isinstance(outcome, Stopped)
    assert outcome.is_signal_only
    assert "200 OK with a web page" in outcome.reason
    assert "Log in" not in outcome.reason


def test_answers_may_be_compressed_chunked_or_of_http_1_0():
    """Each is read as what it is."""
    body = encode_response(Signal.TRACES, RequestFormat.PROTOBUF, 1, "why")
    packed = gzip.compress(body)
    kind = b"Content-Type: application/x-protobuf\r\n"
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    zipped = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(packed), packed)
    for raw in (
        b"HTTP/1.1 200 OK\r\n" + kind + zipped,
        b"HTTP/1.1 200 OK\r\n" + kind + b"Transfer-Encoding: chunked\r\n\r\n" + chunks,
        b"HTTP/1.0 200 OK\r\n" + kind + b"\r\n" + body,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n"
        + kind
        + b"\r\n"
        + body,
    ):
        assert outcome_of(send_raw(raw)) == Delivered(1, "why")


# Answers of failure.


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (429, RetryLater),
        (502, RetryLater),
        (503, RetryLater),
        (504, RetryLater),
        (400, Refused),
        (408, Refused),
        (413, Refused),
        (422, Refused),
        (500, Refused),
        (401, Stopped),
        (403, Stopped),
        (404, Stopped),
        (405, Stopped),
        (407, Stopped),
        (409, Stopped),
        (415, Stopped),
        (418, Stopped),
        (501, Stopped),
        (505, Stopped),
        (507, Stopped),
        (599, Stopped),
    ],
)
def test_each_status_is_classified(status, expected):
    """By the specification, and by what loses nothing."""
    outcome = outcome_of(answer(status, encode_status(RequestFormat.PROTOBUF, 3, "because")))
    assert type(outcome) is expected
    assert f"answered {status}" in outcome.reason
    assert outcome.reason.partition(": because")[1]
    assert getattr(outcome, "is_throttled", False) is (status == 429)
    assert getattr(outcome, "is_signal_only", False) is (status in (404, 405, 501))


@pytest.mark.parametrize(
    ("status", "encoding", "hint"),
    [
        (400, "json", "the request was JSON, which not all receivers take: try protobuf"),
        (415, "json", "the request was JSON, which not all receivers take: try protobuf"),
        (415, "protobuf", "the request was protobuf: try JSON"),
        (400, "protobuf", ""),
    ],
)
def test_the_reason_says_which_encoding_was_refused(status, encoding, hint):
    """VictoriaMetrics answers 400 to JSON."""
    with run_sink(answer(status, b"no", "Content-Type: text/plain")) as sink:
        outcome = send(sink.url, encoding=encoding)
    assert outcome.reason.partition(": no")[2] == (f" ({hint})" if hint else "")


def test_a_host_may_be_an_address_of_ipv6():
    """In brackets, also in the header Host."""
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    with run_sink(listener=listener) as sink:
        url = f"otlp+http://[::1]:{sink.port}"
        assert send(url) == Delivered()
        assert open_destination(url, DestinationOptions()).name == url
    assert sink.requests[0].headers["host"] == f"[::1]:{sink.port}"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirection_is_not_followed(status):
    """The reason says where it leads, without what may be secret."""
    where = "Location: https://user:word@other.example:444/v1/traces?token=hidden#x"
    outcome = outcome_of(answer(status, headers=where))
    assert isinstance(outcome, Stopped)
    assert (
        "it redirects to https://other.example:444/v1/traces, which is not followed"
        in outcome.reason
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wednesday, 21-Oct-26 07:28:30 GMT", 30.0),
        ("Wed Oct 21 07:28:30 2026", 30.0),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1e3", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_has_seconds_or_a_date(status, text, seconds):
    """The date is compared with this machine's clock."""
    now = 1_792_567_680.0  # 21 Oct 2026, 07:28:00
    with run_sink(answer(status, headers=f"Retry-After: {text}")) as sink:
        destination = HttpDestination(sink.url, DestinationOptions(), wall_clock=lambda: now)
        outcome = destination.send(BATCH, PATIENCE)
        destination.close()
    assert outcome.after == seconds


def test_a_server_that_answers_500_to_everything_stops_the_signal():
    """It is broken then: nothing more is set aside. A success in between begins a new count."""
    with run_sink(answer(500)) as sink:
        destination = HttpDestination(sink.url, DestinationOptions())
        outcomes = [destination.send(BATCH, PATIENCE) for _ in range(101)]
        destination.close()
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [Refused] * 99 + [Stopped, Refused]
    assert "(as did 100 requests in a row)" in outcomes[99].reason


@pytest.mark.parametrize(
    ("body", "headers", "shown"),
    [
        (json.dumps({"message": "no"}).encode(), JSON, ": no"),
        (json.dumps({"error": "x"}).encode(), JSON, ': {"error": "x"}'),
        (b"plain\n text\x00\x1b[31m", "Content-Type: text/plain", ": plain text  [31m"),
        (b"<html>no</html>", "Content-Type: text/html", ""),
        (b"\xff\xfe", PROTOBUF, ""),
        (b"x" * 5_000, "Content-Type: text/plain", "xxx..."),
    ],
)
def test_the_reason_is_short_and_printable(body, headers, shown):
    """A web page is not quoted."""
    reason = outcome_of(answer(400, body, headers)).reason
    assert reason.endswith(shown or "400 Bad Request")
    assert reason.isprintable()
    assert len(reason) <= 300


def test_no_reason_has_a_secret():
    """A server that repeats what it was sent shows none of it."""
    text = b"Basic dXNlcjpodW50ZXIy, user:hunter2, t0k3n-value, Bearer abc.def; us%20er"
    for status in (200, 400, 401, 503):
        body = encode_status(RequestFormat.PROTOBUF, 3, text.decode())
        if status == 200:
            body = encode_response(Signal.TRACES, RequestFormat.PROTOBUF, 1, text.decode())
        with run_sink(answer(status, body)) as sink:
            url = sink.url.replace("://", "://user:hunter2@")
            outcome = send(url, headers={"X-Key": "t0k3n-value", "X-Auth": "Bearer abc.def"})
        for secret in ("hunter2", "dXNlcjpodW50ZXIy", "t0k3n", "abc.def"):
            assert secret not in repr(outcome)
        assert "***" in repr(outcome)


# Servers that are broken.


def test_a_server_that_is_not_there_is_tried_later():
    """With its address in the reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    outcome = send(f"otlp+http://127.0.0.1:{port}")
    assert outcome == RetryLater(
        f"cannot reach http://127.0.0.1:{port}/v1/traces: Connection refused"
    )


def hang(sink: Sink, connection: socket.socket) -> None:
    """Read the request, and answer nothing."""
    read_request(sink, connection)
    sink.ending.wait(60)


def read_nothing(sink: Sink, connection: socket.socket) -> None:
    """Accept the connection, and nothing more."""
    sink.ending.wait(60)


def drip(head: bytes) -> Any:
    """Answer one byte after another, for ever."""

    def behave(sink: Sink, connection: socket.socket) -> None:
        read_request(sink, connection)
        connection.sendall(head)
        while not sink.ending.wait(0.02):
            connection.sendall(b"x")

    return behave


@pytest.mark.parametrize(
    "behaviour",
    [hang, drip(b""), drip(b"HTTP/1.1 200 OK\r\nX: "), drip(b"HTTP/1.1 200 OK\r\n\r\n")],
    ids=["hangs", "status", "header", "body"],
)
def test_the_deadline_holds_for_the_whole_exchange(behaviour):
    """A server that sends a byte now and then keeps nobody for ever."""
    outcome = outcome_of(behaviour, timeout=0.3)
    assert isinstance(outcome, RetryLater)
    assert outcome.reason.endswith("did not answer in time")


def test_the_time_of_the_options_counts():
    """Of a signal's variable, such as OTEL_EXPORTER_OTLP_TRACES_TIMEOUT."""
    with run_sink(hang) as sink:
        outcome = send(
            sink.url, timeout=60.0, signals={Signal.TRACES: DestinationOptions(timeout=0.2)}
        )
    assert outcome.reason.endswith("did not answer in time")


def test_the_deadline_holds_for_sending():
    """A server that reads nothing is given up, however much is to be sent."""
    line = LINE.replace(b'"a"', b'"' + b"a" * 15_000_000 + b'"')
    with run_sink(read_nothing) as sink:
        outcome = send(sink.url, Batch(Signal.TRACES, [line], 1), timeout=0.3)
    assert outcome.reason.endswith("did not answer in time")


def test_closing_ends_a_send_that_waits():
    """The forwarder that stops does not wait for a server that hangs."""
    received = threading.Event()

    def hang_and_tell(sink: Sink, connection: socket.socket) -> None:
        read_request(sink, connection)
        received.set()
        sink.ending.wait(60)

    with run_sink(hang_and_tell) as sink:
        destination = HttpDestination(sink.url, DestinationOptions())
        outcomes: list[Any] = []
        thread = threading.Thread(target=lambda: outcomes.append(destination.send(BATCH, 60.0)))
        thread.start()
        assert received.wait(PATIENCE)
        destination.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert isinstance(outcomes[0], RetryLater)


HUGE = 100 * 1000 * 1000


def stream_forever(head: bytes) -> Any:
    """Answer with 100 MB, unless the client hangs up before."""

    def behave(sink: Sink, connection: socket.socket) -> None:
        read_request(sink, connection)
        connection.sendall(head)
        for _ in range(HUGE // 100_000):
            connection.sendall(b"x" * 100_000)

    return behave


BOMB = gzip.compress(bytes(HUGE))


@pytest.mark.parametrize(
    "behaviour",
    [
        stream_forever(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % HUGE),
        stream_forever(b"HTTP/1.1 200 OK\r\n\r\n"),
        send_raw(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB),
            BOMB,
        ),
        stream_forever(b"HTTP/1.1 503 Later\r\n\r\n"),
    ],
    ids=["length", "no length", "bomb", "503"],
)
def test_an_answer_is_read_to_4_mib(behaviour):
    """More is no answer of OTLP, and by the specification nothing to try again."""
    outcome = outcome_of(behaviour)
    assert isinstance(outcome, Stopped)
    assert "with more than 4 MiB" in outcome.reason


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
        b"HTTP/9.9 what\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n"
        + b"X: y\r\n" * 20_000
        + b"\r\n",  # clickhouse-connect raises the limit
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_garbage_is_tried_later(raw):
    """What is no whole answer proves nothing."""
    outcome = outcome_of(send_raw(raw))
    assert isinstance(outcome, RetryLater)
    assert "is not HTTP" in outcome.reason or "closed the connection" in outcome.reason


@pytest.mark.parametrize("hangs_up", [False, True])
def test_an_answer_before_the_end_of_the_request_counts(hangs_up):
    """A server that does not want the rest says why, and the connection is not used again."""

    def refuse_early(sink: Sink, connection: socket.socket) -> None:
        connection.recv(1_000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!")
        if hangs_up:
            connection.shutdown(socket.SHUT_WR)
        sink.ending.wait(60)

    line = LINE.replace(b'"a"', b'"' + b"a" * 15_000_000 + b'"')
    with run_sink(refuse_early, answer()) as sink:
        destination = HttpDestination(sink.url, DestinationOptions())
        outcome = destination.send(Batch(Signal.TRACES, [line], 1), PATIENCE)
        again = destination.send(BATCH, PATIENCE)
        destination.close()
    assert isinstance(outcome, Refused)
    assert "413" in outcome.reason
    assert again == Delivered()
    assert sink.connections == 2


# What is given.


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("otlp+http://", "must be otlp\\+http://HOST:PORT"),
        ("otlp+http://host:port", "must be otlp\\+http://HOST:PORT"),
        ("otlp+http://host:99999", "must be otlp\\+http://HOST:PORT"),
        ("otlp+http://host?encodng=json", "parameter 'encodng'"),
        (
            "otlp+http://host?encoding=xml",
            "encoding of otlp\\+http://host must be protobuf or json",
        ),
        (
            "otlp+http://host?compression=zstd",
            "compression of otlp\\+http://host must be gzip or none",
        ),
    ],
)
def test_a_url_that_is_none_is_refused(url, why):
    """The message says what is wrong, and shows no login."""
    with pytest.raises(ConfigurationError, match=why):
        open_destination(url, DestinationOptions())


def test_a_url_with_a_login_never_shows_it():
    """Neither in the name nor in an error."""
    url = "otlp+http://user:hunter2@host:4318/p?encoding=json#a"
    destination = open_destination(url, DestinationOptions())
    assert destination.name == "otlp+http://host:4318/p#a"
    for wrong in (url.replace(":4318", ":x"), f"{url.partition('?')[0]}?token=hunter2"):
        with pytest.raises(ConfigurationError) as raised:
            open_destination(wrong, DestinationOptions())
        assert "hunter2" not in str(raised.value)


def test_an_endpoint_of_a_signal_is_used_as_it_is():
    """Its path and query are those of the requests; the query is in no message."""
    with run_sink(answer(404)) as sink:
        endpoint = f"http://127.0.0.1:{sink.port}/own/path?key=hidden%20key&a=\u00e9"
        own = DestinationOptions(endpoint=endpoint)
        destination = HttpDestination(
            "otlp+http://127.0.0.1:1", DestinationOptions(signals={Signal.TRACES: own})
        )
        outcome = destination.send(BATCH, PATIENCE)
        destination.close()
    assert sink.requests[0].path == "/own/path?key=hidden%20key&a=%C3%A9"
    assert outcome == Stopped(
        f"http://127.0.0.1:{sink.port}/own/path answered 404 Not Found", is_signal_only=True
    )


# TLS.


def server_context(pair: Any, client_ca: Path | None = None) -> ssl.SSLContext:
    """Return what a server needs that has this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_tls_with_a_client_certificate(tmp_path):
    """Both ends prove who they are, over one connection that is kept."""
    authority = Authority(tmp_path)
    server, client = authority.issue("server"), authority.issue("client")
    context = server_context(server, authority.certificate)
    own = DestinationOptions(
        ca_file=str(authority.certificate),
        certificate_file=str(client.certificate),
        key_file=str(client.key),
    )
    with run_sink(context=context) as sink:
        for host in ("127.0.0.1", "localhost"):
            destination = HttpDestination(sink.url.replace("127.0.0.1", host), own)
            assert [destination.send(BATCH, PATIENCE) for _ in range(2)] == [Delivered()] * 2
            destination.close()
        assert sink.connections == 2
        outcome = send(sink.url, ca_file=str(authority.certificate))
    # Of TLS 1.3, the server says so only after the client has sent its request.
    assert isinstance(outcome, (Stopped, RetryLater))
    assert "certificate required" in outcome.reason or "closed" in outcome.reason


@pytest.mark.parametrize(
    ("names", "days", "is_known", "why"),
    [
        ("subjectAltName=DNS:localhost", 2, True, "IP address mismatch"),
        ("subjectAltName=IP:127.0.0.1", -1, True, "certificate has expired"),
        ("subjectAltName=IP:127.0.0.1", 2, False, "unable to get local issuer"),
    ],
    ids=["another name", "expired", "unknown"],
)
def test_a_server_that_cannot_prove_who_it_is_gets_nothing(tmp_path, names, days, is_known, why):
    """The destination stops: nothing is sent to a stranger, and nothing is dropped."""
    authority = Authority(tmp_path)
    known = authority if is_known else Authority(tmp_path, "other")
    with run_sink(context=server_context(authority.issue("server", names, days))) as sink:
        outcome = send(sink.url, ca_file=str(known.certificate))
    assert isinstance(outcome, Stopped)
    assert "127.0.0.1" in outcome.reason
    assert why in outcome.reason
    assert sink.requests == []


def test_tls_and_none_do_not_go_together(tmp_path):
    """Each is tried later, with the reason."""
    authority = Authority(tmp_path)
    with run_sink(send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as sink:
        url = sink.url.replace("http", "https")
        outcome = send(url, timeout=0.5, ca_file=str(authority.certificate))
        assert isinstance(outcome, RetryLater)
    with run_sink(context=server_context(authority.issue("server"))) as sink:
        outcome = send(sink.url.replace("https", "http"))
        assert isinstance(outcome, RetryLater)


def hang_at_once(sink: Sink, connection: socket.socket) -> None:
    """Say nothing."""
    sink.ending.wait(60)


def test_the_deadline_holds_for_the_handshake(tmp_path):
    """A server that says nothing to it keeps nobody for ever."""
    authority = Authority(tmp_path)
    with run_sink(hang_at_once) as sink:
        outcome = send(
            sink.url.replace("http", "https"), timeout=0.3, ca_file=str(authority.certificate)
        )
    assert outcome.reason.endswith("did not answer in time")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (
            {"ca_file": "none"},
            "cannot use none as the certificates that .* is known by: No such file",
        ),
        ({"ca_file": "text"}, "cannot use text as the certificates"),
        (
            {"certificate_file": "none"},
            "cannot use none as the client's certificate .*: No such file",
        ),
        ({"certificate_file": "text"}, "cannot use text as the client's certificate"),
    ],
)
def test_files_of_tls_that_are_none_are_refused(tmp_path, monkeypatch, options, why):
    """When the destination is opened."""
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("no certificate")
    with pytest.raises(ConfigurationError, match=why):
        open_destination("otlp+https://localhost", DestinationOptions(**options))
