"""``rimp run``: record an unchanged Python program."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rimp_otel.cli.child_process import run_program, signal_name
from rimp_otel.cli.options import UsageError, add_path_option, path_from_args
from rimp_otel.cli.output import warn
from rimp_otel.collector.service_name import is_python_program, name_of_command
from rimp_otel.errors import MissingExtraError
from rimp_otel.models.records import Signal
from rimp_otel.otel.autorecord import remove_from_path
from rimp_otel.otel.run_report import REPORT_VARIABLE, ROOT_SPAN_VARIABLE, read_report
from rimp_otel.process import AUTORECORD_SITE
from rimp_otel.render.format import format_bytes, format_count

if TYPE_CHECKING:
    from rimp_otel.cli.run_summary import AddedRecords

__all__ = ["add_run_arguments", "is_installed", "program_environment"]


_REQUIRED = {
    "opentelemetry-instrumentation": "opentelemetry.instrumentation.auto_instrumentation",
}

_DESCRIPTION = """\
Run a Python program and record its spans, log records and metrics.

The opentelemetry-instrumentation-... packages that are installed beside the program determine what
is instrumented. Processes that the program starts are recorded, too.
"""


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp run``."""
    parser.description = _DESCRIPTION
    parser.usage = "rimp run [-h] [--path PATH] [--service NAME] [--retain SIZE] [--quiet] [--no-advice] -- CMD ..."
    add_path_option(parser)
    parser.add_argument(
        "--service",
        metavar="NAME",
        help="service name (default: OTEL_SERVICE_NAME, or the name of the application)",
    )
    parser.add_argument(
        "--retain",
        type=retain_size,
        metavar="SIZE",
        help="size to keep, such as 500MB or none (default: 1 GB or a tenth of the disk)",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="do not print what was recorded at the end"
    )
    parser.add_argument(
        "--no-advice",
        action="store_true",
        help="do not say at the end which libraries of the program are not instrumented",
    )
    parser.add_argument(
        "program",
        metavar="CMD",
        nargs=argparse.REMAINDER,
        help="program to run and its arguments, such as: python app.py",
    )
    parser.set_defaults(command=_run_run)


def _run_run(args: argparse.Namespace) -> int:
    # Versions of Python differ in whether argparse removes the --.
    command = args.program[1:] if args.program[:1] == ["--"] else args.program
    if not command:
        raise UsageError("no program to run: write rimp run -- python app.py")
    for package, module in _REQUIRED.items():
        if not is_installed(module):
            raise MissingExtraError(package, "run")
    env = program_environment(args, command, os.environ)
    return _record(args, command, env)


