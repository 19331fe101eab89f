"""Spans as a table, with the columns of the Collector's ClickHouse exporter and some more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rimp_otel.models.records import Signal
from rimp_otel.otlp import messages
from rimp_otel.sql.builder import TableBuilder, are_hex_ids, are_integers, replace_zero_ids
from rimp_otel.sql.columns import (
    MAP,
    NestedColumn,
    TextCodes,
    attribute_list_column,
    attribute_map_columns,
    count_column,
    dictionary_array,
    int32_column,
    string_column,
    time_column,
)
from rimp_otel.sql.extras import pyarrow

__all__ = ["SpanBuilder"]

_KINDS = ("Unspecified", "Internal", "Server", "Client", "Producer", "Consumer")
_OTHER = len(_KINDS)
_STATUS_CODES = ("Unset", "Ok", "Error")
_string, _int64, _uint32 = pyarrow.string(), pyarrow.int64(), pyarrow.uint32()
_timestamp = pyarrow.timestamp("ns")


def _event_columns(events: Sequence[messages.SpanEvent], key_codes: TextCodes) -> dict[str, Any]:
    return {
        "Timestamp": time_column([event.time_unix_nano for event in events]),
        "Name": string_column([event.name for event in events]),
        "attributes": attribute_list_column([event.attributes for event in events], key_codes),
        "DroppedAttrCount": count_column([event.dropped_attributes_count for event in events]),
    }


def _link_columns(links: Sequence[messages.Link], key_codes: TextCodes) -> dict[str, Any]:
    return {
        "TraceId": string_column([link.trace_id for link in links]),
        "SpanId": string_column([link.span_id for link in links]),
        "TraceState": string_column([link.trace_state for link in links]),
        "attributes": attribute_list_column([link.attributes for link in links], key_codes),
        "DroppedAttrCount": count_column([link.dropped_attributes_count for link in links]),
        "TraceFlags": count_column([link.flags for link in links]),
    }


_EVENTS = NestedColumn(
    _event_columns,
    {
        "Timestamp": _timestamp,
        "Name": _string,
        "Attributes": MAP,
        "AttributeTypes": MAP,
        "DroppedAttrCount": _uint32,
    },
)
_LINKS = NestedColumn(
    _link_columns,
    {
        "TraceId": _string,
        "SpanId": _string,
        "TraceState": _string,
        "Attributes": MAP,
        "AttributeTypes": MAP,
        "DroppedAttrCount": _uint32,
        "TraceFlags": _uint32,
    },
)
_SCHEMA = pyarrow.schema(
    [
        ("Timestamp", _timestamp),
        ("TraceId", _string),
        ("SpanId", _string),
        ("ParentSpanId", _string),
        ("TraceState", _string),
        ("SpanName", _string),
        ("SpanKind", _string),
        ("ServiceName", _string),
        ("ResourceAttributes", MAP),
        ("ScopeName", _string),
        ("ScopeVersion", _string),
        ("SpanAttributes", MAP),
        ("Duration", _int64),
        ("StatusCode", _string),
        ("StatusMessage", _string),
        ("Events", _EVENTS.type),
        ("Links", _LINKS.type),
        ("TraceFlags", _uint32),
        ("SpanAttributeTypes", MAP),
        ("DroppedAttrCount", _uint32),
        ("DroppedEventsCount", _uint32),
        ("DroppedLinksCount", _uint32),
        ("ResourceSchemaUrl", _string),
        ("ResourceAttributeTypes", MAP),
        ("ResourceDroppedAttrCount", _uint32),
        ("ScopeSchemaUrl", _string),
        ("ScopeAttributes", MAP),
        ("ScopeAttributeTypes", MAP),
        ("ScopeDroppedAttrCount", _uint32),
    ]
)


class SpanBuilder(TableBuilder):
    """Makes tables of spans."""

    signal = Signal.TRACES
    schema = _SCHEMA

    def _is_strict(self, spans: Sequence[messages.Span]) -> bool:
        return (
            are_hex_ids([span.trace_id for span in spans], 16)
            and are_hex_ids([id for s in spans for id in (s.span_id, s.parent_span_id)], 8)
            and are_integers({span.kind for span in spans})
            and are_integers({status.code for span in spans if (status := span.status)})
            and all(_is_strict_link(k) for s in spans if (links := s.links) for k in links)
        )

    def _make_columns(self, spans: Sequence[messages.Span]) -> dict[str, Any]:
        starts = [span.start_time_unix_nano or 0 for span in spans]
        ends = [span.end_time_unix_nano or 0 for span in spans]
        status = [span.status for span in spans]
        names = self.name_codes
        return {
            "time": time_column(starts),
            "name": int32_column([names[span.name] for span in spans]),
            "TraceId": string_column([span.trace_id for span in spans]),
            "SpanId": string_column([span.span_id for span in spans]),
            "ParentSpanId": string_column([span.parent_span_id for span in spans]),
            "TraceState": string_column([span.trace_state for span in spans]),
            "SpanKind": int32_column([min(span.kind or 0, _OTHER) for span in spans]),
            "SpanAttributes": attribute_list_column(
                [span.attributes for span in spans], self.key_codes
            ),
            # An open span has none.
            "Duration": time_column(
                [end - start if end else 0 for start, end in zip(starts, ends, strict=True)]
            ),
            "StatusCode": int32_column([each.code or 0 if each else 0 for each in status]),
            "StatusMessage": string_column([each.message if each else None for each in status]),
            "Events": _EVENTS.lists([span.events for span in spans], self.key_codes),
            "Links": _LINKS.lists([span.links for span in spans], self.key_codes),
            "TraceFlags": count_column([span.flags for span in spans]),
            "DroppedAttrCount": count_column([s.dropped_attributes_count for s in spans]),
            "DroppedEventsCount": count_column([s.dropped_events_count for s in spans]),
            "DroppedLinksCount": count_column([s.dropped_links_count for s in spans]),
        }

    def _finish_columns(self, columns: dict[str, Any]) -> dict[str, Any]:
        attributes = attribute_map_columns(columns["SpanAttributes"], self.key_codes)
        return {
            **columns,
            "Timestamp": columns["time"].cast(_timestamp),
            "TraceId": replace_zero_ids(columns["TraceId"], 16),
            "ParentSpanId": replace_zero_ids(columns["ParentSpanId"], 8),
            "SpanName": dictionary_array(columns["name"], self.name_codes.texts()),
            "SpanKind": dictionary_array(columns["SpanKind"], [*_KINDS, "Unrecognized"]),
            "StatusCode": dictionary_array(columns["StatusCode"], _STATUS_CODES),
            "SpanAttributes": attributes.values,
            "SpanAttributeTypes": attributes.types,
            "Events": _EVENTS.structs(columns["Events"], self.key_codes),
            "Links": _LINKS.structs(columns["Links"], self.key_codes),
        }


def _is_strict_link(link: messages.Link) -> bool:
    return are_hex_ids([link.trace_id], 16) and are_hex_ids([link.span_id], 8)
