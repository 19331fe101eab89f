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
from functools import partial, wraps
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

from opentelemetry.util._importlib_metadata import entry_points

from rimp_otel.otel.import_hooks import call_when_imported, is_hookable
from rimp_otel.otel.run_report import add_to_report
from rimp_otel.process import Reporter

__all__ = ["exports_logs_elsewhere", "known_instrumentations", "load_instrumentation"]

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

_INDIRECT = {
    *("asgiref", "asyncclick", "click", "jinja2", "psutil", "pydantic", "starlette", "structlog"),
    *("urllib3",),
}
"""Libraries that others bring along, or that are used for something else: no advice for them."""

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
    handled: set[str] = set()
    for entry_point in entry_points(group="opentelemetry_instrumentor"):
        handled.update(name.lower() for name, _, _ in _requirements_of(entry_point))
        if not disabled & {"*", entry_point.name} and _is_wanted(entry_point.name):
            _load_or_wait(entry_point, distro)
    _report_uses(handled)
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
        return
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


def _requirements_of(entry_point: Any) -> list[tuple[str, Any, bool]]:
    """Return the libraries that an instrumentation is for: name, requirement, and True for one of which
    any is enough."""
    from packaging.requirements import Requirement

    found = []
    for text in getattr(entry_point.dist, "requires", None) or ():
        if match := _INSTRUMENTS.match(text):
            requirement = Requirement(text)
            found.append((requirement.name, requirement, bool(match["any"])))
    return found


def _instrumented_libraries(entry_point: Any) -> list[str] | None:
    """Return the installed distributions that an instrumentation is for; None if it lacks one, or its
    version does not fit."""
    installed: list[str] = []
    alternatives = is_missing = False
    for name, requirement, is_alternative in _requirements_of(entry_point):
        try:
            version = distribution(name).version
        except PackageNotFoundError:
            version = None
        fits = version is not None and requirement.specifier.contains(version, prereleases=True)
        alternatives |= is_alternative
        is_missing |= not fits and not is_alternative
        if fits:
            installed.append(name)
        elif version is not None:
            _report_misfit(entry_point, requirement, version)
    return None if is_missing or (alternatives and not installed) else installed


def _report_misfit(entry_point: Any, requirement: Any, version: str) -> None:
    """Tell `rimp run`, as soon as it is used, that a library is too old or too new to be instrumented."""
    text = (
        f"{entry_point.dist.name} {entry_point.dist.version} does not instrument {requirement.name} {version}, "
        f"it wants {requirement.name}{requirement.specifier}"
    )
    for module in _modules_of([requirement.name]):
        call_when_imported(module, partial(add_to_report, "misfit", text))


def _report_uses(handled: set[str]) -> None:
    """Tell `rimp run` which libraries are used that could be instrumented, and are not."""
    for name in [*known_instrumentations(), "loguru"]:
        if name not in handled and name not in _INDIRECT:
            module = _MODULES.get(name, name.replace("-", "_"))
            call_when_imported(module, partial(add_to_report, "used", name))


def known_instrumentations() -> dict[str, list[str]]:
    """Return the packages that instrument each library, as the installed opentelemetry-instrumentation
    knows them; libraries in lower case."""
    try:
        from opentelemetry.instrumentation.bootstrap_gen import libraries
    except ImportError:
        return {}
    found: dict[str, list[str]] = {}
    for one in libraries:
        match = re.match(r"[\w.-]+", one["library"])
        if match:
            found.setdefault(match[0].lower(), []).append(one["instrumentation"])
    return found


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
