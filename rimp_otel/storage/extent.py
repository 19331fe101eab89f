"""Which times the records of a line have, found without making records of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

__all__ = ["Extent", "times_in"]

_MOST = 2**64 - 1
# Quotes within a text are escaped, so that no text of a user's looks like this.
_TIMES = re.compile(rb'imeUnixNano"\s*:\s*"?([0-9]{1,20})')


class _Span(msgspec.Struct, rename="camel", gc=False):
    start_time_unix_nano: int | None = None


class _Record(msgspec.Struct, rename="camel", gc=False):
    time_unix_nano: int | None = None
    observed_time_unix_nano: int | None = None


class _Points(msgspec.Struct, rename="camel", gc=False):
    data_points: list[_Record] | None = None


class _Metric(msgspec.Struct, rename="camel", gc=False):
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
    scope_spans: list[_Scope] | None = None
    scope_logs: list[_Scope] | None = None
    scope_metrics: list[_Scope] | None = None


class _Line(msgspec.Struct, rename="camel", gc=False):
    resource_spans: list[_Resource] | None = None
    resource_logs: list[_Resource] | None = None
    resource_metrics: list[_Resource] | None = None


_decoder = msgspec.json.Decoder(_Line, strict=False)


class Extent:
    """A range of times that holds those of all records of the lines that were added."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._last = 0

    def add(self, line: bytes) -> None:
        """Widens the range by a line's records. A damaged line may widen it too; that is harmless."""
        times = times_in(line)
        if times:
            first, last = min(times), min(max(times), _MOST)
            self._first = first if self._first is None else min(first, self._first)
            self._last = max(last, self._last)

    @property
    def first(self) -> int:
        """In nanoseconds since the epoch; 0 where there is no record."""
        return self._first or 0

    @property
    def last(self) -> int:
        """In nanoseconds since the epoch; 0 where there is no record."""
        return self._last


def times_in(line: bytes) -> list[int]:
    """The times of a line's records, as ``retrieve`` understands them, in nanoseconds.

    Of a line that is not OTLP JSON: all that look like times.
    """
    try:
        return list(_times(_decoder.decode(line)))
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return [int(text) for text in _TIMES.findall(line)]


def _times(line: _Line) -> Iterator[int]:
    groups = (line.resource_spans, line.resource_logs, line.resource_metrics)
    for resource in (resource for group in groups for resource in group or ()):
        scopes = (resource.scope_spans, resource.scope_logs, resource.scope_metrics)
        for scope in (scope for group in scopes for scope in group or ()):
            for span in scope.spans or ():
                yield span.start_time_unix_nano or 0
            for record in scope.log_records or ():
                yield record.time_unix_nano or record.observed_time_unix_nano or 0
            for metric in scope.metrics or ():
                yield from _times_of(metric)


def _times_of(metric: _Metric) -> Iterator[int]:
    kinds = (
        metric.gauge,
        metric.sum,
        metric.histogram,
        metric.exponential_histogram,
        metric.summary,
    )
    for points in kinds:
        for point in (points and points.data_points) or ():
            yield point.time_unix_nano or 0
