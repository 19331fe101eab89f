"""Conditions on one span, whoever asks: Jaeger's tags, TraceQL, the filters of the page.

A condition is data. ``make_matcher`` makes a function of it, ``to_sql`` a text for the view
``otel_traces``, and both say the same of every span. Types are as strict as Tempo's: a string equals no
number, ``1`` equals ``1.0``, and of what is absent no comparison is true. A list, a map or bytes equals
nothing: it only exists. Regular expressions match whole texts.
"""

from __future__ import annotations

import math
import operator as operators
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.accessors import parent_id_of, span_id_of, start_of, trace_id_of
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.viewer.search.patterns import compile_full_match

__all__ = [
    "COMPARISONS",
    "INTRINSICS",
    "OPERATORS",
    "TRACE_INTRINSICS",
    "All",
    "Comparison",
    "Condition",
    "Either",
    "Scope",
    "WholeTrace",
    "filter_of",
    "make_matcher",
    "make_value_test",
    "to_sql",
    "values_of",
]


class Scope(Enum):
    """The part of a span that a key belongs to."""

    #: What every span has, such as its name.
    INTRINSIC = "intrinsic"
    SPAN = "span"
    RESOURCE = "resource"
    #: Any of the span's events.
    EVENT = "event"
    #: Any of the span's links.
    LINK = "link"
    INSTRUMENTATION = "instrumentation"
    #: The span's own attributes; for a key that is not among them, its resource's.
    ANY = "any"


Value = str | int | float | bool | None
"""A value that attributes are compared with."""

OPERATORS = ("=", "!=", ">", ">=", "<", "<=", "=~", "!~", "exists")
"""The operators of a `Comparison`."""


class Comparison(NamedTuple):
    """A comparison of an attribute, or of something intrinsic, with a value."""

    scope: Scope
    key: str
    #: One of ``OPERATORS``.
    operator: str
    #: None only for ``exists``.
    value: Value = None


class All(NamedTuple):
    """True if all parts are; also without any."""

    parts: tuple[Condition, ...]


class Either(NamedTuple):
    """True if one of the parts is."""

    parts: tuple[Condition, ...]


Condition = Comparison | All | Either
"""A condition on a span."""


class WholeTrace(NamedTuple):
    """What comparisons can say about the whole trace of a span."""

    root_name: str
    root_service: str
    #: Nanoseconds from its first to its last moment.
    duration: int


TRACE_INTRINSICS = frozenset({"rootName", "rootServiceName", "traceDuration"})
"""The intrinsic keys that are about the whole trace."""


# The values of a span.


def values_of(
    span: ReadableSpan, scope: Scope, key: str, trace: WholeTrace | None = None
) -> Sequence[Any]:
    """Return the values that a span has of a key: none, one, or one for each event or link.

    Args:
        span: the span.
        scope: what the key belongs to.
        key: of an attribute; for ``Scope.INTRINSIC`` one of ``INTRINSICS``.
        trace: of the span; without it, there are no values of ``TRACE_INTRINSICS``.

    Raises:
        ConfigurationError: the key is not intrinsic.
    """
    if scope is Scope.INTRINSIC:
        if key in TRACE_INTRINSICS:
            return [] if trace is None else [_trace_value(trace, key)]
        return list(_intrinsic_of(key).values(span))
    return _GETTERS[scope](span, key)


def _trace_value(trace: WholeTrace, key: str) -> str | int:
    if key == "traceDuration":
        return trace.duration
    return trace.root_name if key == "rootName" else trace.root_service


def _value_in(attributes: Mapping[str, Any] | None, key: str) -> list[Any]:
    return [attributes[key]] if attributes and key in attributes else []


def _of_span_or_resource(span: ReadableSpan, key: str) -> list[Any]:
    return _value_in(span.attributes, key) or _value_in(span.resource.attributes, key)


