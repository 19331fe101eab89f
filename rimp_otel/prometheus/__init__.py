"""Metrics for Prometheus: a recording's series, of all its processes, as a page that is scraped.

Public is ``RecordingCollector``, which needs the extra ``prometheus``. ``names`` translates names and
units; ``totals``, ``series`` and ``table`` add the processes up, ``state`` keeps that; ``families`` are
what stands on a page, ``text_format`` and ``protobuf_format`` write it, ``pages`` chooses between them;
``endpoint``, ``in_process`` and ``collector`` are the ways to it. Imports ``storage`` and below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rimp_otel.lazy_exports import export_lazily

if TYPE_CHECKING:
    from rimp_otel.prometheus.collector import RecordingCollector as RecordingCollector

export_lazily(__name__, {"RecordingCollector": "rimp_otel.prometheus.collector"})
