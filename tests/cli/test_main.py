"""The command: help, version, exit codes and messages."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rimp_otel import FileStorage
from rimp_otel.cli import main as command
from rimp_otel.errors import ConfigurationError, MissingExtraError, StorageError
from tests.storage.recordings import batch


def test_no_command(rimp: Any) -> None:
    """Without a subcommand, help is printed."""
    code, out, err = rimp()
    assert (code, err) == (0, "")
    assert out == rimp("--help").out
    assert "rimp tail -f                 follow its records" in out


def test_version(rimp: Any) -> None:
    """The version is that of the installed distribution."""
    assert rimp("--version") == (0, f"rimp {version('rimp-otel')}\n", "")


def test_help_of_every_command(rimp: Any) -> None:
    """Each command has help."""
    for name in sorted(command.COMMANDS):
        assert rimp(name, "--help").out.startswith(f"usage: rimp {name} [-h]")


def test_an_unknown_option(rimp: Any) -> None:
    """The help that is named is that of the command."""
    assert rimp("ui", "--port", "80") == (
        2,
        "",
        "rimp: unrecognized arguments: --port 80; see 'rimp ui --help'\n",
    )
    assert rimp("--prot").err == "rimp: unrecognized arguments: --prot; see 'rimp --help'\n"


@pytest.mark.parametrize(
    "command", ["tail", "logs", "traces", "stats", "trace 4b", "verify", "repair"]
)
def test_no_recording(rimp: Any, command: str) -> None:
    """Every command that reads a recording has the same message if there is none."""
    assert rimp(*command.split(), "--path", "no\x1bwhere") == (
        2,
        "",
        "rimp: no recording at no\\x1bwhere: record a program with 'rimp run -- python app.py', "
        "or give another --path\n",
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["tail"], 0),
        (["traces"], 0),
        (["stats"], 0),
        (["verify"], 0),
        (["top", "--once"], 0),
        (["trace", "4b"], 1),
        (["run", "--quiet", "--", "sh", "-c", "exit 3"], 3),
        (["run", "--quiet", "--", sys.executable, "-c", "print(1); raise SystemExit(4)"], 4),
    ],
)
def test_closed_streams(arguments: list[str], code: int) -> None:
    """Where standard output, or all three streams are closed, a command ends as it would otherwise."""
    FileStorage("telemetry").store(batch("one"))
    for closed in (">&-", ">&- <&- 2>&-"):
        done = subprocess.run(
            [
                "sh",
                "-c",
                f'exec "$@" {closed}',
                "sh",
                sys.executable,
                "-m",
                "rimp_otel",
                *arguments,
            ],
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        assert done.returncode == code
        first, *ends = [event.message for event in FileStorage("telemetry").retrieve().events]
        assert first == "one"
        assert set(ends) <= {"python ended with exit code 4"}


def test_recording_from_the_environment(rimp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """RIMP_STORAGE_PATH is the default path."""
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
    """A usage error has exit code 2 and one line, with the way to help."""
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
        (ConfigurationError("RIMP_X must be 2, got 1"), 2, "rimp: RIMP_X must be 2, got 1\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)  # fmt: skip
def test_failures(
    rimp: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    """Expected failures have a message instead of a traceback."""

    def fail(_: argparse.Namespace) -> int:
        raise error

    module = ModuleType("rimp_otel.cli.fail")
    module.add_fail_arguments = lambda parser: parser.set_defaults(command=fail)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(command.COMMANDS, "fail", "fail")
    assert rimp("fail") == (code, "", said)


def test_ascii_output(shop: Path) -> None:
    """The drawing is ASCII if the encoding of the output has no box-drawing characters."""
    argv = [sys.executable, "-m", "rimp_otel.cli.main", "trace", "4"]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(argv, env=env, capture_output=True, check=True)
    assert done.stderr == b""
    assert b"\n`- x POST /charge" in done.stdout


def test_help_imports_no_sdk() -> None:
    """Help imports neither the SDK nor the modules of the commands."""
    code = """
import sys
from rimp_otel.cli.main import main
main([])
print([name for name in sys.modules if name.startswith(("opentelemetry", "rimp_otel.cli.tail"))])
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.endswith("\n[]\n")


def test_help_without_subcommands() -> None:
    """The help is the same whether the modules of the subcommands are imported or not."""
    assert command.build_parser([]).format_help() == command.build_parser().format_help()


def test_no_parser_needs_the_sdk() -> None:
    """No command needs the SDK to parse its arguments."""
    code = "import sys; from rimp_otel.cli.main import build_parser; build_parser();"
    code += "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    subprocess.run([sys.executable, "-c", code], check=True)
