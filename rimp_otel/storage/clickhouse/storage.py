"""The storage in ClickHouse."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rimp_otel.batch import TelemetryData
from rimp_otel.config import TelemetryConfig
from rimp_otel.errors import ConfigurationError
from rimp_otel.journal.target import DirectoryTarget
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.storage.base import FilteringStorage, Selection
from rimp_otel.storage.clickhouse.connection import ClickHouseConnection, parse_server_url
from rimp_otel.storage.clickhouse.query import ClickHouseQuery
from rimp_otel.storage.clickhouse.writer import ClickHouseTables, ClickHouseWriter

__all__ = ["ClickHouseStorage"]

_JOURNAL_PATH = "telemetry.clickhouse"
_BATCH = 1_000


class ClickHouseStorage(FilteringStorage):
    """Keeps batches in ClickHouse, in the tables of the OpenTelemetry Collector's exporter.

    A batch is a block of each table that it has records for. What was collected waits in a journal on this
    machine until the server has it, and is there once, whatever dies in between. Tables are made when the first
    record comes; docs/clickhouse.md describes them.

    Safe for several threads.

    Args:
        url: ``clickhouse+http://USER:PASSWORD@HOST:8123/DATABASE``, or ``clickhouse+https`` with TLS; with
            ``?cluster=NAME`` tables are made on a cluster, ``prefix=otel`` is what their names begin with,
            ``create=no`` makes none, ``extend=yes`` adds what they lack to tables of others.
        journal_path: the directory of the journals, unless the configuration names another one.
        retain_age: seconds after which rows of tables that are made here are deleted; None keeps all.
        connect_timeout: seconds to wait for a connection.
        timeout: seconds to wait for an answer.

    Raises:
        ConfigurationError: the URL or another argument is not allowed.
    """

    def __init__(
        self,
        url: str,
        *,
        journal_path: str | os.PathLike[str] = _JOURNAL_PATH,
        retain_age: float | None = None,
        connect_timeout: float = 10.0,
        timeout: float = 60.0,
    ) -> None:
        TelemetryConfig(retain_age=retain_age)  # checks it
        for name, value in (("connect_timeout", connect_timeout), ("timeout", timeout)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ConfigurationError(f"{name} must be a number of seconds > 0, got {value!r}")
        self._address = parse_server_url(url)
        # Absolute, so that a program may change its working directory.
        self._journal_path = Path(os.path.abspath(journal_path))
        self._connection = ClickHouseConnection(self._address, connect_timeout, timeout)
        self._tables = ClickHouseTables(self._connection, retain_age)
        self._writer = ClickHouseWriter(self._connection, self._tables)
        #: Why rows that other programs wrote were skipped by the last retrieval.
        self.damaged: Sequence[str] = ()

    @classmethod
    def from_config(cls, config: TelemetryConfig) -> ClickHouseStorage:
        """Return the storage that a configuration names.

        Raises:
            ConfigurationError: its path is not the URL of a server.
        """
        if config.storage_path is None:
            raise ConfigurationError(
                "storage_backend='clickhouse' needs storage_path='clickhouse+http://HOST:8123/DATABASE'"
            )
        return cls(os.fspath(config.storage_path), retain_age=config.retain_age)

    def store(self, data: TelemetryData) -> None:
        """Keep the batch; not again if its slice has been stored before.

        Raises:
            StorageError: the server does not have it, or nobody knows.
            DecodeError: a line of it is not OTLP JSON.
        """
        self._writer.write(data)

    def _retrieve(self, selection: Selection) -> TelemetryData:
        query = ClickHouseQuery(self._connection, self._tables)
        try:
            return query.select(selection)
        finally:
            self.damaged = query.damaged

    def _iter_retrieve(self, selection: Selection, batch_size: int) -> Iterator[TelemetryData]:
        query = ClickHouseQuery(self._connection, self._tables)
        try:
            yield from query.iter_select(selection, batch_size)
        finally:
            self.damaged = query.damaged

    def close(self) -> None:
        """Close the connections; the next batch opens one."""
        self._connection.close()

    def journal_target(self, path: str | os.PathLike[str] | None = None) -> DirectoryTarget:
        """Return a journal in a directory of this machine, ``journal_path`` without ``path``.

        A slice's id is the deduplication token of its blocks, so that each slice is stored exactly once.
        """
        directory = Path(os.path.abspath(self._journal_path if path is None else path))
        return DirectoryTarget(
            self.store,
            lambda number: directory / (f"journal.{number}" if number else "journal"),
            self._lines_since,
            slice_size=_SLICE,
        )

    def _lines_since(self, signal: Signal, time_unix_nano: int) -> Iterable[bytes]:
        selection = Selection(Window(time_unix_nano), None, Filter(frozenset({signal})))
        for data in self._iter_retrieve(selection, _BATCH):
            yield from data.otlp_json(signal)

    def __repr__(self) -> str:
        return f"ClickHouseStorage({self._address.shown!r})"


_SLICE = 4 * 1024 * 1024
"""Bytes of a journal that are stored at once: a few thousand rows, since a server merges each block."""
