"""docs/cli.md and ``--help`` say the same, word for word."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from rimp_otel.cli.main import COMMANDS, build_parser

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return every parser by its name, such as ``rimp tail``."""
    found: dict[str, argparse.ArgumentParser] = {}
    waiting = [build_parser()]
    while waiting:
        parser = waiting.pop(0)
        found[parser.prog] = parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                waiting.extend(action.choices.values())
    return found


def sections() -> dict[str, str]:
    """Return the sections of the page about commands."""
    parts = re.split(r"^## (rimp.*)\n", DOCS.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def command_table() -> str:
    """Return the table of commands as the page must have it."""
    rows = [f"| [`rimp {name}`](#rimp-{name}) | {help} |" for name, help in COMMANDS.items()]
    return "\n".join(["| command | what it does |", "|---|---|", *rows, ""])


def option_table(parser: argparse.ArgumentParser) -> str:
    """Return the table of a command's arguments as the page must have it."""
    rows = [
        f"| {argument_cell(action)} | {(action.help or '').replace('%%', '%')} |"
        for action in parser._actions
        if not isinstance(action, argparse._SubParsersAction)
    ]
    return "\n".join(["| option | meaning |", "|---|---|", *rows, ""])


def argument_cell(action: argparse.Action) -> str:
    """Return the names of an option and its value, or the name of an argument."""
    value = f"`{action.metavar}{' ...' if action.nargs in ('+', '...') else ''}`"
    if not action.option_strings:
        return value
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    return names if action.nargs == 0 else f"{names} {value}"


def test_every_command_is_listed() -> None:
    """The list of commands has the help of each."""
    assert command_table() in DOCS.read_text("utf-8")


def test_every_command_has_a_section() -> None:
    """Every command has a section, and every section a command."""
    assert sorted(sections()) == sorted(parsers())


@pytest.mark.parametrize("command", sorted(parsers()))
def test_every_option_is_documented(command: str) -> None:
    """The table of a section has the arguments of its command with their help."""
    assert option_table(parsers()[command]) in sections()[command]


@pytest.mark.parametrize("command", sorted(parsers()))
def test_help_fits_one_line(command: str) -> None:
    """The help of an argument fits a line."""
    for action in parsers()[command]._actions:
        if not isinstance(action, argparse._SubParsersAction):
            assert action.help
            assert len(action.help) <= 80
            assert not action.help.endswith(".")


def test_headings_are_unique() -> None:
    """A link to a heading leads to one section."""
    headings = re.findall(r"^#+ .*$", DOCS.read_text("utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(set(headings))
