"""Facts about a line, found without making records of it: signal, record count, summary, times.

Only the fields that are needed are decoded, which is a tenth of the work of ``decode_line``. They
are read as it reads them, so that a line whose summary excludes a record does not have it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from rimp_otel.errors import DecodeError
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.otlp.decode_common import SEVERITIES, enum_number, id_number, resource_info_of
from rimp_otel.otlp.messages import (
    PartialData,
    PartialLine,
    PartialMessage,
    PartialMetric,
    PartialResource,
    PartialScope,
    check_one_signal,
    decode_with_scopes,
    no_recursion_error,
)

__all__ = [
    "LATEST",
    "UNKNOWN_SUMMARY",
    "LineSummary",
    "TimeRange",
    "count_records",
    "signal_of_line",
    "summarize_line",
    "times_of_line",
]

LATEST = 2**64 - 1
"""The last time that OTLP can express, in nanoseconds since the epoch."""


# Signal and count.

_SIGNALS = {signal.resource_key.encode(): signal for signal in Signal}
_FIRST_KEY = re.compile(rb'\s*\{\s*"(' + b"|".join(_SIGNALS) + rb')"\s*:')
_HEAD_SIZE = 128

_CountedMetric = PartialMetric[PartialData[Raw]]
_COUNTED_LINE = msgspec.json.Decoder(PartialLine[Raw, Raw, _CountedMetric])


def signal_of_line(text: str | bytes) -> Signal:
    """Return the signal of a line, by its first key where that tells it.

    Raises:
        DecodeError: the line holds no signal, or several.
    """
    head = text[:_HEAD_SIZE]
    found = _FIRST_KEY.match(head if isinstance(head, bytes) else head.encode(errors="replace"))
    return (
        _SIGNALS[found[1]] if found else check_one_signal(decode_with_scopes(_COUNTED_LINE, text))
    )


def count_records(text: str | bytes) -> int:
    """Return how many records ``decode_line`` makes of a line, without making them.

    Raises:
        DecodeError: the line is not JSON, or not of OTLP's shape. The inside of records is not
            checked.
    """
    line = decode_with_scopes(_COUNTED_LINE, text)
    check_one_signal(line)
    return sum(_count_in_scope(scope) for group in line.resources() for scope in group.scopes())


def _count_in_scope(scope: PartialScope[Raw, Raw, _CountedMetric]) -> int:
    if scope.metrics is None:
        return len(scope.spans or scope.log_records or ())
    return sum(_count_points(metric) for metric in scope.metrics)


def _count_points(metric: _CountedMetric) -> int:
    for data in metric.data():
        if data is not None:
            return len(data.data_points or ())
    return 0


# Summaries.


class LineSummary(NamedTuple):
    """A summary of the records of a line. For a line without records, ``first`` is later than ``last``."""

    #: A range that holds the times of all records, in nanoseconds since the epoch.
    first: int
    last: int
    #: The longest duration of a span, in nanoseconds, or the highest severity number of a log
    #: record.
    most: int
    trace_ids: frozenset[int] = frozenset()
    services: frozenset[str] = frozenset()
    #: Names of spans and metrics, and event names of log records.
    names: frozenset[str] = frozenset()
    #: False if the line could not be read, so that anything may be in it.
    is_known: bool = True

    def may_match(self, filter: Filter) -> bool:
        """Return False if no record of the line can match the filter."""
        if not self.is_known:
            return True
        if max(filter.min_duration or 0, filter.severity or 0) > self.most:
            return False
        return (
            (filter.trace_id is None or filter.trace_id in self.trace_ids)
            and (filter.service is None or filter.service in self.services)
            and (filter.name is None or filter.name in self.names)
        )


UNKNOWN_SUMMARY = LineSummary(0, LATEST, LATEST, is_known=False)
"""The summary of a line that only decoding it can tell about, or that is damaged."""

_EMPTY_SUMMARY = LineSummary(LATEST, 0, 0)


class _SpanFields(PartialMessage):
    trace_id: str | None = None
    name: str | None = None
    start_time_unix_nano: int | None = None
    end_time_unix_nano: int | None = None


class _LogFields(PartialMessage):
    time_unix_nano: int | None = None
    observed_time_unix_nano: int | None = None
    severity_number: int | str | None = None
    trace_id: str | None = None
    event_name: str | None = None


class _PointFields(PartialMessage):
    time_unix_nano: int | None = None


class _MetricFields(PartialMetric[PartialData[_PointFields]]):
    name: str | None = None


_Scope = PartialScope[_SpanFields, _LogFields, _MetricFields]
_Resource = PartialResource[_SpanFields, _LogFields, _MetricFields]
_SUMMARIZED_LINE = msgspec.json.Decoder(
    PartialLine[_SpanFields, _LogFields, _MetricFields], strict=False
)


def summarize_line(text: bytes) -> LineSummary:
    """Return what a line holds: ``UNKNOWN_SUMMARY`` for one that cannot be read, a summary without
    records for an empty one."""
    line = text.strip()
    try:
        return _summarize(line) if line else _EMPTY_SUMMARY
    except (DecodeError, ValueError):
        return UNKNOWN_SUMMARY


@no_recursion_error
def _summarize(text: bytes) -> LineSummary:
    line = decode_with_scopes(_SUMMARIZED_LINE, text)
    check_one_signal(line)
    groups = line.resources()
    found = _Found()
    for group in groups:
        for scope in group.scopes():
            found.add_spans(scope)
            found.add_log_records(scope)
            found.add_metrics(scope)
    if not found.times:
        return _EMPTY_SUMMARY
    if min(found.times) < 0 or max(found.times) > LATEST:
        return UNKNOWN_SUMMARY
    return LineSummary(
        min(found.times),
        max(found.times),
        min(max([0, *found.most]), LATEST),
        frozenset([id_number(text, 16, "traceId") for text in found.trace_ids if text]),
        frozenset(_services_of(groups)),
        frozenset(filter(None, found.names)),
    )


class _Found:
    """The fields of a line's records, as they stand there."""

    def __init__(self) -> None:
        self.times: list[int] = []
        #: Durations, or severity numbers.
        self.most: list[int] = []
        self.trace_ids: set[str | None] = set()
        self.names: set[str | None] = set()

    def add_spans(self, scope: _Scope) -> None:
        spans = scope.spans or ()
        self.times += [span.start_time_unix_nano or 0 for span in spans]
        self.most += [
            (span.end_time_unix_nano or 0) - (span.start_time_unix_nano or 0) for span in spans
        ]
        self.trace_ids.update([span.trace_id for span in spans])
        self.names.update([span.name for span in spans])

    def add_log_records(self, scope: _Scope) -> None:
        logs = scope.log_records or ()
        self.times += [log.time_unix_nano or log.observed_time_unix_nano or 0 for log in logs]
        severities = {log.severity_number for log in logs}
        self.most += [enum_number(value, SEVERITIES, "severityNumber") for value in severities]
        self.trace_ids.update([log.trace_id for log in logs])
        self.names.update([log.event_name for log in logs])

    def add_metrics(self, scope: _Scope) -> None:
        for metric in scope.metrics or ():
            self.names.add(metric.name)
            for data in metric.data():
                if data is not None and data.data_points:
                    self.times += [point.time_unix_nano or 0 for point in data.data_points]