def _of_scope(span: ReadableSpan, key: str) -> list[Any]:
    scope = span.instrumentation_scope
    return _value_in(scope.attributes, key) if scope is not None else []


def _of_items(items: Sequence[Any], key: str) -> list[Any]:
    return [value for item in items for value in _value_in(item.attributes, key)]


_GETTERS: dict[Scope, Callable[[ReadableSpan, str], list[Any]]] = {
    Scope.SPAN: lambda span, key: _value_in(span.attributes, key),
    Scope.RESOURCE: lambda span, key: _value_in(span.resource.attributes, key),
    Scope.INSTRUMENTATION: _of_scope,
    Scope.EVENT: lambda span, key: _of_items(span.events, key),
    Scope.LINK: lambda span, key: _of_items(span.links, key),
    Scope.ANY: _of_span_or_resource,
}


class _Intrinsic(NamedTuple):
    """Something that spans have."""

    values: Callable[[ReadableSpan], Sequence[Any]]
    #: In SQL; of what a span has several, a list.
    sql: str
    is_text: bool = True
    is_list: bool = False


def _duration(span: ReadableSpan) -> int:
    start, end = span.start_time, span.end_time
    return end - start if start and end else 0


def _kind(span: ReadableSpan) -> str:
    number = getattr(span, "otlp_kind", None)  # of a kind that the SDK does not know
    if number is None:
        return span.kind.name.lower()
    return "unrecognized" if number else "unspecified"


def _hex_id(number: int, digits: int) -> str:
    return f"{number:0{digits}x}" if number else ""


def _trace_state(span: ReadableSpan) -> str:
    state = span.context.trace_state if span.context else None
    return state.to_header() if state else ""


def _scope_field(span: ReadableSpan, field: str) -> list[str]:
    return [getattr(span.instrumentation_scope, field, None) or ""]


INTRINSICS: dict[str, _Intrinsic] = {
    "name": _Intrinsic(lambda span: [span.name], "SpanName"),
    "status": _Intrinsic(lambda span: [span.status.status_code.name.lower()], "lower(StatusCode)"),
    "statusMessage": _Intrinsic(lambda span: [span.status.description or ""], "StatusMessage"),
    "kind": _Intrinsic(lambda span: [_kind(span)], "lower(SpanKind)"),
    "duration": _Intrinsic(
        lambda span: [_duration(span)],
        "CASE WHEN epoch_ns(Timestamp) = 0 THEN 0 ELSE Duration END",
        is_text=False,
    ),
    "traceID": _Intrinsic(lambda span: [_hex_id(trace_id_of(span), 32)], "lower(TraceId)"),
    "spanID": _Intrinsic(
        lambda span: [_hex_id(span_id_of(span), 16)],
        "replace(lower(SpanId), '0000000000000000', '')",
    ),
    "parentID": _Intrinsic(lambda span: [_hex_id(parent_id_of(span), 16)], "lower(ParentSpanId)"),
    "traceState": _Intrinsic(lambda span: [_trace_state(span)], "TraceState"),
    "nestedSetParent": _Intrinsic(
        lambda span: [1 if parent_id_of(span) else -1],
        "CASE WHEN ParentSpanId = '' THEN -1 ELSE 1 END",
        is_text=False,
    ),
    "instrumentation:name": _Intrinsic(lambda span: _scope_field(span, "name"), "ScopeName"),
    "instrumentation:version": _Intrinsic(
        lambda span: _scope_field(span, "version"), "ScopeVersion"
    ),
    "event:name": _Intrinsic(
        lambda span: [event.name for event in span.events], "Events.Name", is_list=True
    ),
    "event:timeSinceStart": _Intrinsic(
        lambda span: [event.timestamp - start_of(span) for event in span.events],
        "list_transform(Events.Timestamp, lambda t: epoch_ns(t) - epoch_ns(otel_traces.Timestamp))",
        is_text=False,
        is_list=True,
    ),
    "link:traceID": _Intrinsic(
        lambda span: [_hex_id(link.context.trace_id, 32) for link in span.links],
        "list_transform(Links.TraceId, lambda t: lower(t))",
        is_list=True,
    ),
    "link:spanID": _Intrinsic(
        lambda span: [_hex_id(link.context.span_id, 16) for link in span.links],
        "list_transform(Links.SpanId, lambda t: lower(t))",
        is_list=True,
    ),
}
"""The keys of ``Scope.INTRINSIC`` that are about the span alone."""


