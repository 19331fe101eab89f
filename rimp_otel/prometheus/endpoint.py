"""The route ``/metrics`` for a server.

Needs the extra ``server``.
"""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from rimp_otel.errors import StorageError
from rimp_otel.prometheus.recording_metrics import RecordingMetrics

__all__ = ["metrics_route"]

_RETRY_AFTER = "5"


def metrics_route(metrics: RecordingMetrics) -> BaseRoute:
    """Return the route of the page ``/metrics``."""

    async def answer(request: Request) -> Response:
        accept = ",".join(request.headers.getlist("accept"))
        try:
            page = await run_in_threadpool(metrics.write_page, accept)
        except StorageError as error:
            return PlainTextResponse(str(error), 503, {"Retry-After": _RETRY_AFTER})
        headers = {"Content-Type": page.content_type, "Vary": "Accept"}
        return Response(page.body, media_type=None, headers=headers)

    return Route("/metrics", answer, methods=["GET"])
