"""The server of ``rimp serve``: one intake, one ASGI application, and the receivers over them."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING, Protocol

from rimp_otel.errors import MissingExtraError
from rimp_otel.models.records import Signal
from rimp_otel.process import importing
from rimp_otel.transport.receiving.address import ListenAddress, listen_error, open_sockets
from rimp_otel.transport.receiving.intake import Intake
from rimp_otel.transport.receiving.security import ServerSecurity

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

    from rimp_otel.transport.receiving.http_server import ConnectionLimits

__all__ = [
    "HttpListener",
    "Receiver",
    "Shown",
    "TelemetryServer",
    "connection_limit",
    "make_application",
]

# Descriptors that connections may not have: of the recording's files.
_OTHER_DESCRIPTORS = 256
# One over the part of the time for a stop that the senders get, before the storage.
_ANSWERING_PART = 2


class Receiver(Protocol):
    """Something that listens at an address, and gives an intake what it receives."""

    def start(self) -> ListenAddress:
        """Listen; return the address with the port that was taken.

        Raises:
            OSError: the address is taken, or there is none such.
        """

    def stop(self, timeout: float) -> bool:
        """Accept nothing more, answer what was received; return False if that takes longer than
        ``timeout`` seconds."""


def make_application(
    security: ServerSecurity,
    routes: Sequence[BaseRoute],
    hint: str,
    count_refused: Callable[[str], object] = lambda reason: None,
    open_paths: Container[str] = (),
) -> ASGIApp:
    """Return the ASGI application with all routes, guarded as ``security`` says.

    Args:
        security: who may come in.
        routes: of OTLP/HTTP, and of whatever else the server shows.
        hint: what there is, for who asks for what is not there.
        count_refused: called with a word for why a request is not let in.
        open_paths: those that are read without a token.
    """
    with importing():
        from starlette.routing import Router

        from rimp_otel.transport.receiving.http_answers import answer_not_found
        from rimp_otel.transport.receiving.http_guard import HttpGuard

    default = answer_not_found(count_refused, hint)
    router = Router(routes=list(routes), redirect_slashes=False, default=default)
    return HttpGuard(router, security, count_refused, open_paths)


class Shown(Protocol):
    """Something that a server shows besides what it receives."""

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """The routes."""

    @property
    def open_paths(self) -> Container[str]:
        """The paths that are read without a token."""

    def close(self) -> None:
        """End all answers that are being made."""


class HttpListener:
    """Receives OTLP/HTTP, and serves every other route of the application.

    Args:
        intake: takes the records.
        address: to listen at.
        security: who may send.
        shown: the viewer, queries, metrics: what is no part of OTLP.
        limits: bounds of connections.

    Raises:
        MissingExtraError: the extra ``server`` is not installed.
        ConfigurationError: the files for TLS cannot be used.
    """

    def __init__(
        self,
        intake: Intake,
        address: ListenAddress,
        security: ServerSecurity,
        shown: Shown | None = None,
        limits: ConnectionLimits | None = None,
    ) -> None:
        try:
            with importing():
                from rimp_otel.transport.receiving.http_receiver import HttpReceiver
                from rimp_otel.transport.receiving.http_server import ConnectionLimits, HttpServer
        except ImportError as error:
            name = (error.name or "").partition(".")[0]
            raise MissingExtraError(
                "Starlette" if name == "starlette" else "uvicorn", "server"
            ) from error
        self._intake = intake
        self._address = address
        self._context = security.make_current_ssl_context()
        self._receiver = HttpReceiver(intake)
        self._shown = shown
        known = ", ".join(f"/v1/{signal.value}" for signal in Signal)
        self._application = make_application(
            security,
            [*self._receiver.routes, *(shown.routes if shown else ())],
            f"OTLP is received at {known}",
            intake.count_refused,
            shown.open_paths if shown else (),
        )
        self._limits = limits or ConnectionLimits(connections=connection_limit())
        self._make_server = HttpServer
        self._server: HttpServer | None = None

    def start(self) -> ListenAddress:
        """Listen; return the address with the port that was taken."""
        sockets = open_sockets(self._address)
        self._receiver.start()
        self._server = self._make_server(
            self._application,
            sockets,
            self._context,
            self._limits,
            on_timeout=lambda: self._intake.count_refused("slow"),
        )
        port = 0 if self._address.path else sockets[0].getsockname()[1]
        self._server.start()
        return self._address.with_port(port)

    def stop(self, timeout: float) -> bool:
        """Accept nothing more, answer what was received."""
        if self._server is None:
            return True
        if self._address.path:
            with contextlib.suppress(OSError):
                os.unlink(self._address.path)
        if self._shown is not None:
            self._shown.close()
        is_done = self._server.stop(timeout)
        self._receiver.stop()
        return is_done

    def hurry(self) -> None:
        """Have a ``stop`` that runs wait for no sender any more."""
        if self._server is not None:
            self._server.hurry()


class TelemetryServer:
    """An intake and its receivers, started and stopped together.

    Args:
        intake: takes what they receive.
        receivers: by the option that has their address, for messages.
    """

    def __init__(
        self,
        intake: Intake,
        receivers: dict[str, tuple[ListenAddress, Receiver]],
    ) -> None:
        self._intake = intake
        self._receivers = receivers
        self._started: list[Receiver] = []
        self._is_hurried = False
        #: The real addresses, by the options.
        self.addresses: dict[str, ListenAddress] = {}

    def start(self) -> None:
        """Start all of them.

        Raises:
            RimpError: a receiver cannot listen at its address; none does then.
        """
        raise_descriptor_limit()
        self._intake.start()
        try:
            for option, (address, receiver) in self._receivers.items():
                try:
                    self.addresses[option] = receiver.start()
                except OSError as error:
                    raise listen_error(address, option, error) from None
                self._started.append(receiver)
        except BaseException:
            self.stop(1.0)
            raise

    def stop(self, timeout: float) -> bool:
        """Answer what was taken in, store it, and stop.

        Returns:
            False if that takes longer than ``timeout`` seconds. What is not stored by then is in the
            journal.
        """
        deadline = time.monotonic() + timeout
        is_done = True
        for receiver in self._started:
            left = max(deadline - time.monotonic(), 0.0)
            is_done &= receiver.stop(0.0 if self._is_hurried else left / _ANSWERING_PART)
        self._started.clear()
        left = max(deadline - time.monotonic(), 0.1)
        return self._intake.stop(min(left, 1.0) if self._is_hurried else left) and is_done

    def hurry(self) -> None:
        """Have a ``stop`` that runs wait for no sender any more. Safe from a signal handler."""
        self._is_hurried = True
        for receiver in self._started:
            hurry: Callable[[], object] | None = getattr(receiver, "hurry", None)
            if hurry is not None:
                hurry()


def raise_descriptor_limit() -> None:
    """Allow this process as many open files as it may allow itself: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            pass  # of macOS, where the hard limit may be more than the system allows


def connection_limit() -> int:
    """Return how many connections there may be, so that the recording's files can still be opened."""
    raise_descriptor_limit()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 16_384
    return most if soft == resource.RLIM_INFINITY else max(min(most, soft - _OTHER_DESCRIPTORS), 16)
