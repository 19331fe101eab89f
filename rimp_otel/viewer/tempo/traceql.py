"""TraceQL, Grafana Tempo's language of questions about traces: from text to the tree of a query.

``docs/grafana.md`` has what it takes, which is what Grafana's search builder and Traces Drilldown write,
and more. Errors name the position. Parsing needs the extra ``server``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from rimp_otel.errors import ConfigurationError, MissingExtraError
from rimp_otel.process import importing
from rimp_otel.viewer.search.patterns import compile_full_match
from rimp_otel.viewer.tempo.traceql_tree import (
    ALIASES,
    INTRINSICS,
    Aggregate,
    Attribute,
    BinaryOperation,
    Coalesce,
    Compare,
    Expression,
    FilterStage,
    Group,
    Literal,
    Logic,
    Measure,
    Query,
    Scalar,
    ScalarFilter,
    ScalarOperation,
    Select,
    Spanset,
    SpansetFilter,
    SpansetOperation,
    Stage,
    TopSeries,
    Unary,
    format_expression,
)

__all__ = ["TraceQLError", "parse_traceql", "parse_traceql_field"]

_MAX_LENGTH = 32_768
_MAX_DEPTH = 64
_MAX_INT = 2**63 - 1
_DEFAULT_TOP = 10


class TraceQLError(ConfigurationError):
    """A query that cannot be read, or that makes no sense.

    Args:
        reason: what is wrong, with the position.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"invalid TraceQL query: {reason}")


def parse_traceql(text: str) -> Query:
    """Return the tree of a query.

    Raises:
        TraceQLError: it is none, or compares what cannot be compared.
        MissingExtraError: lark is not installed.
    """
    if len(text) > _MAX_LENGTH:
        raise TraceQLError(f"it has {len(text)} characters, at most {_MAX_LENGTH} are allowed")
    query = _parser()(text)
    _check_depth(query)
    for stage in query.stages:
        _check_stage(stage)
    if query.measure is not None:
        _check_measure(query.measure)
    return query


def parse_traceql_field(text: str) -> Attribute:
    """Return the attribute of a text such as ``resource.service.name`` or ``name``.

    Raises:
        TraceQLError: it is none.
        MissingExtraError: lark is not installed.
    """
    try:
        stages = parse_traceql(f"{{}} | select({text})").stages
    except TraceQLError:
        stages = ()
    if len(stages) == 2 and isinstance(stages[1], Select) and len(stages[1].attributes) == 1:
        return stages[1].attributes[0]
    raise TraceQLError(f"not an intrinsic or an attribute with its scope: {text[:100]!r}")


# The grammar. As in Tempo, && and || bind alike, from the left.

