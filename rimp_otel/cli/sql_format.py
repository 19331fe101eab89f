"""Prints the rows of a query as a table, JSON, CSV or Parquet."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from rimp_otel.cli.options import style_from_args
from rimp_otel.cli.output import Progress, warn, warn_of_skipped
from rimp_otel.errors import QueryError
from rimp_otel.render.format import format_count
from rimp_otel.render.terminal import Column, Style, Table, to_json

if TYPE_CHECKING:
    from rimp_otel.sql import Connection

__all__ = ["FORMATS", "escape_formula", "print_result"]

FORMATS = ("table", "json", "csv", "parquet")
"""The formats that rows can be printed in."""

_BATCH_SIZE = 1_000
_PLAN_COLUMNS = ["explain_key", "explain_value"]
_MAX_COLUMN_WIDTH = 80
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_NUMBER_TYPE = re.compile(r"U?(?:TINY|SMALL|BIG|HUGE)?INT(?:EGER)?|DOUBLE|FLOAT|DECIMAL.*|BOOLEAN")
_NESTED_TYPE = re.compile(r"STRUCT|MAP|UNION|JSON|VARIANT|.*\[\d*\]$", re.DOTALL)


def print_result(
    connection: Connection, args: argparse.Namespace, sql: str, progress: Progress
) -> int:
    """Run the statements, print the result of the last, and return the exit code.

    Args:
        connection: the connection to query.
        args: the options of ``rimp sql``.
        sql: one or more statements.
        progress: the progress that the connection shows; it is cleared before anything is printed.
    """
    try:
        with progress:
            relation = connection.sql(sql)
        with connection.limited(sql), _open_target(args) as target:
            more = relation is not None and _write_rows(
                _Result(relation, connection.interrupt),
                args.format,
                args.max_rows,
                target,
                style_from_args(args),
            )
    except QueryError as error:
        for line in str(error).splitlines():
            warn(line)
        return 1
    if more:
        warn(f"printed only the first {format_count(args.max_rows, 'row')} (see --max-rows)")
    warn_of_skipped(connection.unreadable(), connection.damaged())
    return 0


@contextmanager
def _open_target(args: argparse.Namespace) -> Iterator[BinaryIO]:
    if args.output is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    # A recording is private, and so is the result of a query.
    file = os.open(args.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "wb") as target:
        yield target


class _ArrowBatches(NamedTuple):
    """The rows of a relation as Arrow's record batches."""

    schema: Any
    batches: Iterator[Any]


class _Result:
    """DuckDB's relation, whose rows another thread fetches.

    DuckDB does not return to Python before it has rows: in the main thread, Ctrl-C would have to
    wait for them.

    Args:
        relation: of DuckDB.
        interrupt: stops the query.
    """

    def __init__(self, relation: Any, interrupt: Callable[[], None]) -> None:
        self.columns: list[str] = relation.columns
        self.types: list[Any] = relation.types
        self._relation = relation
        self._interrupt = interrupt

    def project(self, expressions: str) -> _Result:
        """Return a relation of expressions over the rows."""
        return _Result(self._relation.project(expressions), self._interrupt)

    @contextmanager
    def fetch(self, size: int) -> Iterator[_ArrowBatches]:
        """Return a context with the rows in batches of about ``size``."""
        with ThreadPoolExecutor(1) as pool:
            reader = self._wait(pool.submit(self._relation.to_arrow_reader, size))
            with reader:
                yield _ArrowBatches(reader.schema, self._fetch_batches(pool, reader))

    def _fetch_batches(self, pool: ThreadPoolExecutor, reader: Any) -> Iterator[Any]:
        while (batch := self._wait(pool.submit(next, reader, None))) is not None:
            yield batch

    def _wait(self, future: Future[Any]) -> Any:
        try:
            return future.result()
        except KeyboardInterrupt:
            while not future.done():  # it may just be about to begin
                self._interrupt()
                wait([future], 0.1)
            raise


def _write_rows(relation: _Result, format: str, most: int, target: BinaryIO, style: Style) -> bool:
    """Write at most ``most`` rows of DuckDB's relation; return True if there are more."""
    writers = {
        "table": _write_table,
        "json": _write_json,
        "csv": _write_csv,
        "parquet": _write_parquet,
    }
    return writers[format](relation, most, target, style)


