"""The contract of a storage, selections of records, and the parts that all recordings share."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from typing_extensions import Self, Unpack

from rimp_otel.batch import TelemetryData
from rimp_otel.errors import ConfigurationError, StorageError
from rimp_otel.fsutil import describe_obstacle
from rimp_otel.journal.target import DirectoryTarget, JournalTarget
from rimp_otel.models.filters import Conditions, Filter
from rimp_otel.models.records import Signal
from rimp_otel.models.times import TimeLike, Window, to_unix_nano

__all__ = [
    "ALL_RECORDS",
    "TIMES",
    "DamagedLine",
    "FilteringStorage",
    "RecordedStorage",
    "Recording",
    "RecordingFile",
    "RecordingFileKind",
    "RecordingLayout",
    "Selection",
    "TelemetryStorage",
    "TimedRecord",
    "UnreadableError",
    "keep_newest",
    "reading_errors",
    "select",
    "select_list",
    "select_with_times",
    "takes_all",
    "with_times",
    "without_times",
]


# --- The contract of a storage.


class TelemetryStorage(ABC):
    """Keeps batches, and returns their records. A backend of one's own needs two methods.

    A context manager: leaving its block closes it.
    """

    @abstractmethod
    def store(self, data: TelemetryData) -> None:
        """Keep all records of ``data``, or raise and keep none of them.

        Called by one stream thread at a time. A batch whose ``store`` raised is offered again:
        after an OSError or StorageError as long as there is room to wait, after any other
        exception twice.
        """

    @abstractmethod
    def retrieve(
        self,
        start_time: TimeLike | None = None,
        end_time: TimeLike | None = None,
        limit: int | None = None,
    ) -> TelemetryData:
        """Return the records with ``start_time <= time < end_time``, oldest first.

        A span's time is its start, a log record's its timestamp (when it was observed, where it
        has none), a metric point's when it was measured.

        Args:
            start_time, end_time: a datetime, an ISO 8601 string, or seconds since the epoch; None
                leaves that end open.
            limit: the most records to return, of all signals together: the newest of the range.

        Storages can also take the conditions of ``Filter.of`` as keyword arguments, and return
        only the records that meet them. The built-in ones do; custom ones need not.

        Raises:
            ConfigurationError: an argument is none of these.
        """

    # True if journals lie beside what it stores, whatever path ``journal_target`` is given.
    _has_place_for_journals = False

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
        """Close what the storage holds open. It may be used again, and opens it again then."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __bool__(self) -> bool:
        """Return True, also for a storage that is empty and has a length."""
        return True


class FilteringStorage(TelemetryStorage):
    """A storage that takes conditions, and can return records batch by batch.

    The built-in storages. A subclass answers a ``Selection``, whose arguments have been checked.
    """

    def retrieve(
        self,
        start_time: TimeLike | None = None,
        end_time: TimeLike | None = None,
        limit: int | None = None,
        **conditions: Unpack[Conditions],
    ) -> TelemetryData:
        """Return the records of the range that meet all ``conditions``, oldest first.

        Changes nothing that is stored.

        Args:
            start_time, end_time: a datetime, an ISO 8601 string, or seconds since the epoch; None
                leaves that end open.
            limit: the most records to return, of all signals together: the newest of the range.
            conditions: as ``Filter.of`` takes them.

        Raises:
            ConfigurationError: an argument is not allowed.
            StorageError: what is stored cannot be read.
        """
        return self._retrieve(Selection.of(start_time, end_time, limit, **conditions))

    def iter_retrieve(
        self,
        start_time: TimeLike | None = None,
        end_time: TimeLike | None = None,
        *,
        batch_size: int = 1_000,
        **conditions: Unpack[Conditions],
    ) -> Iterator[TelemetryData]:
        """Iterate over what ``retrieve`` would return, in batches, for what exceeds the memory.

        The oldest record comes first, within a batch and from one to the next; records of one time
        come in any order. What is stored after the first batch was asked for is left out. The
        memory that it takes does not depend on the size of the recording, but for records that
        still wait in journals.

        Args:
            start_time, end_time, conditions: as for ``retrieve``.
            batch_size: records in each batch but the last.

        Raises:
            ConfigurationError: an argument is not allowed.
            StorageError: what is stored cannot be read; while iterating.
        """
        selection = Selection.of(start_time, end_time, None, **conditions)
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigurationError(f"batch_size must be an integer >= 1, got {batch_size!r}")
        return self._iter_retrieve(selection, batch_size)

    @abstractmethod
    def _retrieve(self, selection: Selection) -> TelemetryData:
        """Return the selected records, oldest first."""

    @abstractmethod
    def _iter_retrieve(self, selection: Selection, batch_size: int) -> Iterator[TelemetryData]:
        """Iterate over the selected records, oldest first, in batches of ``batch_size``."""


# --- Which records are asked for.

_ALWAYS = Window()


