"""Starts the recording of a process under ``rimp run``, before its own code runs."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rimp_otel.process import Reporter

__all__ = ["remove_from_path", "start_recording"]

_LOADER = "opentelemetry.instrumentation.auto_instrumentation._load"
_EXPECTED_WARNING = "Configuration of %s not loaded because %s is set by %s"


def start_recording(directory: str) -> None:
    """Do what ``opentelemetry-instrument`` does, and leave the program's own logging alone.

    Args:
        directory: the one of the ``sitecustomize`` that calls this. It is not on PYTHONPATH
            meanwhile: processes that the instrumentation itself starts are not recorded.
    """
    # Not at the top: ``rimp --help`` loads this module, and need not wait for the SDK.
    from opentelemetry.instrumentation.auto_instrumentation import initialize

    try:
        with _not_inherited(directory), _expected_warnings_muted(), _failures_isolated():
            initialize(swallow_exceptions=False)
    except Exception as error:
        Reporter().warn("start", f"this program is not recorded: {error!r}")
    _remove_handlers()


def _remove_handlers() -> None:
    """Take the handlers of opentelemetry-instrumentation-logging off the root logger.

    There they would change what the program prints: ``logging.warning`` and ``basicConfig`` take logging for
    configured. The recorder captures logging on its own; where the environment names other exporters of
    logs, the handlers are given the records from behind the program's own.
    """
    from rimp_otel.otel.logging_capture import feed_handler

    module = sys.modules.get("opentelemetry.instrumentation.logging.handler")
    if module is None:
        return
    root = logging.getLogger()
    others = os.environ.get("OTEL_LOGS_EXPORTER", "none").strip() not in {"", "none", "rimp"}
    for handler in root.handlers[:]:
        if isinstance(handler, module.LoggingHandler):
            root.removeHandler(handler)
            if others:
                feed_handler(handler)


@contextmanager
def _expected_warnings_muted() -> Iterator[None]:
    loader = logging.getLogger(_LOADER)
    loader.addFilter(_is_unexpected)
    try:
        yield
    finally:
        loader.removeFilter(_is_unexpected)


def _is_unexpected(record: logging.LogRecord) -> bool:
    # A warning for each other configurator that is installed, though it was not asked for.
    return record.msg != _EXPECTED_WARNING


@contextmanager
def _failures_isolated() -> Iterator[None]:
    """Keep an instrumentation that fails from ending the recording of everything else."""
    from opentelemetry.instrumentation.dependencies import DependencyConflictError
    from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]

    load = BaseDistro.load_instrumentor

    def load_instrumentor(self: Any, entry_point: Any, **kwargs: Any) -> None:
        try:
            load(self, entry_point, **kwargs)
        except (ImportError, DependencyConflictError):
            raise  # which the loader knows about
        except Exception as error:
            Reporter().warn("load", f"{entry_point.name} is not instrumented: {error!r}")

    BaseDistro.load_instrumentor = load_instrumentor
    try:
        yield
    finally:
        BaseDistro.load_instrumentor = load


@contextmanager
def _not_inherited(directory: str) -> Iterator[None]:
    inherited = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = remove_from_path(directory, inherited)
    try:
        yield
    finally:
        os.environ["PYTHONPATH"] = inherited


def remove_from_path(directory: str, path: str) -> str:
    """Return a search path without a directory."""
    return os.pathsep.join(entry for entry in path.split(os.pathsep) if entry != directory)
