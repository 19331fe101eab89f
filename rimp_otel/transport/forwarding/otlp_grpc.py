"""The destinations ``otlp+grpc://`` and ``otlp+grpcs://``: requests over a channel of grpcio.

An answer is classified by the OTLP specification (1.11); as over HTTP, what the records may have caused is
refused, so that it is split down to the one record, and what somebody has to mend stops the destination.
"""

from __future__ import annotations

import os
import re
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from rimp_otel.errors import ConfigurationError, DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.outgoing import request_from_lines
from rimp_otel.otlp.requests import RequestFormat, decode_response
from rimp_otel.process import describe_error
from rimp_otel.transport.forwarding.destination import (
    Batch,
    Delivered,
    Destination,
    Outcome,
    Refused,
    RetryLater,
    SecretTexts,
    Stopped,
    destination_name,
    login_of,
    uninstrumented,
)
from rimp_otel.transport.forwarding.destination_options import DestinationOptions
from rimp_otel.transport.grpc_wire import (
    DETAILS_KEY,
    METHODS,
    claim_grpc,
    import_grpc,
    retry_delay_of,
)
from rimp_otel.transport.receiving.address import is_loopback_host

__all__ = ["GrpcDestination", "open_grpc"]

_DEFAULT_PORT = 4317
_MAX_REQUEST = 4 * 1024 * 1024
"""What receivers take by default, after decompression."""

_LARGEST_REQUEST = 64 * 1024 * 1024
"""More is never sent, and of an answer no more than 4 MiB is read, as the specification recommends."""

_MAX_ANSWER = 4 * 1024 * 1024

Metadata = tuple[tuple[str, str | bytes], ...]


def open_grpc(url: str, options: DestinationOptions) -> Destination:
    """Return the destination ``otlp+grpc://HOST[:PORT][?compression=gzip]``, or ``otlp+grpcs://`` with TLS.

    Raises:
        ConfigurationError: the URL or an option is not allowed, or a file cannot be read.
        MissingExtraError: the extra ``grpc`` is not installed.
    """
    return GrpcDestination(url, options)


class GrpcDestination:
    """Sends batches over gRPC, by ``open_grpc``. It connects when there is something to send.

    In the child of a process that has one, nothing can be sent, by this or by another.

    Args:
        url: of the destination.
        options: how to reach it.
    """

    def __init__(self, url: str, options: DestinationOptions) -> None:
        self.name = destination_name(url)
        self.max_request_size = options.max_request_size or _MAX_REQUEST
        parts, compression = _split_grpc_url(url, self.name)
        grpc = import_grpc()
        routes: list[tuple[DestinationOptions, _GrpcRoute]] = []
        self._routes: dict[Signal, _GrpcRoute] = {}
        for signal in Signal:
            own = options.of(signal)
            known = [route for other, route in routes if other == own]
            self._routes[signal] = route = (
                known[0] if known else _GrpcRoute(grpc, parts, self.name, own, compression)
            )
            routes.append((own, route))
        self._process = claim_grpc()

    def send(self, batch: Batch, timeout: float) -> Outcome:
        """Send a batch, and wait for the answer as long as the options say, or else for ``timeout``
        seconds. Raises nothing."""
        route = self._routes[batch.signal]
        try:
            if os.getpid() != self._process:
                return Stopped(
                    "gRPC cannot be used after a fork: forward from the process that uses it, or over"
                    " HTTP"
                )
            with uninstrumented():
                outcome = self._send(route, batch, route.timeout or timeout)
        except DecodeError as error:
            outcome = Refused(f"the records cannot be encoded: {error}")
        except Exception as error:
            outcome = RetryLater(f"the request to {route.place} failed: {describe_error(error)}")
        return route.secrets.hide_in(outcome)

    def close(self) -> None:
        """Close the channels. A ``send`` that runs meanwhile ends soon."""
        if os.getpid() == self._process:
            for route in self._routes.values():
                route.close()

    def _send(self, route: _GrpcRoute, batch: Batch, timeout: float) -> Outcome:
        body = request_from_lines(batch.signal, batch.lines, RequestFormat.PROTOBUF)
        # A single record is larger than usual requests at the receiver's risk.
        most = self.max_request_size if batch.records > 1 else _LARGEST_REQUEST
        if len(body) > most:
            return Refused(f"a request of {len(body):,} bytes is larger than {most:,}")
        return route.call(batch.signal, body, timeout)


# The way to the server: one for all signals with equal options.


