"""The contract of a destination, which a recording is forwarded to, and opening one by its URL.

A destination takes one batch at a time and says what became of it. What to do then (wait, split the
batch, set a record aside, stop) is decided by the forwarder alone, in the same way for all of them.
"""

from __future__ import annotations

import binascii
import importlib
import os
import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol, cast
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from opentelemetry import context as context_api

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import Signal
from rimp_otel.process import describe_error
from rimp_otel.streaming.worker import suppress_instrumentation
from rimp_otel.transport.forwarding.destination_options import DestinationOptions

__all__ = [
    "DESTINATION_GROUP",
    "Batch",
    "Delivered",
    "Destination",
    "DestinationOptions",
    "Outcome",
    "Refused",
    "RetryLater",
    "SecretTexts",
    "Stopped",
    "destination_name",
    "is_path",
    "known_schemes",
    "login_of",
    "open_destination",
    "uninstrumented",
]

DESTINATION_GROUP = "rimp_otel_destination"
"""The group of entry points of further destinations; their names are schemes of URLs."""

_BUILT_IN = {
    "clickhouse+http": "rimp_otel.transport.forwarding.clickhouse:open_clickhouse",
    "clickhouse+https": "rimp_otel.transport.forwarding.clickhouse:open_clickhouse",
    "file": "rimp_otel.transport.forwarding.otlp_file:open_file",
    "otlp+grpc": "rimp_otel.transport.forwarding.otlp_grpc:open_grpc",
    "otlp+grpcs": "rimp_otel.transport.forwarding.otlp_grpc:open_grpc",
    "otlp+http": "rimp_otel.transport.forwarding.otlp_http:open_http",
    "otlp+https": "rimp_otel.transport.forwarding.otlp_http:open_http",
}


# What is sent, and what became of it.


class Batch(NamedTuple):
    """Records of one signal that are sent in one request."""

    signal: Signal
    #: OTLP JSON without line ends; together they are the request.
    lines: Sequence[bytes]
    #: In all lines.
    records: int
    #: The same if the batch is sent again, also by the next process; for a destination that asks for that.
    token: str = ""


class Delivered(NamedTuple):
    """The batch was acknowledged."""

    #: Records of it that the destination refused all the same (a partial success).
    rejected: int = 0
    #: Why, or a warning where none is rejected.
    message: str = ""


class RetryLater(NamedTuple):
    """The batch was not taken now; the same one may be taken later."""

    reason: str
    #: Seconds that the destination asks to wait; None if it does not say.
    after: float | None = None
    #: True if it is the destination that is short of room (a 429, RESOURCE_EXHAUSTED): after some
    #: repetitions the batch is split too, since some say so of a batch that is too large.
    is_throttled: bool = False


class Refused(NamedTuple):
    """The batch will never be taken: it is split; one that is a single record is set aside."""

    reason: str


class Stopped(NamedTuple):
    """Nothing will be taken until somebody changes something (a 401, 403 or 404, a certificate).

    Nothing is dropped; the destination, or the signal, stops and says so.
    """

    reason: str
    #: True if other signals may still be taken (a 404 on one path, UNIMPLEMENTED).
    is_signal_only: bool = False


Outcome = Delivered | RetryLater | Refused | Stopped
"""What became of a batch."""


class Destination(Protocol):
    """Takes batches. One thread for each signal may call ``send`` at the same time.

    One that has ``knows_repetitions = True`` takes a batch that is sent again, under the same token, once: what
    is about to be sent is noted in the cursor, so that after a death the same batch is sent again. One that
    has ``portion_limits`` says how much is sent at once if the forwarder's options do not.
    """

    @property
    def name(self) -> str:
        """The URL without user, password and query, by ``destination_name``; it identifies the
        cursor."""

    @property
    def max_request_size(self) -> int:
        """Bytes that the text of a batch may have, so that its request is taken; not compressed."""

    def send(self, batch: Batch, timeout: float) -> Outcome:
        """Send a batch, and wait for the answer for ``timeout`` seconds at most, or as long as the
        destination's own options say. Raises nothing.

        No text of the outcome may hold a secret: a header's value, a password of the URL.
        """

    def close(self) -> None:
        """Close what is open. A ``send`` that runs meanwhile ends soon."""


# Opening one.


