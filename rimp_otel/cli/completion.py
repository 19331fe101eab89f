"""``rimp completion``: prints the completion script of a shell.

The scripts lie in ``completions/``. They are made from the parser of the command by
``python -m tests.cli.completions``, so that no package is needed for it when ``rimp`` runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["SHELLS", "add_completion_arguments", "script_path"]

SHELLS = {"bash": "rimp.bash", "zsh": "_rimp", "fish": "rimp.fish"}
"""The file name of each shell's script; zsh wants a function's file to be named like it."""

_DESCRIPTION = """\
Print a script that completes commands, options and their values in a shell:

  bash:  rimp completion bash > ~/.local/share/bash-completion/completions/rimp
  zsh:   rimp completion zsh > "${fpath[1]}/_rimp"
  fish:  rimp completion fish > ~/.config/fish/completions/rimp.fish
"""


def add_completion_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp completion``."""
    parser.description = _DESCRIPTION
    parser.add_argument("shell", metavar="SHELL", choices=list(SHELLS), help="bash, zsh or fish")
    parser.set_defaults(command=_run_completion)


def script_path(shell: str) -> Path:
    """Return the path of a shell's script within the package."""
    return Path(__file__).with_name("completions") / SHELLS[shell]


def _run_completion(args: argparse.Namespace) -> int:
    print(script_path(args.shell).read_text("utf-8"), end="")
    return 0
