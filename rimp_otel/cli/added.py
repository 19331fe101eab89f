"""Counts what is added to a recording."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import msgspec

from rimp_otel.otlp.signals import Signal
from rimp_otel.storage.reader import RecordingReader

__all__ = ["Added"]


class _Data(msgspec.Struct, rename="camel", frozen=True):
    data_points: list[msgspec.Raw] = []


class _Metric(msgspec.Struct, rename="camel"):
    gauge: _Data = _Data()
    sum: _Data = _Data()
    histogram: _Data = _Data()
    exponential_histogram: _Data = _Data()
    summary: _Data = _Data()


class _Scope(msgspec.Struct, rename="camel"):
    spans: list[msgspec.Raw] = []
    log_records: list[msgspec.Raw] = []
    metrics: list[_Metric] = []


class _Resource(msgspec.Struct, rename="camel"):
    scope_spans: list[_Scope] = []
    scope_logs: list[_Scope] = []
    scope_metrics: list[_Scope] = []


class _Line(msgspec.Struct, rename="camel"):
    """As much of OTLP JSON as it takes to count, ten times as fast as making records of it."""

    resource_spans: list[_Resource] = []
    resource_logs: list[_Resource] = []
    resource_metrics: list[_Resource] = []


_decoder = msgspec.json.Decoder(_Line)


class Added:
    """What is added to a recording from now on, by anybody."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._reader = RecordingReader(path)
        self._before = self._sizes()
        self.records: Counter[Signal] = Counter()
        self.size = 0

    def _sizes(self) -> dict[Path, int]:
        return {file.path: file.size for file in self._reader.files()}

    def count(self) -> Counter[Signal]:
        """The records that were added, by signal; ``size`` is then how many bytes they take."""
        self.records.clear()
        self.size = 0
        for path, size in self._sizes().items():
            start = self._before.get(path, 0)
            # A file that is smaller than before is another one.
            self._count_lines(path, start if start <= size else 0)
        return self.records

    def _count_lines(self, path: Path, start: int) -> None:
        with path.open("rb") as file:
            file.seek(start)
            for line in file:
                self.size += len(line)
                try:
                    self.records.update(_records_in(_decoder.decode(line)))
                except msgspec.DecodeError:
                    continue  # a damaged line; `rimp stats` lists it


def _records_in(line: _Line) -> dict[Signal, int]:
    scopes = [scope for resource in line.resource_spans for scope in resource.scope_spans]
    scopes += [scope for resource in line.resource_logs for scope in resource.scope_logs]
    scopes += [scope for resource in line.resource_metrics for scope in resource.scope_metrics]
    return {
        Signal.TRACES: sum(len(scope.spans) for scope in scopes),
        Signal.LOGS: sum(len(scope.log_records) for scope in scopes),
        Signal.METRICS: sum(_points(metric) for scope in scopes for metric in scope.metrics),
    }


def _points(metric: _Metric) -> int:
    kinds = (
        *(metric.gauge, metric.sum, metric.histogram),
        *(metric.exponential_histogram, metric.summary),
    )
    return sum(len(kind.data_points) for kind in kinds)
