"""Jaeger's query API, version 1, over a recording: what Jaeger's own page and Grafana ask.

By what Jaeger answers, and by OpenTelemetry's specification of how its spans become Jaeger's. Times in
requests and answers are microseconds, but for ``/api/dependencies``, which has milliseconds.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from rimp_otel.errors import ConfigurationError, RimpError
from rimp_otel.models.accessors import (
    duration_of,
    has_failed,
    parent_id_of,
    service_of,
    span_id_of,
    start_of,
    trace_id_of,
)
from rimp_otel.models.times import Window, parse_duration
from rimp_otel.storage.base import Selection
from rimp_otel.viewer.answers.overview import RecordingAnswers
from rimp_otel.viewer.questions import (
    NotFoundError,
    PreparingError,
    Questions,
    QuestionTimeoutError,
    open_watched,
)
from rimp_otel.viewer.search.catalog import OperationCatalog
from rimp_otel.viewer.search.conditions import All, Comparison, Condition, Either, Scope
from rimp_otel.viewer.search.trace_search import TraceQuery, TraceSearch

__all__ = ["JaegerQueries", "jaeger_routes", "span_to_jaeger", "tag_condition", "trace_to_jaeger"]

_DEFAULT_LIMIT, _MAX_LIMIT = 20, 1_500
_MAX_SPANS = 500_000  # that are read for dependencies
_DAY_MS = 86_400_000
_TRACE_ID = re.compile("[0-9a-fA-F]{1,32}")
_KEYS_OF_SERVICES = ("service.name",)


class JaegerQueries:
    """Answers the questions of Jaeger's query API. Thread-safe.

    Args:
        path: of the recording, which need not exist yet.
        clock: returns nanoseconds since the epoch.
    """

    def __init__(self, path: Path, clock: Callable[[], int] = time.time_ns) -> None:
        self._path = path
        self._clock = clock
        self._catalog = OperationCatalog(path)
        self._search = TraceSearch(path)
        self._answers = RecordingAnswers(path, clock)

    def services(self) -> list[str]:
        """Return the names of the services, sorted."""
        return sorted(filter(None, self._catalog.operations()))

    def operations(self, service: str) -> list[str]:
        """Return the names of a service's spans, sorted; none of an unknown service."""
        return sorted(self._catalog.operations().get(service, ()))

    def trace(self, trace_id: str) -> dict[str, Any]:
        """Return a trace.

        Raises:
            ConfigurationError: it is no trace id.
            NotFoundError: there is none.
        """
        if not _TRACE_ID.fullmatch(trace_id) or not int(trace_id, 16):
            raise ConfigurationError(f"not a trace id of hexadecimal digits: {trace_id!r}")
        spans = self._search.trace(int(trace_id, 16))
        if not spans:
            raise NotFoundError("trace not found")
        return trace_to_jaeger(spans)

    def find_traces(self, query: QueryParams) -> list[dict[str, Any]]:
        """Return the newest traces that have a span as asked for, the newest first.

        Args:
            query: ``service``, ``operation``, ``tags`` (a JSON object of texts), ``minDuration`` and
                ``maxDuration``, ``start`` and ``end``, ``limit``; or several ``traceID``.

        Raises:
            ConfigurationError: a parameter is wrong.
        """
        if wanted := query.getlist("traceID"):
            return [self.trace(trace_id) for trace_id in wanted]
        limit = _read_int(query, "limit", _DEFAULT_LIMIT)
        limit = min(limit, _MAX_LIMIT) if limit > 0 else _DEFAULT_LIMIT
        window = Window(_read_micros(query, "start"), _read_micros(query, "end"))
        found = self._search.find(TraceQuery(window, _read_condition(query), limit))
        return [trace_to_jaeger(trace.all_spans) for trace in found.traces]

    def dependencies(self, query: QueryParams) -> list[dict[str, Any]]:
        """Return which service called which, and how often.

        Until there are rollups of all sealed files, among the newest 500,000 spans.

        Args:
            query: ``endTs`` and ``lookback``, in milliseconds.

        Raises:
            ConfigurationError: a parameter is wrong.
        """
        end = _read_int(query, "endTs", self._clock() // 1_000_000) * 1_000_000
        lookback = _read_int(query, "lookback", _DAY_MS) * 1_000_000
        window = Window(max(end - lookback, 0), max(end, 1))
        try:
            calls = {
                (edge["from"], edge["to"]): edge["calls"]
                for edge in self._answers.map(window)["edges"]
            }
        except PreparingError:
            calls = self._count_calls(window)
        return [
            {"parent": parent, "child": child, "callCount": count}
            for (parent, child), count in sorted(calls.items())
        ]

    def _count_calls(self, window: Window) -> dict[tuple[str, str], int]:
        selection = Selection.of(limit=_MAX_SPANS, signals="traces")
        spans = open_watched(self._path).retrieve(selection._replace(window=window)).spans
        services = {(trace_id_of(span), span_id_of(span)): service_of(span) for span in spans}
        calls: Counter[tuple[str, str]] = Counter()
        for span in spans:
            parent = services.get((trace_id_of(span), parent_id_of(span)))
            if parent and parent != service_of(span):
                calls[parent, service_of(span)] += 1
        return calls


# Parameters.


def _read_int(query: QueryParams, name: str, default: int) -> int:
    text = query.get(name)
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise ConfigurationError(f"parameter {name!r} must be a whole number: {text!r}") from None


def _read_micros(query: QueryParams, name: str) -> int | None:
    micros = _read_int(query, name, 0)
    return micros * 1_000 if micros else None


def _read_duration(query: QueryParams, name: str) -> int | None:
    text = query.get(name)
    return parse_duration(text) if text else None


def _read_tags(query: QueryParams) -> dict[str, str]:
    """Return the tags of ``tags``, a JSON object of texts, and of each ``tag``, as ``key:value``."""
    tags: dict[str, str] = {}
    for text in query.getlist("tag"):
        key, _, value = text.partition(":")
        tags[key] = value
    for text in query.getlist("tags"):
        try:
            found = json.loads(text)
        except ValueError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
            raise ConfigurationError(f"parameter 'tags' must be a JSON object of texts: {text!r}")
        tags |= found
    return tags


def _read_condition(query: QueryParams) -> Condition:
    """Return the condition that a span of each trace meets.

    Raises:
        ConfigurationError: a parameter is wrong, or the service is missing.
    """
    service = query.get("service")
    if not service:
        raise ConfigurationError("parameter 'service' is required")
    parts: list[Condition] = [Comparison(Scope.RESOURCE, "service.name", "=", service)]
    if operation := query.get("operation"):
        parts.append(Comparison(Scope.INTRINSIC, "name", "=", operation))
    for parameter, operator in (("minDuration", ">="), ("maxDuration", "<=")):
        duration = _read_duration(query, parameter)
        if duration is not None:
            parts.append(Comparison(Scope.INTRINSIC, "duration", operator, duration))
    parts += [tag_condition(key, text) for key, text in _read_tags(query).items()]
    return All(tuple(parts))


_INTRINSIC_TAGS = {
    "span.kind": "kind",
    "otel.status_description": "statusMessage",
    "otel.scope.name": "instrumentation:name",
    "otel.scope.version": "instrumentation:version",
    "w3c.tracestate": "traceState",
}


def tag_condition(key: str, text: str) -> Condition:
    """Return the condition that a span is shown with a tag: its own, its resource's or an event's."""
    parts = [
        Comparison(scope, key, "=", value)
        for scope in (Scope.SPAN, Scope.RESOURCE, Scope.EVENT)
        for value in _values_of_text(text)
    ]
    if key in _INTRINSIC_TAGS:
        parts.append(Comparison(Scope.INTRINSIC, _INTRINSIC_TAGS[key], "=", text))
    elif key == "otel.status_code" and text in ("OK", "ERROR"):
        parts.append(Comparison(Scope.INTRINSIC, "status", "=", text.lower()))
    elif key == "error" and text == "true":
        parts.append(Comparison(Scope.INTRINSIC, "status", "=", "error"))
    return Either(tuple(parts))


def _values_of_text(text: str) -> Iterator[str | bool | int | float]:
    """Yield the values that have this text."""
    yield text
    if text in ("true", "false"):
        yield text == "true"
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if str(value) == text and value == value:
            yield value


# From spans to Jaeger's.


def trace_to_jaeger(spans: Iterable[ReadableSpan]) -> dict[str, Any]:
    """Return the spans of one trace as Jaeger has them."""
    processes: dict[str, dict[str, Any]] = {}
    ids: dict[str, str] = {}
    converted = []
    trace_id = ""
    for span in spans:
        process = _process_of(span)
        key = json.dumps(process, sort_keys=True)
        if key not in ids:
            ids[key] = f"p{len(ids) + 1}"
            processes[ids[key]] = process
        found = span_to_jaeger(span)
        trace_id = found["traceID"]
        converted.append({**found, "processID": ids[key]})
    return {"traceID": trace_id, "spans": converted, "processes": processes, "warnings": None}


def span_to_jaeger(span: ReadableSpan) -> dict[str, Any]:
    """Return one span as Jaeger has it, without its process."""
    trace_id = f"{trace_id_of(span):032x}"
    references = []
    if parent := parent_id_of(span):
        references.append(_reference("CHILD_OF", trace_id, parent))
    for link in span.links:
        references.append(
            _reference("FOLLOWS_FROM", f"{link.context.trace_id:032x}", link.context.span_id)
        )
    return {
        "traceID": trace_id,
        "spanID": f"{span_id_of(span):016x}",
        "operationName": span.name,
        "references": references,
        "startTime": start_of(span) // 1_000,
        "duration": (duration_of(span) or 0) // 1_000,
        "tags": _tags_of_span(span),
        "logs": [
            {
                "timestamp": event.timestamp // 1_000,
                "fields": [
                    _make_tag("event", event.name),
                    *_tags_of_attributes(event.attributes or {}),
                ],
            }
            for event in span.events
        ],
        "warnings": None,
    }


def _reference(kind: str, trace_id: str, span_id: int) -> dict[str, str]:
    return {"refType": kind, "traceID": trace_id, "spanID": f"{span_id:016x}"}


def _tags_of_span(span: ReadableSpan) -> list[dict[str, Any]]:
    tags = list(_tags_of_attributes(span.attributes or {}))
    tags.append(_make_tag("span.kind", span.kind.name.lower()))
    code = span.status.status_code.name
    if code != "UNSET":
        tags.append(_make_tag("otel.status_code", code))
    if span.status.description:
        tags.append(_make_tag("otel.status_description", span.status.description))
    if has_failed(span):
        tags.append(_make_tag("error", True))
    scope = span.instrumentation_scope
    if scope is not None and scope.name:
        tags.append(_make_tag("otel.scope.name", scope.name))
        if scope.version:
            tags.append(_make_tag("otel.scope.version", scope.version))
    state = span.context.trace_state if span.context else None
    if state:
        tags.append(_make_tag("w3c.tracestate", state.to_header()))
    return tags


def _process_of(span: ReadableSpan) -> dict[str, Any]:
    attributes = {
        key: value
        for key, value in span.resource.attributes.items()
        if key not in _KEYS_OF_SERVICES
    }
    return {"serviceName": service_of(span), "tags": list(_tags_of_attributes(attributes))}


def _tags_of_attributes(attributes: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key, value in attributes.items():
        yield _make_tag(key, value)


def _make_tag(key: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"key": key, "type": "bool", "value": value}
    if isinstance(value, int):
        return {"key": key, "type": "int64", "value": value}
    if isinstance(value, float) and value - value == 0.0:
        return {"key": key, "type": "float64", "value": value}
    if isinstance(value, bytes):
        return {"key": key, "type": "binary", "value": base64.b64encode(value).decode()}
    if not isinstance(value, (str, float)):
        value = json.dumps(value, default=str, ensure_ascii=False)
    return {"key": key, "type": "string", "value": str(value)}


# Routes.


def jaeger_routes(queries: JaegerQueries, questions: Questions) -> list[BaseRoute]:
    """Return the routes, which are those of Jaeger below ``/jaeger``.

    Args:
        queries: finds the answers.
        questions: limits how many at once, and for how long.
    """

    async def answer(request: Request, ask: Callable[[], list[Any]]) -> Response:
        try:
            data = await questions.ask(request, ask)
        except NotFoundError as error:
            return _error(404, str(error))
        except ConfigurationError as error:
            return _error(400, str(error))
        except QuestionTimeoutError as error:
            return _error(504, str(error))
        except RimpError as error:
            return _error(503, str(error))
        found = {"data": data, "total": len(data), "limit": 0, "offset": 0, "errors": None}
        return JSONResponse(found)

    async def services(request: Request) -> Response:
        return await answer(request, queries.services)

    async def operations(request: Request) -> Response:
        service = request.path_params["service"]
        return await answer(request, lambda: queries.operations(service))

    async def operations_with_kinds(request: Request) -> Response:
        service = request.query_params.get("service", "")
        return await answer(
            request,
            lambda: [{"name": name, "spanKind": ""} for name in queries.operations(service)],
        )

    async def find_traces(request: Request) -> Response:
        return await answer(request, lambda: queries.find_traces(request.query_params))

    async def trace(request: Request) -> Response:
        return await answer(request, lambda: [queries.trace(request.path_params["trace_id"])])

    async def dependencies(request: Request) -> Response:
        return await answer(request, lambda: queries.dependencies(request.query_params))

    return [
        Mount(
            "/jaeger",
            routes=[
                Route("/api/services", services),
                Route("/api/services/{service:path}/operations", operations),
                Route("/api/operations", operations_with_kinds),
                Route("/api/traces", find_traces),
                Route("/api/traces/{trace_id}", trace),
                Route("/api/dependencies", dependencies),
            ],
        )
    ]


def _error(status: int, message: str) -> Response:
    errors = [{"code": status, "msg": message}]
    answer = {"data": None, "total": 0, "limit": 0, "offset": 0, "errors": errors}
    return JSONResponse(answer, status)
