"""Log records as a table, with the columns of the Collector's ClickHouse exporter and some more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rimp_otel.models.records import Signal
from rimp_otel.otlp import messages
from rimp_otel.sql.builder import Builder, are_ids, are_numbers, without_zeros
from rimp_otel.sql.columns import (
    MAP,
    TYPES,
    attribute_columns,
    attribute_lists,
    coded,
    codes,
    counts,
    integers,
    text_and_type,
    texts,
)
from rimp_otel.sql.extras import pyarrow

__all__ = ["LogBuilder"]

_text, _count, _time = pyarrow.string(), pyarrow.uint32(), pyarrow.timestamp("ns")

_SCHEMA = pyarrow.schema(
    [
        ("Timestamp", _time),
        ("TraceId", _text),
        ("SpanId", _text),
        ("TraceFlags", _count),
        ("SeverityText", _text),
        ("SeverityNumber", pyarrow.int32()),
        ("ServiceName", _text),
        ("Body", _text),
        ("ResourceSchemaUrl", _text),
        ("ResourceAttributes", MAP),
        ("ScopeSchemaUrl", _text),
        ("ScopeName", _text),
        ("ScopeVersion", _text),
        ("ScopeAttributes", MAP),
        ("LogAttributes", MAP),
        ("EventName", _text),
        ("ObservedTimestamp", _time),
        ("BodyType", _text),
        ("LogAttributeTypes", MAP),
        ("DroppedAttrCount", _count),
        ("ResourceAttributeTypes", MAP),
        ("ResourceDroppedAttrCount", _count),
        ("ScopeAttributeTypes", MAP),
        ("ScopeDroppedAttrCount", _count),
    ]
)


class LogBuilder(Builder):
    """Makes tables of log records. A native event is one whose scope is its source."""

    signal = Signal.LOGS

    @classmethod
    def schema(cls) -> Any:
        """The columns."""
        return _SCHEMA

    def _blocks(self, line: messages.OtlpLine) -> Iterable[tuple[int, list[Any]]]:
        for group in line.resource_logs or ():
            for scoped in group.scope_logs or ():
                number = self.origins.number(
                    group.resource, group.schema_url, scoped.scope, scoped.schema_url
                )
                yield number, scoped.log_records or []

    def _is_strict(self, records: Sequence[messages.LogRecord]) -> bool:
        return (
            are_ids([record.trace_id for record in records], 16)
            and are_ids([record.span_id for record in records], 8)
            and are_numbers({record.severity_number for record in records})
        )

    def _columns(self, records: Sequence[messages.LogRecord]) -> dict[str, Any]:
        observed = [record.observed_time_unix_nano for record in records]
        bodies = [text_and_type(record.body) for record in records]
        return {
            # As the exporter does: when it was observed, where it has no time of its own.
            "time": integers(
                [r.time_unix_nano or other for r, other in zip(records, observed, strict=True)]
            ),
            "name": codes([self.names[record.severity_text] for record in records]),
            "TraceId": texts([record.trace_id for record in records]),
            "SpanId": texts([record.span_id for record in records]),
            "TraceFlags": counts([record.flags for record in records]),
            "SeverityNumber": codes([_severity(record) for record in records]),
            "Body": texts([text for text, _ in bodies]),
            "BodyType": codes([kind for _, kind in bodies]),
            "LogAttributes": attribute_lists([record.attributes for record in records], self.keys),
            "EventName": texts([record.event_name for record in records]),
            "ObservedTimestamp": integers(observed),
            "DroppedAttrCount": counts([record.dropped_attributes_count for record in records]),
        }

    def _finish(self, columns: dict[str, Any]) -> dict[str, Any]:
        attributes = attribute_columns(columns["LogAttributes"], self.keys)
        return {
            **columns,
            "Timestamp": columns["time"].cast(_time),
            "ObservedTimestamp": columns["ObservedTimestamp"].cast(_time),
            "TraceId": without_zeros(columns["TraceId"], 16),
            "SpanId": without_zeros(columns["SpanId"], 8),
            "SeverityText": coded(columns["name"], self.names.texts()),
            "BodyType": coded(columns["BodyType"], TYPES),
            "LogAttributes": attributes.values,
            "LogAttributeTypes": attributes.types,
        }


def _severity(record: messages.LogRecord) -> int:
    return record.severity_number if isinstance(record.severity_number, int) else 0
