"""Activity by operation: of a whole recording, and of a window that moves."""

from __future__ import annotations

import pytest

from rimp_otel.analysis.activity import (
    Activity,
    ActivityLimits,
    Failure,
    LiveActivity,
    LoadStats,
    Operation,
    quantile,
)
from rimp_otel.models.records import EventType
from tests.cli.records import MS, T0, TRACE, checkout, event, raised, span

S = 1_000 * MS


def activity(*records: object, limits: ActivityLimits = ActivityLimits()) -> Activity:  # noqa: B008
    """The activity of these spans and log records."""
    found = Activity(limits)
    for record in records:
        found.add_event(record) if hasattr(record, "event_type") else found.add_span(record)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("is_reversed", [False, True])
def test_activity_of_a_trace(is_reversed: bool) -> None:
    """Counts, errors, times and calls do not depend on the order of the spans."""
    spans, events = checkout()
    found = activity(*(reversed(spans) if is_reversed else spans), *events)
    assert (found.spans, found.first, found.last) == (7, T0, T0 + 231 * MS)
    stats = found.operations[Operation("payment", "charge card")]
    assert (stats.count, stats.errors, stats.durations) == (1, 1, [111 * MS])
    assert found.calls == {
        (None, ("shop", "POST /checkout")): 1,
        (("shop", "POST /checkout"), ("shop", "SELECT cart")): 1,
        (("shop", "POST /checkout"), ("shop", "GET /stock")): 1,
        (("shop", "GET /stock"), ("stock", "GET /stock/{sku}")): 1,
        (("stock", "GET /stock/{sku}"), ("stock", "SELECT stock")): 1,
        (("shop", "POST /checkout"), ("shop", "POST /charge")): 1,
        (("shop", "POST /charge"), ("payment", "charge card")): 1,
    }


def test_failures() -> None:
    """A kind of error is known by its exception, its message, or its place; also of log records."""
    found = activity(
        span("a", 1, error="m", events=(raised("E", "order 4711 at 0x7f12 is late", 1),)),
        span("a", 2, error="m", events=(raised("E", "order 12 at 0x9 is late", 1),)),
        span("b", 3, error="id 4bf92f3577b34da6 and 1b4e28ba-2fa1-11d2-883f-0016d3cca427 face"),
        span("c", 4, error=""),
        event("boom", event_type=EventType.ERROR, trace_id=0),
        event("fine"),
    )
    assert {failure: tuple(count) for failure, count in found.failures.items()} == {
        Failure("shop", "a", "E: order # at # is late"): (2, TRACE),
        Failure("shop", "b", "id # and # face"): (1, TRACE),
        Failure("shop", "c", "error"): (1, TRACE),
        Failure("shop", "app", "boom"): (1, 0),
    }


def test_activity_is_bounded() -> None:
    """Of very many spans, a sample and the last ones are kept; the counts stay exact."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    found = activity(
        *(span("a", i, i + 1_000, i, i + i, error=letters[i % 26]) for i in range(1, 1_000)),
        limits=ActivityLimits(durations=10, spans=10, failures=3),
    )
    stats = found.operations[Operation("shop", "a")]
    assert (stats.count, len(stats.sample), len(found.failures)) == (999, 10, 3)
    assert max(len(found._known), len(found._waiting)) <= 10
    assert max(stats.durations) > 500 * MS


def test_quantile() -> None:
    """The value at that place of the sorted values; 0 if there are none."""
    assert [quantile(range(100), share) for share in (0, 0.5, 0.95, 1)] == [0, 50, 95, 99]
    assert quantile([], 0.5) == 0


def test_snapshot() -> None:
    """A window is summarized as a whole, by service and by operation."""
    live = LiveActivity(60 * S)
    live.add(*checkout())
    snapshot = live.snapshot(T0 + S)
    assert snapshot.total == LoadStats("", None, 7, 3, 81 * MS, 231 * MS, 231 * MS)
    assert snapshot.rate(6) == 0.1
    assert {load.service: (load.spans, load.errors) for load in snapshot.services} == {
        "shop": (4, 2),
        "stock": (2, 0),
        "payment": (1, 1),
    }
    assert (
        LoadStats("stock", "SELECT stock", 1, 0, 58 * MS, 58 * MS, 58 * MS) in snapshot.operations
    )
    assert snapshot.logs == {EventType.INFO: 1, EventType.WARNING: 1, EventType.ERROR: 1}


def test_window() -> None:
    """Spans that ended before the window are dropped; those that end later do not count yet."""
    live = LiveActivity(10 * S)
    live.add(
        [span("a", i, 0, 0, 1_000 * i) for i in range(1, 21)],
        [event("x", 1_000 * i) for i in range(20)],
    )
    assert live.snapshot(T0 + 15 * S).total.spans == 10
    assert live.snapshot(T0 + 15 * S).logs[EventType.INFO] == 10
    assert live.snapshot(T0 + 25 * S).total.spans == 5
    assert live.snapshot(T0 + 99 * S).total == LoadStats("", None, 0, 0, None, None, None)


def test_a_span_that_comes_twice_counts_once() -> None:
    """Two readers may both yield it; one that was dropped may come again."""
    live = LiveActivity(10 * S)
    one = span("a", 1, 0, 0, 1_000)
    live.add([one], [])
    live.add([one, span("a", 1, 0, 0, 1_000, trace_id=TRACE + 1)], [])
    assert live.snapshot(T0 + 2 * S).total.spans == 2
    assert live.snapshot(T0 + 50 * S).total.spans == 0
    assert live._ids == set()


def test_spans_over_time() -> None:
    """The spans that ended are counted for each thirtieth of the window, the newest last."""
    live = LiveActivity(30 * S)
    live.add(
        [span("a", i, 0, 0, at) for i, at in enumerate((1, 1_000, 29_500, 29_999, 30_000), 1)], []
    )
    counts = live.snapshot(T0 + 30 * S).spans_over_time
    assert (counts[0], counts[1:29], counts[29]) == (2, [0] * 28, 3)


def test_open_spans_count_by_their_start() -> None:
    """Open spans have no duration."""
    live = LiveActivity(10 * S)
    live.add([span("a", 1, 0, 0, None)], [])
    assert live.snapshot(T0 + S).total == LoadStats("", None, 1, 0, None, None, None)


def test_live_activity_is_bounded() -> None:
    """Of too many records, the newest are kept."""
    live = LiveActivity(60 * S, max_records=5)
    live.add([span("a", i, 0, 0, i) for i in range(1, 21)], [event("x", i) for i in range(20)])
    snapshot = live.snapshot(T0 + S)
    assert (snapshot.total.spans, snapshot.total.p50, snapshot.logs.total()) == (5, 18 * MS, 5)
