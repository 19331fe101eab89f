"""``rimp serve``: receive OTLP from any program into a recording."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rimp_otel.cli.options import UsageError, add_path_option, path_from_args
from rimp_otel.cli.output import warn
from rimp_otel.cli.run import backend_of, retain_size
from rimp_otel.cli.signals import StopSignals
from rimp_otel.models.records import Signal
from rimp_otel.render.format import format_count

if TYPE_CHECKING:
    from rimp_otel.config import TelemetryConfig
    from rimp_otel.transport.receiving.address import ListenAddress
    from rimp_otel.transport.receiving.intake import Intake, IntakeStats
    from rimp_otel.transport.receiving.security import ServerSecurity
    from rimp_otel.transport.receiving.server import Receiver, Shown

__all__ = ["add_serve_arguments"]

_DESCRIPTION = """\
Receive traces, logs and metrics over OTLP, by HTTP and by gRPC, into a recording.

Programs in any language send to it: with their default settings they do, on this machine. A request
is answered once its records are safe on disk. Ends on Ctrl+C or SIGTERM, after what was received is stored.
"""

_HTTP, _GRPC = "--http", "--grpc"
_DEFAULTS = {_HTTP: "127.0.0.1:4318", _GRPC: "127.0.0.1:4317"}
_NO_GRPC = "OTLP/gRPC is off, since grpcio is not installed (pip install 'rimp-otel[grpc]')"
# Seconds.
_MAX_STOP = 20.0


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp serve``."""
    parser.description = _DESCRIPTION
    add_path_option(parser)
    _add_address_options(parser)
    parser.add_argument(
        "--retain",
        type=retain_size,
        metavar="SIZE",
        help="size to keep, such as 500MB or none (default: 1 GB or a tenth of the disk)",
    )
    parser.add_argument(
        "--max-request-size",
        type=_request_size,
        metavar="SIZE",
        help="size of the largest request, not compressed (default: 64 MiB)",
    )
    _add_security_options(parser)
    parser.set_defaults(command=_run_serve)


def _add_address_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        _HTTP,
        metavar="ADDRESS",
        help=f"HOST:PORT or unix:PATH for OTLP/HTTP, or off (default: {_DEFAULTS[_HTTP]})",
    )
    parser.add_argument(
        _GRPC,
        metavar="ADDRESS",
        help=f"HOST:PORT or unix:PATH for OTLP/gRPC, or off (default: {_DEFAULTS[_GRPC]})",
    )


def _add_security_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "security", "Needed where other machines reach the server; see docs/network.md."
    )
    group.add_argument(
        "--token-file",
        metavar="FILE",
        help="file of tokens, one a line; senders need one (default: $RIMP_SERVE_TOKEN)",
    )
    group.add_argument("--certificate", metavar="FILE", help="certificate for TLS, in PEM")
    group.add_argument("--key", metavar="FILE", help="key of the certificate, in PEM")
    group.add_argument(
        "--client-ca",
        metavar="FILE",
        help="certificates, in PEM, that those of senders must be signed by",
    )
    group.add_argument(
        "--allow-origin",
        metavar="ORIGIN",
        action="append",
        default=[],
        help="let web pages of this origin send, such as https://app.example.com; repeatable",
    )
    group.add_argument(
        "--allow-host",
        metavar="NAME",
        action="append",
        default=[],
        help="name that senders may call the server by, besides IP addresses; repeatable",
    )
    group.add_argument(
        "--insecure",
        action="store_true",
        help="listen where other machines reach the server without a token or without TLS",
    )


def _request_size(text: str) -> int:
    size = retain_size(text)
    if size in ("none", "0"):
        raise argparse.ArgumentTypeError(f"not a size such as 20MB: {text!r}")
    return int(size)


def _run_serve(args: argparse.Namespace, env: Mapping[str, str] = os.environ) -> int:
    # All of these need the SDK, whose import takes longer than the whole of `rimp serve --help`.
    from rimp_otel.transport.receiving.intake import Intake, IntakeLimits
    from rimp_otel.transport.receiving.server import TelemetryServer

    security = _security_from_args(args, env)
    addresses = _addresses_from_args(args, security)
    limits = IntakeLimits(args.max_request_size) if args.max_request_size else IntakeLimits()
    path = path_from_args(args, env)
    config = _config_from_args(args, env)
    intake = Intake(path, config, limits)
    receivers, notes = _make_receivers(args, config, addresses, security, intake)
    server = TelemetryServer(intake, receivers)
    with StopSignals() as stopping:
        server.start()
        warn(_ready_line(path, server.addresses, security, notes))
        stopping.wait()
        stopping.call_again(server.hurry)
        is_stored = server.stop(_MAX_STOP)
    warn(_closing_line(intake.stats(), is_stored))
    return 0


