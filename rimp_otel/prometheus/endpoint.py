"""The endpoint ``/metrics`` over a recording that is being written.

Needs the extra ``prometheus``; its route for a server, the extra ``server``.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from rimp_otel.errors import DecodeError, StorageError
from rimp_otel.models.records import Signal
from rimp_otel.process import Reporter
from rimp_otel.prometheus.exposition import Page, write_page
from rimp_otel.prometheus.names import TranslationStrategy
from rimp_otel.prometheus.series import SeriesTable
from rimp_otel.storage.base import Recording
from rimp_otel.storage.reading import count_line
from rimp_otel.storage.recording import open_recording

__all__ = ["RecordingMetrics", "metrics_route"]

_RETRY_AFTER = "5"


class RecordingMetrics:
    """The metrics of a recording, read further with each scrape. Thread-safe.

    The first scrape reads all metrics that there are, since what ended processes had counted belongs to
    the sums.

    Args:
        path: of the recording, which need not exist yet.
        strategy: how names are translated.
        gauges: how gauges of several processes become one; see ``SeriesTable``.
        stale_after: seconds without a point after which a series is left out.
        clock: returns nanoseconds since the epoch.
    """

    def __init__(
        self,
        path: Path,
        strategy: TranslationStrategy = TranslationStrategy.UNDERSCORES_WITH_SUFFIXES,
        gauges: Mapping[str, str] | None = None,
        stale_after: float = 300.0,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._recording: Recording = open_recording(path, must_exist=False, decode=count_line)
        self._table = SeriesTable(gauges, stale_after)
        self._strategy = strategy
        self._clock = clock
        self._lock = threading.Lock()
        self._reporter = Reporter()
        #: Series that the last page left out, by reason.
        self.dropped: Counter[str] = Counter()

    def write_page(self, accept: str = "") -> Page:
        """Return the page, up to what was recorded until now.

        Args:
            accept: the request's header.

        Raises:
            StorageError: the recording cannot be read.
        """
        with self._lock:
            self._read_new()
            page = write_page(self._table, accept, self._clock(), self._strategy)
        self.dropped = Counter(page.dropped)
        if page.dropped:
            counts = ", ".join(f"{count} {reason}" for reason, count in page.dropped.items())
            self._reporter.warn("metrics", f"left out of /metrics: {counts}")
        return page

    def _read_new(self) -> None:
        for data in self._recording.poll(signal=Signal.METRICS):
            if data.count_of(Signal.METRICS):  # journals hold other signals too
                for line in data.otlp_json(Signal.METRICS):
                    self._add(line)
        for line in self._recording.measured:
            self._add(line)

    def _add(self, line: bytes) -> None:
        try:
            self._table.add_line(line)
        except DecodeError:
            pass  # it was read as far as that; `rimp verify` tells


def metrics_route(metrics: RecordingMetrics) -> BaseRoute:
    """Return the route of the page ``/metrics``."""

    async def answer(request: Request) -> Response:
        accept = ",".join(request.headers.getlist("accept"))
        try:
            page = await run_in_threadpool(metrics.write_page, accept)
        except StorageError as error:
            return PlainTextResponse(str(error), 503, {"Retry-After": _RETRY_AFTER})
        return Response(page.body, media_type=None, headers={"Content-Type": page.content_type})

    return Route("/metrics", answer, methods=["GET"])
