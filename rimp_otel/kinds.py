"""What single records are made of: their kinds, their values, and where they come from.

Apart from ``models``, which has all of these names too, since recording needs no more.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any

__all__ = [
    "Attributes",
    "EventType",
    "MetricKind",
    "Number",
    "ResourceInfo",
    "ScopeInfo",
    "Temporality",
    "Value",
]


class EventType(Enum):
    """How bad an event is. Each stands for the lowest OTLP severity number of its range."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def severity_number(self) -> int:
        """The OTLP severity number: 5, 9, 13 or 17."""
        return _SEVERITY_NUMBERS[self]

    @classmethod
    def from_severity_number(cls, number: int) -> EventType:
        """The type whose range holds ``number``: trace and debug are DEBUG, fatal is ERROR;
        0 (unspecified) is INFO."""
        if number >= 17:
            return cls.ERROR
        if number >= 13:
            return cls.WARNING
        return cls.DEBUG if 0 < number < 9 else cls.INFO


_SEVERITY_NUMBERS = {
    EventType.DEBUG: 5,
    EventType.INFO: 9,
    EventType.WARNING: 13,
    EventType.ERROR: 17,
}


class MetricKind(str, Enum):
    """The OTLP data point types."""

    GAUGE = "gauge"
    SUM = "sum"
    HISTOGRAM = "histogram"
    EXPONENTIAL_HISTOGRAM = "exponential_histogram"
    SUMMARY = "summary"


class Temporality(int, Enum):
    """OTLP's aggregation temporality; UNSPECIFIED for kinds that have none."""

    UNSPECIFIED = 0
    DELTA = 1
    CUMULATIVE = 2


class _ForJson:
    """Tells pydantic how to write what JSON has no form for: NaN and the infinities as strings,
    bytes as base64. (Its own settings for that reach neither into a union nor into Any.)"""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        write = {"type": "function-plain", "function": _json_value, "when_used": "json"}
        return {**handler(source), "serialization": write}


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, Mapping):
        return {key: _json_value(item) for key, item in value.items()}
    return [_json_value(item) for item in value] if isinstance(value, (list, tuple)) else value


Number = Annotated[float | int, _ForJson()]
"""An int that stays one, or a float."""

Value = Annotated[Any, _ForJson()]
"""What OTLP calls an AnyValue."""

Attributes = Annotated[dict[str, Any], _ForJson()]
"""Values by their names."""


@dataclass(frozen=True)
class ResourceInfo:
    """The entity that produced a record, as OTLP's Resource."""

    attributes: Attributes = field(default_factory=dict)
    schema_url: str = ""
    dropped_attributes_count: int = 0


@dataclass(frozen=True)
class ScopeInfo:
    """The library or component that produced a record, as OTLP's InstrumentationScope."""

    name: str = ""
    version: str = ""
    attributes: Attributes = field(default_factory=dict)
    schema_url: str = ""
    dropped_attributes_count: int = 0
