"""HTTP servers that do what a test says with each connection, on real sockets of this machine."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

__all__ = ["Request", "Sink", "answer", "read_request", "run_sink"]

Behaviour = Callable[["Sink", socket.socket], None]


class Request(NamedTuple):
    """A request as it came."""

    line: str
    headers: dict[str, str]
    #: Decompressed.
    body: bytes

    @property
    def path(self) -> str:
        return self.line.split()[1]


class Sink:
    """A server that keeps what it is sent.

    Args:
        behaviours: of the first connections, one after another; the last one is that of all others.
        context: for TLS.
        listener: where it listens; None for a free port of this machine.
    """

    def __init__(
        self,
        behaviours: Sequence[Behaviour],
        context: ssl.SSLContext | None,
        listener: socket.socket | None,
    ) -> None:
        self._behaviours, self._context = behaviours, context
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[Request] = []
        self.connections = 0
        #: Set when the test ends, for behaviours that wait.
        self.ending = threading.Event()

    @property
    def url(self) -> str:
        return f"otlp+http{'' if self._context is None else 's'}://127.0.0.1:{self.port}"

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            behaviour = self._behaviours[min(self.connections, len(self._behaviours) - 1)]
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._behave, args=(behaviour, connection))
            self._threads.append(thread)
            thread.start()

    def _behave(self, behaviour: Behaviour, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            if self._context is None:
                behaviour(self, connection)
                return
            with self._context.wrap_socket(connection, server_side=True) as wrapped:
                self._open.append(wrapped)
                behaviour(self, wrapped)

    def stop(self) -> None:
        self.ending.set()
        for opened in (self._listener, *self._open):
            with suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


@contextmanager
def run_sink(
    *behaviours: Behaviour,
    context: ssl.SSLContext | None = None,
    listener: socket.socket | None = None,
) -> Iterator[Sink]:
    """Run a server during the block."""
    sink = Sink(behaviours or (answer(),), context, listener)
    thread = threading.Thread(target=sink.serve)
    thread.start()
    try:
        yield sink
    finally:
        sink.stop()
        thread.join(10)
        assert not thread.is_alive()


def read_request(sink: Sink, connection: socket.socket) -> Request | None:
    """Read and keep a request; None if the client has closed the connection."""
    stream = connection.makefile("rb")
    line = stream.readline()
    if not line:
        return None
    headers: dict[str, str] = {}
    while (text := stream.readline().strip()) != b"":
        name, _, value = text.partition(b":")
        headers[name.decode("utf-8", "replace").lower()] = value.strip().decode("utf-8", "replace")
    body = stream.read(int(headers.get("content-length", 0)))
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    request = Request(line.decode("utf-8", "replace").strip(), headers, body)
    sink.requests.append(request)
    return request


def answer(
    status: int = 200,
    body: bytes = b"",
    headers: str = "Content-Type: application/x-protobuf",
    times: int | None = None,
) -> Behaviour:
    """Answer each request so, and hang up after the given times."""

    def behave(sink: Sink, connection: socket.socket) -> None:
        left = times
        while left is None or left > 0:
            if read_request(sink, connection) is None:
                return
            head = f"HTTP/1.1 {status} Word\r\n{headers}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            left = None if left is None else left - 1

    return behave


def send_raw(*parts: bytes) -> Behaviour:
    """Answer the first request with these bytes, and hang up."""

    def behave(sink: Sink, connection: socket.socket) -> None:
        read_request(sink, connection)
        for part in parts:
            connection.sendall(part)

    return behave
