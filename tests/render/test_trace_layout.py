"""The layout that both drawings of a trace share."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import Event, ReadableSpan

from rimp_otel.models.records import EventType
from rimp_otel.render.trace_layout import (
    EventRow,
    SpanRow,
    TimeScale,
    TraceLayout,
    describe_event,
    exceptions_of,
    lay_out_trace,
)
from tests.cli.records import MS, STACK, T0, TRACE, checkout, event, raised, span


def sketch(layout: TraceLayout) -> list[str]:
    """The rows, each with its guide and its name."""
    return [
        f"{row.guide}{row.span.name}"
        if isinstance(row, SpanRow)
        else f"{row.guide}({describe_event(row.event).text})"
        for row in layout.rows
    ]


def span_rows(layout: TraceLayout) -> list[SpanRow]:
    """The rows of spans."""
    return [row for row in layout.rows if isinstance(row, SpanRow)]


def test_rows_of_a_trace() -> None:
    """Each span comes before what belongs to it, in the order of time."""
    layout = lay_out_trace(*checkout(), max_depth=10)
    assert sketch(layout) == [
        "POST /checkout",
        "+SELECT cart",
        "|(cart loaded)",
        "+GET /stock",
        "|`GET /stock/{sku}",
        "| `SELECT stock",
        "|  (stock is low)",
        "`POST /charge",
        " `charge card",
        "   (exception)",
        " (payment failed, order kept)",
    ]
    assert layout[:4] == (TRACE, 7, 3, 3)
    assert layout.scale == TimeScale(T0, 231 * MS)
    assert layout.services == ["shop", "stock", "payment"]
    assert [row.service for row in span_rows(layout)] == [0, 0, 0, 1, 1, 0, 2]
    assert [row.depth for row in span_rows(layout)] == [0, 1, 1, 2, 3, 1, 2]
    assert layout.spans_left_out == 0


def test_guides_end_at_a_depth() -> None:
    """Deeper rows share one depth."""
    chain = [span(str(number), number, number - 1, number) for number in range(1, 7)]
    layout = lay_out_trace(chain, [], max_depth=3)
    assert sketch(layout) == ["1", "`2", " `3", "  `4", "  .`5", "  .`6"]
    assert [row.depth for row in span_rows(layout)] == [0, 1, 2, 3, 4, 5]


def test_the_first_spans_alone() -> None:
    """Spans without a row are counted; log records that belong to no span always have one."""
    spans = [span(str(number), number, 0, number) for number in range(1, 6)]
    loose = event("of no span", at=900)
    layout = lay_out_trace(spans, [event("of a span", 4, 5), loose], 10, max_spans=2)
    assert sketch(layout) == ["1", "2", "(of no span)"]
    assert layout.spans_left_out == 3
    assert layout.spans == 5
    assert lay_out_trace(spans, [], 10, max_spans=5).spans_left_out == 0


def test_what_is_odd_about_a_span() -> None:
    """Failed, interrupted, or with a parent that is not recorded."""
    spans = [
        span("failed", 1, 0, 0, 9, error="x"),
        span("interrupted", 2, 1, 1, 8, **{"rimp.interrupted": "killed"}),
        span("orphan", 3, 99, 2),
    ]
    found = {row.span.name: row for row in span_rows(lay_out_trace(spans, [], 10))}
    assert [name for name, row in found.items() if row.has_failed] == ["failed"]
    assert [name for name, row in found.items() if row.is_interrupted] == ["interrupted"]
    assert {name: row.flaw for name, row in found.items()} == {
        "failed": "",
        "interrupted": "",
        "orphan": "orphan",
    }


def test_events_of_a_span() -> None:
    """Its own first, then the log records that belong to it."""
    log, own = event("log", 1, 1), Event("own", {}, T0 + 5 * MS)
    layout = lay_out_trace([span("a", 1, 0, 0, 9, events=(own,))], [log], 10)
    assert span_rows(layout)[0].events == [own, log]
    assert [row.event for row in layout.rows if isinstance(row, EventRow)] == [log, own]


@pytest.mark.parametrize(
    ("spans", "events", "scale"),
    [
        ([], [], TimeScale(0, 0)),
        ([span("open", 1, 0, 5, None)], [event("log", 90)], TimeScale(T0 + 5 * MS, 0)),
        ([span("no start", 1, 0, None, 7)], [], TimeScale(T0 + 7 * MS, 0)),
        ([], [event("a", 3), event("b", 8)], TimeScale(T0 + 3 * MS, 5 * MS)),
    ],
)
def test_time_scale(spans: list[ReadableSpan], events: list[object], scale: TimeScale) -> None:
    """From the first start to the last end; of log records only if there is no span."""
    assert lay_out_trace(spans, events, 10).scale == scale  # type: ignore[arg-type]


def test_offsets_and_ticks() -> None:
    """Times outside of the scale stand at its bounds."""
    scale = TimeScale(100, 10)
    assert [scale.offset_of(time) for time in (0, 100, 107, 110, 999)] == [0, 0, 7, 10, 10]
    assert scale.ticks(4) == [0, 2, 5, 7, 10]
    assert scale.end == 110
    assert TimeScale(5, 0).ticks(2) == [0, 0, 0]


def test_texts_of_events() -> None:
    """Log records have a type; an exception is described once."""
    log = describe_event(event("hello", 3, event_type=EventType.WARNING, a=1))
    assert log == (T0 + 3 * MS, EventType.WARNING, "hello", "", {"a": 1}, [])
    failure = raised("ValueError", "no", 4, STACK)
    about = describe_event(failure)
    assert about.event_type is None
    assert about.text == "exception"
    assert about.exception == "ValueError: no (in charge, bank.py:42)"
    assert about.attributes == {}
    assert about.stack == STACK.splitlines()
    assert exceptions_of(span("a", 1, events=(failure, Event("other")))) == [about.exception, ""]
