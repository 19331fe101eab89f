"""Rules that decide which traces are kept, each as a whole: the language of ``rimp forward --keep``.

.. code-block:: text

    status = error or duration > 500ms or (service = "shop" and sample(5%))

A rule combines conditions by ``and``, ``or``, ``not`` and brackets. A condition about a span holds if it
holds for any span of the trace; ``!=`` holds if ``=`` does for none. ``sample`` is OpenTelemetry's
consistent probability sampling, so that all processes and machines keep the same traces.

============================= =========================================================================
condition                     holds if
============================= =========================================================================
``status = error``            a span has this status: ``error``, ``ok`` or ``unset``
``kind = server``             a span is of this kind
``name = "GET *"``            a span has this name; ``*`` stands for any text, here and below
``service = shop``            a span is of this service
``root.name``                 so is the root's name
``root.service``              so is the root's service
``attr.KEY = VALUE``          a span has this attribute; also ``!=``, ``>``, ``>=``, ``<``, ``<=``
``resource.KEY = VALUE``      a span's resource has
``attr.KEY``                  a span has an attribute of this key, whatever its value
``severity >= warn``          a log record of the trace is this severe
``duration > 500ms``          from the first start to the last end it took longer
``span.duration > 1s``        a span took longer
``spans > 100``               it has more spans
``sample(5%)``                the trace is among 5 % of all, by its randomness
============================= =========================================================================
"""

from __future__ import annotations

import difflib
import operator
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, NamedTuple

import msgspec

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import SEVERITY_HELP, Signal, parse_severity_number
from rimp_otel.models.times import parse_duration
from rimp_otel.otlp.decode_common import (
    SEVERITIES,
    SPAN_KINDS,
    STATUS_CODES,
    attributes_of,
    enum_number,
    id_number,
)
from rimp_otel.otlp.messages import (
    KeyValue,
    PartialLine,
    PartialMessage,
    Status,
    decode_resource,
    decode_with_scopes,
    no_recursion_error,
)
from rimp_otel.process import BoundedCache
from rimp_otel.processing.probability import (
    MAX_THRESHOLD,
    parse_randomness,
    parse_threshold,
    randomness_of,
    threshold_of_probability,
    with_threshold,
)

__all__ = ["TraceDecision", "TraceFacts", "TraceRule"]


class TraceDecision(NamedTuple):
    """What a rule says about a trace."""

    is_kept: bool
    #: The threshold that let it through, if a probability decided; None if anything else did.
    threshold: int | None = None

    def trace_state(self, trace_id: int, before: str) -> str:
        """Return the trace state of a span of the trace, which is kept.

        It says how likely that was, if a probability decided here, and none did before that is
        unknown or contradicts it; else it says nothing about that.
        """
        if self.threshold is None:
            return with_threshold(before, None)
        earlier = parse_threshold(before)
        if earlier is not None and randomness_of(trace_id, before) < earlier:
            return with_threshold(before, None)
        return with_threshold(before, max(self.threshold, earlier or 0))


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


