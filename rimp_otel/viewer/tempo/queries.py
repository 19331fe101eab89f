"""Tempo's query API over a recording: what Grafana's Tempo data source and Traces Drilldown ask.

Below ``/tempo``, by what a Tempo answers: the same statuses, shapes and types.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from opentelemetry.sdk.trace import ReadableSpan
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from rimp_otel.errors import ConfigurationError, RimpError
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window, find_duration, to_unix_nano
from rimp_otel.viewer.answers.overview import RecordingAnswers
from rimp_otel.viewer.answers.sql import SqlAnswers
from rimp_otel.viewer.api import error_status
from rimp_otel.viewer.questions import NotFoundError, PreparingError, Questions
from rimp_otel.viewer.search.conditions import All, Comparison, Condition, Scope
from rimp_otel.viewer.search.trace_search import Aggregation, SpanField, TraceSearch
from rimp_otel.viewer.tempo.answers import (
    instant_series,
    range_series,
    search_answer,
    search_metrics,
    trace_for_models,
    trace_in_protobuf,
    traces_in_proto_json,
)
from rimp_otel.viewer.tempo.comparison import SpanComparison
from rimp_otel.viewer.tempo.span_numbers import SpanNumbers
from rimp_otel.viewer.tempo.span_sets import condition_of, field_of, root_field
from rimp_otel.viewer.tempo.traceql import TraceQLError, parse_traceql, parse_traceql_field
from rimp_otel.viewer.tempo.traceql_search import SearchBounds, TraceQLSearch
from rimp_otel.viewer.tempo.traceql_tree import INTRINSICS, Attribute, FilterStage

__all__ = ["TempoQueries", "tempo_routes"]

_SECOND = 10**9
_DEFAULT_LIMIT, _MAX_LIMIT = 20, 1_000
_DEFAULT_SPANS, _MAX_SPANS = 3, 1_000
_DEFAULT_VALUES, _MAX_VALUES = 1_000, 10_000
_DEFAULT_STEPS, _MAX_STEPS = 120, 11_000
_DEFAULT_RANGE = 3_600 * _SECOND
_MAX_EXEMPLARS = 100
_VALUES_DEADLINE = 5.0  # seconds
_EVER = Window(0, 2**63 - 1)
_FOLLOWED = "2.9.0"  # the Tempo whose answers these are like

_TAGS = [
    "duration",
    "event:name",
    "event:timeSinceStart",
    "instrumentation:name",
    "instrumentation:version",
    "kind",
    "link:spanID",
    "link:traceID",
    "name",
    "rootName",
    "rootServiceName",
    "span:duration",
    "span:id",
    "span:kind",
    "span:name",
    "span:parentID",
    "span:status",
    "span:statusMessage",
    "status",
    "statusMessage",
    "trace:duration",
    "trace:id",
    "trace:rootName",
    "trace:rootService",
    "traceDuration",
]
_KEYWORDS = {
    "status": ("ok", "error", "unset"),
    "kind": ("client", "server", "producer", "consumer", "internal", "unspecified"),
}
_LISTED_INTRINSICS = frozenset(
    {"name", "statusMessage", "rootName", "rootServiceName", "event:name"}
    | {"instrumentation:name", "instrumentation:version"}
)
_ATTRIBUTE_SCOPES = ("resource", "span", "event", "link", "instrumentation")


class TempoQueries:
    """Answers the questions of Tempo's query API. Thread-safe.

    Args:
        path: of the recording, which need not exist yet.
        sql: asks DuckDB for the numbers of many spans; None to do without.
        clock: returns nanoseconds since the epoch.
    """

    def __init__(
        self, path: Path, sql: SqlAnswers | None = None, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._clock = clock
        self._spans = TraceSearch(path)
        self._numbers = SpanNumbers(self._spans, sql)
        self._search = TraceQLSearch(self._spans, self._numbers, SpanComparison(path, sql))
        self._answers = RecordingAnswers(path, clock)

    def tags(self, query: QueryParams) -> dict[str, Any]:
        """Return the names of attributes by scope, and the intrinsics.

        Args:
            query: ``scope``, ``start`` and ``end``, ``limit``.

        Raises:
            ConfigurationError: a parameter is wrong.
        """
        wanted = query.get("scope") or "none"
        if wanted not in ("none", "intrinsic", *_ATTRIBUTE_SCOPES):
            raise ConfigurationError(f"invalid scope: {wanted}")
        most = _read_count(query, "limit", _MAX_VALUES, _MAX_VALUES)
        found = self._keys(_read_window(query)) if wanted != "intrinsic" else {}
        if wanted in ("none", "intrinsic"):
            found["intrinsic"] = _TAGS
        scopes = [
            {"name": scope, "tags": names[:most]}
            for scope, names in found.items()
            if wanted in ("none", scope)
        ]
        return {"scopes": scopes, "metrics": {}}

    def all_tags(self, query: QueryParams) -> dict[str, Any]:
        """Return the names of attributes of all scopes, sorted, as the first version has them."""
        keys = self._keys(_read_window(query))
        return {"tagNames": sorted({*(k for own in keys.values() for k in own)}), "metrics": {}}

    def _keys(self, window: Window) -> dict[str, list[str]]:
        found: dict[str, set[str]] = {}
        try:
            rows = self._answers.attributes(Signal.TRACES, window)["keys"]
            keys = [(row["scope"], row["key"]) for row in rows]
        except PreparingError:  # those of the newest spans, until all have been counted
            keys = [(key.scope, key.key) for key in self._spans.keys(window=window)]
        for scope, key in keys:
            found.setdefault(scope, set()).add(key)
        return {scope: sorted(found[scope]) for scope in _ATTRIBUTE_SCOPES if scope in found}

    def tag_values(self, tag: str, query: QueryParams) -> dict[str, Any]:
        """Return the values of an attribute or intrinsic with their types; none of an unknown one.

        Args:
            tag: with its scope, as TraceQL has it.
            query: ``q``, a query whose filter the spans meet, which may be unfinished; ``start`` and
                ``end``; ``limit``.

        Raises:
            ConfigurationError: the tag or a parameter is wrong.
        """
        attribute = parse_traceql_field(tag)
        if attribute.scope == "intrinsic" and attribute.key in _KEYWORDS:
            words = _KEYWORDS[attribute.key]
            values = [{"type": "keyword", "value": word} for word in words]
            return {"tagValues": values, "metrics": {}}
        found = self._values(attribute, query)
        return {"tagValues": [{"type": t, "value": v} for t, v in found], "metrics": {}}

    def plain_tag_values(self, tag: str, query: QueryParams) -> dict[str, Any]:
        """Return the values of an attribute as texts, as the first version has them."""
        attribute = Attribute("any", tag)
        if tag in _KEYWORDS:
            return {"tagValues": list(_KEYWORDS[tag]), "metrics": {}}
        if tag in INTRINSICS:
            attribute = Attribute("intrinsic", tag)
        values = sorted({value for _, value in self._values(attribute, query)})
        return {"tagValues": values, "metrics": {}}

    def _values(self, attribute: Attribute, query: QueryParams) -> list[tuple[str, str]]:
        field = field_of(attribute)
        is_intrinsic = attribute.scope == "intrinsic"
        if field is None or (is_intrinsic and attribute.key not in _LISTED_INTRINSICS):
            return []
        most = _read_count(query, "limit", _DEFAULT_VALUES, _MAX_VALUES)
        window = _read_window(query)
        condition = _read_filter(query)
        of_root = root_field(*field)
        if of_root != field:
            roots = Comparison(Scope.INTRINSIC, "nestedSetParent", "<", 0)
            condition = roots if condition is None else All((roots, condition))
        if condition is None:
            found = self._all_values(*field, window, most)
        else:
            found = self._filtered_values(*of_root, window, condition)[:most]
        plain = [_typed_value(v) for v in found if isinstance(v, (str, int, float)) and v != ""]
        return sorted(set(plain), key=lambda pair: (pair[0], _sort_key(pair[1])))

    def _all_values(self, scope: Scope, key: str, window: Window, most: int) -> list[Any]:
        """Return the most frequent values; those of the newest spans, until all have been counted."""
        try:
            if (scope, key) == (Scope.INTRINSIC, "name"):
                rows = self._answers.operations(window)["operations"]
                return list(dict.fromkeys(row["name"] for row in rows))[:most]
            if scope is not Scope.INTRINSIC:
                scopes = ("span", "resource") if scope is Scope.ANY else (scope.value,)
                found = [
                    self._answers.attribute_values(Signal.TRACES, one, key, "", window, most)
                    for one in scopes
                ]
                return [row["value"] for answer in found for row in answer["values"]]
        except PreparingError:
            pass
        return [v.value for v in self._spans.values(scope, key, window=window, limit=most)]

    def _filtered_values(
        self, scope: Scope, key: str, window: Window, condition: Condition
    ) -> list[Any]:
        """Return the values of spans that meet a condition, as many as are found in a short time."""
        bounded = Window(window.start or 0, window.end or _EVER.end)
        field = SpanField(scope, key)
        wanted = Aggregation(bounded, 2**63, condition, (field,), deadline=_VALUES_DEADLINE)
        cells, _ = self._numbers.aggregate(wanted)
        cells.sort(key=lambda cell: -cell.count)
        return [cell.group[0] for cell in cells]

    def search(self, query: QueryParams) -> dict[str, Any]:
        """Return the newest traces that match.

        Args:
            query: ``q``, TraceQL; or ``tags`` (logfmt), ``minDuration`` and ``maxDuration``; ``start``
                and ``end``; ``limit``, and ``spss`` for spans of each trace.

        Raises:
            ConfigurationError: a parameter is wrong.
        """
        text = query.get("q") or _query_of_tags(query)
        selection = SearchBounds(
            _read_window(query),
            _read_count(query, "limit", _DEFAULT_LIMIT, _MAX_LIMIT),
            _read_count(query, "spss", _DEFAULT_SPANS, _MAX_SPANS),
        )
        return search_answer(*self._search.find(parse_traceql(text), selection))

    def trace(self, trace_id: str) -> list[ReadableSpan]:
        """Return the spans of a trace; none of an unknown one.

        Raises:
            ConfigurationError: it is no trace id.
        """
        for position, character in enumerate(trace_id, 1):
            if character not in "0123456789abcdefABCDEF":
                reason = f"invalid character '{character}' at position {position}"
                raise ConfigurationError(f"trace IDs can only contain hex characters: {reason}")
        if len(trace_id) > 32:
            raise ConfigurationError("trace IDs can't be larger than 128 bits")
        return self._spans.trace(int(trace_id, 16))

    def query_range(self, query: QueryParams) -> dict[str, Any]:
        """Return the series of a TraceQL query that measures, with a value for each step.

        Args:
            query: ``q``; ``start`` and ``end``, or ``since``; ``step``; ``exemplars``, how many.

        Raises:
            ConfigurationError: a parameter is wrong.
        """
        parsed = parse_traceql(query.get("q") or "")
        start, end = self._read_range(query)
        step = _read_step(query, end - start)
        start, end = start // step * step, -(-end // step) * step
        if (end - start) // step > _MAX_STEPS:
            raise ConfigurationError(f"a step of {step} ns makes more than {_MAX_STEPS} points")
        # A sample tells of the step before it, with its end: a span that starts at 15:00:00 counts there.
        exemplars = _read_count(query, "exemplars", 0, _MAX_EXEMPLARS)
        series = self._search.measure(parsed, Window(start + 1, end + 1), step, exemplars)
        found = range_series(series, start + step, step)
        return {"series": found, "metrics": search_metrics(True)}

    def query_instant(self, query: QueryParams) -> dict[str, Any]:
        """Return the series of a TraceQL query that measures, with one value for all of the time.

        Args:
            query: as for ``query_range``, without ``step``.

        Raises:
            ConfigurationError: a parameter is wrong.
        """
        parsed = parse_traceql(query.get("q") or "")
        start, end = self._read_range(query)
        series = self._search.measure(parsed, Window(start, end), end - start)
        return {"series": instant_series(series), "metrics": search_metrics(True)}

    def _read_range(self, query: QueryParams) -> tuple[int, int]:
        end = _read_time(query, "end")
        end = self._clock() if end is None else end
        start = _read_time(query, "start")
        if start is None:
            start = end - (_read_go_duration(query, "since") or _DEFAULT_RANGE)
        if start >= end:
            raise ConfigurationError("the start of the time must be before its end")
        return start, end


def _typed_value(value: Any) -> tuple[str, str]:
    if isinstance(value, bool):
        return "bool", str(value).lower()
    if isinstance(value, str):
        return "string", value
    return "int" if isinstance(value, int) else "float", str(value)


def _sort_key(text: str) -> tuple[float, str]:
    try:
        return float(text), text
    except ValueError:
        return 0.0, text


# Parameters.


def _read_count(query: QueryParams, name: str, default: int, most: int) -> int:
    text = query.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdecimal()):
        raise ConfigurationError(f"invalid {name}: must be a whole number above 0, got {text[:50]}")
    number = int(text[:10])
    return min(number, most) if number else default


_MAX_CUTS = 20
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_MOST_SECONDS = 10**11


def _read_time(query: QueryParams, name: str) -> int | None:
    """Return the nanoseconds of seconds or nanoseconds since the epoch, or of RFC 3339."""
    text = query.get(name)
    if not text:
        return None
    if not _NUMBER.fullmatch(text):
        try:
            return to_unix_nano(text)
        except ConfigurationError:
            raise ConfigurationError(f"invalid {name}: {text[:50]}") from None
    whole, _, fraction = text.partition(".")
    number = int(whole[:20])
    if number >= _MOST_SECONDS:
        return number
    return number * _SECOND + int(fraction[:9].ljust(9, "0"))


def _read_window(query: QueryParams) -> Window:
    start, end = _read_time(query, "start"), _read_time(query, "end")
    if start is not None and end is not None and start > end:
        raise ConfigurationError("http parameter start must be before end")
    return Window(start or None, end or None)


def _read_go_duration(query: QueryParams, name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    found = find_duration(text)
    if not found:
        raise ConfigurationError(f"invalid {name}: not a duration such as 250ms: {text[:50]}")
    return found


def _read_step(query: QueryParams, length: int) -> int:
    text = query.get("step") or ""
    if _NUMBER.fullmatch(text) and float(text) > 0:
        return max(round(float(text) * _SECOND), 1)
    step = _read_go_duration(query, "step")
    return step or max(-(-length // _DEFAULT_STEPS) // _SECOND * _SECOND, _SECOND)


def _read_filter(query: QueryParams) -> Condition | None:
    """Return what a query's filter needs; of one that is being typed, what comes before that."""
    text = query.get("q") or "{}"
    for _ in range(_MAX_CUTS):
        try:
            stage = parse_traceql(text).stages[0]
        except TraceQLError:
            before, joint, _ = text.rpartition("&&")
            if not joint:
                return None
            text = before + "}"
        else:
            return condition_of(stage.spanset).condition if isinstance(stage, FilterStage) else None
    return None


