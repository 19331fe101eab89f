"""Jaeger's query API, version 3, over a recording: traces as OTLP JSON, with RFC 3339 times and Go durations.

By Jaeger's own gateway: its parameters in both spellings, its envelopes, its statuses.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from opentelemetry.sdk.trace import ReadableSpan
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rimp_otel.errors import ConfigurationError, RimpError
from rimp_otel.models.accessors import parent_id_of, span_id_of
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window, find_duration, to_unix_nano
from rimp_otel.otlp.encode_spans import encode_span
from rimp_otel.otlp.lines import join_lines
from rimp_otel.otlp.outgoing import request_from_lines
from rimp_otel.otlp.requests import RequestFormat
from rimp_otel.viewer.answers.overview import RecordingAnswers
from rimp_otel.viewer.api import error_status
from rimp_otel.viewer.jaeger.v1 import tag_condition
from rimp_otel.viewer.questions import NotFoundError, PreparingError, Questions, check_time
from rimp_otel.viewer.search.catalog import OperationCatalog
from rimp_otel.viewer.search.conditions import All, Comparison, Condition, Scope
from rimp_otel.viewer.search.trace_search import (
    FoundTrace,
    TraceQuery,
    TraceSearch,
)

__all__ = ["JaegerV3Queries", "jaeger_v3_routes"]

_DEFAULT_DEPTH, _MAX_DEPTH = 100, 1_500
_KINDS = frozenset({"internal", "server", "client", "producer", "consumer"})
_TRACE_ID = re.compile("[0-9a-fA-F]{1,32}")
# Seconds.
_PAUSE, _PATIENCE = 0.05, 2.0


class JaegerV3Queries:
    """Answers the questions of version 3 of Jaeger's query API. Thread-safe.

    Args:
        path: of the recording, which need not exist yet.
        answers: tell which operations there are; those of the recording by default.
    """

    def __init__(self, path: Path, answers: RecordingAnswers | None = None) -> None:
        self._catalog = OperationCatalog(path)
        self._search = TraceSearch(path)
        self._answers = answers or RecordingAnswers(path)

    def services(self, query: QueryParams) -> bytes:
        """Return the names of the services, sorted."""
        names = sorted(filter(None, self._catalog.operations()))
        return msgspec.json.encode({"services": names})

    def operations(self, query: QueryParams) -> bytes:
        """Return the names of a service's spans, with their kinds.

        Args:
            query: ``service``, and ``spanKind`` for those of one kind. A kind that is not known, or not
                yet, is "internal", as in Jaeger.

        Raises:
            PreparingError: kinds are not known yet, and asked for.
            StorageError: the recording cannot be read.
        """
        service, kind = query.get("service") or "", _read_either(query, "spanKind", "span_kind")
        try:
            rows = _once_prepared(lambda: self._answers.operations(Window(), service))["operations"]
            found = {(row["name"], row["kind"]) for row in rows}
        except PreparingError:
            if kind:
                raise
            found = {(name, "") for name in self._catalog.operations().get(service, ())}
        operations = [
            {"name": name, "spanKind": own_kind if own_kind in _KINDS else "internal"}
            for name, own_kind in sorted(found)
            if not kind or own_kind == kind.lower()
        ]
        return msgspec.json.encode({"operations": operations})

    def trace(self, trace_id: str, query: QueryParams) -> bytes:
        """Return a trace as OTLP JSON, in an envelope.

        Args:
            trace_id: up to 32 hexadecimal digits.
            query: ``startTime`` and ``endTime``, which are checked and of no effect.

        Raises:
            ConfigurationError: it is no trace id, or a parameter is wrong.
            NotFoundError: there is none.
        """
        if not _TRACE_ID.fullmatch(trace_id):
            raise ConfigurationError(f"malformed parameter trace_id: {trace_id[:100]!r}")
        for name, old in (("startTime", "start_time"), ("endTime", "end_time")):
            _read_rfc3339(query, name, old)
        return _enveloped(self._search.trace(int(trace_id, 16)))

    def find_traces(self, query: QueryParams) -> bytes:
        """Return the spans of the newest traces that match, as OTLP JSON in an envelope.

        Args:
            query: ``query.serviceName``, ``query.operationName``, ``query.attributes`` (a JSON object of
                texts), ``query.startTimeMin`` and ``Max``, ``query.durationMin`` and ``Max``,
                ``query.searchDepth``; or each in snake case.

        Raises:
            ConfigurationError: a parameter is wrong, or the time is missing.
            NotFoundError: there are none.
        """
        return _enveloped([span for trace in self._find(query) for span in trace.all_spans])

    def find_summaries(self, query: QueryParams) -> bytes:
        """Return what is to be shown in a list of the newest traces that match.

        Args:
            query: as for ``find_traces``.

        Raises:
            ConfigurationError: a parameter is wrong, or the time is missing.
        """
        return msgspec.json.encode({"summaries": list(map(_summary_of, self._find(query)))})

    def _find(self, query: QueryParams) -> list[FoundTrace]:
        start = _read_rfc3339(query, "query.startTimeMin", "query.start_time_min")
        end = _read_rfc3339(query, "query.startTimeMax", "query.start_time_max")
        if start is None or end is None:
            raise ConfigurationError("query.startTimeMin and query.startTimeMax are required")
        question = TraceQuery(Window(start, end), _read_v3_condition(query), _read_depth(query), 0)
        return self._search.find(question).traces


def _once_prepared(find: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return an answer when all that it takes has been prepared: these clients do not ask again.

    Raises:
        PreparingError: that takes too long.
    """
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return find()
        except PreparingError:
            check_time()
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE)


