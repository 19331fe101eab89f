"""What a reader has given out of journals, so that it does not give it again out of files."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

from rimp_otel.data import TelemetryData
from rimp_otel.errors import DecodeError
from rimp_otel.otlp.fragment import Fragment, lines
from rimp_otel.otlp.signals import Signal
from rimp_otel.storage.snapshot import JournalLine

__all__ = ["Shown"]

_Record = tuple[Any, ...]


class Shown:
    """Remembers, from one poll to the next, the records that were given out of the journals.

    What a journal held at the last poll, and does not any more, has come into a file since, and is
    met there in this poll. So only that has to be looked for, and what the journals hold now is
    all there is to remember. Records are told from each other by their text and what they belong
    to; of two that are the same in all, it does not matter which is which.
    """

    def __init__(self) -> None:
        #: Given out, and in a journal still, as far as is known.
        self._given: list[JournalLine] = []
        # Given out, and to be met in a file.
        self._expected: Counter[_Record] = Counter()
        # In the journals now, and in a file that is not certain too.
        self._met: Counter[_Record] = Counter()
        self._fresh: deque[JournalLine] = deque()
        self._lines: list[JournalLine] = []
        self._held: Counter[_Record] | None = None

    def begin(self, journal: Iterable[JournalLine]) -> None:
        """A poll begins, in which the journals hold these lines."""
        gone = Counter(self._given)
        self._lines = list(journal)
        self._given, self._held = [], None
        self._fresh.clear()
        for line in self._lines:
            if gone[line] > 0:
                gone[line] -= 1
                self._given.append(line)
            else:
                self._fresh.append(line)
        self._expected += _records_of(gone.elements())
        self._expected -= self._met
        self._met = Counter()

    def skip(self) -> None:
        """Takes all that the journals hold for given out."""
        self._given = self._lines
        self._fresh.clear()
        self.end()

    def without(self, data: TelemetryData, is_certain: bool) -> TelemetryData | None:
        """A line's records, out of a file, but for those that were given out; None for none.

        Args:
            data: the line.
            is_certain: whether none of them is in a journal too, in this poll.
        """
        left: TelemetryData | None = data
        if not is_certain and self._lines:
            if self._held is None:
                self._held = _records_of(self._lines)
            left = _without(data, self._held, self._met)
        return left and _without(left, self._expected)

    def fresh(self) -> Iterator[TelemetryData]:
        """What the journals hold and was not given out yet."""
        while self._fresh:
            line = self._fresh.popleft()
            self._given.append(line)
            data = _decoded(line)
            left = data and _without(data, self._expected)
            if left:
                yield left

    def end(self) -> None:
        """All of this poll has been read: what was expected and not met was lost or deleted."""
        self._expected.clear()
        self._lines, self._held = [], None


def _records_of(lines: Iterable[JournalLine]) -> Counter[_Record]:
    found: Counter[_Record] = Counter()
    for line in lines:
        data = _decoded(line)
        if data is not None:
            found.update(map(_record, data.fragments(line.signal)))
    return found


def _decoded(line: JournalLine) -> TelemetryData | None:
    try:
        return TelemetryData.decoded(line.text)
    except DecodeError:  # which the journal's reader has looked for, and reported
        return None


def _record(fragment: Fragment) -> _Record:
    return fragment[1:]


def _without(
    data: TelemetryData, records: Counter[_Record], taken: Counter[_Record] | None = None
) -> TelemetryData | None:
    """The data without these records, each of which is then taken from them."""
    if not records:
        return data
    texts: list[bytes] = []
    is_changed = False
    for signal in Signal:
        kept = []
        for fragment in data.fragments(signal):
            record = _record(fragment)
            if records[record] <= 0:
                kept.append(fragment)
                continue
            is_changed = True
            records[record] -= 1
            if not records[record]:
                del records[record]
            if taken is not None:
                taken[record] += 1
        texts += lines(signal, kept)
    if not is_changed:
        return data
    return TelemetryData.from_otlp_json(texts) if texts else None
