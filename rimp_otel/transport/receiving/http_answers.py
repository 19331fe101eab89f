"""Answers over HTTP: errors as a ``Status`` in the request's content type."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from rimp_otel.otlp.requests import RequestFormat, encode_status

__all__ = ["Headers", "answer_not_found", "header_of", "send_answer", "send_error"]

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case, and values."""

_PAGE_PREFIX = "/api/"
"""Of the paths whose errors are JSON for a page's scripts."""

_FORMATS = {format.value: format for format in RequestFormat}

# google.rpc.Code for what HTTP says.
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 413: 8, 415: 3, 429: 8, 503: 14}

# Bytes and seconds for the rest of a body that is not wanted. A connection that is closed before it
# was read is reset, and the sender may not get to read the answer.
_MAX_DISCARDED = 64 * 1024 * 1024
_MAX_DISCARDING = 5.0


def header_of(scope: Scope, name: bytes) -> str:
    """Return a request's header, or ""; ``name`` is in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return ""


async def send_answer(
    send: Send, status: int, content_type: str, body: bytes, headers: Headers = ()
) -> None:
    """Send an answer."""
    sent = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})


async def send_error(
    scope: Scope,
    receive: Receive,
    send: Send,
    status: int,
    message: str,
    headers: Headers = (),
    is_body_read: bool = False,
) -> None:
    """Send an error: a Status if the request was of OTLP, JSON for a page's scripts, else text.

    Args:
        scope, receive, send: of the request.
        status: HTTP's.
        message: what is wrong, and what to do.
        headers: further ones.
        is_body_read: False to read what is left of the request's body, and forget it.
    """
    if not is_body_read and not await _discard_body(scope, receive):
        headers = [*headers, (b"connection", b"close")]
    if scope["path"].startswith(_PAGE_PREFIX):
        await send_answer(
            send, status, "application/json", json.dumps({"error": message}).encode(), headers
        )
        return
    format = _FORMATS.get(header_of(scope, b"content-type").partition(";")[0].strip().lower())
    if format is None:
        await send_answer(
            send, status, "text/plain; charset=utf-8", f"{message}\n".encode(), headers
        )
        return
    body = encode_status(format, _CODES.get(status, 2), message)
    await send_answer(send, status, format.value, body, headers)


def answer_not_found(count_refused: Callable[[str], object], hint: str) -> ASGIApp:
    """Return the application that answers where there is no route.

    Args:
        count_refused: called for each request.
        hint: what there is instead.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        count_refused("not_found")
        message = f"there is nothing at {scope['path']}: {hint}"
        await send_error(scope, receive, send, 404, message)

    return answer


async def _discard_body(scope: Scope, receive: Receive) -> bool:
    """Return True if the body is read to its end."""
    if header_of(scope, b"expect"):
        return False  # the sender waits for the answer before it sends the body
    try:
        return await asyncio.wait_for(_read_to_end(receive), _MAX_DISCARDING)
    except asyncio.TimeoutError:
        return False


async def _read_to_end(receive: Receive) -> bool:
    size = 0
    while size <= _MAX_DISCARDED:
        message = await receive()
        if message["type"] != "http.request":
            return False
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            return True
    return False
