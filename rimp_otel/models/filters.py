"""Conditions that records must meet to be retrieved, besides a range of times."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, TypedDict

from opentelemetry.sdk.trace import ReadableSpan

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import (
    SEVERITY_HELP,
    EventType,
    Signal,
    TelemetryEvent,
    TelemetryMetric,
    parse_severity_number,
)

__all__ = ["Conditions", "Filter"]

_ALL = frozenset(Signal)
_TRACE_ID = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)
_VALUES = (str, bool, int, float, bytes, type(None))


class Conditions(TypedDict, total=False):
    """The keyword arguments of ``Filter.of``, which every filtering ``retrieve`` takes."""

    signals: Iterable[Signal | str] | None
    service: str | None
    name: str | None
    trace_id: int | str | None
    min_duration: float | timedelta | None
    severity: EventType | str | int | None
    attributes: Mapping[str, Any] | None


@dataclass(frozen=True)
class Filter:
    """Conditions, all of which must hold; true if there are any. Made by ``Filter.of``. Immutable."""

    #: The signals that can have matching records, given all the conditions.
    signals: frozenset[Signal] = _ALL
    service: str | None = None
    name: str | None = None
    trace_id: int | None = None
    #: In nanoseconds.
    min_duration: int | None = None
    #: OTLP's number.
    severity: int | None = None
    #: Keys and values.
    attributes: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(
        cls,
        *,
        signals: Iterable[Signal | str] | None = None,
        service: str | None = None,
        name: str | None = None,
        trace_id: int | str | None = None,
        min_duration: float | timedelta | None = None,
        severity: EventType | str | int | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Filter:
        """Check and convert conditions; None stands for no condition.

        A record without the field that a condition is about does not match it.

        Args:
            signals: "traces", "logs" or "metrics", or several of them in a list.
            service: the resource's ``service.name``.
            name: the name of a span or a metric, or the event name of a log record.
            trace_id: a number, or 32 hexadecimal digits, for spans and log records.
            min_duration: the shortest duration of a span: seconds, or a timedelta.
            severity: the lowest severity of a log record: an EventType, a name, OTLP's number, or a
                level of ``logging``; see `parse_severity_number`.
            attributes: values by key that the record's own attributes (an event's metadata, a
                metric's tags) have; True is not equal to 1, but 1 to 1.0, and a list to a tuple.

        Raises:
            ConfigurationError: a condition has an invalid value.
        """
        wanted = _ALL if signals is None else _check_signals(signals)
        if trace_id is not None:
            wanted &= {Signal.TRACES, Signal.LOGS}
        if min_duration is not None:
            wanted &= {Signal.TRACES}
        if severity is not None:
            wanted &= {Signal.LOGS}
        return cls(
            wanted,
            _check_nonempty("service", service),
            _check_nonempty("name", name),
            None if trace_id is None else _check_trace_id(trace_id),
            None if min_duration is None else _check_duration(min_duration),
            None if severity is None else _check_severity(severity),
            () if attributes is None else _check_attributes(attributes),
        )

    def __bool__(self) -> bool:
        return self != _EVERYTHING

    @property
    def has_conditions(self) -> bool:
        """True if there are any besides the signals."""
        return (
            self.service is not None
            or self.name is not None
            or self.trace_id is not None
            or self.min_duration is not None
            or self.severity is not None
            or bool(self.attributes)
        )

    def __repr__(self) -> str:
        """Show the conditions that there are, always in the same order."""
        texts = []
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                shown = sorted(s.value for s in value) if field.name == "signals" else value
                texts.append(f"{field.name}={shown!r}")
        return f"{type(self).__name__}({', '.join(texts)})"

    def matches(self, record: ReadableSpan | TelemetryEvent | TelemetryMetric) -> bool:
        """Return True if all conditions hold for the record."""
        if isinstance(record, TelemetryEvent):
            return Signal.LOGS in self.signals and self._holds_event(record)
        if isinstance(record, TelemetryMetric):
            return Signal.METRICS in self.signals and self._holds_common(
                record, record.name, record.tags
            )
        return Signal.TRACES in self.signals and self._holds_span(record)

    def _holds_span(self, span: ReadableSpan) -> bool:
        if self.trace_id is not None and (
            span.context is None or span.context.trace_id != self.trace_id
        ):
            return False
        if self.min_duration is not None:
            start, end = span.start_time, span.end_time
            if not start or not end or end - start < self.min_duration:
                return False
        return self._holds_common(span, span.name, span.attributes)

    def _holds_event(self, event: TelemetryEvent) -> bool:
        if self.trace_id is not None and event.trace_id != self.trace_id:
            return False
        if self.severity is not None and event.severity_number < self.severity:
            return False
        return self._holds_common(event, event.event_name, event.metadata)

    def _holds_common(self, record: Any, name: str, attributes: Mapping[str, Any] | None) -> bool:
        if self.name is not None and name != self.name:
            return False
        if self.service is not None and _recorded_service(record) != self.service:
            return False
        own = attributes or {}
        return all(
            key in own and _is_equal_value(own[key], value) for key, value in self.attributes
        )


_EVERYTHING = Filter()


def _recorded_service(record: Any) -> Any:
    return None if record.resource is None else record.resource.attributes.get("service.name")


def _is_equal_value(recorded: Any, wanted: Any) -> bool:
    if isinstance(recorded, bool) or isinstance(wanted, bool):
        return recorded is wanted
    if isinstance(wanted, (list, tuple)):
        return (
            isinstance(recorded, (list, tuple))
            and len(recorded) == len(wanted)
            and all(map(_is_equal_value, recorded, wanted))
        )
    if isinstance(wanted, Mapping):
        return (
            isinstance(recorded, Mapping)
            and recorded.keys() == wanted.keys()
            and all(_is_equal_value(recorded[key], value) for key, value in wanted.items())
        )
    return bool(recorded == wanted)


def _check_signals(signals: Any) -> frozenset[Signal]:
    try:
        return frozenset(map(Signal, [signals] if isinstance(signals, str) else signals))
    except (TypeError, ValueError):
        raise _condition_error(
            "signals", signals, "'traces', 'logs', 'metrics', a list of these, or None"
        ) from None


def _check_nonempty(argument: str, text: Any) -> str | None:
    if text is None or (isinstance(text, str) and text):
        return text
    raise _condition_error(argument, text, "a non-empty string or None")


def _check_trace_id(trace_id: Any) -> int:
    number = trace_id
    if isinstance(trace_id, str) and _TRACE_ID.fullmatch(trace_id):
        number = int(trace_id, 16)
    if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 2**128:
        return number
    raise _condition_error(
        "trace_id", trace_id, "32 hexadecimal digits, an integer of 1 to 128 bits, or None"
    )


def _check_duration(duration: Any) -> int:
    nanos = None
    if isinstance(duration, timedelta):
        nanos = duration // timedelta(microseconds=1) * 1_000
    elif isinstance(duration, (int, float)) and not isinstance(duration, bool):
        nanos = round(duration * 1e9) if math.isfinite(duration) else None
    if nanos is None or nanos < 0:
        raise _condition_error(
            "min_duration", duration, "a number of seconds >= 0, a timedelta, or None"
        )
    return nanos


def _check_severity(severity: Any) -> int:
    number = parse_severity_number(severity)
    if number is not None:
        return number
    raise _condition_error("severity", severity, f"{SEVERITY_HELP}, or None")


def _check_attributes(attributes: Any) -> tuple[tuple[str, Any], ...]:
    if not isinstance(attributes, Mapping) or not all(isinstance(key, str) for key in attributes):
        raise _condition_error("attributes", attributes, "a mapping with strings as keys, or None")
    for key, value in attributes.items():
        if not _is_attribute_value(value):
            raise _condition_error(
                f"attributes[{key!r}]", value, "a value that an attribute can have"
            )
    return tuple(attributes.items())


def _is_attribute_value(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_attribute_value, value))
    if isinstance(value, Mapping):
        return all(
            isinstance(key, str) and _is_attribute_value(item) for key, item in value.items()
        )
    return isinstance(value, _VALUES)


def _condition_error(argument: str, value: object, allowed: str) -> ConfigurationError:
    return ConfigurationError(f"{argument} must be {allowed}, got {value!r}")
