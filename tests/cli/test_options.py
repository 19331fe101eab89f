"""The shared options, and what the environment says."""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path

import pytest

from rimp_otel.cli.options import (
    UsageError,
    count,
    duration,
    output_style,
    output_width,
    point_in_time,
    recording_path,
    window,
    window_of,
)


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Pipe(Terminal):
    """A stream that says that it is none."""

    def isatty(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("choice", "stream", "env", "colored"),
    [
        ("auto", Terminal, {}, True),
        ("auto", Pipe, {}, False),
        ("auto", Terminal, {"TERM": "dumb"}, False),
        ("auto", Terminal, {"NO_COLOR": "1"}, False),
        ("auto", Terminal, {"NO_COLOR": ""}, True),
        ("auto", Pipe, {"FORCE_COLOR": "1"}, True),
        ("auto", Pipe, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ("always", Pipe, {"NO_COLOR": "1"}, True),
        ("never", Terminal, {"FORCE_COLOR": "1"}, False),
    ],
)
def test_color(choice: str, stream: type[Terminal], env: dict[str, str], colored: bool) -> None:
    """The option is stronger than NO_COLOR, which is stronger than FORCE_COLOR."""
    assert output_style(argparse.Namespace(color=choice), stream(), env).color is colored


@pytest.mark.parametrize(
    ("encoding", "unicode"), [("utf-8", True), ("ascii", False), ("latin-1", False), ("?", False)]
)
def test_unicode(encoding: str, unicode: bool) -> None:
    """Boxes are drawn where the output's encoding has them."""
    stream = Pipe()
    stream.encoding = encoding
    assert output_style(argparse.Namespace(color="auto"), stream, {}).unicode is unicode


def test_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """COLUMNS says how wide the terminal is."""
    monkeypatch.setenv("COLUMNS", "77")
    assert output_width() == 77


def test_recording_path() -> None:
    """The option, else the environment, else the default."""
    given, nothing = argparse.Namespace(path="a"), argparse.Namespace(path=None)
    assert recording_path(given, {"RIMP_STORAGE_PATH": "b"}) == Path("a")
    assert recording_path(nothing, {"RIMP_STORAGE_PATH": "b"}) == Path("b")
    assert recording_path(nothing, {"RIMP_STORAGE_PATH": " "}) == Path("telemetry")
    assert recording_path(nothing, {}) == Path("telemetry")


def test_count() -> None:
    """Numbers from 0 on, or all."""
    assert count("0") == 0
    assert count("12") == 12
    assert count("all") == sys.maxsize
    for text in ("-1", "x", "", "1.5"):
        with pytest.raises(argparse.ArgumentTypeError, match="give a number, or all"):
            count(text)


def test_times_and_durations(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock of this machine; what is none of them is for argparse to say."""
    monkeypatch.setattr(time, "time_ns", lambda: 200_000 * 10**9)
    assert point_in_time("90s") == (200_000 - 90) * 10**9
    assert window("90s..now") == ((200_000 - 90) * 10**9, 200_000 * 10**9)
    assert duration("90s") == 90 * 10**9
    for parse in (point_in_time, window, duration):
        with pytest.raises(argparse.ArgumentTypeError, match=": give "):
            parse("soon")


def test_no_time_between_since_and_until() -> None:
    """Whoever swaps them is told so, and not shown that there is nothing."""
    assert window_of(argparse.Namespace(since=1, until=2)) == (1, 2)
    assert window_of(argparse.Namespace(since=None, until=0)) == (None, 0)
    with pytest.raises(UsageError, match="--until is not after --since"):
        window_of(argparse.Namespace(since=2, until=2))
