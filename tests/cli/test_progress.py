"""The bar for what takes long."""

from __future__ import annotations

import io

from rimp_otel.cli.output import Progress


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Seconds that pass when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_appears_after_half_a_second_and_goes() -> None:
    """What is quick shows none; while it is there it is drawn ten times a second at most."""
    stream, clock = Terminal(), Clock()
    with Progress("reading", 4, "files", stream=stream, clock=clock) as progress:
        progress.advance()
        assert stream.getvalue() == ""
        clock.now = 0.5
        progress.advance()
        assert (
            stream.getvalue() == "\r\x1b[Krimp: reading  [############            ]  50% of 4 files"
        )
        clock.now = 0.55
        progress.advance()
        clock.now = 0.7
        progress.advance(label="\x1b[2J")
    bar = "[########################] 100% of 4 files"
    assert stream.getvalue().endswith(f"\r\x1b[Krimp: \\x1b[2J  {bar}\r\x1b[K")
    assert stream.getvalue().count("rimp:") == 2


def test_without_a_total() -> None:
    """It counts."""
    stream, clock = Terminal(), Clock()
    progress = Progress("reading", 0, "records", stream, clock)
    clock.now = 1
    progress.advance(1_204)
    assert stream.getvalue().endswith("rimp: reading  1,204 records")
    progress.clear()
    progress.clear()
    assert stream.getvalue().count("\x1b[K") == 2


def test_nothing_where_there_is_no_terminal() -> None:
    """A log file of a job is not filled with bars."""
    stream, clock = io.StringIO(), Clock()
    with Progress("reading", 1, "files", stream=stream, clock=clock) as progress:
        clock.now = 9
        progress.advance()
    assert stream.getvalue() == ""


def test_a_terminal_that_went_away_stops_nothing() -> None:
    """What is being done is more important."""
    stream, clock = Terminal(), Clock()
    with Progress("reading", 1, "files", stream=stream, clock=clock) as progress:
        clock.now = 9
        stream.close()
        progress.advance()
        progress.advance()
    assert progress.done == 2


def test_a_step_that_may_take_long_is_shown_at_once() -> None:
    """Without a unit, its label is all there is to show."""
    stream = Terminal()
    progress = Progress("checking", stream=stream, clock=Clock())
    with progress:
        progress.show("checking traces.jsonl")
        assert stream.getvalue() == "\r\x1b[Krimp: checking traces.jsonl ..."
    with progress:
        progress.unit = "files"
        progress.show("decoding", 1, 2)
    bar = "[############            ]  50% of 2 files"
    assert stream.getvalue().endswith(f"\r\x1b[Krimp: decoding  {bar}\r\x1b[K")
