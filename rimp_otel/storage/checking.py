"""Checking one file of a recording: every line of it, and what its name says."""

from __future__ import annotations

import os
from collections.abc import Iterator

from rimp_otel.errors import DecodeError
from rimp_otel.otlp.signals import Signal
from rimp_otel.storage.content import Found, Line, lines_of
from rimp_otel.storage.extent import Extent
from rimp_otel.storage.layout import SealedName, fingerprint
from rimp_otel.storage.problems import Parse, Problem, Tally
from rimp_otel.storage.slotstates import INTERRUPTED

__all__ = ["FileCheck"]

_MARK = f'"{INTERRUPTED}"'.encode()
_MOVE = "moves it to damaged/"
_MOVE_FILE = "moves the file to damaged/, and what can be read of it into a new one"


class FileCheck:
    """Reads one opened file from its start to its end, line by line.

    Args:
        found: the file.
        signal: whose records it holds.
        parse: reads a line.
        tally: what is read is counted there.
        torn: whether a last line without an end is damage; otherwise somebody may be writing it.
        limit: a last line without an end that begins there, or later, is no damage: the journal
            still has it.
    """

    def __init__(
        self,
        found: Found,
        signal: Signal,
        parse: Parse,
        tally: Tally,
        torn: bool = True,
        limit: int | None = None,
    ) -> None:
        self._found = found
        self._signal = signal
        self._parse = parse
        self._tally = tally
        self._torn = torn
        self._limit = limit
        self._extent = Extent()
        self._first: bytes | None = None
        self._records = self._size = 0

    def run(self) -> Iterator[Problem]:
        """What is wrong with it."""
        end = 0
        self._tally.files += 1
        self._tally.bytes += os.fstat(self._found.file.fileno()).st_size
        for line in lines_of(self._found, 0, 0, None, self._torn):
            problem = self._check(line, end)
            if problem is not None:
                yield problem
            end = line.end

    def _check(self, line: Line, start: int) -> Problem | None:
        text = line.text
        if text is None:
            return self._problem(line, start, line.reason, _MOVE_FILE)
        if not text.endswith(b"\n") and self._limit is not None and start >= self._limit:
            return None
        if line.number == 1:
            self._first = text
        stripped = text.strip()
        if stripped:
            try:
                self._count(stripped, self._parse(stripped))
            except DecodeError as error:
                return self._problem(line, start, error.reason, _MOVE)
        if not text.endswith(b"\n") and self._found.compression == "none":
            reason = "the last line does not end"
            return Problem(self._found.path, reason, "ends it", line.number, is_damage=False)
        return None

    def _count(self, line: bytes, records: int) -> None:
        self._tally.lines += 1
        self._tally.records[self._signal] += records
        self._tally.interrupted += line.count(_MARK)
        self._records += records
        self._size += len(line)
        if self._found.is_sealed:
            self._extent.add(line)

    def _problem(self, line: Line, start: int, reason: str, cure: str) -> Problem:
        lost = line.end - start
        return Problem(
            self._found.path, reason, cure, line.number, None, lost, self._about(lost), self._signal
        )

    def _about(self, size: int) -> int | None:
        """How many records that many bytes are, going by those before."""
        return max(1, round(size * self._records / self._size)) if self._size and size else None

    def wrong_id(self, name: SealedName) -> str | None:
        """The id that the name should have, once the file was read; None where it has it."""
        if self._first is None:
            return None  # empty, or damaged there
        id = fingerprint(self._first)
        return None if id == name.id else id

    def wrong_range(self, name: SealedName) -> tuple[int, int] | None:
        """The times that the name should have, once the file was read; None where it has them."""
        extent = self._extent
        if name.first is None or name.last is None or not self._records:
            return None
        if name.first <= extent.first and extent.last <= name.last:
            return None
        return min(extent.first, name.first), max(extent.last, name.last)
