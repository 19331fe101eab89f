"""The destinations ``otlp+http://`` and ``otlp+https://``: requests by the standard library's HTTP client.

An answer is classified by the OTLP specification (1.11), and where that would drop records, by the rule
that nothing is dropped silently: what the records may have caused is refused, so that it is split down to
the one record; what somebody has to mend stops the destination.
"""

from __future__ import annotations

import gzip
import http.client
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import SplitResult, parse_qsl, urlsplit

from rimp_otel.errors import ConfigurationError, DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.outgoing import request_from_lines
from rimp_otel.otlp.requests import RequestFormat, decode_response, decode_status
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
from rimp_otel.transport.receiving.address import is_loopback_host
from rimp_otel.transport.receiving.http_connection import (
    MAX_ANSWER_SIZE,
    HttpAnswer,
    HttpConnection,
)

__all__ = ["HttpDestination", "open_http"]

_DEFAULT_PORTS = {"http": 4318, "https": 443}
_USUAL_REQUEST = 20 * 1024 * 1024
"""Bytes that the Collector's receiver takes by default, after decompression."""

_LARGEST_REQUEST = 64 * 1024 * 1024
"""More is never sent, as the specification recommends."""

_PATHS = {Signal.TRACES: "/v1/traces", Signal.LOGS: "/v1/logs", Signal.METRICS: "/v1/metrics"}
_FORMATS = {"protobuf": RequestFormat.PROTOBUF, "json": RequestFormat.JSON}
_COMPRESSION_LEVEL = 1


def open_http(url: str, options: DestinationOptions) -> Destination:
    """Return the destination ``otlp+http://HOST[:PORT][/PREFIX][?encoding=json&compression=gzip]``, or
    ``otlp+https://`` with TLS.

    Raises:
        ConfigurationError: the URL or an option is not allowed, or a file cannot be read.
    """
    return HttpDestination(url, options)


