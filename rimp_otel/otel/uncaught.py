"""How a program ends: its uncaught exceptions as log records, and one root span around it.

What is printed of an exception, and the exit code, stay as they are.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from opentelemetry import context, trace
from opentelemetry.trace import Span, Status, StatusCode

from rimp_otel.collector.collector import TelemetryCollector, forget_open_span
from rimp_otel.otel.import_hooks import call_when_imported
from rimp_otel.otel.logging_capture import LoggingCapture

__all__ = ["RootSpan", "record_uncaught"]

_SCOPE = "rimp_otel"
_BEFORE_ALL_OTHERS = 100

_SERVERS = (
    *("aiohttp.web", "bottle", "celery.apps.worker", "cherrypy"),
    *("daphne", "django.core.servers.basehttp", "django.core.handlers.base", "dramatiq"),
    *("falcon", "fastapi", "flask", "granian"),
    *("grpc", "gunicorn", "hypercorn", "ipykernel"),
    *("litestar", "pyramid", "pytest", "quart"),
    *("rq", "sanic", "starlette", "streamlit"),
    *("tornado.web", "twisted.internet", "uvicorn", "waitress"),
    "websockets",
)
"""Modules that a script does not import: what does has many requests, each a trace of its own, and no root."""


def record_uncaught(capture: LoggingCapture, is_active: Callable[[], bool]) -> None:
    """Record the exception that ends the program, and those that end its threads and its processes of
    multiprocessing.

    Args:
        capture: records them.
        is_active: whether it still does.
    """
    _ProgramEnd(capture, is_active)
    excepthook = threading.excepthook

    @wraps(excepthook)
    def record_and_call(args: Any) -> None:
        if is_active() and isinstance(args.exc_value, Exception):
            name = getattr(args.thread, "name", None)
            _record(capture, args.exc_value, f"uncaught exception in thread {name}")
        excepthook(args)

    threading.excepthook = record_and_call


class _ProgramEnd:
    """Records the exception that ends this process, or its children of multiprocessing."""

    def __init__(self, capture: LoggingCapture, is_active: Callable[[], bool]) -> None:
        self._capture = capture
        self._is_active = is_active
        self._pid = os.getpid()
        atexit.register(self._finish)
        call_when_imported("multiprocessing.util", self._watch_children)

    def _finish(self) -> None:
        error = _uncaught_exception()
        if error is not None and os.getpid() == self._pid and self._is_active():
            _record(self._capture, error, "uncaught exception")

    def _watch_children(self) -> None:
        # A child that is forked forgets all finalizers, and then calls this; one that is spawned does neither.
        sys.modules["multiprocessing.util"].register_after_fork(self, _ProgramEnd._add_finalizer)
        self._add_finalizer()

    def _add_finalizer(self) -> None:
        finalize = sys.modules["multiprocessing.util"].Finalize
        finalize(None, self._finish_child, exitpriority=_BEFORE_ALL_OTHERS)

    def _finish_child(self) -> None:
        # Called while the exception goes on to where it is printed.
        error = sys.exc_info()[1]
        if isinstance(error, Exception) and self._is_active():
            name = sys.modules["multiprocessing.process"].current_process().name
            ends = {"process.exit.code": 1, "process.pid": os.getpid()}
            _record(self._capture, error, f"uncaught exception in process {name}", ends)


def _uncaught_exception() -> BaseException | None:
    """Return what ended the program; None if it ended by itself, or is an interactive one."""
    if hasattr(sys, "ps1") or "IPython" in sys.modules:
        return None  # where each failed line is kept there
    error: BaseException | None = getattr(sys, "last_value", None)
    return error


def _record(
    capture: LoggingCapture,
    error: BaseException,
    message: str,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    level = logging.WARNING if isinstance(error, KeyboardInterrupt) else logging.CRITICAL
    record = logging.LogRecord(
        _SCOPE, level, "", 0, message, None, (type(error), error, error.__traceback__)
    )
    vars(record).update(attributes or {})
    capture.record(record)


class RootSpan:
    """One span around a program: current in the main thread, ended with the program.

    It ends with the exception that ends the program; a killed program leaves it as an interrupted span. As
    soon as a server is imported it is forgotten, since then each request is a trace of its own.

    Args:
        collector: which records it.
        name: of the span.
    """

    def __init__(self, collector: TelemetryCollector, name: str) -> None:
        self._collector = collector
        self._pid = os.getpid()
        self._span: Span | None = trace.get_tracer(_SCOPE).start_span(
            name, attributes={"process.pid": self._pid}
        )
        self._variable_token: Any = context.attach(trace.set_span_in_context(self._span))
        atexit.register(self.end)
        for module in _SERVERS:
            call_when_imported(module, self.forget)

    def end(self) -> None:
        """End it, in the process that has started it."""
        span, self._span = self._span, None
        if span is None or os.getpid() != self._pid:
            return
        error = _uncaught_exception()
        if error is not None:
            span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {_text_of(error)}"))
        span.end()

    def forget(self) -> None:
        """Have it neither current nor recorded."""
        span, self._span = self._span, None
        if span is None:
            return
        try:
            self._variable_token.var.reset(self._variable_token)
        except (AttributeError, RuntimeError, ValueError):
            pass  # in a context of its own, as of a task: what runs there keeps it as a parent
        forget_open_span(self._collector, span)


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""