def _intrinsic_of(key: str) -> _Intrinsic:
    try:
        return INTRINSICS[key]
    except KeyError:
        known = ", ".join(sorted([*INTRINSICS, *TRACE_INTRINSICS]))
        raise ConfigurationError(f"no intrinsic key: {key!r}; there are {known}") from None


# As a function.

Test = Callable[[Any], bool]
Matcher = Callable[[ReadableSpan], bool]

COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operators.eq,
    "!=": operators.ne,
    ">": operators.gt,
    ">=": operators.ge,
    "<": operators.lt,
    "<=": operators.le,
}
"""What an operator that compares two values does; the caller sees to their types."""


def make_matcher(condition: Condition, trace: WholeTrace | None = None) -> Matcher:
    """Return a function that says whether a span meets the condition.

    Args:
        condition: the condition.
        trace: of the spans; without it, comparisons of ``TRACE_INTRINSICS`` count as true.

    Raises:
        ConfigurationError: a comparison is impossible.
    """
    if isinstance(condition, Comparison):
        return _match_comparison(condition, trace)
    parts = [make_matcher(part, trace) for part in condition.parts]
    if len(parts) == 1:
        return parts[0]
    if isinstance(condition, All):
        return lambda span: all(part(span) for part in parts)
    return lambda span: any(part(span) for part in parts)


def _match_comparison(wanted: Comparison, trace: WholeTrace | None) -> Matcher:
    test = make_value_test(wanted)
    scope, key = wanted.scope, wanted.key
    if scope is Scope.INTRINSIC:
        if key in TRACE_INTRINSICS:
            is_met = trace is None or test(_trace_value(trace, key))
            return lambda span: is_met
        values = _intrinsic_of(key).values
        return lambda span: any(map(test, values(span)))
    get = _GETTERS[scope]
    return lambda span: any(map(test, get(span, key)))


def make_value_test(wanted: Comparison) -> Test:
    """Return a function that says whether a value meets a comparison, whatever it is the value of.

    Raises:
        ConfigurationError: the comparison is impossible.
    """
    operator, value = _check_comparison(wanted)
    if operator == "exists":
        return lambda found: True
    if operator in ("=~", "!~"):
        match = compile_full_match(value)
        is_wanted = operator == "=~"
        return lambda found: isinstance(found, str) and match(found) is is_wanted
    order = COMPARISONS[operator]
    if isinstance(value, bool):
        return lambda found: isinstance(found, bool) and order(found, value)
    if isinstance(value, str):
        return lambda found: isinstance(found, str) and order(found, value)
    return lambda found: _is_number(found) and order(found, value)


def _is_number(value: Any) -> bool:
    # What is not a number (NaN) is not unequal to one, either.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _check_comparison(wanted: Comparison) -> tuple[str, Any]:
    """Return operator and value.

    Raises:
        ConfigurationError: they do not go together.
    """
    operator, value = wanted.operator, wanted.value
    if operator not in OPERATORS:
        raise ConfigurationError(f"no operator: {operator!r}; there are {', '.join(OPERATORS)}")
    if operator == "exists":
        return operator, None
    if operator in ("=~", "!~"):
        is_possible = isinstance(value, str)
    elif isinstance(value, bool):
        is_possible = operator in ("=", "!=")
    else:
        is_possible = isinstance(value, str) or _is_number(value)
    if not is_possible:
        raise ConfigurationError(f"{wanted.key} {operator} {value!r} compares nothing")
    return operator, value


