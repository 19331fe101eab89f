"""An HTTP server on a thread of its own: uvicorn, with bounds on connections and on slow senders."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ssl import SSLContext
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from rimp_otel.process import Reporter, describe_error

__all__ = ["ConnectionLimits", "HttpServer"]

_MAX_START = 30.0


@dataclass(frozen=True)
class ConnectionLimits:
    """Bounds of what one connection may take, and of how many there may be.

    Args:
        connections: at the same time; past it the one that is idle for longest is closed, and a new
            one if none is idle.
        idle: seconds that a connection may be open without a request.
        head: seconds from the first byte of a request to the end of its headers.
        pause: seconds between two parts of a body.
        body: seconds for a whole body.
    """

    connections: int = 16_384
    idle: float = 130.0
    head: float = 20.0
    pause: float = 30.0
    body: float = 300.0


class Connections:
    """The connections of a server, by what they are waited for; looked after once a second.

    Args:
        limits: bounds.
        on_timeout: called for each request whose headers are given up because they are slow.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        limits: ConnectionLimits,
        on_timeout: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._on_timeout = on_timeout
        self.clock = clock
        self._number = 0
        # The oldest first, with the times since when.
        self._idle: dict[BoundedConnection, float] = {}
        self._heads: dict[BoundedConnection, float] = {}
        self._bodies: dict[BoundedConnection, tuple[float, float]] = {}

    def add(self, connection: BoundedConnection) -> None:
        """Note a new connection, which waits for its first request."""
        self._number += 1
        self._idle[connection] = self.clock()
        if self._number > self._limits.connections:
            oldest = next(iter(self._idle))
            del self._idle[oldest]
            oldest.transport.abort()

    def remove(self, connection: BoundedConnection) -> None:
        """Note that a connection is closed."""
        self._number -= 1
        self._forget(connection)

    def _forget(self, connection: BoundedConnection) -> None:
        self._idle.pop(connection, None)
        self._heads.pop(connection, None)
        self._bodies.pop(connection, None)

    def note(self, connection: BoundedConnection, state: Any, has_response: bool) -> None:
        """Note that a connection has received something, or that a response was sent.

        Args:
            connection: the connection.
            state: the sender's, as h11 has it.
            has_response: True after a response.
        """
        now = self.clock()
        if state is h11.SEND_BODY:
            self._idle.pop(connection, None)
            self._heads.pop(connection, None)
            began = self._bodies.get(connection, (now, now))[0]
            self._bodies[connection] = began, now
        elif state is h11.IDLE:
            self._bodies.pop(connection, None)
            if has_response:
                self._idle[connection] = now
            else:
                self._idle.pop(connection, None)
                self._heads.setdefault(connection, now)
        else:
            self._forget(connection)

    def close_slow(self) -> None:
        """Close the connections that are waited for since too long ago."""
        now, limits = self.clock(), self._limits
        idle = [found for found, since in self._idle.items() if now - since > limits.idle]
        for connection in idle:
            connection.transport.close()
        heads = [found for found, since in self._heads.items() if now - since > limits.head]
        bodies = [
            found
            for found, (began, last) in self._bodies.items()
            if now - last > limits.pause or now - began > limits.body
        ]
        for _ in heads:
            self._on_timeout()  # of a body, the application is told that the sender has gone
        for connection in heads + bodies:
            # Without an answer, so that the sender tries again: 408 would be final.
            self._forget(connection)
            connection.transport.abort()


class BoundedConnection(H11Protocol):
    """A connection that is given up if its sender is too slow."""

    known: Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note a connection."""
        super().connection_made(transport)
        self.known.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self.known.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what the sender has sent."""
        super().data_received(data)
        self.known.note(self, self.conn.their_state, False)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self.known.note(self, self.conn.their_state, True)


class HttpServer:
    """Serves an ASGI application over sockets that listen already. ``start`` and ``stop`` it once.

    Args:
        application: what answers.
        sockets: to accept connections from; closed by ``stop``.
        context: for TLS; None for none.
        limits: bounds of connections.
        on_timeout: called for each request whose headers are given up because they are slow.
    """

    def __init__(
        self,
        application: ASGIApp,
        sockets: Sequence[socket.socket],
        context: SSLContext | None = None,
        limits: ConnectionLimits | None = None,
        on_timeout: Callable[[], object] = lambda: None,
    ) -> None:
        limits = limits or ConnectionLimits()
        self._connections = Connections(limits, on_timeout)
        protocol = type("Connection", (BoundedConnection,), {"known": self._connections})
        config = uvicorn.Config(
            application,
            http=protocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            # It has a logger that is not ours; what matters is counted, or said by the application.
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            # Ours looks after idle connections.
            timeout_keep_alive=int(limits.idle) * 2,
        )
        config.load()
        config.ssl = context
        self._sockets = list(sockets)
        self._reporter = Reporter()
        self._server = _Server(config, self._connections, self._handle_loop_error)
        self._thread = threading.Thread(target=self._run, name="rimp-http", daemon=True)

    def start(self) -> None:
        """Start the thread; return once connections are accepted.

        Raises:
            RuntimeError: the server does not start.
        """
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
            logging.getLogger(name).disabled = True
        self._thread.start()
        if not self._server.is_ready.wait(_MAX_START) or not self._thread.is_alive():
            raise RuntimeError("the HTTP server does not start")

    def stop(self, timeout: float) -> bool:
        """Accept nothing more, answer what was received, and end the thread.

        Returns:
            False if that takes longer than ``timeout`` seconds.
        """
        # Of whole seconds.
        patience = self._server.config.timeout_graceful_shutdown = max(int(timeout), 1)
        start = time.monotonic()
        self._server.should_exit = True
        self._thread.join(patience + 1.0)
        return not self._thread.is_alive() and time.monotonic() - start < patience

    def hurry(self) -> None:
        """Have a ``stop`` that runs wait for no connection any more. Safe from a signal handler."""
        self._server.hurry()

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=self._sockets))
        except BaseException as error:
            self._reporter.warn("http", f"the HTTP server has failed: {describe_error(error)}")
        finally:
            self._server.is_ready.set()

    def _handle_loop_error(self, _loop: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        what = describe_error(error) if error is not None else str(context.get("message"))
        if isinstance(error, OSError) or error is None:
            # Such as connections that are reset, or no descriptor for another one.
            self._reporter.warn("loop", f"the HTTP server meets: {what}")
        else:
            self._reporter.warn(f"loop {type(error)}", f"the HTTP server has an error: {what}")


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        connections: Connections,
        on_error: Callable[[Any, dict[str, Any]], None],
    ) -> None:
        super().__init__(config)
        self._connections = connections
        self._on_error = on_error
        self.is_ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def hurry(self) -> None:
        self.force_exit = True
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(self._abort_connections)
            except RuntimeError:  # it has ended
                pass

    def _abort_connections(self) -> None:
        # From Python 3.12 on, their end is waited for whatever is forced.
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._on_error)
        await super().startup(sockets)
        self.is_ready.set()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            self._connections.close_slow()
        return await super().on_tick(counter)
