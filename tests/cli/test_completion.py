"""``rimp completion``: scripts that shells understand."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.cli.completion import described
from rimp_otel.cli.main import COMMANDS, build_parser


@pytest.fixture(params=["bash", "zsh", "fish"])
def shell(request: pytest.FixtureRequest) -> str:
    """Each shell that is installed."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


def test_syntax(rimp: Any, shell: str) -> None:
    """The shell itself finds nothing wrong."""
    Path("script").write_text(rimp("completion", shell).out)
    done = subprocess.run([shell, "-n", "script"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_option(rimp: Any, shell: str) -> None:
    """Is in each script."""
    script = rimp("completion", shell).out
    for command in described(build_parser()):
        assert command.name in script
        for argument in command.arguments:
            for name in argument.names:
                assert (name if shell != "fish" else f" {name.lstrip('-')} ") in script
    assert {command.name for command in described(build_parser())} == {"", *COMMANDS}


CASES = [
    ("rimp lo", {"logs"}),
    ("rimp tr", {"trace", "traces"}),
    ("rimp --vers", {"--version"}),
    ("rimp tail --foll", {"--follow"}),
    ("rimp tail --signal ", {"traces", "logs", "metrics"}),
    ("rimp logs --severity wa", {"warn", "warning"}),
    ("rimp traces --sort dur", {"duration"}),
    ("rimp traces --since ", set()),
    ("rimp stats --path ne", {"nest"}),
    ("rimp import ne", {"nest"}),
    ("rimp completion z", {"zsh"}),
]


@pytest.mark.parametrize(("typed", "offered"), CASES)
def test_bash(rimp: Any, typed: str, offered: set[str]) -> None:
    """What is offered after what was typed."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    Path("nest").mkdir()
    Path("script").write_text(rimp("completion", "bash").out)
    words = typed.split(" ")
    quoted = " ".join(f'"{word}"' for word in words)
    run = f'source ./script; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _rimp; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", run], capture_output=True, text=True, check=True)
    assert (set(done.stdout.split()), done.stderr) == (offered, "")


@pytest.mark.parametrize(("typed", "offered"), CASES)
def test_fish(
    rimp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, offered: set[str]
) -> None:
    """The same."""
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("nest").mkdir()
    Path("script").write_text(rimp("completion", "fish").out)
    run = f"source ./script; complete -C '{typed}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", run], capture_output=True, text=True, check=True
    )
    found = {line.split("\t")[0].rstrip("/") for line in done.stdout.splitlines()}
    assert found - {"script"} == offered


def test_no_such_shell(rimp: Any) -> None:
    """The message says which there are."""
    code, _, err = rimp("completion", "tcsh")
    assert (code, err.startswith("rimp: argument SHELL: invalid choice: 'tcsh'")) == (2, True)
