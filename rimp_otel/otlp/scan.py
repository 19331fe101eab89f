"""What a line holds, found without making records of it: a tenth of the work of decoding it.

Only the fields that are looked for are decoded; msgspec skips the rest. They are read as
``decode_line`` reads them, so that a line whose facts exclude a record does not have it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from rimp_otel.errors import DecodeError
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.otlp import messages as wire
from rimp_otel.otlp.decode_common import (
    SEVERITIES,
    enum_number,
    id_number,
    resource_info_of,
)
from rimp_otel.otlp.messages import check_one_signal, decode_json, no_recursion_error

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


# --- What a line holds, found without making records of it: a tenth of the work of decoding it.

LATEST = 2**64 - 1
"""The last time that there is, in nanoseconds since the epoch."""


class LineSummary(NamedTuple):
    """What there is in a line. Where there is nothing, ``first`` is later than ``last``."""

    #: A range that holds the times of all records, in nanoseconds since the epoch.
    first: int
    last: int
    #: The longest duration of a span, in nanoseconds, or the highest severity number of a log
    #: record.
    most: int
    trace_ids: frozenset[int] = frozenset()
    services: frozenset[str] = frozenset()
    #: Of spans, metrics, and log records that have one.
    names: frozenset[str] = frozenset()
    #: Whether all of this is known.
    is_known: bool = True

    def may_match(self, filter: Filter) -> bool:
        """Whether there may be a record that matches."""
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
"""Of a line that must be decoded to know what it holds, or that it is damaged."""

_EMPTY_SUMMARY = LineSummary(LATEST, 0, 0)


class _Span(msgspec.Struct, rename="camel", gc=False):
    trace_id: str | None = None
    name: str | None = None
    start_time_unix_nano: int | None = None
    end_time_unix_nano: int | None = None


class _Record(msgspec.Struct, rename="camel", gc=False):
    time_unix_nano: int | None = None
    observed_time_unix_nano: int | None = None
    severity_number: int | str | None = None
    trace_id: str | None = None
    event_name: str | None = None


class _Point(msgspec.Struct, rename="camel", gc=False):
    time_unix_nano: int | None = None


class _Points(msgspec.Struct, rename="camel", gc=False):
    data_points: list[_Point] | None = None


class _Metric(msgspec.Struct, rename="camel", gc=False):
    name: str | None = None
    gauge: _Points | None = None
    sum: _Points | None = None
    histogram: _Points | None = None
    exponential_histogram: _Points | None = None
    summary: _Points | None = None


class _Scope(msgspec.Struct, rename="camel", gc=False):
    spans: list[_Span] | None = None
    log_records: list[_Record] | None = None
    metrics: list[_Metric] | None = None


class _Resource(msgspec.Struct, rename="camel", gc=False):
    resource: Raw = Raw()
    scope_spans: list[_Scope] | None = None
    scope_logs: list[_Scope] | None = None
    scope_metrics: list[_Scope] | None = None


class _Line(msgspec.Struct, rename="camel", gc=False):
    resource_spans: list[_Resource] | UnsetType | None = UNSET
    resource_logs: list[_Resource] | UnsetType | None = UNSET
    resource_metrics: list[_Resource] | UnsetType | None = UNSET


_decoder = msgspec.json.Decoder(_Line, strict=False)


def summarize_line(text: bytes) -> LineSummary:
    """What a line holds; ``UNKNOWN_SUMMARY`` of one that cannot be read, nothing of one without text."""
    line = text.strip()
    try:
        return _summarize(line) if line else _EMPTY_SUMMARY
    except (DecodeError, ValueError):
        return UNKNOWN_SUMMARY


@no_recursion_error
def _summarize(text: bytes) -> LineSummary:
    line = decode_json(_decoder, text)
    check_one_signal(line)
    groups = line.resource_spans or line.resource_logs or line.resource_metrics or []
    times: list[int] = []
    mosts: list[int] = []
    ids: set[str | None] = set()
    names: set[str | None] = set()
    for group in groups:
        for scope in group.scope_spans or group.scope_logs or group.scope_metrics or ():
            for read in (_add_spans, _add_records, _add_metrics):
                read(scope, times, mosts, ids, names)
    if not times:
        return _EMPTY_SUMMARY
    if min(times) < 0 or max(times) > LATEST:
        return UNKNOWN_SUMMARY
    return LineSummary(
        min(times),
        max(times),
        min(max([0, *mosts]), LATEST),
        frozenset([id_number(text, 16, "traceId") for text in ids if text]),
        frozenset(_services(groups)),
        frozenset(filter(None, names)),
    )


Texts = set["str | None"]


def _add_spans(scope: _Scope, times: list[int], mosts: list[int], ids: Texts, names: Texts) -> None:
    spans = scope.spans or ()
    times += [span.start_time_unix_nano or 0 for span in spans]
    mosts += [(span.end_time_unix_nano or 0) - (span.start_time_unix_nano or 0) for span in spans]
    ids.update([span.trace_id for span in spans])
    names.update([span.name for span in spans])


def _add_records(
    scope: _Scope, times: list[int], mosts: list[int], ids: Texts, names: Texts
) -> None:
    records = scope.log_records or ()
    times += [record.time_unix_nano or record.observed_time_unix_nano or 0 for record in records]
    severities = {record.severity_number for record in records}
    mosts += [enum_number(value, SEVERITIES, "severityNumber") for value in severities]
    ids.update([record.trace_id for record in records])
    names.update([record.event_name for record in records])


def _add_metrics(
    scope: _Scope, times: list[int], mosts: list[int], ids: Texts, names: Texts
) -> None:
    for metric in scope.metrics or ():
        names.add(metric.name)
        for points in _points_of(metric):
            times += [point.time_unix_nano or 0 for point in points]


def _points_of(metric: _Metric) -> Iterator[list[_Point]]:
    kinds = (
        metric.gauge,
        metric.sum,
        metric.histogram,
        metric.exponential_histogram,
        metric.summary,
    )
    return (kind.data_points for kind in kinds if kind is not None and kind.data_points)


def _services(groups: Iterable[_Resource]) -> Iterator[Any]:
    for group in groups:
        service = resource_info_of(group.resource, "").attributes.get("service.name")
        if isinstance(service, str):
            yield service


# --- Which times the records of lines have, also of lines that are damaged.

# Quotes within a text are escaped, so that no text of a user's looks like this.
_TIMES = re.compile(rb'imeUnixNano"\s*:\s*"?([0-9]{1,20})')


class TimeRange:
    """A range of times that holds those of all records of the lines that were added."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._last = 0

    def add(self, line: bytes, facts: LineSummary | None = None) -> None:
        """Widens the range by a line's records. A damaged line may widen it too; that is harmless.

        Args:
            line: its text.
            facts: what it holds, where that was looked at before.
        """
        times = _times_of(line, summarize_line(line) if facts is None else facts)
        if times is not None:
            self._first = times[0] if self._first is None else min(times[0], self._first)
            self._last = max(times[1], self._last)

    @property
    def first(self) -> int:
        """In nanoseconds since the epoch; 0 where there is no record."""
        return self._first or 0

    @property
    def last(self) -> int:
        """In nanoseconds since the epoch; 0 where there is no record."""
        return self._last


