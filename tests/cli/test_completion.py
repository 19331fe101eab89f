"""``rimp completion``: the scripts are up to date, and shells complete with them."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.cli.completion import SHELLS
from rimp_otel.cli.main import COMMANDS, build_parser


@pytest.mark.parametrize("shell", SHELLS)
def test_script_is_up_to_date(rimp: Any, shell: str) -> None:
    """If this fails, run ``python -m tests.cli.completions`` and commit the result."""
    pytest.importorskip("shtab")
    from tests.cli.completions import make_script

    assert rimp("completion", shell) == (0, make_script(shell), "")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option(rimp: Any, shell: str) -> None:
    """Each script names every command and every option."""
    script = rimp("completion", shell).out
    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert set(commands.choices) == set(COMMANDS)
    for name, parser in commands.choices.items():
        assert name in script
        for action in parser._actions:
            for option in action.option_strings:
                assert (option if shell != "fish" else f" {option.lstrip('-')} ") in script


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    """Return each shell that is installed."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


def test_syntax(rimp: Any, shell: str) -> None:
    """The shell itself accepts the script."""
    Path("script").write_text(rimp("completion", shell).out)
    done = subprocess.run([shell, "-n", "script"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


CASES = [
    ("rimp lo", {"logs"}),
    ("rimp tr", {"trace", "traces"}),
    ("rimp sea", set()),
    ("rimp --vers", {"--version"}),
    ("rimp tail --foll", {"--follow"}),
    ("rimp tail --signal ", {"traces", "logs", "metrics"}),
    ("rimp logs --severity wa", {"warn", "warning"}),
    ("rimp logs --attr a=b --attr c=d --sev", {"--severity"}),
    ("rimp traces --sort dur", {"duration"}),
    ("rimp traces --since ", set()),
    ("rimp stats --path ne", {"nest"}),
    ("rimp stats --path trace --js", {"--json"}),
    ("rimp import ne", {"nest"}),
    ("rimp import nest ne", {"nest"}),
    ("rimp import nest --dr", {"--dry-run"}),
    ("rimp run --path nest -- ne", {"nest"}),
    ("rimp completion z", {"zsh"}),
]


@pytest.mark.parametrize(("typed", "offered"), CASES)
def test_bash(rimp: Any, typed: str, offered: set[str]) -> None:
    """Bash offers these words after what was typed."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    Path("nest").mkdir()
    Path("script").write_text(rimp("completion", "bash").out)
    words = typed.split(" ")
    quoted = " ".join(f'"{word}"' for word in words)
    run = (
        f"source ./script; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
        '_shtab_rimp; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", run], capture_output=True, text=True, check=True)
    assert (set(done.stdout.split()), done.stderr) == (offered, "")


@pytest.mark.parametrize(("typed", "offered"), CASES)
def test_fish(
    rimp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, offered: set[str]
) -> None:
    """Fish offers the same."""
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


ZSH = """
zmodload zsh/zpty
cat > $ZDOTDIR/.zshrc <<'END'
PROMPT=
autoload -Uz compinit; compinit -u -D
eval "$(cat script)"
bindkey '^I' complete-word
compadd() {
  if [[ ${@[1,(i)(-|--)]} != *-(O|A|D)\\ * ]]; then
    typeset -a hits; builtin compadd -A hits "$@"
    print -rl -- $hits >> offered
  fi
  builtin compadd "$@"
}
end-of-test() { print >> ready }
zle -N end-of-test; bindkey '^X' end-of-test; print >> started
END
zpty shell zsh -i
until [[ -e started ]]; do sleep 0.01; done
zpty -w -n shell "$1"$'\\t\\x18'
until [[ -e ready ]]; do sleep 0.01; done
zpty -d shell
cat offered 2>/dev/null || true
"""


@pytest.mark.parametrize(("typed", "offered"), CASES)
def test_zsh(
    rimp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, offered: set[str]
) -> None:
    """Zsh, in a terminal, offers the same."""
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    monkeypatch.setenv("ZDOTDIR", str(tmp_path))
    monkeypatch.setenv("TERM", "dumb")
    Path("nest").mkdir()
    Path("script").write_text(rimp("completion", "zsh").out)
    done = subprocess.run(
        ["zsh", "-f", "-c", ZSH, "zsh", typed],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert set(done.stdout.split()) - {"script"} == offered, done.stderr


def test_unknown_shell(rimp: Any) -> None:
    """The message lists the shells."""
    code, _, err = rimp("completion", "tcsh")
    assert (code, err.startswith("rimp: argument SHELL: invalid choice: 'tcsh'")) == (2, True)
