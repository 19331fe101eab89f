"""All that a recording shows over HTTP, composed in one place, and a server of that alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from starlette.routing import BaseRoute

from rimp_otel.prometheus.endpoint import MetricsEndpoint
from rimp_otel.prometheus.recording_metrics import RecordingMetrics
from rimp_otel.storage.recording import open_recording
from rimp_otel.transport.receiving.address import ListenAddress, open_sockets
from rimp_otel.transport.receiving.http_server import ConnectionLimits, HttpServer
from rimp_otel.transport.receiving.security import ServerSecurity
from rimp_otel.transport.receiving.server import connection_limit, make_application
from rimp_otel.viewer.api import PageApi
from rimp_otel.viewer.jaeger.v1 import JaegerQueries, jaeger_routes
from rimp_otel.viewer.jaeger.v3 import JaegerV3Queries, jaeger_v3_routes
from rimp_otel.viewer.live import LiveChanges
from rimp_otel.viewer.page_files import PageFiles
from rimp_otel.viewer.questions import Questions
from rimp_otel.viewer.tempo.queries import TempoQueries, tempo_routes

__all__ = ["Viewer", "ViewerServer"]

_MAX_CONNECTIONS = 1_000


class Viewer:
    """The page, what it asks, and the query APIs of other tools, over one recording. Changes nothing.

    Args:
        path: of the recording, which need not exist yet.
        timeout: seconds for an answer.
        gauges: how gauges of several processes become one in /metrics; by name, or by "*".
        keeps_metrics: True to note beside the recording what the counters of /metrics are.

    Raises:
        NoRecordingError: the path is that of another file.
    """

    def __init__(
        self,
        path: Path,
        timeout: float = 30.0,
        gauges: Mapping[str, str] | None = None,
        keeps_metrics: bool = False,
    ) -> None:
        open_recording(path, must_exist=False)
        self._questions = Questions(timeout=timeout)
        self._live = LiveChanges(path)
        self._page = PageFiles()
        self._api = PageApi(path, self._questions, self._live)
        self._metrics = MetricsEndpoint(
            RecordingMetrics(path, gauges=gauges, keeps_state=keeps_metrics)
        )
        self._routes = [
            *self._page.routes(),
            *self._api.routes(),
            *jaeger_v3_routes(JaegerV3Queries(path), self._questions),
            *jaeger_routes(JaegerQueries(path), self._questions),
            *tempo_routes(TempoQueries(path, self._api.sql), self._questions),
            self._metrics.route(),
        ]

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """The routes, which need the extra ``server``."""
        return self._routes

    @property
    def open_paths(self) -> frozenset[str]:
        """The files of the page, which say nothing of the recording."""
        return self._page.paths | {"/"}

    @property
    def running(self) -> int:
        """How many answers are being made."""
        return self._questions.running

    def close(self) -> None:
        """End all answers that are being made. Thread-safe."""
        self._live.close()
        self._questions.close()
        self._api.close()
        self._metrics.close()


class ViewerServer:
    """Serves a viewer, and receives nothing. ``start`` and ``stop`` it once.

    Args:
        viewer: what is served.
        address: to listen at.
        security: who may ask.
    """

    def __init__(self, viewer: Viewer, address: ListenAddress, security: ServerSecurity) -> None:
        self._viewer = viewer
        self._address = address
        self._context = security.make_current_ssl_context()
        hint = "the page is at /"
        self._application = make_application(
            security, viewer.routes, hint, open_paths=viewer.open_paths
        )
        self._server: HttpServer | None = None

    def start(self) -> ListenAddress:
        """Listen; return the address with the port that was taken.

        Raises:
            OSError: the address is taken, or there is none such.
        """
        sockets = open_sockets(self._address)
        limits = ConnectionLimits(connections=min(_MAX_CONNECTIONS, connection_limit()))
        self._server = HttpServer(self._application, sockets, self._context, limits)
        port = sockets[0].getsockname()[1]
        self._server.start()
        return self._address.with_port(port)

    def stop(self, timeout: float) -> bool:
        """End all answers, and stop; return False if that takes longer than ``timeout`` seconds."""
        self._viewer.close()
        return self._server is None or self._server.stop(timeout)

    def hurry(self) -> None:
        """Have a ``stop`` that runs wait for nobody any more. Safe from a signal handler."""
        if self._server is not None:
            self._server.hurry()
