"""The spans and events of a trace as trees, also if parents are missing or form a circle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Union

# A lazy package: it loads the SDK only for `typing.get_type_hints`.
import rimp_otel.models as models
from rimp_otel.models.accessors import parent_id_of, span_id_of, start_of, time_of
from rimp_otel.models.records import TelemetryEvent

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import Event

__all__ = ["Entry", "Node", "build_tree", "sort_entries", "time_of_entry"]


@dataclass
class Node:
    """A span with its children and log records.

    ``flaw`` tells what is odd about its place: "orphan" (its parent is not recorded), "circle" (its
    ancestors are its descendants), "skewed" (it starts before its parent), or empty.
    """

    span: models.ReadableSpan
    flaw: str = ""
    children: list[Node] = field(default_factory=list)
    events: list[TelemetryEvent] = field(default_factory=list)


Entry = Union[Node, TelemetryEvent, "Event"]
"""An item under a span: another span, a log record, or a span event."""


def build_tree(
    spans: Iterable[models.ReadableSpan], events: Iterable[TelemetryEvent]
) -> list[Entry]:
    """Return the roots of the spans' trees, and the events of no known span, in the order of time."""
    nodes = [Node(span) for span in sorted(spans, key=start_of)]
    by_id: dict[int, Node] = {}
    for node in nodes:
        by_id.setdefault(span_id_of(node.span), node)
    by_id.pop(0, None)
    roots = _link_nodes(nodes, by_id)
    loose: list[TelemetryEvent] = []
    for event in events:
        owner = by_id.get(event.span_id)
        (owner.events if owner else loose).append(event)
    return sort_entries([*roots, *loose])


def _link_nodes(nodes: list[Node], by_id: Mapping[int, Node]) -> list[Node]:
    roots = []
    for node in nodes:
        parent_id = parent_id_of(node.span)
        if parent := by_id.get(parent_id):
            parent.children.append(node)
            skewed = 0 < start_of(node.span) < start_of(parent.span)
            node.flaw = "skewed" if skewed else ""
        else:
            roots.append(node)
            node.flaw = "orphan" if parent_id else ""
    return roots + _open_circles(nodes, roots, by_id)


def _open_circles(nodes: list[Node], roots: list[Node], by_id: Mapping[int, Node]) -> list[Node]:
    """Return roots for the spans that no root leads to: of each circle its earliest span."""
    seen = _reachable_from(roots)
    opened = []
    for node in nodes:
        if id(node) not in seen:
            first = min(_circle_above(node, by_id), key=lambda one: start_of(one.span))
            siblings = by_id[parent_id_of(first.span)].children
            siblings[:] = [sibling for sibling in siblings if sibling is not first]
            first.flaw = "circle"
            opened.append(first)
            seen |= _reachable_from([first])
    return opened


def _circle_above(node: Node, by_id: Mapping[int, Node]) -> list[Node]:
    path: dict[int, Node] = {}
    while id(node) not in path:
        path[id(node)] = node
        node = by_id[parent_id_of(node.span)]
    climbed = list(path.values())
    return climbed[list(path).index(id(node)) :]


def _reachable_from(roots: list[Node]) -> set[int]:
    seen, stack = set(), list(roots)
    while stack:
        node = stack.pop()
        seen.add(id(node))
        stack.extend(node.children)
    return seen


def sort_entries(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries in the order of time, spans by their start."""
    return sorted(entries, key=time_of_entry)


def time_of_entry(entry: Entry) -> int:
    """Return the time by which an entry is sorted, in nanoseconds since the epoch."""
    if isinstance(entry, Node):
        return start_of(entry.span)
    return time_of(entry) if isinstance(entry, TelemetryEvent) else entry.timestamp
