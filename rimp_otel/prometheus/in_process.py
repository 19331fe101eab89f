"""The endpoint ``/metrics`` in the process that records: ``TelemetryConfig(prometheus_port=9464)``.

Of several processes that record into one path, such as a server's workers, one serves the metrics of all
of them: whoever holds a lock. The others look once a second whether it has ended. In a forked child
nothing goes on that the parent had begun.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from rimp_otel.errors import RimpError
from rimp_otel.fsutil import CREATE_FLAGS, lock_file, unlock_file
from rimp_otel.process import Reporter, call_in_forked_child, describe_error, importing
from rimp_otel.prometheus.recording_metrics import RecordingMetrics
from rimp_otel.storage.recording import layout_of
from rimp_otel.streaming.worker import QuietThread, suppress_instrumentation

__all__ = ["InProcessMetrics"]

# Seconds between two attempts to take the place of another process, or a port that is taken.
_PAUSE = 1.0
# Requests at the same time; others are turned away.
_MAX_REQUESTS = 8
# Seconds that a client may take to send its request, or to take the answer.
_MAX_WAIT = 10.0
_BACKLOG = 16
_LOCK = "lock"
_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


class InProcessMetrics:
    """Serves a recording's metrics, on threads of this process.

    Args:
        path: of the recording.
        port: to listen at; 0 for a free one.
        host: the name or the address to listen at.
        gauges: how gauges of several processes become one; see ``SeriesTable``.
        pause: seconds between two attempts to begin.
    """

    def __init__(
        self,
        path: Path,
        port: int,
        host: str = "localhost",
        gauges: Mapping[str, str] | None = None,
        pause: float = _PAUSE,
    ) -> None:
        # Absolute, so that a program may change its working directory.
        self._path = Path(os.path.abspath(path))
        self._port = port
        self._host = host
        self._gauges = gauges
        self._pause = pause
        self._begin()
        call_in_forked_child(self._forget_in_child)

    def _begin(self) -> None:
        self._thread: threading.Thread | None = None
        self._lock = -1
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._wake: tuple[socket.socket, socket.socket] | None = None
        self._stop = threading.Event()
        # What keeps this process from serving is said once, however long it stays true.
        self._reporter = Reporter(pause=float("inf"))
        #: The port that this process serves at; None while it does not.
        self.port: int | None = None

    def run(self) -> None:
        """Begin to serve, unless that was done. Waits for nothing, and raises nothing."""
        if self._thread is not None or self._stop.is_set():
            return
        thread = QuietThread(target=self._supervise, name="rimp-metrics", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter ends
            return
        self._thread = thread

    def stop(self, timeout: float) -> None:
        """End, so that another process may begin; wait for so many seconds at most."""
        self._stop.set()
        wake, thread = self._wake, self._thread
        if wake is not None:
            try:
                wake[1].send(b"\0")
            except OSError:  # it ends just now
                pass
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        self._stop, self._thread = threading.Event(), None

    def _forget_in_child(self) -> None:
        """Close what a forked child has inherited: else nobody could listen once its parent ends."""
        for inherited in (self._listener, *(self._wake or ()), *self._connections):
            if inherited is not None:
                inherited.close()
        if self._lock >= 0:
            os.close(self._lock)
        self._begin()

    # The thread.

    def _supervise(self) -> None:
        stop = self._stop
        suppress_instrumentation()
        while not stop.is_set():
            try:
                if self._take_lock():
                    self._serve(stop)
            except Exception as error:
                self._warn(describe_error(error))
            finally:
                self._release()
            stop.wait(self._pause)

    def _take_lock(self) -> bool:
        """Return True if no other process serves this recording."""
        directory = layout_of(self._path).prometheus
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (
            importing()
        ):  # which holds off forks: a child would keep a lock that it does not know of
            file = os.open(directory / _LOCK, CREATE_FLAGS, 0o600)
            if lock_file(file):
                self._lock = file
                return True
            os.close(file)
            return False

    def _release(self) -> None:
        listener, self._listener = self._listener, None
        wake, self._wake = self._wake, None
        file, self._lock, self.port = self._lock, -1, None
        for found in (listener, *(wake or ())):
            if found is not None:
                found.close()
        if file >= 0:
            unlock_file(file)
            os.close(file)

    def _serve(self, stop: threading.Event) -> None:
        try:
            address = _resolve(self._host, self._port)
            with importing():  # as above
                listener = self._listener = _listen(*address)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            where = f"{self._host}:{self._port}"
            self._warn(f"cannot listen at {where}: {reason}; it is tried again")
            return
        self._wake = socket.socketpair()
        self.port = listener.getsockname()[1]
        is_local = listener.getsockname()[0] in ("127.0.0.1", "::1")
        hosts = {*_LOCAL_NAMES, self._host.lower()} if is_local else None
        metrics = RecordingMetrics(self._path, gauges=self._gauges, keeps_state=True)
        try:
            self._accept(listener, metrics, hosts, stop)
        finally:
            metrics.save()

    def _accept(
        self,
        listener: socket.socket,
        metrics: RecordingMetrics,
        hosts: set[str] | None,
        stop: threading.Event,
    ) -> None:
        assert self._wake is not None
        requests = threading.BoundedSemaphore(_MAX_REQUESTS)
        poll = select.poll()  # which knows descriptors beyond 1,024
        for waited in (listener, self._wake[0]):
            poll.register(waited, select.POLLIN)
        while not stop.is_set():
            pause = metrics.follow()
            poll.poll(None if pause is None else pause * 1_000)
            if stop.is_set():
                return
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                continue
            except OSError as error:  # such as no descriptor for another one
                self._warn(describe_error(error))
                stop.wait(self._pause)
                continue
            self._answer_aside(connection, requests, metrics, hosts)

    def _answer_aside(
        self,
        connection: socket.socket,
        requests: threading.BoundedSemaphore,
        metrics: RecordingMetrics,
        hosts: set[str] | None,
    ) -> None:
        if not requests.acquire(blocking=False):
            connection.close()
            return
        self._connections.add(connection)

        def answer() -> None:
            suppress_instrumentation()
            try:
                connection.settimeout(_MAX_WAIT)
                _RequestHandler(connection, metrics, hosts)
            except OSError:
                pass  # the client has gone
            except Exception as error:
                self._warn(describe_error(error))
            finally:
                self._connections.discard(connection)
                connection.close()
                requests.release()

        try:
            QuietThread(target=answer, name="rimp-metrics-answer", daemon=True).start()
        except RuntimeError:  # no more threads, or the interpreter ends
            self._connections.discard(connection)
            connection.close()
            requests.release()

    def _warn(self, message: str) -> None:
        self._reporter.warn("metrics", f"no /metrics for Prometheus in this process: {message}")


def _resolve(host: str, port: int) -> tuple[int, Any]:
    """Return the family and the address to listen at: IPv4 if the host has both.

    Raises:
        OSError: there is no such host.
        OverflowError: there is no such port.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, address


