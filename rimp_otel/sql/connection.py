"""A connection to query a recording with SQL."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from weakref import finalize

from rimp_otel.errors import ConfigurationError, QueryError
from rimp_otel.models.records import Signal
from rimp_otel.sql.extras import duckdb
from rimp_otel.sql.sandbox import close_off, explained, reading_statements, translated
from rimp_otel.sql.source import Progress, Source
from rimp_otel.sql.views import VIEWS, view_statements
from rimp_otel.storage.files.layout import Layout

__all__ = ["Connection"]

_ANY_TABLE = re.compile(r"\bquery_table\s*\(", re.IGNORECASE)
# What DuckDB raises if a file is gone or damaged; for some damage, nothing more special than that.
_READING = (duckdb.IOException, duckdb.InvalidInputException, duckdb.Error)


class Connection:
    """DuckDB's connection, on which every statement is checked. Use it in one thread at a time.

    ``execute``, ``sql`` and ``query`` are as DuckDB's; everything else, such as ``fetchall()``,
    ``df()`` or ``description``, is DuckDB's own.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        if timeout is not None and not (isinstance(timeout, (int, float)) and timeout > 0):
            raise ConfigurationError(f"timeout={timeout!r} is not allowed: give seconds above 0")
        self.timeout = timeout
        self._layout = Layout(path)
        aside = Path(tempfile.mkdtemp(prefix="rimp-sql-"))
        self._raw = duckdb.connect(":memory:")
        self._close = finalize(self, _close, os.getpid(), self._raw, aside)
        sealed = Path(os.path.abspath(self._layout.sealed))
        close_off(self._raw, [sealed, aside], aside / "spill")
        self._sources = {
            signal: Source(os.path.abspath(path), signal, aside, progress) for signal in Signal
        }
        for signal, source in self._sources.items():
            self._show(signal, source)

    def execute(self, sql: str, parameters: Any = None) -> Connection:
        """Runs statements; the last one's result is to be fetched from this connection.

        Raises:
            QueryError: one is wrong, is not allowed, or took too long.
            StorageError: the recording cannot be read.
        """
        for statement in self._prepared(sql):
            self._run(statement, lambda text: self._raw.execute(text, parameters))
        return self

    def sql(self, sql: str, params: Any = None) -> Any:
        """A relation, which DuckDB computes when it is fetched from; None where there is no result.

        Raises:
            QueryError: it is wrong, or not allowed.
            StorageError: the recording cannot be read.
        """
        relation = None
        for statement in self._prepared(sql):
            relation = self._run(statement, lambda text: self._raw.sql(text, params=params))
        return relation

    query = sql

    def damaged(self) -> int:
        """How many lines could not be read, of those that had to be decoded for this connection."""
        return sum(source.damaged for source in self._sources.values())

    @contextmanager
    def limited(self, sql: str = "") -> Iterator[None]:
        """Within it, DuckDB is interrupted after ``timeout``, and its errors are QueryErrors."""
        is_over = threading.Event()

        def interrupt() -> None:
            is_over.set()
            self._raw.interrupt()

        timer = threading.Timer(self.timeout, interrupt) if self.timeout else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            yield
        except duckdb.InterruptException:
            if not is_over.is_set():
                raise KeyboardInterrupt from None
            raise QueryError(
                f"stopped after {self.timeout:g} s: ask for less, or allow more time"
            ) from None
        except duckdb.Error as error:
            raise explained(self._raw, error, sql) from None
        finally:
            if timer is not None:
                timer.cancel()
                timer.join()

    def close(self) -> None:
        """Closes it, and removes what it has put aside."""
        self._close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._raw, name)

    def _prepared(self, sql: str) -> list[str]:
        """The statements, once the views that they are about are up to date."""
        if hasattr(self._raw, "abort"):
            self._raw.abort()  # what of the last result was not fetched, as any new statement does
        statements = reading_statements(self._raw, translated(sql))
        for signal in _signals_in(sql):
            source = self._sources[signal]
            if source.refresh():
                self._show(signal, source)
        return statements

    def _run(self, statement: str, run: Any) -> Any:
        with self.limited(statement):
            try:
                return run(statement)
            except duckdb.Error as error:
                if type(error) not in _READING or not self._mended(statement):
                    raise
            return run(statement)

    def _mended(self, statement: str) -> bool:
        """Whether a twin was at fault, which retention has deleted, or which was damaged."""
        is_mended = False
        for signal in _signals_in(statement):
            source = self._sources[signal]
            if source.discard_damaged():
                source.start_over()
                self._show(signal, source)
                is_mended = True
        return is_mended

    def _show(self, signal: Signal, source: Source) -> None:
        live = f"_rimp_{signal.value}"
        self._raw.register(live, source.table())
        for statement in view_statements(signal, source.files(), live):
            self._raw.execute(statement)


def _signals_in(sql: str) -> list[Signal]:
    """Whose views are named in a query."""
    if _ANY_TABLE.search(sql):
        return list(Signal)
    lowered = sql.lower()
    found = {signal for view, signal in VIEWS.items() if view in lowered}
    return [signal for signal in Signal if signal in found]


def _close(pid: int, raw: Any, aside: Path) -> None:
    if os.getpid() != pid:
        return  # in a forked child: it is the parent's
    raw.close()
    shutil.rmtree(aside, ignore_errors=True)
