"""How to reach a destination: options, a file of headers, and the variables ``OTEL_EXPORTER_OTLP_*``."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import Signal

__all__ = [
    "DestinationOptions",
    "destination_of_environment",
    "options_of_environment",
    "parse_headers",
    "read_headers",
]


@dataclass(frozen=True)
class DestinationOptions:
    """How to reach a destination. What is None or empty comes from the destination's defaults.

    Args:
        headers: sent with each request; secret, so they are in no ``repr``.
        ca_file: certificates that the server's must be signed by, in PEM.
        certificate_file, key_file: of the client, in PEM.
        compression: "gzip" or "none"; None for the destination's default.
        timeout: seconds for one request; None for the destination's default.
        encoding: "protobuf" or "json"; None for the destination's default.
        max_request_size: bytes of a request, not compressed; None for the destination's default.
        endpoint: a URL of HTTP that is used as it is, in place of the destination's; of a signal.
        signals: complete options of single signals, in place of these.

    Raises:
        ConfigurationError: a value is not allowed.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    compression: str | None = None
    timeout: float | None = None
    encoding: str | None = None
    max_request_size: int | None = None
    endpoint: str | None = field(default=None, repr=False)
    signals: Mapping[Signal, DestinationOptions] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values that are the same for all destinations."""
        for name, value in self.headers.items():
            _check_header(name, value)
        _check_option("compression", self.compression, ("gzip", "none"))
        _check_option("encoding", self.encoding, ("protobuf", "json"))
        if self.timeout is not None and not 0 < self.timeout < math.inf:
            raise ConfigurationError(
                f"the timeout must be more than 0 seconds, got {self.timeout!r}"
            )
        if self.max_request_size is not None and self.max_request_size < 1:
            raise ConfigurationError(
                f"the size of a request must be 1 byte or more, got {self.max_request_size!r}"
            )
        if self.key_file and not self.certificate_file:
            raise ConfigurationError(
                f"the client's key {self.key_file} needs its certificate: give both"
            )

    def of(self, signal: Signal) -> DestinationOptions:
        """Return the options of a signal."""
        return self.signals.get(signal, self)

    def longest_timeout(self, default: float) -> float:
        """Return the longest time for one request of any signal, in seconds; ``default`` for none."""
        everything = [self.timeout, *(options.timeout for options in self.signals.values())]
        return max([found for found in everything if found is not None], default=default)

    def with_changes(self, **changes: Any) -> DestinationOptions:
        """Return the options with those changes that are not None, for all signals.

        Headers are added to those that are there, and win over them.
        """
        wanted = {name: value for name, value in changes.items() if value is not None}
        added = wanted.pop("headers", {})
        return replace(
            self,
            **wanted,
            headers=_merge_headers(self.headers, added),
            signals={
                signal: options.with_changes(**changes) for signal, options in self.signals.items()
            },
        )


def _check_option(what: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise ConfigurationError(f"the {what} must be {' or '.join(choices)}, got {value!r}")


# Headers.

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Those that the requests themselves have.
_RESERVED = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "transfer-encoding", "te"}
)


def _check_header(name: str, value: str) -> None:
    # No message has the value, which is likely to be a secret.
    if not _HEADER_NAME.fullmatch(name):
        raise ConfigurationError(f"the name of a header must be an HTTP token, got {name[:80]!r}")
    if name.lower() in _RESERVED:
        raise ConfigurationError(f"the header {name!r} cannot be set: it belongs to the request")
    if any((character < " " and character != "\t") or character == "\x7f" for character in value):
        raise ConfigurationError(f"the header {name!r} has a control character in its value")


def _merge_headers(headers: Mapping[str, str], added: Mapping[str, str]) -> dict[str, str]:
    new = {name.lower() for name in added}
    return {**{name: value for name, value in headers.items() if name.lower() not in new}, **added}


def parse_headers(text: str, source: str) -> dict[str, str]:
    """Return the headers of ``name=value,name=value``, whose values may be percent-encoded.

    Args:
        text: as in ``OTEL_EXPORTER_OTLP_HEADERS``.
        source: where it comes from, for messages.

    Raises:
        ConfigurationError: it is something else.
    """
    headers: dict[str, str] = {}
    for number, pair in enumerate(text.split(","), 1):
        if not pair.strip():
            continue
        name, found, value = pair.partition("=")
        name = unquote(name.strip())
        if not found or not name:
            raise ConfigurationError(
                f"{source}: header {number} must be name=value, with a comma in a value written as %2C"
            )
        _check_header(name, value := unquote(value.strip()))
        headers = _merge_headers(headers, {name: value})
    return headers


def read_headers(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the headers of a file: one ``Name: value`` a line; empty lines and ``#`` are left out.

    Raises:
        ConfigurationError: the file cannot be read, or holds something else.
    """
    name = os.fspath(path)
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigurationError(f"cannot read the headers of {name}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"cannot read the headers of {name}: it is not UTF-8") from None
    headers: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, found, value = line.partition(":")
        if not found:
            raise ConfigurationError(f"{name}:{number}: a header must be written as Name: value")
        headers = _merge_headers(headers, {key.strip(): value.strip()})
    for key, value in headers.items():
        _check_header(key, value)
    return headers


# The environment, by https://opentelemetry.io/docs/specs/otel/protocol/exporter/.

_PREFIX = "OTEL_EXPORTER_OTLP_"
_PROTOCOLS = {
    "grpc": ("grpc", None),
    "http/protobuf": ("http", "protobuf"),
    "http/json": ("http", "json"),
}
_DEFAULT_PROTOCOL = "http/protobuf"
_DEFAULT_ENDPOINTS = {"http": "http://localhost:4318", "grpc": "http://localhost:4317"}
_DEFAULT_PORTS = {"http": 80, "https": 443}


class _Variables:
    """The variables of one signal, each of which takes the place of the general one."""

    def __init__(self, env: Mapping[str, str], signal: Signal | None) -> None:
        self._env = env
        self._own = "" if signal is None else f"{_PREFIX}{signal.name}_"

    def find(self, name: str) -> tuple[str, str]:
        """Return the variable's full name and its value; an empty one is as none."""
        for full in (f"{self._own}{name}",) * bool(self._own) + (f"{_PREFIX}{name}",):
            value = self._env.get(full, "").strip()
            if value:
                return full, value
        return f"{_PREFIX}{name}", ""

    def own_endpoint(self) -> tuple[str, str]:
        """Return the variable of the signal's own endpoint, and its value."""
        full = f"{self._own}ENDPOINT"
        return full, self._env.get(full, "").strip() if self._own else ""

    def protocol(self) -> tuple[str, str | None]:
        """Return the transport, http or grpc, and the encoding."""
        name, value = self.find("PROTOCOL")
        found = _PROTOCOLS.get(value or _DEFAULT_PROTOCOL)
        if found is None:
            raise ConfigurationError(f"{name} must be {', '.join(_PROTOCOLS)}, got {value!r}")
        return found

    def options(self) -> DestinationOptions:
        """Return what the variables say, but for the endpoint and the protocol."""
        compression_name, compression = self.find("COMPRESSION")
        if compression and compression not in ("gzip", "none"):
            raise ConfigurationError(
                f"{compression_name} must be gzip or none, got {compression!r}"
            )
        headers_name, headers = self.find("HEADERS")
        return DestinationOptions(
            headers=parse_headers(headers, headers_name),
            ca_file=self.find("CERTIFICATE")[1] or None,
            certificate_file=self.find("CLIENT_CERTIFICATE")[1] or None,
            key_file=self.find("CLIENT_KEY")[1] or None,
            compression=compression or None,
            timeout=self._timeout(),
        )

    def _timeout(self) -> float | None:
        name, value = self.find("TIMEOUT")
        if not value:
            return None
        try:
            milliseconds = float(value)
        except ValueError:
            milliseconds = math.nan
        if not 0 < milliseconds < math.inf:
            raise ConfigurationError(f"{name} must be milliseconds, more than 0, got {value!r}")
        return milliseconds / 1_000


def destination_of_environment(env: Mapping[str, str]) -> str:
    """Return the URL of the destination that ``OTEL_EXPORTER_OTLP_*`` name: by default OTLP/HTTP to
    this machine.

    The endpoints of single signals are among the options, by ``options_of_environment``.

    Raises:
        ConfigurationError: a variable's value is not allowed.
    """
    variables = _Variables(env, None)
    transport, _ = variables.protocol()
    name, endpoint = variables.find("ENDPOINT")
    for signal in Signal if transport == "grpc" else ():
        own_name, own = _Variables(env, signal).own_endpoint()
        if own and own != endpoint:
            raise ConfigurationError(
                f"{own_name} differs from {_PREFIX}ENDPOINT, and one connection of gRPC goes to one"
                " endpoint: give each as a destination of its own"
            )
    endpoint = endpoint or _DEFAULT_ENDPOINTS[transport]
    is_insecure = variables.find("INSECURE")[1].lower() == "true"
    return _url_of_endpoint(endpoint, name, transport, is_insecure)


def _url_of_endpoint(endpoint: str, name: str, transport: str, is_insecure: bool) -> str:
    if transport == "grpc" and "://" not in endpoint:
        endpoint = f"{'http' if is_insecure else 'https'}://{endpoint}"
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ConfigurationError(f"{name} must be a URL such as {_DEFAULT_ENDPOINTS[transport]}")
    login, at, host = parts.netloc.rpartition("@")
    if port is None:
        host = f"{host.rstrip(':')}:{_DEFAULT_PORTS[scheme]}"
    path = parts.path if transport == "http" else ""
    query = parts.query if transport == "http" else ""
    suffix = "s" if scheme == "https" else ""
    return urlunsplit((f"otlp+{transport}{suffix}", f"{login}{at}{host}", path, query, ""))


def options_of_environment(env: Mapping[str, str], url: str) -> DestinationOptions:
    """Return what the variables ``OTEL_EXPORTER_OTLP_*`` say of a destination.

    Headers and certificates are the endpoint's that the variables name: of another host they say
    nothing, which keeps a token from being sent there. Where they name no endpoint, they are the
    destination's, whichever it is. The endpoints of single signals count if the destination is the
    one of the variables.

    Args:
        env: the environment.
        url: of the destination.

    Raises:
        ConfigurationError: a variable's value is not allowed.
    """
    scheme = url.partition(":")[0].lower()
    if not scheme.startswith("otlp+"):
        return DestinationOptions()
    general = _Variables(env, None)
    endpoint = general.find("ENDPOINT")[1]
    endpoints = {signal: _Variables(env, signal).own_endpoint()[1] for signal in Signal}
    is_of_environment = bool(endpoint or any(endpoints.values()))
    is_own = not is_of_environment or _hostname_of(url) == _hostname_of(
        destination_of_environment(env)
    )
    if not is_own:
        return DestinationOptions()
    signals: dict[Signal, DestinationOptions] = {}
    is_http = scheme.startswith("otlp+http")
    for signal in Signal:
        variables = _Variables(env, signal)
        options = variables.options()
        if is_http:
            options = replace(
                options,
                endpoint=endpoints[signal] or None,
                encoding=variables.protocol()[1] if variables.find("PROTOCOL")[1] else None,
            )
        signals[signal] = options
    options = general.options()
    if is_http and general.find("PROTOCOL")[1]:
        options = replace(options, encoding=general.protocol()[1])
    differing = {signal: own for signal, own in signals.items() if own != options}
    return replace(options, signals=differing)


def _hostname_of(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
