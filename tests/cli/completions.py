"""Makes the completion scripts of ``rimp completion`` from the parser: ``python -m tests.cli.completions``."""

from __future__ import annotations

import argparse

import shtab

from rimp_otel.cli.completion import SHELLS, script_path
from rimp_otel.cli.main import COMMANDS, build_parser
from rimp_otel.cli.options import SEVERITIES, parse_severity

FILE_METAVARS = {"PATH", "FILE", "OUT", "DIR", "A", "B"}


def make_script(shell: str) -> str:
    """Return the completion script for a shell."""
    parser = build_parser()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, subparser in action.choices.items():
                # Some shells show it beside the command.
                subparser.description = COMMANDS[name]
                annotate(subparser)
    script = shtab.complete(parser, shell)
    if shell == "zsh":
        # As shtab writes it, only the first of several files is completed.
        script = script.replace('"(*):', '"*:')
    return script.rstrip() + "\n"


def annotate(parser: argparse.ArgumentParser) -> None:
    """Tell shtab which arguments are files, and which values a severity can have."""
    for action in parser._actions:
        if action.metavar in FILE_METAVARS or action.nargs == argparse.REMAINDER:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.type is parse_severity:
            action.choices = list(SEVERITIES)


if __name__ == "__main__":
    for shell in SHELLS:
        script_path(shell).write_text(make_script(shell), "utf-8")