class _GrpcRoute:
    """A channel, opened when it is needed, with what goes along with each call."""

    def __init__(
        self,
        grpc: Any,
        parts: SplitResult,
        name: str,
        options: DestinationOptions,
        compression: str | None,
    ) -> None:
        host = parts.hostname or ""
        port = parts.port or _DEFAULT_PORT
        shown_host = f"[{host}]" if ":" in host else host
        if options.encoding == "json":
            raise ConfigurationError(
                f"the encoding of {name} must be protobuf: give the address of OTLP/HTTP for JSON"
            )
        self._grpc = grpc
        self._has_tls = parts.scheme.lower() == "otlp+grpcs"
        #: Host and port, for messages.
        self.place = f"{shown_host}:{port}"
        self.timeout = options.timeout
        self._options = options
        self._metadata = _make_metadata(options.headers, login_of(parts), name)
        self.secrets = SecretTexts(_secrets_of_metadata(self._metadata, parts))
        compression = compression or options.compression
        has_gzip = compression == "gzip" or (compression is None and not is_loopback_host(host))
        kinds = grpc.Compression
        self._compression = kinds.Gzip if has_gzip else kinds.NoCompression
        self._lock = threading.Lock()
        self._channel: Any = None
        self._is_closed = self._was_answered = False
        self._errors = 0
        if self._has_tls:
            self._make_credentials()  # says now what is wrong with the files

    def call(self, signal: Signal, body: bytes, timeout: float) -> Outcome:
        """Call a signal's method, and return what became of it."""
        channel = self._open()
        if channel is None:
            return RetryLater("the destination is closed")
        method = channel.unary_unary(METHODS[signal])
        try:
            answer = method(
                body, timeout=timeout, metadata=self._metadata, compression=self._compression
            )
        except self._grpc.RpcError as error:
            outcome = self._classify(error)
            if isinstance(outcome, Stopped):
                self._drop(channel)  # the next one reads the files for TLS anew
            return outcome
        self._was_answered = True
        self._errors = 0
        rejected, message = decode_response(signal, RequestFormat.PROTOBUF, answer or b"")
        return Delivered(rejected, message)

    def close(self) -> None:
        """Close the channel for good."""
        with self._lock:
            self._is_closed = True
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _open(self) -> Any:
        with self._lock:
            if self._channel is None and not self._is_closed:
                options = [
                    ("grpc.max_receive_message_length", _MAX_ANSWER),
                    ("grpc.max_send_message_length", -1),
                    ("grpc.primary_user_agent", "rimp-otel"),
                    # The forwarder tries again, with pauses of its own.
                    ("grpc.enable_retries", 0),
                    ("grpc.initial_reconnect_backoff_ms", 100),
                    ("grpc.max_reconnect_backoff_ms", 1_000),
                    # No connection and no pause is shared with another channel of this process.
                    ("grpc.use_local_subchannel_pool", 1),
                    # Requests go to the address that is given, as over HTTP, and how is decided here:
                    # not by a variable that names a proxy, nor by a TXT record in the DNS.
                    ("grpc.enable_http_proxy", 0),
                    ("grpc.service_config_disable_resolution", 1),
                ]
                self._channel = (
                    self._grpc.secure_channel(self.place, self._make_credentials(), options)
                    if self._has_tls
                    else self._grpc.insecure_channel(self.place, options)
                )
            return self._channel

    def _drop(self, channel: Any) -> None:
        with self._lock:
            if self._channel is channel:
                self._channel = None
        channel.close()

    def _make_credentials(self) -> Any:
        options = self._options
        authorities = _read_pem(options.ca_file) if options.ca_file else _system_authorities()
        if not options.certificate_file:
            return self._grpc.ssl_channel_credentials(authorities)
        _check_pair(options.certificate_file, options.key_file, self.place)
        certificate = _read_pem(options.certificate_file)
        # A key may stand in the certificate's file.
        key = _read_pem(options.key_file) if options.key_file else certificate
        return self._grpc.ssl_channel_credentials(authorities, key, certificate)

    def _classify(self, error: Any) -> Outcome:
        """Return what a status means for the batch."""
        code, details = error.code().name, error.details() or ""
        reason = f"{self.place}{self._hint(details)}: {code}" + (f": {details}" if details else "")
        if code in _STOPPING:
            return Stopped(reason)
        if code == "UNAVAILABLE" and any(text in details for text in _DISTRUST):
            return Stopped(f"TLS with {self.place} failed: {details}")
        outcome = _classify_own(details, reason)
        if outcome is not None:
            return outcome
        if code in _RETRYABLE:
            return RetryLater(reason, _retry_delay(error))
        if code == "UNIMPLEMENTED":
            return Stopped(reason, is_signal_only=True)
        after = _retry_delay(error) if code == "RESOURCE_EXHAUSTED" else None
        if after is not None:
            return RetryLater(reason, after, is_throttled=True)
        return self._refuse(code, reason)

    def _hint(self, details: str) -> str:
        """Return what may be wrong where the first connection ends before anything is said, else ""."""
        if "http1.x" in details:
            return " (does it speak HTTP/1? That may be otlp+http://)"
        if self._was_answered:
            return ""
        if "WRONG_VERSION_NUMBER" in details:
            return " (does it speak without TLS? That is otlp+grpc://)"
        if "Socket closed" not in details:
            return ""
        if self._has_tls:
            return " (does it ask for a client's certificate?)"
        return " (does it speak TLS? That is otlp+grpcs://)"

    def _refuse(self, code: str, reason: str) -> Outcome:
        is_counted = code in _COUNTED or _UNCLEAR in reason
        self._errors = self._errors + 1 if is_counted else 0
        if self._errors < _MAX_ERRORS:
            return Refused(reason)
        self._errors = 0
        return Stopped(f"{reason} (as did {_MAX_ERRORS} requests in a row)", is_signal_only=True)


