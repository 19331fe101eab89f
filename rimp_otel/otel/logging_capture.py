"""The standard library's logging, loguru and structlog, recorded without a change to what they print.

A record becomes OTLP JSON here, without the objects that the SDK makes of one, and goes straight to the
collector. Attributes follow the semantic conventions as opentelemetry-instrumentation-logging does, and
keep what that loses: the whole message of an exception, custom levels, values of any type.

Nothing that a record holds can keep it from being recorded: what raises when it is read costs itself.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping
from functools import wraps
from time import time_ns
from types import TracebackType
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from rimp_otel.collector.collector import (
    TelemetryCollector,
    append_log_json,
    counts_of,
    drop_log_record,
    expect_captured_logs,
)
from rimp_otel.collector.context import captured_log, current_span_context
from rimp_otel.otlp.encode_logs import captured_log_json
from rimp_otel.otlp.values import plain_value
from rimp_otel.process import BoundedCache

__all__ = ["LoggingCapture", "capture_logging", "feed_handler", "severity_of_level"]

_CACHE_SIZE = 1_024
_MAX_TIME = 2**64 - 1
_MAX_NESTING = 8
_ERROR = 17
# See ``rimp_otel.collector.collector``.
_TROUBLE = (RecursionError, MemoryError)

_OWN_FIELDS = frozenset(
    {
        *vars(logging.makeLogRecord({})),
        *("asctime", "message", "taskName"),
    }
)
"""The fields of every LogRecord; all others are attributes of the application's."""

_EVENT_NAMES = ("otel.event.name", "event.name")
_SEVERITY_TEXTS = {"WARNING": "WARN", "CRITICAL": "FATAL"}
# structlog's methods that are called otherwise than their levels.
_LEVELS_OF_METHODS = {"WARN": "WARNING", "EXCEPTION": "ERROR"}


