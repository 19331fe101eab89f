"""Which spans of a trace a TraceQL query is about, and what is known of it before the trace is read.

``condition_of`` makes the condition that all such spans meet; ``find_sets`` does the rest, on whole
traces: relations of spans, fields of parents, arithmetic, pipelines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

from rimp_otel.models.accessors import end_of, parent_id_of, service_of, span_id_of, start_of
from rimp_otel.viewer.search.conditions import (
    COMPARISONS,
    TRACE_INTRINSICS,
    All,
    Comparison,
    Condition,
    Either,
    Scope,
    WholeTrace,
    values_of,
)
from rimp_otel.viewer.search.patterns import compile_full_match
from rimp_otel.viewer.tempo.traceql_tree import (
    INTRINSICS,
    Aggregate,
    Attribute,
    BinaryOperation,
    Coalesce,
    Expression,
    FilterStage,
    Group,
    Literal,
    Logic,
    Query,
    Scalar,
    ScalarFilter,
    ScalarOperation,
    Select,
    Spanset,
    SpansetFilter,
    Stage,
    Unary,
    format_expression,
)

__all__ = [
    "NeededCondition",
    "SpanSet",
    "TraceTree",
    "attributes_in",
    "condition_of",
    "field_of",
    "find_sets",
    "is_about_roots",
    "is_about_traces",
    "needs_trace",
    "root_condition",
    "root_field",
]


# What can be asked of a single span.


class NeededCondition(NamedTuple):
    """A condition that spans must meet; ``is_enough`` if those that do are the ones asked for."""

    #: None for no condition.
    condition: Condition | None
    is_enough: bool


_NONE = NeededCondition(None, False)
_TRUE = NeededCondition(None, True)
_FALSE = NeededCondition(Either(()), True)
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}
_OF_TRACE = frozenset({"childCount", "nestedSetLeft", "nestedSetRight"})


def condition_of(spanset: Spanset) -> NeededCondition:
    """Return the narrowest condition that some span of each trace must meet to have such spans.

    Of a filter it is a condition of the spans themselves.
    """
    if isinstance(spanset, SpansetFilter):
        return _condition_of(spanset.expression)
    left, right = (
        condition_of(side)._replace(is_enough=False) for side in (spanset.left, spanset.right)
    )
    if spanset.operator == "||":
        return _either([left, right])
    # With any other operator there are none without one on the right.
    return left if right.condition is None and not spanset.operator.startswith("!") else right


def _condition_of(expression: Expression) -> NeededCondition:
    if isinstance(expression, Literal):
        return _TRUE if expression.value is True else _FALSE
    if isinstance(expression, Attribute):
        return _compare(expression, "=", Literal("bool", True))
    if isinstance(expression, Logic):
        parts = [_condition_of(operand) for operand in expression.operands]
        return _all(parts) if expression.operator == "&&" else _either(parts)
    if isinstance(expression, BinaryOperation) and expression.operator in (*_FLIPPED, "=~", "!~"):
        left, operator, right = expression.left, expression.operator, expression.right
        if isinstance(left, Attribute) and isinstance(right, Literal):
            return _compare(left, operator, right)
        if isinstance(left, Literal) and isinstance(right, Attribute) and operator in _FLIPPED:
            return _compare(right, _FLIPPED[operator], left)
    return _NONE


def _all(parts: Sequence[NeededCondition]) -> NeededCondition:
    conditions = [part.condition for part in parts if part.condition is not None]
    joined = conditions[0] if len(conditions) == 1 else All(tuple(conditions))
    return NeededCondition(joined if conditions else None, all(part.is_enough for part in parts))


def _either(parts: Sequence[NeededCondition]) -> NeededCondition:
    conditions = [part.condition for part in parts if part.condition is not None]
    if len(conditions) < len(parts):
        return NeededCondition(None, _TRUE in parts)
    return NeededCondition(Either(tuple(conditions)), all(part.is_enough for part in parts))


def _compare(attribute: Attribute, operator: str, literal: Literal) -> NeededCondition:
    field = field_of(attribute)
    if field is None:
        return _NONE
    scope, key = field
    if literal.type == "nil":
        return (
            NeededCondition(Comparison(scope, key, "exists"), True) if operator == "!=" else _NONE
        )
    if scope is not Scope.INTRINSIC and literal.type in ("status", "kind"):
        return _FALSE
    if isinstance(literal.value, bool) and operator not in ("=", "!="):
        return _FALSE
    if key == "nestedSetParent" and scope is Scope.INTRINSIC:
        return _compare_root(operator, literal)
    return NeededCondition(Comparison(scope, key, operator, literal.value), True)


def _compare_root(operator: str, literal: Literal) -> NeededCondition:
    # A root has -1, and all others have a number from 1 on that the whole trace tells.
    is_about_roots = (operator, literal.value) in {
        ("<", 0),
        ("=", -1),
        ("<", 1),
        ("<=", -1),
        ("<=", 0),
    }
    is_about_others = (operator, literal.value) in {
        (">", 0),
        (">=", 0),
        ("!=", -1),
        (">", -1),
        (">=", 1),
    }
    if is_about_roots or is_about_others:
        sign = "<" if is_about_roots else ">"
        return NeededCondition(Comparison(Scope.INTRINSIC, "nestedSetParent", sign, 0), True)
    return _NONE


def field_of(attribute: Attribute) -> tuple[Scope, str] | None:
    """Return the attribute as conditions have it; None for what a single span does not tell."""
    if attribute.of_parent or (attribute.scope == "intrinsic" and attribute.key in _OF_TRACE):
        return None
    return Scope(attribute.scope), attribute.key


_ROOTS = Comparison(Scope.INTRINSIC, "nestedSetParent", "<", 0)
_OF_ROOTS = {
    (Scope.INTRINSIC, "rootName"): (Scope.INTRINSIC, "name"),
    (Scope.INTRINSIC, "rootServiceName"): (Scope.RESOURCE, "service.name"),
}


def is_about_roots(condition: Condition | None) -> bool:
    """Return True if only the roots of traces meet the condition."""
    if isinstance(condition, All):
        return any(map(is_about_roots, condition.parts))
    return condition == _ROOTS


def is_about_traces(condition: Condition | None) -> bool:
    """Return True if a single span does not tell whether it meets the condition."""
    if condition is None:
        return False
    if isinstance(condition, Comparison):
        return condition.scope is Scope.INTRINSIC and condition.key in TRACE_INTRINSICS
    return any(map(is_about_traces, condition.parts))


def root_field(scope: Scope, key: str) -> tuple[Scope, str]:
    """Return the field of a root span that has the same value."""
    return _OF_ROOTS.get((scope, key), (scope, key))


def root_condition(condition: Condition) -> Condition:
    """Return the condition that is the same for root spans, and says less about traces."""
    if isinstance(condition, Comparison):
        scope, key = root_field(condition.scope, condition.key)
        return condition._replace(scope=scope, key=key)
    return condition._replace(parts=tuple(map(root_condition, condition.parts)))


def needs_trace(attributes: Collection[Attribute]) -> bool:
    """Return True if their values depend on other spans of the trace."""
    return any(
        field_of(attribute) is None or attribute == Attribute("intrinsic", "nestedSetParent")
        for attribute in attributes
    )


def attributes_in(query: Query) -> list[Attribute]:
    """Return the attributes that a query mentions before it measures, each once."""
    found: dict[Attribute, None] = {}
    waiting: list[Any] = [*reversed(query.stages)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Attribute):
            found[node] = None
        else:
            waiting += [part for part in reversed(node) if isinstance(part, tuple)]
    return list(found)


# Whole traces.


class TraceTree:
    """The spans of a trace, and how they are related. A span is known by its position in the list."""

    def __init__(self, spans: Sequence[ReadableSpan]) -> None:
        self.spans = spans

    @cached_property
    def parents(self) -> list[int | None]:
        """The positions of the spans' parents; None where there is none."""
        positions = {span_id_of(span): at for at, span in enumerate(self.spans) if span_id_of(span)}
        found = (positions.get(parent_id_of(span)) for span in self.spans)
        return [None if parent == at else parent for at, parent in enumerate(found)]

    @cached_property
    def children(self) -> list[list[int]]:
        """The positions of the spans' children."""
        found: list[list[int]] = [[] for _ in self.spans]
        for at, parent in enumerate(self.parents):
            if parent is not None:
                found[parent].append(at)
        return found

    @cached_property
    def order(self) -> list[int]:
        """All positions, parents before their children; without spans that are their own ancestors."""
        found = [at for at, parent in enumerate(self.parents) if parent is None]
        for at in found:
            found += self.children[at]
        return found

    @cached_property
    def facts(self) -> WholeTrace:
        """What is known of the trace."""
        roots = [span for span in self.spans if not parent_id_of(span)]
        root = min(roots, key=start_of, default=None)
        start = min((start_of(span) for span in self.spans if start_of(span)), default=0)
        end = max((end_of(span) or start_of(span) for span in self.spans), default=0)
        name, service = ("", "") if root is None else (root.name, service_of(root))
        return WholeTrace(name, service, end - start if start else 0)

    @cached_property
    def nested_sets(self) -> list[tuple[int, int, int]]:
        """Of each span its left and right number and the left one of its parent.

        A root's parent has -1. What hangs on no root has 0.
        """
        found = [(0, 0, 0)] * len(self.spans)
        number = 0
        for at, span in enumerate(self.spans):
            if parent_id_of(span):
                continue
            waiting: list[tuple[int, int, bool]] = [(at, -1, False)]
            while waiting:
                position, parent, is_done = waiting.pop()
                number += 1
                if is_done:
                    found[position] = (found[position][0], number, parent)
                    continue
                found[position] = (number, 0, parent)
                waiting.append((position, parent, True))
                left = number
                waiting += [(child, left, False) for child in reversed(self.children[position])]
        return found

    def values(self, at: int, attribute: Attribute) -> Sequence[Any]:
        """Return the values of an attribute that the span at a position has."""
        if attribute.of_parent:
            parent = self.parents[at]
            return (
                () if parent is None else self.values(parent, attribute._replace(of_parent=False))
            )
        if attribute.scope == "intrinsic":
            if attribute.key == "childCount":
                return (len(self.children[at]),)
            if attribute.key.startswith("nestedSet"):
                left, right, parent_left = self.nested_sets[at]
                return ({"Left": left, "Right": right}.get(attribute.key[9:], parent_left),)
        return values_of(self.spans[at], Scope(attribute.scope), attribute.key, self.facts)