def _security_from_args(args: argparse.Namespace, env: Mapping[str, str]) -> ServerSecurity:
    from rimp_otel.transport.receiving.security import ServerSecurity, read_tokens

    return ServerSecurity(
        read_tokens(args.token_file, env),
        _path_or_none(args.certificate),
        _path_or_none(args.key),
        _path_or_none(args.client_ca),
        tuple(args.allow_origin),
        tuple(args.allow_host),
        args.insecure,
    )


def _path_or_none(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def _addresses_from_args(
    args: argparse.Namespace, security: ServerSecurity
) -> dict[str, ListenAddress]:
    """Return the addresses by their options, without those that are off."""
    from rimp_otel.transport.receiving.address import parse_address

    found = {}
    for option, given in ((_HTTP, args.http), (_GRPC, args.grpc)):
        text = _DEFAULTS[option] if given is None else given
        if text != "off":
            address = parse_address(text, option)
            security.check_address(address, option)
            found[option] = address
    if not found:
        raise UsageError("nothing to serve: --http and --grpc are both off")
    return found


def _config_from_args(args: argparse.Namespace, env: Mapping[str, str]) -> TelemetryConfig:
    """Return the configuration of the recording, by the options and the environment."""
    from rimp_otel.config import TelemetryConfig

    ours = {
        "RIMP_STORAGE_BACKEND": backend_of(args, env),
        "RIMP_STORAGE_PATH": os.fspath(path_from_args(args, env)),
        # These are about what a process records of itself.
        "RIMP_ENABLED": "true",
        "RIMP_JOURNAL": "true",
        "OTEL_SDK_DISABLED": "",
        # The page is among the others.
        "RIMP_PROMETHEUS_PORT": "",
        "OTEL_METRICS_EXPORTER": "",
    }
    if args.retain:
        ours["RIMP_RETAIN_SIZE"] = args.retain
    return TelemetryConfig.from_env({**env, **ours})


def _make_receivers(
    args: argparse.Namespace,
    config: TelemetryConfig,
    addresses: Mapping[str, ListenAddress],
    security: ServerSecurity,
    intake: Intake,
) -> tuple[dict[str, tuple[ListenAddress, Receiver]], list[str]]:
    """Return the receivers by the options of their addresses, and what to say about others."""
    from rimp_otel.transport.receiving.server import HttpListener

    receivers: dict[str, tuple[ListenAddress, Receiver]] = {}
    notes = []
    if address := addresses.get(_HTTP):
        viewer = _make_viewer(config)
        receivers[_HTTP] = address, HttpListener(intake, address, security, viewer)
    if address := addresses.get(_GRPC):
        try:
            receivers[_GRPC] = address, _make_grpc_receiver(intake, address, security)
        except ImportError:
            if args.grpc is not None:
                raise
            notes.append(_NO_GRPC)
    return receivers, notes


def _make_viewer(config: TelemetryConfig) -> Shown | None:
    try:
        from rimp_otel.viewer.server import Viewer
    except ImportError:
        return None  # without the extra ``server``, which the listener says
    return Viewer(config.path, gauges=config.prometheus_gauges, keeps_metrics=True)


def _make_grpc_receiver(
    intake: Intake, address: ListenAddress, security: ServerSecurity
) -> Receiver:
    from rimp_otel.transport.receiving.grpc_receiver import GrpcReceiver

    return GrpcReceiver(intake, address, security)


def _ready_line(
    path: Path,
    addresses: Mapping[str, ListenAddress],
    security: ServerSecurity,
    notes: list[str],
) -> str:
    parts = [f"recording into {path}"]
    if address := addresses.get(_HTTP):
        scheme = "https" if security.has_tls else "http"
        shown = str(address) if address.path else f"{scheme}://{address}"
        parts.append(f"OTLP/HTTP at {shown}")
        if not address.path:
            parts.append(f"the page at {shown}/")
    if address := addresses.get(_GRPC):
        parts.append(f"OTLP/gRPC at {address}{' with TLS' if security.has_tls else ''}")
    return "; ".join([*parts, *notes])


def _closing_line(stats: IntakeStats, is_stored: bool) -> str:
    spans, logs, points = (stats.records.get(signal, 0) for signal in Signal)
    said = (
        f"received {format_count(stats.requests, 'request')}: {format_count(spans, 'span')}, "
        f"{format_count(logs, 'log record')} and {format_count(points, 'metric point')}"
    )
    refused = sum(stats.records_refused.values())
    if refused:
        said += f"; refused {format_count(refused, 'record')} of them"
    if stats.requests_refused:
        reasons = ", ".join(
            f"{count:,} {reason}" for reason, count in sorted(stats.requests_refused.items())
        )
        total = format_count(sum(stats.requests_refused.values()), "request")
        said += f"; refused {total}: {reasons}"
    if not is_stored:
        said += "; what is not stored yet is in the journal, for the next process"
    return said
