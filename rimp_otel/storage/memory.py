"""The storage in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import RLock
from typing import Any

from rimp_otel.batch import TelemetryData
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import EncodedRecord, join_lines
from rimp_otel.process import call_in_forked_child
from rimp_otel.storage.base import (
    FilteringStorage,
    Selection,
    keep_newest,
    select_with_times,
    without_times,
)

__all__ = ["MemoryStorage"]


class MemoryStorage(FilteringStorage):
    """Keeps the newest records in memory, as text, so that nothing changes them afterwards.

    Safe for several threads, which may store and retrieve at the same time, and in a signal
    handler.

    Args:
        max_records: the most records that are kept.
        max_bytes: the most characters of their OTLP JSON (about 0.75 kB a span); a record that is
            longer than that is not kept at all.

    The oldest record is evicted when either is passed; ``evicted`` counts.
    """

    def __init__(self, max_records: int = 100_000, max_bytes: int = 256 * 1024 * 1024) -> None:
        self.max_records = max_records
        self.max_bytes = max_bytes
        #: Records evicted so far, to keep within the bounds.
        self.evicted = 0
        #: Characters of OTLP JSON that are kept now.
        self.size = 0
        self._encoded: deque[tuple[Signal, EncodedRecord]] = deque()
        # Reentrant, for an exporter that a signal handler makes store while it stores.
        self._renew_lock()
        call_in_forked_child(self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = RLock()

    def store(self, data: TelemetryData) -> None:
        """Keep the batch, and evict the oldest records that are too many."""
        arriving = [
            (signal, encoded) for signal in Signal for encoded in data.encoded_records(signal)
        ]
        with self._lock:
            self._encoded.extend(arriving)
            self.size += sum(len(encoded.text) for _, encoded in arriving)
            while len(self._encoded) > self.max_records or self.size > self.max_bytes:
                self.size -= len(self._encoded.popleft()[1].text)
                self.evicted += 1

    def _retrieve(self, selection: Selection) -> TelemetryData:
        found = self._in_range(selection)
        # What a filter leaves is known once it is decoded, which is the greater part of the work.
        certain = found if selection.filter else keep_newest(selection, found)
        return without_times(
            keep_newest(selection, select_with_times(selection, _decode_encoded(certain)))
        )

    def _iter_retrieve(self, selection: Selection, batch_size: int) -> Iterator[TelemetryData]:
        found = keep_newest(selection, self._in_range(selection))
        return _iter_batches(found, selection, batch_size)

    def _in_range(self, selection: Selection) -> list[tuple[int, Signal, EncodedRecord]]:
        with self._lock:
            kept = list(self._encoded)
        return [
            (encoded.time_unix_nano, signal, encoded)
            for signal, encoded in kept
            if selection.window.contains(encoded.time_unix_nano)
            and signal in selection.filter.signals
        ]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._encoded.clear()
            self.size = 0

    def __len__(self) -> int:
        return len(self._encoded)


def _iter_batches(
    found: list[tuple[int, Signal, EncodedRecord]], selection: Selection, size: int
) -> Iterator[TelemetryData]:
    batch: list[tuple[int, str, Any]] = []
    for start in range(0, len(found), size):
        batch += keep_newest(
            selection, select_with_times(selection, _decode_encoded(found[start : start + size]))
        )
        while len(batch) >= size:
            yield without_times(batch[:size])
            batch = batch[size:]
    if batch:
        yield without_times(batch)


def _decode_encoded(found: list[tuple[int, Signal, EncodedRecord]]) -> TelemetryData:
    by_signal: dict[Signal, list[EncodedRecord]] = {}
    for _, signal, encoded in found:
        by_signal.setdefault(signal, []).append(encoded)
    return TelemetryData.from_otlp_json(
        line
        for signal, encoded_records in by_signal.items()
        for line in join_lines(signal, encoded_records)
    )