_GRAMMAR = r"""
start: pipeline hints?                                  -> search
     | pipeline "|" measure ("|" top)* hints?           -> metrics

pipeline: stage | pipeline "|" stage
?stage: set_logic                                       -> filter_stage
      | scalar COMPARISON scalar                        -> scalar_filter
      | scalar EQUALS scalar                            -> scalar_filter
      | scalar ORDER scalar                             -> scalar_filter
      | "by" "(" logic ")"                              -> group
      | "coalesce" "(" ")"                              -> coalesce
      | "select" "(" attribute ("," attribute)* ")"     -> select

?set_logic: set_structure
          | set_logic LOGIC set_structure               -> spanset_operation
?set_structure: set_atom
              | set_structure STRUCTURE set_atom        -> spanset_operation
              | set_structure ORDER set_atom            -> spanset_operation
              | set_structure NOT_MATCH set_atom        -> spanset_operation
?set_atom: "(" set_logic ")" | filter
filter: "{" logic? "}"

?scalar: scalar_product
       | scalar SIGN scalar_product                     -> scalar_operation
?scalar_product: scalar_power
               | scalar_product FACTOR scalar_power     -> scalar_operation
?scalar_power: scalar_atom
             | scalar_atom POWER scalar_power           -> scalar_operation
?scalar_atom: "(" scalar ")" | number | aggregate
            | SIGN number                               -> signed_number
aggregate: "count" "(" ")"                              -> count
         | AGGREGATE "(" logic ")"                      -> aggregate

?logic: comparison
      | logic LOGIC comparison                          -> logic
?comparison: sum
           | comparison COMPARISON sum                  -> operation
           | comparison EQUALS sum                      -> operation
           | comparison NOT_MATCH sum                   -> operation
           | comparison ORDER sum                       -> operation
?sum: product
    | sum SIGN product                                  -> operation
?product: unary
        | product FACTOR unary                          -> operation
?unary: power
      | SIGN unary                                      -> unary
      | NOT unary                                       -> unary
?power: atom
      | atom POWER unary                                -> operation
?atom: "(" logic ")" | number | literal | attribute

measure: RATE "(" ")" by?                               -> rate
       | OVER_TIME "(" attribute ")" by?                -> over_time
       | "quantile_over_time" "(" attribute ("," quantile)+ ")" by? -> quantiles
       | "compare" "(" filter ("," whole)* ")"          -> compare
by: "by" "(" attribute ("," attribute)* ")"
top: TOP "(" whole ")"
hints: "with" "(" hint ("," hint)* ")"
hint: WORD EQUALS (number | literal)

quantile: INTEGER | FLOAT
whole: INTEGER
number: DURATION | FLOAT | INTEGER
literal: STRING | RAW_STRING | CONSTANT
attribute: ATTRIBUTE | WORD

LOGIC: "&&" | "||"
COMPARISON: "!=" | ">=" | "<=" | "=~"
EQUALS: "="
ORDER: ">" | "<"
NOT_MATCH: "!~"
STRUCTURE: ">>" | "<<" | "~" | "!>>" | "!<<" | "!>" | "!<" | "&>>" | "&<<" | "&>" | "&<" | "&~"
SIGN: "+" | "-"
FACTOR: "*" | "/" | "%"
POWER: "^"
NOT: "!"
AGGREGATE.1: /(?:min|max|avg|sum)(?![\w:])/
RATE.1: /(?:rate|count_over_time)(?![\w:])/
OVER_TIME.1: /(?:min|max|avg|sum|histogram)_over_time(?![\w:])/
TOP.1: /(?:topk|bottomk)(?![\w:])/
CONSTANT.1: /(?:true|false|nil|ok|error|unset|unspecified|internal|server|client|producer|consumer)(?![\w:])/
DURATION.5: /(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|μs|ms|s|m|h|d|w))+(?![\w.])/
FLOAT.4: /(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.])|[0-9]+[eE][+-]?[0-9]+(?![\w.])/
INTEGER.3: /[0-9]+(?![\w.])/
ATTRIBUTE.2: /(?:parent\.(?:resource\.|span\.)?|(?:resource|span|event|link|instrumentation)?\.)(?:[^\s{}()=~!<>&|^,"]|"(?:[^"\\]|\\.)*")+/
WORD: /[A-Za-z_]\w*(?::[A-Za-z]+)?/
STRING: /"(?:[^"\\\n]|\\.)*"/
RAW_STRING: /`[^`]*`/
%ignore /\s+/
"""


@cache
def _parser() -> Callable[[str], Query]:
    try:
        with importing():
            import lark
    except ImportError:
        raise MissingExtraError("lark", "server") from None
    parser = lark.Lark(_GRAMMAR, parser="lalr", lexer="basic", transformer=_TreeBuilder())

    def parse(text: str) -> Query:
        try:
            query: Any = parser.parse(text)
        except lark.exceptions.UnexpectedToken as error:
            is_end = error.token.type == "$END"
            line, column = _position_of_end(text) if is_end else (error.line, error.column)
            found = "$end" if is_end else str(error.token)
            reason = f"unexpected {found}{_expectation(error.accepts)}"
            raise _parse_error(line, column, f"syntax error: {reason}") from None
        except lark.exceptions.UnexpectedCharacters as error:
            character = text[error.pos_in_stream or 0]
            reason = "literal not terminated" if character in '"`' else f"unexpected {character}"
            raise _parse_error(error.line, error.column, f"syntax error: {reason}") from None
        assert isinstance(query, Query)
        return query

    return parse


def _parse_error(line: int, column: int, reason: str) -> TraceQLError:
    return TraceQLError(f"parse error at line {line}, col {column}: {reason}")


def _position_of_end(text: str) -> tuple[int, int]:
    return text.count("\n") + 1, len(text) - text.rfind("\n")


_SHOWN = {"LBRACE": "{", "RBRACE": "}", "LPAR": "(", "RPAR": ")", "COMMA": ",", "VBAR": "|"}
_SHOWN |= {"$END": "$end", "EQUALS": "="}
_MAX_SHOWN = 4


