"""The destinations ``otlp+grpc://`` and ``otlp+grpcs://``: requests over a channel of grpcio."""

from __future__ import annotations

import os
import ssl
import threading
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from rimp_otel.errors import ConfigurationError, DecodeError
from rimp_otel.otlp.outgoing import request_from_lines
from rimp_otel.otlp.requests import RequestFormat, decode_response
from rimp_otel.process import describe_error
from rimp_otel.transport.address import is_loopback_host
from rimp_otel.transport.destination import (
    Batch,
    Delivered,
    Destination,
    DestinationOptions,
    Outcome,
    Refused,
    RetryLater,
    Stopped,
    destination_name,
)
from rimp_otel.transport.grpc_wire import (
    DETAILS_KEY,
    METHODS,
    clean_text,
    import_grpc,
    retry_delay_of,
)

__all__ = ["GrpcDestination", "open_grpc"]

_DEFAULT_PORT = 4317
# What receivers take by default, after decompression, and what is read of an answer.
_MAX_REQUEST = 4 * 1024 * 1024
_MAX_RESPONSE = 4 * 1024 * 1024
_SECRET_LENGTH = 4

# By the specification of OTLP.
_RETRYABLE = frozenset(
    {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}
)
_STOPPING = frozenset({"UNAUTHENTICATED", "PERMISSION_DENIED"})
# Of grpc's own texts, where no connection could be made since one end does not trust the other.
_DISTRUST = (
    "CERTIFICATE_VERIFY_FAILED",
    "is not in peer certificate",
    "Hostname Verification Check failed",
    "certificate required",
    "CERTIFICATE_REQUIRED",
    "UNKNOWN_CA",
    "BAD_CERTIFICATE",
)
_RESET = "Received RST_STREAM"


def open_grpc(url: str, options: DestinationOptions) -> Destination:
    """Return the destination ``otlp+grpc://HOST[:PORT]``, or ``otlp+grpcs://`` with TLS.

    Raises:
        ConfigurationError: the URL or an option is not allowed, or a file cannot be read.
        MissingExtraError: the extra ``grpc`` is not installed.
    """
    return GrpcDestination(url, options)


