"""What goes on now: a window that moves."""

from __future__ import annotations

import pytest

from rimp_otel.analysis import activity as live
from rimp_otel.analysis.activity import Live, Load
from rimp_otel.models.records import EventType
from tests.cli.records import MS, T0, TRACE, checkout, event, span

S = 1_000 * MS


def test_checkout() -> None:
    """By service and by operation, with all that is asked of either."""
    watched = Live(60 * S)
    watched.add(*checkout())
    picture = watched.picture(T0 + S)
    assert picture.total == Load("", None, 7, 3, 81 * MS, 231 * MS, 231 * MS)
    assert picture.rate(6) == 0.1
    assert {load.service: (load.spans, load.errors) for load in picture.services} == {
        "shop": (4, 2),
        "stock": (2, 0),
        "payment": (1, 1),
    }
    assert Load("stock", "SELECT stock", 1, 0, 58 * MS, 58 * MS, 58 * MS) in picture.operations
    assert picture.logs == {EventType.INFO: 1, EventType.WARNING: 1, EventType.ERROR: 1}


def test_window() -> None:
    """What ended before it is forgotten, what has not ended by now does not count yet."""
    watched = Live(10 * S)
    watched.add(
        [span("a", i, 0, 0, 1_000 * i) for i in range(1, 21)],
        [event("x", 1_000 * i) for i in range(20)],
    )
    assert watched.picture(T0 + 15 * S).total.spans == 10
    assert watched.picture(T0 + 15 * S).logs[EventType.INFO] == 10
    assert watched.picture(T0 + 25 * S).total.spans == 5
    assert watched.picture(T0 + 99 * S).total == Load("", None, 0, 0, None, None, None)


def test_what_comes_twice_counts_once() -> None:
    """As between two readers; what is forgotten may come again."""
    watched = Live(10 * S)
    one = span("a", 1, 0, 0, 1_000)
    watched.add([one], [])
    watched.add([one, span("a", 1, 0, 0, 1_000, trace_id=TRACE + 1)], [])
    assert watched.picture(T0 + 2 * S).total.spans == 2
    assert watched.picture(T0 + 50 * S).total.spans == 0
    assert watched._ids == set()


def test_course() -> None:
    """How many ended in each thirtieth of the window, the newest last."""
    watched = Live(30 * S)
    watched.add(
        [span("a", i, 0, 0, at) for i, at in enumerate((1, 1_000, 29_500, 29_999, 30_000), 1)], []
    )
    course = watched.picture(T0 + 30 * S).course
    assert (course[0], course[1:29], course[29]) == (2, [0] * 28, 3)


def test_open_spans_count_by_their_start() -> None:
    """They have no duration."""
    watched = Live(10 * S)
    watched.add([span("a", 1, 0, 0, None)], [])
    assert watched.picture(T0 + S).total == Load("", None, 1, 0, None, None, None)


def test_memory_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many, the newest are kept."""
    monkeypatch.setattr(live, "_MOST", 5)
    watched = Live(60 * S)
    watched.add([span("a", i, 0, 0, i) for i in range(1, 21)], [event("x", i) for i in range(20)])
    picture = watched.picture(T0 + S)
    assert (picture.total.spans, picture.total.p50, picture.logs.total()) == (5, 18 * MS, 5)
