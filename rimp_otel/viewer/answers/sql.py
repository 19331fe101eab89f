"""SQL for the page: over one connection that is kept, with limits on time, rows, memory and text."""

from __future__ import annotations

import math
import re
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rimp_otel.errors import QueryError
from rimp_otel.models.records import Signal
from rimp_otel.sql import connect
from rimp_otel.viewer.questions import PreparingError, check_time, interrupting

if TYPE_CHECKING:
    from rimp_otel.sql.connection import Connection

__all__ = ["SqlAnswers"]

MAX_ROWS = 10_000
_MAX_TEXT = 32_768
_MAX_SIZE = 32_000_000
_MAX_QUERY = 100_000
_BATCH = 500
_MAX_EXACT = 2**53
_COPIES = "Parquet copies"
# Seconds.
_PATIENCE = 0.3
_POLL = 0.02

_NUMBER_TYPE = re.compile(r"U?(?:TINY|SMALL|BIG|HUGE)?INT(?:EGER)?|DOUBLE|FLOAT")
_NESTED_TYPE = re.compile(r"STRUCT|MAP|UNION|JSON|VARIANT|.*\[\d*\]$", re.DOTALL)


class SqlAnswers:
    """Answers queries, one at a time. Thread-safe.

    Args:
        path: of the recording, which need not exist yet.
        max_memory: bytes that queries may take, and again as many on disk.
        patience: seconds that an answer waits for copies before it says how far they are.
    """

    def __init__(
        self, path: Path, max_memory: int = 1_000_000_000, patience: float = _PATIENCE
    ) -> None:
        self._path = path
        self._patience = patience
        self._max_memory = max_memory
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        # While copies are made, by a thread that holds the lock.
        self._progress: dict[Signal, tuple[int, int]] = {}
        self._is_closed = False

    def query(self, sql: str, limit: int = 1_000) -> dict[str, Any]:
        """Return the first rows of a query's last statement.

        Args:
            sql: one or more statements.
            limit: the most rows.

        Raises:
            QueryError: a statement is wrong, is not allowed, or has no result.
            PreparingError: copies are being made, without which it would take too long.
            MissingExtraError: the extra ``sql`` is not installed.
            StorageError: the recording cannot be read.
        """
        if len(sql) > _MAX_QUERY:
            raise QueryError(f"a query may have {_MAX_QUERY} characters, got {len(sql)}")
        began = time.monotonic()
        connection = self._take_connection(sql)
        try:
            with interrupting(connection.interrupt):
                answer = _run_query(connection, sql, min(limit, MAX_ROWS))
        finally:
            self._lock.release()
        answer["millis"] = round((time.monotonic() - began) * 1_000, 1)
        return answer

    def fetch(self, sql: str, parameters: list[Any], limit: int) -> list[tuple[Any, ...]]:
        """Return the first rows of a statement of ours.

        Args:
            sql: the statement.
            parameters: for its ``?``.
            limit: the most rows.

        Raises:
            QueryError: it is wrong.
            PreparingError: copies are being made, without which it would take too long.
            MissingExtraError: the extra ``sql`` is not installed.
            StorageError: the recording cannot be read.
        """
        connection = self._take_connection(sql)
        try:
            with interrupting(connection.interrupt):
                return connection.execute(sql, parameters).fetchmany(limit)
        finally:
            self._lock.release()

    def schema(self) -> dict[str, Any]:
        """Return the views with their columns.

        Raises:
            MissingExtraError: the extra ``sql`` is not installed.
        """
        connection = self._take_connection("")
        try:
            views = connection.columns()
        finally:
            self._lock.release()
        return {
            "tables": [
                {"name": view, "columns": [{"name": name, "type": kind} for name, kind in columns]}
                for view, columns in views.items()
            ]
        }

    def close(self) -> None:
        """Close the connection, and delete its temporary files."""
        self._is_closed = True
        if self._connection is not None:
            self._connection.interrupt()
        if self._lock.acquire(timeout=1.0):
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._lock.release()

    def _take_connection(self, sql: str) -> Connection:
        """Return the connection, with the lock held, once the views of a query are up to date."""
        since = time.monotonic()
        while not self._lock.acquire(timeout=_POLL):
            check_time()
            if self._progress and time.monotonic() - since > self._patience:
                raise self._preparing_error()
        failures: list[BaseException] = []
        done = threading.Event()
        # Whoever is too impatient leaves it the lock.
        is_left = threading.Event()
        handing_over = threading.Lock()

        def prepare() -> None:
            try:
                self._refresh(sql)
            except BaseException as error:
                failures.append(error)
            finally:
                self._progress.clear()
                with handing_over:
                    done.set()
                    if is_left.is_set():
                        self._lock.release()

        threading.Thread(target=prepare, name="rimp-sql", daemon=True).start()
        try:
            while not done.wait(_POLL):
                check_time()
                if self._progress and time.monotonic() - since > self._patience:
                    raise self._preparing_error()
        except BaseException:
            with handing_over:
                is_left.set()
                if done.is_set():
                    self._lock.release()
            raise
        if failures or self._connection is None:
            self._lock.release()
            raise failures[0] if failures else QueryError("the server stops")
        return self._connection

    def _refresh(self, sql: str) -> None:
        if self._connection is None and not self._is_closed:
            self._connection = connect(
                self._path, progress=self._note_progress, max_memory=self._max_memory
            )
        if sql and self._connection is not None:
            self._connection.refresh(sql)

    def _note_progress(self, signal: Signal, done: int, total: int) -> None:
        self._progress[signal] = done, total

    def _preparing_error(self) -> PreparingError:
        found = list(self._progress.values())
        return PreparingError(sum(d for d, _ in found), sum(t for _, t in found), _COPIES)


