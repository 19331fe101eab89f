"""Conditions on the attributes of log records and metric points, as the page's filters say them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import TelemetryEvent, TelemetryMetric
from rimp_otel.viewer.parameters import AttributeTest
from rimp_otel.viewer.search.conditions import Comparison, Scope, make_value_test

__all__ = ["OWN_SCOPES", "condition_on_span", "make_record_matcher"]

PlainRecord = TelemetryEvent | TelemetryMetric
RecordMatcher = Callable[[PlainRecord], bool]

OWN_SCOPES = ("log", "metric", "span")
"""The scopes that stand for a record's own attributes."""
_SPAN_SCOPES = {scope.value: scope for scope in Scope}


def make_record_matcher(tests: Iterable[AttributeTest]) -> RecordMatcher:
    """Return a function that says whether a log record or a metric point meets all conditions.

    Of an attribute that is absent, none is true. Types are as strict as those of `conditions`.

    Raises:
        ConfigurationError: a scope is not known, or a comparison impossible.
    """
    matchers = [_make_matcher_of(test) for test in tests]
    return lambda record: all(matches(record) for matches in matchers)


def condition_on_span(test: AttributeTest) -> Comparison:
    """Return the condition as one on a span.

    Raises:
        ConfigurationError: the scope is not known.
    """
    scope = _SPAN_SCOPES.get(test.scope)
    if scope is None:
        raise _scope_error(test.scope, list(_SPAN_SCOPES))
    return Comparison(scope, test.key, test.operator, test.value)


def _make_matcher_of(test: AttributeTest) -> RecordMatcher:
    get = _getter_of(test.scope)
    # The comparison is of the value alone.
    is_met = make_value_test(Comparison(Scope.ANY, test.key, test.operator, test.value))
    key = test.key

    def matches(record: PlainRecord) -> bool:
        for attributes in get(record):
            if key in attributes:
                return is_met(attributes[key])
        return False

    return matches


def _getter_of(scope: str) -> Callable[[PlainRecord], Iterable[Mapping[str, Any]]]:
    if scope in OWN_SCOPES:
        return lambda record: (_own_attributes(record),)
    if scope == "resource":
        return lambda record: (_attributes_in(record.resource),)
    if scope == "instrumentation":
        return lambda record: (_attributes_in(record.scope),)
    if scope == "any":
        return lambda record: (_own_attributes(record), _attributes_in(record.resource))
    raise _scope_error(scope, ["log", "metric", "resource", "instrumentation", "any"])


def _own_attributes(record: PlainRecord) -> Mapping[str, Any]:
    return record.metadata if isinstance(record, TelemetryEvent) else record.tags


def _attributes_in(owner: Any) -> Mapping[str, Any]:
    attributes: Mapping[str, Any] = getattr(owner, "attributes", None) or {}
    return attributes


def _scope_error(scope: str, known: list[str]) -> ConfigurationError:
    return ConfigurationError(
        f"parameter 'attr' has no scope {scope!r}: there are {', '.join(known)}"
    )