class SpanSet(NamedTuple):
    """Spans of a trace, by position in order, and numbers and values that they have in common."""

    positions: tuple[int, ...]
    attributes: tuple[tuple[str, Any], ...] = ()


def find_sets(stages: Sequence[Stage], trace: TraceTree) -> list[SpanSet]:
    """Return the sets of a trace's spans that the stages of a query leave."""
    sets = [SpanSet(tuple(range(len(trace.spans))))]
    for stage in stages:
        sets = [result for one in sets for result in _apply(stage, one, trace)]
        if isinstance(stage, Coalesce) and sets:
            sets = [SpanSet(tuple(sorted({at for one in sets for at in one.positions})))]
        sets = [one for one in sets if one.positions]
    return sets


def _apply(stage: Stage, one: SpanSet, trace: TraceTree) -> Iterator[SpanSet]:
    if isinstance(stage, FilterStage):
        kept = _select(stage.spanset, frozenset(one.positions), trace)
        yield one._replace(positions=tuple(sorted(kept)))
    elif isinstance(stage, ScalarFilter):
        yield from _filter_by_number(stage, one, trace)
    elif isinstance(stage, Group):
        yield from _group(stage, one, trace)
    elif isinstance(stage, (Select, Coalesce)):
        yield one


def _group(stage: Group, one: SpanSet, trace: TraceTree) -> Iterator[SpanSet]:
    evaluate = _evaluator(stage.expression)
    groups: dict[Any, list[int]] = {}
    for at in one.positions:
        value = next(iter(evaluate(trace, at)), None)
        groups.setdefault((type(value), _group_key(value)), []).append(at)
    name = f"by({format_expression(stage.expression)})"
    for (_, value), positions in groups.items():
        yield SpanSet(tuple(positions), (*one.attributes, (name, value)))


