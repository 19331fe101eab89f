"""A connection of HTTP/1.1 that is kept open, with one deadline for each whole exchange.

The deadline covers connecting, sending and receiving together, however slowly single bytes come. Only
the system's resolution of names has time-outs of its own.
"""

from __future__ import annotations

import http.client
import math
import os
import select
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from email.message import Message
from typing import Any, NamedTuple

__all__ = ["MAX_ANSWER_SIZE", "HttpAnswer", "HttpConnection"]

MAX_ANSWER_SIZE = 4 * 1024 * 1024
"""The most bytes of an answer that are read, compressed or not, as the specification recommends."""

Clock = Callable[[], float]


class HttpAnswer(NamedTuple):
    """An answer, read to its end."""

    status: int
    headers: Message
    #: Not compressed any more; empty if it could not be decompressed.
    body: bytes
    #: True if the body has more than ``MAX_ANSWER_SIZE`` bytes; it is cut off then.
    is_too_large: bool = False

    @property
    def content_type(self) -> str:
        """The media type without its parameters, in lower case; empty if there is none."""
        return str(self.headers.get("Content-Type", "")).partition(";")[0].strip().lower()


# Sockets that know a deadline. `makefile`, through which http.client reads, calls their `recv_into`.


class _DeadlineMixin:
    deadline = math.inf
    clock: Clock = staticmethod(time.monotonic)

    def apply_deadline(self: Any) -> float:
        """Have the next call take no longer than what is left, and return that in seconds.

        Raises:
            TimeoutError: nothing is left.
        """
        left = self.deadline - self.clock()
        if left <= 0:
            raise TimeoutError("timed out")
        self.settimeout(None if left == math.inf else left)
        return float(left)

    def recv_into(self, *arguments: Any) -> Any:
        self.apply_deadline()
        return super().recv_into(*arguments)  # type: ignore[misc]

    def send(self, *arguments: Any) -> Any:
        self.apply_deadline()
        return super().send(*arguments)  # type: ignore[misc]

    def sendall(self, *arguments: Any) -> Any:
        # Of a plain socket the time-out is that of the whole call; that of TLS calls `send`.
        self.apply_deadline()
        return super().sendall(*arguments)  # type: ignore[misc]


class _EarlyAnswerError(BrokenPipeError):
    """The server answers before it has read the whole request."""


_CHUNK = 256 * 1024


class _PlainSocket(_DeadlineMixin, socket.socket):
    def sendall(self, data: Any, *flags: Any) -> None:
        """Send everything, unless the server answers before: it does not want the rest then.

        Raises:
            _EarlyAnswerError: it does.
        """
        view = memoryview(data).cast("B")
        if len(view) <= _CHUNK:
            super().sendall(view, *flags)
            return
        poll = select.poll()
        poll.register(self, select.POLLIN | select.POLLOUT)
        while view:
            left = self.apply_deadline()
            for _, events in poll.poll(None if left == math.inf else left * 1_000):
                if events & ~select.POLLOUT:
                    raise _EarlyAnswerError
                view = view[self.send(view[:_CHUNK], *flags) :]


class _TlsSocket(_DeadlineMixin, ssl.SSLSocket):
    pass


class _Connection(http.client.HTTPConnection):
    # Some programs set it for the whole process, and headers would be printed.
    debuglevel = 0

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None, clock: Clock) -> None:
        super().__init__(host, port)
        if context is not None:
            self.default_port = 443  # which the header Host leaves out
        self._context = context
        self._clock = clock
        self._deadline = math.inf

    def set_deadline(self, deadline: float) -> None:
        """Have all that follows end by then, on the connection's clock."""
        self._deadline = deadline
        if self.sock is not None:
            sock: Any = self.sock
            sock.deadline = deadline

    def connect(self) -> None:
        """Connect, to the first of the host's addresses that answers."""
        addresses = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        error: OSError = OSError(f"{self.host} has no address")
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            try:
                self._connect_to(family, kind, protocol, address, len(addresses) - tried)
                return
            except OSError as failed:
                self.close()
                error = failed
        try:
            raise error
        finally:
            del error  # a frame that holds its own exception keeps all its callers' objects

    def _connect_to(self, family: int, kind: int, protocol: int, address: Any, left: int) -> None:
        sock = _PlainSocket(family, kind, protocol)
        try:
            sock.clock = self._clock
            # A share of the time, so that the last address is tried too.
            sock.deadline = self._deadline
            if left > 1:
                now = self._clock()
                sock.deadline = now + (self._deadline - now) / left
            sock.apply_deadline()
            sock.connect(address)
            sock.deadline = self._deadline
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = sock if self._context is None else self._wrap(sock, self._context)
        except BaseException:
            sock.close()
            raise

    def _wrap(self, sock: _PlainSocket, context: ssl.SSLContext) -> _TlsSocket:
        wrapped: Any = context.wrap_socket(
            sock, server_hostname=self.host, do_handshake_on_connect=False
        )
        try:
            wrapped.clock, wrapped.deadline = self._clock, self._deadline
            wrapped.apply_deadline()
            wrapped.do_handshake()
        except BaseException:
            wrapped.close()
            raise
        found: _TlsSocket = wrapped
        return found


