"""Trees of the spans and events of a trace."""

from __future__ import annotations

from rimp_otel.models.tree import Entry, Node, build_tree, sort_entries, time_of_entry
from tests.cli.records import event, span


def sketch(entries: list[Entry]) -> list[object]:
    """Return the names in a tree: of a span with flaw and children, of an event its message."""
    return [
        (entry.span.name, entry.flaw, sketch(entry.children), [e.message for e in entry.events])
        if isinstance(entry, Node)
        else getattr(entry, "message", None)
        for entry in entries
    ]


def test_children_and_events_stand_under_their_span() -> None:
    """Spans and events get the span with their parent's id, in the order of time."""
    spans = [span("late", 3, parent=1, start=20), span("root", 1, start=0)]
    spans += [span("early", 2, parent=1, start=10)]
    tree = build_tree(spans, [event("in the root", span_id=1), event("loose", span_id=9)])
    assert sketch([entry for entry in tree if isinstance(entry, Node)]) == [
        ("root", "", [("early", "", [], []), ("late", "", [], [])], ["in the root"])
    ]
    assert [getattr(entry, "message", "") for entry in tree if not isinstance(entry, Node)] == [
        "loose"
    ]


def test_flaws_tell_what_is_odd_about_the_place_of_a_span() -> None:
    """A missing parent, a parent that starts later, and ancestors in a circle are flaws."""
    spans = [
        span("orphan", 1, parent=99, start=1),
        span("parent", 2, start=10),
        span("skewed", 3, parent=2, start=5),
        span("first", 4, parent=5, start=20),
        span("second", 5, parent=4, start=30),
    ]
    assert sketch(build_tree(spans, [])) == [
        ("orphan", "orphan", [], []),
        ("parent", "", [("skewed", "skewed", [], [])], []),
        ("first", "circle", [("second", "", [], [])], []),
    ]


def test_spans_without_an_id_are_roots() -> None:
    """No span is the parent of others by the id 0."""
    tree = build_tree([span("a", 0, start=1), span("b", 0, start=2)], [])
    assert sketch(tree) == [("a", "", [], []), ("b", "", [], [])]


def test_entries_are_sorted_by_time() -> None:
    """Spans count by their start."""
    entries = build_tree([span("b", 2, start=20), span("a", 1, start=10)], [])
    assert sort_entries(reversed(entries)) == entries
    assert [time_of_entry(entry) for entry in entries] == sorted(map(time_of_entry, entries))
