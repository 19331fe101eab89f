"""The standard library's log records, written without the SDK's objects in between.

Where the collector is the only processor of a LoggerProvider, nobody sees what the handler of
opentelemetry-instrumentation-logging and the SDK make of a record: a translated record, a copy of
that with its attributes bounded, one more around it. They are most of what recording a log
call costs, so the text that comes of them is made at once. What is not plain (an exception, values
that are no scalars, a limit that would cut something) goes the usual way, which decides what is right.
"""

from __future__ import annotations

import logging
import sys
from functools import wraps
from time import time_ns
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs._internal import SynchronousMultiLogRecordProcessor

from rimp_otel.collector.collector import TelemetryCollector, append_log_json
from rimp_otel.collector.context import current_span_context
from rimp_otel.otlp.encode_logs import usual_log_json

__all__ = ["DirectLogging", "direct_logging", "feed_handlers", "record_logging"]


# --- The standard library's log records, written without the SDK's objects in between.

_MOST_CACHED = 1_024
_MOST = 2**64 - 1
_SCALARS = frozenset({str, int, float, bool})
# What the handler makes the record's event name of.
_NAMES_OF_EVENTS = frozenset({"otel.event.name", "event.name"})


class DirectLogging:
    """Takes log records past one handler, where that makes no difference.

    Args:
        handler: of opentelemetry-instrumentation-logging.

    Raises:
        AttributeError: the handler or the SDK are none that is known here.
    """

    def __init__(self, handler: Any) -> None:
        provider = handler._logger_provider
        if type(provider) is not LoggerProvider:
            raise AttributeError("the provider is not the SDK's")
        self._handler = handler
        self._provider: Any = provider
        self._processors = provider._multi_log_record_processor
        if type(self._processors) is not SynchronousMultiLogRecordProcessor:
            raise AttributeError("the provider's processors may see or change what they are given")
        limits: Any = provider._log_record_limits
        most = limits.max_log_record_attributes
        self._most = sys.maxsize if most is None else most
        is_cut = limits.max_log_record_attribute_length is not None
        self._kept = _SCALARS - {str} if is_cut else _SCALARS
        self._reserved: frozenset[str] = sys.modules[type(handler).__module__]._RESERVED_ATTRS
        # By name, and by number and name of the level: what the handler makes of them.
        self._loggers: dict[str, Any] = {}
        self._levels: dict[tuple[int, str], tuple[int, str]] = {}
        self._check()

    def _check(self) -> None:
        """Reads once what ``take`` reads each time."""
        self._processors._log_record_processors.__len__()
        _ = (self._handler._log_code_attributes, self._handler.formatter, self._handler.filters)
        logger = self._logger_of("rimp_otel.otel.logging_bridge")
        _ = (logger._logger_config.is_enabled, logger._logger_metrics.emit_log)
        _ = (logger._resource, logger._instrumentation_scope)
        self._level_of(logging.makeLogRecord({"levelno": logging.INFO, "levelname": "INFO"}))

    def take(self, record: logging.LogRecord) -> bool:
        """Whether the record was taken in; False where the handler must be given it.

        Raises:
            Exception: whatever its arguments raise when they are put into its message; then nothing
                was taken in.
        """
        handler, processors = self._handler, self._processors._log_record_processors
        if len(processors) != 1 or type(processors[0]) is not TelemetryCollector:
            return False
        if record.exc_info or handler._log_code_attributes or handler.formatter or handler.filters:
            return False
        reserved = self._reserved
        attributes = {key: value for key, value in vars(record).items() if key not in reserved}
        if attributes and not self._are_usual(attributes):
            return False
        logger = self._loggers.get(record.name) or self._logger_of(record.name)
        level = self._levels.get((record.levelno, record.levelname)) or self._level_of(record)
        if not level[0] or not logger._logger_config.is_enabled:
            return False
        time, observed = int(record.created * 1e9), time_ns()
        message, context = record.getMessage(), current_span_context()
        if not (0 < time <= _MOST and 0 < observed <= _MOST and type(message) is str):
            return False
        text = usual_log_json(time, observed, *level, message, attributes, context)
        logger._logger_metrics.emit_log()
        append_log_json(processors[0], time, text, logger._resource, logger._instrumentation_scope)
        return True

    def _are_usual(self, attributes: dict[str, Any]) -> bool:
        """Whether the SDK would keep them as they are."""
        if len(attributes) > self._most or not attributes.keys().isdisjoint(_NAMES_OF_EVENTS):
            return False
        for key, value in attributes.items():
            if not key or type(key) is not str or type(value) not in self._kept:
                return False
        return True

    def _logger_of(self, name: str) -> Any:
        logger = self._provider.get_logger(name)
        if len(self._loggers) >= _MOST_CACHED:
            self._loggers.clear()
        self._loggers[name] = logger
        return logger

    def _level_of(self, record: logging.LogRecord) -> tuple[int, str]:
        key = record.levelno, record.levelname
        bare = logging.makeLogRecord({"levelno": key[0], "levelname": key[1]})
        translated = self._handler._translate(bare)
        level = translated.severity_number.value, translated.severity_text
        if len(self._levels) >= _MOST_CACHED:
            self._levels.clear()
        self._levels[key] = level
        return level


