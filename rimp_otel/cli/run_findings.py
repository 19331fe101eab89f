"""Why ``rimp run`` recorded nothing, and what of the program is not instrumented."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from rimp_otel.collector.service_name import script_of_command

__all__ = ["advice", "reason_for_nothing"]

Report = Mapping[str, Sequence[str]]
"""What the program's processes have told: texts by kind."""

_BACKGROUND = {"--daemon", "--daemonize", "--detach", "-D"}


def reason_for_nothing(
    command: Sequence[str], ended: int, report: Report, path: Path, env: Mapping[str, str]
) -> str:
    """Return the likeliest reason why a program that was to be recorded added nothing.

    Args:
        command: how the program was started.
        ended: its exit code; -n if signal n killed it.
        report: what its processes have told.
        path: of the recording.
        env: the program's environment.
    """
    if env.get("OTEL_CONFIG_FILE"):
        return f"OTEL_CONFIG_FILE={env['OTEL_CONFIG_FILE']} determines where records go"
    if failures := report.get("failed"):
        return failures[0]
    if problem := _why_not_writable(path):
        return f"it cannot be written: {problem}"
    if "started" not in report:
        return f"was it a Python program with rimp-otel installed, as for {sys.executable}?"
    script = script_of_command(command)
    if ended and script and not os.path.exists(script):
        return f"there is no {script}"
    if ended == 0 and _BACKGROUND & set(command):
        return "the program goes on in the background: follow it with 'rimp tail -f'"
    if "loguru" in report.get("used", ()):
        return "the program finished no span, and its log messages go to loguru"
    when = "before it ended" if ended >= 0 else "before it was killed"
    return f"the program finished no span, logged nothing and measured nothing {when}"


def _why_not_writable(path: Path) -> str:
    """Return why nothing can be made at a path; "" if it can."""
    parent = path
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if parent == path and path.is_file():
        return "" if os.access(path, os.W_OK) else "Permission denied"
    try:
        with tempfile.TemporaryDirectory(prefix=".rimp-", dir=parent):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def advice(report: Report) -> str:
    """Return what would have more recorded; "" if there is nothing to say."""
    sentences = []
    missing = [name for name in report.get("used", ()) if name != "loguru"]
    if packages := _packages_for(missing):
        names = ", ".join(sorted(missing))
        sentences.append(
            f"not instrumented: {names}; install it with: pip install {shlex.join(packages)}"
        )
    sentences += report.get("misfit", ())
    if "loguru" in report.get("used", ()):
        sentences.append("record loguru with: logger.add(rimp_otel.install().loguru_sink)")
    return "; ".join(sentences)


def _packages_for(libraries: Sequence[str]) -> list[str]:
    """Return the packages that instrument libraries, in versions that fit what is installed here."""
    from rimp_otel.otel.instrumentation import known_instrumentations

    known = known_instrumentations()
    return sorted({package for name in libraries for package in known.get(name, ())})
