"""The storage in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import RLock
from typing import TYPE_CHECKING, Any

from rimp_otel.batch import TelemetryData
from rimp_otel.models.filters import Conditions
from rimp_otel.models.records import Signal
from rimp_otel.models.times import TimeLike
from rimp_otel.otlp.lines import EncodedRecord, join_lines
from rimp_otel.process import in_forked_child
from rimp_otel.storage.base import Selection, TelemetryStorage, checked_batch_size, untimed

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["MemoryStorage"]


class MemoryStorage(TelemetryStorage):
    """Keeps the newest records in memory, as text, so that nothing changes them afterwards.

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
        self._fragments: deque[tuple[Signal, EncodedRecord]] = deque()
        # Reentrant, for an exporter that a signal handler makes store while it stores.
        self._renew_lock()
        in_forked_child(self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = RLock()

    def store(self, data: TelemetryData) -> None:
        """Keeps the batch, and evicts what is one too many."""
        arriving = [(signal, fragment) for signal in Signal for fragment in data.fragments(signal)]
        with self._lock:
            self._fragments.extend(arriving)
            self.size += sum(len(fragment.text) for _, fragment in arriving)
            while len(self._fragments) > self.max_records or self.size > self.max_bytes:
                self.size -= len(self._fragments.popleft()[1].text)
                self.evicted += 1

    def retrieve(
        self,
        start_time: TimeLike | None = None,
        end_time: TimeLike | None = None,
        limit: int | None = None,
        **conditions: Unpack[Conditions],
    ) -> TelemetryData:
        """The records of the range, as the contract says, that meet all ``conditions``.

        Args:
            start_time, end_time, limit: as in the contract.
            conditions: as ``Filter.of`` takes them.
        """
        selection = Selection.of(start_time, end_time, limit, **conditions)
        found = self._in_range(selection)
        # What a filter leaves is known once it is decoded, which is the greater part of the work.
        certain = found if selection.filter else selection.newest(found)
        return untimed(selection.newest(selection.of_timed(_decoded(certain))))

    def iter_retrieve(
        self,
        start_time: TimeLike | None = None,
        end_time: TimeLike | None = None,
        *,
        batch_size: int = 1_000,
        **conditions: Unpack[Conditions],
    ) -> Iterator[TelemetryData]:
        """What ``retrieve`` would give, in batches of ``batch_size`` records, oldest first within a
        batch and from one to the next. What is stored meanwhile is left out.

        Raises:
            ConfigurationError: an argument is not allowed.
        """
        selection = Selection.of(start_time, end_time, None, **conditions)
        size = checked_batch_size(batch_size)
        return _batches(selection.newest(self._in_range(selection)), selection, size)

    def _in_range(self, selection: Selection) -> list[tuple[int, Signal, EncodedRecord]]:
        with self._lock:
            kept = list(self._fragments)
        return [
            (fragment.time_unix_nano, signal, fragment)
            for signal, fragment in kept
            if selection.holds(fragment.time_unix_nano) and signal in selection.filter.signals
        ]

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._fragments.clear()
            self.size = 0

    def __len__(self) -> int:
        return len(self._fragments)


def _batches(
    found: list[tuple[int, Signal, EncodedRecord]], selection: Selection, size: int
) -> Iterator[TelemetryData]:
    batch: list[tuple[int, str, Any]] = []
    for start in range(0, len(found), size):
        batch += selection.newest(selection.of_timed(_decoded(found[start : start + size])))
        while len(batch) >= size:
            yield untimed(batch[:size])
            batch = batch[size:]
    if batch:
        yield untimed(batch)


def _decoded(found: list[tuple[int, Signal, EncodedRecord]]) -> TelemetryData:
    by_signal: dict[Signal, list[EncodedRecord]] = {}
    for _, signal, fragment in found:
        by_signal.setdefault(signal, []).append(fragment)
    return TelemetryData.from_otlp_json(
        line for signal, fragments in by_signal.items() for line in join_lines(signal, fragments)
    )
