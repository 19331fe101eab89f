"""A recording's metrics in a registry of prometheus-client, for programs that have an endpoint already.

Needs the extra ``prometheus``.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from rimp_otel.errors import MissingExtraError
from rimp_otel.prometheus.families import (
    Family,
    Member,
    ShownExemplar,
    exemplars_by_line,
    numbers_in,
)
from rimp_otel.prometheus.recording_metrics import RecordingMetrics
from rimp_otel.prometheus.text_format import format_sample

try:
    from prometheus_client import core
    from prometheus_client.registry import Collector
except ImportError:
    raise MissingExtraError("prometheus-client", "prometheus") from None

__all__ = ["RecordingCollector", "to_metric"]

_NANOS = 1e9


class RecordingCollector(Collector):
    """Collects the metrics of all processes that record into a path.

    ``REGISTRY.register(RecordingCollector("telemetry"))`` adds them to what a program exposes with
    prometheus-client.

    Args:
        path: of the recording, which need not exist yet.
        gauges: how gauges of several processes become one; see ``SeriesTable``.
        clock: returns nanoseconds since the epoch.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        gauges: Mapping[str, str] | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._metrics = RecordingMetrics(Path(path), gauges=gauges, clock=clock)

    def collect(self) -> Iterable[core.Metric]:
        """Return the metrics, up to what was recorded until now.

        Raises:
            StorageError: the recording cannot be read.
        """
        return [to_metric(family) for family in self._metrics.collect()]

    def describe(self) -> Iterable[core.Metric]:
        """Return nothing: what is measured is not known before."""
        return []


def to_metric(family: Family) -> core.Metric:
    """Return a family as prometheus-client has it."""
    suffix = {"counter": "_total", "info": "_info"}.get(family.kind, "")
    name = family.name.removesuffix(suffix)
    metric = core.Metric(name, family.help, family.kind, family.unit)
    for member in family.members:
        _add_member(metric, family, member)
    return metric


def _add_member(metric: core.Metric, family: Family, member: Member) -> None:
    series, value, name, labels = member.series, member.value, family.name, dict(member.labels)
    bounds, numbers = numbers_in(value)
    exemplars = exemplars_by_line(family, series, bounds) if series is not None else {}
    for number, (bound, shown) in enumerate(zip((*bounds, math.inf), numbers, strict=False)):
        own, suffix = labels, ""
        if family.kind == "histogram":
            own, suffix = {**labels, "le": format_sample(bound)}, "_bucket"
        elif family.kind == "summary":
            own = {**labels, "quantile": format_sample(bound)}
        exemplar = _to_exemplar(exemplars.get(number))
        metric.add_sample(f"{name}{suffix}", own, shown, exemplar=exemplar)
    if not isinstance(value, (int, float)):
        metric.add_sample(f"{name}_count", labels, value.count)
        if value.sum is not None:
            metric.add_sample(f"{name}_sum", labels, value.sum)
    if family.kind not in ("gauge", "info") and series is not None and series.start:
        metric.add_sample(f"{metric.name}_created", labels, series.start / _NANOS)


def _to_exemplar(found: ShownExemplar | None) -> core.Exemplar | None:
    if found is None:
        return None
    time = found.time / _NANOS if found.time else None
    return core.Exemplar(dict(found.labels), found.value, time)
