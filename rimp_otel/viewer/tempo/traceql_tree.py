"""The tree of a TraceQL query, and its text.

``traceql`` makes trees of texts, ``docs/grafana.md`` has the language. Imports nothing.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Union

__all__ = [
    "ALIASES",
    "INTRINSICS",
    "Aggregate",
    "Attribute",
    "BinaryOperation",
    "Coalesce",
    "Compare",
    "Expression",
    "FilterStage",
    "Group",
    "Literal",
    "Logic",
    "Measure",
    "Query",
    "Scalar",
    "ScalarFilter",
    "ScalarOperation",
    "Select",
    "Spanset",
    "SpansetFilter",
    "SpansetOperation",
    "Stage",
    "TopSeries",
    "Unary",
    "format_expression",
    "format_query",
]


class Attribute(NamedTuple):
    """A field of a span: an attribute in a scope, or an intrinsic."""

    #: ``resource``, ``span``, ``event``, ``link``, ``instrumentation``; ``any`` for the span's or else the
    #: resource's; ``intrinsic``.
    scope: str
    #: Of an intrinsic, its name without a scope where Tempo has both: ``name``, not ``span:name``.
    key: str
    #: True for the field of the parent.
    of_parent: bool = False


class Literal(NamedTuple):
    """A constant."""

    #: ``string``, ``int``, ``float``, ``bool``, ``nil``, ``duration`` (nanoseconds), ``status``, ``kind``.
    type: str
    value: str | int | float | bool | None


class Unary(NamedTuple):
    """``!`` or ``-`` of an expression."""

    operator: str
    operand: Expression


class BinaryOperation(NamedTuple):
    """A comparison or arithmetic of two expressions."""

    operator: str
    left: Expression
    right: Expression


class Logic(NamedTuple):
    """Several expressions, joined by ``&&`` or by ``||``."""

    operator: str
    operands: tuple[Expression, ...]


Expression = Union[Attribute, Literal, Unary, BinaryOperation, Logic]  # noqa: UP007


class SpansetFilter(NamedTuple):
    """The spans for which an expression is true."""

    expression: Expression


class SpansetOperation(NamedTuple):
    """Spans of two sets that are related as an operator says."""

    operator: str
    left: Spanset
    right: Spanset


Spanset = Union[SpansetFilter, SpansetOperation]  # noqa: UP007


class Aggregate(NamedTuple):
    """A number of a set of spans: ``count()``, or ``min``, ``max``, ``avg`` and ``sum`` of an expression."""

    function: str
    expression: Expression | None


class ScalarOperation(NamedTuple):
    """Arithmetic with numbers of a set of spans."""

    operator: str
    left: Scalar
    right: Scalar


Scalar = Union[Aggregate, Literal, ScalarOperation]  # noqa: UP007


class FilterStage(NamedTuple):
    """Keeps the spans of a spanset expression."""

    spanset: Spanset


class ScalarFilter(NamedTuple):
    """Keeps the sets of spans for which a comparison of numbers holds."""

    operator: str
    left: Scalar
    right: Scalar


class Group(NamedTuple):
    """Splits sets of spans by the value of an expression."""

    expression: Expression


class Coalesce(NamedTuple):
    """Joins the sets of spans of a trace."""


class Select(NamedTuple):
    """Adds fields to the spans of the answer."""

    attributes: tuple[Attribute, ...]


Stage = Union[FilterStage, ScalarFilter, Group, Coalesce, Select]  # noqa: UP007


class Measure(NamedTuple):
    """A number over time: ``rate()``, ``quantile_over_time(duration, 0.9) by (name)`` and the like."""

    function: str
    attribute: Attribute | None
    quantiles: tuple[float, ...]
    by: tuple[Attribute, ...]


class Compare(NamedTuple):
    """Counts all values of all attributes, apart for spans that a filter selects and for the others."""

    selection: SpansetFilter
    top: int
    #: Nanoseconds since the epoch between which spans are selected; 0 for no bounds.
    start: int
    end: int


class TopSeries(NamedTuple):
    """Keeps the largest (``topk``) or smallest (``bottomk``) series at each time."""

    function: str
    number: int


class Query(NamedTuple):
    """A whole query."""

    stages: tuple[Stage, ...]
    measure: Measure | Compare | None = None
    tops: tuple[TopSeries, ...] = ()
    hints: tuple[tuple[str, Literal], ...] = ()


INTRINSICS = {
    "name": "string",
    "status": "status",
    "statusMessage": "string",
    "kind": "kind",
    "duration": "duration",
    "childCount": "int",
    "nestedSetLeft": "int",
    "nestedSetRight": "int",
    "nestedSetParent": "int",
    "spanID": "string",
    "parentID": "string",
    "traceID": "string",
    "traceDuration": "duration",
    "rootName": "string",
    "rootServiceName": "string",
    "event:name": "string",
    "event:timeSinceStart": "duration",
    "link:traceID": "string",
    "link:spanID": "string",
    "instrumentation:name": "string",
    "instrumentation:version": "string",
}
"""The intrinsics and their types."""

ALIASES = {
    "span:name": "name",
    "span:status": "status",
    "span:statusMessage": "statusMessage",
    "span:kind": "kind",
    "span:duration": "duration",
    "span:childCount": "childCount",
    "span:id": "spanID",
    "span:parentID": "parentID",
    "trace:id": "traceID",
    "trace:duration": "traceDuration",
    "trace:rootName": "rootName",
    "trace:rootService": "rootServiceName",
}
"""The other names of intrinsics, with their scope."""

_PRINTED = {"spanID": "span:id", "parentID": "span:parentID", "traceID": "trace:id"}


# To text, which reads as the same tree.


def format_query(query: Query) -> str:
    """Return a query's text."""
    parts = [_format_stage(stage) for stage in query.stages]
    if query.measure is not None:
        parts.append(_format_measure(query.measure))
    parts += [f"{top.function}({top.number})" for top in query.tops]
    text = " | ".join(parts)
    if query.hints:
        hints = ", ".join(f"{name}={_format_literal(value)}" for name, value in query.hints)
        text += f" with({hints})"
    return text


