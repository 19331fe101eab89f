"""The language of rules about whole traces: from text to conditions, and what they need to know.

``trace_rules`` says what can be written; here it is parsed. Errors name the position.
"""

from __future__ import annotations

import difflib
import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import SEVERITY_HELP, Signal, parse_severity_number
from rimp_otel.models.times import parse_duration
from rimp_otel.otlp.decode_common import SPAN_KINDS, STATUS_CODES, attributes_of, enum_number
from rimp_otel.processing.probability import MAX_THRESHOLD, threshold_of_probability

__all__ = ["RecordCondition", "RuleNode", "RuleParser", "SeenSpan", "Threshold", "TraceFacts"]


class TraceFacts:
    """What a rule needs to know of a trace, from any number of its records."""

    __slots__ = ("end", "held", "is_rooted", "last", "randomness", "spans", "start")

    def __init__(self) -> None:
        #: The conditions that held for one of its records, as bits.
        self.held = 0
        #: The first start and the last end of its spans, in nanoseconds since the epoch; 0 for none.
        self.start = self.end = 0
        #: When its last record was made, or read if that was earlier: clocks differ.
        self.last = 0
        self.spans = 0
        #: True once its root is among them.
        self.is_rooted = False
        #: What its trace states say; None if they say nothing.
        self.randomness: int | None = None

    def add(self, other: TraceFacts) -> None:
        """Add what is known from other records of the same trace."""
        self.held |= other.held
        self.add_times(other.start, other.end)
        self.last = max(self.last, other.last)
        self.spans += other.spans
        self.is_rooted = self.is_rooted or other.is_rooted
        if self.randomness is None:
            self.randomness = other.randomness

    def add_times(self, start: int, end: int) -> None:
        """Add the start and the end of a span; 0 for unknown."""
        if start and (not self.start or start < self.start):
            self.start = start
        self.end = max(self.end, end, start)


class SeenSpan:
    """A span as conditions see it."""

    __slots__ = ("_attributes", "resource", "service", "span")

    def __init__(self, span: Any, service: str, resource: dict[str, Any]) -> None:
        self.span = span
        self.service = service
        self.resource = resource
        self._attributes: dict[str, Any] | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        """Its attributes, decoded once."""
        if self._attributes is None:
            self._attributes = attributes_of(self.span.attributes, tuple)
        return self._attributes


# --- The parts of a rule. Each node gives the threshold that lets a trace through.

Threshold = tuple[int, bool]
"""A threshold, and whether a probability decided it. The lower one of two lets more through; of two that
are equal, a rule comes first."""

_ALWAYS: Threshold = (0, False)
_NEVER: Threshold = (MAX_THRESHOLD, False)


class RuleNode(ABC):
    """A part of a rule."""

    #: True if a probability may decide.
    has_sample = False

    @abstractmethod
    def threshold(self, facts: TraceFacts) -> Threshold:
        """Return the threshold that lets a trace through."""


class RecordCondition(RuleNode):
    """Something about one record, noted when the record is seen."""

    def __init__(
        self, bit: int, holds: Callable[[Any], bool], signal: Signal, needs_attributes: bool
    ) -> None:
        self.bit = bit
        self.holds = holds
        self.signal = signal
        self.needs_attributes = needs_attributes

    def threshold(self, facts: TraceFacts) -> Threshold:
        """Return the threshold that lets a trace through."""
        return _ALWAYS if facts.held & self.bit else _NEVER


class _Whole(RuleNode):
    """Something about the trace as a whole."""

    def __init__(self, holds: Callable[[TraceFacts], bool]) -> None:
        self._holds = holds

    def threshold(self, facts: TraceFacts) -> Threshold:
        """Return the threshold that lets a trace through."""
        return _ALWAYS if self._holds(facts) else _NEVER


class _Sample(RuleNode):
    """A share of all traces."""

    has_sample = True

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold

    def threshold(self, facts: TraceFacts) -> Threshold:
        """Return the threshold that lets a trace through."""
        return self._threshold, True


class _Not(RuleNode):
    """The opposite of what a node without a probability says."""

    def __init__(self, node: RuleNode) -> None:
        self._node = node

    def threshold(self, facts: TraceFacts) -> Threshold:
        """Return the threshold that lets a trace through."""
        return _NEVER if self._node.threshold(facts) == _ALWAYS else _ALWAYS


