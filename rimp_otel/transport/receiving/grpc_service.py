"""OTLP's three services over gRPC, with methods that take a request's raw bytes and give it an intake."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from rimp_otel.models.records import Signal
from rimp_otel.otlp.requests import RequestFormat, encode_response
from rimp_otel.process import Reporter, describe_error
from rimp_otel.transport.grpc_wire import DETAILS_KEY, METHODS, clean_text, encode_details
from rimp_otel.transport.receiving.intake import (
    Accepted,
    Answer,
    Intake,
    Invalid,
    TooLarge,
    Unavailable,
)
from rimp_otel.transport.receiving.security import ServerSecurity

__all__ = ["ExportService", "IncomingCalls"]

_FAILURE = Unavailable("the receiver could not take the request", 5)


class IncomingCalls:
    """Calls that have begun, and whose request has not arrived yet. Thread-safe.

    Each takes a thread. One that takes it for too long is cancelled, which senders take for a reason to
    try again; sooner if all threads wait like this.

    Args:
        calls: how many there can be.
        receiving: seconds that each may take.
        hurried: the same while there are as many as there can be.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        calls: int,
        receiving: float,
        hurried: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._calls = calls
        self._receiving = receiving
        self._hurried = min(hurried, receiving)
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[Any, float] = {}

    def add(self, context: Any) -> None:
        """Note that a call has begun."""
        with self._lock:
            self._since[context] = self._clock()

    def remove(self, context: Any) -> bool:
        """Note that its request has arrived, or never will; return False if it was cancelled here."""
        with self._lock:
            return self._since.pop(context, None) is not None

    def hurry(self) -> None:
        """Give each the shorter time from now on."""
        self._receiving = self._hurried

    def cancel_slow(self) -> int:
        """Cancel what takes too long; return how many."""
        now = self._clock()
        with self._lock:
            longest = self._hurried if len(self._since) >= self._calls else self._receiving
            slow = [context for context, since in self._since.items() if now - since > longest]
            for context in slow:
                del self._since[context]
        for context in slow:
            context.cancel()
        return len(slow)


class ExportService:
    """The handlers of the three services' ``Export``, as grpc calls them. Nothing is raised into grpc
    but what it raises and expects itself.

    A method takes a stream of requests, of which it reads one: so it is called once a call begins,
    and not only when the request has arrived.

    Args:
        grpc: the package.
        intake: takes the records.
        security: who may send.
        incoming: knows the calls whose request has not arrived.
    """

    def __init__(
        self, grpc: Any, intake: Intake, security: ServerSecurity, incoming: IncomingCalls
    ) -> None:
        self._rpc_error: type[Exception] = grpc.RpcError
        self._codes: Any = grpc.StatusCode
        self._intake = intake
        self._security = security
        self._incoming = incoming
        self._reporter = Reporter()
        self._counting = threading.Lock()
        self._calls = 0

        def handle(take: Callable[[Iterator[bytes], Any], bytes]) -> Any:
            return grpc.stream_unary_rpc_method_handler(partial(self._handle, take))

        self._handlers = {
            method: handle(partial(self._export, signal)) for signal, method in METHODS.items()
        }
        self._unauthorized = handle(self._refuse_unauthorized)
        self._failed = handle(self._refuse_failed)

    @property
    def is_idle(self) -> bool:
        """True if all calls that have come have been answered."""
        with self._counting:
            return self._calls == 0

    def service(self, call: Any) -> Any:
        """Return the handler of a call, None for an unknown method.

        Whoever is not let in is told so before anything is read of what is sent.
        """
        try:
            handler = self._find_handler(call)
        except Exception as error:
            self._note(error)
            handler = self._failed
        if handler is not None:
            with self._counting:
                self._calls += 1
        return handler

    def _find_handler(self, call: Any) -> Any:
        handler = self._handlers.get(call.method)
        if handler is None:
            self._intake.count_refused("unknown_method")
            return None
        if self._security.tokens and not self._is_authorized(call.invocation_metadata):
            return self._unauthorized
        return handler

    def _handle(
        self,
        take: Callable[[Iterator[bytes], Any], bytes],
        requests: Iterator[bytes],
        context: Any,
    ) -> bytes:
        try:
            return take(requests, context)
        finally:
            with self._counting:
                self._calls -= 1

    def _is_authorized(self, metadata: Any) -> bool:
        given = [value for key, value in metadata or () if key == "authorization"]
        return len(given) == 1 and self._security.is_authorized(given[0])

    def _export(self, signal: Signal, requests: Iterator[bytes], context: Any) -> bytes:
        try:
            answer = self._take(signal, requests, context)
            if isinstance(answer, Accepted):
                return encode_response(
                    signal, RequestFormat.PROTOBUF, answer.refused, answer.reason
                )
        except self._rpc_error:
            return b""  # for nobody: the call has ended
        except Exception as error:
            self._note(error)
            answer = _FAILURE
        self._abort(context, answer)
        return b""

    def _take(self, signal: Signal, requests: Iterator[bytes], context: Any) -> Answer:
        body = self._receive(requests, context)
        if body is None:
            return Invalid("the call has no request")
        if not self._intake.reserve(len(body)):
            reason = "too many requests are being received at once"
            return self._intake.refuse("in_flight", Unavailable(reason, 1))
        try:
            return self._intake.receive(signal, body, RequestFormat.PROTOBUF)
        finally:
            self._intake.release(len(body))

    def _receive(self, requests: Iterator[bytes], context: Any) -> bytes | None:
        """Return the first of ``requests`` once it has arrived; None if none comes, for which grpc also
        raises what it has for calls that have ended."""
        self._incoming.add(context)
        is_whole = False
        try:
            body = next(requests, None)
            is_whole = body is not None
            return body
        finally:
            is_known = self._incoming.remove(context)
            if not is_whole:
                # The sender is gone, or its request is too large, which grpc tells it by itself.
                self._intake.count_refused("disconnected" if is_known else "slow")

    def _refuse_unauthorized(self, _: Iterator[bytes], context: Any) -> bytes:
        self._intake.count_refused("unauthorized")
        self._end(
            context,
            self._codes.UNAUTHENTICATED,
            "a token is needed, as metadata: authorization: Bearer TOKEN",
        )
        return b""

    def _refuse_failed(self, _: Iterator[bytes], context: Any) -> bytes:
        self._abort(context, _FAILURE)
        return b""

    def _abort(self, context: Any, answer: Invalid | TooLarge | Unavailable) -> None:
        if isinstance(answer, Unavailable):
            self._end(context, self._codes.UNAVAILABLE, answer.reason, answer.retry_after)
        elif isinstance(answer, TooLarge):
            self._end(context, self._codes.RESOURCE_EXHAUSTED, answer.reason)
        else:
            self._end(context, self._codes.INVALID_ARGUMENT, answer.reason)

    def _end(self, context: Any, code: Any, reason: str, retry_after: float | None = None) -> None:
        """End a call with a status; it raises what grpc expects, and keeps for itself."""
        message = clean_text(reason)
        details = encode_details(code.value[0], message, retry_after)
        context.set_trailing_metadata(((DETAILS_KEY, details),))
        context.abort(code, message)

    def _note(self, error: Exception) -> None:
        self._intake.count_refused("error")
        self._reporter.warn("grpc", f"a request was refused: {describe_error(error)}")
