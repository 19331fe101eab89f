"""The arguments that several commands share, and what the environment says about them."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar, cast

from rimp_otel.cli.timespec import parse_time, parse_window
from rimp_otel.errors import ConfigurationError, RimpError
from rimp_otel.models.times import Window, parse_duration
from rimp_otel.render.terminal import Glyphs, Style

if TYPE_CHECKING:
    from rimp_otel.cli.record_filter import RecordFilter
    from rimp_otel.models.filters import Filter

__all__ = [
    "SEVERITIES",
    "Parser",
    "UsageError",
    "add_attribute_option",
    "add_color_option",
    "add_exclusion_options",
    "add_filter_options",
    "add_follow_option",
    "add_json_option",
    "add_min_duration_option",
    "add_number_option",
    "add_output_options",
    "add_path_option",
    "add_service_option",
    "add_severity_option",
    "add_sort_option",
    "add_stack_option",
    "add_window_options",
    "filter_from_args",
    "line_test_of",
    "output_width",
    "parse_attribute",
    "parse_count",
    "parse_duration_argument",
    "parse_regex",
    "parse_severity",
    "parse_time_argument",
    "parse_trace_prefix",
    "parse_window_argument",
    "path_from_args",
    "style_from_args",
    "window_from_args",
]

T = TypeVar("T")

SEVERITIES = ("trace", "debug", "info", "warn", "warning", "error", "fatal", "critical")
"""Names of levels; those of other loggers are accepted too."""


class UsageError(RimpError):
    """The command cannot do what its arguments ask for; its exit code is 2."""


class Parser(argparse.ArgumentParser):
    """A parser without abbreviations, whose errors are one line on standard error."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # An abbreviation would become ambiguous with the next option that is added.
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        """Print the message and where to find help, and exit with 2."""
        self.exit(2, f"rimp: {Style().clean(message)}; see '{self.prog} --help'\n")


# Options, each added by one function, so that they are named and described alike everywhere.


def add_path_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--path``."""
    parser.add_argument(
        "--path",
        metavar="PATH",
        help="path of the recording (default: $RIMP_STORAGE_PATH or telemetry)",
    )


def add_json_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--json``, which prints ``what`` for programs instead of people."""
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON")


def add_color_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--color``."""
    parser.add_argument(
        "--color",
        metavar="WHEN",
        choices=("auto", "always", "never"),
        default="auto",
        help="colour the output: auto, always or never (default: auto)",
    )


def add_output_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--path``, ``--json`` and ``--color``; ``what`` is what ``--json`` prints."""
    add_path_option(parser)
    add_json_option(parser, what)
    add_color_option(parser)


def add_follow_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--follow``."""
    parser.add_argument("-f", "--follow", action="store_true", help="keep printing new records")


def add_number_option(
    parser: argparse.ArgumentParser, help: str, default: int | None = None
) -> None:
    """Add ``--number``, a count or ``all``."""
    parser.add_argument("-n", "--number", metavar="N", type=parse_count, default=default, help=help)


def add_sort_option(parser: argparse.ArgumentParser, keys: list[str], words: str) -> None:
    """Add ``--sort``, whose first key is the default; ``words`` are the keys as help shows them."""
    parser.add_argument(
        "--sort",
        metavar="KEY",
        choices=keys,
        default=keys[0],
        help=f"sort by {words}, greatest first (default: {keys[0]})",
    )


def add_stack_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--stack``."""
    parser.add_argument(
        "--stack", action="store_true", help="show stack traces as a whole, not only the last frame"
    )


def add_service_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--service``."""
    parser.add_argument("--service", metavar="NAME", help="select records of this service")


def add_window_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--since`` and ``--until``; `window_from_args` reads them."""
    parser.add_argument(
        "--since",
        metavar="T",
        type=parse_time_argument,
        help="exclude records before T, such as 15m, 14:00, yesterday or ISO 8601",
    )
    parser.add_argument(
        "--until",
        metavar="T",
        type=parse_time_argument,
        help="exclude records at or after T (same formats as --since)",
    )


def add_filter_options(parser: argparse.ArgumentParser, name_help: str = "") -> None:
    """Add ``--service``, ``--attr``, ``--not-scope``, ``--since``, ``--until``, and with help for it,
    ``--name`` and ``--not-name``.

    `filter_from_args` and `window_from_args` read them.
    """
    add_service_option(parser)
    if name_help:
        parser.add_argument("--name", metavar="NAME", help=name_help)
    add_exclusion_options(parser, with_names=bool(name_help))
    add_attribute_option(parser)
    add_window_options(parser)


def add_exclusion_options(parser: argparse.ArgumentParser, with_names: bool = True) -> None:
    """Add ``--not-scope`` and, if so, ``--not-name``, which can be given several times."""
    if with_names:
        parser.add_argument(
            "--not-name",
            metavar="NAME",
            action="append",
            default=[],
            help="leave out this name, such as '* http send'; repeatable",
        )
    parser.add_argument(
        "--not-scope",
        metavar="SCOPE",
        action="append",
        default=[],
        help="leave out records of this instrumentation scope or logger; repeatable",
    )


def add_attribute_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--attr``, which can be given several times."""
    parser.add_argument(
        "--attr",
        metavar="K=V",
        type=parse_attribute,
        action="append",
        default=[],
        help="filter by attribute of the record or its resource; K alone matches any value",
    )


def add_severity_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--severity``, also called ``--level``."""
    parser.add_argument(
        "--severity",
        "--level",
        metavar="LEVEL",
        type=parse_severity,
        help="minimum severity: trace, debug, info, warn, error, fatal, or 1 to 24",
    )


