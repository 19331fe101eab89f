"""The options by which several commands choose records, and what they choose."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from rimp_otel.cli.options import add_since, duration
from rimp_otel.errors import ConfigurationError

if TYPE_CHECKING:
    from rimp_otel.cli.chosen import Chosen

__all__ = [
    "SEVERITIES",
    "add_attr",
    "add_choices",
    "add_min_duration",
    "add_severity",
    "attribute",
    "chosen",
    "regular_expression",
    "severity",
    "trace_prefix",
]

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
    from rimp_otel.cli.chosen import Chosen

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