_LOGFMT = re.compile(r'\s*([^\s="]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))')


def _query_of_tags(query: QueryParams) -> str:
    """Return the TraceQL of the parameters that were there before TraceQL."""
    parts = []
    text, at = query.get("tags") or "", 0
    while text[at:].strip():
        match = _LOGFMT.match(text, at)
        if match is None:
            raise ConfigurationError(f"invalid tags: not logfmt: {text[at:][:50]}")
        at = match.end()
        key, quoted, plain = match.groups()
        parts.append(_tag_filter(key, re.sub(r"\\(.)", r"\1", quoted) if quoted else plain or ""))
    for name, operator in (("minDuration", ">="), ("maxDuration", "<=")):
        duration = _read_go_duration(query, name)
        if duration is not None:
            parts.append(f"traceDuration {operator} {duration}ns")
    return f"{{ {' && '.join(parts)} }}"


def _tag_filter(key: str, value: str) -> str:
    """Return the filter of a tag, whose type is not told."""
    if key in ("status", "kind") and value in _KEYWORDS[key]:
        return f"{key} = {value}"
    quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    if key in INTRINSICS:
        return f'{key} = "{quoted}"'
    name = '."' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    found = [f'{name} = "{quoted}"']
    if re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]+)?|true|false", value):
        found.append(f"{name} = {value}")
    return f"({' || '.join(found)})"


