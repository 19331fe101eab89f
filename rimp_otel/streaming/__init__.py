"""From the collector to the storage, and on to the consumers.

``stream`` is the life cycle: start, flush, stop, forks, the interpreter's exit. ``drain`` and
``journal_drain`` store what waits in memory and in the journal; ``worker`` has the background thread
and the consumers' threads. Imports from ``collector``, ``storage``, ``journal`` and below. Public are
the names below; the rest is internal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimp_otel.lazy_exports import export_lazily

if TYPE_CHECKING:
    from rimp_otel.streaming.stream import StreamStats as StreamStats
    from rimp_otel.streaming.stream import TelemetryStream as TelemetryStream

export_lazily(
    __name__,
    {
        "StreamStats": "rimp_otel.streaming.stream",
        "TelemetryStream": "rimp_otel.streaming.stream",
    },
)
