"""OTLP/HTTP: the routes ``/v1/traces``, ``/v1/logs`` and ``/v1/metrics`` over an intake.

Needs the extra ``server``, as all modules that import this one do.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.requests import RequestFormat, encode_response
from rimp_otel.transport.receiving.compression import ENCODINGS, SizeLimitError, decompress_body
from rimp_otel.transport.receiving.http_answers import Headers, header_of, send_answer, send_error
from rimp_otel.transport.receiving.intake import (
    Accepted,
    Answer,
    Intake,
    Invalid,
    TooLarge,
    Unavailable,
    too_large,
)

__all__ = ["HttpReceiver"]

_ResultT = TypeVar("_ResultT")

_LARGE_BODY = 4 * 1024 * 1024
# Bytes of a body that takes a few milliseconds, for which no other thread is asked.
_SMALL_BODY = 256 * 1024
# Seconds.
_MAX_WAIT = 10.0
_FORMATS = {format.value: format for format in RequestFormat}
_IDENTITY = ("", "identity")


class HttpReceiver:
    """Answers OTLP/HTTP requests out of an intake; ``start`` its threads before, ``stop`` them after.

    Args:
        intake: takes the records.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        # Large bodies wait for one another, others not for them.
        self._medium, self._large = DecodingThread(), DecodingThread()

    @property
    def routes(self) -> Sequence[BaseRoute]:
        """One route for each signal."""
        return [
            Route(f"/v1/{signal.value}", endpoint=SignalEndpoint(self, signal)) for signal in Signal
        ]

    def start(self) -> None:
        """Start the threads that decode bodies that are not small."""
        self._medium.start()
        self._large.start()

    def stop(self) -> None:
        """End the threads once they have done what they were given."""
        self._medium.stop()
        self._large.stop()

    async def answer(self, signal: Signal, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request of a signal."""
        if scope["method"] != "POST":
            self._intake.count_refused("method")
            allowed = [(b"allow", b"POST")]
            message = f"{scope['method']} is not allowed here: POST an OTLP request"
            await send_error(scope, receive, send, 405, message, allowed)
            return
        format = _FORMATS.get(_media_type(header_of(scope, b"content-type")))
        if format is None:
            self._intake.count_refused("content_type")
            message = f"Content-Type must be {' or '.join(_FORMATS)}"
            await send_error(scope, receive, send, 415, message)
            return
        encoding = header_of(scope, b"content-encoding").strip().lower()
        if encoding not in _IDENTITY and encoding not in ENCODINGS:
            self._intake.count_refused("content_encoding")
            known = ", ".join([*ENCODINGS, "identity"])
            accepted = [(b"accept-encoding", known.encode())]
            message = f"Content-Encoding must be one of {known}"
            await send_error(scope, receive, send, 415, message, accepted)
            return
        body = BodyReader(self._intake, scope, receive)
        try:
            answer = await self._take(signal, format, encoding, body)
        except ConnectionError:
            self._intake.count_refused("disconnected")
            return
        finally:
            body.release()
        if isinstance(answer, Accepted):
            sent = encode_response(signal, format, answer.refused, answer.reason)
            await send_answer(send, 200, format.value, sent)
            return
        status, headers = _status_of(answer)
        await send_error(scope, receive, send, status, answer.reason, headers, body.is_whole)

    async def _take(
        self, signal: Signal, format: RequestFormat, encoding: str, body: BodyReader
    ) -> Answer:
        try:
            data = await body.read()
            if encoding not in _IDENTITY:
                data = await self._decompress(encoding, data, body)
        except SizeLimitError:
            return self._intake.refuse("too_large", too_large(self._intake.limits.request_size))
        except MemoryError:
            return self._refuse_for_memory()
        except DecodeError as error:
            return self._intake.refuse("invalid", Invalid(str(error)))
        if len(data) <= _SMALL_BODY:
            return self._intake.receive(signal, data, format)
        arrived = time.monotonic()

        def decode() -> Answer:
            if time.monotonic() - arrived > _MAX_WAIT:
                reason = "requests before this one take too long"
                return self._intake.refuse("behind", Unavailable(reason, 1))
            return self._intake.receive(signal, data, format)

        thread = self._large if len(data) > _LARGE_BODY else self._medium
        return await thread.run(decode)

    async def _decompress(self, encoding: str, data: bytes, body: BodyReader) -> bytes:
        body.size = 0
        if len(data) <= _SMALL_BODY // 4:
            try:
                return decompress_body(encoding, data, body.grow_while_small)
            except _NotSmallError:
                body.size = 0
        return await self._medium.run(lambda: decompress_body(encoding, data, body.grow))

    def _refuse_for_memory(self) -> Answer:
        reason = "too many requests are being received at once"
        return self._intake.refuse("in_flight", Unavailable(reason, 1))


class SignalEndpoint:
    """The ASGI application of one path.

    Args:
        receiver: answers its requests.
        signal: the one of the path.
    """

    def __init__(self, receiver: HttpReceiver, signal: Signal) -> None:
        self._receiver = receiver
        self._signal = signal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self._receiver.answer(self._signal, scope, receive, send)


class BodyReader:
    """Reads a request's body, and accounts for the memory that it takes.

    Args:
        intake: whose memory it is.
        scope, receive: of the request.
    """

    def __init__(self, intake: Intake, scope: Scope, receive: Receive) -> None:
        self._intake = intake
        self._scope = scope
        self._receive = receive
        self._reserved = 0
        #: Bytes that count for the limit of a request.
        self.size = 0
        #: True once the sender has sent all of it.
        self.is_whole = False

    async def read(self) -> bytes:
        """Return the body as it was sent.

        Raises:
            ConnectionError: the sender has closed the connection.
            SizeLimitError, MemoryError: see ``grow``.
        """
        length = header_of(self._scope, b"content-length")
        if length.isdecimal() and int(length) > self._intake.limits.request_size:
            raise SizeLimitError
        parts: list[bytes] = []
        while not self.is_whole:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ConnectionError
            part = message.get("body", b"")
            if part:
                self.grow(len(part))
                parts.append(part)
            self.is_whole = not message.get("more_body", False)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def grow(self, size: int) -> None:
        """Reserve memory for so many more bytes.

        Raises:
            SizeLimitError: the body is larger than a request may be.
            MemoryError: too much is being received at once.
        """
        self.size += size
        if self.size > self._intake.limits.request_size:
            raise SizeLimitError
        if not self._intake.reserve(size):
            raise MemoryError
        self._reserved += size

    def grow_while_small(self, size: int) -> None:
        """Do as ``grow``, up to what the event loop's thread may take its time for.

        Raises:
            _NotSmallError: it is more.
        """
        if self.size + size > _SMALL_BODY:
            raise _NotSmallError
        self.grow(size)

    def release(self) -> None:
        """Release the memory."""
        self._intake.release(self._reserved)
        self._reserved = 0


class _NotSmallError(Exception):
    """A body is for another thread."""


class _Job(NamedTuple):
    work: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class DecodingThread:
    """A thread that decodes bodies one after the other, so that the event loop answers others."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        # A daemon: a disk that hangs keeps the process from nothing.
        self._thread = threading.Thread(target=self._run, name="rimp-decode", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Have the thread end after what it was given."""
        self._jobs.put(None)

    async def run(self, work: Callable[[], _ResultT]) -> _ResultT:
        """Call ``work`` on the thread, and return or raise what it does."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_ResultT] = loop.create_future()
        self._jobs.put(_Job(work, loop, future))
        # Also if the sender has gone: the memory is in use until then.
        return await asyncio.shield(future)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                settle = partial(_set_result, job.future, job.work())
            except BaseException as error:
                # Its frames hold what there is of the body.
                settle = partial(_set_error, job.future, error.with_traceback(None))
            try:
                job.loop.call_soon_threadsafe(settle)
            except RuntimeError:  # the loop is closed: nobody waits any more
                pass
            del job, settle


def _set_result(future: asyncio.Future[Any], result: object) -> None:
    if not future.done():
        future.set_result(result)


def _set_error(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _status_of(answer: Invalid | TooLarge | Unavailable) -> tuple[int, Headers]:
    if isinstance(answer, Unavailable):
        return 503, [(b"retry-after", str(answer.retry_after).encode())]
    return (400, []) if isinstance(answer, Invalid) else (413, [])