def escape_formula(text: str) -> str:
    """Return a text that no spreadsheet interprets as a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


class _Rows:
    """The first rows of a relation; after iterating, ``are_more`` is True if there are others."""

    def __init__(self, relation: _Result, most: int) -> None:
        self.are_more = False
        self._relation = relation
        self._most = most

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        left = self._most
        with self._relation.fetch(_BATCH_SIZE) as fetched:
            for batch in fetched.batches:
                columns = [column.to_pylist() for column in batch.slice(0, left).columns]
                yield from zip(*columns, strict=True)
                if batch.num_rows > left:
                    self.are_more = True
                    return
                left -= batch.num_rows


def _cast_to_text(relation: _Result) -> _Result:
    """Return the relation with text for every value: exact times, and JSON for nested values."""
    casts = [
        f"to_json(#{at})" if _NESTED_TYPE.match(str(kind)) else f"#{at}"
        for at, kind in enumerate(relation.types, 1)
    ]
    return relation.project(", ".join(f"CAST({cast} AS VARCHAR)" for cast in casts))


def _are_number_columns(relation: _Result) -> list[bool]:
    return [_NUMBER_TYPE.fullmatch(str(kind)) is not None for kind in relation.types]


def _write_table(relation: _Result, most: int, target: BinaryIO, style: Style) -> bool:
    if relation.columns == _PLAN_COLUMNS:
        for _, plan in _Rows(relation, most):
            lines = [style.clean(line) for line in plan.splitlines()]
            target.write("\n".join([*lines, ""]).encode("utf-8", "replace"))
        return False
    rows = _Rows(_cast_to_text(relation), most)
    cells = ([_format_cell(value, style) for value in row] for row in rows)
    first = list(islice(cells, _BATCH_SIZE))
    columns = [
        Column(style.clean(name), is_number, max_width=_MAX_COLUMN_WIDTH)
        for name, is_number in zip(relation.columns, _are_number_columns(relation), strict=True)
    ]
    table = Table(columns, first, style)
    lines = [style.paint(table.line(table.headings), "bold")]
    for line in chain(lines, map(table.line, chain(first, cells))):
        target.write(f"{line}\n".encode("utf-8", "replace"))
    return rows.are_more


def _format_cell(value: str | None, style: Style) -> str:
    return "NULL" if value is None else style.clean(value)


def _write_json(relation: _Result, most: int, target: BinaryIO, style: Style) -> bool:
    names = _distinct_names(relation.columns)
    fields = ", ".join(f"{_quote_identifier(name)} := #{at}" for at, name in enumerate(names, 1))
    rows = _Rows(relation.project(f"CAST(to_json(struct_pack({fields})) AS VARCHAR)"), most)
    for (text,) in rows:
        # JSON has no NaN, and recorded text must be escaped.
        target.write(f"{to_json(json.loads(text, parse_constant=str))}\n".encode())
    return rows.are_more


def _distinct_names(names: Sequence[str]) -> list[str]:
    found: dict[str, str] = {}
    for name in names:
        distinct, number = name, 0
        while distinct.lower() in found:
            number += 1
            distinct = f"{name}_{number}"
        found[distinct.lower()] = distinct
    return list(found.values())


def _quote_identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _write_csv(relation: _Result, most: int, target: BinaryIO, style: Style) -> bool:
    rows = _Rows(_cast_to_text(relation), most)
    are_numbers = _are_number_columns(relation)
    clean = style.clean if target is sys.stdout.buffer and sys.stdout.isatty() else str
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")  # so that both are quoted
    texts = [[escape_formula(name) for name in relation.columns]]
    for row in chain(texts, _escape_cells(rows, are_numbers)):
        writer.writerow([clean(text) for text in row])
        target.write(f"{buffer.getvalue()[:-2]}\n".encode("utf-8", "replace"))
        buffer.seek(0)
        buffer.truncate()
    return rows.are_more


def _escape_cells(rows: _Rows, are_numbers: Sequence[bool]) -> Iterator[list[str]]:
    for row in rows:
        yield [
            "" if text is None else text if is_number else escape_formula(text)
            for text, is_number in zip(row, are_numbers, strict=True)
        ]


def _write_parquet(relation: _Result, most: int, target: BinaryIO, style: Style) -> bool:
    from rimp_otel.sql.extras import pyarrow

    left = most
    with (
        relation.fetch(100_000) as fetched,
        pyarrow.parquet.ParquetWriter(target, fetched.schema, compression="zstd") as writer,
    ):
        for batch in fetched.batches:
            writer.write_batch(batch.slice(0, left))
            if batch.num_rows > left:
                return True
            left -= batch.num_rows
    return False