def _classify_own(details: str, reason: str) -> Outcome | None:
    """Return what a status means that grpc itself has made, for want of one; None of another."""
    if any(text in details for text in _NO_GRPC):
        return Stopped(f"{reason} (that is no answer of OTLP over gRPC)", is_signal_only=True)
    if any(text in details for text in _BROKEN):
        return RetryLater(reason)  # there was no answer
    found = _HTTP_STATUS.search(details)
    if found is None:
        return None
    status = int(found[1])
    if status in _RETRYABLE_HTTP:
        return RetryLater(reason, is_throttled=status == 429)
    if status in _REFUSING_HTTP:
        return Refused(reason)
    return Stopped(reason, is_signal_only=status in (404, 405))


def _retry_delay(error: Any) -> float | None:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return retry_delay_of(value)
    return None


# By the specification.
_RETRYABLE = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
_STOPPING = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})
# Of grpc's own texts, where no connection could be made since one end does not trust the other: that does
# not mend itself.
_DISTRUST = (
    "CERTIFICATE_VERIFY_FAILED",
    "Hostname Verification Check failed",
    "is not in peer certificate",
    "CERTIFICATE_REQUIRED",
    "UNKNOWN_CA",
    "BAD_CERTIFICATE",
)
_BROKEN = ("Received RST_STREAM with error code", "Failed parsing HTTP/2")
_HTTP_STATUS = re.compile(r"Received http2 header with status: (\d+)")
_RETRYABLE_HTTP = frozenset({429, 502, 503, 504})
# A proxy takes no request of this size, or fails at it.
_REFUSING_HTTP = frozenset({400, 408, 413, 422, 500})
_NO_GRPC = (
    "http1.x",
    "CLIENT: Received message larger than max",
    "received metadata size exceeds",
    # The answer ends without a status, as a web page does, or through a proxy that passes no trailers.
    "Data frame with END_STREAM flag received",
    "No status received",
)
# Both ends say this, of a request or of an answer.
_UNCLEAR = "Decompressed message larger than max"
_COUNTED = frozenset({"INTERNAL", "UNKNOWN"})
_MAX_ERRORS = 100
"""Such answers in a row after which it is the server that is broken, and no record."""


# What is given.


def _split_grpc_url(url: str, name: str) -> tuple[SplitResult, str | None]:
    """Return a destination's URL in parts, and the compression that its query asks for."""
    try:
        parts = urlsplit(url)
        is_right = parts.hostname and parts.port != 0 and parts.path in ("", "/")
    except ValueError:
        is_right = None
    if not is_right:
        raise ConfigurationError(
            "a destination over gRPC must be otlp+grpc://HOST:PORT or otlp+grpcs://HOST:PORT, got "
            f"{name!r}"
        )
    settings = dict(parse_qsl(parts.query, keep_blank_values=True))
    compression = settings.pop("compression", None)
    for key in settings:
        raise ConfigurationError(
            f"{name} has the parameter {key[:40]!r}, of which there is none: compression"
        )
    if compression not in (None, "gzip", "none"):
        raise ConfigurationError(
            f"compression of {name} must be gzip or none, got {compression[:40]!r}"
        )
    return parts, compression


def _make_metadata(headers: Mapping[str, str], login: str, name: str) -> Metadata:
    """Return the headers as gRPC's metadata.

    Raises:
        ConfigurationError: one cannot be metadata; its value is in no message.
    """
    found: dict[str, str | bytes] = {}
    if login:
        found["authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    for key, value in headers.items():
        lowered = key.lower()
        if lowered.startswith("grpc-") or not all(
            character.isalnum() or character in "-_." for character in lowered
        ):
            raise ConfigurationError(
                f"the header {key!r} of {name} cannot be metadata of gRPC: its name needs other characters"
                " than letters, digits, -, _ and ., or begins with grpc-"
            )
        if lowered.endswith("-bin"):
            found[lowered] = value.encode()
        elif value.isascii():
            found[lowered] = value.strip()
        else:
            raise ConfigurationError(f"the header {key!r} of {name} must be ASCII over gRPC")
    return tuple(found.items())


def _secrets_of_metadata(metadata: Metadata, parts: SplitResult) -> Iterator[str]:
    login = login_of(parts)
    yield from (login, login.partition(":")[2])
    for _, value in metadata:
        yield value.decode() if isinstance(value, bytes) else value


def _check_pair(certificate: str, key: str | None, place: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(certificate, key, lambda: "")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"cannot use {certificate} as the client's certificate for {place}: {reason}"
        ) from None


def _read_pem(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None


def _system_authorities() -> bytes | None:
    """Return the certificates that this system trusts; None for those that grpc brings along."""
    if "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH" in os.environ:
        return None  # grpc reads them itself
    path = ssl.get_default_verify_paths().cafile
    if path is not None:
        with suppress(OSError), open(path, "rb") as file:
            return file.read()
    return None