def _listen(family: int, address: Any) -> socket.socket:
    """Return a socket that listens.

    Raises:
        OSError: the port is taken.
    """
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


class _RequestHandler(BaseHTTPRequestHandler):
    """Answers one request.

    Args:
        connection: to the client.
        metrics: what is asked for.
        hosts: names by which this server may be asked; None for any. Others are those of web pages
            whose names lead here.
    """

    timeout = _MAX_WAIT

    def __init__(
        self, connection: socket.socket, metrics: RecordingMetrics, hosts: set[str] | None
    ) -> None:
        self._metrics = metrics
        self._hosts = hosts
        super().__init__(connection, None, None)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer with the page."""
        host = self.headers.get("Host", "").lower()
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if self._hosts is not None and name.strip("[]") not in {*self._hosts, ""}:
            self._answer(403, "text/plain", f"the host {name!r} is not allowed\n".encode())
        elif self.path.partition("?")[0] != "/metrics":
            self._answer(404, "text/plain", b"the page is /metrics\n")
        else:
            try:
                page = self._metrics.write_page(",".join(self.headers.get_all("Accept", [])))
            except RimpError as error:
                self._answer(503, "text/plain", f"{error}\n".encode())
            else:
                self._answer(200, page.content_type, page.body)

    do_HEAD = do_GET

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the program's log is not ours."""