def _expectation(terminals: Iterable[str]) -> str:
    """Return what could stand there instead, if that is not much."""
    names = sorted(_SHOWN.get(name, name) for name in terminals)
    return f", expecting {' or '.join(names)}" if 0 < len(names) <= _MAX_SHOWN else ""


# From tokens to the tree.

_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3_600 * 10**9}
_UNITS |= {"µs": 10**3, "μs": 10**3, "d": 86_400 * 10**9, "w": 7 * 86_400 * 10**9}
_DURATION_PART = re.compile(r"([0-9]+)(?:\.([0-9]+))?(ns|us|µs|μs|ms|s|m|h|d|w)")
_QUOTED_PART = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPE = re.compile(
    r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.))", re.DOTALL
)
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_ESCAPED |= {"\\": "\\", '"': '"', "'": "'"}
_CONSTANTS = {"true": Literal("bool", True), "false": Literal("bool", False)}
_CONSTANTS |= {"nil": Literal("nil", None)}
_CONSTANTS |= {name: Literal("status", name) for name in ("ok", "error", "unset")}


# Names of ours alone, for span:id and the like.
_UNWRITTEN = frozenset({"spanID", "parentID", "traceID"})


class _TreeBuilder:
    """Makes the node of each rule of the grammar from those of its parts; lark calls the methods."""

    def search(self, parts: list[Any]) -> Query:
        return Query(tuple(parts[0]), hints=parts[1] if len(parts) > 1 else ())

    def metrics(self, parts: list[Any]) -> Query:
        stages, measure, *others = parts
        tops = tuple(part for part in others if isinstance(part, TopSeries))
        hints = others[-1] if len(others) > len(tops) else ()
        return Query(tuple(stages), measure, tops, hints)

    def pipeline(self, parts: list[Any]) -> list[Stage]:
        if len(parts) == 1:
            return parts
        parts[0].append(parts[1])
        return list(parts[0])

    def filter_stage(self, parts: list[Any]) -> FilterStage:
        return FilterStage(parts[0])

    def scalar_filter(self, parts: list[Any]) -> ScalarFilter:
        left, operator, right = parts
        if operator == "=~":
            raise _error_at(operator, "numbers have no regular expressions")
        return ScalarFilter(str(operator), left, right)

    def group(self, parts: list[Any]) -> Group:
        return Group(parts[0])

    def coalesce(self, parts: list[Any]) -> Coalesce:
        return Coalesce()

    def select(self, parts: list[Any]) -> Select:
        return Select(tuple(parts))

    def spanset_operation(self, parts: list[Any]) -> SpansetOperation:
        left, operator, right = parts
        return SpansetOperation(str(operator), left, right)

    def filter(self, parts: list[Any]) -> SpansetFilter:
        return SpansetFilter(parts[0] if parts else Literal("bool", True))

    def scalar_operation(self, parts: list[Any]) -> ScalarOperation:
        left, operator, right = parts
        return ScalarOperation(str(operator), left, right)

    def signed_number(self, parts: list[Any]) -> Literal:
        sign, number = parts
        return _negated(number) if sign == "-" else number

    def count(self, parts: list[Any]) -> Aggregate:
        return Aggregate("count", None)

    def aggregate(self, parts: list[Any]) -> Aggregate:
        function, expression = parts
        return Aggregate(str(function), expression)

    def logic(self, parts: list[Any]) -> Logic:
        left, operator, right = parts
        if isinstance(left, Logic) and left.operator == operator:
            return left._replace(operands=(*left.operands, right))
        return Logic(str(operator), (left, right))

    def operation(self, parts: list[Any]) -> BinaryOperation:
        left, operator, right = parts
        return BinaryOperation(str(operator), left, right)

    def unary(self, parts: list[Any]) -> Expression:
        operator, operand = parts
        if operator == "+":
            raise _error_at(operator, "syntax error: unexpected +")
        is_number = isinstance(operand, Literal) and operand.type in _NUMBERS
        return _negated(operand) if operator == "-" and is_number else Unary(str(operator), operand)

    def rate(self, parts: list[Any]) -> Measure:
        return Measure(str(parts[0]), None, (), parts[1] if len(parts) > 1 else ())

    def over_time(self, parts: list[Any]) -> Measure:
        function, attribute, *by = parts
        return Measure(str(function), attribute, (), by[0] if by else ())

    def quantiles(self, parts: list[Any]) -> Measure:
        attribute, *others = parts
        quantiles = tuple(part for part in others if isinstance(part, float))
        by = others[-1] if len(others) > len(quantiles) else ()
        return Measure("quantile_over_time", attribute, quantiles, by)

    def compare(self, parts: list[Any]) -> Compare:
        selection, *numbers = parts
        if len(numbers) not in (0, 1, 3):
            raise TraceQLError(
                "compare() takes a filter, the number of values, and a start and an end"
            )
        return Compare(selection, *numbers, *(_DEFAULT_TOP, 0, 0)[len(numbers) :])

    def by(self, parts: list[Any]) -> tuple[Attribute, ...]:
        return tuple(parts)

    def top(self, parts: list[Any]) -> TopSeries:
        function, number = parts
        return TopSeries(str(function), number)

    def hints(self, parts: list[Any]) -> tuple[tuple[str, Literal], ...]:
        return tuple(parts)

    def hint(self, parts: list[Any]) -> tuple[str, Literal]:
        name, _, value = parts
        return str(name), value

    def quantile(self, parts: list[Any]) -> float:
        number = float(parts[0])
        if not 0 <= number <= 1:
            raise _error_at(parts[0], f"a quantile is a number from 0 to 1, not {parts[0]}")
        return number

    def whole(self, parts: list[Any]) -> int:
        return int(self.number(parts).value or 0)

    def number(self, parts: list[Any]) -> Literal:
        token = parts[0]
        if token.type == "FLOAT":
            value: float = float(token)
            if math.isinf(value):
                raise _error_at(token, f"number too large: {token}")
            return Literal("float", value)
        whole = int(token) if token.type == "INTEGER" else _nanos_of(token)
        if whole > _MAX_INT:
            raise _error_at(token, f"number too large: {token}")
        return Literal("int" if token.type == "INTEGER" else "duration", whole)

    def literal(self, parts: list[Any]) -> Literal:
        token = parts[0]
        if token.type == "RAW_STRING":
            return Literal("string", str(token)[1:-1])
        if token.type == "STRING":
            return Literal("string", _unescape(token))
        return _CONSTANTS.get(token) or Literal("kind", str(token))

    def attribute(self, parts: list[Any]) -> Attribute:
        token = parts[0]
        if token.type == "WORD":
            key = ALIASES.get(token, str(token))
            if key not in INTRINSICS or token in _UNWRITTEN:
                hint = f"an attribute has a scope, such as span.{token} or .{token}"
                raise _error_at(token, f"syntax error: unexpected {token} ({hint})")
            return Attribute("intrinsic", key)
        text = str(token)
        if text.startswith("."):
            return Attribute("any", _unquote_key(text[1:]))
        scope, _, key = text.partition(".")
        if scope != "parent":
            return Attribute(scope, _unquote_key(key))
        for inner in ("resource", "span"):
            if key.startswith(f"{inner}.") and len(key) > len(inner) + 1:
                return Attribute(inner, _unquote_key(key[len(inner) + 1 :]), True)
        return Attribute("any", _unquote_key(key), True)