def _group_key(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


# Relations of spans.


def _select(spanset: Spanset, base: frozenset[int], trace: TraceTree) -> frozenset[int]:
    if isinstance(spanset, SpansetFilter):
        is_true = _truth(spanset.expression)
        return frozenset(at for at in base if is_true(trace, at))
    left, right = (_select(side, base, trace) for side in (spanset.left, spanset.right))
    operator = spanset.operator
    if operator == "&&":
        return left | right if left and right else frozenset()
    if operator == "||":
        return left | right
    find = _RELATIONS[operator.lstrip("!&")]
    related = find(trace, left) & right
    if operator.startswith("!"):
        return right - related
    if operator.startswith("&"):
        return related | (_RELATIONS[_REVERSED[operator[1:]]](trace, right) & left)
    return related


def _children_of(trace: TraceTree, spans: frozenset[int]) -> frozenset[int]:
    return frozenset(child for at in spans for child in trace.children[at])


def _parents_of(trace: TraceTree, spans: frozenset[int]) -> frozenset[int]:
    return frozenset(parent for at in spans if (parent := trace.parents[at]) is not None)


def _descendants_of(trace: TraceTree, spans: frozenset[int]) -> frozenset[int]:
    found: set[int] = set()
    for at in trace.order:
        parent = trace.parents[at]
        if parent is not None and (parent in spans or parent in found):
            found.add(at)
    return frozenset(found)


def _ancestors_of(trace: TraceTree, spans: frozenset[int]) -> frozenset[int]:
    found: set[int] = set()
    for at in reversed(trace.order):
        parent = trace.parents[at]
        if parent is not None and (at in spans or at in found):
            found.add(parent)
    return frozenset(found)


def _siblings_of(trace: TraceTree, spans: frozenset[int]) -> frozenset[int]:
    found: set[int] = set()
    for parent in _parents_of(trace, spans):
        family = trace.children[parent]
        among = [at for at in family if at in spans]
        found.update(at for at in family if len(among) > 1 or at != among[0])
    return frozenset(found)


_RELATIONS: dict[str, Callable[[TraceTree, frozenset[int]], frozenset[int]]] = {
    ">": _children_of,
    ">>": _descendants_of,
    "<": _parents_of,
    "<<": _ancestors_of,
    "~": _siblings_of,
}
_REVERSED = {">": "<", ">>": "<<", "<": ">", "<<": ">>", "~": "~"}


# Expressions.

Evaluator = Callable[[TraceTree, int], Sequence[Any]]
"""Returns the values that an expression has for a span: several of events and links, none of what is absent."""


def _truth(expression: Expression) -> Callable[[TraceTree, int], bool]:
    evaluate = _evaluator(expression)
    return lambda trace, at: any(value is True for value in evaluate(trace, at))


def _evaluator(expression: Expression) -> Evaluator:
    if isinstance(expression, Attribute):
        return lambda trace, at: trace.values(at, expression)
    if isinstance(expression, Literal):
        values = () if expression.type == "nil" else (expression.value,)
        return lambda trace, at: values
    if isinstance(expression, Logic):
        tests = [_truth(operand) for operand in expression.operands]
        join = all if expression.operator == "&&" else any
        return lambda trace, at: (join(test(trace, at) for test in tests),)
    if isinstance(expression, Unary):
        return _unary_evaluator(expression)
    return _operation_evaluator(expression)


def _unary_evaluator(expression: Unary) -> Evaluator:
    if expression.operator == "!":
        is_true = _truth(expression.operand)
        return lambda trace, at: (not is_true(trace, at),)
    evaluate = _evaluator(expression.operand)
    return lambda trace, at: tuple(-v for v in evaluate(trace, at) if _is_calculable(v))


_NIL = Literal("nil", None)
_NO_TRACE = TraceTree(())  # to ask a constant for its value


def _operation_evaluator(expression: BinaryOperation) -> Evaluator:
    operator = expression.operator
    if _NIL in (expression.left, expression.right):
        return _nil_evaluator(expression)
    left, right = _evaluator(expression.left), _evaluator(expression.right)
    if operator in _ARITHMETIC:
        calculate = _ARITHMETIC[operator]
        return lambda trace, at: _calculate(calculate, left(trace, at), right(trace, at))
    if not _can_be_equal(expression.left, expression.right):
        return lambda trace, at: (False,)
    if operator in ("=~", "!~"):
        return _regex_evaluator(left, operator == "=~", str(right(_NO_TRACE, 0)[0]))
    compare = COMPARISONS[operator]
    return lambda trace, at: (_compare_any(compare, left(trace, at), right(trace, at)),)


def _regex_evaluator(evaluate: Evaluator, is_wanted: bool, pattern: str) -> Evaluator:
    matches = compile_full_match(pattern)
    return lambda trace, at: (
        any(isinstance(v, str) and matches(v) is is_wanted for v in evaluate(trace, at)),
    )


def _nil_evaluator(expression: BinaryOperation) -> Evaluator:
    other = expression.left if expression.right == _NIL else expression.right
    evaluate = _evaluator(other)
    wanted = expression.operator == "!="
    if expression.operator not in ("=", "!="):
        return lambda trace, at: (False,)
    return lambda trace, at: (bool(evaluate(trace, at)) is wanted,)


def _can_be_equal(left: Expression, right: Expression) -> bool:
    """Return False if one side is a status or a kind and the other an attribute, which is neither."""
    types = [_keyword_type(side) for side in (left, right)]
    return not any(types) or all(types)


def _keyword_type(expression: Expression) -> bool:
    if isinstance(expression, Attribute):
        is_intrinsic = expression.scope == "intrinsic"
        return is_intrinsic and INTRINSICS[expression.key] in ("status", "kind")
    return isinstance(expression, Literal) and expression.type in ("status", "kind")


def _is_calculable(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _compare_any(
    compare: Callable[[Any, Any], bool], left: Sequence[Any], right: Sequence[Any]
) -> bool:
    return any(
        compare(one, other) for one in left for other in right if _are_comparable(one, other)
    )


def _are_comparable(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return isinstance(left, bool) and isinstance(right, bool)
    if isinstance(left, str):
        return isinstance(right, str)
    return _is_calculable(left) and _is_calculable(right)


def _divide(left: float, right: float) -> float:
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    return left / right


_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": _divide,
    "%": math.fmod,
    "^": math.pow,
}


def _calculate(
    calculate: Callable[[Any, Any], Any], left: Sequence[Any], right: Sequence[Any]
) -> Sequence[Any]:
    numbers = [next(filter(_is_calculable, side), None) for side in (left, right)]
    if None in numbers:
        return ()
    try:
        return (calculate(*numbers),)
    except (ArithmeticError, ValueError):
        return ()


# Numbers of sets.


def _filter_by_number(stage: ScalarFilter, one: SpanSet, trace: TraceTree) -> Iterator[SpanSet]:
    seen: dict[str, Any] = {}
    left = _scalar(stage.left, one, trace, seen)
    right = _scalar(stage.right, one, trace, seen)
    if _compare_any(COMPARISONS[stage.operator], left, right):
        known = dict(one.attributes)
        known |= seen
        yield one._replace(attributes=tuple(known.items()))


def _scalar(scalar: Scalar, one: SpanSet, trace: TraceTree, seen: dict[str, Any]) -> Sequence[Any]:
    """Return the number of a set, or nothing; note those of aggregates by their text."""
    if isinstance(scalar, Literal):
        return (scalar.value,)
    if isinstance(scalar, ScalarOperation):
        sides = [_scalar(side, one, trace, seen) for side in (scalar.left, scalar.right)]
        return _calculate(_ARITHMETIC[scalar.operator], *sides)
    values = _aggregate(scalar, one, trace)
    inner = "" if scalar.expression is None else format_expression(scalar.expression)
    if values:
        seen[f"{scalar.function}({inner})"] = values[0]
    return values


def _aggregate(scalar: Aggregate, one: SpanSet, trace: TraceTree) -> Sequence[Any]:
    if scalar.expression is None:
        return (len(one.positions),)
    evaluate = _evaluator(scalar.expression)
    numbers = [v for at in one.positions for v in evaluate(trace, at) if _is_calculable(v)]
    if not numbers:
        return ()
    if scalar.function == "avg":
        return (sum(numbers) / len(numbers),)
    if scalar.function == "sum":
        return (sum(numbers),)
    return (min(numbers) if scalar.function == "min" else max(numbers),)