# Exchanges.

# What a server that has closed a kept connection meanwhile is noticed by.
_GONE = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


class HttpConnection:
    """A connection to one server, made when it is needed and again when it was closed.

    For one thread at a time; only ``close`` may be called by any.

    Args:
        host: a name or an IP address.
        port: of TCP.
        context: for TLS; None for none.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        if context is not None:
            context.sslsocket_class = _TlsSocket
        self._clock = clock
        self._connection = _Connection(host, port, context, clock)
        self._is_closed = False
        # True while the server waits for the rest of a request that it has answered already.
        self._is_spoiled = False
        self._process = os.getpid()

    def post(
        self, target: str, body: bytes, headers: Mapping[str, str | bytes], timeout: float
    ) -> HttpAnswer:
        """Post a body and return the answer.

        A kept connection that turns out to have been closed by the server is made anew at once,
        and the request is sent again.

        Args:
            target: the path, with the query.
            body: of the request.
            headers: of the request, but for the length.
            timeout: seconds for everything.

        Raises:
            OSError, http.client.HTTPException: there is no whole answer.
        """
        connection = self._connection
        if self._is_closed:
            raise OSError("the connection is closed")
        if self._process != os.getpid():  # after a fork, the parent goes on with its connection
            connection.close()
            self._process = os.getpid()
        connection.set_deadline(self._clock() + timeout)
        if self._is_stale():
            connection.close()
        is_kept = connection.sock is not None
        try:
            try:
                response = self._request(target, body, headers)
            except _GONE:
                connection.close()
                if not is_kept or self._is_closed:
                    raise
                response = self._request(target, body, headers)
            return self._read(response)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the connection. A request that waits for its answer fails at once."""
        self._is_closed = True
        sock = self._connection.sock
        if sock is not None:
            try:
                if self._process == os.getpid():
                    sock.shutdown(socket.SHUT_RDWR)  # which also wakes a thread that waits
            except OSError:
                pass
            self._connection.close()

    def _is_stale(self) -> bool:
        """Return True if the server has closed the connection, or sent what nobody asked for."""
        sock = self._connection.sock
        if sock is None or isinstance(sock, ssl.SSLSocket):  # TLS has messages of its own
            return False
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))

    def _request(
        self, target: str, body: bytes, headers: Mapping[str, str | bytes]
    ) -> http.client.HTTPResponse:
        connection = self._connection
        self._is_spoiled = False
        connection.putrequest("POST", target, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        try:
            connection.endheaders(body)
        except _GONE as error:
            # A server that does not want all of it says why, or has said so before it hung up.
            self._is_spoiled = True
            if connection.sock is None:
                raise
            try:
                return connection.getresponse()
            except ssl.SSLError as alert:
                raise (error if isinstance(alert, _GONE) else alert) from None
            except (OSError, http.client.HTTPException):
                pass
            raise
        return connection.getresponse()

    def _read(self, response: http.client.HTTPResponse) -> HttpAnswer:
        length = response.length
        too_large = length is not None and length > MAX_ANSWER_SIZE
        parts: list[bytes] = []
        size = 0
        while not too_large and (part := response.read(65_536)):
            parts.append(part)
            size += len(part)
            too_large = size > MAX_ANSWER_SIZE
        if too_large or self._is_spoiled:
            self._connection.close()
            response.close()
        if response.length and not too_large:
            raise http.client.IncompleteRead(b"", response.length)
        body = b"".join(parts)[:MAX_ANSWER_SIZE]
        if not too_large and "gzip" in str(response.headers.get("Content-Encoding", "")).lower():
            body, too_large = _unzip_answer(body)
        return HttpAnswer(response.status, response.headers, body, too_large)


def _unzip_answer(data: bytes) -> tuple[bytes, bool]:
    """Return what gzip has compressed, as far as it is allowed, and True if there is more."""
    try:
        body = zlib.decompressobj(31).decompress(data, MAX_ANSWER_SIZE + 1)
    except zlib.error:
        return b"", False
    return body[:MAX_ANSWER_SIZE], len(body) > MAX_ANSWER_SIZE
