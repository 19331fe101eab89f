"""Spans as a table, with the columns of the Collector's ClickHouse exporter and some more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rimp_otel.models.records import Signal
from rimp_otel.otlp import messages
from rimp_otel.sql.builder import Builder, are_ids, are_numbers, without_zeros
from rimp_otel.sql.columns import (
    MAP,
    Names,
    Nested,
    attribute_columns,
    attribute_lists,
    coded,
    codes,
    counts,
    integers,
    texts,
)
from rimp_otel.sql.extras import pyarrow

__all__ = ["SpanBuilder"]

_KINDS = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")
_OTHER = len(_KINDS)
_STATUS = ("Unset", "Ok", "Error")
_text, _int, _count = pyarrow.string(), pyarrow.int64(), pyarrow.uint32()
_time = pyarrow.timestamp("ns")


def _event_fields(events: Sequence[messages.SpanEvent], keys: Names) -> dict[str, Any]:
    return {
        "Timestamp": integers([event.time_unix_nano for event in events]),
        "Name": texts([event.name for event in events]),
        "attributes": attribute_lists([event.attributes for event in events], keys),
        "DroppedAttrCount": counts([event.dropped_attributes_count for event in events]),
    }


def _link_fields(links: Sequence[messages.Link], keys: Names) -> dict[str, Any]:
    return {
        "TraceId": texts([link.trace_id for link in links]),
        "SpanId": texts([link.span_id for link in links]),
        "TraceState": texts([link.trace_state for link in links]),
        "attributes": attribute_lists([link.attributes for link in links], keys),
        "DroppedAttrCount": counts([link.dropped_attributes_count for link in links]),
        "TraceFlags": counts([link.flags for link in links]),
    }


_EVENTS = Nested(
    _event_fields,
    {
        "Timestamp": _time,
        "Name": _text,
        "Attributes": MAP,
        "AttributeTypes": MAP,
        "DroppedAttrCount": _count,
    },
)
_LINKS = Nested(
    _link_fields,
    {
        "TraceId": _text,
        "SpanId": _text,
        "TraceState": _text,
        "Attributes": MAP,
        "AttributeTypes": MAP,
        "DroppedAttrCount": _count,
        "TraceFlags": _count,
    },
)
_SCHEMA = pyarrow.schema(
    [
        ("Timestamp", _time),
        ("TraceId", _text),
        ("SpanId", _text),
        ("ParentSpanId", _text),
        ("TraceState", _text),
        ("SpanName", _text),
        ("SpanKind", _text),
        ("ServiceName", _text),
        ("ResourceAttributes", MAP),
        ("ScopeName", _text),
        ("ScopeVersion", _text),
        ("SpanAttributes", MAP),
        ("Duration", _int),
        ("StatusCode", _text),
        ("StatusMessage", _text),
        ("Events", _EVENTS.type),
        ("Links", _LINKS.type),
        ("TraceFlags", _count),
        ("SpanAttributeTypes", MAP),
        ("DroppedAttrCount", _count),
        ("DroppedEventsCount", _count),
        ("DroppedLinksCount", _count),
        ("ResourceSchemaUrl", _text),
        ("ResourceAttributeTypes", MAP),
        ("ResourceDroppedAttrCount", _count),
        ("ScopeSchemaUrl", _text),
        ("ScopeAttributes", MAP),
        ("ScopeAttributeTypes", MAP),
        ("ScopeDroppedAttrCount", _count),
    ]
)


class SpanBuilder(Builder):
    """Makes tables of spans."""

    signal = Signal.TRACES

    @classmethod
    def schema(cls) -> Any:
        """The columns."""
        return _SCHEMA

    def _blocks(self, line: messages.OtlpLine) -> Iterable[tuple[int, list[Any]]]:
        for group in line.resource_spans or ():
            for scoped in group.scope_spans or ():
                number = self.origins.number(
                    group.resource, group.schema_url, scoped.scope, scoped.schema_url
                )
                yield number, scoped.spans or []

    def _is_strict(self, spans: Sequence[messages.Span]) -> bool:
        return (
            are_ids([span.trace_id for span in spans], 16)
            and are_ids([id for s in spans for id in (s.span_id, s.parent_span_id)], 8)
            and are_numbers({span.kind for span in spans})
            and are_numbers({status.code for span in spans if (status := span.status)})
            and all(_is_strict_link(k) for s in spans if (links := s.links) for k in links)
        )

    def _columns(self, spans: Sequence[messages.Span]) -> dict[str, Any]:
        starts = [span.start_time_unix_nano or 0 for span in spans]
        ends = [span.end_time_unix_nano or 0 for span in spans]
        status = [span.status for span in spans]
        names = self.names
        return {
            "time": integers(starts),
            "name": codes([names[span.name] for span in spans]),
            "TraceId": texts([span.trace_id for span in spans]),
            "SpanId": texts([span.span_id for span in spans]),
            "ParentSpanId": texts([span.parent_span_id for span in spans]),
            "TraceState": texts([span.trace_state for span in spans]),
            "SpanKind": codes([min(span.kind or 0, _OTHER) for span in spans]),
            "SpanAttributes": attribute_lists([span.attributes for span in spans], self.keys),
            # Without an end there is none.
            "Duration": integers(
                [end - start if end else 0 for start, end in zip(starts, ends, strict=True)]
            ),
            "StatusCode": codes([each.code or 0 if each else 0 for each in status]),
            "StatusMessage": texts([each.message if each else None for each in status]),
            "Events": _EVENTS.rows([span.events for span in spans], self.keys),
            "Links": _LINKS.rows([span.links for span in spans], self.keys),
            "TraceFlags": counts([span.flags for span in spans]),
            "DroppedAttrCount": counts([s.dropped_attributes_count for s in spans]),
            "DroppedEventsCount": counts([s.dropped_events_count for s in spans]),
            "DroppedLinksCount": counts([s.dropped_links_count for s in spans]),
        }

    def _finish(self, columns: dict[str, Any]) -> dict[str, Any]:
        attributes = attribute_columns(columns["SpanAttributes"], self.keys)
        return {
            **columns,
            "Timestamp": columns["time"].cast(_time),
            "TraceId": without_zeros(columns["TraceId"], 16),
            "ParentSpanId": without_zeros(columns["ParentSpanId"], 8),
            "SpanName": coded(columns["name"], self.names.texts()),
            "SpanKind": coded(columns["SpanKind"], [*_KINDS, "Unrecognized"]),
            "StatusCode": coded(columns["StatusCode"], _STATUS),
            "SpanAttributes": attributes.values,
            "SpanAttributeTypes": attributes.types,
            "Events": _EVENTS.column(columns["Events"], self.keys),
            "Links": _LINKS.column(columns["Links"], self.keys),
        }


def _is_strict_link(link: messages.Link) -> bool:
    return are_ids([link.trace_id], 16) and are_ids([link.span_id], 8)
