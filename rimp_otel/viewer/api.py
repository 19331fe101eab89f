"""What the page asks: the routes below ``/api``, their answers in JSON, and their errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from rimp_otel.errors import ConfigurationError, QueryError, RimpError
from rimp_otel.models.records import Signal
from rimp_otel.viewer.answers.exceptions import find_exceptions
from rimp_otel.viewer.answers.logs import LogAnswers, LogQuery
from rimp_otel.viewer.answers.metrics import MetricQuery, list_metrics, read_metric
from rimp_otel.viewer.answers.overview import RecordingAnswers, trace_condition
from rimp_otel.viewer.answers.sql import SqlAnswers
from rimp_otel.viewer.live import LiveChanges
from rimp_otel.viewer.parameters import Parameters, parse_trace_id
from rimp_otel.viewer.questions import (
    NotFoundError,
    PreparingError,
    Questions,
    QuestionTimeoutError,
    TooManyQuestionsError,
)
from rimp_otel.viewer.search.conditions import All, Condition
from rimp_otel.viewer.tempo.span_sets import condition_of
from rimp_otel.viewer.tempo.traceql import parse_traceql
from rimp_otel.viewer.tempo.traceql_tree import FilterStage

__all__ = ["PageApi", "error_status"]

_PREFIX = "/api"
_RETRY_AFTER = "1"
_TRACES, _MAX_TRACES = 100, 2_000
_VALUES, _MAX_VALUES = 100, 1_000
_LOGS, _MAX_LOGS = 200, 5_000
_STEPS, _MAX_STEPS = 60, 500
_KINDS, _MAX_KINDS = 200, 1_000
_MAX_BODY = 1_000_000

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
        self._recording = RecordingAnswers(path, clock)
        self._logs = LogAnswers(path, clock=clock)
        self._sql = SqlAnswers(path)

    @property
    def sql(self) -> SqlAnswers:
        """What asks DuckDB: one connection serves all."""
        return self._sql

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        recording = self._recording
        answers: dict[str, Answer] = {
            "/info": lambda given: recording.info(),
            "/overview": lambda given: recording.overview(given.window()),
            "/operations": lambda given: recording.operations(
                given.window(), given.text("service")
            ),
            "/map": lambda given: recording.map(given.window()),
            "/traces": self._find_traces,
            "/traces/durations": self._count_durations,
            "/attributes": lambda given: recording.attributes(_signal(given), given.window()),
            "/attributes/values": self._find_values,
            "/logs": self._find_logs,
            "/logs/histogram": self._count_logs,
            "/errors": self._find_errors,
            "/metrics": lambda given: list_metrics(self._path, given.window()),
            "/metrics/series": self._read_metric,
            "/sql/schema": lambda given: self._sql.schema(),
        }
        return [
            *(self._route(path, answer) for path, answer in answers.items()),
            Route(f"{_PREFIX}/traces/{{trace_id}}", self._show_trace, methods=["GET"]),
            Route(f"{_PREFIX}/sql", self._run_sql, methods=["POST"]),
            Route(f"{_PREFIX}/live", self._follow, methods=["GET"]),
        ]

    def _route(self, path: str, answer: Answer) -> BaseRoute:
        async def endpoint(request: Request) -> Response:
            parameters = Parameters(request.query_params)
            return await self._answer(request, lambda: answer(parameters))

        return Route(_PREFIX + path, endpoint, methods=["GET"])

    def close(self) -> None:
        """Close what is kept for further answers."""
        self._sql.close()

    async def _answer(self, request: Request, work: Callable[[], Any]) -> Response:
        def encode() -> bytes:
            return msgspec.json.encode(work())

        try:
            return _json_response(200, await self._questions.ask(request, encode))
        except RimpError as error:
            return _error_response(error)

    # Questions.

    def _find_traces(self, given: Parameters) -> Any:
        conditions = [
            trace_condition(
                given.text("service"),
                given.text("operation"),
                given.text("kind"),
                given.text("status"),
                given.integer("min_duration"),
                given.integer("max_duration"),
                given.attributes(),
            ),
            *map(_filter_of_traceql, given.texts("q")),
        ]
        parts = tuple(condition for condition in conditions if condition is not None)
        limit = given.count("limit", _TRACES, _MAX_TRACES)
        return self._recording.traces(given.window(), All(parts) if parts else None, limit)

    def _count_durations(self, given: Parameters) -> Any:
        service, operation, kind = map(given.text, ("service", "operation", "kind"))
        # Refuses kinds and states that there are not.
        trace_condition(kind=kind, status=given.text("status"))
        return self._recording.trace_durations(
            given.window(), service, operation, kind, given.text("status")
        )

    async def _show_trace(self, request: Request) -> Response:
        text = request.path_params["trace_id"]
        return await self._answer(request, lambda: self._recording.trace(parse_trace_id(text)))

    def _find_values(self, given: Parameters) -> Any:
        return self._recording.attribute_values(
            _signal(given),
            given.required("scope"),
            given.required("key"),
            given.text("prefix") or "",
            given.window(),
            given.count("limit", _VALUES, _MAX_VALUES),
        )

    def _find_logs(self, given: Parameters) -> Any:
        limit = given.count("limit", _LOGS, _MAX_LOGS)
        return self._logs.page(_log_query(given), limit, given.text("before"), given.text("after"))

    def _count_logs(self, given: Parameters) -> Any:
        return self._logs.histogram(_log_query(given), given.count("steps", _STEPS, _MAX_STEPS))

    def _find_errors(self, given: Parameters) -> Any:
        limit = given.count("limit", _KINDS, _MAX_KINDS)
        service = given.text("service")
        return find_exceptions(self._path, given.window(), service, limit, self._clock)

    def _read_metric(self, given: Parameters) -> Any:
        query = MetricQuery(
            given.required("name"),
            given.window(),
            given.text("service"),
            tuple(given.texts("by")),
            tuple(given.attributes()),
            given.integer("step"),
        )
        return read_metric(self._path, query, self._clock)

    async def _run_sql(self, request: Request) -> Response:
        try:
            asked = await _read_sql(request)
        except RimpError as error:
            return _error_response(error)
        return await self._answer(request, lambda: self._sql.query(asked.sql, asked.limit))

    # Changes.

    async def _follow(self, request: Request) -> Response:
        if self._live.is_full:
            return _error_response(TooManyQuestionsError("too many pages follow this recording"))
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        if request.method == "HEAD":
            return Response(headers=headers, media_type="text/event-stream")
        return StreamingResponse(
            self._live.events(), headers=headers, media_type="text/event-stream"
        )


class _SqlRequest(msgspec.Struct):
    sql: str
    limit: Annotated[int, msgspec.Meta(ge=1)] = 1_000


async def _read_sql(request: Request) -> _SqlRequest:
    """Return what a request for SQL asks.

    Raises:
        ConfigurationError: it is too long, or of another form.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise ConfigurationError("Content-Type must be application/json")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY:
            raise ConfigurationError(f"a query may have {_MAX_BODY:,} bytes")
    try:
        return msgspec.json.decode(body, type=_SqlRequest)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f'the body must be {{"sql": TEXT, "limit": N}}: {error}') from None


def _signal(given: Parameters) -> Signal:
    text = given.text("signal") or Signal.TRACES.value
    try:
        return Signal(text)
    except ValueError:
        known = ", ".join(signal.value for signal in Signal)
        raise ConfigurationError(
            f"parameter 'signal' must be one of {known}, got {text[:100]!r}"
        ) from None


def _filter_of_traceql(text: str) -> Condition | None:
    """Return the condition of a TraceQL filter, which is about one span.

    Raises:
        ConfigurationError: it is none.
    """
    query = parse_traceql(text)
    stages = query.stages
    if len(stages) == 1 and isinstance(stages[0], FilterStage) and query.measure is None:
        needed = condition_of(stages[0].spanset)
        if needed.is_enough:
            return needed.condition
    raise ConfigurationError(
        "parameter 'q' must be a TraceQL filter of one span, such as { duration > 1s && status = error }"
    )


def _log_query(given: Parameters) -> LogQuery:
    return LogQuery(
        given.window(),
        given.text("service"),
        given.integer("min_severity") or None,
        given.text("text"),
        tuple(given.attributes()),
        given.trace_id("trace_id"),
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