class TraceRule:
    """A rule, made by ``TraceRule.parse``. Immutable, thread-safe."""

    def __init__(self, text: str, root: _Node, conditions: list[_Condition]) -> None:
        #: As it was written.
        self.text = text
        self._root = root
        self._span_conditions = [c for c in conditions if c.signal is Signal.TRACES]
        self._log_conditions = [c for c in conditions if c.signal is Signal.LOGS]
        needs_attributes = any(c.needs_attributes for c in self._span_conditions)
        self._spans = _SPANS_WITH_ATTRIBUTES if needs_attributes else _SPANS
        #: The signals whose lines tell anything about a trace.
        self.signals = (
            frozenset({Signal.TRACES, Signal.LOGS})
            if self._log_conditions
            else frozenset({Signal.TRACES})
        )

    @classmethod
    def parse(cls, text: str) -> TraceRule:
        """Return the rule of a text.

        Raises:
            ConfigurationError: it is none; the message says where and why.
        """
        parser = _Parser(text)
        return cls(text, parser.parse(), parser.conditions)

    def __repr__(self) -> str:
        return f"TraceRule({self.text!r})"

    def observe(
        self, signal: Signal, line: bytes, facts: MutableMapping[int, TraceFacts], now: int
    ) -> None:
        """Add what a line of OTLP JSON tells about its traces.

        Args:
            signal: the line's.
            line: without its end.
            facts: by trace id; added to.
            now: when it is read, in nanoseconds since the epoch.

        Raises:
            DecodeError: the line cannot be read. What it told until then is in ``facts``.
        """
        if signal is Signal.TRACES:
            self._observe_spans(line, facts, now)
        elif signal is Signal.LOGS and self._log_conditions:
            self._observe_logs(line, facts, now)

    def decide(self, trace_id: int, facts: TraceFacts | None) -> TraceDecision:
        """Return the decision about a trace, by all that is known of it.

        Args:
            trace_id: the trace's.
            facts: None if nothing is known of it.
        """
        known = facts or TraceFacts()
        threshold, by_probability = self._root.threshold(known)
        randomness = known.randomness
        if randomness is None:
            randomness = randomness_of(trace_id)
        if randomness < threshold:
            return TraceDecision(False)
        return TraceDecision(True, threshold if by_probability else None)

    @no_recursion_error
    def _observe_spans(self, line: bytes, facts: MutableMapping[int, TraceFacts], now: int) -> None:
        conditions = self._span_conditions
        for resource in decode_with_scopes(self._spans, line).resources():
            service, attributes = _read_resource(resource.resource)
            for scope in resource.scopes():
                for span in scope.spans or ():
                    trace_id = id_number(span.trace_id, 16, "traceId")
                    fact = facts.get(trace_id)
                    if fact is None:
                        fact = facts[trace_id] = TraceFacts()
                    fact.spans += 1
                    start, end = span.start_time_unix_nano or 0, span.end_time_unix_nano or 0
                    fact.add_times(start, end)
                    fact.last = max(fact.last, min(end or start, now))
                    if not span.parent_span_id:
                        fact.is_rooted = True
                    if span.trace_state and fact.randomness is None:
                        fact.randomness = parse_randomness(span.trace_state)
                    if conditions:
                        seen = _SeenSpan(span, service, attributes)
                        for condition in conditions:
                            if not fact.held & condition.bit and condition.holds(seen):
                                fact.held |= condition.bit

    @no_recursion_error
    def _observe_logs(self, line: bytes, facts: MutableMapping[int, TraceFacts], now: int) -> None:
        for resource in decode_with_scopes(_LOGS, line).resources():
            for scope in resource.scopes():
                for record in scope.log_records or ():
                    trace_id = id_number(record.trace_id, 16, "traceId")
                    if not trace_id:
                        continue
                    fact = facts.get(trace_id)
                    if fact is None:
                        fact = facts[trace_id] = TraceFacts()
                    severity = enum_number(
                        record.severity_number or 0, SEVERITIES, "severityNumber"
                    )
                    for condition in self._log_conditions:
                        if condition.holds(severity):
                            fact.held |= condition.bit


# --- What is read of a line.


class _SpanFacts(PartialMessage):
    trace_id: str | None = None
    parent_span_id: str | None = None
    trace_state: str | None = None
    name: str | None = None
    kind: int | str | None = None
    start_time_unix_nano: int | None = None
    end_time_unix_nano: int | None = None
    status: Status | None = None


class _AttributedSpanFacts(_SpanFacts):
    attributes: list[KeyValue] | None = None


class _LogFacts(PartialMessage):
    trace_id: str | None = None
    time_unix_nano: int | None = None
    severity_number: int | str | None = None


_Nothing = msgspec.Raw
_SPANS: Any = msgspec.json.Decoder(PartialLine[_SpanFacts, _Nothing, _Nothing], strict=False)
_SPANS_WITH_ATTRIBUTES: Any = msgspec.json.Decoder(
    PartialLine[_AttributedSpanFacts, _Nothing, _Nothing], strict=False
)
_LOGS: Any = msgspec.json.Decoder(PartialLine[_Nothing, _LogFacts, _Nothing], strict=False)

_ResourceFacts = tuple[str, dict[str, Any]]
_resources: BoundedCache[bytes, _ResourceFacts] = BoundedCache(256)


def _read_resource(raw: msgspec.Raw) -> _ResourceFacts:
    """Return the service name and the attributes of a resource's text."""
    text = bytes(raw)
    found = _resources.get(text)
    if found is None:
        attributes = attributes_of(decode_resource(raw).attributes, tuple)
        found = str(attributes.get("service.name", "")), attributes
        _resources[text] = found
    return found


