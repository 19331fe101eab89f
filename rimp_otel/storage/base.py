"""The contract of a storage."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from rimp_otel.batch import TelemetryData
from rimp_otel.errors import ConfigurationError
from rimp_otel.journal.target import DirectoryTarget, JournalTarget
from rimp_otel.models.filters import Conditions, Filter
from rimp_otel.models.times import TimeLike, to_unix_nano

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from rimp_otel.models.times import TimeLike

__all__ = [
    "TIMES",
    "Selection",
    "TelemetryStorage",
    "checked_batch_size",
    "select",
    "timed",
    "untimed",
]


# --- The contract of a storage.


class TelemetryStorage(ABC):
    """Keeps batches, and gives records back. A backend of one's own needs two methods."""

    @abstractmethod
    def store(self, data: TelemetryData) -> None:
        """Keeps all records of ``data``, or raises and keeps none of them.

        Called by one stream thread at a time. A batch whose ``store`` raised is offered again:
        an OSError or StorageError as long as there is room to wait, any other exception twice.
        """

    @abstractmethod
    def retrieve(
        self,
        start_time: TimeLike | None = None,
        end_time: TimeLike | None = None,
        limit: int | None = None,
    ) -> TelemetryData:
        """The records with ``start_time <= time < end_time``, oldest first.

        A span's time is its start, a log record's its timestamp (when it was observed, where it
        has none), a metric point's when it was measured.

        Args:
            start_time, end_time: a datetime, an ISO 8601 string, or seconds since the epoch; None
                leaves that end open.
            limit: the most records to give, of all signals together: the newest of the range.

        Storages that can also take the conditions of ``Filter.of``, as keyword arguments, and give
        the records that meet them; the built-in ones do. Custom ones need not.

        Raises:
            ConfigurationError: an argument is none of these.
        """

    def journal_target(self, path: str | os.PathLike[str] | None = None) -> JournalTarget | None:
        """Return where a journal for this storage lives, and how it is drained; None for no journal.

        Called once by each stream that records into the storage. Without a journal, what is not
        stored yet waits in memory. A storage that keeps its records may override this, so that its
        journals lie beside them.

        Args:
            path: the configuration's ``journal_path``: a directory for the journals of storages
                that have no place of their own.
        """
        return None if path is None else DirectoryTarget.at(self.store, path)

    def close(self) -> None:  # noqa: B027 - most storages hold nothing open
        """Gives up what the storage holds open. It may be used again after, and opens it anew."""


# --- The selection that all storages share: which records ``retrieve`` gives.


class Selection(NamedTuple):
    """The arguments of ``retrieve``, checked; times in nanoseconds since the epoch."""

    start: int | None
    end: int | None
    limit: int | None
    #: What the records must meet besides.
    filter: Filter = Filter()

    @classmethod
    def of(
        cls,
        start_time: TimeLike | None,
        end_time: TimeLike | None,
        limit: int | None,
        **conditions: Unpack[Conditions],
    ) -> Selection:
        """Checks and converts what a caller passed.

        Raises:
            ConfigurationError: an argument is not one that ``retrieve`` takes.
        """
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
            raise ConfigurationError(f"limit={limit!r} is not allowed: give an integer, or None")
        if limit is not None and limit < 0:
            raise ConfigurationError(f"limit={limit!r} is not allowed: give at least 0, or None")
        start = None if start_time is None else to_unix_nano(start_time)
        end = None if end_time is None else to_unix_nano(end_time)
        return cls(start, end, limit, Filter.of(**conditions))

    def holds(self, time_unix_nano: int) -> bool:
        """Whether a record of this time lies in the range."""
        if self.start is not None and time_unix_nano < self.start:
            return False
        return self.end is None or time_unix_nano < self.end

    def of_list(self, name: str, data: TelemetryData) -> list[Any]:
        """Those records of one list of a batch that are selected, whatever the limit."""
        time, matches = TIMES[name], self.filter.matches
        records = getattr(data, name)
        if self.start is not None or self.end is not None:
            records = [record for record in records if self.holds(time(record))]
        return [record for record in records if matches(record)] if self.filter else records

    def of_timed(self, data: TelemetryData) -> list[tuple[int, str, Any]]:
        """Those records of a batch that are selected, whatever the limit, as ``timed`` gives them."""
        return [
            (time(record), name, record)
            for name, time in TIMES.items()
            for record in self.of_list(name, data)
        ]

    def newest(self, timed: list[Any]) -> list[Any]:
        """Of tuples that begin with a time: the newest ``limit``, oldest first."""
        timed.sort(key=itemgetter(0))
        if self.limit is None:
            return timed
        return timed[len(timed) - self.limit :] if self.limit < len(timed) else timed


def checked_batch_size(batch_size: int) -> int:
    """What a caller passed as ``batch_size``.

    Raises:
        ConfigurationError: it is no size.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigurationError(f"batch_size={batch_size!r} is not allowed: give at least 1")
    return batch_size


def select(
    data: TelemetryData,
    start_time: TimeLike | None = None,
    end_time: TimeLike | None = None,
    limit: int | None = None,
    **conditions: Unpack[Conditions],
) -> TelemetryData:
    """What ``retrieve`` would give if ``data`` were all there is; a help for custom storages.

    Args:
        data: all records.
        start_time, end_time, limit: as ``TelemetryStorage.retrieve`` takes them.
        conditions: as ``Filter.of`` takes them.

    Raises:
        ConfigurationError: an argument is not allowed.
    """
    selection = Selection.of(start_time, end_time, limit, **conditions)
    return untimed(selection.newest(selection.of_timed(data)))


TIMES: dict[str, Callable[[Any], int]] = {
    "spans": lambda span: span.start_time or 0,
    "events": lambda event: event.time_unix_nano or event.observed_time_unix_nano,
    "metrics": lambda metric: metric.time_unix_nano,
}
"""What gives the time of a record, by the name of the list that it belongs to."""


def timed(data: TelemetryData) -> list[tuple[int, str, Any]]:
    """The records with their times and the name of the list that they belong to."""
    return [(time(r), name, r) for name, time in TIMES.items() for r in getattr(data, name)]


def untimed(records: list[tuple[int, str, Any]]) -> TelemetryData:
    """A batch of what ``timed`` gave."""
    lists: dict[str, list[Any]] = {"spans": [], "events": [], "metrics": []}
    for _, name, record in records:
        lists[name].append(record)
    return TelemetryData(**lists)
