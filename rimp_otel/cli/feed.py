"""The newest records of a recording, and those that follow: what ``rimp tail`` and ``rimp logs`` show."""

from __future__ import annotations

import heapq
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rimp_otel.cli.moments import Window
from rimp_otel.cli.recording import (
    open_recording,
    reader_of,
    record_json,
    records_of,
    report_damage,
    retrieve,
)
from rimp_otel.cli.render import to_json
from rimp_otel.records import Record, time_of

if TYPE_CHECKING:
    from rimp_otel.data import TelemetryData
    from rimp_otel.filters import Filter

__all__ = ["Feed", "follow", "show"]

_POLL_SECONDS = 0.2
_LONG = 3_600 * 10**9


class Feed:
    """Records in the order of time, a span at its end.

    Args:
        path: of the recording.
        window: what is not in it is left out.
        wanted: what the records must meet.
        follows: whether more will be asked for; there need be nothing yet then.
    """

    def __init__(self, path: Path, window: Window, wanted: Filter, follows: bool) -> None:
        self._path, self._window, self._wanted = path, window, wanted
        self._follows = follows
        self._reader = open_recording(path, wait=follows)
        # What came between the two looks at the recording, and is given by the second one too.
        self._given: Counter[str] = Counter()
        self._reported = 0

    def newest(self, number: int) -> list[Record]:
        """The newest ``number`` of what there is now.

        Of spans, those are looked through that started last: one that ended just now, but started
        before thousands of others, can be missed.
        """
        if self._follows and number == sys.maxsize:
            return self.new()
        if self._follows:
            self._reader.skip()
        # Spans are found by their start.
        window = Window(self._window.start and self._window.start - _LONG, self._window.end)
        reader = reader_of(self._path)
        limit = None if number == sys.maxsize else 20 * number + 2_000
        found = self._chosen([retrieve(reader, window, self._wanted, limit if number else 0)])
        if self._follows:
            self._given = Counter(map(_text, found))
        report_damage(reader)
        return _newest(found, number)

    def new(self) -> list[Record]:
        """What has been recorded since the last call."""
        found = self._chosen(self._reader.poll())
        self._reported = report_damage(self._reader, self._reported)
        if self._given:
            found = [record for record in found if not self._is_given(record)]
            self._given.clear()
        return _newest(found, sys.maxsize)

    def _chosen(self, batches: Iterable[TelemetryData]) -> list[Record]:
        return [
            record
            for data in batches
            for record in records_of(data, self._wanted.signals)
            if self._window.holds(time_of(record)) and self._wanted.matches(record)
        ]

    def _is_given(self, record: Record) -> bool:
        text = _text(record)
        self._given[text] -= 1
        return self._given[text] >= 0


def _newest(records: list[Record], number: int) -> list[Record]:
    return sorted(heapq.nlargest(number, records, key=time_of), key=time_of)


def _text(record: Record) -> str:
    return to_json(record_json(record))


def show(feed: Feed, number: int, follows: bool, line: Callable[[Record], str]) -> None:
    """Prints the newest ``number``, one line each, and then perhaps those that follow."""

    def print_all(records: list[Record]) -> None:
        for record in records:
            print(line(record))
        sys.stdout.flush()

    print_all(feed.newest(number))
    if follows:
        follow(lambda: print_all(feed.new()))


def follow(show_new: Callable[[], None], sleep: Callable[[float], None] = time.sleep) -> NoReturn:
    """Show what is new, again and again, until something raises: an interrupt, a closed pipe."""
    while True:
        sleep(_POLL_SECONDS)
        show_new()