def _services_of(groups: Iterable[_Resource]) -> Iterator[Any]:
    for group in groups:
        service = resource_info_of(group.resource, "").attributes.get("service.name")
        if isinstance(service, str):
            yield service


# Times, also of damaged lines.

# Quotes within a text are escaped, so that no text of a user's looks like this.
_TIMES = re.compile(rb'imeUnixNano"\s*:\s*"?([0-9]{1,20})')


class TimeRange:
    """A range that holds the times of all records of the lines that were added to it."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._last = 0

    def add(self, line: bytes, summary: LineSummary | None = None) -> None:
        """Widen the range by a line's records. A damaged line may widen it too, which is harmless.

        Args:
            line: the text of the line.
            summary: its summary, if the caller has made it already.
        """
        times = _times_of(line, summarize_line(line) if summary is None else summary)
        if times is not None:
            self._first = times[0] if self._first is None else min(times[0], self._first)
            self._last = max(times[1], self._last)

    @property
    def first(self) -> int:
        """The first time, in nanoseconds since the epoch; 0 if there is no record."""
        return self._first or 0

    @property
    def last(self) -> int:
        """The last time, in nanoseconds since the epoch; 0 if there is no record."""
        return self._last


def times_of_line(line: bytes) -> tuple[int, int] | None:
    """Return the first and the last time of a line's records, in nanoseconds since the epoch.

    The time of a record is that by which ``retrieve`` selects it. In a line that is not OTLP JSON
    everything that looks like a time counts. Without any time, return None.
    """
    return _times_of(line, summarize_line(line))


def _times_of(line: bytes, summary: LineSummary) -> tuple[int, int] | None:
    if summary.is_known:
        return (summary.first, summary.last) if summary.first <= summary.last else None
    times = [min(int(text), LATEST) for text in _TIMES.findall(line)]
    return (min(times), max(times)) if times else None
