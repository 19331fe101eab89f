"""Spans and log records as OTLP JSON, for recordings that a test looks at through the viewer."""

from __future__ import annotations

import json
from typing import Any

S = 10**9
START = 1_795_521_600 * S
"""A whole day since the epoch: where steps begin, whatever they are."""


def value_json(value: Any) -> dict[str, Any]:
    """Return a value as OTLP JSON has it."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": value}


def attributes_json(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return attributes as OTLP JSON has them."""
    return [{"key": key, "value": value_json(value)} for key, value in attributes.items()]


def span_json(
    number: int,
    name: str = "GET /cart",
    *,
    trace: int = 0xABC,
    parent: int = 0,
    start: float = 0.0,
    seconds: float = 1.0,
    kind: int = 2,
    attributes: dict[str, Any] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Return a span; times are in seconds, ``start`` since ``START``."""
    begin = START + int(start * S)
    found = {
        "traceId": f"{trace:032x}",
        "spanId": f"{number:016x}",
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(begin),
        "endTimeUnixNano": str(begin + int(seconds * S)),
        "attributes": attributes_json(attributes or {}),
        **fields,
    }
    return found | ({"parentSpanId": f"{parent:016x}"} if parent else {})


def span_line(service: str, *spans: dict[str, Any], **resource: Any) -> bytes:
    """Return a line of spans of a service."""
    attributes = attributes_json({"service.name": service, **resource})
    scopes = [{"scope": {"name": "lib", "version": "2"}, "spans": list(spans)}]
    group = {"resource": {"attributes": attributes}, "scopeSpans": scopes}
    return json.dumps({"resourceSpans": [group]}).encode()


def log_line(service: str, *severities: int, start: float = 0.0, trace: int = 0) -> bytes:
    """Return a line of log records of a service, one for each severity number."""
    records = [
        {
            "timeUnixNano": str(START + int(start * S) + number),
            "severityNumber": severity,
            "body": {"stringValue": f"message {number}"},
            **({"traceId": f"{trace:032x}"} if trace else {}),
        }
        for number, severity in enumerate(severities)
    ]
    group = {
        "resource": {"attributes": attributes_json({"service.name": service})},
        "scopeLogs": [{"logRecords": records}],
    }
    return json.dumps({"resourceLogs": [group]}).encode()
