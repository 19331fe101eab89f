"""The options that several commands share, and what the environment says about them."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

from rimp_otel.cli.timespec import MOMENT_FORMS, Window, parse_duration, parse_moment, parse_window
from rimp_otel.config import DEFAULT_PATHS
from rimp_otel.errors import ConfigurationError, RimpError
from rimp_otel.render.terminal import Glyphs, Style

if TYPE_CHECKING:
    from rimp_otel.cli.record_filter import Chosen

__all__ = [
    "SEVERITIES",
    "Parser",
    "UsageError",
    "add_attr",
    "add_choices",
    "add_color",
    "add_json",
    "add_min_duration",
    "add_path",
    "add_severity",
    "add_since",
    "attribute",
    "chosen",
    "count",
    "duration",
    "output_style",
    "output_width",
    "point_in_time",
    "recording_path",
    "regular_expression",
    "severity",
    "trace_prefix",
    "window",
    "window_of",
]


# --- The options that several commands share, and what the environment says about them.

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


# --- The options by which several commands choose records, and what they choose.

SEVERITIES = {
    "trace": 1,
    "debug": 5,
    "info": 9,
    "warn": 13,
    "warning": 13,
    "error": 17,
    "fatal": 21,
}
"""The lowest OTLP severity number of each."""


def add_choices(parser: argparse.ArgumentParser, name: str = "") -> None:
    """``--service``, ``--name`` (where there are any), ``--attr``, ``--since`` and ``--until``."""
    parser.add_argument("--service", metavar="NAME", help="only of this service")
    if name:
        parser.add_argument("--name", metavar="NAME", help=f"{name}; * stands for anything")
    add_attr(parser)
    add_since(parser)


def add_attr(parser: argparse.ArgumentParser) -> None:
    """``--attr``, as often as one likes."""
    parser.add_argument(
        "--attr",
        metavar="K=V",
        type=attribute,
        action="append",
        default=[],
        help="only with this attribute, of their own or of their resource; K alone: with any value",
    )


def add_severity(parser: argparse.ArgumentParser) -> None:
    """``--severity``, also called ``--level``."""
    parser.add_argument(
        "--severity",
        "--level",
        metavar="LEVEL",
        type=severity,
        help="only as bad as this or worse: trace, debug, info, warn, error, fatal, or a number "
        "from 1 to 24",
    )


def add_min_duration(parser: argparse.ArgumentParser, what: str) -> None:
    """``--min-duration``."""
    parser.add_argument(
        "--min-duration",
        metavar="D",
        type=duration,
        help=f"{what} that took so long or longer, such as 250ms or 1.5s",
    )


def attribute(text: str) -> tuple[str, str | None]:
    """``k=v`` or ``k``. The key ends at the first equals sign."""
    key, sign, value = text.partition("=")
    if not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: give KEY=VALUE, or KEY")
    return key, value if sign else None


def severity(text: str) -> int:
    """OTLP's number of a severity."""
    number = SEVERITIES.get(text.lower()) or (int(text) if text.isdecimal() else 0)
    if not 1 <= number <= 24:
        names = ", ".join(name for name in SEVERITIES if name != "warning")
        raise argparse.ArgumentTypeError(
            f"{text!r} is no severity: give {names}, or a number from 1 to 24"
        )
    return number


def regular_expression(text: str) -> re.Pattern[str]:
    """A regular expression of Python's ``re``."""
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no regular expression: {error}; put a \\ before what is meant literally"
        ) from None


def trace_prefix(text: str) -> str:
    """The first digits of a trace's id."""
    if not re.fullmatch("[0-9a-fA-F]{1,32}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a trace id: give 1 to 32 hexadecimal digits, as 'rimp traces' shows"
        )
    return text.lower()


def chosen(args: argparse.Namespace, signal: str) -> Chosen:
    """What the options choose among the records of a signal.

    Raises:
        ConfigurationError: an option has a value that is not allowed.
    """
    from rimp_otel.cli.record_filter import Chosen

    if args.service == "":
        raise ConfigurationError("--service='' is not allowed: give the name of a service")
    return Chosen.by(
        [signal],
        args.service,
        getattr(args, "name", None),
        args.attr,
        severity=getattr(args, "severity", None),
        grep=getattr(args, "grep", None),
        trace=getattr(args, "trace", None),
    )
