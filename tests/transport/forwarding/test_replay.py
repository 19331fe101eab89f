"""Replaying records into exporters of OpenTelemetry."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry import context
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.trace.export import SpanExportResult

from rimp_otel import TelemetryData, TelemetryEvent, TelemetryMetric
from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import MetricKind, Signal, SummaryPoint
from rimp_otel.transport.forwarding import replay
from rimp_otel.transport.forwarding.replay import Replay, ReplayCounts, load_exporters


class Keeping:
    """An exporter that keeps what it is given, and returns one result after another."""

    def __init__(self, *results: Any) -> None:
        self.batches: list[Any] = []
        self.contexts: list[Any] = []
        self.is_shut_down = False
        self._results = list(results)

    def export(self, batch: Any) -> Any:
        self.batches.append(batch)
        self.contexts.append(set(context.get_current().values()))
        result = self._results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    def shutdown(self) -> None:
        self.is_shut_down = True


DATA = TelemetryData(
    [TelemetryEvent("a", "hello", time_unix_nano=5)], [TelemetryMetric("m", 1.5, time_unix_nano=6)]
)


def test_each_exporter_gets_objects_of_the_sdk():
    """Log records and metrics, without being recorded by instrumentation."""
    logs, metrics = Keeping(SpanExportResult.SUCCESS), Keeping(MetricExportResult.SUCCESS)
    replaying = Replay({Signal.LOGS: logs, Signal.METRICS: metrics, Signal.TRACES: Keeping()})
    replaying.send(DATA)
    assert replaying.close()
    assert [record.log_record.body for record in logs.batches[0]] == ["hello"]
    (group,) = metrics.batches[0].resource_metrics
    assert group.scope_metrics[0].metrics[0].name == "m"
    assert replaying.counts == {
        Signal.LOGS: ReplayCounts(1),
        Signal.METRICS: ReplayCounts(1),
        Signal.TRACES: ReplayCounts(),
    }
    assert logs.contexts == [{True}]
    assert logs.is_shut_down


def test_failures_are_counted_and_said():
    """A result that is no success, and what is raised; the next batch is tried all the same."""
    exporter = Keeping(SpanExportResult.FAILURE, OSError("gone"), SpanExportResult.SUCCESS)
    reasons: list[str] = []
    replaying = Replay({Signal.LOGS: exporter}, reasons.append)
    for _ in range(3):
        replaying.send(DATA)
    assert replaying.counts == {Signal.LOGS: ReplayCounts(1, 2)}
    assert reasons == [
        "the exporter of logs returned SpanExportResult.FAILURE",
        "the exporter of logs failed: OSError: gone",
    ]


def test_summaries_are_left_out():
    """The SDK has none; a batch of them alone is not exported."""
    point = SummaryPoint(2, ())
    summary = TelemetryMetric("s", 3.0, kind=MetricKind.SUMMARY, point=point, time_unix_nano=7)
    exporter = Keeping(MetricExportResult.SUCCESS)
    replaying = Replay({Signal.METRICS: exporter})
    replaying.send(TelemetryData([], [summary]))
    replaying.send(TelemetryData([], [summary, *DATA.metrics]))
    assert replaying.counts == {Signal.METRICS: ReplayCounts(1, 0, 2)}
    assert len(exporter.batches) == 1


def test_a_shutdown_that_fails_is_said():
    """What an exporter held still may be lost."""

    class Broken(Keeping):
        def shutdown(self) -> None:
            raise OSError("gone")

    reasons: list[str] = []
    assert not Replay({Signal.LOGS: Broken()}, reasons.append).close()
    assert reasons == ["the exporter of logs did not shut down: OSError: gone"]


def install(monkeypatch, **exporters):
    """Have these entry points, of log records, and no others."""
    entry_points = [
        SimpleNamespace(name=name, load=lambda made=made: made) for name, made in exporters.items()
    ]
    monkeypatch.setattr(
        "importlib.metadata.entry_points",
        lambda group: entry_points if group == "opentelemetry_logs_exporter" else [],
    )


def test_exporters_are_found_by_their_entry_points(monkeypatch):
    """Those of the signals that have one of the name."""
    install(monkeypatch, keeping=Keeping)
    (exporter,) = load_exporters("keeping", Signal).values()
    assert isinstance(exporter, Keeping)
    assert replay.installed_exporters() == {"keeping": {Signal.LOGS}}


def broken() -> None:
    """Raise, as an exporter without its settings."""
    raise ValueError("no endpoint")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("other", "no exporter 'other' is installed for that; installed: broken, reader"),
        ("broken", "cannot make the exporter 'broken' of logs: ValueError: no endpoint"),
        ("reader", "the exporter 'reader' of logs is a reader"),
    ],
)
def test_what_cannot_be_made_is_named(monkeypatch, name, why):
    """A name that is not installed, a constructor that raises, a reader of metrics."""
    install(monkeypatch, broken=broken, reader=SimpleNamespace)
    with pytest.raises(ConfigurationError, match=why):
        load_exporters(name, Signal)
