"""The arguments that commands share, and the environment."""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path

import pytest

from rimp_otel.cli.options import (
    UsageError,
    output_width,
    parse_attribute,
    parse_count,
    parse_duration_argument,
    parse_regex,
    parse_severity,
    parse_time_argument,
    parse_trace_prefix,
    parse_window_argument,
    path_from_args,
    style_from_args,
    window_from_args,
)


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Pipe(Terminal):
    """A stream that is no terminal."""

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
    """The option overrides NO_COLOR, which overrides FORCE_COLOR."""
    assert style_from_args(argparse.Namespace(color=choice), stream(), env).color is colored


@pytest.mark.parametrize(
    ("encoding", "unicode"), [("utf-8", True), ("ascii", False), ("latin-1", False), ("?", False)]
)
def test_unicode(encoding: str, unicode: bool) -> None:
    """Box-drawing characters are used if the encoding of the output has them."""
    stream = Pipe()
    stream.encoding = encoding
    assert style_from_args(argparse.Namespace(color="auto"), stream, {}).unicode is unicode


def test_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """COLUMNS overrides the width of the terminal."""
    monkeypatch.setenv("COLUMNS", "77")
    assert output_width() == 77


def test_recording_path() -> None:
    """The option overrides the environment, which overrides the default."""
    given, nothing = argparse.Namespace(path="a"), argparse.Namespace(path=None)
    assert path_from_args(given, {"RIMP_STORAGE_PATH": "b"}) == Path("a")
    assert path_from_args(nothing, {"RIMP_STORAGE_PATH": "b"}) == Path("b")
    assert path_from_args(nothing, {"RIMP_STORAGE_PATH": " "}) == Path("telemetry")
    assert path_from_args(nothing, {}) == Path("telemetry")


def test_count() -> None:
    """A count is a number from 0, or all."""
    assert parse_count("0") == 0
    assert parse_count("12") == 12
    assert parse_count("all") == sys.maxsize
    for text in ("-1", "x", "", "1.5"):
        with pytest.raises(argparse.ArgumentTypeError, match=r"^expected a number or 'all', got "):
            parse_count(text)


def test_a_server_is_no_path():
    """The URL of a server is refused: commands read and write on this machine."""
    nothing = argparse.Namespace(path=None)
    with pytest.raises(UsageError, match="the path is a server's URL"):
        path_from_args(nothing, {"RIMP_STORAGE_PATH": "clickhouse+http://host/db"})


def test_times_and_durations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ages are relative to now, and argparse reports what is malformed."""
    monkeypatch.setattr(time, "time_ns", lambda: 200_000 * 10**9)
    assert parse_time_argument("90s") == (200_000 - 90) * 10**9
    assert parse_window_argument("90s..now") == ((200_000 - 90) * 10**9, 200_000 * 10**9)
    assert parse_duration_argument("90s") == 90 * 10**9
    for parse in (parse_time_argument, parse_window_argument, parse_duration_argument):
        with pytest.raises(argparse.ArgumentTypeError, match=r"^invalid .*: expected "):
            parse("soon")


def test_empty_window() -> None:
    """Swapped --since and --until are an error, not an empty result."""
    assert window_from_args(argparse.Namespace(since=1, until=2)) == (1, 2)
    assert window_from_args(argparse.Namespace(since=None, until=0)) == (None, 0)
    with pytest.raises(UsageError, match="--until must be after --since"):
        window_from_args(argparse.Namespace(since=2, until=2))


def test_attribute() -> None:
    """The value is what follows the first equals sign, and can be missing."""
    assert parse_attribute("a=b=c") == ("a", "b=c")
    assert parse_attribute("a=") == ("a", "")
    assert parse_attribute("a") == ("a", None)
    with pytest.raises(argparse.ArgumentTypeError, match=r"^expected KEY=VALUE or KEY, got '=b'"):
        parse_attribute("=b")


@pytest.mark.parametrize(
    ("text", "number"),
    [("warn", 13), ("WARNING", 13), ("fatal", 21), ("critical", 21), ("7", 7), ("30", 13)],
)
def test_severity(text: str, number: int) -> None:
    """A severity is given by name or by OTLP number."""
    assert parse_severity(text) == number


@pytest.mark.parametrize("text", ["", "0", "bad", "-1", "1.5"])
def test_invalid_severity(text: str) -> None:
    """The message lists the levels."""
    with pytest.raises(
        argparse.ArgumentTypeError,
        match=r"^expected trace, debug, info, warn, error, fatal or a number from 1 to 24, got ",
    ):
        parse_severity(text)


def test_invalid_regex() -> None:
    """The message has the reason, and how to match a character literally."""
    with pytest.raises(argparse.ArgumentTypeError, match=r"unterminated.*put a \\ before"):
        parse_regex("a(b")


def test_trace_prefix() -> None:
    """Digits can be typed in upper case."""
    assert parse_trace_prefix("4BF9") == "4bf9"
    with pytest.raises(argparse.ArgumentTypeError, match=r"^invalid trace id 'xyz': expected 1 to"):
        parse_trace_prefix("xyz")