def _format_stage(stage: Stage) -> str:
    if isinstance(stage, FilterStage):
        return _format_spanset(stage.spanset)
    if isinstance(stage, ScalarFilter):
        return f"{_format_scalar(stage.left)} {stage.operator} {_format_scalar(stage.right)}"
    if isinstance(stage, Group):
        return f"by({format_expression(stage.expression)})"
    if isinstance(stage, Select):
        return f"select({_format_attributes(stage.attributes)})"
    return "coalesce()"


def _format_spanset(spanset: Spanset) -> str:
    if isinstance(spanset, SpansetFilter):
        return f"{{ {format_expression(spanset.expression)} }}"
    sides = [
        f"({_format_spanset(side)})"
        if isinstance(side, SpansetOperation)
        else _format_spanset(side)
        for side in (spanset.left, spanset.right)
    ]
    return f" {spanset.operator} ".join(sides)


def _format_scalar(scalar: Scalar) -> str:
    if isinstance(scalar, Literal):
        return _format_literal(scalar)
    if isinstance(scalar, Aggregate):
        inner = "" if scalar.expression is None else format_expression(scalar.expression)
        return f"{scalar.function}({inner})"
    # Everything within stands in brackets: a number with a sign is no base of a power.
    left, right = (f"({_format_scalar(side)})" for side in (scalar.left, scalar.right))
    return f"{left} {scalar.operator} {right}"


def _format_measure(measure: Measure | Compare) -> str:
    if isinstance(measure, Compare):
        parts = [_format_spanset(measure.selection), str(measure.top)]
        if measure.start or measure.end:
            parts += [str(measure.start), str(measure.end)]
        return f"compare({', '.join(parts)})"
    inner = [] if measure.attribute is None else [_format_attribute(measure.attribute)]
    inner += map(repr, measure.quantiles)
    by = f" by({_format_attributes(measure.by)})" if measure.by else ""
    return f"{measure.function}({', '.join(inner)}){by}"


def format_expression(expression: Expression) -> str:
    """Return an expression's text."""
    if isinstance(expression, Attribute):
        return _format_attribute(expression)
    if isinstance(expression, Literal):
        return _format_literal(expression)
    if isinstance(expression, Unary):
        return f"{expression.operator}{_format_operand(expression.operand)}"
    if isinstance(expression, Logic):
        return f" {expression.operator} ".join(map(_format_operand, expression.operands))
    left = _format_operand(expression.left)
    if expression.operator == "^" and left.startswith("-"):
        left = f"({left})"
    return f"{left} {expression.operator} {_format_operand(expression.right)}"


def _format_operand(expression: Expression) -> str:
    text = format_expression(expression)
    return text if isinstance(expression, (Attribute, Literal)) else f"({text})"


def _format_attributes(attributes: tuple[Attribute, ...]) -> str:
    return ", ".join(map(_format_attribute, attributes))


_PLAIN_KEY = re.compile(r"[^\s{}()=~!<>&|^,\"0-9][^\s{}()=~!<>&|^,\"]*")
_PARENT_SCOPES = ("resource.", "span.")


def _format_attribute(attribute: Attribute) -> str:
    scope, key = attribute.scope, attribute.key
    if scope == "intrinsic":
        return _PRINTED.get(key, key)
    if not _PLAIN_KEY.fullmatch(key) or (
        attribute.of_parent and scope == "any" and key.startswith(_PARENT_SCOPES)
    ):
        escaped = key.replace("\\", "\\\\").replace('"', '\\"')
        key = f'"{escaped}"'
    prefix = "" if scope == "any" else scope
    if attribute.of_parent:
        return f"parent.{prefix}.{key}" if prefix else f"parent.{key}"
    return f"{prefix}.{key}"


_DURATION_UNITS = (
    ("h", 3_600 * 10**9),
    ("m", 60 * 10**9),
    ("s", 10**9),
    ("ms", 10**6),
    ("us", 10**3),
)


def _format_literal(literal: Literal) -> str:
    value = literal.value
    if literal.type == "string":
        assert isinstance(value, str)
        return _quote_string(value)
    if literal.type == "duration":
        assert isinstance(value, int)
        for unit, size in _DURATION_UNITS:
            if value % size == 0:
                return f"{value // size}{unit}"
        return f"{value}ns"
    if literal.type == "nil":
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _quote_string(text: str) -> str:
    if "`" not in text:
        return f"`{text}`"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
