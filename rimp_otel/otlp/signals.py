"""The three signals, and what OTLP calls their parts."""

from __future__ import annotations

from enum import Enum

__all__ = ["Signal"]


class Signal(str, Enum):
    """A signal; its value is the stem of its file's name."""

    TRACES = "traces"
    LOGS = "logs"
    METRICS = "metrics"

    @property
    def resource_key(self) -> str:
        """The one key of a line's outermost object, such as ``resourceSpans``."""
        return _KEYS[self][0]

    @property
    def scope_key(self) -> str:
        """The key of a resource's list of scopes, such as ``scopeSpans``."""
        return _KEYS[self][1]

    @property
    def record_key(self) -> str:
        """The key of a scope's list of records, such as ``spans``."""
        return _KEYS[self][2]


_KEYS = {
    Signal.TRACES: ("resourceSpans", "scopeSpans", "spans"),
    Signal.LOGS: ("resourceLogs", "scopeLogs", "logRecords"),
    Signal.METRICS: ("resourceMetrics", "scopeMetrics", "metrics"),
}
