"""Starts the recording of a process under ``rimp run``, before its own code runs."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from rimp_otel.process import Reporter

__all__ = ["remove_from_path", "start_recording"]

_GEVENT_VARIABLE = "OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH"


def start_recording(directory: str) -> None:
    """Do what ``opentelemetry-instrument`` does, and leave the program's own logging alone.

    Args:
        directory: the one of the ``sitecustomize`` that calls this. It is not on PYTHONPATH
            meanwhile: processes that the instrumentation itself starts are not recorded.
    """
    # Not at the top: ``rimp --help`` loads this module, and need not wait for the SDK.
    from rimp_otel.otel.instrumentation import load_instrumentation
    from rimp_otel.otel.run_report import add_to_report

    add_to_report("started", str(os.getpid()))
    _occupy_closed_descriptors()
    try:
        with _not_inherited(directory):
            _patch_with_gevent()
            _configure()
            load_instrumentation()
    except Exception as error:
        add_to_report("failed", f"the recording could not be started: {error!r}")
        Reporter().warn("start", f"this program is not recorded: {error!r}")
    _remove_handlers()


def _occupy_closed_descriptors() -> None:
    """Keep the recorder's files off the descriptors of standard streams that are closed, where something
    that prints would write into them. Processes that the program starts have those streams closed still."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free


def _patch_with_gevent() -> None:
    """Do what this variable of opentelemetry-instrumentation asks for."""
    if os.environ.get(_GEVENT_VARIABLE) == "patch_all":
        import_module("gevent.monkey").patch_all()


def _configure() -> None:
    """Configure the SDK as the configurator does that the environment names."""
    from opentelemetry.util._importlib_metadata import entry_points

    name = os.environ.get("OTEL_PYTHON_CONFIGURATOR")
    for entry_point in entry_points(group="opentelemetry_configurator"):
        if entry_point.name == name:
            entry_point.load()().configure(auto_instrumentation_version=_instrumentation_version())
            return


def _instrumentation_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("opentelemetry-instrumentation")
    except PackageNotFoundError:
        return ""


def _remove_handlers() -> None:
    """Take the handlers of opentelemetry-instrumentation-logging off the root logger.

    There they would change what the program prints: ``logging.warning`` and ``basicConfig`` take logging for
    configured. The recorder captures logging on its own; where the environment names other exporters of
    logs, the handlers are given the records from behind the program's own.
    """
    from rimp_otel.otel.instrumentation import exports_logs_elsewhere
    from rimp_otel.otel.logging_capture import feed_handler

    module = sys.modules.get("opentelemetry.instrumentation.logging.handler")
    if module is None:
        return
    root = logging.getLogger()
    others = exports_logs_elsewhere()
    for handler in root.handlers[:]:
        if isinstance(handler, module.LoggingHandler):
            root.removeHandler(handler)
            if others:
                feed_handler(handler)


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