def times_of_line(line: bytes) -> tuple[int, int] | None:
    """The first and the last time of a line's records, as ``retrieve`` understands them, in
    nanoseconds; None where there is none.

    Of a line that is not OTLP JSON: of all that look like times.
    """
    return _times_of(line, summarize_line(line))


def _times_of(line: bytes, facts: LineSummary) -> tuple[int, int] | None:
    if facts.is_known:
        return (facts.first, facts.last) if facts.first <= facts.last else None
    times = [min(int(text), LATEST) for text in _TIMES.findall(line)]
    return (min(times), max(times)) if times else None


# --- OTLP JSON lines to records.


def signal_of_line(text: str | bytes) -> Signal:
    """The signal of a line. Looks at its first key only, where that says it.

    Raises:
        DecodeError: it holds no signal, or several.
    """
    head = text[:_HEAD_SIZE]
    found = _FIRST_KEY.match(head if isinstance(head, bytes) else head.encode(errors="replace"))
    return (
        _SIGNALS[found[1]]
        if found
        else wire.check_one_signal(wire.decode_json(_COUNTED_LINE, text))
    )


def count_records(text: str | bytes) -> int:
    """How many records ``decode_line`` gives for a line, without making them.

    Raises:
        DecodeError: it is not JSON, or not of OTLP's shape. What is within records is not checked.
    """
    line = wire.decode_json(_COUNTED_LINE, text)
    wire.check_one_signal(line)
    groups = line.resource_spans or line.resource_logs or line.resource_metrics or []
    return sum(
        _count_in_scope(scope)
        for group in groups
        for scope in group.scope_spans or group.scope_logs or group.scope_metrics or ()
    )


class _CountedPoints(Struct, rename="camel"):
    data_points: list[Raw] | None = None


class _CountedMetric(Struct, rename="camel"):
    gauge: _CountedPoints | None = None
    sum: _CountedPoints | None = None
    histogram: _CountedPoints | None = None
    exponential_histogram: _CountedPoints | None = None
    summary: _CountedPoints | None = None


class _CountedScope(Struct, rename="camel"):
    spans: list[Raw] | None = None
    log_records: list[Raw] | None = None
    metrics: list[_CountedMetric] | None = None


class _CountedGroup(Struct, rename="camel"):
    scope_spans: list[_CountedScope] | None = None
    scope_logs: list[_CountedScope] | None = None
    scope_metrics: list[_CountedScope] | None = None


class _CountedLine(Struct, rename="camel"):
    resource_spans: list[_CountedGroup] | UnsetType | None = UNSET
    resource_logs: list[_CountedGroup] | UnsetType | None = UNSET
    resource_metrics: list[_CountedGroup] | UnsetType | None = UNSET


_COUNTED_LINE = msgspec.json.Decoder(_CountedLine)
_SIGNALS = {signal.resource_key.encode(): signal for signal in Signal}
_FIRST_KEY = re.compile(rb'\s*\{\s*"(' + b"|".join(_SIGNALS) + rb')"\s*:')
_HEAD_SIZE = 128


def _count_in_scope(scope: _CountedScope) -> int:
    if scope.metrics is None:
        return len(scope.spans or scope.log_records or ())
    return sum(_count_points(metric) for metric in scope.metrics)


def _count_points(metric: _CountedMetric) -> int:
    data = (
        metric.gauge
        or metric.sum
        or metric.histogram
        or metric.exponential_histogram
        or metric.summary
    )
    return len(data.data_points or ()) if data else 0
