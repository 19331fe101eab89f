"""What a command chooses by text that a person typed: a filter that knows more ways to match."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rimp_otel.models.accessors import exception_text
from rimp_otel.models.filters import Filter
from rimp_otel.models.records import TelemetryEvent, TelemetryMetric

__all__ = ["Chosen"]


@dataclass(frozen=True)
class Chosen(Filter):
    """A filter with conditions on the text of what is recorded, which only it can look at."""

    #: Of names with a ``*``.
    name_like: re.Pattern[str] | None = None
    #: Keys, with the value as it would be typed, or None for any.
    texts: tuple[tuple[str, str | None], ...] = ()
    grep: re.Pattern[str] | None = None
    #: First hexadecimal digits of a trace's id.
    trace: str = ""

    @classmethod
    def by(
        cls,
        signals: Iterable[str],
        service: str | None = None,
        name: str | None = None,
        texts: Sequence[tuple[str, str | None]] = (),
        severity: int | None = None,
        grep: re.Pattern[str] | None = None,
        trace: str | None = None,
    ) -> Chosen:
        """What is plain becomes a condition of the filter, which a storage can look up."""
        is_plain = bool(name) and "*" not in (name or "")
        whole = trace if trace and len(trace) == 32 and int(trace, 16) else None
        plain = Filter.of(
            signals=signals,
            service=service,
            name=name if is_plain else None,
            trace_id=whole,
            severity=severity,
        )
        return replace(
            cls(**vars(plain)),
            name_like=None if name is None or is_plain else _pattern(name),
            texts=tuple(texts),
            grep=grep,
            trace="" if whole else trace or "",
        )

    def matches(self, record: Any) -> bool:
        """Whether all conditions hold for a record."""
        if not super().matches(record):
            return False
        if self.name_like and not self.name_like.fullmatch(_name(record)):
            return False
        if self.trace and not _is_in(_trace_id(record), self.trace):
            return False
        if self.grep and not any(map(self.grep.search, _said(record))):
            return False
        return not self.texts or self._has_texts(record)

    def _has_texts(self, record: Any) -> bool:
        resource = record.resource.attributes if record.resource else {}
        return all(
            (key in own and (text is None or _is_text_of(own[key], text)))
            or (key in resource and (text is None or _is_text_of(resource[key], text)))
            for own in [_attributes(record)]
            for key, text in self.texts
        )


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, name.split("*"))), re.DOTALL)


def _attributes(record: Any) -> Any:
    if isinstance(record, TelemetryEvent):
        return record.metadata
    return record.tags if isinstance(record, TelemetryMetric) else record.attributes or {}


def _name(record: Any) -> str:
    return str(record.event_name if isinstance(record, TelemetryEvent) else record.name)


def _trace_id(record: Any) -> int:
    if isinstance(record, TelemetryEvent):
        return record.trace_id
    return record.context.trace_id if getattr(record, "context", None) else 0


def _is_in(trace_id: int, prefix: str) -> bool:
    # No trace has the id 0: it stands for records outside of any.
    return trace_id != 0 and f"{trace_id:032x}".startswith(prefix)


def _said(record: Any) -> Iterable[str]:
    """What a person would look for a text in."""
    if isinstance(record, TelemetryEvent):
        return record.message, record.event_name, exception_text(record.metadata)
    return (_name(record),)


def _is_text_of(value: Any, text: str) -> bool:
    """Whether somebody who means the value would type the text."""
    if isinstance(value, str):
        return value == text
    if isinstance(value, bool) or value is None:
        return json.dumps(value) == text.lower()
    if isinstance(value, (int, float)):
        return _is_number(value, text)
    if isinstance(value, bytes):
        return value == text.encode()
    try:
        return bool(json.loads(text) == json.loads(json.dumps(value)))
    except (TypeError, ValueError, RecursionError):
        return False


def _is_number(value: float, text: str) -> bool:
    for number in (int, float):  # 64-bit integers are more exact than floats
        try:
            return value == number(text)
        except ValueError:
            continue
    return False