class _SeenSpan:
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

_Threshold = tuple[int, bool]
"""A threshold, and whether a probability decided it. The lower one of two lets more through; of two that
are equal, a rule comes first."""

_ALWAYS: _Threshold = (0, False)
_NEVER: _Threshold = (MAX_THRESHOLD, False)


class _Node(ABC):
    #: True if a probability may decide.
    has_sample = False

    @abstractmethod
    def threshold(self, facts: TraceFacts) -> _Threshold: ...


class _Condition(_Node):
    """Something about one record, noted when the record is seen."""

    def __init__(
        self, bit: int, holds: Callable[[Any], bool], signal: Signal, needs_attributes: bool
    ) -> None:
        self.bit = bit
        self.holds = holds
        self.signal = signal
        self.needs_attributes = needs_attributes

    def threshold(self, facts: TraceFacts) -> _Threshold:
        return _ALWAYS if facts.held & self.bit else _NEVER


class _Whole(_Node):
    """Something about the trace as a whole."""

    def __init__(self, holds: Callable[[TraceFacts], bool]) -> None:
        self._holds = holds

    def threshold(self, facts: TraceFacts) -> _Threshold:
        return _ALWAYS if self._holds(facts) else _NEVER


class _Sample(_Node):
    has_sample = True

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold

    def threshold(self, facts: TraceFacts) -> _Threshold:
        return self._threshold, True


class _Not(_Node):
    def __init__(self, node: _Node) -> None:
        self._node = node

    def threshold(self, facts: TraceFacts) -> _Threshold:
        return _NEVER if self._node.threshold(facts) == _ALWAYS else _ALWAYS


class _Choice(_Node):
    """Several nodes, by ``min`` for "or" or ``max`` for "and"."""

    def __init__(
        self, choose: Callable[[Iterator[_Threshold]], _Threshold], nodes: list[_Node]
    ) -> None:
        self._choose = choose
        self._nodes = nodes
        self.has_sample = any(node.has_sample for node in nodes)

    def threshold(self, facts: TraceFacts) -> _Threshold:
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


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._split())
        self._at = 0
        self._depth = 0
        self.conditions: list[_Condition] = []

    def parse(self) -> _Node:
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

    def _parse_or(self) -> _Node:
        return self._parse_list("or", min, self._parse_and)

    def _parse_and(self) -> _Node:
        return self._parse_list("and", max, self._parse_not)

    def _parse_list(self, word: str, choose: Any, parse: Callable[[], _Node]) -> _Node:
        nodes = [parse()]
        while self._take("word", word):
            nodes.append(parse())
        return nodes[0] if len(nodes) == 1 else _Choice(choose, nodes)

    def _parse_not(self) -> _Node:
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

    def _parse_condition(self) -> _Node:
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
        parsers: dict[str, Callable[[], _Node]] = {
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

    def _parse_sample(self) -> _Node:
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
    ) -> _Node:
        condition = _Condition(1 << len(self.conditions), holds, signal, needs_attributes)
        self.conditions.append(condition)
        return _Not(condition) if negated else condition

    def _parse_status(self) -> _Node:
        is_equal = self._equality()
        number = self._choose(_STATUSES)

        def holds(seen: _SeenSpan) -> bool:
            status = seen.span.status
            code = status.code if status is not None else None
            return enum_number(code or 0, STATUS_CODES, "code") == number

        return self._add(holds, negated=not is_equal)

    def _parse_kind(self) -> _Node:
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

    def _parse_text(self, text_of: Callable[[_SeenSpan], str], root: bool = False) -> _Node:
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

    def _parse_attribute(self, owner: str, key: str) -> _Node:
        is_resource = owner == "resource"

        def value_of(seen: _SeenSpan) -> Any:
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

    def _parse_severity(self) -> _Node:
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

    def _parse_whole(self, value_of: Callable[[TraceFacts], int], read: Callable[[], int]) -> _Node:
        compare = _OPERATORS[self._operator(("=", ">", ">=", "<", "<="))]
        wanted = read()
        return _Whole(lambda facts: value_of(facts) >= 0 and compare(value_of(facts), wanted))

    def _parse_span_duration(self) -> _Node:
        compare = _OPERATORS[self._operator((">", ">=", "<", "<="))]
        wanted = self._duration()

        def holds(seen: _SeenSpan) -> bool:
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
