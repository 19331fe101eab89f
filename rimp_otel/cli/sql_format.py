"""Rows of a query as a table, JSON, CSV or Parquet."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, BinaryIO

from rimp_otel.cli.options import style_from_args
from rimp_otel.cli.output import Progress, warn
from rimp_otel.errors import QueryError
from rimp_otel.render.format import format_count
from rimp_otel.render.terminal import Column, Style, Table, to_json

if TYPE_CHECKING:
    from rimp_otel.sql import Connection

__all__ = ["FORMATS", "answer", "safe_cell"]

FORMATS = ("table", "json", "csv", "parquet")
"""How rows can be printed."""

_BATCH = 1_000
_PLAN = ["explain_key", "explain_value"]
_MAX_COLUMN_WIDTH = 80
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"U?(?:TINY|SMALL|BIG|HUGE)?INT(?:EGER)?|DOUBLE|FLOAT|DECIMAL.*|BOOLEAN")
_NESTED = re.compile(r"STRUCT|MAP|UNION|JSON|VARIANT|.*\[\d*\]$", re.DOTALL)


def answer(connection: Connection, args: argparse.Namespace, sql: str, progress: Progress) -> int:
    """Print the result of the statements; return the exit code.

    Args:
        connection: to ask.
        args: the options of ``rimp sql``.
        sql: one or more statements.
        progress: which the connection shows; it is gone before anything is printed.
    """
    try:
        with progress:
            relation = connection.sql(sql)
        with connection.limited(sql), _target(args) as target:
            more = relation is not None and _write_rows(
                relation, args.format, args.max_rows, target, style_from_args(args)
            )
    except QueryError as error:
        for line in str(error).splitlines():
            warn(line)
        return 1
    if more:
        warn(f"there are more than {format_count(args.max_rows, 'row')}")
    if connection.damaged():
        warn(f"skipped {format_count(connection.damaged(), 'damaged line')} (see 'rimp stats')")
    return 0


@contextmanager
def _target(args: argparse.Namespace) -> Iterator[BinaryIO]:
    if args.output is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    # What is recorded is private, and so is what was asked of it.
    file = os.open(args.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "wb") as target:
        yield target


def _write_rows(relation: Any, format: str, most: int, target: BinaryIO, style: Style) -> bool:
    """Writes a relation's rows.

    Args:
        relation: DuckDB's.
        format: "table", "json", "csv" or "parquet".
        most: how many rows.
        target: where to.
        style: of a table.

    Returns:
        Whether there are more rows.
    """
    write = {"table": _table, "json": _json, "csv": _csv, "parquet": _parquet}[format]
    return write(relation, most, target, style)


def safe_cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


class _Rows:
    """The first rows of a relation, and whether there were more."""

    def __init__(self, relation: Any, most: int) -> None:
        self.are_more = False
        self._relation = relation
        self._most = most

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        left = self._most
        with self._relation.to_arrow_reader(_BATCH) as reader:
            for batch in reader:
                columns = [column.to_pylist() for column in batch.slice(0, left).columns]
                yield from zip(*columns, strict=True)
                if batch.num_rows > left:
                    self.are_more = True
                    return
                left -= batch.num_rows


def _as_text(relation: Any) -> Any:
    """The relation with a text for every value: exact times, and JSON for what is nested."""
    casts = [
        f"to_json(#{at})" if _NESTED.match(str(kind)) else f"#{at}"
        for at, kind in enumerate(relation.types, 1)
    ]
    return relation.project(", ".join(f"CAST({cast} AS VARCHAR)" for cast in casts))


def _are_numbers(relation: Any) -> list[bool]:
    return [_NUMBER.fullmatch(str(kind)) is not None for kind in relation.types]


def _table(relation: Any, most: int, target: BinaryIO, style: Style) -> bool:
    if relation.columns == _PLAN:
        for _, plan in _Rows(relation, most):
            lines = [style.clean(line) for line in plan.splitlines()]
            target.write("\n".join([*lines, ""]).encode("utf-8", "replace"))
        return False
    rows = _Rows(_as_text(relation), most)
    cells = ([_shown(value, style) for value in row] for row in rows)
    first = list(islice(cells, _BATCH))
    columns = [
        Column(style.clean(name), is_number, max_width=_MAX_COLUMN_WIDTH)
        for name, is_number in zip(relation.columns, _are_numbers(relation), strict=True)
    ]
    table = Table(columns, first, style)
    lines = [style.paint(table.line(table.headings), "bold")]
    for line in chain(lines, map(table.line, chain(first, cells))):
        target.write(f"{line}\n".encode("utf-8", "replace"))
    return rows.are_more


def _shown(value: str | None, style: Style) -> str:
    return "NULL" if value is None else style.clean(value)


def _json(relation: Any, most: int, target: BinaryIO, style: Style) -> bool:
    names = _distinct(relation.columns)
    fields = ", ".join(f"{_identifier(name)} := #{at}" for at, name in enumerate(names, 1))
    rows = _Rows(relation.project(f"CAST(to_json(struct_pack({fields})) AS VARCHAR)"), most)
    for (text,) in rows:
        # JSON has no NaN, and a terminal must not be sent what was recorded as it is.
        target.write(f"{to_json(json.loads(text, parse_constant=str))}\n".encode())
    return rows.are_more


def _distinct(names: Sequence[str]) -> list[str]:
    found: dict[str, str] = {}
    for name in names:
        distinct, number = name, 0
        while distinct.lower() in found:
            number += 1
            distinct = f"{name}_{number}"
        found[distinct.lower()] = distinct
    return list(found.values())


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _csv(relation: Any, most: int, target: BinaryIO, style: Style) -> bool:
    rows = _Rows(_as_text(relation), most)
    are_numbers = _are_numbers(relation)
    clean = style.clean if target is sys.stdout.buffer and sys.stdout.isatty() else str
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")  # so that it quotes either of the two
    texts = [[safe_cell(name) for name in relation.columns]]
    for row in chain(texts, _safe(rows, are_numbers)):
        writer.writerow([clean(text) for text in row])
        target.write(f"{buffer.getvalue()[:-2]}\n".encode("utf-8", "replace"))
        buffer.seek(0)
        buffer.truncate()
    return rows.are_more


def _safe(rows: _Rows, are_numbers: Sequence[bool]) -> Iterator[list[str]]:
    for row in rows:
        yield [
            "" if text is None else text if is_number else safe_cell(text)
            for text, is_number in zip(row, are_numbers, strict=True)
        ]


def _parquet(relation: Any, most: int, target: BinaryIO, style: Style) -> bool:
    from rimp_otel.sql.extras import pyarrow

    left = most
    with (
        relation.to_arrow_reader(100_000) as reader,
        pyarrow.parquet.ParquetWriter(target, reader.schema, compression="zstd") as writer,
    ):
        for batch in reader:
            writer.write_batch(batch.slice(0, left))
            if batch.num_rows > left:
                return True
            left -= batch.num_rows
    return False
