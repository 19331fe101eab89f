"""``Connection``: DuckDB with views over a recording, on which every statement is checked."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from weakref import finalize

from rimp_otel.errors import ConfigurationError, QueryError
from rimp_otel.models.records import Signal
from rimp_otel.sql.extras import duckdb
from rimp_otel.sql.sandbox import check_statements, explain_error, lock_down, translate_statement
from rimp_otel.sql.source import DecodingProgress, SignalSource
from rimp_otel.sql.views import VIEWS, view_statements
from rimp_otel.storage.base import DamagedLine
from rimp_otel.storage.files.layout import Layout

__all__ = ["Connection"]

_ResultT = TypeVar("_ResultT")

_ANY_TABLE = re.compile(r"\bquery_table\s*\(", re.IGNORECASE)
# What DuckDB raises if a file is gone or damaged; for some damage, nothing more special than that.
_READ_ERRORS = (duckdb.IOException, duckdb.InvalidInputException, duckdb.Error)


class Connection:
    """A DuckDB connection that can only read the views of a recording; see `connect`.

    Methods have DuckDB's names and arguments. ``execute`` keeps its result in the connection, for
    the methods that fetch; ``sql`` returns a relation, which is computed when it is fetched from, and
    can also be fetched as an Arrow table or a data frame of polars.

    Use it in one thread at a time; ``interrupt`` may be called in any thread.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        timeout: float | None = None,
        progress: DecodingProgress | None = None,
        max_memory: int | None = None,
    ) -> None:
        if timeout is not None and not (isinstance(timeout, (int, float)) and timeout > 0):
            raise ConfigurationError(
                f"timeout must be a number of seconds above 0, got {timeout!r}"
            )
        self.timeout = timeout
        sealed = Path(os.path.abspath(Layout(path).sealed))
        # For copies that cannot be made beside their sealed files, and what does not fit in memory.
        private = Path(tempfile.mkdtemp(prefix="rimp-sql-"))
        self._raw: Any = duckdb.connect(":memory:")
        self._close = finalize(self, _close_connection, os.getpid(), self._raw, private)
        with _raising_interrupts():
            lock_down(self._raw, [sealed, private], private / "spill", max_memory)
        self._sources = {
            signal: SignalSource(os.path.abspath(path), signal, private, progress)
            for signal in Signal
        }
        for source in self._sources.values():
            self._create_views(source)

    def execute(self, sql: str, parameters: Any = None) -> Connection:
        """Run statements, and keep the result of the last one; return this connection.

        Args:
            sql: one or more statements.
            parameters: a list for ``?``, or a mapping for ``$name``.

        Raises:
            QueryError: a statement is wrong, is not allowed, or takes too long.
            StorageError: the recording cannot be read.
        """
        for statement in self._prepare(sql):
            self._run_statement(statement, lambda text: self._raw.execute(text, parameters))
        return self

    def sql(self, sql: str, params: Any = None) -> Any:
        """Return the relation of the last statement; None if it has no result.

        Its rows are computed when they are fetched; `limited` limits the time of that.

        Raises:
            QueryError: a statement is wrong, or is not allowed.
            StorageError: the recording cannot be read.
        """
        relation = None
        for statement in self._prepare(sql):
            relation = self._run_statement(
                statement, lambda text: self._raw.sql(text, params=params)
            )
        return relation

    query = sql

    @property
    def description(self) -> list[tuple[Any, ...]] | None:
        """Names and types of the result's columns, as in the Python database API."""
        description: list[tuple[Any, ...]] | None = self._raw.description
        return description

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row; None after the last one."""
        row: tuple[Any, ...] | None = self._raw.fetchone()
        return row

    def fetchmany(self, size: int = 1) -> list[tuple[Any, ...]]:
        """Return the next rows, at most ``size``."""
        rows: list[tuple[Any, ...]] = self._raw.fetchmany(size)
        return rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all remaining rows."""
        rows: list[tuple[Any, ...]] = self._raw.fetchall()
        return rows

    def fetchnumpy(self) -> dict[str, Any]:
        """Return the result as NumPy arrays by column."""
        arrays: dict[str, Any] = self._raw.fetchnumpy()
        return arrays

    def df(self) -> Any:
        """Return the result as a data frame of pandas."""
        return self._raw.df()

    def interrupt(self) -> None:
        """Stop the statement that runs in another thread."""
        self._raw.interrupt()

    def refresh(self, sql: str) -> None:
        """Read what is new of the views that a query names, and make their copies, without running it.

        Raises:
            StorageError: the recording cannot be read.
        """
        for signal in _signals_in(sql):
            source = self._sources[signal]
            if source.refresh():
                self._create_views(source)

    def columns(self) -> dict[str, list[tuple[str, str]]]:
        """Return the names and types of all views' columns; nothing is read for it."""
        return {
            view: [(row[0], row[1]) for row in self._raw.execute(f"DESCRIBE {view}").fetchall()]
            for view in VIEWS
        }

    def damaged(self) -> int:
        """Return how many of the lines that this connection decoded could not be read."""
        return sum(source.damaged for source in self._sources.values())

    def unreadable(self) -> list[DamagedLine]:
        """Return the files and places that could not be read at all, each once."""
        found = [place for source in self._sources.values() for place in source.unreadable]
        return list(dict.fromkeys(found))

    @contextmanager
    def limited(self, sql: str = "") -> Iterator[None]:
        """Return a context in which DuckDB is interrupted after ``timeout``, and its errors are
        QueryErrors.

        Args:
            sql: the statement, whose views an error lists.
        """
        is_over = threading.Event()

        def interrupt() -> None:
            is_over.set()
            self._raw.interrupt()

        timer = threading.Timer(self.timeout, interrupt) if self.timeout else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            with _raising_interrupts():
                yield
        except duckdb.InterruptException:
            if not is_over.is_set():
                raise KeyboardInterrupt from None
            raise QueryError(
                f"stopped after {self.timeout:g} s: ask for less, or allow more time"
            ) from None
        except duckdb.Error as error:
            raise explain_error(self._raw, error, sql) from None
        finally:
            if timer is not None:
                timer.cancel()
                timer.join()

    def close(self) -> None:
        """Close the connection, and delete its temporary files."""
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

    def _prepare(self, sql: str) -> list[str]:
        """Return the statements, after reading what is new of the views that they name."""
        if hasattr(self._raw, "abort"):
            self._raw.abort()  # drops what was not fetched of the last result
        statements = check_statements(self._raw, translate_statement(sql))
        self.refresh(sql)
        return statements

    def _run_statement(self, statement: str, run: Callable[[str], _ResultT]) -> _ResultT:
        with self.limited(statement):
            try:
                return run(statement)
            except duckdb.Error as error:
                if type(error) not in _READ_ERRORS or not self._replace_copies(statement):
                    raise
            return run(statement)

    def _replace_copies(self, statement: str) -> bool:
        """Return True if a Parquet copy was damaged or deleted, and views were created without it."""
        is_replaced = False
        for signal in _signals_in(statement):
            source = self._sources[signal]
            if source.has_damaged_copies():
                source.reload()
                self._create_views(source)
                is_replaced = True
        return is_replaced

    def _create_views(self, source: SignalSource) -> None:
        try:
            self._create_views_once(source)
        except duckdb.Error as error:
            # A copy that was damaged or deleted since it was checked.
            if not source.has_damaged_copies():
                raise explain_error(self._raw, error) from None
            source.reload()
            self._create_views_once(source)

    def _create_views_once(self, source: SignalSource) -> None:
        live = f"_rimp_{source.signal.value}"
        self._raw.register(live, source.table())
        with _raising_interrupts():
            for statement in view_statements(source.signal, source.files(), live):
                self._raw.execute(statement)


@contextmanager
def _raising_interrupts() -> Iterator[None]:
    """Return a context in which Ctrl-C raises KeyboardInterrupt, which DuckDB makes another error of."""
    try:
        yield
    except RuntimeError as error:
        if str(error) != "Query interrupted":
            raise
        raise KeyboardInterrupt from None


def _signals_in(sql: str) -> list[Signal]:
    """Return the signals whose views a query names."""
    if _ANY_TABLE.search(sql):
        return list(Signal)
    lowered = sql.lower()
    found = {signal for view, signal in VIEWS.items() if view in lowered}
    return [signal for signal in Signal if signal in found]


def _close_connection(pid: int, raw: Any, private: Path) -> None:
    if os.getpid() != pid:
        return  # in a forked child: all belongs to the parent
    raw.close()
    shutil.rmtree(private, ignore_errors=True)
