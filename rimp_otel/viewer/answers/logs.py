"""Log records for the page: pages of them, newest first, those that come after a page, and their number
over time."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Raw

from rimp_otel.batch import TelemetryData
from rimp_otel.errors import ConfigurationError
from rimp_otel.models.accessors import time_of
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal, TelemetryEvent
from rimp_otel.models.times import Window
from rimp_otel.otlp.lines import EncodedRecord, join_lines
from rimp_otel.storage.base import Recording, Selection
from rimp_otel.storage.reading import Decode
from rimp_otel.viewer.answers.attribute_tests import OWN_SCOPES, make_record_matcher
from rimp_otel.viewer.answers.line_sieve import sieve_lines
from rimp_otel.viewer.answers.time_steps import NewestParts, TimeSteps, bounded_window
from rimp_otel.viewer.parameters import AttributeTest
from rimp_otel.viewer.questions import check_time, open_watched
from rimp_otel.viewer.rollups.rollup import SEVERITY_NAMES, LogKey
from rimp_otel.viewer.rollups.store import open_rollups

__all__ = ["LEVELS", "LogAnswers", "LogQuery", "otlp_data"]

LEVELS = ("trace", "debug", "info", "warn", "error", "fatal", "unspecified")
"""The names of levels, as the page has them."""

_LOGS = frozenset({Signal.LOGS})
_FIRST_READ = 1_000
_MAX_SAME_TIME = 200_000
_MAX_PAGE_SIZE = 16_000_000
# Seconds that one page may take: what it has found by then is shown, and where to go on.
_PAGE_BUDGET = 2.0
_MAX_TAILS = 32
_MAX_PENDING = 50_000
# Nanoseconds before now in which a page may end, so that what comes belongs to it.
_NOW = 300 * 10**9


class LogQuery(NamedTuple):
    """Which log records are asked for."""

    window: Window = Window()
    service: str | None = None
    #: OTLP's number; the lowest.
    severity: int | None = None
    #: Part of the message, the event's name, the source or an attribute's value, in any case.
    text: str | None = None
    tests: tuple[AttributeTest, ...] = ()
    trace_id: int | None = None

    @property
    def filter(self) -> Filter:
        """The conditions by which whole files and lines are left out."""
        return Filter(
            _LOGS, service=self.service, severity=self.severity or None, trace_id=self.trace_id
        )

    @property
    def is_counted_in_rollups(self) -> bool:
        """True if rollups tell how many there are."""
        is_plain = not (self.tests or self.text or self.trace_id)
        return is_plain and (self.severity is None or self.severity % 4 == 1)

    def make_matcher(self) -> Callable[[TelemetryEvent], bool]:
        """Return a function that says whether a record meets the conditions that no filter has.

        Raises:
            ConfigurationError: a condition is impossible.
        """
        matches_tests = make_record_matcher(self.tests)
        if self.text is None:
            return matches_tests
        wanted = self.text.casefold()
        return lambda event: _has_text(event, wanted) and matches_tests(event)


def otlp_data(signal: Signal, records: Iterable[EncodedRecord]) -> Raw:
    """Return records as TracesData, LogsData or MetricsData in OTLP JSON."""
    head = f'{{"{signal.resource_key}":['.encode()
    parts = [line[len(head) : -2] for line in join_lines(signal, records)]
    return Raw(b"".join((head, b",".join(parts), b"]}")))


class LogAnswers:
    """Answers questions for log records. Thread-safe.

    Args:
        path: of the recording, which need not exist yet.
        budget: seconds after which a page is returned as far as it was found.
        clock: returns nanoseconds since the epoch.
        monotonic: returns seconds that never go back.
    """

    def __init__(
        self,
        path: Path,
        budget: float = _PAGE_BUDGET,
        clock: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._budget = budget
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._tails: OrderedDict[str, _Tail] = OrderedDict()

    def page(
        self, wanted: LogQuery, limit: int, before: str | None = None, after: str | None = None
    ) -> dict[str, Any]:
        """Return records, with where to go on.

        Args:
            wanted: which ones.
            limit: how many about; those of one time stay together.
            before: ``older`` of a page: what is older than that page.
            after: ``newer`` of a page: what came since, whatever its time.

        Raises:
            ConfigurationError: a cursor or a condition is not one.
            StorageError: the recording cannot be read.
        """
        if after:
            return self._page_after(wanted, limit, after)
        if before:
            return self._newest(wanted, limit, _end_of_cursor(before)).as_json(None)
        end = wanted.window.end
        if end is not None and end < self._clock() - _NOW:
            return self._newest(wanted, limit, end).as_json(None)
        tail = _Tail(self._path, wanted)
        page = self._newest(wanted, limit, None)
        tail.note_returned(page.records)
        return page.as_json(self._add(tail))

    def histogram(self, wanted: LogQuery, steps: int) -> dict[str, Any]:
        """Return how many records of each level there are over time; of a search that takes too long, only
        in the newest part of it.

        Raises:
            ConfigurationError: a condition is impossible.
            StorageError: the recording cannot be read.
        """
        recording = open_watched(self._path)
        window = bounded_window(recording, _LOGS, wanted.window, self._clock)
        grid = TimeSteps.of(window, steps)
        series = {level: [0] * grid.count for level in LEVELS}
        answer = {"from": str(grid.start), "step": grid.step, "series": series}
        if wanted.is_counted_in_rollups:
            self._add_rollups(wanted, grid, series)
            return {**answer, "is_complete": True}
        parts = NewestParts(window, self._budget, monotonic=self._monotonic)
        for part in parts:
            for event in self._matching(wanted, part):
                at = grid.index(time_of(event))
                if at is not None:
                    series[_level_of(event)][at] += 1
        return {**answer, "is_complete": parts.is_complete}

    def _add_rollups(
        self, wanted: LogQuery, grid: TimeSteps, series: Mapping[str, list[int]]
    ) -> None:
        window = Window(grid.start, grid.end)
        least = 0 if wanted.severity is None else (wanted.severity + 3) // 4
        for rollup in open_rollups(self._path).rollups(Signal.LOGS, window, grid.step):
            check_time()
            step = rollup.step_for(grid.step)
            if step is None:
                continue
            for begin, key, cell in rollup.cells(step, window):
                at = grid.index(begin)
                if at is None or not isinstance(key, LogKey):
                    continue
                if wanted.service not in (None, key.service):
                    continue
                if SEVERITY_NAMES.index(key.severity) >= least:
                    series[key.severity][at] += cell.records

    # Pages.

    def _newest(self, wanted: LogQuery, limit: int, end: int | None) -> _LogPage:
        """Return the newest records before ``end``."""
        recording = open_watched(self._path)
        matches = wanted.make_matcher()
        is_plain = not wanted.tests and wanted.text is None
        number = limit + 1 if is_plain else max(limit + 1, _FIRST_READ)
        window = Window(wanted.window.start, wanted.window.end if end is None else end)
        while True:
            read = list(recording.retrieve(Selection(window, number, wanted.filter)).events)
            if len(read) < number:
                return _cut_page(list(filter(matches, reversed(read))), limit, None)
            # There may be more of the oldest one's time.
            oldest = time_of(read[0])
            whole = [event for event in read if time_of(event) > oldest]
            if whole or number >= _MAX_SAME_TIME:
                break
            number *= 4
        end = oldest + 1 if whole else oldest
        found = list(filter(matches, reversed(whole or read)))
        if is_plain or len(found) > limit:
            return _cut_page(found, limit, end)
        width = 4 * (time_of(read[-1]) - oldest)
        window = bounded_window(recording, _LOGS, Window(window.start, end), self._clock)
        return self._search(wanted, limit, found, window, width)

    def _search(
        self, wanted: LogQuery, limit: int, found: list[TelemetryEvent], window: Window, width: int
    ) -> _LogPage:
        """Return a page of what was found and what is found before that, until the time is over."""
        parts = NewestParts(window, self._budget, width, self._monotonic)
        for part in parts:
            found += sorted(self._matching(wanted, part), key=time_of, reverse=True)
            if len(found) > limit:
                return _cut_page(found, limit, part.start if part.start != window.start else None)
        if parts.is_complete:
            return _cut_page(found, limit, None)
        return _cut_page(found, limit, parts.reached)._replace(is_complete=False)

    def _matching(self, wanted: LogQuery, window: Window) -> list[TelemetryEvent]:
        """Return the records of a window that meet all conditions, in any order."""
        matches = wanted.make_matcher()
        recording = open_watched(self._path, _decoder_of(wanted))
        return [
            event
            for data in recording.batches(Selection(window, None, wanted.filter), check_time)
            for event in data.events
            if window.contains(time_of(event)) and wanted.filter.matches(event) and matches(event)
        ]

    # What comes after a page.

    def _page_after(self, wanted: LogQuery, limit: int, cursor: str) -> dict[str, Any]:
        name, _, rest = cursor.partition(".")
        taken, _, since = rest.partition(".")
        if not (name and taken.isdecimal() and since.isdecimal()):
            raise ConfigurationError(f"not a cursor of an answer: {cursor[:100]!r}")
        with self._lock:
            tail = self._tails.get(name)
            if tail is not None:
                self._tails.move_to_end(name)
        if tail is None or tail.key != _without_window(wanted):
            # It is forgotten: by their times.
            window = wanted.window._replace(start=int(since) + 1)
            return self.page(wanted._replace(window=window), max(limit, _FIRST_READ))
        records, taken_now, is_complete = tail.take(int(taken), limit)
        return {
            "logs": otlp_data(Signal.LOGS, records),
            "count": len(records),
            "older": None,
            "newer": f"{name}.{taken_now}.{tail.newest}",
            "is_complete": is_complete,
        }

    def _add(self, tail: _Tail) -> str:
        name = secrets.token_hex(8)
        with self._lock:
            self._tails[name] = tail
            while len(self._tails) > _MAX_TAILS:
                self._tails.popitem(last=False)
        return f"{name}.0.{tail.newest}"


class _LogPage(NamedTuple):
    #: Oldest first.
    records: list[EncodedRecord]
    #: Where to go on; None at the end.
    older: str | None
    is_complete: bool = True

    def as_json(self, newer: str | None) -> dict[str, Any]:
        return {
            "logs": otlp_data(Signal.LOGS, self.records),
            "count": len(self.records),
            "older": self.older,
            "newer": newer,
            "is_complete": self.is_complete,
        }


def _cut_page(found: list[TelemetryEvent], limit: int, end: int | None) -> _LogPage:
    """Return a page of records that come newest first.

    Args:
        found: the records.
        limit: how many about.
        end: the time before which to go on after all of them; None at the end.
    """
    older = None if end is None else str(end)
    if len(found) > limit:
        last = time_of(found[limit - 1])
        kept = [event for event in found if time_of(event) >= last]
        if len(kept) < len(found):
            older = str(last)
        found = kept
    records = TelemetryData(events=found[::-1]).encoded_records(Signal.LOGS)
    size = 0
    for at in range(len(records) - 1, -1, -1):
        size += len(records[at].text)
        is_other = (
            at + 1 < len(records) and records[at].time_unix_nano != records[at + 1].time_unix_nano
        )
        if size > _MAX_PAGE_SIZE and is_other:
            return _LogPage(records[at + 1 :], str(records[at + 1].time_unix_nano))
    return _LogPage(records, older)


class _Tail:
    """What comes to a recording from its making on, in the order in which it comes. Thread-safe.

    Args:
        path: of the recording.
        wanted: which records.
    """

    def __init__(self, path: Path, wanted: LogQuery) -> None:
        self.key = _without_window(wanted)
        self.newest = wanted.window.start or 0
        self._filter = wanted.filter
        self._matches = wanted.make_matcher()
        self._start = wanted.window.start or 0
        self._lock = threading.Lock()
        self._recording: Recording = open_watched(path)
        self._recording.skip()
        # Returned by the page that was read after that.
        self._returned: Counter[tuple[Any, ...]] = Counter()
        # Not known to have been received; the number of the first.
        self._pending: list[EncodedRecord] = []
        self._first = 0
        self._has_lost = False

    def note_returned(self, records: Iterable[EncodedRecord]) -> None:
        """Note what has been returned already, and may come again."""
        for record in records:
            self._returned[record[1:]] += 1
            self.newest = max(self.newest, record.time_unix_nano)

    def take(self, received: int, limit: int) -> tuple[list[EncodedRecord], int, bool]:
        """Return records that follow the first ``received``, how many there are with these, and True
        if none was left out."""
        with self._lock:
            del self._pending[: max(received - self._first, 0)]
            self._first = max(received, self._first)
            self._poll()
            records = self._pending[:limit]
            is_complete, self._has_lost = not self._has_lost, False
            return records, self._first + len(records), is_complete

    def _poll(self) -> None:
        for data in self._recording.poll(signal=Signal.LOGS):
            events = [event for event in data.events if self._is_wanted(event)]
            for record in TelemetryData(events=events).encoded_records(Signal.LOGS):
                if self._returned[record[1:]] > 0:
                    self._returned[record[1:]] -= 1
                    continue
                self._pending.append(record)
                self.newest = max(self.newest, record.time_unix_nano)
            if len(self._pending) > _MAX_PENDING:
                surplus = len(self._pending) - _MAX_PENDING
                del self._pending[:surplus]
                self._first += surplus
                self._has_lost = True
        self._returned.clear()

    def _is_wanted(self, event: TelemetryEvent) -> bool:
        if time_of(event) < self._start or not self._filter.matches(event):
            return False
        return self._matches(event)


def _without_window(wanted: LogQuery) -> LogQuery:
    # The window may move with the clock.
    return wanted._replace(window=Window())


def _end_of_cursor(cursor: str) -> int:
    if not cursor.isdecimal() or not cursor.isascii() or len(cursor) > 20:
        raise ConfigurationError(f"not a cursor of an answer: {cursor[:100]!r}")
    return int(cursor)


# Conditions.

_PLAIN_KEY = re.compile("[A-Za-z0-9_.:-]+")
_PLAIN_TEXT = re.compile("[a-z0-9 _.,:;=+*#@!?$%&()<>{}|~^-]+")
_ESCAPE = re.compile(rb"\\u00[2-7]")


def _decoder_of(wanted: LogQuery) -> Decode | None:
    """Return what decodes records that may have the text and the attributes; None to decode all."""
    own = [test for test in wanted.tests if test.scope in OWN_SCOPES]
    # In an attribute's key, the case counts.
    keys = [needle for test in own if (needle := _longest_plain(test.key, _PLAIN_KEY))]
    text = _longest_plain((wanted.text or "").casefold(), _PLAIN_TEXT)
    if not (keys or text):
        return None

    def may_have(found: bytes) -> bool:
        if not (all(key in found for key in keys) or _ESCAPE.search(found)):
            return False
        # Of other alphabets, some letters become these in lower case.
        return text in found.lower() or not found.isascii() or _ESCAPE.search(found) is not None

    # The source is the name of the scope.
    return sieve_lines(may_have, may_have if text and not keys else None)


def _longest_plain(text: str, plain: re.Pattern[str]) -> bytes:
    return max(plain.findall(text), key=len, default="").encode()


def _has_text(event: TelemetryEvent, wanted: str) -> bool:
    texts = (event.message, event.event_name, event.source)
    if any(wanted in text.casefold() for text in texts):
        return True
    return any(wanted in _searched_text(value).casefold() for value in event.metadata.values())


def _searched_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _level_of(event: TelemetryEvent) -> str:
    number = event.severity_number
    return LEVELS[(number - 1) // 4] if 0 < number <= 24 else "unspecified"
