"""What ``rimp run`` does inside the processes that it records, before their own code runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rimp_otel.process import Reporter

__all__ = ["start_recording", "without"]

_LOADER = "opentelemetry.instrumentation.auto_instrumentation._load"
_NOISE = "Configuration of %s not loaded because %s is set by %s"


def start_recording(directory: str) -> None:
    """Does what ``opentelemetry-instrument`` does, and leaves the program's own logging alone.

    Args:
        directory: of the ``sitecustomize`` that calls this. Processes that the instrumentation
            itself should start are not recorded.
    """
    # Not at the top: ``rimp --help`` loads this module, and need not wait for the SDK.
    from opentelemetry.instrumentation.auto_instrumentation import initialize

    from rimp_otel.otel.logging_bridge import feed_handlers

    try:
        with _not_inherited(directory), _without_noise(), _each_on_its_own():
            initialize(swallow_exceptions=False)
    except Exception as error:
        Reporter().warn("start", f"this program is not recorded: {error!r}")
    feed_handlers()


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
            Reporter().warn("load", f"{entry_point.name} is not instrumented: {error!r}")

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
