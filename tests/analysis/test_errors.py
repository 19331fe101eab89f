"""Errors by type and place, in any order and with bounded memory."""

from __future__ import annotations

import itertools

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from rimp_otel.analysis.errors import ErrorCollection, ErrorKind
from rimp_otel.models.accessors import StackFrame, innermost_frame, stack_lines
from rimp_otel.models.records import EventType, TelemetryEvent
from rimp_otel.models.times import Window
from tests.cli.records import MS, STACK, T0, TRACE, event, raised, span

BANK = StackFrame("/srv/payment/bank.py", 42, "charge")
REFUSED = ErrorKind("payment", "ConnectionError", BANK, "")


def charge(span_id: int, parent: int = 0, at: int = 0, trace_id: int = TRACE) -> ReadableSpan:
    """Return a span that the exception leaves."""
    refused = raised("ConnectionError", f"refused {span_id}", at, STACK)
    return span(
        *("charge card", span_id, parent, at, at + 1, "payment", "refused", trace_id),
        events=(refused,),
    )


def log(at: int = 0, trace_id: int = TRACE, stack: str = STACK) -> TelemetryEvent:
    """Return the log record of the exception."""
    attributes = {
        "exception.type": "ConnectionError",
        "exception.message": "refused",
        "exception.stacktrace": stack,
    }
    return event("failed", at, 9, EventType.ERROR, "payment", trace_id, **attributes)


def counts(*records: ReadableSpan | TelemetryEvent, most: int = 200_000) -> dict[ErrorKind, int]:
    """Return the errors of the records with how often each happened."""
    errors = ErrorCollection(max_occurrences=most)
    for record in records:
        add = errors.add_event if isinstance(record, TelemetryEvent) else errors.add_span
        add(record)  # type: ignore[arg-type]
    return {error.kind: error.count for error in errors.errors()}


def test_kind_times_and_example() -> None:
    """Errors of one type and place are one, with first, last and the newest as an example."""
    errors = ErrorCollection()
    for at, trace_id in ((5, TRACE + 1), (9, TRACE + 2), (1, TRACE)):
        errors.add_span(charge(at, at=at, trace_id=trace_id))
    (error,) = errors.errors()
    assert (error.kind, error.count) == (REFUSED, 3)
    assert (error.first, error.last) == (T0 + MS, T0 + 9 * MS)
    assert (error.message, error.stack) == ("refused 9", STACK)
    assert (error.trace_id, error.span_id) == (TRACE + 2, 9)


def test_an_example_has_a_trace_if_one_has() -> None:
    """A newer log record outside of all traces is no better one."""
    errors = ErrorCollection()
    errors.add_event(log(9, 0))
    errors.add_span(charge(1, at=5))
    errors.add_event(log(10, 0))
    (error,) = errors.errors()
    assert (error.trace_id, error.span_id, error.last) == (TRACE, 1, T0 + 10 * MS)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_an_exception_that_leaves_several_spans_counts_once(order: tuple[int, ...]) -> None:
    """That is so in any order of the records, and if it is logged in its trace too."""
    records = [charge(1), charge(2, 1), charge(3, 2), log()]
    assert counts(*(records[i] for i in order)) == {REFUSED: 1}


def test_retries_count_each() -> None:
    """Siblings fail each by itself, whatever becomes of their parent."""
    assert counts(charge(1), charge(2, 1), charge(3, 1), charge(4, 1)) == {REFUSED: 3}
    assert counts(charge(1, trace_id=0), charge(2, 1, trace_id=0)) == {REFUSED: 2}


def test_logged_exceptions_count_where_no_span_has_them() -> None:
    """A log record counts if its trace has no such span, or if it is in no trace."""
    assert counts(log(), log(trace_id=0), log(trace_id=0)) == {REFUSED: 3}
    assert counts(charge(1), log(trace_id=TRACE + 1)) == {REFUSED: 2}


def test_what_is_logged_after_its_trace_has_ended() -> None:
    """It counts once if a span had it within the second before, each log record with a span of its own."""

    def left(at: int, trace_id: int = TRACE) -> ReadableSpan:
        refused = raised("ConnectionError", "refused", at, STACK)
        return span(
            *("charge card", 1, 0, at, at + 1, "payment", "refused", trace_id), events=(refused,)
        )

    assert counts(left(0), log(5, 0)) == counts(log(5, 0), left(0)) == {REFUSED: 1}
    assert counts(left(0), left(2, TRACE + 1), log(5, 0), log(6, 0)) == {REFUSED: 2}
    assert counts(left(0), log(5, 0), log(6, 0)) == {REFUSED: 2}
    assert counts(left(0), log(1001, 0)) == {REFUSED: 2}
    assert counts(left(5), log(4, 0)) == {REFUSED: 2}
    assert counts(charge(1), log(5, 0)) == {REFUSED: 2}  # another message


def test_a_failed_span_without_an_exception() -> None:
    """Its place is its name, its type the attribute ``error.type``; one that is well is no error."""
    failed = span("GET /", 1, error="bad gateway", **{"error.type": "502"})
    assert counts(failed, span("GET /", 2), event("all is bad", 1, 1, EventType.ERROR)) == {
        ErrorKind("shop", "502", None, "GET /"): 1
    }


def test_places_without_a_stack() -> None:
    """Without frames, the place is the span's name or the record's source."""
    timeout = raised("Timeout", "1 s", 0, "at foo (bar.js:1:2)")
    assert counts(span("GET /", 1, events=(timeout,)), log(stack="unreadable", trace_id=0)) == {
        ErrorKind("shop", "Timeout", None, "GET /"): 1,
        ErrorKind("payment", "ConnectionError", None, "app"): 1,
    }


def test_window() -> None:
    """The time of the exception decides, not that of its span."""
    errors = ErrorCollection(Window(T0 + 5 * MS, T0 + 6 * MS))
    late = raised("ValueError", "no", 5)
    errors.add_span(span("slow", 1, 0, 0, 900, events=(late, raised("KeyError", "x", 6))))
    assert [error.kind.type for error in errors.errors()] == ["ValueError"]


def test_memory_is_bounded() -> None:
    """Old occurrences are counted and forgotten; kinds beyond the bound are counted as such."""
    spans = [
        charge(i, i - 1 if i % 2 == 0 else 0, i, TRACE + (i + 1) // 2) for i in range(1, 2_001)
    ]
    assert counts(*spans, most=100) == {REFUSED: 1_000}
    errors = ErrorCollection(max_kinds=2)
    for i in range(5):
        errors.add_span(span(f"s{i}", i + 1, error="no"))
    assert (len(errors.errors()), errors.left_out) == (2, 3)


def test_frames() -> None:
    """The innermost frame is the last of the stack; those of groups are behind a bar."""
    assert innermost_frame(STACK) == BANK
    assert str(BANK) == "in charge, bank.py:42"
    assert innermost_frame('  | File "a.py", line 7, in f\n') == StackFrame("a.py", 7, "f")
    assert innermost_frame('File "a.py", line ' + "9" * 5_000 + ", in f") is not None
    assert innermost_frame("none") is None


def test_stack_lines_are_bounded() -> None:
    """Of a stack of many lines, the first and the last ones are kept."""
    lines = [str(number) for number in range(30)]
    stack = {"exception.stacktrace": "\n".join(lines) + "\n"}
    assert stack_lines(stack) == lines
    assert stack_lines(stack, 4) == ["0", "1", "(26 lines left out)", "28", "29"]
    assert stack_lines({"code.stacktrace": "a\r\nb"}) == ["a", "b"]
    assert stack_lines({}) == []
