"""Receives OTLP/gRPC with grpcio's server."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rimp_otel.errors import ConfigurationError
from rimp_otel.process import Reporter, describe_error
from rimp_otel.transport.grpc_wire import claim_grpc, import_grpc
from rimp_otel.transport.receiving.address import ListenAddress, open_sockets
from rimp_otel.transport.receiving.grpc_service import ExportService, IncomingCalls
from rimp_otel.transport.receiving.intake import Intake
from rimp_otel.transport.receiving.security import ServerSecurity
from rimp_otel.transport.receiving.server import connection_limit

__all__ = ["GrpcLimits", "GrpcReceiver"]

# Seconds: longer than anybody waits for a stop; between two looks; for answers to leave this process.
_LONG, _MOMENT, _FLUSHING = 3600.0, 0.02, 1.0


@dataclass(frozen=True)
class GrpcLimits:
    """Bounds of what senders may take of the server.

    Args:
        calls: received and answered at the same time, each on a thread; others wait.
        connections: at the same time; further ones are closed. None for as many as there may be
            open files, and 16,384 at most.
        receiving: seconds for a request to arrive, once its call has begun.
        hurried: the same while requests of all ``calls`` are waited for, and at a stop.
        connection_age: seconds after which a connection is closed between two calls, so that the
            sender looks for a server anew; None for never.

    Raises:
        ConfigurationError: a bound is not allowed.
    """

    calls: int = 32
    connections: int | None = None
    receiving: float = 60.0
    hurried: float = 3.0
    connection_age: float | None = None

    def __post_init__(self) -> None:
        for name in ("calls", "connections", "receiving", "hurried", "connection_age"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"{name} must be more than 0, got {value}")


class GrpcReceiver:
    """Receives OTLP/gRPC. ``start`` and ``stop`` it once.

    Args:
        intake: takes the records.
        address: to listen at.
        security: who may send; everybody by default.
        limits: bounds of calls and connections.

    Raises:
        MissingExtraError: the extra ``grpc`` is not installed.
        ConfigurationError: the files for TLS cannot be used.
    """

    def __init__(
        self,
        intake: Intake,
        address: ListenAddress,
        security: ServerSecurity | None = None,
        limits: GrpcLimits | None = None,
    ) -> None:
        self._grpc = import_grpc()
        self._intake = intake
        self._address = address
        security = security or ServerSecurity()
        self._limits = limits or GrpcLimits()
        self._credentials = _make_credentials(self._grpc, security)
        self._incoming = IncomingCalls(
            self._limits.calls, self._limits.receiving, self._limits.hurried
        )
        self._service = ExportService(self._grpc, intake, security, self._incoming)
        self._ended = threading.Event()
        self._threads: ThreadPoolExecutor | None = None
        self._server: Any = None
        self._is_hurried = False

    def start(self) -> ListenAddress:
        """Listen; return the address with the port that was taken.

        Raises:
            OSError: the address is taken, or there is none such.
        """
        claim_grpc()
        self._check_free()
        self._threads = ThreadPoolExecutor(self._limits.calls, thread_name_prefix="rimp-grpc")
        self._server = self._grpc.server(
            self._threads, handlers=[self._service], options=self._options()
        )
        try:
            port = self._bind()
        except BaseException:
            self._server.stop(0)
            raise
        self._server.start()
        threading.Thread(target=self._watch, name="rimp-grpc-watch", daemon=True).start()
        return self._address if self._address.path else self._address.with_port(port)

    def stop(self, timeout: float) -> bool:
        """Accept nothing more, answer what was received; return False if that takes longer than
        ``timeout`` seconds."""
        if self._server is None or self._threads is None:
            return True
        self._incoming.hurry()
        ended = self._server.stop(_LONG)
        is_done = self._wait_for_calls(ended, time.monotonic() + timeout)
        if not ended.is_set():
            self._server.stop(0).wait(1.0)
        self._ended.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        return is_done

    def _wait_for_calls(self, ended: threading.Event, deadline: float) -> bool:
        """Return True once all calls are answered, False at the deadline.

        ``ended`` waits for all connections to be closed as well, which senders that are gone do not do.
        """
        while not ended.wait(_MOMENT):
            left = deadline - time.monotonic()
            # Twice: a call may come with the last ones, while answers are on their way.
            if self._service.is_idle and (
                ended.wait(max(min(left, _FLUSHING), 0.0)) or self._service.is_idle
            ):
                return True
            if left <= 0 or self._is_hurried:
                return False
        return True

    def hurry(self) -> None:
        """Have a ``stop`` that runs wait for no sender any more. Safe from a signal handler."""
        self._is_hurried = True

    def _check_free(self) -> None:
        """Raise what the system says of the address, of which grpc tells nothing."""
        for listener in open_sockets(self._address):
            listener.close()
        if self._address.path:
            os.unlink(self._address.path)

    def _bind(self) -> int:
        address = str(self._address)
        umask = os.umask(0o177) if self._address.path else None
        try:
            if self._credentials is None:
                return int(self._server.add_insecure_port(address))
            return int(self._server.add_secure_port(address, self._credentials))
        except RuntimeError:
            raise OSError("grpc can't listen there") from None
        finally:
            if umask is not None:
                os.umask(umask)

    def _options(self) -> list[tuple[str, int]]:
        limits = self._limits
        options = [
            # Else a second process shares the port, and each gets some of the connections.
            ("grpc.so_reuseport", 0),
            # Of a compressed one before and after; decompressing ends where it is passed.
            ("grpc.max_receive_message_length", self._intake.limits.request_size),
            # Senders may ping as often as they like, and are not disconnected for it.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_ping_strikes", 0),
            # Those that are gone without a word are found out.
            ("grpc.keepalive_time_ms", 300_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.server_handshake_timeout_ms", 20_000),
            (
                "grpc.max_allowed_incoming_connections",
                limits.connections or connection_limit(),
            ),
            # Of one connection.
            ("grpc.max_concurrent_streams", 4 * limits.calls),
        ]
        if limits.connection_age is not None:
            options += [
                ("grpc.max_connection_age_ms", max(int(limits.connection_age * 1000), 1)),
                ("grpc.max_connection_age_grace_ms", int(limits.receiving * 1000) + 10_000),
            ]
        return options

    def _watch(self) -> None:
        pause = min(1.0, self._limits.receiving / 4, self._limits.hurried / 4)
        while not self._ended.wait(pause):
            self._incoming.cancel_slow()


# TLS.


def _make_credentials(grpc: Any, security: ServerSecurity) -> Any:
    """Return grpc's credentials, which follow the files; None without TLS."""
    if security.make_ssl_context() is None:
        return None
    files = _CertificateFiles(grpc, security)
    return grpc.dynamic_ssl_server_credentials(
        files.read(), files.read_if_changed, security.client_ca is not None
    )


