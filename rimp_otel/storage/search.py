"""What is still looked for while a recording is read: less and less, where there is a limit."""

from __future__ import annotations

from heapq import heappush, heapreplace

from rimp_otel.filters import Filter
from rimp_otel.storage.content import Content
from rimp_otel.storage.selecting import Selection

__all__ = ["Search"]

_NEVER = 2**64


class Search:
    """A selection, and how old the newest records are that were found so far."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        # Of the newest records, as many as the limit says; the oldest of them first.
        self._newest: list[int] = []

    @property
    def filter(self) -> Filter:
        """What the records must meet."""
        return self.selection.filter

    @property
    def is_limited(self) -> bool:
        """Whether to begin with the newest saves work."""
        return self.selection.limit is not None

    @property
    def takes_all(self) -> bool:
        """Whether there is nothing that could be left out."""
        selection = self.selection
        return not selection.filter and selection[:3] == (None, None, None)

    @property
    def since(self) -> int:
        """No record that is older than this is wanted any more: nanoseconds since the epoch."""
        limit = self.selection.limit
        if limit == 0:
            return _NEVER
        return self._newest[0] if limit is not None and len(self._newest) == limit else 0

    def may_want(self, first: int, last: int) -> bool:
        """Whether a record may be wanted whose time is in a range, both ends included."""
        start, end, _, _ = self.selection
        if (start is not None and last < start) or (end is not None and first >= end):
            return False
        return last >= self.since and first <= last

    def may_want_from(self, content: Content) -> bool:
        """Whether one may be wanted out of a content that is older than all that was read."""
        name = content.name
        if content.signal not in self.filter.signals:
            return False
        if name is None or name.first is None or name.last is None:
            return True
        # Of records of the same time, the newest are those that were found before.
        return self.may_want(name.first, name.last) and (name.last > self.since or not self.since)

    def found(self, time_unix_nano: int) -> None:
        """A record that is selected."""
        limit = self.selection.limit
        if limit is None:
            return
        if len(self._newest) < limit:
            heappush(self._newest, time_unix_nano)
        elif limit and time_unix_nano > self._newest[0]:
            heapreplace(self._newest, time_unix_nano)