def _error_at(token: Any, reason: str) -> TraceQLError:
    return _parse_error(token.line, token.column, reason)


def _negated(literal: Literal) -> Literal:
    assert isinstance(literal.value, (int, float))
    return literal._replace(value=-literal.value)


def _nanos_of(text: str) -> int:
    total = 0
    for whole, fraction, unit in _DURATION_PART.findall(text):
        total += int(whole) * _UNITS[unit]
        if fraction:
            total += int(fraction) * _UNITS[unit] // 10 ** len(fraction)
    return total


def _unescape(token: Any) -> str:
    def replace(match: re.Match[str]) -> str:
        byte, short, long, octal, character = match.groups()
        if character is not None:
            if character not in _ESCAPED:
                raise _error_at(token, f"syntax error: unknown escape sequence \\{character}")
            return _ESCAPED[character]
        code = int(octal, 8) if octal else int(byte or short or long, 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise _error_at(token, f"syntax error: no such character: {match[0]}")
        return chr(code)

    return _ESCAPE.sub(replace, str(token)[1:-1])


def _unquote_key(text: str) -> str:
    return _QUOTED_PART.sub(lambda part: re.sub(r"(?s)\\(.)", r"\1", part[1]), text)


# What makes sense.

_NUMBERS = frozenset({"int", "float", "duration"})
_ORDERED = _NUMBERS | {"string"}
_ARITHMETIC = frozenset("+-*/%^")


def _check_depth(root: Query) -> None:
    """Raise TraceQLError if a tree is nested too deeply for what walks over it."""
    waiting: list[tuple[Any, int]] = [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > 2 * _MAX_DEPTH:  # operands stand in a tuple of their own
            raise TraceQLError(f"it is nested more than {_MAX_DEPTH} deep")
        waiting += [(part, depth + 1) for part in node if isinstance(part, tuple)]


def _check_stage(stage: Stage) -> None:
    if isinstance(stage, FilterStage):
        _check_spanset(stage.spanset)
    elif isinstance(stage, ScalarFilter):
        _check_scalar(stage.left)
        _check_scalar(stage.right)
    elif isinstance(stage, Group):
        _checked_type(stage.expression)


def _check_spanset(spanset: Spanset) -> None:
    if isinstance(spanset, SpansetOperation):
        _check_spanset(spanset.left)
        _check_spanset(spanset.right)
    elif _checked_type(spanset.expression) not in (None, "bool"):
        text = format_expression(spanset.expression)
        raise TraceQLError(f"span filter field expressions must resolve to a boolean: {{ {text} }}")


def _check_scalar(scalar: Scalar) -> None:
    if isinstance(scalar, ScalarOperation):
        _check_scalar(scalar.left)
        _check_scalar(scalar.right)
    elif (
        isinstance(scalar, Aggregate)
        and scalar.expression is not None
        and _checked_type(scalar.expression) not in (None, *_NUMBERS)
    ):
        text = format_expression(scalar.expression)
        raise TraceQLError(f"{scalar.function}() needs a number, not {text}")


def _check_measure(measure: Measure | Compare) -> None:
    if isinstance(measure, Compare):
        _check_spanset(measure.selection)
        if not measure.top:
            raise TraceQLError("compare() needs a number of values of at least 1")
        if (measure.start or measure.end) and measure.end <= measure.start:
            raise TraceQLError("the end of compare() must be after its start")
    elif measure.attribute is not None and _checked_type(measure.attribute) not in (
        None,
        *_NUMBERS,
    ):
        text = format_expression(measure.attribute)
        raise TraceQLError(f"{measure.function}() needs a number, not {text}")


def _checked_type(expression: Expression) -> str | None:
    """Return the type of an expression's value; None for what a recording alone can tell.

    Raises:
        TraceQLError: an operator has no meaning for its operands.
    """
    if isinstance(expression, Attribute):
        return INTRINSICS[expression.key] if expression.scope == "intrinsic" else None
    if isinstance(expression, Literal):
        return expression.type
    if isinstance(expression, Unary):
        operand = _checked_type(expression.operand)
        wanted = {"bool"} if expression.operator == "!" else _NUMBERS
        if operand is not None and operand not in wanted:
            raise _no_meaning(expression)
        return "bool" if expression.operator == "!" else operand
    if isinstance(expression, Logic):
        for operand_type in map(_checked_type, expression.operands):
            if operand_type not in (None, "bool"):
                raise _no_meaning(expression)
        return "bool"
    return _type_of_operation(expression)


def _type_of_operation(expression: BinaryOperation) -> str | None:
    operator = expression.operator
    types = [_checked_type(expression.left), _checked_type(expression.right)]
    known = {"number" if kind in _NUMBERS else kind for kind in types if kind is not None}
    if len(known - {"nil"}) > 1 or ("nil" in known and len(known) > 1 and None not in types):
        text = format_expression(expression)
        raise TraceQLError(f"binary operations must operate on the same type: {text}")
    if operator in _ARITHMETIC:
        if not known <= {"number"}:
            raise _no_meaning(expression)
        return _type_of_arithmetic(types)
    if operator in ("=~", "!~"):
        _check_regex(expression, types)
    elif operator not in ("=", "!=") and not {*types} - {None} <= _ORDERED:
        raise _no_meaning(expression)
    return "bool"


def _type_of_arithmetic(types: Sequence[str | None]) -> str | None:
    if None in types:
        return None
    return next((kind for kind in ("duration", "float") if kind in types), "int")


def _check_regex(expression: BinaryOperation, types: Sequence[str | None]) -> None:
    right = expression.right
    if not isinstance(right, Literal) or not {*types} <= {None, "string"}:
        raise _no_meaning(expression)
    try:
        compile_full_match(str(right.value))
    except (ConfigurationError, Warning) as error:
        raise TraceQLError(str(error)) from None


def _no_meaning(expression: Expression) -> TraceQLError:
    text = format_expression(expression)
    return TraceQLError(f"illegal operation for the given types: {text}")
