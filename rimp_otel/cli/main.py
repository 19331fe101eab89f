"""The frame of the ``rimp`` command: its parser, and how it ends."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from rimp_otel.cli.options import Parser, UsageError
from rimp_otel.errors import ConfigurationError, RimpError
from rimp_otel.render.terminal import Style

__all__ = ["COMMANDS", "build_parser", "main"]

COMMANDS = {
    "run": "record a program",
    "demo": "record a small service, and show the recording",
    "tail": "show the newest records, and follow",
    "logs": "show log records, by what they say",
    "traces": "list the newest traces",
    "trace": "show one trace as a waterfall",
    "top": "watch services and operations: rates, errors, latencies",
    "metrics": "list the metrics, or show one over time",
    "diff": "say what is different: slower, failing, new calls, new errors",
    "export": "write a trace and what was around it into a bundle",
    "import": "add OTLP files to a recording",
    "stats": "say what a recording holds",
    "verify": "check every line of a recording",
    "repair": "mend a recording",
    "sql": "ask the recording in SQL",
    "parquet": "convert sealed files to Parquet",
    "completion": "print a script for completion in a shell",
}
"""The subcommands, and what each does. Each has a function ``add_<name>_parser(subparsers)``."""

_MODULES = {
    "import": "import_",
    "logs": "tail",
    "repair": "verify",
    "trace": "traces",
}
"""The modules of the subcommands that are not named like theirs."""

_OLDER_NAMES = {"seal": "parquet"}

_DESCRIPTION = """\
A flight recorder for Python services: record what they do, and look at it.

  rimp run -- python app.py    record a program
  rimp tail -f                 watch it
  rimp top                     watch rates, errors and latencies
  rimp logs --severity warn    look for what it complained about
  rimp traces                  list its newest traces
  rimp trace 4bf92f35          show one of them
"""


def build_parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser with every subcommand.

    Args:
        argv: what is to be parsed: of the subcommands that it does not name, there is only what
            the help says about them, since importing all of them takes longer than the help.
    """
    parser = Parser(
        prog="rimp",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    named = None if argv is None else next((word for word in argv if word in COMMANDS), "")
    for name, what in COMMANDS.items():
        if named in (None, name):
            module = import_module(f"rimp_otel.cli.{_MODULES.get(name, name)}")
            getattr(module, f"add_{name}_parser")(subparsers)
        else:
            subparsers.add_parser(name, help=what)
    return parser


class _Version(argparse.Action):
    """argparse's own version action wants the version before anybody asked for it."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print("rimp", version("rimp-otel"))
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.

    0 is success (a reader that closed the pipe has what it wanted), 1 a failure, 2 a usage error,
    130 an interrupt.
    """
    _never_fail_to_encode()
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv:
        argv[0] = _OLDER_NAMES.get(argv[0], argv[0])
    parser = build_parser(argv)
    args = parser.parse_args(argv)
    if not hasattr(args, "command"):
        parser.print_help()
        return 0
    return _run(args)


def _run(args: argparse.Namespace) -> int:
    try:
        code: int = args.command(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _discard_output()
        return 0
    except (UsageError, ConfigurationError) as error:
        return _complain(error, 2)
    except (RimpError, OSError) as error:
        return _complain(error, 1)
    return code


def _complain(error: Exception, code: int) -> int:
    # A message can quote a path or a recorded text.
    print(f"rimp: {Style().clean(error)}", file=sys.stderr)
    return code


def _never_fail_to_encode() -> None:
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Spare the interpreter, which flushes standard output at its exit, the same error again."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


if __name__ == "__main__":
    sys.exit(main())
