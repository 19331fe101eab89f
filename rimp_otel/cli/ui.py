"""``rimp ui``: show a recording in the browser."""

from __future__ import annotations

import argparse
import errno
import os
import secrets
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rimp_otel.cli.options import UsageError, add_path_option, path_from_args
from rimp_otel.cli.output import describe_database_beside, warn
from rimp_otel.cli.signals import StopSignals
from rimp_otel.errors import MissingExtraError

if TYPE_CHECKING:
    from rimp_otel.transport.receiving.address import ListenAddress
    from rimp_otel.viewer.server import ViewerServer

__all__ = ["add_ui_arguments"]

_DESCRIPTION = """\
Show a recording in the browser: overview, traces, logs, metrics, SQL, live.

The page is served to this machine alone, and asks for the token that is in its link. The recording may be
one that is being written; nothing of it is changed. Ends on Ctrl+C or SIGTERM.
"""

_ADDRESS = "--address"
_HOST, _PORT = "127.0.0.1", 7467
# Seconds.
_MAX_STOP = 5.0


def add_ui_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp ui``."""
    parser.description = _DESCRIPTION
    add_path_option(parser)
    parser.add_argument(
        _ADDRESS,
        metavar="ADDRESS",
        help=f"HOST:PORT of this machine (default: {_HOST}:{_PORT}, or a free port)",
    )
    parser.add_argument(
        "--no-open", action="store_true", help="print the link, and do not open the browser"
    )
    parser.set_defaults(command=_run_ui)


def _run_ui(args: argparse.Namespace, env: Mapping[str, str] = os.environ) -> int:
    address = _address_from_args(args)
    path = path_from_args(args, env)
    token = secrets.token_urlsafe(24)
    with StopSignals() as stopping:
        server, taken = _start_server(path, address, args.address is None, token)
        link = f"http://{taken}/#token={token}"
        warn(f"showing {path} at {link} (Ctrl+C ends it)")
        if database := describe_database_beside(path):
            warn(database)
        elif not path.exists():
            warn(f"nothing is recorded at {path} yet: what comes is shown")
        if not args.no_open and _has_display(env):
            webbrowser.open(link)
        stopping.wait()
        stopping.call_again(server.hurry)
        server.stop(_MAX_STOP)
    return 0


def _address_from_args(args: argparse.Namespace) -> ListenAddress:
    from rimp_otel.transport.receiving.address import ListenAddress, parse_address

    if args.address is None:
        return ListenAddress(_HOST, _PORT)
    address = parse_address(args.address, _ADDRESS)
    if address.path or not address.is_loopback:
        raise UsageError(
            f"{_ADDRESS} must be of this machine, such as {_HOST}:{_PORT}, got {args.address!r}: for "
            "others, rimp serve shows the same page, with tokens and TLS"
        )
    return address


def _start_server(
    path: Path, address: ListenAddress, is_default: bool, token: str
) -> tuple[ViewerServer, ListenAddress]:
    """Return the server and where it listens: at a free port if the default one is taken."""
    from rimp_otel.transport.receiving.address import listen_error
    from rimp_otel.transport.receiving.security import ServerSecurity

    try:
        from rimp_otel.viewer.server import Viewer, ViewerServer
    except ImportError as error:
        name = (error.name or "").partition(".")[0]
        if name not in ("starlette", "uvicorn", "h11"):
            raise
        raise MissingExtraError("Starlette" if name == "starlette" else "uvicorn", "ui") from error
    security = ServerSecurity((token,), is_local=True)
    viewer = Viewer(path)
    while True:
        server = ViewerServer(viewer, address, security)
        try:
            return server, server.start()
        except OSError as error:
            if not (is_default and address.port and error.errno == errno.EADDRINUSE):
                raise listen_error(address, _ADDRESS, error) from None
            address = address.with_port(0)


def _has_display(env: Mapping[str, str]) -> bool:
    """Return True if there is a browser to open in: not one that takes over the terminal."""
    if sys.platform in ("darwin", "win32"):
        return True
    return any(env.get(name) for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"))
