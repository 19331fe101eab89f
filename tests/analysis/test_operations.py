"""What went on, by operation."""

from __future__ import annotations

import pytest

from rimp_otel.analysis import activity as operations
from rimp_otel.analysis.activity import Activity, Failure, Operation, quantile
from rimp_otel.models.records import EventType
from tests.cli.records import MS, T0, TRACE, checkout, event, raised, span


def activity(*records: object) -> Activity:
    """Of these spans and log records."""
    found = Activity()
    for record in records:
        found.add_event(record) if hasattr(record, "event_type") else found.add_span(record)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("turned", [False, True])
def test_checkout(turned: bool) -> None:
    """Counts, errors, times, and who called whom, in whatever order the spans come."""
    spans, events = checkout()
    found = activity(*(reversed(spans) if turned else spans), *events)
    assert (found.spans, found.first, found.last) == (7, T0, T0 + 231 * MS)
    work = found.operations[Operation("payment", "charge card")]
    assert (work.count, work.errors, work.durations) == (1, 1, [111 * MS])
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
    """Of spans, by what was raised, their message, or nothing; and log records that are errors."""
    found = activity(
        span("a", 1, error="m", events=(raised("E", "order 4711 at 0x7f12 is late", 1),)),
        span("a", 2, error="m", events=(raised("E", "order 12 at 0x9 is late", 1),)),
        span("b", 3, error="id 4bf92f3577b34da6 and 1b4e28ba-2fa1-11d2-883f-0016d3cca427 face"),
        span("c", 4, error=""),
        event("boom", event_type=EventType.ERROR, trace_id=0),
        event("fine"),
    )
    assert {failure: tuple(seen) for failure, seen in found.failures.items()} == {
        Failure("shop", "a", "E: order # at # is late"): (2, TRACE),
        Failure("shop", "b", "id # and # face"): (1, TRACE),
        Failure("shop", "c", "error"): (1, TRACE),
        Failure("shop", "app", "boom"): (1, 0),
    }


def test_memory_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many spans, a sample and the last ones are remembered; the counts stay exact."""
    monkeypatch.setattr(operations, "_SAMPLE", 10)
    monkeypatch.setattr(operations, "_REMEMBERED", 10)
    monkeypatch.setattr(operations, "_MOST_FAILURES", 3)
    letters = "abcdefghijklmnopqrstuvwxyz"
    found = activity(
        *(span("a", i, i + 1_000, i, i + i, error=letters[i % 26]) for i in range(1, 1_000))
    )
    work = found.operations[Operation("shop", "a")]
    assert (work.count, len(work.sample), len(found.failures)) == (999, 10, 3)
    assert max(len(found._known), len(found._waiting)) <= 10
    assert max(work.durations) > 500 * MS


def test_quantile() -> None:
    """The value at that place; 0 of none."""
    assert [quantile(range(100), share) for share in (0, 0.5, 0.95, 1)] == [0, 50, 95, 99]
    assert quantile([], 0.5) == 0