class HttpDestination:
    """Sends batches over HTTP, by ``open_http``. It connects when there is something to send.

    Args:
        url: of the destination.
        options: how to reach it.
        clock: returns monotonic seconds.
        wall_clock: returns seconds since the epoch, for the dates of ``Retry-After``.
    """

    def __init__(
        self,
        url: str,
        options: DestinationOptions,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = destination_name(url)
        # A single record may be as large as a request can be, a batch as large as requests usually are.
        self.max_request_size = options.max_request_size or _LARGEST_REQUEST
        self._usual_size = options.max_request_size or _USUAL_REQUEST
        self._wall_clock = wall_clock
        self._routes = {
            signal: _make_route(url, self.name, signal, options.of(signal), clock)
            for signal in Signal
        }

    def send(self, batch: Batch, timeout: float) -> Outcome:
        """Send a batch, and wait for the answer as long as the options say, or else for ``timeout``
        seconds. Raises nothing."""
        route = self._routes[batch.signal]
        try:
            with uninstrumented():
                outcome = self._send(route, batch, route.timeout or timeout)
        except DecodeError as error:
            outcome = Refused(f"the records cannot be encoded: {error}")
        except Exception as error:
            outcome = _outcome_of_error(error, route)
        return route.secrets.hide_in(outcome)

    def close(self) -> None:
        """Close the connections. A ``send`` that runs meanwhile ends soon."""
        for route in self._routes.values():
            route.connection.close()

    def _send(self, route: _Route, batch: Batch, timeout: float) -> Outcome:
        body = request_from_lines(batch.signal, batch.lines, route.format)
        most = self._usual_size if batch.records > 1 else _LARGEST_REQUEST
        if len(body) > most:
            return Refused(f"a request of {len(body):,} bytes is larger than {most:,}")
        if route.has_gzip:
            body = gzip.compress(body, _COMPRESSION_LEVEL, mtime=0)
        answer = route.connection.post(route.target, body, route.headers, timeout)
        outcome = _classify(answer, batch.signal, route, self._wall_clock)
        return route.note(answer.status, outcome)


# One route for each signal.


class _Route:
    """The way of one signal's requests."""

    def __init__(
        self,
        connection: HttpConnection,
        place: str,
        target: str,
        headers: Mapping[str, str | bytes],
        request_format: RequestFormat,
        has_gzip: bool,
        timeout: float | None,
        secrets: SecretTexts,
    ) -> None:
        self.connection = connection
        #: Scheme, host, port and path, for messages.
        self.place = place
        self.target = target
        self.headers = headers
        self.format = request_format
        self.has_gzip = has_gzip
        self.timeout = timeout
        self.secrets = secrets
        self._errors = 0

    def note(self, status: int, outcome: Outcome) -> Outcome:
        """Return the outcome; Stopped where the server has failed at too many requests in a row."""
        self._errors = self._errors + 1 if status == HTTPStatus.INTERNAL_SERVER_ERROR else 0
        if self._errors < _MAX_ERRORS:
            return outcome
        self._errors = 0
        reason = getattr(outcome, "reason", "")
        return Stopped(f"{reason} (as did {_MAX_ERRORS} requests in a row)", is_signal_only=True)


_MAX_ERRORS = 100
"""Answers of 500 in a row after which it is the server that is broken, and no record."""


def _make_route(
    url: str, name: str, signal: Signal, options: DestinationOptions, clock: Callable[[], float]
) -> _Route:
    if options.endpoint:
        parts = _split_endpoint(options.endpoint, signal)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        settings: dict[str, str] = {}
    else:
        parts, settings = _split_url(url, name)
        target = parts.path.rstrip("/") + _PATHS[signal]
    scheme = parts.scheme.lower().removeprefix("otlp+")
    host = parts.hostname or ""
    default_port = (
        _DEFAULT_PORTS[scheme] if not options.endpoint else {"http": 80, "https": 443}[scheme]
    )
    port = parts.port or default_port
    context = _make_tls_context(options, name) if scheme == "https" else None
    encoding = settings.get("encoding") or options.encoding or "protobuf"
    compression = settings.get("compression") or options.compression
    has_gzip = compression == "gzip" or (compression is None and not is_loopback_host(host))
    login = login_of(parts)
    headers = _make_headers(options.headers, login, _FORMATS[encoding], has_gzip)
    shown_host = f"[{host}]" if ":" in host else host
    return _Route(
        HttpConnection(host, port, context, clock),
        f"{scheme}://{shown_host}:{port}{target.partition('?')[0]}",
        _quote_target(target),
        headers,
        _FORMATS[encoding],
        has_gzip,
        options.timeout,
        SecretTexts(_secrets_of(login, headers, parts.query if options.endpoint else "")),
    )


def _split_url(url: str, name: str) -> tuple[SplitResult, dict[str, str]]:
    """Return a destination's URL in parts, and the settings in its query."""
    parts = _split_if_valid(url)
    if parts is None or parts.scheme.lower() not in ("otlp+http", "otlp+https"):
        raise ConfigurationError(
            f"a destination over HTTP must be otlp+http://HOST:PORT or otlp+https://HOST:PORT, got {name!r}"
        )
    settings = dict(parse_qsl(parts.query, keep_blank_values=True))
    for key, value in settings.items():
        choices = {"encoding": ("protobuf", "json"), "compression": ("gzip", "none")}.get(key)
        if choices is None:
            raise ConfigurationError(
                f"{name} has the parameter {key[:40]!r}, of which there is none: encoding or compression"
            )
        if value not in choices:
            raise ConfigurationError(
                f"{key} of {name} must be {' or '.join(choices)}, got {value[:40]!r}"
            )
    return parts, settings


def _split_endpoint(endpoint: str, signal: Signal) -> SplitResult:
    parts = _split_if_valid(endpoint)
    if parts is None or parts.scheme.lower() not in ("http", "https"):
        raise ConfigurationError(
            f"the endpoint of {signal.value} must be a URL such as http://localhost:4318{_PATHS[signal]}"
        )
    return parts


def _split_if_valid(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        return parts if parts.hostname and parts.port != 0 else None
    except ValueError:  # such as a port that is none
        return None


def _quote_target(target: str) -> str:
    """Return a path and query as they can stand in a request's first line."""
    return "".join(
        character
        if "!" <= character <= "~"
        else "".join(f"%{byte:02X}" for byte in character.encode())
        for character in target
    )


def _secrets_of(login: str, headers: Mapping[str, str | bytes], query: str) -> Iterator[str]:
    yield from (login, login.partition(":")[2], query)
    yield from (value for _, value in parse_qsl(query))
    for name, value in headers.items():
        if name.lower() not in ("user-agent", "content-type", "content-encoding"):
            yield value.decode() if isinstance(value, bytes) else value


def _make_headers(
    given: Mapping[str, str], login: str, request_format: RequestFormat, has_gzip: bool
) -> dict[str, str | bytes]:
    headers: dict[str, str | bytes] = {
        "User-Agent": "rimp-otel",
        "Content-Type": request_format.value,
    }
    if has_gzip:
        headers["Content-Encoding"] = "gzip"
    if login and "authorization" not in {name.lower() for name in given}:
        headers["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
    for name, value in given.items():
        headers = {known: text for known, text in headers.items() if known.lower() != name.lower()}
        headers[name] = value.encode()
    return headers


def _make_tls_context(options: DestinationOptions, name: str) -> ssl.SSLContext:
    """Return what TLS needs.

    Raises:
        ConfigurationError: a file cannot be read, or holds something else.
    """
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"cannot use {options.ca_file} as the certificates that {name} is known by: {_short(error)}"
        ) from None
    if options.certificate_file:
        try:
            # An encrypted key would have the terminal asked for its password.
            context.load_cert_chain(options.certificate_file, options.key_file, lambda: "")
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"cannot use {options.certificate_file} as the client's certificate for {name}:"
                f" {_short(error)}"
            ) from None
    return context


# Answers.

_RETRYABLE = frozenset({429, 502, 503, 504})
# What the records of the batch may have caused. 500 is here, as INTERNAL is over gRPC: it may not be
# repeated, and half of the batch is another request.
_REFUSING = frozenset({400, 408, 413, 422, 500})
# What is wrong with the path, and not with the server.
_OF_ONE_SIGNAL = frozenset({404, 405, 410, 501})


def _classify(
    answer: HttpAnswer, signal: Signal, route: _Route, wall_clock: Callable[[], float]
) -> Outcome:
    """Return what an answer means for the batch."""
    status = answer.status
    reason = f"{route.place} answered {_describe_status(status)}"
    if answer.is_too_large:
        return Stopped(
            f"{reason} with more than {MAX_ANSWER_SIZE // 1024**2} MiB, which is no answer of OTLP",
            is_signal_only=True,
        )
    if 200 <= status < 300:
        return _read_success(answer, signal, route, reason)
    if 300 <= status < 400:
        target = _describe_target(answer.headers.get("Location", ""))
        return Stopped(f"{reason}: it redirects{target}, which is not followed; give that address")
    message = _words_of(answer)
    reason = f"{reason}: {message}" if message else reason
    if status in _RETRYABLE:
        return RetryLater(reason, _read_retry_after(answer, wall_clock), status == 429)
    if status in (400, 415) and route.format is RequestFormat.JSON:
        reason += " (the request was JSON, which not all receivers take: try protobuf)"
    elif status == 415:
        reason += " (the request was protobuf: try JSON)"
    if status in _REFUSING:
        return Refused(reason)
    return Stopped(reason, is_signal_only=status in _OF_ONE_SIGNAL)


def _read_success(answer: HttpAnswer, signal: Signal, route: _Route, reason: str) -> Outcome:
    content_type = answer.content_type
    if content_type in ("text/html", "application/xhtml+xml"):
        return Stopped(
            f"{reason} with a web page, which is no answer of OTLP: is this the right address?",
            is_signal_only=True,
        )
    answer_format = route.format
    for known in RequestFormat:
        if content_type == known.value:
            answer_format = known
    rejected, message = decode_response(signal, answer_format, answer.body)
    return Delivered(rejected, message)


def _describe_status(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _describe_target(location: str) -> str:
    """Return where a redirection leads, without what may be secret."""
    parts = _split_if_valid(location)
    if parts is None:
        path = location.partition("?")[0].partition("#")[0]
        return f" to {path}" if path and "@" not in path else ""
    port = f":{parts.port}" if parts.port else ""
    return f" to {parts.scheme}://{parts.hostname}{port}{parts.path}"


_QUOTED_SIZE = 4_096


def _words_of(answer: HttpAnswer) -> str:
    """Return what an answer says in words; nothing of a web page."""
    message = decode_status(answer.body, answer.content_type)
    if message:
        return message[:_QUOTED_SIZE]
    if answer.content_type in ("text/plain", "application/json", "application/problem+json"):
        return answer.body[:_QUOTED_SIZE].decode("utf-8", "replace")
    return ""


def _read_retry_after(answer: HttpAnswer, wall_clock: Callable[[], float]) -> float | None:
    """Return the seconds that ``Retry-After`` asks for, which has seconds or a date."""
    text = str(answer.headers.get("Retry-After", "")).strip()
    if text.isascii() and text.isdigit():
        return float(text[:18])
    try:
        date = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    now = datetime.fromtimestamp(wall_clock(), timezone.utc)
    return max((date - now).total_seconds(), 0.0)


# Errors.

_HANGING_UP = (
    http.client.RemoteDisconnected,
    ConnectionResetError,
    BrokenPipeError,
    ssl.SSLEOFError,
    ssl.SSLZeroReturnError,
)
# Of OpenSSL, where one end does not trust the other: that does not mend itself.
_DISTRUST = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE_FAILURE")


def _outcome_of_error(error: Exception, route: _Route) -> Outcome:
    place = route.place
    if isinstance(error, ssl.SSLCertVerificationError):
        return Stopped(f"the certificate of {place} is not accepted: {error.verify_message}")
    if isinstance(error, _HANGING_UP):
        return RetryLater(f"{place} closed the connection without an answer")
    if isinstance(error, ssl.SSLError):
        words = _short(error).replace("_", " ").lower()  # such as TLSV13_ALERT_CERTIFICATE_REQUIRED
        reason = f"TLS with {place} failed: {words}"
        is_distrust = any(word in (error.reason or "") for word in _DISTRUST)
        return Stopped(reason) if is_distrust else RetryLater(reason)
    if isinstance(error, TimeoutError):
        return RetryLater(f"{place} did not answer in time")
    if isinstance(error, socket.gaierror):
        return RetryLater(f"the name in {place} cannot be resolved: {_short(error)}")
    if isinstance(error, http.client.IncompleteRead):
        return RetryLater(f"{place} closed the connection within its answer")
    if isinstance(error, http.client.HTTPException):
        return RetryLater(f"the answer of {place} is not HTTP ({type(error).__name__})")
    if isinstance(error, OSError):
        return RetryLater(f"cannot reach {place}: {_short(error)}")
    return RetryLater(f"the request to {place} failed: {describe_error(error)}")


def _short(error: Exception) -> str:
    """Return why, in the few words of the system."""
    reason = getattr(error, "reason", None)
    return str(reason or getattr(error, "strerror", None) or error)
