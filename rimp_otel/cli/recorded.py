"""What ``rimp run`` does inside the processes that it records, before their own code runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from rimp_otel.reporting import Reporter

__all__ = ["start_recording", "without"]

_LOADER = "opentelemetry.instrumentation.auto_instrumentation._load"
_NOISE = "Configuration of %s not loaded because %s is set by %s"


def start_recording(directory: str) -> None:
    """Does what ``opentelemetry-instrument`` does, and leaves the program's own logging alone.

    Args:
        directory: of the ``sitecustomize`` that calls this. Processes that the instrumentation
            itself should start are not recorded.
    """
    from opentelemetry.instrumentation.auto_instrumentation import initialize

    try:
        with _not_inherited(directory), _without_noise(), _each_on_its_own():
            initialize(swallow_exceptions=False)
    except Exception as error:
        Reporter().say("start", f"this program is not recorded: {error!r}")
    _detach_handlers()


@contextmanager
def _without_noise() -> Iterator[None]:
    loader = logging.getLogger(_LOADER)
    loader.addFilter(_is_news)
    try:
        yield
    finally:
        loader.removeFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    # A warning for each other configurator that is installed, though it was not asked for.
    return record.msg != _NOISE


@contextmanager
def _each_on_its_own() -> Iterator[None]:
    """One instrumentation that fails would end the recording of everything else."""
    from opentelemetry.instrumentation.dependencies import DependencyConflictError
    from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]

    load = BaseDistro.load_instrumentor

    def load_instrumentor(self: Any, entry_point: Any, **kwargs: Any) -> None:
        try:
            load(self, entry_point, **kwargs)
        except (ImportError, DependencyConflictError):
            raise  # which the loader knows about
        except Exception as error:
            Reporter().say("load", f"{entry_point.name} is not instrumented: {error!r}")

    BaseDistro.load_instrumentor = load_instrumentor
    try:
        yield
    finally:
        BaseDistro.load_instrumentor = load


@contextmanager
def _not_inherited(directory: str) -> Iterator[None]:
    inherited = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = without(directory, inherited)
    try:
        yield
    finally:
        os.environ["PYTHONPATH"] = inherited


def without(directory: str, path: str) -> str:
    """A search path without a directory."""
    return os.pathsep.join(entry for entry in path.split(os.pathsep) if entry != directory)


def _detach_handlers() -> None:
    """Gives the instrumentation's handlers the records in another way than as root's handlers.

    On the root logger, a handler changes what the program prints: ``logging.warning`` and
    ``basicConfig`` then take logging for configured, and warnings that used to appear on standard
    error no longer do. It would also miss the loggers that do not propagate, such as uvicorn's.
    """
    try:
        from opentelemetry.instrumentation.logging.handler import LoggingHandler
    except ImportError:
        return
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, LoggingHandler):
            root.removeHandler(handler)
            # At exit it would start a thread, which Python 3.12 refuses; the stream needs no flush.
            handler.flush = _nothing  # type: ignore[method-assign]
            _tap(handler)


def _nothing() -> None:
    pass


def _tap(handler: logging.Handler) -> None:
    call_handlers = logging.Logger.callHandlers

    @wraps(call_handlers)
    def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:
        if record.levelno >= handler.level and not _is_internal(self):
            _give(handler, record)
        call_handlers(self, record)

    logging.Logger.callHandlers = callHandlers  # type: ignore[method-assign]


def _is_internal(logger: logging.Logger) -> bool:
    # The SDK says on such loggers what must not come back to it.
    return not logger.propagate and logger.name.startswith("opentelemetry.")


def _give(handler: logging.Handler, record: logging.LogRecord) -> None:
    """Hands over the record; one whose arguments do not fit its message, without them."""
    try:
        handler.handle(record)
    except Exception:
        try:
            bare = logging.makeLogRecord({**vars(record), "msg": str(record.msg), "args": None})
            handler.handle(bare)
        except Exception:
            pass  # the program's own handlers say what is wrong with it