def is_installed(module: str) -> bool:
    """Return True if the module can be imported, without importing it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _record(args: argparse.Namespace, command: Sequence[str], env: Mapping[str, str]) -> int:
    # These need the SDK, whose import takes longer than the whole of `rimp run --help`.
    from rimp_otel.cli.run_summary import AddedRecords, record_end
    from rimp_otel.config import TelemetryConfig

    enabled = TelemetryConfig.from_env(env).enabled  # raises here what would fail in the program
    added = AddedRecords(path_from_args(args, env), backend_of(args, env) == "sqlite")
    # A program that this outlives, such as a daemon, finds the file gone, and tells nothing.
    with tempfile.NamedTemporaryFile(prefix="rimp-run-") as file:
        try:
            asked = {REPORT_VARIABLE: file.name}
            if is_python_program(command):
                asked[ROOT_SPAN_VARIABLE] = "true"
            ended = run_program(command, {**env, **asked})
        except OSError as error:
            return _print_start_error(command, error)
        report = read_report(file.name)
    said = ""
    if not args.quiet:
        said = _summary(args, command, ended, added, env if enabled else None, report)
    if ended and enabled and "started" in report and not env.get("OTEL_CONFIG_FILE"):
        record_end(command, ended, report, path_from_args(args, env), backend_of(args, env), env)
    if said:
        warn(said)
    return ended if ended >= 0 else 128 - ended


def _print_start_error(command: Sequence[str], error: OSError) -> int:
    missing = isinstance(error, FileNotFoundError)
    reason = "no such command" if missing else error.strerror
    if command[0].endswith(".py"):
        reason = f"{reason}; did you mean rimp run -- python {shlex.join(command)}?"
    warn(f"cannot run {command[0]}: {reason}")
    return 127 if missing else 126


def program_environment(
    args: argparse.Namespace, command: Sequence[str], env: Mapping[str, str]
) -> dict[str, str]:
    """Return an environment in which the program records itself; what the user set has priority."""
    name = args.service or env.get("RIMP_SERVICE_NAME", "").strip()
    path = [AUTORECORD_SITE, remove_from_path(AUTORECORD_SITE, env.get("PYTHONPATH", ""))]
    given = {key: value for key, value in env.items() if value.strip()}
    defaults = {
        # No distro has this name: opentelemetry-distro would export everything by OTLP.
        "OTEL_PYTHON_DISTRO": "none",
        **{f"OTEL_{signal.value.upper()}_EXPORTER": "none" for signal in Signal},
    }
    if not _wants_faulthandler(command, env):
        # The stacks of a crash, which would not be printed either.
        defaults["RIMP_RECORD_CRASHES"] = "true"
    if "service.name" not in _attribute_keys(env.get("OTEL_RESOURCE_ATTRIBUTES", "")):
        defaults["OTEL_SERVICE_NAME"] = name_of_command(command, env)
    ours = {
        "OTEL_PYTHON_CONFIGURATOR": "rimp",
        "RIMP_STORAGE_BACKEND": backend_of(args, env),
        "RIMP_STORAGE_PATH": os.path.abspath(path_from_args(args, env)),
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
    }
    if name:
        ours["OTEL_SERVICE_NAME"] = name
    if args.retain:
        ours["RIMP_RETAIN_SIZE"] = args.retain
    return {**env, **defaults, **given, **ours}


def _wants_faulthandler(command: Sequence[str], env: Mapping[str, str]) -> bool:
    """Return True if Python is told to print the stacks of a crash."""
    words = {"faulthandler", "dev", "-Xfaulthandler", "-Xdev"}
    switches = ("PYTHONFAULTHANDLER", "PYTHONDEVMODE")
    return bool(words & set(command)) or any(env.get(name) for name in switches)


def backend_of(args: argparse.Namespace, env: Mapping[str, str]) -> str:
    """Return the storage backend: SQLite if the environment asks for it, or the path is a file or is named
    like a database; else files."""
    from rimp_otel.storage.recording import is_database

    if env.get("RIMP_STORAGE_BACKEND", "").strip() == "sqlite":
        return "sqlite"
    return "sqlite" if is_database(Path(path_from_args(args, env))) else "file"


def retain_size(text: str) -> str:
    """Return a size such as ``10GB`` in bytes, as the text of RIMP_RETAIN_SIZE."""
    if text.strip().lower() == "none":
        return "none"
    match = re.fullmatch(r"([\d.]+)\s*([kmgt]?)b?", text.strip(), re.IGNORECASE)
    try:
        number = float(match[1]) if match else -1.0
    except ValueError:
        number = -1.0
    if match is None or number < 0:
        raise argparse.ArgumentTypeError(f"not a size such as 500MB or 10GB, nor none: {text!r}")
    return str(int(number * 1_000 ** " kmgt".index(match[2].lower() or " ")))


def _attribute_keys(pairs: str) -> set[str]:
    return {pair.partition("=")[0].strip() for pair in pairs.split(",")}


def _summary(
    args: argparse.Namespace,
    command: Sequence[str],
    ended: int,
    added: AddedRecords,
    env: Mapping[str, str] | None,
    report: Mapping[str, Sequence[str]],
) -> str:
    """Return the line that is printed at the end; "" if it is interrupted."""
    from rimp_otel.cli.run_findings import advice, reason_for_nothing

    said = f"the program was killed by {signal_name(-ended)}; " if ended < 0 else ""
    try:
        if added.count().total():
            said += _format_recorded(args, added)
        elif env is None:
            said += f"recorded nothing in {path_from_args(args)}: OTEL_SDK_DISABLED or RIMP_ENABLED turns recording off"
        else:
            reason = reason_for_nothing(command, ended, report, path_from_args(args, env), env)
            said += f"recorded nothing in {path_from_args(args)}: {reason}"
        more = "" if args.no_advice or env is None else advice(report)
    except (KeyboardInterrupt, OSError):
        return ""  # the exit code of the program matters more than this line
    return f"{said}; {more}" if more else said


def _format_recorded(args: argparse.Namespace, added: AddedRecords) -> str:
    spans, logs, points = (added.records[signal] for signal in Signal)
    counts = f"{format_count(spans, 'span')}, {format_count(logs, 'log record')} and {format_count(points, 'metric point')}"
    return (
        f"recorded {counts} in {path_from_args(args)} ({format_bytes(added.size)}): "
        f"show it with '{_show_command(args)}'"
    )


def _show_command(args: argparse.Namespace) -> str:
    return shlex.join(["rimp", "traces", *(["--path", args.path] if args.path else [])])
