"""What commands share to read a recording and to print: warnings, progress, counts, JSON."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from rimp_otel.cli.options import UsageError
from rimp_otel.errors import NoRecordingError
from rimp_otel.models.accessors import (
    Record,
    duration_of,
    parent_id_of,
    service_of,
    span_id_of,
    start_of,
    time_of,
    trace_id_of,
)
from rimp_otel.models.records import Signal, SummaryPoint, TelemetryEvent, TelemetryMetric
from rimp_otel.models.times import Window
from rimp_otel.render.format import format_count, format_utc
from rimp_otel.render.terminal import Style, clip_text

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from rimp_otel.batch import TelemetryData
    from rimp_otel.models.filters import Filter
    from rimp_otel.storage.base import DamagedLine, Recording

__all__ = [
    "SIGNAL_NOUNS",
    "Progress",
    "counts_json",
    "describe_database_beside",
    "format_counts",
    "open_recording_at",
    "raise_if_unread",
    "read_batches",
    "record_json",
    "records_of",
    "report_damage",
    "retrieve_records",
    "warn",
    "warn_of_skipped",
]


_SECONDS_BEFORE_FIRST_DRAWING = 0.5
_SECONDS_BETWEEN_DRAWINGS = 0.1
_BAR_WIDTH = 24


class Progress:
    """A progress bar on standard error, if that is a terminal; it is removed when it is done.

    Within a ``with`` statement; it may be entered again. Use it in one thread.

    Args:
        label: of what is being done, such as "reading".
        total: how much there is to do, in ``unit``; 0 if that is not known.
        unit: what is counted, such as "files"; empty to show the label alone.
        stream: where to draw; standard error by default.
        clock: returns seconds.
    """

    def __init__(
        self,
        label: str,
        total: int = 0,
        unit: str = "",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0
        self._stream = stream or sys.stderr
        self._clock = clock
        self._next = clock() + _SECONDS_BEFORE_FIRST_DRAWING
        self._is_shown = False
        self._is_on = self._stream.isatty()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.clear()

    def advance(self, by: int = 1, label: str = "") -> None:
        """Count ``by`` more as done. The bar appears after half a second, and is drawn ten times
        a second at most.

        Args:
            by: how much more is done.
            label: replaces the label, if it is not empty.
        """
        self.done += by
        self.label = label or self.label
        if self._is_on and self._clock() >= self._next:
            self._next = self._clock() + _SECONDS_BETWEEN_DRAWINGS
            self._draw()

    def show(self, label: str = "", done: int = 0, total: int = 0) -> None:
        """Draw the bar at once, as before a step that may take long.

        Args:
            label: replaces the label, if it is not empty.
            done: how much is done.
            total: how much there is to do; 0 if that is not known.
        """
        self.label, self.done, self.total = label or self.label, done, total
        if self._is_on:
            self._draw()

    def clear(self) -> None:
        """Remove the bar, as before something else is printed."""
        if self._is_shown:
            self._write("\r\x1b[K")
            self._is_shown = False

    def _draw(self) -> None:
        self._is_shown = True
        text = f"rimp: {Style().clean(self.label)}{self._state()}"
        self._write(f"\r\x1b[K{clip_text(text, _columns_of(self._stream) - 1)}")

    def _state(self) -> str:
        if not self.unit:
            return " ..."
        if not self.total:
            return f"  {self.done:,} {self.unit}"
        share = min(self.done / self.total, 1.0)
        full = int(share * _BAR_WIDTH)
        bar = "#" * full + " " * (_BAR_WIDTH - full)
        return f"  [{bar}] {share:4.0%} of {self.total:,} {self.unit}"

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._is_on = False  # a terminal that has gone away stops nothing


def _columns_of(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def raise_if_unread(stream: TextIO) -> None:
    """Raise BrokenPipeError if a pipe's reader has gone, which one who has nothing to write does not notice.

    Does nothing for any other stream, and where the system cannot tell.
    """
    try:
        ready = select.poll()
        ready.register(stream.fileno(), 0)
    except (AttributeError, OSError, ValueError):
        return
    if any(events & select.POLLERR for _, events in ready.poll(0)):
        raise BrokenPipeError


def warn(message: str) -> None:
    """Print a message on standard error."""
    # It can quote a path or recorded text.
    print(f"rimp: {Style().clean(message)}", file=sys.stderr, flush=True)


# Reading.


def open_recording_at(
    path: Path, wait: bool = False, is_wanted: Callable[[bytes], bool] | None = None
) -> Recording:
    """Open the recording of a command.

    Args:
        path: path of the recording.
        wait: True to warn, instead of failing, if there is no recording yet.
        is_wanted: returns False for lines that need not be decoded; lines of journals are decoded
            anyway.

    Raises:
        UsageError: there is no recording, with the way to get one.
    """
    # Reading needs the SDK, whose import takes longer than the whole of `rimp --help`.
    from rimp_otel.storage.recording import open_recording

    try:
        recording = open_recording(path, must_exist=not wait, decode=_decoder_for(is_wanted))
    except NoRecordingError:
        raise UsageError(_describe_missing(path)) from None
    if wait and not recording.files():
        warn(f"waiting: {_describe_missing(path)}")
    return recording


def describe_database_beside(path: Path) -> str:
    """Return that there is a database, the SQLite backend's default, instead of a recording at the path.

    Empty if there is something at the path, or no database.
    """
    database = path.with_name(f"{path.name}.db") if path.name else path
    if path.exists() or not database.is_file():
        return ""
    return f"no recording at {path}, but there is {database}: give --path {database}"


def _describe_missing(path: Path) -> str:
    if path.is_file():
        if path.suffix == ".jsonl" and path.stem.split(".")[0] in set(Signal):
            return f"{path} is one file of a recording: give its directory, {path.parent}"
        return f"{path} is a file, not a recording: 'rimp import' converts OTLP files to one"
    if found := describe_database_beside(path):
        return found
    if path.is_dir() and any(path.iterdir()):
        return (
            f"no recording at {path}, but other files: convert OTLP files with 'rimp import', "
            "or give another --path"
        )
    return (
        f"no recording at {path}: record a program with 'rimp run -- python app.py', "
        "or give another --path"
    )


def _decoder_for(
    is_wanted: Callable[[bytes], bool] | None,
) -> Callable[[bytes], TelemetryData] | None:
    from rimp_otel.batch import TelemetryData, decode_batch

    if is_wanted is None:
        return None
    nothing = TelemetryData()
    return lambda line: decode_batch(line) if is_wanted(line) else nothing


def report_damage(recording: Recording, reported: int = 0) -> int:
    """Warn if more than ``reported`` lines or places were skipped; return how many were."""
    damaged = recording.damaged[reported:]
    warn_of_skipped(
        [skipped for skipped in damaged if not skipped.line],
        sum(1 for skipped in damaged if skipped.line),
    )
    return reported + len(damaged)


_MAX_NAMED = 5


def warn_of_skipped(places: Sequence[DamagedLine], lines: int) -> None:
    """Warn of what was skipped since it cannot be read.

    Args:
        places: files and directories, and places in journals; the first are named.
        lines: the number of lines.
    """
    for skipped in places[:_MAX_NAMED]:
        warn(f"skipped {skipped.path}: {skipped.reason}")
    if (further := len(places) - _MAX_NAMED) > 0:
        warn(f"skipped {format_count(further, 'more place')} (see 'rimp stats')")
    if lines:
        warn(f"skipped {format_count(lines, 'damaged line')} (see 'rimp stats')")


def retrieve_records(
    recording: Recording, window: Window, wanted: Filter | None = None, limit: int | None = None
) -> TelemetryData:
    """Return the records of the window that match, oldest first; with a limit, the newest.

    A span's time is its start here.
    """
    from rimp_otel.models.filters import Filter
    from rimp_otel.storage.base import Selection

    return recording.retrieve(Selection(window, limit, wanted or Filter()))


def read_batches(
    recording: Recording,
    window: Window = Window(),  # noqa: B008 (immutable)
    signals: Collection[Signal] = frozenset(Signal),
) -> Iterator[TelemetryData]:
    """Iterate over all that is recorded, in batches, in any order, and show progress.

    What is known to lie outside of the window or to be of another signal is left out.
    """
    from rimp_otel.models.filters import Filter
    from rimp_otel.storage.base import Selection

    selection = Selection(window, None, Filter(frozenset(signals)))
    with Progress("reading", len(recording.files()), "files") as progress:
        for data in recording.batches(selection, progress.advance):
            yield data
            progress.advance(0)


def records_of(
    data: TelemetryData, signals: Collection[Signal] = frozenset(Signal)
) -> Iterator[Record]:
    """Iterate over the records of these signals."""
    if Signal.TRACES in signals:
        yield from data.spans
    if Signal.LOGS in signals:
        yield from data.events
    if Signal.METRICS in signals:
        yield from data.metrics


# Counts and JSON.

SIGNAL_NOUNS = {Signal.TRACES: "span", Signal.LOGS: "log record", Signal.METRICS: "data point"}
"""The noun for one record of each signal."""


def format_counts(records: Mapping[Signal, int]) -> str:
    """Return record counts as text, such as ``7 spans and 1 data point``, or ``nothing``."""
    texts = [format_count(records[s], noun) for s, noun in SIGNAL_NOUNS.items() if records.get(s)]
    return ", ".join(texts[:-1]) + " and " * (len(texts) > 1) + texts[-1] if texts else "nothing"


def counts_json(records: Mapping[Signal, int]) -> dict[str, int]:
    """Return the record counts of all signals for ``--json``."""
    return {signal.value: records.get(signal, 0) for signal in Signal}


def record_json(record: Record) -> dict[str, Any]:
    """Return the record as ``--json`` prints it; docs/cli.md describes it."""
    if isinstance(record, TelemetryEvent):
        return _log_fields(record)
    if isinstance(record, TelemetryMetric):
        return _metric_fields(record)
    return _span_fields(record)


def _common_fields(signal: Signal, record: Record, scope: str) -> dict[str, Any]:
    return {
        "signal": signal.value,
        "time": format_utc(time_of(record)),
        "service": service_of(record),
        "scope": scope,
    }


def _log_fields(event: TelemetryEvent) -> dict[str, Any]:
    return {
        **_common_fields(Signal.LOGS, event, event.source),
        "severity": event.event_type.value,
        "severity_number": event.severity_number,
        "severity_text": event.severity_text,
        "event_name": event.event_name,
        "message": event.message,
        "attributes": event.metadata,
        "trace_id": _hex_or_none(event.trace_id, 32),
        "span_id": _hex_or_none(event.span_id, 16),
    }


def _metric_fields(metric: TelemetryMetric) -> dict[str, Any]:
    return {
        **_common_fields(Signal.METRICS, metric, metric.scope.name if metric.scope else ""),
        "name": metric.name,
        "kind": metric.kind.value,
        "value": metric.value if metric.has_value else None,
        "unit": metric.unit,
        "attributes": metric.tags,
        **_point_fields(metric),
    }


def _point_fields(metric: TelemetryMetric) -> Mapping[str, Any]:
    point = metric.point
    if point is None:
        return {}
    if isinstance(point, SummaryPoint):
        return {"count": point.count, "quantiles": dict(point.quantiles)}
    return {"count": point.count, "min": point.min, "max": point.max}


def _span_fields(span: ReadableSpan) -> dict[str, Any]:
    scope = span.instrumentation_scope
    return {
        **_common_fields(Signal.TRACES, span, scope.name if scope else ""),
        "name": span.name,
        "kind": span.kind.name.lower(),
        "trace_id": _hex_or_none(trace_id_of(span), 32),
        "span_id": _hex_or_none(span_id_of(span), 16),
        "parent_span_id": _hex_or_none(parent_id_of(span), 16),
        "start": format_utc(start_of(span)),
        "duration_ns": duration_of(span),
        "status": span.status.status_code.name.lower(),
        "status_message": span.status.description or "",
        "attributes": span.attributes or {},
        "events": [
            {"time": format_utc(e.timestamp), "name": e.name, "attributes": e.attributes or {}}
            for e in span.events
        ],
    }


def _hex_or_none(number: int, digits: int) -> str | None:
    return f"{number:0{digits}x}" if number else None
