"""Loads the instrumentation that is installed, each when the library is imported that it is for.

``opentelemetry-instrument`` imports every library for which there is an instrumentation before the program
starts. That costs a second, makes Django read settings that are not there yet, and brings in ``ssl`` before
gevent can patch it. Here a program imports what it would import anyway, in its own order.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from functools import wraps
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from opentelemetry.util._importlib_metadata import entry_points

from rimp_otel.otel.import_hooks import call_when_imported, is_hookable
from rimp_otel.process import Reporter

__all__ = ["exports_logs_elsewhere", "load_instrumentation"]

_STANDARD_LIBRARY = {
    "asyncio": "asyncio",
    "sqlite3": "sqlite3",
    "urllib": "urllib.request",
}
"""What the instrumentations of the standard library wait for."""

_AT_ONCE = {"system_metrics"}
"""Instrumentations that need a library, but not that the program uses it."""

_MODULES = {
    "confluent-kafka": "confluent_kafka",
    "grpcio": "grpc",
    "kafka-python": "kafka",
    "psycopg2-binary": "psycopg2",
    "pymysql": "pymysql",
    "tortoise-orm": "tortoise",
}
"""The modules of distributions, where reading them from their metadata would take longer."""

_REPEATED = "Attempting to instrument while already instrumented"


def load_instrumentation() -> None:
    """Have everything instrumented that ``opentelemetry-instrument`` would instrument."""
    # The program may do by itself what has been done for it; it would not hear of that without us.
    logging.getLogger("opentelemetry.instrumentation.instrumentor").addFilter(_is_not_repeated)
    distro = _load_distro()
    _call_entry_points("opentelemetry_pre_instrument")
    disabled = {
        name.strip()
        for name in os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    }
    if "*" not in disabled:
        for entry_point in entry_points(group="opentelemetry_instrumentor"):
            if entry_point.name not in disabled and _is_wanted(entry_point.name):
                _load_or_wait(entry_point, distro)
    _call_entry_points("opentelemetry_post_instrument")


def _is_not_repeated(record: logging.LogRecord) -> bool:
    return record.msg != _REPEATED


def _load_distro() -> Any:
    """Return the distro that the environment names, configured; None if it names none."""
    name = os.environ.get("OTEL_PYTHON_DISTRO")
    for entry_point in entry_points(group="opentelemetry_distro"):
        if name is None or entry_point.name == name:
            distro = entry_point.load()()
            distro.configure()
            return distro
    return None


def _call_entry_points(group: str) -> None:
    for entry_point in entry_points(group=group):
        try:
            entry_point.load()()
        except Exception as error:
            Reporter().warn("load", f"{entry_point.name} of {group} failed: {error!r}")


def _is_wanted(name: str) -> bool:
    """Return False for the instrumentation of ``logging``, unless more is wanted of it than the capture
    does: it would be the first to bring in what gevent has to patch."""
    if name != "logging":
        return True
    correlated = os.environ.get("OTEL_PYTHON_LOG_CORRELATION", "").strip().lower() == "true"
    return correlated or exports_logs_elsewhere()


def exports_logs_elsewhere() -> bool:
    """Return True if the environment names exporters of logs beside the recorder."""
    return os.environ.get("OTEL_LOGS_EXPORTER", "none").strip() not in {"", "none", "rimp"}


def _load_or_wait(entry_point: Any, distro: Any) -> None:
    """Load an instrumentation when all is imported that it would import."""

    def load() -> None:
        _load(entry_point, distro)

    name = entry_point.name
    libraries = _instrumented_libraries(entry_point)
    if libraries is None:
        return  # what it instruments is not installed
    modules = _modules_of(libraries) if libraries else [_STANDARD_LIBRARY.get(name, "")]
    if name in _AT_ONCE or not all(map(is_hookable, modules)):
        load()
        return
    wait = _wait_for_django if name == "django" else call_when_imported
    once = _Once(load)
    for module in modules:
        wait(module, once)


class _Once:
    """Calls a function the first time that it is called."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._functions = [function]

    def __call__(self) -> None:
        while self._functions:
            self._functions.pop()()


def _load(entry_point: Any, distro: Any) -> None:
    try:
        # What it needs of the library it checks for itself, and says nothing where that is missing.
        if distro is not None:
            distro.load_instrumentor(entry_point)
            return
        instrumentor = entry_point.load()()
        if not getattr(instrumentor, "is_instrumented_by_opentelemetry", False):
            instrumentor.instrument(skip_dep_check=True)
    except ModuleNotFoundError:
        pass  # of the library, of which another part was imported
    except Exception as error:
        Reporter().warn(
            f"load {entry_point.name}", f"{entry_point.name} is not instrumented: {error!r}"
        )


def _wait_for_django(module: str, load: Callable[[], None]) -> None:
    """Load Django's instrumentation when its settings are there, just before they are used to make the
    list of middlewares."""

    def wrap() -> None:
        handler = sys.modules["django.core.handlers.base"].BaseHandler
        original = handler.load_middleware

        @wraps(original)
        def load_middleware(self: Any, *args: Any, **kwargs: Any) -> Any:
            if handler.load_middleware is load_middleware:
                handler.load_middleware = original
            if sys.modules["django.conf"].settings.configured:
                load()
            return original(self, *args, **kwargs)

        handler.load_middleware = load_middleware

    call_when_imported(f"{module}.core.handlers.base", wrap)


# What an instrumentation is for: its distribution says so.

_INSTRUMENTS = re.compile(
    r"(?P<name>[\w.-]+)[^;]*;.*\bextra\s*==\s*['\"]instruments(?P<any>-any)?['\"]"
)


def _instrumented_libraries(entry_point: Any) -> list[str] | None:
    """Return the installed distributions that an instrumentation is for; None if it lacks one, or its
    version does not fit."""
    from packaging.requirements import Requirement

    installed: list[str] = []
    alternatives = found_alternative = False
    for text in getattr(entry_point.dist, "requires", None) or ():
        match = _INSTRUMENTS.match(text)
        if match is None:
            continue
        requirement = Requirement(text)
        try:
            version = distribution(requirement.name).version
        except PackageNotFoundError:
            version = None
        fits = version is not None and requirement.specifier.contains(version, prereleases=True)
        if match["any"]:
            alternatives = True
            found_alternative |= fits
        elif not fits:
            return None
        if fits:
            installed.append(requirement.name)
    return None if alternatives and not found_alternative else installed


def _modules_of(libraries: list[str]) -> list[str]:
    """Return the modules at the top of distributions; "" among them for one that has none of its own."""
    modules = []
    for library in libraries:
        name = _MODULES.get(library.lower(), library.lower().replace("-", "_"))
        modules += [name] if is_hookable(name) else _modules_in_metadata(library)
    return modules


def _modules_in_metadata(library: str) -> list[str]:
    metadata = distribution(library)
    listed = (metadata.read_text("top_level.txt") or "").split()
    if not listed:
        listed = [file.parts[0] for file in metadata.files or () if file.name == "__init__.py"]
    return sorted({name for name in listed if not name.startswith("_")}) or [""]