# As a filter, by which whole files and lines are left out.


def filter_of(condition: Condition | None) -> Filter:
    """Return a filter that all spans match which meet the condition, as narrow as a filter can be."""
    fields: dict[str, Any] = {"signals": frozenset({Signal.TRACES})}
    for wanted in _certain_parts(condition):
        fields |= _filter_fields(wanted)
    return Filter(**fields)


def _certain_parts(condition: Condition | None) -> Iterator[Comparison]:
    """Yield the comparisons that must be true."""
    if isinstance(condition, Comparison):
        yield condition
    elif isinstance(condition, All) or (
        isinstance(condition, Either) and len(condition.parts) == 1
    ):
        for part in condition.parts:
            yield from _certain_parts(part)


def _filter_fields(wanted: Comparison) -> dict[str, Any]:
    scope, key, operator, value = wanted
    if scope is Scope.RESOURCE:
        is_service = key == "service.name" and operator == "=" and isinstance(value, str)
        return {"service": value} if is_service and value else {}
    if scope is not Scope.INTRINSIC or operator not in ("=", ">", ">="):
        return {}
    if key == "duration" and isinstance(value, (int, float)):
        return {"min_duration": math.ceil(value)} if 0 < value < math.inf else {}
    if operator != "=" or not isinstance(value, str) or not value:
        return {}
    if key == "name":
        return {"name": value}
    if key == "traceID" and re.fullmatch("[0-9a-f]{32}", value):
        return {"trace_id": int(value, 16)}
    return {}


# As SQL.


class _Sql(NamedTuple):
    """A part of a statement, with the values of its ``?``."""

    text: str
    values: tuple[Any, ...] = ()


_MAPS = {
    Scope.SPAN: ("SpanAttributes", "SpanAttributeTypes"),
    Scope.RESOURCE: ("ResourceAttributes", "ResourceAttributeTypes"),
    Scope.INSTRUMENTATION: ("ScopeAttributes", "ScopeAttributeTypes"),
}
_LISTS = {Scope.EVENT: "Events", Scope.LINK: "Links"}
_FALSE = _Sql("false")


def to_sql(condition: Condition) -> tuple[str, list[Any]]:
    """Return the condition as an expression over ``otel_traces``, and the values of its ``?``.

    Raises:
        ConfigurationError: a comparison is impossible, or about a whole trace.
    """
    sql = _condition_in_sql(condition)
    return sql.text, list(sql.values)


def _fill(template: str, *parts: _Sql | Any) -> _Sql:
    """Return a template with parts of SQL, and other values as parameters, in the places of ``{}``."""
    found = [part if isinstance(part, _Sql) else _Sql("?", (part,)) for part in parts]
    values = [value for part in found for value in part.values]
    return _Sql(template.format(*(part.text for part in found)), tuple(values))


def _condition_in_sql(condition: Condition) -> _Sql:
    if isinstance(condition, Comparison):
        return _comparison_in_sql(condition)
    is_all = isinstance(condition, All)
    if not condition.parts:
        return _Sql("true" if is_all else "false")
    joint = " AND " if is_all else " OR "
    template = f"({joint.join(['{}'] * len(condition.parts))})"
    return _fill(template, *map(_condition_in_sql, condition.parts))


def _comparison_in_sql(wanted: Comparison) -> _Sql:
    scope, key = wanted.scope, wanted.key
    operator, value = _check_comparison(wanted)
    if scope is Scope.INTRINSIC:
        return _intrinsic_in_sql(key, operator, value)
    if scope is Scope.ANY:
        own = _comparison_in_sql(wanted._replace(scope=Scope.SPAN))
        other = _comparison_in_sql(wanted._replace(scope=Scope.RESOURCE))
        template = "CASE WHEN map_contains(SpanAttributes, {}) THEN {} ELSE {} END"
        return _fill(template, key, own, other)
    if scope not in _LISTS:
        return _attribute_in_sql(*_MAPS[scope], key, operator, value)
    items = _LISTS[scope]
    test = _attribute_in_sql("i[1]", "i[2]", key, operator, value)
    return _any_in_sql(f"list_zip({items}.Attributes, {items}.AttributeTypes)", test)


