"""One trace of a batch."""

from __future__ import annotations

import pytest

from rimp_otel import ConfigurationError, TelemetryData
from rimp_otel.trace import Trace
from tests.cli.records import TRACE, checkout, event, span


def batch() -> TelemetryData:
    """Return a batch with a checkout, in the wrong order, and other records."""
    spans, events = checkout()
    others = [span("other", 1, trace_id=TRACE + 1)]
    return TelemetryData([*events[::-1], event("none", trace_id=0)], [], [*spans[::-1], *others])


@pytest.mark.parametrize("trace_id", [TRACE, f"{TRACE:032x}", f"{TRACE:032X}"])
def test_trace(trace_id: int | str) -> None:
    """A trace has its spans and events alone, in the order of time."""
    trace = batch().trace(trace_id)
    assert isinstance(trace, Trace)
    assert trace.trace_id == TRACE
    assert [one.name for one in trace.spans][:2] == ["POST /checkout", "SELECT cart"]
    assert [one.message for one in trace.events][:2] == ["cart loaded", "stock is low"]
    assert trace._repr_html_().startswith("<div><div>trace 4bf92f35")


def test_first_digits() -> None:
    """The first digits of a trace id are enough if they are unique."""
    assert TelemetryData(events=[event("x")]).trace("4bf9").trace_id == TRACE
    with pytest.raises(ConfigurationError, match="'4bf9' is ambiguous: 2 trace ids start with it"):
        batch().trace("4bf9")


@pytest.mark.parametrize("trace_id", [0, "0" * 32, "abc", TRACE + 7])
def test_no_trace(trace_id: int | str) -> None:
    """A trace id without records raises, and so does 0."""
    with pytest.raises(ConfigurationError, match=r"^no trace id starts with "):
        batch().trace(trace_id)


@pytest.mark.parametrize("trace_id", ["", "xyz", "1" * 33, None, -1, b"4b", 2**128])
def test_no_id(trace_id: object) -> None:
    """A value that is not a trace id raises with the allowed forms."""
    with pytest.raises(
        ConfigurationError, match=r"^trace_id must be a number or 1 to 32 hexadecimal digits, got "
    ):
        batch().trace(trace_id)  # type: ignore[arg-type]