def severity_of_level(level: Any) -> int:
    """Return OpenTelemetry's severity number of a level of ``logging``.

    The levels between two named ones rise by one each, up to the fourth: 20 is INFO (9), 21 is INFO2
    (10). A level below DEBUG is a kind of TRACE. What is no number counts as an error, since it is not
    known to be less.
    """
    if not isinstance(level, (int, float)) or level != level:
        return _ERROR
    if level < 10:
        return 0 if level <= 0 else 1 + min(max(int(level) - 5, 0), 3)
    base = min(int(level) // 10, 5) * 10
    return 1 + 4 * (base // 10) + min(int(level) - base, 3)


def _severity_of(level: Any, name: Any) -> tuple[int, Any]:
    """Return OpenTelemetry's severity number and text of a level of ``logging``, loguru or structlog.

    Args:
        level: its number.
        name: as the application calls it.
    """
    return severity_of_level(level), _SEVERITY_TEXTS.get(name, name)


class LoggingCapture:
    """Collects log records of the standard library, of loguru and of structlog.

    For any thread, signal handler or finaliser: it takes no lock, and raises nothing but what is no
    ``Exception``, such as KeyboardInterrupt. Where the application has left no room for it on the stack, or in
    memory, a record is counted as lost.

    Args:
        collector: where to collect them.
        resource: of the records.
        level: the lowest level that is recorded.
        with_code: also record the attributes ``code.file.path``, ``code.function.name`` and
            ``code.line.number``.
    """

    def __init__(
        self,
        collector: TelemetryCollector,
        resource: Resource,
        level: int = logging.NOTSET,
        with_code: bool = False,
    ) -> None:
        self._collector = collector
        #: Those of the collector.
        self.counts = counts_of(collector)
        expect_captured_logs(collector)
        self._resource = resource
        self._level = level
        self._with_code = with_code
        self._scopes: BoundedCache[str, InstrumentationScope] = BoundedCache(_CACHE_SIZE)
        self._severities: BoundedCache[tuple[Any, Any], tuple[int, str]] = BoundedCache(_CACHE_SIZE)

    def record(self, record: logging.LogRecord) -> int:
        """Record a LogRecord of the standard library, and return its time in nanoseconds."""
        time = 0
        try:
            captured_log.depth += 1
            try:
                time = creation_time(record)
                if self._level and record.levelno < self._level:
                    return time
                # What a value's __str__ logs is recorded too, but not for ever.
                if captured_log.depth > _MAX_NESTING:
                    self._record_bare(record)
                else:
                    self._record(record, time)
            except Exception:
                self._record_bare(record)
            finally:
                captured_log.depth -= 1
        except _TROUBLE as error:
            for _ in self.counts.lost_logs[0][error.__class__ is MemoryError]:
                break
        return time

    def _record(self, record: logging.LogRecord, time: int) -> None:
        fields = vars(record)
        attributes = {key: value for key, value in fields.items() if key not in _OWN_FIELDS}
        message: Any = record.msg
        if record.args or type(message) is not str:
            message, attributes = _message_of(record, attributes)
        if self._with_code:
            attributes["code.file.path"] = record.pathname
            attributes["code.function.name"] = record.funcName
            attributes["code.line.number"] = record.lineno
        if record.exc_info or record.exc_text:
            attributes.update(_exception_attributes(record.exc_info, record.exc_text))
        if record.stack_info:
            attributes["code.stacktrace"] = record.stack_info
        if (task := fields.get("taskName")) is not None:
            attributes["taskName"] = task
        key = (record.levelno, record.levelname)
        number, text = self._severities.get(key) or self._learn_severity(key)
        self.write(record.name, time, number, text, message, attributes)

    def _record_bare(self, record: logging.LogRecord) -> None:
        """Record what can be read of a record without running code of the application's."""
        message = record.msg if type(record.msg) is str else f"<a {type(record.msg).__name__}>"
        level = record.levelno if type(record.levelno) is int else logging.ERROR
        name = record.name if type(record.name) is str else ""
        attributes = {"rimp.repaired": "what was logged could not be read"}
        try:
            self.write(name, time_ns(), severity_of_level(level), "", message, attributes)
        except _TROUBLE:
            raise
        except Exception:
            drop_log_record(self._collector, "encoding")

    def _learn_severity(self, key: tuple[Any, Any]) -> tuple[int, str]:
        level, name = key
        severity = _severity_of(level, name)
        if type(level) is int and type(name) is str:
            self._severities[key] = severity
        return severity

    def write(
        self,
        name: str,
        time_unix_nano: int,
        severity_number: int,
        severity_text: str,
        message: Any,
        attributes: dict[str, Any],
    ) -> None:
        """Record a log record from its parts.

        Args:
            name: of the logger; becomes OTLP's scope.
            time_unix_nano: when it was logged, in nanoseconds since the epoch.
            severity_number: OpenTelemetry's; 0 where it is not known.
            severity_text: the level as the application calls it.
            message: the body.
            attributes: any; ``otel.event.name`` becomes the record's event name.
        """
        event_name = None
        if "event.name" in attributes or "otel.event.name" in attributes:
            names = [attributes.pop(key, None) for key in _EVENT_NAMES]
            event_name = next((name for name in names if name is not None), None)
        text = captured_log_json(
            time_unix_nano,
            time_ns(),
            severity_number,
            severity_text,
            message,
            attributes,
            current_span_context(),
            event_name,
        )
        scope = self._scopes.get(name) or self._learn_scope(name)
        append_log_json(self._collector, time_unix_nano, text, self._resource, scope)

    def _learn_scope(self, name: str) -> InstrumentationScope:
        scope = InstrumentationScope(name)
        self._scopes[name] = scope
        return scope

    def record_loguru(self, message: Any) -> None:
        """Record a message as loguru passes it to a sink."""
        try:
            self._record_loguru(message.record)
        except _TROUBLE as error:
            for _ in self.counts.lost_logs[0][error.__class__ is MemoryError]:
                break

    def _record_loguru(self, record: Mapping[str, Any]) -> None:
        attributes = dict(record["extra"])
        if exception := record["exception"]:
            attributes.update(_exception_attributes(tuple(exception)))
        level = record["level"]
        self.write(
            str(record["name"]),
            int(record["time"].timestamp() * 1e9),
            *_severity_of(level.no, level.name),
            record["message"],
            attributes,
        )

    def record_structlog(self, logger: Any, method: str, event_dict: Mapping[str, Any]) -> None:
        """Record an event as structlog passes it to a processor."""
        try:
            self._record_structlog(logger, method, event_dict)
        except _TROUBLE as error:
            for _ in self.counts.lost_logs[0][error.__class__ is MemoryError]:
                break

    def _record_structlog(self, logger: Any, method: str, event_dict: Mapping[str, Any]) -> None:
        attributes = dict(event_dict)
        message = attributes.pop("event", "")
        exc_info = attributes.pop("exc_info", None)
        if exc_info is True:
            exc_info = sys.exc_info()
        if isinstance(exc_info, BaseException) or exc_info:
            attributes.update(_exception_attributes(exc_info))
        level = str(attributes.pop("level", method)).upper()
        name = attributes.pop("logger", None) or getattr(logger, "name", None) or "structlog"
        level = _LEVELS_OF_METHODS.get(level, level)
        severity = _severity_of(logging.getLevelName(level), level)
        self.write(str(name), time_ns(), *severity, message, attributes)


def creation_time(record: logging.LogRecord) -> int:
    """Return a record's time in nanoseconds since the epoch; the present if it has none."""
    try:
        time = int(record.created * 1e9)
    except Exception:  # no number, or none that is finite
        return time_ns()
    return time if 0 < time <= _MAX_TIME else time_ns()


def _message_of(
    record: logging.LogRecord, attributes: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return a record's message, and its attributes."""
    if type(record.msg) is dict and "event" in record.msg:
        # structlog's way to hand an event to a formatter of its own.
        fields = {key: value for key, value in record.msg.items() if key != "event"}
        kept = {key: value for key, value in attributes.items() if not key.startswith("_")}
        for key in ("_record", "_from_structlog"):
            fields.pop(key, None)
        return record.msg["event"], {**kept, **fields}
    try:
        return record.getMessage(), attributes
    except Exception:
        # Its arguments do not fit, or one of them cannot be read.
        arguments = plain_value(record.args)
        return plain_value(record.msg), {**attributes, "rimp.arguments": arguments}


def _exception_attributes(exc_info: Any, text: str | None = None) -> dict[str, Any]:
    """Return the attributes that the semantic conventions have for an exception."""
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    if not isinstance(exc_info, tuple) or len(exc_info) != 3:
        stack = text or exc_info
        return {"exception.stacktrace": stack if type(stack) is str else plain_value(stack)}
    kind, error, stack = exc_info
    attributes: dict[str, Any] = {}
    if isinstance(kind, type):
        module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        attributes["exception.type"] = f"{module}{kind.__qualname__}"
    if error is not None:
        attributes["exception.message"] = plain_value(error)
    if isinstance(stack, TracebackType) or error is not None:
        attributes["exception.stacktrace"] = _stack_text(kind, error, stack)
    return attributes


def _stack_text(kind: Any, error: Any, stack: Any) -> str:
    try:
        return "".join(traceback.format_exception(kind, error, stack))
    except Exception as problem:
        return f"<a stack that cannot be read: {type(problem).__name__}>"


def capture_logging(capture: LoggingCapture) -> None:
    """Have ``capture`` record every call of the standard library's logging from now on.

    It is no handler of the root logger: that would change what the program prints. ``logging.warning``
    and ``basicConfig`` would take logging for configured, and loggers that do not propagate, such as
    uvicorn's, would not be seen.
    """
    call_handlers = logging.Logger.callHandlers

    @wraps(call_handlers)
    def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:
        before = captured_log.time
        try:
            if not _is_not_the_programs(self, record):
                # A handler that feeds OpenTelemetry's Logs API with the same record does not record it
                # again.
                captured_log.time = capture.record(record)
        except _TROUBLE as error:
            for _ in capture.counts.lost_logs[0][error.__class__ is MemoryError]:
                break
        try:
            call_handlers(self, record)
        finally:
            captured_log.time = before

    logging.Logger.callHandlers = callHandlers  # type: ignore[method-assign]


def feed_handler(handler: logging.Handler) -> None:
    """Give ``handler``, which feeds OpenTelemetry's Logs API, all that is logged from now on, after the
    program's own handlers: for exporters of logs beside the recorder, which has the records already."""
    call_handlers = logging.Logger.callHandlers
    # At exit it would start a thread, which Python 3.12 refuses.
    handler.flush = lambda: None  # type: ignore[method-assign]

    @wraps(call_handlers)
    def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:
        call_handlers(self, record)
        if _is_not_the_programs(self, record) or record.levelno < handler.level:
            return
        before = captured_log.time
        captured_log.time = creation_time(record)
        try:
            handler.handle(record)
        except Exception:
            pass  # it is recorded; what the exporter beside cannot have must not reach the program
        finally:
            captured_log.time = before

    logging.Logger.callHandlers = callHandlers  # type: ignore[method-assign]


def _is_not_the_programs(logger: logging.Logger, record: logging.LogRecord) -> bool:
    """Return True for a record that the program did not ask for, on a logger that does not propagate.

    The SDK says on such loggers what must not come back to it. A notebook's kernel describes every message
    to itself, at a level that only its own handler leaves out.
    """
    if logger.propagate:
        return False
    if logger.name == "IPKernelApp":
        return record.levelno < logging.WARNING
    return logger.name.startswith("opentelemetry.")
