"""``rimp demo``: records a real service, and shows the recording."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from rimp_otel.cli.options import UsageError, add_color, output_style, output_width
from rimp_otel.cli.recording import open_recording
from rimp_otel.cli.run import is_installed
from rimp_otel.errors import MissingExtraError

__all__ = ["add_demo_parser"]

_REQUIRED = {
    "flask": "flask",
    "requests": "requests",
    "opentelemetry-instrumentation": "opentelemetry.instrumentation.auto_instrumentation",
    "opentelemetry-instrumentation-logging": "opentelemetry.instrumentation.logging",
    "opentelemetry-instrumentation-flask": "opentelemetry.instrumentation.flask",
    "opentelemetry-instrumentation-requests": "opentelemetry.instrumentation.requests",
    "opentelemetry-instrumentation-sqlite3": "opentelemetry.instrumentation.sqlite3",
}

_DESCRIPTION = """\
Run a small web shop under `rimp run`, send it some requests, kill it in the middle of one, and show
what was recorded.

The shop is a Flask service with an SQLite database, an outgoing HTTP call and logging; it knows
nothing of rimp. It listens on 127.0.0.1 alone, and has ended when this command has.
"""

_MARK = ".rimp-demo"
_OWN = re.compile(
    r"(traces|logs|metrics)\.[\w.]+|journal[\w.]*|sealed|damaged|cursors|" + re.escape(_MARK)
)


def add_demo_parser(subparsers: Any) -> None:
    """``rimp demo``."""
    parser = subparsers.add_parser(
        "demo",
        help="record a small service, and show the recording",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--path",
        metavar="DIR",
        type=Path,
        default=Path("rimp-demo"),
        help="the directory to record in (default: rimp-demo)",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="add to the recording of an earlier demo, instead of replacing it",
    )
    add_color(parser)
    parser.set_defaults(command=_run_demo)


def _run_demo(args: argparse.Namespace) -> int:
    from rimp_otel.cli.demo_report import format_demo
    from rimp_otel.cli.demo_service import serving
    from rimp_otel.cli.demo_visit import visit

    for package, module in _REQUIRED.items():
        if not is_installed(module):
            raise MissingExtraError(package, "demo")
    make_room(args.path, args.keep)
    # Now, since code in C that is interrupted while it is imported may swallow what a signal raises.
    import_module("rimp_otel.storage.reader")
    with _ended_by_signals(), _progress(), serving(args.path) as service:
        visited = visit(service)
    reader = open_recording(args.path)
    look = shlex.quote(str(args.path))
    for line in format_demo(reader, visited, look, output_width(), output_style(args)):
        print(line)
    return 0


def make_room(path: Path, keep: bool) -> None:
    """Makes the directory, or empties it of an earlier demo.

    Raises:
        UsageError: there is something else.
    """
    if os.path.lexists(path):
        _require_own(path)
        if keep:
            return
        shutil.rmtree(path)
    path.mkdir(mode=0o700, parents=True)
    (path / _MARK).touch(mode=0o600)


def _require_own(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        raise UsageError(f"{path} is there, and is no directory: name another with --path")
    names = sorted(entry.name for entry in path.iterdir())
    if names and _MARK not in names:
        raise UsageError(f"{path} is there, and is not from a demo: name another with --path")
    if foreign := [name for name in names if not _OWN.fullmatch(name)]:
        raise UsageError(
            f"{path / foreign[0]} is not from a demo, and would be deleted: "
            "move it, or name another directory with --path"
        )


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Has SIGTERM and SIGHUP unwind the stack, so that the service ends too."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _progress() -> Iterator[None]:
    """Says on a terminal what takes the time."""
    if not sys.stderr.isatty():
        yield
        return
    print("rimp: a small shop is being visited ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
