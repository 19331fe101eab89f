"""The route ``/metrics`` for a server.

Needs the extra ``server``.
"""

from __future__ import annotations

import threading

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from rimp_otel.errors import StorageError
from rimp_otel.prometheus.recording_metrics import RecordingMetrics

__all__ = ["MetricsEndpoint"]

_RETRY_AFTER = "5"


class MetricsEndpoint:
    """The page ``/metrics``. While somebody asks for it, a thread reads the recording on.

    Args:
        metrics: what is asked for.
    """

    def __init__(self, metrics: RecordingMetrics) -> None:
        self._metrics = metrics
        self._stop = threading.Event()
        self._following = threading.Lock()

    def route(self) -> BaseRoute:
        """Return the route of the page."""
        return Route("/metrics", self._answer, methods=["GET"])

    def close(self) -> None:
        """End the thread, and note what was counted if that is to be kept. Thread-safe."""
        self._stop.set()
        self._metrics.save()

    async def _answer(self, request: Request) -> Response:
        accept = ",".join(request.headers.getlist("accept"))
        try:
            page = await run_in_threadpool(self._metrics.write_page, accept)
        except StorageError as error:
            return PlainTextResponse(str(error), 503, {"Retry-After": _RETRY_AFTER})
        if not self._following.locked():
            self._start()
        headers = {"Content-Type": page.content_type, "Vary": "Accept"}
        return Response(page.body, media_type=None, headers=headers)

    def _start(self) -> None:
        try:
            threading.Thread(target=self._follow, name="rimp-metrics", daemon=True).start()
        except RuntimeError:  # no more threads: the next page reads more
            pass

    def _follow(self) -> None:
        if not self._following.acquire(blocking=False):
            return
        try:
            while (pause := self._metrics.follow()) is not None and not self._stop.wait(pause):
                pass
        finally:
            self._following.release()
