"""The direct way of the standard library's log records, which gives what the handler's gives."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk._logs import LoggerProvider, LogRecordLimits, LogRecordProcessor
from opentelemetry.sdk._logs._internal import SynchronousMultiLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from rimp_otel import TelemetryCollector
from rimp_otel.otel.logging_bridge import DirectLogging, direct_logging

handlers = pytest.importorskip("opentelemetry.instrumentation.logging.handler")

if not hasattr(LoggerProvider(shutdown_on_exit=False), "_log_record_limits"):
    pytest.skip(
        "this SDK's limits are not known here: all goes through the handler",
        allow_module_level=True,
    )

INSIDE = NonRecordingSpan(SpanContext(7, 8, False, TraceFlags(1)))


class Both:
    """A handler and the way past it, with a collector behind them."""

    def __init__(self, **given: Any) -> None:
        options = {"resource": Resource({"service.name": "shop"}), "shutdown_on_exit": False}
        self.provider = LoggerProvider(**{**options, **given})
        self.collector = TelemetryCollector()
        self.provider.add_log_record_processor(self.collector)
        self.handler = handlers.LoggingHandler(logger_provider=self.provider)
        self.direct = DirectLogging(self.handler)

    def collected(self) -> list[Any]:
        """What was taken in since, but for when it was observed."""
        events = self.collector.flush().events
        for event in events:
            event.observed_time_unix_nano = 1
        return events


@pytest.fixture(scope="module")
def both() -> Both:
    """One for many records."""
    return Both()


def record_of(**fields: Any) -> logging.LogRecord:
    """A log record; what is no field of one is an attribute."""
    usual = {"name": "shop", "levelno": 20, "levelname": "INFO", "msg": "placed", "created": 1.5}
    return logging.makeLogRecord({**usual, **fields})


@given(
    st.text(),
    st.text(),
    st.sampled_from([(10, "DEBUG"), (20, "INFO"), (30, "WARNING"), (33, "ODD"), (50, "CRITICAL")]),
    st.dictionaries(
        st.text(min_size=1),
        st.text() | st.integers() | st.floats() | st.booleans(),
        max_size=4,
    ),
    st.booleans(),
)
def test_it_is_what_the_handler_makes(both, name, message, level, extra, is_inside) -> None:
    """Any text, level and scalar attributes, inside a span and outside."""
    fields = {**extra, "name": name, "msg": message, "levelno": level[0], "levelname": level[1]}
    record = record_of(**fields)
    with use_span(INSIDE) if is_inside else use_span(NonRecordingSpan(SpanContext(0, 0, False))):
        if not both.direct.accept(record):
            return  # such as an attribute that is named as an event
        (ours,) = both.collected()
        both.handler.handle(record)
    assert repr([ours]) == repr(both.collected())


def test_one_record(both) -> None:
    """In full, to be read by people."""
    with use_span(INSIDE):
        assert both.direct.accept(record_of(msg="%s orders", args=(3,), order=4, ok=True))
    (event,) = both.collected()
    assert (event.source, event.message, event.severity_text) == ("shop", "3 orders", "INFO")
    assert (event.trace_id, event.span_id, event.trace_flags) == (7, 8, 1)
    assert event.metadata == {"order": 4, "ok": True}
    assert event.time_unix_nano == 1_500_000_000
    assert event.resource.attributes == {"service.name": "shop"}


@pytest.mark.parametrize(
    "fields",
    [
        {"exc_info": (ValueError, ValueError("x"), None)},
        {"items": [1, 2]},
        {"nothing": None},
        {"event.name": "placed"},
        {"": "an empty key"},
        {"levelno": 0, "levelname": "NOTSET"},
        {"created": -1.0},
        {"created": 0.0},
        {"created": 1e11},
        {str(number): number for number in range(200)},
    ],
)
def test_what_is_not_plain_is_left_to_the_handler(both, fields) -> None:
    """Which knows what the SDK makes of it."""
    assert not both.direct.accept(record_of(**fields))
    assert both.collected() == []


def test_arguments_that_do_not_fit_raise_before_anything_is_taken_in(both) -> None:
    """As in the handler."""
    with pytest.raises(TypeError, match="not all arguments converted"):
        both.direct.accept(record_of(args=(1,)))
    assert both.collected() == []


def test_whoever_else_sees_records_sees_them() -> None:
    """A processor beside ours, a formatter, a filter, code attributes, a limit: the usual way."""

    class Other(LogRecordProcessor):
        def on_emit(self, log_record: Any) -> None: ...
        def shutdown(self) -> None: ...
        def force_flush(self, timeout_millis: int = 0) -> bool:
            return True

    beside, formatted, filtered, coded = Both(), Both(), Both(), Both()
    beside.provider.add_log_record_processor(Other())
    formatted.handler.setFormatter(logging.Formatter())
    filtered.handler.addFilter(lambda record: False)
    coded.handler._log_code_attributes = True
    cut = Both(log_record_limits=LogRecordLimits(max_log_record_attribute_length=2))
    found = [
        each.direct.accept(record_of(a="long"))
        for each in (beside, formatted, filtered, coded, cut)
    ]
    assert found == [False] * 5
    assert cut.direct.accept(record_of(a=5))


def test_a_message_that_is_no_text_is_left_to_the_handler(both) -> None:
    """A record of the program's own class may give any value, which becomes the body."""

    class Structured(logging.LogRecord):
        def getMessage(self) -> Any:
            return {"order": 4}

    assert not both.direct.accept(Structured("shop", logging.INFO, "p", 1, "m", (), None))


def test_processors_of_another_kind_are_not_passed_by() -> None:
    """They may leave records out, or change them."""

    class Quiet(SynchronousMultiLogRecordProcessor):
        def on_emit(self, log_record: Any) -> None: ...

    provider = LoggerProvider(multi_log_record_processor=Quiet(), shutdown_on_exit=False)
    provider.add_log_record_processor(TelemetryCollector())
    assert direct_logging(handlers.LoggingHandler(logger_provider=provider)) is None


def test_a_collector_that_is_off_takes_nothing() -> None:
    """And the handler is not bothered either."""
    both = Both()
    both.collector._enabled = False
    assert both.direct.accept(record_of())
    assert both.collector.stats().collected == 0


def test_unknown_handlers_have_no_direct_way(monkeypatch) -> None:
    """Nor does another version of the one that is known."""
    assert direct_logging(logging.StreamHandler()) is None
    monkeypatch.delattr(sys.modules[handlers.__name__], "_RESERVED_ATTRS")
    handler = handlers.LoggingHandler(logger_provider=LoggerProvider(shutdown_on_exit=False))
    assert direct_logging(handler) is None


def test_what_is_cached_is_bounded() -> None:
    """Loggers and levels may have any names."""
    both = Both()
    both.direct = DirectLogging(both.handler, cache_size=3)
    for number in range(10):
        assert both.direct.accept(record_of(name=f"n{number}", levelname=f"L{number}"))
    assert len(both.direct._loggers) <= 3
    assert len(both.direct._levels) <= 3
    assert len(both.collected()) == 10
