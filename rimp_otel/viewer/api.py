"""What the page asks: the routes below ``/api``, their answers in JSON, and their errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from rimp_otel.errors import ConfigurationError, QueryError, RimpError
from rimp_otel.viewer.live import LiveChanges
from rimp_otel.viewer.parameters import Parameters
from rimp_otel.viewer.questions import (
    NotFoundError,
    PreparingError,
    Questions,
    QuestionTimeoutError,
    TooManyQuestionsError,
)

__all__ = ["PageApi", "error_status"]

_PREFIX = "/api"
_RETRY_AFTER = "1"

Answer = Callable[[Parameters], Any]
"""Finds the answer to a question with such parameters."""


class PageApi:
    """Answers the page's questions about a recording.

    Args:
        path: of the recording, which need not exist yet.
        questions: answers them.
        live: tells what comes.
        clock: returns nanoseconds since the epoch.
    """

    def __init__(
        self,
        path: Path,
        questions: Questions,
        live: LiveChanges,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._path = path
        self._questions = questions
        self._live = live
        self._clock = clock

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        answers: dict[str, Answer] = {}
        return [
            *(self._route(path, answer) for path, answer in answers.items()),
            Route(f"{_PREFIX}/live", self._follow, methods=["GET"]),
        ]

    def _route(self, path: str, answer: Answer) -> BaseRoute:
        async def endpoint(request: Request) -> Response:
            parameters = Parameters(request.query_params)
            return await self._answer(request, lambda: answer(parameters))

        return Route(_PREFIX + path, endpoint, methods=["GET"])

    async def _answer(self, request: Request, work: Callable[[], Any]) -> Response:
        def encode() -> bytes:
            return msgspec.json.encode(work())

        try:
            return _json_response(200, await self._questions.ask(request, encode))
        except RimpError as error:
            return _error_response(error)

    async def _follow(self, request: Request) -> Response:
        if self._live.is_full:
            return _error_response(TooManyQuestionsError("too many pages follow this recording"))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if request.method == "HEAD":
            return Response(headers=headers, media_type="text/event-stream")
        return StreamingResponse(
            self._live.events(), headers=headers, media_type="text/event-stream"
        )


def error_status(error: RimpError) -> int:
    """Return HTTP's status for an error of an answer."""
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, (ConfigurationError, QueryError)):
        return 400
    return 504 if isinstance(error, QuestionTimeoutError) else 503


def _error_response(error: RimpError) -> Response:
    if isinstance(error, PreparingError):
        preparing = {"done": error.done, "total": error.total, "what": error.what}
        return _json_response(202, msgspec.json.encode({"preparing": preparing}))
    status = error_status(error)
    response = _json_response(status, msgspec.json.encode({"error": str(error)}))
    if status == 503:
        response.headers["Retry-After"] = _RETRY_AFTER
    return response


def _json_response(status: int, body: bytes) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(body, status, headers, media_type="application/json")