# Routes.

_PROTOBUF, _MODELS, _JSON = (
    "application/protobuf",
    "application/vnd.grafana.llm",
    "application/json",
)
# TraceByIDResponse: the trace is field 1, the metrics, which are empty, field 2.
_TRACE_FIELD, _NO_METRICS = b"\x0a", b"\x12\x00"


def tempo_routes(queries: TempoQueries, questions: Questions) -> list[BaseRoute]:
    """Return the routes, which are those of Tempo below ``/tempo``.

    Args:
        queries: finds the answers.
        questions: limits how many at once, and for how long.
    """

    async def answer(request: Request, work: Callable[[], Response]) -> Response:
        try:
            return await questions.ask(request, work)
        except NotFoundError:
            return Response(status_code=404)
        except RimpError as error:
            status = error_status(error)
            headers = {"Retry-After": "1"} if status == 503 else None
            return PlainTextResponse(str(error), status, headers)

    def ask(find: Callable[[QueryParams], dict[str, Any]]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            return await answer(request, lambda: _json(find(request.query_params)))

        return endpoint

    def ask_values(find: Callable[[str, QueryParams], dict[str, Any]]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            tag = request.path_params["tag"]
            return await answer(request, lambda: _json(find(tag, request.query_params)))

        return endpoint

    def ask_trace(
        show: Callable[[Sequence[ReadableSpan], str], Response],
    ) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            trace_id = request.path_params["trace_id"]
            accept = request.headers.get("accept", "")
            return await answer(request, lambda: show(queries.trace(trace_id), accept))

        return endpoint

    routes = [
        Route("/api/echo", _echo),
        Route("/ready", _ready),
        Route("/api/status/buildinfo", _build_info),
        Route("/api/v2/search/tags", ask(queries.tags)),
        Route("/api/search/tags", ask(queries.all_tags)),
        Route("/api/v2/search/tag/{tag:path}/values", ask_values(queries.tag_values)),
        Route("/api/search/tag/{tag:path}/values", ask_values(queries.plain_tag_values)),
        Route("/api/search", ask(queries.search)),
        Route("/api/v2/traces/{trace_id}", ask_trace(_trace_response)),
        Route("/api/traces/{trace_id}", ask_trace(_bare_trace_response)),
        Route("/api/metrics/query_range", ask(queries.query_range)),
        Route("/api/metrics/query", ask(queries.query_instant)),
    ]
    return [Mount("/tempo", routes=routes)]


async def _echo(request: Request) -> Response:
    return PlainTextResponse("echo\n")


async def _ready(request: Request) -> Response:
    return PlainTextResponse("ready\n")


async def _build_info(request: Request) -> Response:
    return _json({"version": _FOLLOWED, "revision": f"rimp-otel {version('rimp-otel')}"})


def _json(answer: Any, media_type: str = _JSON) -> Response:
    return Response(msgspec.json.encode(answer), media_type=media_type)


def _trace_response(spans: Sequence[ReadableSpan], accept: str) -> Response:
    """Return a trace, or an empty one, as the second version does."""
    if _MODELS in accept:
        trace = trace_for_models(spans) if spans else {"services": []}
        return _json({"trace": trace, "metrics": {}, "status": "COMPLETE"}, f"{_MODELS}+json")
    if _PROTOBUF in accept:
        trace_bytes = trace_in_protobuf(spans)
        length = _length_prefix(len(trace_bytes))
        body = b"".join((_TRACE_FIELD, length, trace_bytes, _NO_METRICS))
        return Response(body, media_type=_PROTOBUF)
    resources = traces_in_proto_json(spans)
    return _json({"trace": {"resourceSpans": resources} if resources else {}, "metrics": {}})


def _bare_trace_response(spans: Sequence[ReadableSpan], accept: str) -> Response:
    """Return a trace as the first version does.

    Raises:
        NotFoundError: there is none.
    """
    if not spans:
        raise NotFoundError("trace not found")
    if _MODELS in accept:
        return _json(trace_for_models(spans), f"{_MODELS}+json")
    if _PROTOBUF in accept:
        return Response(trace_in_protobuf(spans), media_type=_PROTOBUF)
    return _json({"batches": traces_in_proto_json(spans)})


def _length_prefix(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])
