"""What stands in front of every route: names of hosts, origins of web pages, tokens, and no 500."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rimp_otel.process import Reporter, describe_error
from rimp_otel.transport.receiving.http_answers import Headers, header_of, send_answer, send_error
from rimp_otel.transport.receiving.security import ServerSecurity

__all__ = ["HttpGuard"]

_PREFLIGHT_AGE = b"3600"
_RETRY_AFTER = b"5"

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Of answers that browsers show: recorded text stays text, and no other page gets hold of it.
_BROWSER_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_OTLP_PREFIX = "/v1/"
# Of pages of other sites, for their images and scripts: browsers send no Origin with these.
_FOREIGN_SITES = frozenset({"cross-site", "same-site"})


class HttpGuard:
    """An ASGI application that lets to another one what may come in.

    Args:
        application: what is guarded.
        security: who may come in.
        count_refused: called with a word for why a request may not.
        open_paths: those that are read without a token, such as a page's own files.
    """

    def __init__(
        self,
        application: ASGIApp,
        security: ServerSecurity,
        count_refused: Callable[[str], object],
        open_paths: Container[str] = (),
    ) -> None:
        self._application = application
        self._security = security
        self._count_refused = count_refused
        self._open_paths = open_paths
        self._reporter = Reporter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have the application do so."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        sender = _Sender(send)
        if not scope["path"].startswith(_OTLP_PREFIX):
            sender.add(_BROWSER_HEADERS)
        try:
            await self._let_in(scope, receive, sender)
        except asyncio.CancelledError:  # a graceful stop that takes too long
            self._count_refused("stopping")
            if not sender.has_started:
                await send_answer(sender, 503, "text/plain", b"", [(b"retry-after", b"1")])
        except Exception as error:  # never a 500, which makes senders drop the records
            message = f"a request could not be answered: {describe_error(error)}"
            self._reporter.warn("answer", message)
            self._count_refused("error")
            if not sender.has_started:
                retry = [(b"retry-after", _RETRY_AFTER)]
                await send_error(scope, receive, sender, 503, "the receiver has failed", retry)

    async def _let_in(self, scope: Scope, receive: Receive, sender: _Sender) -> None:
        host = header_of(scope, b"host")
        if not self._security.is_allowed_host(host):
            message = f"the host {host!r} is not allowed: {self._security.describe_host(host)}"
            await self._refuse("host", scope, receive, sender, 403, message)
            return
        origin = header_of(scope, b"origin")
        if not origin and _is_of_foreign_page(scope):
            message = "a page of another site asks, whose origin the browser does not tell"
            await self._refuse("origin", scope, receive, sender, 403, message)
            return
        if origin:
            # Other pages may be let send, but not read what is recorded.
            is_sent = scope["path"].startswith(_OTLP_PREFIX)
            is_listed = is_sent and self._security.is_allowed_origin(origin)
            if not is_listed and origin.lower() != f"{scope['scheme']}://{host}".lower():
                cure = "only the page itself may ask"
                if is_sent:
                    cure = f"start rimp serve with --allow-origin {origin}"
                message = f"the origin {origin!r} is not allowed: {cure}"
                await self._refuse("origin", scope, receive, sender, 403, message)
                return
            if is_listed:
                sender.add(_origin_headers(origin))
            if scope["method"] == "OPTIONS" and header_of(scope, b"access-control-request-method"):
                start = {"status": 204, "headers": _preflight_headers(scope)}
                await sender({"type": "http.response.start", **start})
                await sender({"type": "http.response.body"})
                return
        is_open = scope["path"] in self._open_paths and scope["method"] in ("GET", "HEAD")
        if not is_open and not self._security.is_authorized(header_of(scope, b"authorization")):
            message = "the token is missing or wrong: send the header Authorization: Bearer TOKEN"
            challenge = [(b"www-authenticate", b'Bearer realm="rimp"')]
            await self._refuse("unauthorized", scope, receive, sender, 401, message, challenge)
            return
        await self._application(scope, receive, sender)

    async def _refuse(
        self,
        reason: str,
        scope: Scope,
        receive: Receive,
        sender: _Sender,
        status: int,
        message: str,
        headers: Headers = (),
    ) -> None:
        self._count_refused(reason)
        await send_error(scope, receive, sender, status, message, headers)


class _Sender:
    """Sends messages, with further headers."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._headers: Headers = ()
        #: True once an answer has begun.
        self.has_started = False

    def add(self, headers: Headers) -> None:
        """Add headers to the answer."""
        self._headers = [*self._headers, *headers]

    async def __call__(self, message: Message) -> None:
        """Send a message."""
        if message["type"] == "http.response.start":
            self.has_started = True
            if self._headers:
                message = {**message, "headers": [*message["headers"], *self._headers]}
        await self._send(message)


def _is_of_foreign_page(scope: Scope) -> bool:
    """Return True if a browser asks for a page of another site, and not because somebody follows a link."""
    site = header_of(scope, b"sec-fetch-site")
    return site in _FOREIGN_SITES and header_of(scope, b"sec-fetch-mode") != "navigate"


def _origin_headers(origin: str) -> Headers:
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", b"retry-after"),
        (b"vary", b"origin"),
    ]


def _preflight_headers(scope: Scope) -> Headers:
    asked = header_of(scope, b"access-control-request-headers")
    return [
        (b"access-control-allow-methods", b"POST"),
        (b"access-control-allow-headers", (asked or "content-type").encode("latin-1")),
        (b"access-control-max-age", _PREFLIGHT_AGE),
    ]