def _enveloped(spans: Sequence[ReadableSpan]) -> bytes:
    if not spans:
        raise NotFoundError("No traces found")
    lines = join_lines(Signal.TRACES, map(encode_span, spans))
    return b'{"result":%b}' % request_from_lines(Signal.TRACES, lines, RequestFormat.JSON)


def _summary_of(trace: FoundTrace) -> dict[str, Any]:
    ids = {span_id_of(span) for span in trace.all_spans}
    orphans = sum(parent_id_of(span) not in {0, *ids} for span in trace.all_spans)
    services = [
        {"name": name, "spanCount": own.spans, "errorSpanCount": own.errors}
        for name, own in sorted(trace.services.items())
    ]
    return {
        "traceId": f"{trace.trace_id:032x}",
        "rootServiceName": trace.root_service,
        "rootOperationName": trace.root_name,
        "minStartTimeUnixNano": str(trace.start),
        "maxEndTimeUnixNano": str(trace.start + trace.duration),
        "spanCount": trace.spans,
        "errorSpanCount": trace.errors,
        "orphanSpanCount": orphans,
        "services": services,
    }


# Parameters, in both spellings.


def _read_either(query: QueryParams, name: str, old: str) -> str:
    return query.get(name) or query.get(old) or ""


def _read_rfc3339(query: QueryParams, name: str, old: str) -> int | None:
    text = _read_either(query, name, old)
    if not text:
        return None
    try:
        return to_unix_nano(text.replace(" ", "+"))  # a plus sign that was not encoded
    except ConfigurationError:
        raise ConfigurationError(f"malformed parameter {name}: {text[:100]!r}") from None


def _read_depth(query: QueryParams) -> int:
    text = _read_either(query, "query.searchDepth", "query.search_depth")
    text = text or query.get("query.num_traces") or str(_DEFAULT_DEPTH)
    if not (text.isascii() and text.isdecimal()):
        raise ConfigurationError(f"malformed parameter query.searchDepth: {text[:100]!r}")
    return min(int(text[:10]) or _DEFAULT_DEPTH, _MAX_DEPTH)


def _read_v3_condition(query: QueryParams) -> Condition:
    parts: list[Condition] = []
    if service := _read_either(query, "query.serviceName", "query.service_name"):
        parts.append(Comparison(Scope.RESOURCE, "service.name", "=", service))
    if operation := _read_either(query, "query.operationName", "query.operation_name"):
        parts.append(Comparison(Scope.INTRINSIC, "name", "=", operation))
    for end, operator in (("Min", ">="), ("Max", "<=")):
        name = f"query.duration{end}"
        text = _read_either(query, name, f"query.duration_{end.lower()}")
        if text:
            duration = find_duration(text)
            if duration is None:
                raise ConfigurationError(f"malformed parameter {name}: {text[:100]!r}")
            parts.append(Comparison(Scope.INTRINSIC, "duration", operator, duration))
    if attributes := query.get("query.attributes"):
        parts += [tag_condition(key, value) for key, value in _read_attributes(attributes).items()]
    return All(tuple(parts))


def _read_attributes(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ConfigurationError(
            f"malformed parameter query.attributes: not a JSON object of texts: {text[:100]!r}"
        )
    return found


# Routes.

_PREFIX = "/jaeger/api/v3"


def jaeger_v3_routes(queries: JaegerV3Queries, questions: Questions) -> list[BaseRoute]:
    """Return the routes, which stand before those of version 1.

    Args:
        queries: finds the answers.
        questions: limits how many at once, and for how long.
    """

    async def answer(request: Request, find: Callable[[], bytes]) -> Response:
        try:
            return _json_answer(200, await questions.ask(request, find))
        except RimpError as error:
            status = error_status(error)
            details = {"httpCode": status, "message": str(error)}
            return _json_answer(status, msgspec.json.encode({"error": details}))

    def ask(find: Callable[[QueryParams], bytes]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            return await answer(request, lambda: find(request.query_params))

        return endpoint

    async def trace(request: Request) -> Response:
        trace_id = request.path_params["trace_id"]
        return await answer(request, lambda: queries.trace(trace_id, request.query_params))

    return [
        Route(f"{_PREFIX}/services", ask(queries.services)),
        Route(f"{_PREFIX}/operations", ask(queries.operations)),
        Route(f"{_PREFIX}/traces", ask(queries.find_traces)),
        Route(f"{_PREFIX}/traces/{{trace_id}}", trace),
        Route(f"{_PREFIX}/trace-summaries", ask(queries.find_summaries)),
    ]


def _json_answer(status: int, body: bytes) -> Response:
    return Response(body, status, media_type="application/json")
