"""Traces: the spans and log records of one trace id, found among others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

# A lazy package: it loads the SDK only for `typing.get_type_hints`.
import rimp_otel.models as models
from rimp_otel.errors import ConfigurationError
from rimp_otel.models.accessors import start_of, time_of, trace_id_of
from rimp_otel.models.records import TelemetryEvent
from rimp_otel.process import importing

__all__ = ["Trace", "find_traces"]


class Trace(NamedTuple):
    """The spans and events of one trace, each list in the order of time.

    A notebook shows it as a waterfall.
    """

    trace_id: int
    spans: list[models.ReadableSpan]
    events: list[TelemetryEvent]

    @classmethod
    def of(
        cls,
        trace_id: int | str,
        spans: Iterable[models.ReadableSpan],
        events: Iterable[TelemetryEvent],
    ) -> Trace:
        """Return the one trace of this id among spans and events.

        Args:
            trace_id: a number, or hexadecimal digits; the first ones are enough if no other trace
                id starts with them.
            spans: spans of any traces.
            events: events of any traces, or of none.

        Raises:
            ConfigurationError: ``trace_id`` is not a trace id, or no trace or several match it.
        """
        digits = f"{trace_id:032x}" if isinstance(trace_id, int) else trace_id
        if not isinstance(digits, str) or not re.fullmatch("[0-9a-fA-F]{1,32}", digits):
            raise ConfigurationError(
                f"trace_id must be a number or 1 to 32 hexadecimal digits, got {trace_id!r}"
            )
        found = find_traces(digits.lower(), [(spans, events)])
        if not found:
            raise ConfigurationError(f"no trace id starts with {trace_id!r}: give one of the batch")
        if len(found) > 1:
            raise ConfigurationError(
                f"trace_id {trace_id!r} is ambiguous: {len(found)} trace ids start with it, give more"
                " digits"
            )
        return found[0]

    def _repr_html_(self) -> str:
        with importing():
            from rimp_otel.render.trace_svg import render_trace_html
        return render_trace_html(self.spans, self.events)


def find_traces(
    prefix: str, batches: Iterable[tuple[Iterable[models.ReadableSpan], Iterable[TelemetryEvent]]]
) -> list[Trace]:
    """Return all traces whose ids start with these lower-case hexadecimal digits.

    Args:
        prefix: the digits, up to 32 of them.
        batches: pairs of spans and events.
    """
    matches = _prefix_matcher(prefix)
    found: dict[int, Trace] = {}
    for spans, events in batches:
        for span in spans:
            if matches(trace_id_of(span)):
                _trace_in(found, trace_id_of(span)).spans.append(span)
        for event in events:
            if matches(event.trace_id):
                _trace_in(found, event.trace_id).events.append(event)
    for trace in found.values():
        trace.spans.sort(key=start_of)
        trace.events.sort(key=time_of)
    return list(found.values())


def _prefix_matcher(prefix: str) -> Callable[[int], bool]:
    start, shift = int(prefix, 16), 128 - 4 * len(prefix)
    # No trace has the id 0: it stands for records outside of any.
    return lambda trace_id: trace_id != 0 and trace_id >> shift == start


def _trace_in(found: dict[int, Trace], trace_id: int) -> Trace:
    return found.setdefault(trace_id, Trace(trace_id, [], []))
