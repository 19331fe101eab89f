"""The standard library's logging, recorded without a change to what the program prints."""

from __future__ import annotations

import logging
from functools import wraps

from rimp_otel.logdirect import DirectLogging, direct_logging

__all__ = ["feed_handlers", "record_logging"]


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
