"""The frame: help, version, exit codes, and how failures are told."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.cli import main as frame
from rimp_otel.errors import ConfigurationError, MissingExtraError, StorageError


def test_alone(rimp: Any) -> None:
    """Without a command: help."""
    code, out, err = rimp()
    assert (code, err) == (0, "")
    assert out == rimp("--help").out
    assert "rimp tail -f                 follow its records" in out


def test_version(rimp: Any) -> None:
    """As the installed distribution says."""
    assert rimp("--version") == (0, f"rimp {version('rimp-otel')}\n", "")


def test_help_of_every_command(rimp: Any) -> None:
    """Each has one, and each of its options says what it does."""
    for name in sorted(frame.COMMANDS):
        assert rimp(name, "--help").out.startswith(f"usage: rimp {name} [-h]")


@pytest.mark.parametrize(
    "command", ["tail", "logs", "traces", "stats", "trace 4b", "verify", "repair"]
)
def test_no_recording(rimp: Any, command: str) -> None:
    """Every command that reads says where it looked, and what to do."""
    assert rimp(*command.split(), "--path", "no\x1bwhere") == (
        2,
        "",
        "rimp: no recording at no\\x1bwhere: record a program with 'rimp run -- python app.py', "
        "or give another --path\n",
    )


def test_recording_from_the_environment(rimp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """RIMP_STORAGE_PATH says where to look."""
    monkeypatch.setenv("RIMP_STORAGE_PATH", "elsewhere")
    assert "no recording at elsewhere: " in rimp("stats").err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["tail", "-n", "-3"], "argument -n/--number: "),
        (["tail", "--since", "soon"], "argument --since: invalid time 'soon': expected an age"),
        (["tail", "--signal", "x"], "argument --signal: invalid choice: 'x'"),
        (["trace"], "the following arguments are required: ID"),
        (["nonsense"], "argument COMMAND: invalid choice: 'nonsense'"),
        (["stats", "\x1b[2J"], r"unrecognized arguments: \x1b[2J"),
    ],
)
def test_usage_errors(rimp: Any, argv: list[str], message: str) -> None:
    """Exit code 2, one line on standard error, and where help is."""
    code, out, err = rimp(*argv)
    assert (code, out) == (2, "")
    assert err.startswith(f"rimp: {message}")
    assert err.count("\n") == 1
    assert " --help'\n" in err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (StorageError("disk \x1b[31mfull"), 1, "rimp: disk \\x1b[31mfull\n"),
        (PermissionError(13, "Permission denied", "x"), 1, "rimp: [Errno 13] Permission denied: 'x'\n"),
        (MissingExtraError("flask", "demo"), 1, "rimp: flask is not installed. Install it with: pip install 'rimp-otel[demo]'\n"),
        (ConfigurationError("RIMP_X=1 is not allowed"), 2, "rimp: RIMP_X=1 is not allowed\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)  # fmt: skip
def test_failures(
    rimp: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    """No traceback for what can go wrong; a mistake of ours still has one."""

    def build_parser(_: object) -> argparse.ArgumentParser:
        def fail(_: argparse.Namespace) -> int:
            raise error

        parser = argparse.ArgumentParser()
        parser.set_defaults(command=fail)
        return parser

    monkeypatch.setattr(frame, "build_parser", build_parser)
    assert rimp() == (code, "", said)


def test_ascii_output(shop: Path) -> None:
    """Where the output's encoding has no box characters, the drawing is ASCII."""
    argv = [sys.executable, "-m", "rimp_otel.cli.main", "trace", "4"]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(argv, env=env, capture_output=True, check=True)
    assert done.stderr == b""
    assert b"\n`- x POST /charge" in done.stdout


def test_help_imports_no_sdk() -> None:
    """The commands are imported when they run, so that help is fast."""
    code = """
import sys
from rimp_otel.cli.main import main
main([])
print([name for name in sys.modules if name.startswith(("opentelemetry", "rimp_otel.cli.tail"))])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.endswith("\n[]\n")


def test_help_says_what_the_commands_do(rimp: Any) -> None:
    """The frame says it without importing them; they say it too."""
    assert frame.build_parser([]).format_help() == frame.build_parser().format_help()


def test_no_parser_needs_the_sdk() -> None:
    """None of them needs the SDK before it runs."""
    code = "import sys; from rimp_otel.cli.main import build_parser; build_parser();"
    code += "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    subprocess.run([sys.executable, "-c", code], check=True)
