"""The options that several commands share, and what the environment says about them."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeVar

from rimp_otel.cli.moments import (
    MOMENT_FORMS,
    Window,
    parse_duration,
    parse_moment,
    parse_window,
)
from rimp_otel.cli.render import Glyphs, Style
from rimp_otel.config import DEFAULT_PATHS
from rimp_otel.errors import ConfigurationError, RimpError

__all__ = [
    "Parser",
    "UsageError",
    "add_color",
    "add_json",
    "add_path",
    "add_since",
    "count",
    "duration",
    "output_style",
    "output_width",
    "point_in_time",
    "recording_path",
    "window",
    "window_of",
]

T = TypeVar("T")


class UsageError(RimpError):
    """The command was asked for something that it cannot do as asked; its exit code is 2."""


class Parser(argparse.ArgumentParser):
    """argparse's parser, with this package's way of saying that something is wrong."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # An abbreviation would become ambiguous with the next option that is added.
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and where help is."""
        self.exit(2, f"rimp: {Style().clean(message)}; see '{self.prog} --help'\n")


def add_path(parser: argparse.ArgumentParser) -> None:
    """``--path``: where the recording is."""
    parser.add_argument(
        "--path",
        metavar="PATH",
        help="the recording: a directory, a family of files that ends in .jsonl, or an SQLite file "
        "(default: $RIMP_STORAGE_PATH, else telemetry)",
    )


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    """``--json``: for programs instead of people."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON")


def add_color(parser: argparse.ArgumentParser) -> None:
    """``--color``: whether to colour."""
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colour the output (default: auto, which is on a terminal, and as NO_COLOR and "
        "FORCE_COLOR say)",
    )


def count(text: str) -> int:
    """A number of records, from 0 on; ``all`` is as many as there are."""
    if text == "all":
        return sys.maxsize
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give a number, or all")
    return int(text)


def add_since(parser: argparse.ArgumentParser) -> None:
    """``--since`` and ``--until``: from when to when."""
    parser.add_argument(
        "--since",
        metavar="T",
        type=point_in_time,
        help=f"nothing from before T: {MOMENT_FORMS}",
    )
    parser.add_argument(
        "--until",
        metavar="T",
        type=point_in_time,
        help="nothing from T on, which is given likewise",
    )


def window_of(args: argparse.Namespace) -> Window:
    """What ``--since`` and ``--until`` say."""
    if args.since is not None and args.until is not None and args.since >= args.until:
        raise UsageError("--until is not after --since: there is no time between them")
    return Window(args.since, args.until)


def point_in_time(text: str) -> int:
    """Nanoseconds since the epoch, of what `parse_moment` takes."""
    return _parsed(lambda: parse_moment(text, time.time_ns()))


def window(text: str) -> Window:
    """A window such as ``2h..1h``."""
    return _parsed(lambda: parse_window(text, time.time_ns()))


def duration(text: str) -> int:
    """Nanoseconds, of what `parse_duration` takes."""
    return _parsed(lambda: parse_duration(text))


def _parsed(parse: Callable[[], T]) -> T:
    try:
        return parse()
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def recording_path(args: argparse.Namespace, env: Mapping[str, str] = os.environ) -> Path:
    """Where the recording is that the command is about."""
    backend = env.get("RIMP_STORAGE_BACKEND", "").strip()
    default = DEFAULT_PATHS.get(backend, "telemetry")
    return Path(args.path or env.get("RIMP_STORAGE_PATH", "").strip() or default)


def output_style(
    args: argparse.Namespace, stream: TextIO | None = None, env: Mapping[str, str] = os.environ
) -> Style:
    """What ``stream`` (standard output, if not given) can show."""
    stream = stream or sys.stdout
    return Style(_wants_color(args.color, stream, env), _holds_boxes(stream))


def _wants_color(choice: str, stream: TextIO, env: Mapping[str, str]) -> bool:
    if choice != "auto":
        return choice == "always"
    if env.get("NO_COLOR"):
        return False
    if env.get("FORCE_COLOR"):
        return True
    return stream.isatty() and env.get("TERM") != "dumb"


def _holds_boxes(stream: Any) -> bool:
    try:
        "".join(Glyphs()).encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def output_width() -> int:
    """The terminal's width in columns; COLUMNS overrides it, and a pipe has 100."""
    return shutil.get_terminal_size((100, 24)).columns
