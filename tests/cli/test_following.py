"""The newest records, and those that follow."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.batch import TelemetryData
from rimp_otel.cli import tail as module
from rimp_otel.cli.tail import Feed
from rimp_otel.cli.timespec import Window
from rimp_otel.models.filters import Filter
from rimp_otel.storage import FileStorage
from tests.cli.records import MS, T0, event, span


def said(records: list[Any]) -> list[str]:
    """The messages of log records, the names of spans."""
    return [getattr(record, "message", None) or record.name for record in records]


def feed(path: Path, follows: bool = False, window: Window = Window()) -> Feed:  # noqa: B008
    """Of everything."""
    return Feed(path, window, Filter(), follows)


def test_newest(record: Any) -> None:
    """In the order of time, a span at its end."""
    path = record(TelemetryData([event("b", 20), event("a", 10)], [], [span("s", 1, 0, 0, 15)]))
    assert said(feed(path).newest(2)) == ["s", "b"]
    assert said(feed(path).newest(sys.maxsize)) == ["a", "s", "b"]
    assert feed(path).newest(0) == []


def test_window_is_about_the_ends_of_spans(record: Any) -> None:
    """Those that started before are found."""
    path = record(
        TelemetryData([], [], [span("long", 1, 0, 0, 60_000), span("short", 2, 0, 0, 10)])
    )
    assert said(feed(path, window=Window(T0 + 50_000 * MS)).newest(9)) == ["long"]
    assert said(feed(path, window=Window(None, T0 + 50_000 * MS)).newest(9)) == ["short"]


@pytest.mark.parametrize("number", [0, 2, sys.maxsize])
def test_following(record: Any, number: int) -> None:
    """What comes after the newest ones is given once, in steps."""
    path = record(TelemetryData([event("a", 1), event("b", 2), event("c", 3)]))
    following = feed(path, follows=True)
    assert said(following.newest(number)) == ["a", "b", "c"][3 - min(number, 3) :]
    assert following.new() == []
    record(TelemetryData([event("e", 5), event("d", 4)]))
    assert said(following.new()) == ["d", "e"]
    assert following.new() == []


def test_what_comes_between_two_looks(record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is given once, and so is what is the same twice in truth."""
    path = record(TelemetryData([event("a", 1)]))
    following = feed(path, follows=True)
    look = module.retrieve

    def record_meanwhile(*args: Any) -> TelemetryData:
        record(TelemetryData([event("twice", 2), event("twice", 2)]))
        found = look(*args)
        record(TelemetryData([event("twice", 2)]))
        return found

    monkeypatch.setattr(module, "retrieve", record_meanwhile)
    assert said(following.newest(9)) == ["a", "twice", "twice"]
    assert said(following.new()) == ["twice"]


def test_no_more_is_read_than_it_takes(record: Any) -> None:
    """The newest few are found without the sealed files that are older."""
    path = record(TelemetryData([event("old", 1)]))
    FileStorage(path).rotate()
    (sealed,) = (path / "sealed").glob("*.zst")
    sealed.write_bytes(b"not zstd")
    record(TelemetryData([event(f"m{i}", 10 + i) for i in range(2_100)]))
    assert said(feed(path).newest(2)) == ["m2098", "m2099"]
    following = feed(path, follows=True)
    assert said(following.newest(1)) == ["m2099"]
    assert following.new() == []
