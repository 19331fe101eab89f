"""The shared options, and what the environment says."""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path

import pytest

from rimp_otel.cli.options import count, output_style, output_width, point_in_time, recording_path


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


def test_point_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """An age, ISO 8601, or seconds since the epoch."""
    monkeypatch.setattr(time, "time_ns", lambda: 200_000 * 10**9)
    assert point_in_time("90s") == (200_000 - 90) * 10**9
    assert point_in_time("1.5m") == (200_000 - 90) * 10**9
    assert point_in_time("2h") == (200_000 - 7_200) * 10**9
    assert point_in_time("1d") == (200_000 - 86_400) * 10**9
    assert point_in_time("1970-01-01T00:01:00Z") == 60 * 10**9
    assert point_in_time("1970-01-01T00:01:00") == 60 * 10**9
    assert point_in_time("60.5") == 60_500_000_000


@pytest.mark.parametrize("text", ["", "soon", "nan", "inf", "5 weeks"])
def test_not_a_point_in_time(text: str) -> None:
    """The message names every form that is taken."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"ISO 8601.*or an age such as 90s"):
        point_in_time(text)