def destination_name(url: str) -> str:
    """Return a URL without what may be secret: user, password and query.

    A fragment stays, and is never sent: it tells two destinations apart that have one address, such
    as ``otlp+https://collector:4318#tenant-a``.
    """
    if is_path(url):
        return f"file://{os.path.abspath(url)}"
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:  # such as an address in brackets that is none
        return url.partition(":")[0]
    path = parts.path.rstrip("/") if host else parts.path
    return urlunsplit((parts.scheme, host, path, "", parts.fragment))


def login_of(parts: SplitResult) -> str:
    """Return the user and the password of a URL as ``user:password``; "" if it has none."""
    if parts.username is None:
        return ""
    return f"{unquote(parts.username)}:{unquote(parts.password or '')}"


def open_destination(url: str, options: DestinationOptions) -> Destination:
    """Return the destination that a URL names by its scheme.

    Further ones register a function of this signature as entry point of ``DESTINATION_GROUP``,
    named by the scheme. None of them replaces one that is built in.

    Raises:
        ConfigurationError: the URL or an option is not allowed.
        MissingExtraError: the destination needs a package that is not installed.
    """
    scheme = "file" if is_path(url) else url.partition(":")[0].lower()
    place = _BUILT_IN.get(scheme)
    if place is not None:
        module, _, name = place.partition(":")
        return _opener_in(importlib.import_module(module), name)(url, options)
    for entry_point in _entry_points():
        if entry_point.name.lower() == scheme:
            try:
                opener = entry_point.load()
            except Exception as error:
                raise ConfigurationError(
                    f"cannot load the destination {scheme!r}: {describe_error(error)}"
                ) from error
            return cast(_Opener, opener)(url, options)
    known = ", ".join(f"{name}:" for name in known_schemes())
    raise ConfigurationError(
        f"no destination has the scheme of {destination_name(url)!r}: give one of {known}"
    )


def is_path(url: str) -> bool:
    """Return True if a destination is a path of the file system, and not a URL."""
    return not _SCHEME.match(url)


_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def known_schemes() -> list[str]:
    """Return the schemes of all destinations, also of those that need a package to be installed."""
    return sorted({*_BUILT_IN, *(entry_point.name.lower() for entry_point in _entry_points())})


_Opener = Callable[[str, DestinationOptions], Destination]


class _EntryPoint(Protocol):
    @property
    def name(self) -> str: ...

    def load(self) -> object: ...


def _opener_in(module: object, name: str) -> _Opener:
    return cast(_Opener, getattr(module, name))


def _entry_points() -> list[_EntryPoint]:
    metadata = importlib.import_module("importlib.metadata")
    return list(metadata.entry_points(group=DESTINATION_GROUP))


# Sending.


@contextmanager
def uninstrumented() -> Iterator[None]:
    """Keep the instrumentation of clients from recording what is forwarded, which would be forwarded in turn."""
    token = context_api.attach(context_api.get_current())
    try:
        suppress_instrumentation()
        yield
    finally:
        context_api.detach(token)


# What is shown.

_SHORTEST_SECRET = 4
_MAX_MESSAGE = 300


class SecretTexts:
    """Keeps secrets out of what is shown: a server may repeat the token that it refuses.

    Args:
        texts: values of headers, passwords, parameters of URLs; none of them is shown, in any form
            in which it is sent. What is shorter than four characters is no secret.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        found = {
            form for text in texts for form in _forms_of(text) if len(form) >= _SHORTEST_SECRET
        }
        self._forms = sorted(found, key=len, reverse=True)

    def hide(self, text: str) -> str:
        """Return a text on one short line, printable, with ``***`` for each secret in it."""
        for form in self._forms:
            text = text.replace(form, "***")
        line = "".join(
            character if character.isprintable() else " " for character in " ".join(text.split())
        )
        return line if len(line) <= _MAX_MESSAGE else f"{line[: _MAX_MESSAGE - 3]}..."

    def hide_in(self, outcome: Outcome) -> Outcome:
        """Return an outcome whose text has no secret."""
        if isinstance(outcome, Delivered):
            return (
                outcome._replace(message=self.hide(outcome.message)) if outcome.message else outcome
            )
        return outcome._replace(reason=self.hide(outcome.reason))


def _forms_of(text: str) -> Iterator[str]:
    """Yield a text, the credentials after a scheme such as ``Bearer``, and each as it may be written."""
    for part in (text, text.partition(" ")[2].strip()):
        yield from (part, unquote(part), quote(part), quote(part, safe=""))
        try:
            login = b64decode(part, validate=True).decode()
        except (binascii.Error, ValueError):
            continue
        if ":" in login and login.isprintable():  # a user and a password
            yield from (login, login.partition(":")[2])