class _Choice(RuleNode):
    """Several nodes, by ``min`` for "or" or ``max`` for "and"."""

    def __init__(
        self, choose: Callable[[Iterator[Threshold]], Threshold], nodes: list[RuleNode]
    ) -> None:
        self._choose = choose
        self._nodes = nodes
        self.has_sample = any(node.has_sample for node in nodes)

    def threshold(self, facts: TraceFacts) -> Threshold:
        """Return the threshold that lets a trace through."""
        return self._choose(node.threshold(facts) for node in self._nodes)


# --- From text to nodes.

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<operator> [!<>=]= | [<>=()] )
    | (?P<text> "(?:[^"\\]|\\.)*" | '(?:[^'\\]|\\.)*' )
    | (?P<number> -?\d+(?:\.\d+)? (?:[%\wµ]*) )
    | (?P<word> (?: [^\W\d] | [*/] ) [\w.\-/*:+@]* )
    )""",
    re.VERBOSE,
)
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_MAX_LENGTH, _MAX_DEPTH = 10_000, 100
_FIELDS = (
    "status",
    "kind",
    "name",
    "service",
    "root.name",
    "root.service",
    "attr.KEY",
    "resource.KEY",
    "severity",
    "duration",
    "span.duration",
    "spans",
    "sample(P%)",
)
_STATUSES = {name[len("STATUS_CODE_") :].lower(): number for name, number in STATUS_CODES.items()}
_KINDS = {name[len("SPAN_KIND_") :].lower(): number for name, number in SPAN_KINDS.items()}
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%?", re.ASCII)


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class RuleParser:
    """Parses one rule.

    Args:
        text: of the rule.

    Raises:
        ConfigurationError: it is too long, or holds a character that no rule has.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._split())
        self._at = 0
        self._depth = 0
        #: All conditions about single records, once it is parsed.
        self.conditions: list[RecordCondition] = []

    def parse(self) -> RuleNode:
        """Return the root of the rule.

        Raises:
            ConfigurationError: it is no rule; the message says where and why.
        """
        node = self._parse_or()
        token = self._peek()
        if token.kind != "end":
            raise self._error(token, f"expected 'and', 'or' or the end, got {token.text!r}")
        return node

    def _split(self) -> Iterator[_Token]:
        if len(self._text) > _MAX_LENGTH:
            raise ConfigurationError(f"a rule has at most {_MAX_LENGTH:,} characters")
        at = 0
        rest = self._text.rstrip()
        while at < len(rest):
            found = _TOKEN.match(rest, at)
            if found is None or found.lastgroup is None:
                place = _Token("", rest[at:].lstrip()[:1], len(rest) - len(rest[at:].lstrip()))
                raise self._error(place, f"unexpected {place.text!r}")
            yield _Token(found.lastgroup, found[found.lastgroup], found.start(found.lastgroup))
            at = found.end()
        yield _Token("end", "the end", len(rest))

    def _error(self, token: _Token, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"invalid rule {self._text!r}: at character {token.at + 1}: {reason}"
        )

    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _next(self) -> _Token:
        token = self._tokens[self._at]
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def _take(self, kind: str, text: str) -> bool:
        token = self._peek()
        if token.kind == kind and token.text.lower() == text:
            self._next()
            return True
        return False

    def _parse_or(self) -> RuleNode:
        return self._parse_list("or", min, self._parse_and)

    def _parse_and(self) -> RuleNode:
        return self._parse_list("and", max, self._parse_not)

    def _parse_list(self, word: str, choose: Any, parse: Callable[[], RuleNode]) -> RuleNode:
        nodes = [parse()]
        while self._take("word", word):
            nodes.append(parse())
        return nodes[0] if len(nodes) == 1 else _Choice(choose, nodes)

    def _parse_not(self) -> RuleNode:
        token = self._peek()
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._error(token, f"more than {_MAX_DEPTH} levels")
        try:
            if self._take("word", "not"):
                node = self._parse_not()
                if node.has_sample:
                    raise self._error(
                        token, "'not' cannot stand before sample(): sample the other share instead"
                    )
                return _Not(node)
            if self._take("operator", "("):
                node = self._parse_or()
                if not self._take("operator", ")"):
                    raise self._error(self._peek(), f"expected ')', got {self._peek().text!r}")
                return node
            return self._parse_condition()
        finally:
            self._depth -= 1

    def _parse_condition(self) -> RuleNode:
        token = self._next()
        if token.kind != "word":
            raise self._error(token, f"expected a condition, got {token.text!r}")
        field = token.text
        if field == "sample":
            return self._parse_sample()
        for prefix in ("attr", "resource"):
            if field == f"{prefix}." and self._peek().kind == "text":
                return self._parse_attribute(prefix, _unquote(self._next().text))
            if field.startswith(f"{prefix}.") and len(field) > len(prefix) + 1:
                return self._parse_attribute(prefix, field[len(prefix) + 1 :])
        parsers: dict[str, Callable[[], RuleNode]] = {
            "status": self._parse_status,
            "kind": self._parse_kind,
            "name": lambda: self._parse_text(lambda seen: seen.span.name or ""),
            "service": lambda: self._parse_text(lambda seen: seen.service),
            "root.name": lambda: self._parse_text(lambda seen: seen.span.name or "", root=True),
            "root.service": lambda: self._parse_text(lambda seen: seen.service, root=True),
            "severity": self._parse_severity,
            "duration": lambda: self._parse_whole(
                lambda facts: facts.end - facts.start if facts.start else -1, self._duration
            ),
            "span.duration": self._parse_span_duration,
            "spans": lambda: self._parse_whole(lambda facts: facts.spans, self._whole_number),
        }
        parse = parsers.get(field)
        if parse is None:
            raise self._error(token, self._describe_unknown(field))
        return parse()

    def _describe_unknown(self, field: str) -> str:
        near = difflib.get_close_matches(field, [*_FIELDS, "sample"], 1)
        if near:
            hint = f"did you mean {near[0]!r}?"
        else:
            hint = f"an attribute is attr.{field}; the others are {', '.join(_FIELDS)}"
        return f"unknown field {field!r}: {hint}"

    def _parse_sample(self) -> RuleNode:
        if not self._take("operator", "("):
            raise self._error(self._peek(), "expected '(' after sample, as in sample(5%)")
        token = self._next()
        found = _PERCENT.fullmatch(token.text) if token.kind == "number" else None
        share = float(found[1]) / (100 if token.text.endswith("%") else 1) if found else -1.0
        if not 0.0 < share <= 1.0:
            raise self._error(
                token,
                f"expected a share of more than 0 % to 100 %, as in sample(5%), got {token.text!r}",
            )
        if not self._take("operator", ")"):
            raise self._error(self._peek(), f"expected ')', got {self._peek().text!r}")
        return _Sample(threshold_of_probability(share))

    # Each reads an operator and a value.

    def _operator(self, allowed: tuple[str, ...]) -> str:
        token = self._next()
        text = "=" if token.text == "==" else token.text
        if token.kind != "operator" or text not in allowed:
            raise self._error(token, f"expected one of {' '.join(allowed)}, got {token.text!r}")
        return text

    def _equality(self) -> bool:
        """Return True for "=", False for "!="."""
        return self._operator(("=", "!=")) == "="

    def _add(
        self,
        holds: Callable[[Any], bool],
        *,
        negated: bool = False,
        signal: Signal = Signal.TRACES,
        needs_attributes: bool = False,
    ) -> RuleNode:
        condition = RecordCondition(1 << len(self.conditions), holds, signal, needs_attributes)
        self.conditions.append(condition)
        return _Not(condition) if negated else condition

    def _parse_status(self) -> RuleNode:
        is_equal = self._equality()
        number = self._choose(_STATUSES)

        def holds(seen: SeenSpan) -> bool:
            status = seen.span.status
            code = status.code if status is not None else None
            return enum_number(code or 0, STATUS_CODES, "code") == number

        return self._add(holds, negated=not is_equal)

    def _parse_kind(self) -> RuleNode:
        is_equal = self._equality()
        number = self._choose(_KINDS)
        return self._add(
            lambda seen: enum_number(seen.span.kind or 0, SPAN_KINDS, "kind") == number,
            negated=not is_equal,
        )

    def _choose(self, names: dict[str, int]) -> int:
        token = self._next()
        number = names.get(_unquote(token.text).lower())
        if number is None:
            raise self._error(token, f"expected one of {', '.join(names)}, got {token.text!r}")
        return number

    def _parse_text(self, text_of: Callable[[SeenSpan], str], root: bool = False) -> RuleNode:
        is_equal = self._equality()
        token = self._next()
        if token.kind not in ("word", "text", "number"):
            raise self._error(token, f"expected a text, got {token.text!r}")
        matches = _matcher(_unquote(token.text))
        if root:
            return self._add(
                lambda seen: not seen.span.parent_span_id and matches(text_of(seen)),
                negated=not is_equal,
            )
        return self._add(lambda seen: matches(text_of(seen)), negated=not is_equal)

    def _parse_attribute(self, owner: str, key: str) -> RuleNode:
        is_resource = owner == "resource"

        def value_of(seen: SeenSpan) -> Any:
            return (seen.resource if is_resource else seen.attributes).get(key)

        token = self._peek()
        if token.kind != "operator" or token.text in "()":
            return self._add(
                lambda seen: value_of(seen) is not None, needs_attributes=not is_resource
            )
        sign = self._operator(("=", "!=", ">", ">=", "<", "<="))
        test = self._value_test("=" if sign == "!=" else sign)
        return self._add(
            lambda seen: test(value_of(seen)),
            negated=sign == "!=",
            needs_attributes=not is_resource,
        )

    def _value_test(self, sign: str) -> Callable[[Any], bool]:
        token = self._next()
        compare = _OPERATORS[sign]
        number = _to_number(token.text) if token.kind == "number" else None
        if number is not None:
            return lambda value: (
                isinstance(value, (int, float))
                and not isinstance(value, bool)
                and compare(value, number)
            )
        if token.kind not in ("word", "text", "number") or sign != "=":
            raise self._error(token, f"expected a number after {sign!r}, got {token.text!r}")
        if token.kind == "word" and token.text in ("true", "false"):
            wanted = token.text == "true"
            return lambda value: value is wanted
        matches = _matcher(_unquote(token.text))
        return lambda value: isinstance(value, str) and matches(value)

    def _parse_severity(self) -> RuleNode:
        sign = self._operator(("=", ">", ">=", "<", "<="))
        token = self._next()
        text = _unquote(token.text)
        number = parse_severity_number(int(text) if text.isdigit() else text)
        if number is None:
            raise self._error(token, f"expected {SEVERITY_HELP}, got {token.text!r}")
        wanted, compare = number, _OPERATORS[sign]
        return self._add(
            lambda severity: bool(severity) and compare(severity, wanted), signal=Signal.LOGS
        )

    def _parse_whole(
        self, value_of: Callable[[TraceFacts], int], read: Callable[[], int]
    ) -> RuleNode:
        compare = _OPERATORS[self._operator(("=", ">", ">=", "<", "<="))]
        wanted = read()
        return _Whole(lambda facts: value_of(facts) >= 0 and compare(value_of(facts), wanted))

    def _parse_span_duration(self) -> RuleNode:
        compare = _OPERATORS[self._operator((">", ">=", "<", "<="))]
        wanted = self._duration()

        def holds(seen: SeenSpan) -> bool:
            start, end = seen.span.start_time_unix_nano, seen.span.end_time_unix_nano
            return bool(start and end) and compare(end - start, wanted)

        return self._add(holds)

    def _duration(self) -> int:
        token = self._next()
        try:
            return parse_duration(token.text)
        except ConfigurationError as error:
            raise self._error(token, str(error)) from None

    def _whole_number(self) -> int:
        token = self._next()
        if token.kind != "number" or not token.text.isdigit():
            raise self._error(token, f"expected a whole number, got {token.text!r}")
        return int(token.text)


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text[:1] in "\"'" and len(text) > 1 else text


def _to_number(text: str) -> float | int | None:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        return None


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Return a test of a whole text; ``*`` stands for any text. Takes linear time."""
    first, *others = pattern.split("*")
    if not others:
        return lambda text: text == pattern
    *between, last = others

    def matches(text: str) -> bool:
        if len(text) < len(first) + len(last) or not text.startswith(first):
            return False
        at, stop = len(first), len(text) - len(last)
        for part in between:
            at = text.find(part, at, stop)
            if at < 0:
                return False
            at += len(part)
        return text.endswith(last)

    return matches