class Selection(NamedTuple):
    """Which records are asked for: those of a window of time that meet a filter.

    ``Selection.of`` makes one of what ``retrieve`` takes.
    """

    window: Window = _ALWAYS
    #: The most records to return, of all signals together: the newest. None for all.
    limit: int | None = None
    filter: Filter = Filter()

    @classmethod
    def of(
        cls,
        start_time: TimeLike | None = None,
        end_time: TimeLike | None = None,
        limit: int | None = None,
        **conditions: Unpack[Conditions],
    ) -> Selection:
        """Check and convert what ``retrieve`` takes.

        Raises:
            ConfigurationError: an argument is not allowed.
        """
        is_count = isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0
        if limit is not None and not is_count:
            raise ConfigurationError(f"limit must be an integer >= 0 or None, got {limit!r}")
        start = None if start_time is None else to_unix_nano(start_time)
        end = None if end_time is None else to_unix_nano(end_time)
        return cls(Window(start, end), limit, Filter.of(**conditions))


def takes_all(selection: Selection) -> bool:
    """Return True if the selection leaves no record out."""
    return not selection.filter and selection.limit is None and selection.window == _ALWAYS


def select_list(selection: Selection, name: str, data: TelemetryData) -> list[Any]:
    """Return the selected records of one list of a batch (a key of ``TIMES``), before ``limit``."""
    window, filter = selection.window, selection.filter
    records: list[Any] = getattr(data, name)
    if window != _ALWAYS:
        time = TIMES[name]
        records = [record for record in records if window.contains(time(record))]
    return [record for record in records if filter.matches(record)] if filter else records


def select_with_times(selection: Selection, data: TelemetryData) -> list[TimedRecord]:
    """Return the selected records of a batch, before ``limit``, as ``with_times`` does."""
    return [
        (time(record), name, record)
        for name, time in TIMES.items()
        for record in select_list(selection, name, data)
    ]


def keep_newest(selection: Selection, timed: list[Any]) -> list[Any]:
    """Return the newest ``limit`` of tuples that begin with a time, oldest first."""
    timed.sort(key=itemgetter(0))
    limit = selection.limit
    if limit is None:
        return timed
    return timed[len(timed) - limit :] if limit < len(timed) else timed


ALL_RECORDS = Selection()
"""Selects everything."""


def select(
    data: TelemetryData,
    start_time: TimeLike | None = None,
    end_time: TimeLike | None = None,
    limit: int | None = None,
    **conditions: Unpack[Conditions],
) -> TelemetryData:
    """Return what ``retrieve`` would if ``data`` were all there is; a help for custom storages.

    Args:
        data: all records.
        start_time, end_time, limit: as ``TelemetryStorage.retrieve`` takes them.
        conditions: as ``Filter.of`` takes them.

    Raises:
        ConfigurationError: an argument is not allowed.
    """
    selection = Selection.of(start_time, end_time, limit, **conditions)
    return without_times(keep_newest(selection, select_with_times(selection, data)))


TimedRecord = tuple[int, str, Any]
"""A time, the name of the list that a record belongs to, and the record."""

TIMES: dict[str, Callable[[Any], int]] = {
    "spans": lambda span: span.start_time or 0,
    "events": lambda event: event.time_unix_nano or event.observed_time_unix_nano,
    "metrics": lambda metric: metric.time_unix_nano,
}
"""By the name of each list of a batch, the function that returns the time of a record in it."""


def with_times(data: TelemetryData) -> list[TimedRecord]:
    """Return the records with their times and the names of the lists that they belong to."""
    return [(time(r), name, r) for name, time in TIMES.items() for r in getattr(data, name)]


def without_times(records: Iterable[TimedRecord]) -> TelemetryData:
    """Return a batch of what ``with_times`` returned."""
    lists: dict[str, list[Any]] = {"spans": [], "events": [], "metrics": []}
    for _, name, record in records:
        lists[name].append(record)
    return TelemetryData(**lists)


# --- What lies on disk.

RecordingFileKind = Literal["active", "sealed", "journal"]
"""What a file of a recording is."""


class RecordingFile(NamedTuple):
    """One file of a recording."""

    #: None for a file that holds all of them: a journal's, a database.
    signal: Signal | None
    path: Path
    #: In bytes, when it was looked at.
    size: int
    kind: RecordingFileKind = "active"


class DamagedLine(NamedTuple):
    """A line, or a record of a database, that was skipped because it cannot be read."""

    path: Path
    #: Counted from 1, in the decompressed text; of a database, the record's number in the table
    #: ``records``; 0 in a journal, where ``reason`` has the place, and for a file or a directory that
    #: cannot be read at all. A block of a sealed file that cannot be decompressed counts as one line.
    line: int
    reason: str


class UnreadableError(StorageError):
    """One file or directory of a recording cannot be read. It costs itself: the rest can be.

    Args:
        path: the place.
        reason: what is there instead, or why it cannot be read.
    """

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"cannot read {path}: {reason}")


@contextmanager
def reading_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError that names the path: an UnreadableError, unless the process
    is at its limits."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        try:
            describe_obstacle(error)
        except OSError:
            raise StorageError(f"cannot read {path}: {reason}") from error
        raise UnreadableError(path, reason) from error