class _CertificateFiles:
    """The files for TLS, read anew once they have changed, so that no restart is needed."""

    def __init__(self, grpc: Any, security: ServerSecurity) -> None:
        self._make: Callable[..., Any] = grpc.ssl_server_certificate_configuration
        self._security = security
        self._reporter = Reporter()
        self._paths = [
            path for path in (security.certificate, security.key, security.client_ca) if path
        ]
        self._stamps = self._read_stamps()

    def read(self) -> Any:
        certificate, key, *authorities = [path.read_bytes() for path in self._paths]
        return self._make([(key, certificate)], *authorities)

    def read_if_changed(self) -> Any:
        """Return what is used from now on; None for what is used already.

        grpc calls it for each new connection. Files that do not fit each other, as while they are
        being replaced, change nothing.
        """
        try:
            stamps = self._read_stamps()
            if stamps == self._stamps:
                return None
            self._security.make_ssl_context()
            found = self.read()
            self._stamps = stamps
            return found
        except Exception as error:
            self._reporter.warn(
                "tls", f"the files for TLS are not read anew: {describe_error(error)}"
            )
            return None

    def _read_stamps(self) -> list[tuple[int, int, int]]:
        stats = [os.stat(path) for path in self._paths]
        return [(found.st_mtime_ns, found.st_size, found.st_ino) for found in stats]