def direct_logging(handler: logging.Handler) -> DirectLogging | None:
    """The way past a handler; None where there is none."""
    try:
        return DirectLogging(handler)
    except Exception:  # another version of the instrumentation, or of the SDK
        return None


# --- The standard library's logging, recorded without a change to what the program prints.


def record_logging() -> None:
    """Records the standard library's logging into the global LoggerProvider.

    Uses the handler of opentelemetry-instrumentation-logging; does nothing where that is not
    installed, or has been set up already.
    """
    try:
        from opentelemetry.instrumentation.logging import LoggingInstrumentor
    except ImportError:
        return
    instrumentor = LoggingInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        before = logging.getLogger().handlers[:]
        instrumentor.instrument(skip_dep_check=True)
        feed_handlers(but=before)


def feed_handlers(but: list[logging.Handler] | None = None) -> None:
    """Gives the instrumentation's handlers the records in another way than as root's handlers.

    On the root logger, a handler changes what the program prints: ``logging.warning`` and
    ``basicConfig`` then take logging for configured, and warnings that used to appear on standard
    error no longer do; a log call whose arguments do not fit raises into the program. It would
    also miss the loggers that do not propagate, such as uvicorn's.

    Args:
        but: handlers that stay where they are.
    """
    try:
        from opentelemetry.instrumentation.logging.handler import LoggingHandler
    except ImportError:
        return
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, LoggingHandler) and handler not in (but or []):
            root.removeHandler(handler)
            # At exit it would start a thread, which Python 3.12 refuses; the stream needs no flush.
            handler.flush = _nothing  # type: ignore[method-assign]
            _tap(handler)


def _nothing() -> None:
    pass


def _tap(handler: logging.Handler) -> None:
    call_handlers, direct = logging.Logger.callHandlers, direct_logging(handler)

    @wraps(call_handlers)
    def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:
        if record.levelno >= handler.level and not _is_internal(self):
            _give(handler, record, direct)
        call_handlers(self, record)

    logging.Logger.callHandlers = callHandlers  # type: ignore[method-assign]


def _is_internal(logger: logging.Logger) -> bool:
    # The SDK says on such loggers what must not come back to it.
    return not logger.propagate and logger.name.startswith("opentelemetry.")


def _give(
    handler: logging.Handler, record: logging.LogRecord, direct: DirectLogging | None
) -> None:
    """Hands over the record; one whose arguments do not fit its message, without them."""
    try:
        if direct is None or not direct.take(record):
            handler.handle(record)
    except Exception:
        try:
            bare = logging.makeLogRecord({**vars(record), "msg": str(record.msg), "args": None})
            handler.handle(bare)
        except Exception:
            pass  # the program's own handlers say what is wrong with it