class RecordingLayout(ABC):
    """The paths of a recording's files: at least a journal for each writer slot."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    @abstractmethod
    def directory(self) -> Path:
        """The directory that the files lie in."""

    @abstractmethod
    def file(self, signal: Signal, slot: int = 0) -> Path:
        """Return the path of the file that a slot's records of a signal are stored in."""

    @abstractmethod
    def journal(self, slot: int = 0) -> Path:
        """Return the directory of a writer slot's journal and of its lock."""

    @property
    @abstractmethod
    def forward(self) -> Path:
        """The directory of what forwarders remember; see ``rimp_otel.storage.forwarding``."""

    @property
    def prometheus(self) -> Path:
        """The directory of what is kept for `/metrics`."""
        forward = self.forward
        return forward.with_name(f"{forward.name.removesuffix('forward')}prometheus")

    @abstractmethod
    def _slot_of(self, name: str) -> int | None:
        """Return the slot that a name in ``directory`` belongs to; None if it is not our name."""

    def slots(self) -> list[int]:
        """Return the numbers of the writer slots that have left something on disk, in order.

        Raises:
            StorageError: the directory cannot be read.
        """
        with reading_errors(self.directory):
            try:
                names = os.listdir(self.directory)
            except FileNotFoundError:
                return []
        return sorted({slot for slot in map(self._slot_of, names) if slot is not None})


# --- Reading a recording.


class Recording(Protocol):
    """Reads a recording, also while processes write it. Changes nothing, holds nothing open.

    A record that is in a journal still is returned too, and each record once. ``open_recording``
    makes one. For one thread at a time; several threads open one each.
    """

    @property
    def path(self) -> Path:
        """The path that was passed, as a Path."""

    @property
    def damaged(self) -> Sequence[DamagedLine]:
        """The lines that were skipped so far because they cannot be read, in the order they were
        met."""

    @property
    def measured(self) -> Sequence[bytes]:
        """What living processes had measured and not stored at the last poll, as OTLP JSON lines: points
        that later ones replace."""

    def files(self) -> Sequence[RecordingFile]:
        """Return the files that are there; none if nothing is recorded.

        Raises:
            StorageError: a directory cannot be read.
        """

    def retrieve(self, selection: Selection = ALL_RECORDS) -> TelemetryData:
        """Return the selected records, oldest first. No more is read than it takes.

        Raises:
            StorageError: something cannot be read.
        """

    def iter_retrieve(
        self, selection: Selection = ALL_RECORDS, batch_size: int = 1_000
    ) -> Iterator[TelemetryData]:
        """Iterate over the selected records, oldest first, in batches of ``batch_size``.

        Raises:
            StorageError: something cannot be read.
        """

    def batches(
        self,
        selection: Selection = ALL_RECORDS,
        on_file: Callable[[], None] | None = None,
    ) -> Iterator[TelemetryData]:
        """Iterate over all that may be selected, in any order: the fastest way to read all of it.

        What is certain not to be selected is left out, whatever the limit.

        Args:
            selection: which records.
            on_file: called after each file.

        Raises:
            StorageError: something cannot be read.
        """

    def trace_ids(self, prefix: str) -> Collection[int] | None:
        """Return the ids of all traces that start with these digits; None if that takes reading all.

        Args:
            prefix: up to 32 hexadecimal digits.

        Raises:
            StorageError: something cannot be read.
        """

    def poll(self, final: bool = False, signal: Signal | None = None) -> Iterator[TelemetryData]:
        """Iterate over what was recorded since the last poll; over everything at first.

        Wherever a record lies and moves to, it is returned once. A poll that is broken off is
        continued by the next one. A file that was replaced or truncated is read from its start.

        Args:
            final: read a last line that does not end yet, too; one that cannot be read is damaged.
            signal: whose stored records to read; what the journals hold is returned anyway. None for
                all. The same in every poll.

        Raises:
            StorageError: something cannot be read.
        """

    def skip(self) -> None:
        """Leave out what there is now, without reading it: polls return what comes after.

        Raises:
            StorageError: something cannot be read.
        """

    def position(self) -> Any:
        """Return how far the polls have come with what is stored: what JSON can hold."""

    def resume(self, position: Any) -> bool:
        """Go on where another object was; return False if that was not in this recording.

        To be called before the first poll. What the journals held then is returned once more.

        Args:
            position: as ``position`` returned it.

        Raises:
            StorageError: something cannot be read.
        """


class RecordedStorage(FilteringStorage):
    """A storage whose records are read as a recording: in files or in SQLite."""

    #: Lines or records that the last retrieval skipped because they cannot be read.
    damaged: Sequence[DamagedLine] = ()

    @abstractmethod
    def _open_recording(self) -> Recording:
        """Return a recording of what is stored, and of what waits in journals."""

    def _retrieve(self, selection: Selection) -> TelemetryData:
        recording = self._open_recording()
        try:
            return recording.retrieve(selection)
        finally:
            self.damaged = recording.damaged

    def _iter_retrieve(self, selection: Selection, batch_size: int) -> Iterator[TelemetryData]:
        recording = self._open_recording()
        try:
            yield from recording.iter_retrieve(selection, batch_size)
        finally:
            self.damaged = recording.damaged
