"""``rimp stats``: summarize a recording."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rimp_otel.cli.options import add_output_options, path_from_args, style_from_args
from rimp_otel.cli.output import Progress, open_recording_at, records_of
from rimp_otel.cli.verify import format_journals, slot_json
from rimp_otel.models.accessors import (
    Record,
    has_failed,
    is_interrupted,
    service_of,
    start_of,
    time_of,
    trace_id_of,
)
from rimp_otel.models.records import EventType, TelemetryEvent, TelemetryMetric
from rimp_otel.render.format import format_bytes, format_count, format_time, format_utc
from rimp_otel.render.terminal import Style, look_of_service, pad_text, to_json

if TYPE_CHECKING:
    from rimp_otel.batch import TelemetryData
    from rimp_otel.storage.base import DamagedLine, Recording, RecordingFile
    from rimp_otel.storage.slots import SlotState

__all__ = [
    "RecordingStats",
    "SealedFiles",
    "add_stats_arguments",
    "count_recording",
    "format_stats",
]


def add_stats_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp stats``."""
    parser.description = "Summarize a recording: counts, services, time range, files and damage."
    add_output_options(parser, "the statistics")
    parser.set_defaults(command=_run_stats)


def _run_stats(args: argparse.Namespace) -> int:
    path = path_from_args(args)
    stats = count_recording(open_recording_at(path))
    if args.json:
        print(to_json(stats.as_json()))
    else:
        style = style_from_args(args)
        print(style.paint(style.clean(path), "bold"))
        print("\n".join(format_stats(stats, style)))
    return 0


class SealedFiles(NamedTuple):
    """The number and size of sealed files, including those that wait to be sealed."""

    files: int
    #: Their size on disk.
    bytes: int


@dataclass
class RecordingStats:
    """Counts over a recording. Times are in nanoseconds since the epoch; 0 means none."""

    spans: int = 0
    errors: int = 0
    #: Spans that were open when their process died.
    interrupted: int = 0
    metrics: int = 0
    events: Counter[EventType] = field(default_factory=Counter)
    services: Counter[str] = field(default_factory=Counter)
    traces: set[int] = field(default_factory=set)
    first: int = 0
    last: int = 0
    files: list[RecordingFile] = field(default_factory=list)
    #: The writer slots, with the records that wait in their journals.
    journals: list[SlotState] = field(default_factory=list)
    damaged: list[DamagedLine] = field(default_factory=list)

    def of_kind(self, kind: str) -> list[RecordingFile]:
        """Return the files of one kind: "active", "sealed" or "journal"."""
        return [file for file in self.files if file.kind == kind]

    @property
    def sealed(self) -> SealedFiles:
        """The files that are no longer appended to."""
        files = self.of_kind("sealed")
        return SealedFiles(len(files), sum(file.size for file in files))

    @property
    def quarantined(self) -> list[Path]:
        """Parts of journals that could not be read when they were recovered."""
        return [file.path for file in self.of_kind("journal") if file.path.suffix == ".damaged"]

    @property
    def logs(self) -> int:
        """The number of events and log records."""
        return sum(self.events.values())

    def add(self, record: Record) -> None:
        """Count one more record."""
        self.services[service_of(record)] += 1
        if isinstance(record, TelemetryEvent):
            self.events[record.event_type] += 1
        elif isinstance(record, TelemetryMetric):
            self.metrics += 1
        else:
            self.spans += 1
            self.errors += has_failed(record)
            self.interrupted += is_interrupted(record)
            self.traces.add(trace_id_of(record))
            self._extend_time(start_of(record))
        self._extend_time(time_of(record))

    def _extend_time(self, time: int) -> None:
        self.first = min(self.first or time, time or self.first)
        self.last = max(self.last, time)

    def as_json(self) -> dict[str, Any]:
        """Return the statistics as ``rimp stats --json`` prints them."""
        return {
            "spans": self.spans,
            "traces": len(self.traces),
            "errors": self.errors,
            "interrupted_spans": self.interrupted,
            "logs": self.logs,
            "logs_by_severity": {kind.value: self.events[kind] for kind in EventType},
            "metric_points": self.metrics,
            "services": dict(self.services.most_common()),
            "first": format_utc(self.first),
            "last": format_utc(self.last),
            "files": [
                {
                    "signal": file.signal and file.signal.value,
                    "path": str(file.path),
                    "bytes": file.size,
                }
                for file in self.of_kind("active")
            ],
            "sealed": self.sealed._asdict(),
            "journals": [slot_json(slot) for slot in self.journals],
            "damaged": [
                {"path": str(lost.path), "line": lost.line, "reason": lost.reason}
                for lost in self.damaged
            ]
            + [{"path": str(path), "line": 0, "reason": "put aside"} for path in self.quarantined],
        }


