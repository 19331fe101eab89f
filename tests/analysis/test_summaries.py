"""Summaries of traces and metrics."""

from __future__ import annotations

from rimp_otel.analysis.summaries import count_unique_digits, summarize_metrics, summarize_traces
from rimp_otel.models.records import ResourceInfo, TelemetryMetric
from tests.cli.records import MS, T0, TRACE, span


def test_summary_of_a_trace() -> None:
    """The root is the earliest span without a parent; unknown times do not count."""
    (trace,) = summarize_traces(
        [
            span("child", 2, 1, -5, 3),
            span("late root", 3, 0, 2, 4),
            span("root", 1, 0, 1, 9),
            span("unknown", 4, 1, None, None),
        ]
    )
    assert (trace.name, trace.spans) == ("root", 4)
    assert (trace.start, trace.end) == (T0 - 5 * MS, T0 + 9 * MS)
    assert trace.has_root


def test_chosen_traces() -> None:
    """A trace is chosen by one of its spans; without a root it has the name of its first span."""
    spans = [span("a", 2, 1, 1), span("b", 3, 1, 2), span("c", 4, 0, trace_id=TRACE + 1)]
    one, other = summarize_traces(spans, lambda span: span.name == "b")
    assert (one.name, one.is_chosen, one.has_root) == ("a", True, False)
    assert (other.name, other.is_chosen, other.has_root) == ("c", False, True)


def test_summary_of_a_metric() -> None:
    """Series are counted by resource and attributes, whatever the order of the latter."""
    resource = ResourceInfo({"service.name": "shop"})
    points = [
        TelemetryMetric("queue", 1, "{job}", {"a": 1, "b": 2}, T0 + 5, resource=resource),
        TelemetryMetric("queue", 2, "{job}", {"b": 2, "a": 1}, T0, resource=resource),
        TelemetryMetric("queue", 2, "{job}", {"a": 1}, T0 + 9, resource=resource),
        TelemetryMetric("other", 2, "1", {}, T0),
    ]
    other, queue = summarize_metrics(points)
    assert (other.name, queue.name) == ("other", "queue")
    assert (queue.points, len(queue.series)) == (3, 2)
    assert (queue.first, queue.last) == (T0, T0 + 9)
    assert list(queue.services) == ["shop"]


def test_unique_digits() -> None:
    """Eight digits at least, and one more than the longest common start."""
    assert count_unique_digits([]) == 8
    assert count_unique_digits([TRACE]) == 8
    assert count_unique_digits([1 << 127, 1 << 126]) == 8
    assert count_unique_digits([0x111111112 << 92, 0x111111111 << 92]) == 9
    assert count_unique_digits([TRACE, TRACE + 1]) == 32
    assert count_unique_digits([TRACE, TRACE]) < 40
