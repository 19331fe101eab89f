"""Replaying recorded records into exporters of OpenTelemetry, which are found by their entry points."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from rimp_otel.batch import TelemetryData
from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import MetricKind, Signal
from rimp_otel.process import describe_error
from rimp_otel.transport.forwarding.destination import uninstrumented

__all__ = ["Replay", "ReplayCounts", "installed_exporters", "load_exporters"]

_GROUPS = {
    Signal.TRACES: "opentelemetry_traces_exporter",
    Signal.LOGS: "opentelemetry_logs_exporter",
    Signal.METRICS: "opentelemetry_metrics_exporter",
}


class Exporter(Protocol):
    """A span, log record or metric exporter of the SDK."""

    def export(self, batch: Any, /) -> Any:
        """Export a batch; return a result whose name is SUCCESS or FAILURE."""

    def shutdown(self) -> Any:
        """End."""


class ReplayCounts(NamedTuple):
    """What became of the records of one signal."""

    sent: int = 0
    #: In batches for which the exporter returned a failure, or raised.
    failed: int = 0
    #: Of kinds that the SDK does not have: summaries.
    left_out: int = 0


# Exporters.


def installed_exporters() -> dict[str, set[Signal]]:
    """Return the names of all exporters that are installed, each with its signals."""
    found: dict[str, set[Signal]] = {}
    for signal in Signal:
        for name in _exporters_of(signal):
            found.setdefault(name, set()).add(signal)
    return found


def load_exporters(name: str, signals: Iterable[Signal]) -> dict[Signal, Exporter]:
    """Make the exporters of a name, configured by their own environment variables.

    Args:
        name: of the entry points, as in ``OTEL_TRACES_EXPORTER``.
        signals: which to make; those for which there is none are left out.

    Raises:
        ConfigurationError: there is none at all, or one cannot be made.
    """
    made: dict[Signal, Exporter] = {}
    try:
        for signal in signals:
            entry_point = _exporters_of(signal).get(name)
            if entry_point is not None:
                made[signal] = _make_exporter(name, signal, entry_point)
    except BaseException:
        for exporter in made.values():
            exporter.shutdown()
        raise
    if not made:
        known = ", ".join(sorted(installed_exporters())) or "none"
        raise ConfigurationError(f"no exporter {name!r} is installed for that; installed: {known}")
    return made


def _make_exporter(name: str, signal: Signal, entry_point: Any) -> Exporter:
    what = f"the exporter {name!r} of {signal.value}"
    try:
        exporter = entry_point.load()()
    except Exception as error:
        raise ConfigurationError(f"cannot make {what}: {describe_error(error)}") from error
    if not callable(getattr(exporter, "export", None)):
        raise ConfigurationError(
            f"{what} is a reader, which collects metrics by itself and takes no recorded ones"
        )
    found: Exporter = exporter
    return found


def _exporters_of(signal: Signal) -> dict[str, Any]:
    metadata = importlib.import_module("importlib.metadata")
    return {found.name: found for found in metadata.entry_points(group=_GROUPS[signal])}


# Replaying.


class Replay:
    """Gives batches to exporters, and counts what becomes of them.

    A batch that fails is not tried again: an exporter does so itself, as long as it thinks right.

    Args:
        exporters: by signal; records of others are not looked at.
        on_failure: called with each reason.
    """

    def __init__(
        self,
        exporters: Mapping[Signal, Exporter],
        on_failure: Callable[[str], object] = lambda reason: None,
    ) -> None:
        self._exporters = exporters
        self._on_failure = on_failure
        self.counts = {signal: ReplayCounts() for signal in exporters}

    def send(self, data: TelemetryData) -> None:
        """Give one batch to the exporters."""
        for signal, exporter in self._exporters.items():
            records = data.count_of(signal)
            if records:
                left_out = _count_summaries(data) if signal is Signal.METRICS else 0
                self._count(signal, exporter, data, records - left_out, left_out)

    def _count(
        self, signal: Signal, exporter: Exporter, data: TelemetryData, records: int, left_out: int
    ) -> None:
        before = self.counts[signal]
        succeeded = not records or self._export(signal, exporter, data)
        self.counts[signal] = ReplayCounts(
            before.sent + records * succeeded,
            before.failed + records * (not succeeded),
            before.left_out + left_out,
        )

    def _export(self, signal: Signal, exporter: Exporter, data: TelemetryData) -> bool:
        try:
            with uninstrumented():
                result = exporter.export(_batch_of(signal, data))
        except Exception as error:
            self._on_failure(f"the exporter of {signal.value} failed: {describe_error(error)}")
            return False
        if getattr(result, "name", "") == "SUCCESS":
            return True
        self._on_failure(f"the exporter of {signal.value} returned {result}")
        return False

    def close(self) -> bool:
        """Have the exporters end, which send what they hold still; return False if one fails."""
        is_clean = True
        for signal, exporter in self._exporters.items():
            try:
                with uninstrumented():
                    exporter.shutdown()
            except Exception as error:
                self._on_failure(
                    f"the exporter of {signal.value} did not shut down: {describe_error(error)}"
                )
                is_clean = False
        return is_clean


def _batch_of(signal: Signal, data: TelemetryData) -> Sequence[Any] | Any:
    """Return the records of a signal as an exporter of the SDK takes them."""
    if signal is Signal.TRACES:
        return list(data.spans)
    return data.log_records if signal is Signal.LOGS else data.metrics_data


def _count_summaries(data: TelemetryData) -> int:
    return sum(metric.kind is MetricKind.SUMMARY for metric in data.metrics)
