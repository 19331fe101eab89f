"""Connections: idle ones, slow ones, too many of them; and a stop that answers what was received."""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
import time

import pytest

from rimp_otel.models.records import Signal
from rimp_otel.transport.receiving.address import ListenAddress
from rimp_otel.transport.receiving.http_server import ConnectionLimits
from rimp_otel.transport.receiving.intake import Intake, IntakeLimits
from rimp_otel.transport.receiving.security import ServerSecurity
from rimp_otel.transport.receiving.server import HttpListener, TelemetryServer
from tests.transport.serving import DEADLINE, span, span_names, traces

HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
NEVER = ConnectionLimits(idle=1e6, head=1e6, pause=1e6, body=1e6)


class Listening:
    """A server within this process; a context manager.

    Args:
        path: of the recording.
        limits: of connections.
        intake_limits: of the intake.
    """

    def __init__(self, path, limits=NEVER, intake_limits=None):
        self.intake = Intake(path, limits=intake_limits)
        address = ListenAddress("127.0.0.1", 0)
        self.listener = HttpListener(self.intake, address, ServerSecurity(), limits=limits)
        self.server = TelemetryServer(self.intake, {"--http": (address, self.listener)})
        self.server.start()
        self.address = ("127.0.0.1", self.server.addresses["--http"].port)
        self._opened = contextlib.ExitStack()

    def connect(self, sent=b""):
        """Open a connection, and send something."""
        sender = socket.create_connection(self.address, timeout=DEADLINE)
        self._opened.callback(sender.close)
        sender.sendall(sent)
        return sender

    def answer(self, number=1):
        """Send a request of a span on a new connection; return the answer's first line."""
        body = traces(span(number)).encode()
        sender = self.connect(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return read_answer(sender)[0]

    def close(self):
        """Close the connections."""
        self._opened.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
        assert self.server.stop(DEADLINE)


@pytest.fixture
def opened():
    """Closes the connections to servers that the test stops itself."""
    with contextlib.ExitStack() as stack:

        def add(listening):
            stack.callback(listening.close)
            return listening

        yield add


def read_answer(sender):
    """Return the lines of an answer, the body the last; [""] if the connection is closed instead."""
    text = b""
    try:
        while b"\r\n\r\n" not in text:
            part = sender.recv(65_536)
            if not part:
                return [""]
            text += part
    except ConnectionResetError:
        return [""]
    return text.decode().splitlines()


def wait_until(condition):
    """Wait until a condition holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("limits", "sent", "reason"),
    [
        (ConnectionLimits(head=0.5), [HEAD, b"X-A: b\r\n"], "slow"),
        (ConnectionLimits(pause=0.5), [HEAD + b"Content-Length: 99\r\n\r\n", b"{"], "disconnected"),
        (
            ConnectionLimits(pause=1e6, body=0.5),
            [HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"],
            "disconnected",
        ),
    ],
)
def test_slow_senders_are_disconnected(tmp_path, limits, sent, reason):
    """Without an answer, so that they try again; others are answered meanwhile."""
    with Listening(tmp_path / "t", limits) as listening:
        slow = [listening.connect() for _ in range(20)]
        for part in sent:
            for sender in slow:
                sender.sendall(part)
        assert listening.answer() == "HTTP/1.1 200 OK"
        for sender in slow:
            assert read_answer(sender) == [""]
        wait_until(lambda: listening.intake.stats().requests_refused == {reason: 20})
        assert listening.intake.stats().requests == 1
        assert listening.intake._in_flight == 0


def test_idle_connections_are_closed_after_a_time(tmp_path):
    """Also those that have had requests."""
    with Listening(tmp_path / "t", ConnectionLimits(idle=0.5)) as listening:
        fresh, used = listening.connect(), listening.connect()
        used.sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")
        assert read_answer(used)[0] == "HTTP/1.1 200 OK"
        assert read_answer(fresh) == [""]
        assert read_answer(used) == [""]
        assert listening.intake.stats().requests_refused == {}


def test_too_many_connections(tmp_path):
    """A new one takes the place of the one that is idle for longest; none is closed in a request."""
    with Listening(tmp_path / "t", ConnectionLimits(3, 1e6, 1e6, 1e6, 1e6)) as listening:
        busy = listening.connect(HEAD + b"Content-Length: 2\r\n\r\n{")
        idle = [listening.connect() for _ in range(2)]
        wait_until(lambda: len(listening.listener._server._connections._idle) == 2)
        assert listening.answer() == "HTTP/1.1 200 OK"
        assert read_answer(idle[0]) == [""]
        busy.sendall(b"}")
        assert read_answer(busy)[0] == "HTTP/1.1 200 OK"
        idle[1].sendall(HEAD + b"Content-Length: 2\r\n\r\n{}")
        assert read_answer(idle[1])[0] == "HTTP/1.1 200 OK"


def test_too_much_at_once(tmp_path):
    """Requests are refused for a moment once those that are received take too much memory."""
    limits = IntakeLimits(100_000, 100_000)
    with Listening(tmp_path / "t", intake_limits=limits) as listening:
        large = listening.connect(HEAD + b"Content-Length: 99000\r\n\r\n" + b" " * 98_000)
        wait_until(lambda: listening.intake._in_flight == 98_000)
        body = b" " * 5_000
        small = listening.connect(HEAD + b"Content-Length: 5000\r\n\r\n" + body)
        answer = read_answer(small)
        assert answer[0] == "HTTP/1.1 503 Service Unavailable"
        assert "retry-after: 1" in answer
        large.sendall(b" " * 998 + b"{}")
        assert read_answer(large)[0] == "HTTP/1.1 200 OK"
        assert listening.intake._in_flight == 0
        assert listening.answer() == "HTTP/1.1 200 OK"
        assert listening.intake.stats().requests_refused == {"in_flight": 1}


@pytest.mark.parametrize(("encoding", "compress"), [(b"identity", bytes), (b"gzip", gzip.compress)])
def test_others_are_answered_while_a_large_body_is_decoded(tmp_path, encoding, compress):
    """It is decoded on another thread, also if it was small before it was decompressed."""
    with Listening(tmp_path / "t") as listening:
        decoding, go_on = threading.Event(), threading.Event()
        receive = listening.intake.receive

        def wait(signal, body, format):
            if len(body) > 1_000_000:
                decoding.set()
                assert go_on.wait(DEADLINE)
            return receive(signal, body, format)

        listening.intake.receive = wait
        body = compress(b" " * 2_000_000 + b"{}")
        head = HEAD + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n"
        large = listening.connect(head % (encoding, len(body)) + body)
        assert decoding.wait(DEADLINE)
        assert listening.answer() == "HTTP/1.1 200 OK"
        go_on.set()
        assert read_answer(large)[0] == "HTTP/1.1 200 OK"


def test_a_stop_answers_what_was_received(tmp_path, opened):
    """A request that is half received may be finished; idle connections are closed, new ones refused."""
    listening = opened(Listening(tmp_path / "t"))
    body = traces(span(7)).encode()
    half = listening.connect(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body[:9])
    idle = listening.connect()
    wait_until(lambda: listening.intake._in_flight == 9)
    stopped = []
    stopping = threading.Thread(target=lambda: stopped.append(listening.server.stop(DEADLINE)))
    stopping.start()
    assert read_answer(idle) == [""]
    with pytest.raises(OSError):
        listening.connect()
    half.sendall(body[9:])
    assert read_answer(half)[0] == "HTTP/1.1 200 OK"
    stopping.join(DEADLINE)
    assert stopped == [True]
    assert span_names(tmp_path / "t") == ["span-7"]


def test_a_stop_that_is_hurried(tmp_path, opened):
    """It waits for no sender; the sender is told to try again, or disconnected."""
    listening = opened(Listening(tmp_path / "t"))
    half = listening.connect(HEAD + b"Content-Length: 99\r\n\r\n{")
    wait_until(lambda: listening.intake._in_flight == 1)
    stopped = []
    stopping = threading.Thread(target=lambda: stopped.append(listening.server.stop(1e3)))
    stopping.start()
    listening.server.hurry()
    stopping.join(DEADLINE)
    assert not stopping.is_alive()
    assert read_answer(half)[0] in ("", "HTTP/1.1 503 Service Unavailable")


def test_a_stop_has_a_deadline(tmp_path, opened):
    """A sender that never ends does not hold it up for ever."""
    listening = opened(Listening(tmp_path / "t"))
    half = listening.connect(HEAD + b"Content-Length: 99\r\n\r\n{")
    wait_until(lambda: listening.intake._in_flight == 1)
    assert not listening.server.stop(2.0)
    assert read_answer(half)[0] in ("", "HTTP/1.1 503 Service Unavailable")


def test_an_error_of_ours_is_no_500(tmp_path, capfd):
    """It is a 503, counted, and said once."""
    with Listening(tmp_path / "t") as listening:

        def fail(*_):
            raise RuntimeError("a bug")

        listening.intake.receive = fail
        for _ in range(2):
            assert listening.answer() == "HTTP/1.1 503 Service Unavailable"
        assert listening.intake.stats().requests_refused == {"error": 2}
        assert capfd.readouterr().err.count("RuntimeError: a bug") == 1
        del listening.intake.receive
        assert listening.answer() == "HTTP/1.1 200 OK"
        assert listening.intake.stats().records == {Signal.TRACES: 1}
