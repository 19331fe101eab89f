"""docs/cli.md and ``--help`` say the same."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from rimp_otel.cli.main import build_parser

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Every parser by what is typed to get there, such as ``rimp tail``."""
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
    """The sections of the page that are about a command, without their examples."""
    text = re.sub(r"^```.*?^```", "", DOCS.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    parts = re.split(r"^## (rimp.*)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_command_has_a_section() -> None:
    """And every section a command."""
    assert sorted(sections()) == sorted(parsers())


@pytest.mark.parametrize("command", sorted(parsers()))
def test_every_option_is_documented(command: str) -> None:
    """In the table of its command, which names no others."""
    named = {name for action in parsers()[command]._actions for name in action.option_strings}
    rows = re.findall(r"^\| (`-.*?) \|", sections()[command], flags=re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(--?[a-z][\w-]*)`", row)} == named


@pytest.mark.parametrize("command", sorted(parsers()))
def test_every_argument_has_help(command: str) -> None:
    """In ``--help`` and, where it is no option, by its name in the section."""
    for action in parsers()[command]._actions:
        if not isinstance(action, argparse._SubParsersAction):
            assert action.help
            assert action.option_strings or f"`{action.metavar}`" in sections()[command]


def test_no_section_stands_twice() -> None:
    """A link to a heading leads to the one section that there is."""
    headings = re.findall(r"^#+ .*$", DOCS.read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(set(headings))
