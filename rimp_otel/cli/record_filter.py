"""The filter that the options of a command describe: on the text of records, too.

Apart from `options`, since filters need the SDK's types, which ``--help`` must not load.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rimp_otel.models.accessors import exception_text
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import TelemetryEvent, TelemetryMetric

__all__ = ["RecordFilter", "compile_name", "scope_of"]


@dataclass(frozen=True)
class RecordFilter(Filter):
    """A filter with further conditions, which no storage can look up: a record is read for them."""

    #: A name with a ``*``, and its pattern.
    name_text: str = ""
    name_pattern: re.Pattern[str] | None = None
    #: Keys of attributes, each with its value as a person types it, or None for any value.
    attribute_texts: tuple[tuple[str, str | None], ...] = ()
    #: The names, and the names of scopes, of which no record is wanted.
    not_names: tuple[re.Pattern[str], ...] = ()
    not_scopes: tuple[re.Pattern[str], ...] = ()
    grep: re.Pattern[str] | None = None
    #: The first hexadecimal digits of a trace id.
    trace_prefix: str = ""

    @classmethod
    def from_options(
        cls,
        signals: Iterable[str],
        service: str | None = None,
        name: str | None = None,
        attributes: Sequence[tuple[str, str | None]] = (),
        severity: int | None = None,
        grep: re.Pattern[str] | None = None,
        trace: str | None = None,
        not_names: Iterable[str] = (),
        not_scopes: Iterable[str] = (),
    ) -> RecordFilter:
        """Return the filter of what the options of the same names say.

        A name without ``*`` and a whole trace id become conditions of `Filter`, which a storage can
        look up.
        """
        is_exact = bool(name) and "*" not in (name or "")
        trace_id = trace if trace and len(trace) == 32 and int(trace, 16) else None
        exact = Filter.of(
            signals=signals,
            service=service,
            name=name if is_exact else None,
            trace_id=trace_id,
            severity=severity,
        )
        return replace(
            cls(**vars(exact)),
            name_text="" if name is None or is_exact else name,
            name_pattern=None if name is None or is_exact else compile_name(name),
            attribute_texts=tuple(attributes),
            not_names=tuple(map(compile_name, not_names)),
            not_scopes=tuple(map(compile_name, not_scopes)),
            grep=grep,
            trace_prefix="" if trace_id else trace or "",
        )

    def matches(self, record: Any) -> bool:
        """Return True if the record meets all conditions."""
        if not super().matches(record):
            return False
        if self.name_pattern and not self.name_pattern.fullmatch(_name_of(record)):
            return False
        if self.not_names and _is_one_of(self.not_names, _name_of(record)):
            return False
        if self.not_scopes and _is_one_of(self.not_scopes, scope_of(record)):
            return False
        if self.trace_prefix and not _has_prefix(_trace_id_of(record), self.trace_prefix):
            return False
        if self.grep and not any(map(self.grep.search, _searched_texts(record))):
            return False
        return not self.attribute_texts or self._has_attributes(record)

    def _has_attributes(self, record: Any) -> bool:
        resource = record.resource.attributes if record.resource else {}
        own = _attributes_of(record)
        return all(
            any(
                key in attributes and (text is None or _reads_as(attributes[key], text))
                for attributes in (own, resource)
            )
            for key, text in self.attribute_texts
        )


def compile_name(name: str) -> re.Pattern[str]:
    """Return the pattern of a name in which ``*`` matches any text."""
    return re.compile(".*".join(map(re.escape, name.split("*"))), re.DOTALL)


def _is_one_of(patterns: Iterable[re.Pattern[str]], name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in patterns)


def scope_of(record: Any) -> str:
    """Return the name of the record's instrumentation scope; empty if it has none."""
    if isinstance(record, TelemetryEvent):
        return record.source
    scope = record.scope if isinstance(record, TelemetryMetric) else record.instrumentation_scope
    return scope.name if scope else ""


def _attributes_of(record: Any) -> Any:
    if isinstance(record, TelemetryEvent):
        return record.metadata
    return record.tags if isinstance(record, TelemetryMetric) else record.attributes or {}


def _name_of(record: Any) -> str:
    return str(record.event_name if isinstance(record, TelemetryEvent) else record.name)


def _trace_id_of(record: Any) -> int:
    if isinstance(record, TelemetryEvent):
        return record.trace_id
    return record.context.trace_id if getattr(record, "context", None) else 0


def _has_prefix(trace_id: int, prefix: str) -> bool:
    # No trace has the id 0: it stands for records outside of any.
    return trace_id != 0 and f"{trace_id:032x}".startswith(prefix)


def _searched_texts(record: Any) -> Iterable[str]:
    """Return the texts that ``--grep`` searches."""
    if isinstance(record, TelemetryEvent):
        return record.message, record.event_name, exception_text(record.metadata)
    return (_name_of(record),)


def _reads_as(value: Any, text: str) -> bool:
    """Return True if the text is how a person types the value."""
    if isinstance(value, str):
        return value == text
    if isinstance(value, bool) or value is None:
        return json.dumps(value) == text.lower()
    if isinstance(value, (int, float)):
        return _is_number_in(value, text)
    if isinstance(value, bytes):
        return value == text.encode()
    try:
        return bool(json.loads(text) == json.loads(json.dumps(value)))
    except (TypeError, ValueError, RecursionError):
        return False


def _is_number_in(value: float, text: str) -> bool:
    for number in (int, float):  # an int first: a float has not all digits of a large one
        try:
            return value == number(text)
        except ValueError:
            continue
    return False
