"""What stands in front of every route: names of hosts, origins of web pages, tokens, and no 500."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rimp_otel.process import Reporter, describe_error
from rimp_otel.transport.receiving.http_answers import Headers, header_of, send_answer, send_error
from rimp_otel.transport.receiving.intake import Intake, Unavailable
from rimp_otel.transport.receiving.security import ServerSecurity

__all__ = ["HttpGuard"]

_PREFLIGHT_AGE = b"3600"


class HttpGuard:
    """An ASGI application that lets to another one what may come in.

    Args:
        application: what is guarded.
        security: who may come in.
        intake: counts what may not.
    """

    def __init__(self, application: ASGIApp, security: ServerSecurity, intake: Intake) -> None:
        self._application = application
        self._security = security
        self._intake = intake
        self._reporter = Reporter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have the application do so."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        sender = _Sender(send)
        try:
            await self._let_in(scope, receive, sender)
        except asyncio.CancelledError:  # a graceful stop that takes too long
            self._intake.count_refused("stopping")
            if not sender.has_started:
                await send_answer(sender, 503, "text/plain", b"", [(b"retry-after", b"1")])
        except Exception as error:  # never a 500, which makes senders drop the records
            message = f"a request could not be answered: {describe_error(error)}"
            self._reporter.warn("answer", message)
            answer = self._intake.refuse("error", Unavailable("the receiver has failed", 5))
            if not sender.has_started and isinstance(answer, Unavailable):
                retry = [(b"retry-after", str(answer.retry_after).encode())]
                await send_error(scope, receive, sender, 503, answer.reason, retry)

    async def _let_in(self, scope: Scope, receive: Receive, sender: _Sender) -> None:
        host = header_of(scope, b"host")
        if not self._security.is_allowed_host(host):
            message = (
                f"the host {host!r} is not allowed: start rimp serve with --allow-host {host}, "
                "or send to the server's IP address"
            )
            await self._refuse("host", scope, receive, sender, 403, message)
            return
        origin = header_of(scope, b"origin")
        if origin:
            is_listed = self._security.is_allowed_origin(origin)
            if not is_listed and origin.lower() != f"{scope['scheme']}://{host}".lower():
                message = (
                    f"the origin {origin!r} is not allowed: start rimp serve with --allow-origin "
                    f"{origin}"
                )
                await self._refuse("origin", scope, receive, sender, 403, message)
                return
            if is_listed:
                sender.add(_origin_headers(origin))
            if scope["method"] == "OPTIONS" and header_of(scope, b"access-control-request-method"):
                start = {"status": 204, "headers": _preflight_headers(scope)}
                await sender({"type": "http.response.start", **start})
                await sender({"type": "http.response.body"})
                return
        if not self._security.is_authorized(header_of(scope, b"authorization")):
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
        self._intake.count_refused(reason)
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