class GrpcDestination:
    """Sends batches over gRPC, by ``open_grpc``. It connects when there is something to send.

    A channel does not outlive a fork: in the child nothing can be sent.
    """

    def __init__(self, url: str, options: DestinationOptions) -> None:
        self.name = destination_name(url)
        self.max_request_size = options.max_request_size or _MAX_REQUEST
        parts = _split_url(url, self.name)
        self._grpc = import_grpc()
        self._target = f"{_bracketed(parts.hostname or '')}:{parts.port or _DEFAULT_PORT}"
        self._has_tls = parts.scheme.lower() == "otlp+grpcs"
        _check_options(self.name, options, self._has_tls)
        self._options = options
        self._metadata = _metadata_of(self.name, options.headers, parts)
        self._secrets = _secrets_of(self._metadata, parts)
        has_gzip = options.compression == "gzip" or (
            options.compression is None and not is_loopback_host(parts.hostname or "")
        )
        compression = self._grpc.Compression
        self._compression = compression.Gzip if has_gzip else compression.NoCompression
        self._opening = threading.Lock()
        self._channel: Any = None
        self._is_closed = self._was_answered = False
        self._process = os.getpid()
        if self._has_tls:
            self._make_credentials()  # says now what is wrong with the files

    def send(self, batch: Batch, timeout: float) -> Outcome:
        """Send a batch, and wait for the answer for ``timeout`` seconds at most. Raises nothing."""
        try:
            if os.getpid() != self._process:
                return Stopped(
                    "a gRPC channel cannot be used after a fork: open the destination in the process "
                    "that uses it"
                )
            return self._send(batch, timeout)
        except DecodeError as error:
            return Refused(self._hide(f"the records cannot be encoded: {error}"))
        except Exception as error:
            return RetryLater(self._hide(f"the request could not be made: {describe_error(error)}"))

    def close(self) -> None:
        """Close the channel. A ``send`` that runs meanwhile ends soon."""
        with self._opening:
            self._is_closed = True
            channel, self._channel = self._channel, None
        if channel is not None and os.getpid() == self._process:
            channel.close()

    def _send(self, batch: Batch, timeout: float) -> Outcome:
        body = request_from_lines(batch.signal, batch.lines, RequestFormat.PROTOBUF)
        if len(body) > self.max_request_size and batch.records > 1:
            return Refused(
                f"a request of {len(body):,} bytes is larger than {self.max_request_size:,}"
            )
        channel = self._open_channel()
        if channel is None:
            return RetryLater("the destination is closed")
        call = channel.unary_unary(METHODS[batch.signal])
        try:
            answer = call(
                body, timeout=timeout, metadata=self._metadata, compression=self._compression
            )
        except self._grpc.RpcError as error:
            outcome = self._outcome_of(error)
            if isinstance(outcome, Stopped):
                self._drop_channel(channel)  # the next one reads the files for TLS anew
            return outcome
        self._was_answered = True
        rejected, message = decode_response(batch.signal, RequestFormat.PROTOBUF, answer)
        return Delivered(rejected, self._hide(message))

    # The channel.

    def _open_channel(self) -> Any:
        with self._opening:
            if self._channel is None and not self._is_closed:
                options = [
                    ("grpc.max_receive_message_length", _MAX_RESPONSE),
                    ("grpc.max_send_message_length", -1),
                    ("grpc.primary_user_agent", "rimp-otel"),
                    # The forwarder tries again, with pauses of its own.
                    ("grpc.enable_retries", 0),
                    ("grpc.initial_reconnect_backoff_ms", 100),
                    ("grpc.max_reconnect_backoff_ms", 1_000),
                    # No connection and no pause is shared with another channel of this process.
                    ("grpc.use_local_subchannel_pool", 1),
                    # How to call is decided here, not by a TXT record in the DNS.
                    ("grpc.service_config_disable_resolution", 1),
                ]
                if self._has_tls:
                    self._channel = self._grpc.secure_channel(
                        self._target, self._make_credentials(), options
                    )
                else:
                    self._channel = self._grpc.insecure_channel(self._target, options)
            return self._channel

    def _drop_channel(self, channel: Any) -> None:
        with self._opening:
            if self._channel is channel:
                self._channel = None
        channel.close()

    def _make_credentials(self) -> Any:
        options = self._options
        authorities = _read_file(options.ca_file) if options.ca_file else _system_authorities()
        if not options.certificate_file:
            return self._grpc.ssl_channel_credentials(authorities)
        certificate = _read_file(options.certificate_file)
        # A key may stand in the certificate's file.
        key = _read_file(options.key_file) if options.key_file else certificate
        return self._grpc.ssl_channel_credentials(authorities, key, certificate)

    # Answers.

    def _outcome_of(self, error: Any) -> Outcome:
        code = error.code().name
        details = error.details() or ""
        reason = self._hide(f"{code}: {details}" if details else code) + self._hint(details)
        if any(text in details for text in _DISTRUST) and code == "UNAVAILABLE":
            return Stopped(reason)
        if code in _STOPPING:
            return Stopped(reason)
        if code == "UNIMPLEMENTED":
            return Stopped(reason, is_signal_only=True)
        if code in _RETRYABLE or code == "RESOURCE_EXHAUSTED":
            after = _retry_delay(error)
            if code in _RETRYABLE or after is not None:
                is_throttled = code == "RESOURCE_EXHAUSTED"
                return RetryLater(reason, after, is_throttled)
        if details.startswith(_RESET):
            return RetryLater(reason)  # a disconnection: there was no answer
        return Refused(reason)

    def _hint(self, details: str) -> str:
        """Return what may be wrong where the first connection ends before anything is said, else ""."""
        if self._was_answered:
            return ""
        if "WRONG_VERSION_NUMBER" in details:
            return " (does it speak without TLS? That is otlp+grpc://)"
        if "Socket closed" not in details:
            return ""
        if self._has_tls:
            return " (does it ask for a client's certificate?)"
        return " (does it speak TLS? That is otlp+grpcs://)"

    def _hide(self, text: str) -> str:
        """Return a text without what is secret, should the server have said it."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return clean_text(text)


def _retry_delay(error: Any) -> float | None:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return retry_delay_of(value)
    return None


# What is given.


def _split_url(url: str, name: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.hostname and parts.port != 0 and parts.path in ("", "/") and not parts.query:
            return parts
    except ValueError:
        pass
    raise ConfigurationError(
        f"a destination over gRPC must be otlp+grpc://HOST:PORT or otlp+grpcs://HOST:PORT, got {name!r}"
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _check_options(name: str, options: DestinationOptions, has_tls: bool) -> None:
    if options.encoding not in (None, "protobuf"):
        raise ConfigurationError(
            f"the encoding of {name} must be protobuf, got {options.encoding!r}: give the address of "
            "OTLP/HTTP for another"
        )
    if options.compression not in (None, "gzip", "none"):
        raise ConfigurationError(
            f"the compression of {name} must be gzip or none, got {options.compression!r}"
        )
    if has_tls and options.key_file and not options.certificate_file:
        raise ConfigurationError(f"a key for {name} needs its certificate too")
    if has_tls and options.certificate_file:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_cert_chain(options.certificate_file, options.key_file, lambda: "")
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"cannot use {options.certificate_file} as the client's certificate for {name}: "
                f"{getattr(error, 'reason', None) or getattr(error, 'strerror', None) or error}"
            ) from None


def _metadata_of(
    name: str, headers: Mapping[str, str], parts: SplitResult
) -> tuple[tuple[str, str | bytes], ...]:
    """Return the headers as gRPC's metadata.

    Raises:
        ConfigurationError: one cannot be metadata; its value is in no message.
    """
    found: dict[str, str | bytes] = {}
    for key, value in headers.items():
        lowered = key.strip().lower()
        is_allowed = lowered and all(char.isalnum() or char in "-_." for char in lowered)
        if not (is_allowed and lowered.isascii() and value.isascii() and value.isprintable()):
            raise ConfigurationError(
                f"a header for {name} must be printable ASCII, and is not: {key!r}"
            )
        if lowered.startswith("grpc-"):
            raise ConfigurationError(f"a header for {name} must not be one of gRPC's own: {key!r}")
        found[lowered] = value.encode() if lowered.endswith("-bin") else value.strip()
    if parts.username is not None and "authorization" not in found:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        found["authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    return tuple(found.items())


def _secrets_of(
    metadata: tuple[tuple[str, str | bytes], ...], parts: SplitResult
) -> tuple[str, ...]:
    """Return what no text may hold, the longest first."""
    found = {unquote(parts.password or ""), parts.password or ""}
    for _, value in metadata:
        text = value.decode() if isinstance(value, bytes) else value
        found |= {text, text.partition(" ")[2].strip()}
    return tuple(
        sorted((text for text in found if len(text) >= _SECRET_LENGTH), key=len, reverse=True)
    )


def _read_file(path: str) -> bytes:
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
