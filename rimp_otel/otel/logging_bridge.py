"""The standard library's logging, recorded without a change to what the program prints.

The handler of opentelemetry-instrumentation-logging is given the records by a wrapper of
``Logger.callHandlers``, on the thread that logs. Where the collector is the provider's only processor,
most records do not even go through that handler: nobody would see what it and the SDK make of a record
(a translated record, a copy with its attributes bounded, one more around it), which is two fifths of
what a recorded log call costs. ``DirectLogging`` encodes them at once. A record that is not plain (an
exception, values that are no scalars, a limit that would cut something) goes through the handler,
which decides what is right.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from functools import wraps
from time import time_ns
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs._internal import SynchronousMultiLogRecordProcessor

from rimp_otel.collector.collector import TelemetryCollector, append_log_json
from rimp_otel.collector.context import current_span_context
from rimp_otel.otlp.encode_logs import usual_log_json
from rimp_otel.process import BoundedCache

__all__ = ["DirectLogging", "detach_handlers", "direct_logging", "record_logging"]


_CACHE_SIZE = 1_024
_MAX_UINT64 = 2**64 - 1
_SCALARS = frozenset({str, int, float, bool})
# The attributes that the handler makes the record's event name of.
_EVENT_NAME_KEYS = frozenset({"otel.event.name", "event.name"})


class DirectLogging:
    """Collects log records past one handler, if the result is the same. For any thread.

    It reads fields of the handler and of the SDK that are not public; each is tried once, here.

    Args:
        handler: of opentelemetry-instrumentation-logging.
        cache_size: the most loggers and levels that are remembered.

    Raises:
        AttributeError: this version of the handler or of the SDK is not known here.
    """

    def __init__(self, handler: Any, cache_size: int = _CACHE_SIZE) -> None:
        provider = handler._logger_provider
        if type(provider) is not LoggerProvider:
            raise AttributeError("the provider is not the SDK's")
        self._handler = handler
        self._provider: Any = provider
        self._processors = provider._multi_log_record_processor
        if type(self._processors) is not SynchronousMultiLogRecordProcessor:
            raise AttributeError("the provider's processors may see or change what they are given")
        limits: Any = provider._log_record_limits
        maximum = limits.max_log_record_attributes
        self._max_attributes = sys.maxsize if maximum is None else maximum
        has_max_length = limits.max_log_record_attribute_length is not None
        self._plain_types = _SCALARS - {str} if has_max_length else _SCALARS
        self._reserved: frozenset[str] = sys.modules[type(handler).__module__]._RESERVED_ATTRS
        # The SDK's loggers by their names, and its severities by number and name of the level.
        self._loggers: BoundedCache[str, Any] = BoundedCache(cache_size)
        self._levels: BoundedCache[tuple[int, str], tuple[int, str]] = BoundedCache(cache_size)
        self._read_private_fields()

    def _read_private_fields(self) -> None:
        """Read once what ``accept`` reads each time."""
        self._processors._log_record_processors.__len__()
        _ = (self._handler._log_code_attributes, self._handler.formatter, self._handler.filters)
        logger = self._logger_of("rimp_otel.otel.logging_bridge")
        _ = (logger._logger_config.is_enabled, logger._logger_metrics.emit_log)
        _ = (logger._resource, logger._instrumentation_scope)
        self._level_of(logging.makeLogRecord({"levelno": logging.INFO, "levelname": "INFO"}))

    def accept(self, record: logging.LogRecord) -> bool:
        """Collect the record; return False if it must go through the handler instead.

        Raises:
            Exception: any, raised by its arguments when they are put into its message; then nothing
                was collected.
        """
        handler, processors = self._handler, self._processors._log_record_processors
        if len(processors) != 1 or type(processors[0]) is not TelemetryCollector:
            return False
        if record.exc_info or handler._log_code_attributes or handler.formatter or handler.filters:
            return False
        reserved = self._reserved
        attributes = {key: value for key, value in vars(record).items() if key not in reserved}
        if attributes and not self._are_plain(attributes):
            return False
        logger = self._loggers.get(record.name) or self._logger_of(record.name)
        level = self._levels.get((record.levelno, record.levelname)) or self._level_of(record)
        if not level[0] or not logger._logger_config.is_enabled:
            return False
        time, observed = int(record.created * 1e9), time_ns()
        message, context = record.getMessage(), current_span_context()
        if not (0 < time <= _MAX_UINT64 and 0 < observed <= _MAX_UINT64 and type(message) is str):
            return False
        text = usual_log_json(time, observed, *level, message, attributes, context)
        logger._logger_metrics.emit_log()
        append_log_json(processors[0], time, text, logger._resource, logger._instrumentation_scope)
        return True

    def _are_plain(self, attributes: dict[str, Any]) -> bool:
        """Return True if the SDK would keep the attributes as they are."""
        if len(attributes) > self._max_attributes or not attributes.keys().isdisjoint(
            _EVENT_NAME_KEYS
        ):
            return False
        for key, value in attributes.items():
            if not key or type(key) is not str or type(value) not in self._plain_types:
                return False
        return True

    def _logger_of(self, name: str) -> Any:
        logger = self._provider.get_logger(name)
        self._loggers[name] = logger
        return logger

    def _level_of(self, record: logging.LogRecord) -> tuple[int, str]:
        key = record.levelno, record.levelname
        bare = logging.makeLogRecord({"levelno": key[0], "levelname": key[1]})
        translated = self._handler._translate(bare)
        level = translated.severity_number.value, translated.severity_text
        self._levels[key] = level
        return level


def direct_logging(handler: logging.Handler) -> DirectLogging | None:
    """Return the direct way past a handler; None if it is not known how to pass it by."""
    try:
        return DirectLogging(handler)
    except Exception:  # another version of the instrumentation, or of the SDK
        return None


def record_logging() -> None:
    """Record the standard library's logging into the global LoggerProvider.

    Does nothing if opentelemetry-instrumentation-logging is not installed, or was set up already.
    """
    try:
        from opentelemetry.instrumentation.logging import LoggingInstrumentor
    except ImportError:
        return
    instrumentor = LoggingInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:
        before = logging.getLogger().handlers[:]
        instrumentor.instrument(skip_dep_check=True)
        detach_handlers(kept=before)


def detach_handlers(kept: Sequence[logging.Handler] = ()) -> None:
    """Take the instrumentation's handlers off the root logger, and give them all records.

    On the root logger, a handler changes what the program prints: ``logging.warning`` and
    ``basicConfig`` then take logging for configured, and warnings that used to appear on standard
    error no longer do; a log call whose arguments do not fit raises into the program. It would
    also miss the loggers that do not propagate, such as uvicorn's.

    Args:
        kept: handlers that stay where they are.
    """
    try:
        from opentelemetry.instrumentation.logging.handler import LoggingHandler
    except ImportError:
        return
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, LoggingHandler) and handler not in kept:
            root.removeHandler(handler)
            # At exit it would start a thread, which Python 3.12 refuses; the stream needs no flush.
            handler.flush = _skip_flush  # type: ignore[method-assign]
            _wrap_call_handlers(handler)


def _skip_flush() -> None:
    pass


def _wrap_call_handlers(handler: logging.Handler) -> None:
    call_handlers, direct = logging.Logger.callHandlers, direct_logging(handler)

    @wraps(call_handlers)
    def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:
        if record.levelno >= handler.level and not _is_internal_logger(self):
            _pass_on(handler, record, direct)
        call_handlers(self, record)

    logging.Logger.callHandlers = callHandlers  # type: ignore[method-assign]


def _is_internal_logger(logger: logging.Logger) -> bool:
    # The SDK logs there what must not come back to it.
    return not logger.propagate and logger.name.startswith("opentelemetry.")


def _pass_on(
    handler: logging.Handler, record: logging.LogRecord, direct: DirectLogging | None
) -> None:
    """Have a record collected; one whose arguments do not fit its message, without them."""
    try:
        if direct is None or not direct.accept(record):
            handler.handle(record)
    except Exception:
        try:
            bare = logging.makeLogRecord({**vars(record), "msg": str(record.msg), "args": None})
            handler.handle(bare)
        except Exception:
            pass  # the program's own handlers say what is wrong with it