def _any_in_sql(items: str, test: _Sql) -> _Sql:
    return _fill(f"len(list_filter({items}, lambda i: {{}})) > 0", test)


def _intrinsic_in_sql(key: str, operator: str, value: Any) -> _Sql:
    if key in TRACE_INTRINSICS:
        raise ConfigurationError(f"{key} is about a whole trace, which a query for spans has not")
    intrinsic = _intrinsic_of(key)
    found = _Sql("i" if intrinsic.is_list else f"({intrinsic.sql})")
    if operator == "exists":
        test = _Sql("true")
    elif isinstance(value, bool) or intrinsic.is_text is not isinstance(value, str):
        test = _FALSE
    else:
        compare = _compare_text if intrinsic.is_text else _compare_integer
        test = compare(found, operator, value)
    return _any_in_sql(intrinsic.sql, test) if intrinsic.is_list else test


def _attribute_in_sql(map: str, types: str, key: str, operator: str, value: Any) -> _Sql:
    if operator == "exists":
        return _fill(f"map_contains({map}, {{}})", key)
    found, kind = _fill(f"{map}[{{}}]", key), _fill(f"{types}[{{}}]", key)
    if isinstance(value, str):
        test = _fill("{} IS NULL AND {}", kind, _compare_text(found, operator, value))
    elif isinstance(value, bool):
        wanted = value if operator == "=" else not value
        test = _fill("{} = 'bool' AND {} = {}", kind, found, str(wanted).lower())
    else:
        whole = _compare_integer(_fill("TRY_CAST({} AS BIGINT)", found), operator, value)
        real = _compare_double(_fill("TRY_CAST({} AS DOUBLE)", found), operator, value)
        template = "CASE {} WHEN 'int' THEN {} WHEN 'double' THEN {} ELSE false END"
        test = _fill(template, kind, whole, real)
    return _fill("coalesce({}, false)", test)


def _compare_text(found: _Sql, operator: str, value: str) -> _Sql:
    if operator not in ("=~", "!~"):
        return _fill(f"{{}} {operator} {{}}", found, value)
    compile_full_match(value)
    negation = "NOT " if operator == "!~" else ""
    return _fill(f"{negation}regexp_full_match({{}}, {{}})", found, value)


def _compare_integer(found: _Sql, operator: str, value: float) -> _Sql:
    """Return the exact comparison of a 64-bit integer with any number."""
    if math.isinf(value):
        return _fill("({} IS NOT NULL) = {}", found, COMPARISONS[operator](0.0, value))
    if value != math.floor(value):
        if operator in ("=", "!="):
            return _fill("({} IS NOT NULL) = {}", found, operator == "!=")
        is_more = operator[0] == ">"
        operator, value = (">", math.floor(value)) if is_more else ("<", math.ceil(value))
    bounded = max(-(2**65), min(int(value), 2**65))
    return _fill(f"{{}} {operator} CAST({{}} AS HUGEINT)", found, bounded)


def _compare_double(found: _Sql, operator: str, value: float) -> _Sql:
    """Return the exact comparison of a double with any number; what is not a number meets nothing."""
    try:
        nearest = float(value)
    except OverflowError:
        nearest = math.inf if value > 0 else -math.inf
    if nearest != value:
        # No double equals it: the nearest one lies on one side of it.
        if operator in ("=", "!="):
            return _fill("NOT isnan({}) AND {}", found, operator == "!=")
        is_more = operator[0] == ">"
        operator = (">=" if is_more else "<") if nearest > value else (">" if is_more else "<=")
    return _fill(f"(NOT isnan({{}}) AND {{}} {operator} {{}})", found, found, nearest)
