"""LineFilter: what is still wanted while a recording is read."""

from __future__ import annotations

from pathlib import Path

from rimp_otel.models.records import Signal
from rimp_otel.storage.base import Selection
from rimp_otel.storage.files.layout import SealedName
from rimp_otel.storage.files.lines import DataFile
from rimp_otel.storage.files.view import LineFilter

SECOND = 10**9


def content(first, last, signal=Signal.LOGS):
    """Return a sealed file of these times."""
    name = SealedName(signal, "0123456789abcdef", first, last, "zstd")
    return DataFile(signal, name.id, Path(str(name)), name)


def test_a_range_is_half_open():
    """Both ends of what is asked about are included."""
    search = LineFilter(Selection.of(2, 4, None))
    assert [search.may_want(i * SECOND, i * SECOND) for i in range(1, 6)] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert search.may_want(0, 9 * SECOND)
    assert not search.may_want(9 * SECOND, 0)  # nothing


def test_a_limit_narrows_it():
    """Once there are enough records, ties are wanted within a file, not out of an older one."""
    search = LineFilter(Selection.of(None, None, 2))
    search.add(10)
    assert (search.since, search.may_want(1, 1)) == (0, True)
    search.add(30)
    assert (search.since, search.may_want(9, 9), search.may_want(9, 10)) == (10, False, True)
    search.add(20)
    search.add(5)
    assert search.since == 20
    assert search.may_want(20, 20)
    assert not search.may_want_from(content(0, 20))
    assert search.may_want_from(content(0, 21))


def test_no_limit_and_a_limit_of_nothing():
    """Without a limit everything is wanted, with a limit of 0 nothing."""
    search = LineFilter(Selection.of(None, None, None))
    search.add(10)
    assert search.may_want(0, 0)
    assert search.may_want_from(content(0, 0))
    assert not LineFilter(Selection.of(None, None, 0)).may_want(0, 2**64 - 1)


def test_files_of_other_signals():
    """Files of other signals are not wanted; the times of a waiting file are not known."""
    search = LineFilter(Selection.of(None, None, None, severity=9))
    assert search.may_want_from(content(0, 0))
    assert not search.may_want_from(content(0, 0, Signal.TRACES))
    search = LineFilter(Selection.of(5, 6, None))
    assert search.may_want_from(content(None, None))
