"""The ``rimp`` command: its parser, its subcommands and its exit codes."""

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
    "demo": "record a small example service and show the recording",
    "forward": "send a recording to other systems, with proof of delivery",
    "serve": "receive OTLP from other programs into a recording",
    "ui": "show a recording in the browser",
    "tail": "print the newest records and follow new ones",
    "logs": "search log records",
    "errors": "list exceptions by type and place: how often, since when, an example",
    "traces": "list the newest traces",
    "trace": "show one trace as a waterfall",
    "top": "watch services and operations: rates, errors, latencies",
    "metrics": "list metrics, or show one over time",
    "diff": "compare two recordings: slower, failing, new calls, new errors",
    "export": "export a trace and the records around it as a bundle, or as a page",
    "import": "add OTLP files to a recording",
    "replay": "give recorded records to an installed exporter",
    "stats": "summarize a recording",
    "verify": "check every line of a recording",
    "repair": "repair a recording",
    "sql": "query a recording with SQL",
    "parquet": "convert sealed files to Parquet",
    "completion": "print a shell completion script",
}
"""The subcommands with their help. Each has a function ``add_<name>_arguments(parser)``."""

_MODULES = {
    "import": "import_",
    "logs": "tail",
    "repair": "verify",
    "trace": "traces",
}
"""The modules of subcommands whose names differ from their module's."""

_OLDER_NAMES = {"seal": "parquet"}

_DESCRIPTION = """\
A flight recorder for Python services: record what they do and inspect the recording.

  rimp run -- python app.py    record a program
  rimp ui                      show the recording in the browser
  rimp tail -f                 follow its records
  rimp top                     watch rates, errors and latencies
  rimp logs --severity warn    print its warnings and errors
  rimp errors                  list its exceptions by type and place
  rimp traces                  list its newest traces
  rimp trace 4bf92f35          show one trace
"""


def build_parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """Return the parser with every subcommand.

    Args:
        argv: the arguments to be parsed. Subcommands that they do not name get their help, but no
            arguments, since importing all modules takes longer than printing the help.
    """
    parser = Parser(
        prog="rimp",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    named = None if argv is None else next((word for word in argv if word in COMMANDS), "")
    for name, help in COMMANDS.items():
        subparser = subparsers.add_parser(
            name, help=help, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if named in (None, name):
            module = import_module(f"rimp_otel.cli.{_MODULES.get(name, name)}")
            getattr(module, f"add_{name}_arguments")(subparser)
    return parser


class _Version(argparse.Action):
    """Prints the version; unlike argparse's own action, it is looked up only when asked for."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version

        print("rimp", version("rimp-otel"))
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0 is success (also if the reader of a pipe has closed it), 1 a failure, 2 a usage error, 130 an
    interrupt.
    """
    _open_closed_streams()
    _escape_unencodable()
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv:
        argv[0] = _OLDER_NAMES.get(argv[0], argv[0])
    try:
        code = _run(argv)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _discard_output()
        return 0
    except (UsageError, ConfigurationError) as error:
        return _print_error(error, 2)
    except (RimpError, OSError) as error:
        return _print_error(error, 1)
    return code


def _run(argv: Sequence[str]) -> int:
    parser = build_parser(argv)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        # argparse names the help of `rimp` for them, not that of the command.
        command = next((word for word in argv if word in COMMANDS), "")
        parser.prog = f"rimp {command}".rstrip()
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if not hasattr(args, "command"):
        parser.print_help()
        return 0
    code: int = args.command(args)
    return code


def _print_error(error: Exception, code: int) -> int:
    # A message can quote a path or recorded text.
    print(f"rimp: {Style().clean(error)}", file=sys.stderr)
    return code


def _open_closed_streams() -> None:
    """Have something to read from and print to where a standard stream is closed, as by ``>&-``.

    What takes the stream's descriptor is not inherited: for a program that is run it stays closed. Left free,
    the descriptor would go to the next file that is opened.
    """
    for name, mode, flags in (
        ("stdin", "r", os.O_RDONLY),
        ("stdout", "w", os.O_WRONLY),
        ("stderr", "w", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, flags)
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


def _escape_unencodable() -> None:
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Redirect standard output, which the interpreter flushes at exit, away from the closed pipe."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)


if __name__ == "__main__":
    sys.exit(main())
