"""``rimp run``: records a Python program, unchanged."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rimp_otel.cli.child_process import run_program
from rimp_otel.cli.options import UsageError, add_path_option, path_from_args
from rimp_otel.cli.output import warn
from rimp_otel.errors import MissingExtraError
from rimp_otel.models.records import Signal
from rimp_otel.otel.autorecord import without
from rimp_otel.process import AUTORECORD_SITE
from rimp_otel.render.format import format_bytes, format_count

if TYPE_CHECKING:
    from rimp_otel.cli.run_summary import Added

__all__ = ["add_run_arguments", "is_installed", "program_env", "service_name"]


_REQUIRED = {
    "opentelemetry-instrumentation": "opentelemetry.instrumentation.auto_instrumentation",
    "opentelemetry-instrumentation-logging": "opentelemetry.instrumentation.logging",
}

_DESCRIPTION = """\
Run a Python program and record its spans, log records and metrics.

The opentelemetry-instrumentation-... packages that are installed beside the program determine what
is instrumented. Processes that the program starts are recorded, too.
"""


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp run``."""
    parser.description = _DESCRIPTION
    parser.usage = "rimp run [-h] [--path PATH] [--service NAME] [--quiet] -- CMD ..."
    add_path_option(parser)
    parser.add_argument(
        "--service",
        metavar="NAME",
        help="service name (default: OTEL_SERVICE_NAME, or the script's or module's name)",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="do not print what was recorded at the end"
    )
    parser.add_argument(
        "program",
        metavar="CMD",
        nargs=argparse.REMAINDER,
        help="program to run and its arguments, such as: python app.py",
    )
    parser.set_defaults(command=_run_run)


def _run_run(args: argparse.Namespace) -> int:
    # What argparse does with the -- differs between versions of Python.
    command = args.program[1:] if args.program[:1] == ["--"] else args.program
    if not command:
        raise UsageError("no program given: write rimp run -- python app.py")
    for package, module in _REQUIRED.items():
        if not is_installed(module):
            raise MissingExtraError(package, "run")
    env = program_env(args, command, os.environ)
    return _record(args, command, env)


def is_installed(module: str) -> bool:
    """Whether the module can be imported here, without doing it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _record(args: argparse.Namespace, command: Sequence[str], env: Mapping[str, str]) -> int:
    # These need the SDK, whose import takes longer than the whole of `rimp run --help`.
    from rimp_otel.cli.run_summary import Added
    from rimp_otel.config import TelemetryConfig

    enabled = TelemetryConfig.from_env(env).enabled  # raises what would fail in the program
    added = Added(path_from_args(args, env), backend_of(env) == "sqlite")
    try:
        ended = run_program(command, env)
    except OSError as error:
        return _not_started(command, error)
    if not args.quiet:
        _conclude(args, ended, added, env if enabled else None)
    return ended if ended >= 0 else 128 - ended


def _not_started(command: Sequence[str], error: OSError) -> int:
    missing = isinstance(error, FileNotFoundError)
    reason = "no such command" if missing else error.strerror
    if command[0].endswith(".py"):
        reason = f"{reason}; write rimp run -- python {shlex.join(command)}"
    warn(f"cannot run {command[0]}: {reason}")
    return 127 if missing else 126


def program_env(
    args: argparse.Namespace, command: Sequence[str], env: Mapping[str, str]
) -> dict[str, str]:
    """The environment that makes the program record itself, with what the user set in it."""
    name = args.service or env.get("RIMP_SERVICE_NAME", "").strip()
    path = [AUTORECORD_SITE, without(AUTORECORD_SITE, env.get("PYTHONPATH", ""))]
    given = {key: value for key, value in env.items() if value.strip()}
    defaults = {
        # A name that nothing has: opentelemetry-distro would have everything exported by OTLP.
        "OTEL_PYTHON_DISTRO": "none",
        **{f"OTEL_{signal.value.upper()}_EXPORTER": "none" for signal in Signal},
    }
    if "service.name" not in _keys(env.get("OTEL_RESOURCE_ATTRIBUTES", "")):
        defaults["OTEL_SERVICE_NAME"] = service_name(command)
    ours = {
        "OTEL_PYTHON_CONFIGURATOR": "rimp",
        "RIMP_STORAGE_BACKEND": backend_of(env),
        "RIMP_STORAGE_PATH": os.path.abspath(path_from_args(args, env)),
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }
    if name:
        ours["OTEL_SERVICE_NAME"] = name
    return {**env, **defaults, **given, **ours}


def backend_of(env: Mapping[str, str]) -> str:
    """What is recorded with: in memory, nothing would be left of it."""
    return "sqlite" if env.get("RIMP_STORAGE_BACKEND", "").strip() == "sqlite" else "file"


def _keys(pairs: str) -> set[str]:
    return {pair.partition("=")[0].strip() for pair in pairs.split(",")}


# Of Python's options, those that have a value: attached to them, or as the next word.
_WITH_VALUE = re.compile(r"-[a-zA-Z?]*?([mcWX])(.*)")


def service_name(command: Sequence[str]) -> str:
    """The name of the script or module that a command runs, or else of the command.

    ``python -W error app.py`` runs ``app``; ``python -m shop.web`` runs ``shop.web``.
    """
    program = Path(command[0])
    if not re.fullmatch(r"(python|pypy)[\d.]*t?(\.exe)?", program.name):
        return program.stem
    words = iter(command[1:])
    for word in words:
        if not word.startswith("-"):
            script = Path(word).resolve()
            return script.parent.name if script.stem == "__main__" else script.stem
        if match := _WITH_VALUE.fullmatch(word):
            value = match[2] or next(words, "")
            if match[1] in "mc":
                return value if match[1] == "m" and value else program.stem
    return program.stem


def _conclude(
    args: argparse.Namespace, ended: int, added: Added, env: Mapping[str, str] | None
) -> None:
    killed = f"the program was killed by {_signal_name(-ended)}; " if ended < 0 else ""
    try:
        records = added.count()
        what = _recorded(args, added) if records.total() else _nothing_recorded(args, env)
        warn(killed + what)
    except (KeyboardInterrupt, OSError):
        pass  # the program's exit code matters more than this line


def _recorded(args: argparse.Namespace, added: Added) -> str:
    spans, logs, points = (added.records[signal] for signal in Signal)
    counts = f"{format_count(spans, 'span')}, {format_count(logs, 'log record')} and {format_count(points, 'metric point')}"
    return (
        f"recorded {counts} in {path_from_args(args)} ({format_bytes(added.size)}): "
        f"look with '{_look_command(args)}'"
    )


def _look_command(args: argparse.Namespace) -> str:
    return shlex.join(["rimp", "traces", *(["--path", args.path] if args.path else [])])


def _nothing_recorded(args: argparse.Namespace, env: Mapping[str, str] | None) -> str:
    if env is None:
        reason = "OTEL_SDK_DISABLED or RIMP_ENABLED turns recording off"
    elif env.get("OTEL_CONFIG_FILE"):
        reason = f"OTEL_CONFIG_FILE={env['OTEL_CONFIG_FILE']} decides where to"
    else:
        import sys

        reason = f"was it Python, and is rimp-otel installed for it, as it is for {sys.executable}?"
    return f"recorded nothing in {path_from_args(args)}: {reason}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
