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

from collections.abc import MutableMapping
from typing import Any, NamedTuple

import msgspec

from rimp_otel.models.records import Signal
from rimp_otel.otlp.decode_common import SEVERITIES, attributes_of, enum_number, id_number
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
    parse_randomness,
    parse_threshold,
    randomness_of,
    with_threshold,
)
from rimp_otel.processing.rule_language import (
    RecordCondition,
    RuleNode,
    RuleParser,
    SeenSpan,
    TraceFacts,
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


class TraceRule:
    """A rule, made by ``TraceRule.parse``. Immutable, thread-safe."""

    def __init__(self, text: str, root: RuleNode, conditions: list[RecordCondition]) -> None:
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
        parser = RuleParser(text)
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
                        seen = SeenSpan(span, service, attributes)
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
