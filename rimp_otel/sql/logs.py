"""Log records as a table, with the columns of the Collector's ClickHouse exporter and some more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rimp_otel.models.records import Signal
from rimp_otel.otlp import messages
from rimp_otel.sql.builder import TableBuilder, are_hex_ids, are_integers, replace_zero_ids
from rimp_otel.sql.columns import (
    MAP,
    TYPES,
    attribute_list_column,
    attribute_map_columns,
    count_column,
    dictionary_array,
    int32_column,
    string_column,
    text_and_type,
    time_column,
)
from rimp_otel.sql.extras import pyarrow

__all__ = ["LogBuilder"]

_string, _uint32, _timestamp = pyarrow.string(), pyarrow.uint32(), pyarrow.timestamp("ns")

_SCHEMA = pyarrow.schema(
    [
        ("Timestamp", _timestamp),
        ("TraceId", _string),
        ("SpanId", _string),
        ("TraceFlags", _uint32),
        ("SeverityText", _string),
        ("SeverityNumber", pyarrow.int32()),
        ("ServiceName", _string),
        ("Body", _string),
        ("ResourceSchemaUrl", _string),
        ("ResourceAttributes", MAP),
        ("ScopeSchemaUrl", _string),
        ("ScopeName", _string),
        ("ScopeVersion", _string),
        ("ScopeAttributes", MAP),
        ("LogAttributes", MAP),
        ("EventName", _string),
        ("ObservedTimestamp", _timestamp),
        ("BodyType", _string),
        ("LogAttributeTypes", MAP),
        ("DroppedAttrCount", _uint32),
        ("ResourceAttributeTypes", MAP),
        ("ResourceDroppedAttrCount", _uint32),
        ("ScopeAttributeTypes", MAP),
        ("ScopeDroppedAttrCount", _uint32),
    ]
)


class LogBuilder(TableBuilder):
    """Makes tables of log records. A native event is a log record whose scope is its source."""

    signal = Signal.LOGS
    schema = _SCHEMA

    def _is_strict(self, records: Sequence[messages.LogRecord]) -> bool:
        return (
            are_hex_ids([record.trace_id for record in records], 16)
            and are_hex_ids([record.span_id for record in records], 8)
            and are_integers({record.severity_number for record in records})
        )

    def _make_columns(self, records: Sequence[messages.LogRecord]) -> dict[str, Any]:
        observed = [record.observed_time_unix_nano for record in records]
        bodies = [text_and_type(record.body) for record in records]
        return {
            # Like the exporter: the time of observation if the record has none of its own.
            "time": time_column(
                [r.time_unix_nano or other for r, other in zip(records, observed, strict=True)]
            ),
            "name": int32_column([self.name_codes[record.severity_text] for record in records]),
            "TraceId": string_column([record.trace_id for record in records]),
            "SpanId": string_column([record.span_id for record in records]),
            "TraceFlags": count_column([record.flags for record in records]),
            "SeverityNumber": int32_column([_severity_number(record) for record in records]),
            "Body": string_column([text for text, _ in bodies]),
            "BodyType": int32_column([kind for _, kind in bodies]),
            "LogAttributes": attribute_list_column(
                [record.attributes for record in records], self.key_codes
            ),
            "EventName": string_column([record.event_name for record in records]),
            "ObservedTimestamp": time_column(observed),
            "DroppedAttrCount": count_column(
                [record.dropped_attributes_count for record in records]
            ),
        }

    def _finish_columns(self, columns: dict[str, Any]) -> dict[str, Any]:
        attributes = attribute_map_columns(columns["LogAttributes"], self.key_codes)
        return {
            **columns,
            "Timestamp": columns["time"].cast(_timestamp),
            "ObservedTimestamp": columns["ObservedTimestamp"].cast(_timestamp),
            "TraceId": replace_zero_ids(columns["TraceId"], 16),
            "SpanId": replace_zero_ids(columns["SpanId"], 8),
            "SeverityText": dictionary_array(columns["name"], self.name_codes.texts()),
            "BodyType": dictionary_array(columns["BodyType"], TYPES),
            "LogAttributes": attributes.values,
            "LogAttributeTypes": attributes.types,
        }


def _severity_number(record: messages.LogRecord) -> int:
    return record.severity_number if isinstance(record.severity_number, int) else 0