def _run_query(connection: Connection, sql: str, limit: int) -> dict[str, Any]:
    relation = connection.sql(sql)
    if relation is None:
        raise QueryError("the last statement has no result: end with a SELECT")
    columns = [
        {"name": name, "type": str(kind)}
        for name, kind in zip(relation.columns, relation.types, strict=True)
    ]
    rows: list[list[Any]] = []
    size = 0
    with connection.limited(sql):
        shown = ", ".join(_shown_column(at, column["type"]) for at, column in enumerate(columns, 1))
        with relation.project(shown).to_arrow_reader(_BATCH) as reader:
            for batch in reader:
                values = [column.to_pylist() for column in batch.columns]
                for row in zip(*values, strict=True):
                    if len(rows) == limit or size > _MAX_SIZE:
                        return {"columns": columns, "rows": rows, "is_truncated": True}
                    rows.append(list(map(_browser_value, row)))
                    size += sum(len(value) for value in row if isinstance(value, str)) + 8 * len(
                        row
                    )
    return {"columns": columns, "rows": rows, "is_truncated": False}


def _shown_column(at: int, kind: str) -> str:
    """Return a column as a number, or as a text that is not too long."""
    if _NUMBER_TYPE.fullmatch(kind) or kind == "BOOLEAN":
        return f"#{at}"
    if kind.startswith("DECIMAL"):
        return f"CAST(#{at} AS DOUBLE)"
    text = f"CAST({f'to_json(#{at})' if _NESTED_TYPE.match(kind) else f'#{at}'} AS VARCHAR)"
    return f"CASE WHEN length({text}) > {_MAX_TEXT} THEN left({text}, {_MAX_TEXT}) || '…' ELSE {text} END"


def _browser_value(value: Any) -> Any:
    """Return a value as JSON of a browser has it: a number that it would round as text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Decimal):  # a HUGEINT, as sums are
        value = int(value)
    if isinstance(value, int) and abs(value) > _MAX_EXACT:
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float)) or value is None else str(value)
