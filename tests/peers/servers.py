"""The peers that are servers: how each is configured and started."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.peers.environment import find_command, library_path
from tests.peers.processes import Running, free_port, get, is_listening, start, wait_until
from tests.processes import ROOT

__all__ = ["Receiver", "caddy", "envoy", "envoy_proxy", "rimp_serve", "rotel", "traefik"]


class Receiver(NamedTuple):
    """A server that takes OTLP: its ports on 127.0.0.1, and its process."""

    http: int
    grpc: int
    running: Running


@contextmanager
def rimp_serve(path: Path, log: Path, *options: str) -> Iterator[Receiver]:
    """Run `rimp serve` over a recording."""
    command = [sys.executable, "-m", "rimp_otel", "serve", "--path", str(path)]
    command += ["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with start(command, log, lambda it: len(_ports(it.output)) == 2, environment) as running:
        yield Receiver(*_ports(running.output), running)


def _ports(output: str) -> list[int]:
    lines = output.splitlines(keepends=True)
    ready = next((line for line in lines if "127.0.0.1:" in line and line.endswith("\n")), "")
    return [int(port) for port in re.findall(r"OTLP/\w+ at (?:http://)?127\.0\.0\.1:(\d+)", ready)]


@contextmanager
def rotel(directory: Path, *exporter: str) -> Iterator[Receiver]:
    """Run rotel, which takes OTLP and hands it to an exporter, by default to none."""
    http, grpc = free_port(), free_port()
    command = [find_command("rotel"), "start"]
    command += ["--pid-file", str(directory / "rotel.pid")]
    command += ["--log-file", str(directory / "rotel.file.log")]
    command += ["--otlp-http-endpoint", f"127.0.0.1:{http}"]
    command += ["--otlp-grpc-endpoint", f"127.0.0.1:{grpc}"]
    command += exporter or ("--exporter", "blackhole")
    environment = {**os.environ, "LD_LIBRARY_PATH": library_path()}
    log = directory / "rotel.log"
    with start(command, log, lambda _: is_listening(http), environment) as running:
        yield Receiver(http, grpc, running)


@contextmanager
def traefik(directory: Path, receiver: Receiver, protocol: str) -> Iterator[int]:
    """Run Traefik, which sends traces, metrics and access logs; yield the port of its page."""
    page, ping = free_port(), free_port()
    targets = {
        signal: {"http": {"endpoint": f"http://127.0.0.1:{receiver.http}/v1/{signal}"}}
        if protocol == "http"
        else {"grpc": {"endpoint": f"127.0.0.1:{receiver.grpc}", "insecure": True}}
        for signal in ("traces", "logs", "metrics")
    }
    service = {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{ping}"}]}}
    routes = {
        "http": {
            "routers": {
                "all": {"rule": "PathPrefix(`/`)", "entryPoints": ["page"], "service": "it"}
            },
            "services": {"it": service},
        }
    }
    (directory / "routes.yml").write_text(json.dumps(routes))
    configuration = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": {
            "page": {"address": f"127.0.0.1:{page}"},
            "ping": {"address": f"127.0.0.1:{ping}"},
        },
        "ping": {"entryPoint": "ping"},
        "providers": {"file": {"filename": str(directory / "routes.yml")}},
        "experimental": {"otlplogs": True},
        "metrics": {"otlp": {"pushInterval": "1s", "serviceName": "edge", **targets["metrics"]}},
        "tracing": {"serviceName": "edge", "sampleRate": 1.0, "otlp": targets["traces"]},
        "accessLog": {"otlp": {"serviceName": "edge", **targets["logs"]}},
    }
    (directory / "traefik.yml").write_text(json.dumps(configuration))
    command = [find_command("traefik"), f"--configFile={directory / 'traefik.yml'}"]
    environment = {
        **os.environ,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_BLRP_SCHEDULE_DELAY": "100",
    }
    log = directory / "traefik.log"
    with start(command, log, lambda _: is_listening(page), environment):
        wait_until(lambda: get(page, "/ping") == 200)
        yield page


@contextmanager
def caddy(directory: Path, endpoint: str, **environment: str) -> Iterator[int]:
    """Run Caddy, which sends traces to an endpoint; yield the port of its page."""
    page = free_port()
    (directory / "Caddyfile").write_text(
        "{\n admin off\n auto_https off\n persist_config off\n}\n"
        f"http://127.0.0.1:{page} {{\n bind 127.0.0.1\n tracing\n respond ok\n}}\n"
    )
    command = [find_command("caddy"), "run", "--config", str(directory / "Caddyfile")]
    variables = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **environment}
    variables |= {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_SERVICE_NAME": "caddy"}
    variables |= {"XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
    with start(command, directory / "caddy.log", lambda _: is_listening(page), variables):
        yield page


@contextmanager
def envoy(directory: Path, receiver: Receiver) -> Iterator[int]:
    """Run Envoy, which sends all signals over gRPC, metrics as deltas; yield the port of its page."""
    page = free_port()
    grpc_service = {"envoy_grpc": {"cluster_name": "otlp"}, "timeout": "10s"}
    sink = {
        "name": "envoy.stat_sinks.open_telemetry",
        "typed_config": {
            "@type": f"{_TYPES}.stat_sinks.open_telemetry.v3.SinkConfig",
            "grpc_service": grpc_service,
            "report_counters_as_deltas": True,
            "report_histograms_as_deltas": True,
            "emit_tags_as_attributes": True,
        },
    }
    tracer = {
        "name": "envoy.tracers.opentelemetry",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
            "grpc_service": grpc_service,
            "service_name": "gate",
        },
    }
    log = {
        "name": "envoy.access_loggers.open_telemetry",
        "typed_config": {
            "@type": f"{_TYPES}.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
            "common_config": {
                "log_name": "access",
                "transport_api_version": "V3",
                "grpc_service": grpc_service,
                "buffer_flush_interval": "0.1s",
            },
            "body": {"string_value": "%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE%"},
            "attributes": {
                "values": [{"key": "path", "value": {"string_value": "%REQ(:PATH)%"}}],
            },
        },
    }
    answer = {
        "name": "local",
        "virtual_hosts": [
            {
                "name": "all",
                "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 200}}],
            }
        ],
    }
    manager = {
        "stat_prefix": "page",
        "tracing": {"provider": tracer},
        "access_log": [log],
        "route_config": answer,
        "http_filters": [_ROUTER],
    }
    configuration = _envoy_configuration(page, manager, [_cluster("otlp", receiver.grpc)])
    configuration |= {"stats_sinks": [sink], "stats_flush_interval": "1s"}
    with _run_envoy(directory, configuration, page):
        yield page


@contextmanager
def envoy_proxy(
    directory: Path,
    upstream: int,
    *,
    is_http2: bool = False,
    abort_percent: int = 0,
    abort: dict[str, int] | None = None,
    delay: str = "",
    max_connection: str = "",
    max_requests: int = 0,
) -> Iterator[int]:
    """Run Envoy in front of a receiver, with faults; yield the port to send to.

    Args:
        directory: for its configuration and log.
        upstream: the port of the receiver.
        is_http2: whether the receiver speaks HTTP/2, as gRPC does.
        abort_percent: so many of a hundred requests are answered with ``abort``.
        abort: the answer, as Envoy's fault filter has it: ``{"grpc_status": 14}``.
        delay: how long those requests are held, which are then forwarded.
        max_connection: after this time a connection is ended, with GOAWAY in HTTP/2.
        max_requests: the same after this many requests.
    """
    port = free_port()
    fault: dict[str, Any] = {"@type": f"{_TYPES}.filters.http.fault.v3.HTTPFault"}
    percentage = {"numerator": abort_percent, "denominator": "HUNDRED"}
    if abort:
        fault["abort"] = {**abort, "percentage": percentage}
    if delay:
        fault["delay"] = {"fixed_delay": delay, "percentage": percentage}
    manager: dict[str, Any] = {
        "stat_prefix": "proxy",
        "codec_type": "AUTO",
        "route_config": {
            "name": "local",
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/"}, "route": {"cluster": "to", "timeout": "30s"}}
                    ],
                }
            ],
        },
        "http_filters": [{"name": "envoy.filters.http.fault", "typed_config": fault}, _ROUTER],
        "drain_timeout": "0.1s",
    }
    options: dict[str, Any] = {}
    if max_connection:
        options["max_connection_duration"] = max_connection
    if max_requests:
        options["max_requests_per_connection"] = max_requests
    if options:
        manager["common_http_protocol_options"] = options
    cluster = _cluster("to", upstream, is_http2=is_http2)
    with _run_envoy(directory, _envoy_configuration(port, manager, [cluster]), port):
        yield port


_TYPES = "type.googleapis.com/envoy.extensions"
_ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
}


def _cluster(name: str, port: int, is_http2: bool = True) -> dict[str, Any]:
    protocol = "http2_protocol_options" if is_http2 else "http_protocol_options"
    options = f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions"
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "explicit_http_config": {protocol: {}},
            }
        },
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }


def _envoy_configuration(
    port: int, manager: dict[str, Any], clusters: list[dict[str, Any]]
) -> dict[str, Any]:
    kind = f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"
    network = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {"@type": kind, **manager},
    }
    listener = {
        "name": "page",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [network]}],
    }
    return {
        "node": {"id": "tests", "cluster": "tests"},
        "static_resources": {"listeners": [listener], "clusters": clusters},
        # A span is sent when it ends, not with four others.
        "layered_runtime": {
            "layers": [
                {"name": "all", "static_layer": {"tracing.opentelemetry.min_flush_spans": 1}}
            ]
        },
    }


@contextmanager
def _run_envoy(directory: Path, configuration: dict[str, Any], port: int) -> Iterator[Running]:
    (directory / "envoy.json").write_text(json.dumps(configuration))
    command = [find_command("envoy"), "-c", str(directory / "envoy.json")]
    command += ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    with start(command, directory / "envoy.log", lambda _: is_listening(port)) as running:
        yield running
