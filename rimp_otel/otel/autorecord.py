"""Starts the recording of a process under ``rimp run``, before its own code runs."""

from __future__ import annotations

import logging
import os
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

    from rimp_otel.otel.logging_bridge import detach_handlers

    try:
        with _not_inherited(directory), _expected_warnings_muted(), _failures_isolated():
            initialize(swallow_exceptions=False)
    except Exception as error:
        Reporter().warn("start", f"this program is not recorded: {error!r}")
    detach_handlers()


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