def count_recording(
    recording: Recording, batches: Iterable[TelemetryData] | None = None
) -> RecordingStats:
    """Count the records of ``batches``; by default, those that were not polled yet."""
    from rimp_otel.storage.recording import layout_of
    from rimp_otel.storage.slots import inspect_slots

    stats = RecordingStats()
    with Progress("counting", 0, "records") as progress:
        for data in recording.poll(final=True) if batches is None else batches:
            for record in records_of(data):
                stats.add(record)
            progress.advance(len(data))
    stats.files = list(recording.files())
    stats.journals = inspect_slots(layout_of(recording.path))
    stats.damaged = list(recording.damaged)
    return stats


_SEVERITY_COLORS = {EventType.WARNING: "yellow", EventType.ERROR: "red"}


def format_stats(stats: RecordingStats, style: Style) -> list[str]:
    """Return the statistics as lines of text."""
    time = f"{format_time(stats.first)} to {format_time(stats.last)}"
    sections = {
        "spans": [_format_spans(stats, style)],
        "logs": [_format_logs(stats, style)],
        "metrics": [format_count(stats.metrics, "point")],
        "services": _service_lines(stats, style),
        "time": [f"{time} ({style.duration(stats.last - stats.first)})"] if stats.last else [],
        "files": _file_lines(stats, style),
        "journals": _journal_lines(stats),
        "damaged": _damage_lines(stats, style),
    }
    return [line for name, lines in sections.items() for line in _section_lines(name, lines, style)]


def _section_lines(name: str, lines: Iterable[str], style: Style) -> Iterator[str]:
    for index, line in enumerate(lines):
        yield style.paint(pad_text("" if index else name, 10), "dim") + line


def _format_spans(stats: RecordingStats, style: Style) -> str:
    text = f"{stats.spans:,} in {format_count(len(stats.traces), 'trace')}"
    if stats.errors:
        text += ", " + style.paint(format_count(stats.errors, "error"), "red")
    if stats.interrupted:
        text += f", {stats.interrupted:,} interrupted"
    return text


def _format_logs(stats: RecordingStats, style: Style) -> str:
    kinds = [
        style.paint(
            f"{stats.events[kind]:,} {kind.value}", *filter(None, [_SEVERITY_COLORS.get(kind)])
        )
        for kind in EventType
        if stats.events[kind]
    ]
    return format_count(stats.logs, "record") + (f" ({', '.join(kinds)})" if kinds else "")


def _service_lines(stats: RecordingStats, style: Style) -> list[str]:
    return [
        style.paint(style.clean(service) or "(no service)", look_of_service(service))
        + f"  {format_count(number, 'record')}"
        for service, number in stats.services.most_common()
    ]


def _file_lines(stats: RecordingStats, style: Style) -> list[str]:
    lines = [
        f"{format_bytes(file.size):>8}  {style.clean(file.path)}"
        for file in stats.of_kind("active")
    ]
    sealed = stats.sealed
    if sealed.files:
        lines.append(
            f"{format_bytes(sealed.bytes):>8}  {format_count(sealed.files, 'sealed file')}"
        )
    return lines


def _journal_lines(stats: RecordingStats) -> list[str]:
    if not any(slot.is_owned or slot.is_left for slot in stats.journals):
        return []
    lines = [format_journals(stats.journals)]
    if waiting := sum(sum(slot.records.values()) for slot in stats.journals):
        size = format_bytes(sum(slot.waiting for slot in stats.journals))
        lines.append(f"{format_count(waiting, 'record')} ({size}) in them, included above")
    if waiting := sum(slot.in_memory for slot in stats.journals if slot.is_owned):
        lines.append(
            f"{format_count(waiting, 'record')} without room on disk, in memory: not safe from a kill"
        )
    if lost := sum(slot.in_memory for slot in stats.journals if not slot.is_owned):
        lines.append(
            f"{format_count(lost, 'record')} without room on disk, in memory: lost with the process"
        )
    return lines


def _damage_lines(stats: RecordingStats, style: Style) -> list[str]:
    places = [
        f"{lost.path}:{lost.line}: {lost.reason}" if lost.line else f"{lost.path}: {lost.reason}"
        for lost in stats.damaged
    ]
    places += [
        f"{path}: quarantined by a recovery (see 'rimp repair')" for path in stats.quarantined
    ]
    return [style.paint(style.clean(place), "red") for place in places] or ["nothing"]