def add_min_duration_option(parser: argparse.ArgumentParser, what: str) -> None:
    """Add ``--min-duration``, which selects ``what`` by its length."""
    parser.add_argument(
        "--min-duration",
        metavar="D",
        type=parse_duration_argument,
        help=f"select {what} at least this long, such as 250ms or 1.5s",
    )


# Values of arguments. Each function raises ArgumentTypeError, which argparse reports.


def parse_count(text: str) -> int:
    """Return a number of records; ``all`` is ``sys.maxsize``."""
    if text == "all":
        return sys.maxsize
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number or 'all', got {text!r}")
    return int(text)


def parse_time_argument(text: str) -> int:
    """Return a time that `parse_time` accepts, in nanoseconds since the epoch."""
    return _as_argument(lambda: parse_time(text, time.time_ns()))


def parse_window_argument(text: str) -> Window:
    """Return a time range such as ``2h..1h``."""
    return _as_argument(lambda: parse_window(text, time.time_ns()))


def parse_duration_argument(text: str) -> int:
    """Return a duration that `parse_duration` accepts, in nanoseconds."""
    return _as_argument(lambda: parse_duration(text))


def _as_argument(parse: Callable[[], T]) -> T:
    try:
        return parse()
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_attribute(text: str) -> tuple[str, str | None]:
    """Return the key and value of ``k=v``; the value of ``k`` alone is None.

    The key ends at the first equals sign.
    """
    key, sign, value = text.partition("=")
    if not key:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE or KEY, got {text!r}")
    return key, value if sign else None


def parse_severity(text: str) -> int:
    """Return the OTLP severity number of a level's name or number; see `parse_severity_number`."""
    from rimp_otel.models.records import SEVERITY_NAMES, parse_severity_number

    number = parse_severity_number(text)
    if number is None:
        names = ", ".join(SEVERITY_NAMES)
        raise argparse.ArgumentTypeError(f"expected {names} or a number from 1 to 24, got {text!r}")
    return number


def parse_regex(text: str) -> re.Pattern[str]:
    """Return a compiled regular expression of Python's ``re``."""
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise argparse.ArgumentTypeError(
            f"invalid regular expression {text!r}: {error}; "
            "put a \\ before characters to be matched literally"
        ) from None


def parse_trace_prefix(text: str) -> str:
    """Return the first hexadecimal digits of a trace id, in lower case."""
    if not re.fullmatch("[0-9a-fA-F]{1,32}", text):
        raise argparse.ArgumentTypeError(
            f"invalid trace id {text!r}: expected 1 to 32 hexadecimal digits, "
            "as printed by 'rimp traces'"
        )
    return text.lower()


# What parsed arguments and the environment mean.


def window_from_args(args: argparse.Namespace) -> Window:
    """Return the time from ``--since`` to ``--until``.

    Raises:
        UsageError: the time range is empty.
    """
    if args.since is not None and args.until is not None and args.since >= args.until:
        raise UsageError("empty time range: --until must be after --since")
    return Window(args.since, args.until)


def filter_from_args(args: argparse.Namespace, *signals: str) -> RecordFilter:
    """Return the filter for records of these signals that the options describe.

    Raises:
        ConfigurationError: an option has an invalid value.
    """
    from rimp_otel.cli.record_filter import RecordFilter

    if args.service == "":
        raise ConfigurationError("--service must not be empty")
    return RecordFilter.from_options(
        signals,
        args.service,
        getattr(args, "name", None),
        args.attr,
        severity=getattr(args, "severity", None),
        grep=getattr(args, "grep", None),
        trace=getattr(args, "trace", None),
        not_names=getattr(args, "not_name", ()),
        not_scopes=args.not_scope,
    )


def line_test_of(wanted: Filter) -> Callable[[bytes], bool] | None:
    """Return a function that returns False for lines without a matching record; None without one."""
    # A storage looks up all other conditions.
    if not (getattr(wanted, "attribute_texts", ()) or getattr(wanted, "name_text", "")):
        return None
    from rimp_otel.cli.line_filter import may_match_line

    return may_match_line(cast("RecordFilter", wanted))


def path_from_args(args: argparse.Namespace, env: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the recording, by ``--path``, the environment or the default.

    Raises:
        UsageError: it is the URL of a server.
    """
    from rimp_otel.config import DEFAULT_PATHS, is_server_url

    given = args.path or env.get("RIMP_STORAGE_PATH", "").strip()
    if given and is_server_url(str(given)):
        raise UsageError(
            "the path is a server's URL: commands read and write recordings on this machine; record into one,"
            " and have rimp forward send it there"
        )
    backend = env.get("RIMP_STORAGE_BACKEND", "").strip()
    default = DEFAULT_PATHS.get(backend, "telemetry")
    return Path(given or default)


def style_from_args(
    args: argparse.Namespace, stream: TextIO | None = None, env: Mapping[str, str] = os.environ
) -> Style:
    """Return the style for ``stream`` (default: standard output), by ``--color`` and the environment."""
    stream = stream or sys.stdout
    return Style(_wants_color(args.color, stream, env), _can_encode_glyphs(stream))


def _wants_color(choice: str, stream: TextIO, env: Mapping[str, str]) -> bool:
    if choice != "auto":
        return choice == "always"
    if env.get("NO_COLOR"):
        return False
    if env.get("FORCE_COLOR"):
        return True
    return stream.isatty() and env.get("TERM") != "dumb"


def _can_encode_glyphs(stream: Any) -> bool:
    try:
        "".join(Glyphs()).encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def output_width() -> int:
    """Return the terminal's width in columns; COLUMNS overrides it, and a pipe has 100."""
    return shutil.get_terminal_size((100, 24)).columns
