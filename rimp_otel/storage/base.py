"""The contract of a storage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from rimp_otel.data import TelemetryData

if TYPE_CHECKING:
    from rimp_otel.times import TimeLike

__all__ = ["TelemetryStorage"]


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

    def close(self) -> None:  # noqa: B027 - most storages hold nothing open
        """Gives up what the storage holds open. It may be used again after, and opens it anew."""
