"""The name of the service that a process is, derived from the command that started it.

``uvicorn shop.main:app`` is ``shop``, not ``uvicorn``. A name that somebody gave has priority; who calls
this has looked for one.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

__all__ = ["is_python_program", "name_of_command", "name_of_process", "script_of_command"]


def name_of_command(command: Sequence[str], env: Mapping[str, str]) -> str:
    """Return the name of the application that a command runs.

    That is the application that a server or a worker is told to run; else the script or the module; else the
    command itself. ``python -W error app.py`` runs ``app``, ``python -m shop.web`` runs ``shop.web``,
    ``celery -A tasks worker`` runs ``tasks``, ``python manage.py runserver`` the project of the settings.
    """
    program, words = _skip_wrappers(list(command))
    is_module = False
    if _is_python(program):
        found = _skip_python(words)
        if found is None:
            return Path(program).stem
        program, words, is_module = found
    path = Path(program)
    find = _TOOLS.get(path.name.removesuffix(".exe"))
    if find and (application := find(path, words, env)):
        return application
    if is_module:
        return program.removesuffix(".__main__")
    path = path.resolve()
    return path.parent.name if path.stem == "__main__" else path.stem


def script_of_command(command: Sequence[str]) -> str | None:
    """Return the path of the script that a command has Python run; None for any other command."""
    program, words = _skip_wrappers(list(command))
    found = _skip_python(words) if _is_python(program) else None
    return None if found is None or found[2] else found[0]


def is_python_program(command: Sequence[str]) -> bool:
    """Return True if a command has Python run a script that exists, or a module; or is such a script, as the
    commands are that packages install."""
    program, words = _skip_wrappers(list(command))
    if not _is_python(program):
        path = shutil.which(program)
        return path is not None and _names_python(path)
    found = _skip_python(words)
    return found is not None and (found[2] or os.path.exists(found[0]))


def _names_python(path: str) -> bool:
    """Return True if a file begins with the path of a Python that runs it."""
    try:
        with open(path, "rb") as file:
            first, _, rest = file.read(1_024).partition(b"\n")
    except OSError:
        return False
    # A path that is too long for the first line stands in the second, in a form that the shell reads, too.
    is_long = first == b"#!/bin/sh" and rest.startswith(b"'''exec'")
    return (first.startswith(b"#!") and b"python" in first) or (
        is_long and b"python" in rest.partition(b"\n")[0]
    )


def name_of_process() -> str | None:
    """Return the name of this process's application; None if its command does not tell, as of an
    interactive one."""
    if notebook := os.environ.get("JPY_SESSION_NAME"):
        return Path(notebook).stem
    command = list(getattr(sys, "orig_argv", ()))
    if _skip_python(command[1:]) is None:
        # A child of multiprocessing has its parent's arguments here.
        if not sys.argv or sys.argv[0] in {"", "-c", "-m", "-"}:
            return None
        command = [sys.executable or "python", *sys.argv]
    return name_of_command(command, os.environ)


# Python, and what stands before it.

_WRAPPERS = {"env", "exec", "nice", "nohup", "setsid", "time", "timeout", "stdbuf"}
_RUNNERS = {"hatch", "pdm", "pipenv", "poetry", "rye", "uv"}
_DURATION = re.compile(r"[\d.]+[smhd]?")
_OPTION_WITH_VALUE = re.compile(r"-[a-zA-Z?]*?([mcWX])(.*)")
"""Python's options with a value, which is attached or the next word."""


def _is_python(program: str) -> bool:
    return bool(re.fullmatch(r"(python|pypy)[\d.]*t?(\.exe)?", Path(program).name))


def _skip_wrappers(words: list[str]) -> tuple[str, list[str]]:
    """Return the command that is run in the end, as far as that can be told."""
    rest = list(words)
    while len(rest) > 1:
        name = Path(rest[0]).name
        if name in _RUNNERS and rest[1] == "run":
            rest = rest[2:]
        elif name in _WRAPPERS:
            rest = rest[1:]
            while len(rest) > 1 and (
                rest[0].startswith("-") or "=" in rest[0] or _DURATION.fullmatch(rest[0])
            ):
                rest = rest[1:]
        else:
            break
    return (rest[0], rest[1:]) if rest else ("", [])


def _skip_python(words: Sequence[str]) -> tuple[str, list[str], bool] | None:
    """Return the script or module that Python runs, its arguments, and True if it is a module; None for an
    interactive Python, or one that is given its code."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            return word, rest, False
        if match := _OPTION_WITH_VALUE.fullmatch(word):
            value = match[2] or (rest.pop(0) if rest else "")
            if match[1] in "mc":
                return (value, rest, True) if match[1] == "m" and value else None
    return None


# Tools that run an application of somebody's.

_FLAGS = {
    *("-D", "-R", "--access-log", "--capture-output", "--daemon", "--debug", "--detach"),
    *("--enable-stdio-inheritance", "--factory", "--preload", "--proxy-headers", "--reload"),
    *("--reuse-port", "--server-header", "--use-colors", "--verbose", "-v"),
}
"""Options of servers without a value, after which the application may stand."""

_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.\w+)*(\(.*\))?")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_ENTRANCES = {"api", "app", "application", "asgi", "celery", "main", "server", "wsgi"}
"""Modules of a package that only say how it is entered."""

_NAMELESS = {"conf", "config", "core", "project", "settings", "src"}
"""Packages of settings whose name tells less than the directory's."""


def _name_of_module(module: str, directory: Path | None = None) -> str:
    """Return what a module's name says of the application: ``shop`` for ``shop.wsgi``."""
    parts = module.partition(":")[0].strip().split(".")
    while len(parts) > 1 and parts[-1] in _ENTRANCES:
        parts.pop()
    if parts[0] in _NAMELESS:
        return (directory or Path()).resolve().name or parts[0]
    return ".".join(parts)


def _served_application(_: Path, words: list[str], env: Mapping[str, str]) -> str:
    """Return the application among a server's arguments, which stands before, after or between options."""
    positional = []
    for before, word in zip(["", *words], words, strict=False):
        is_value = before.startswith("-") and "=" not in before and not _is_flag(before)
        if _TARGET.fullmatch(word) and not is_value:
            return _name_of_module(word)
        if _MODULE.fullmatch(word) and not is_value:
            positional.append(word)
    return _name_of_module(positional[0]) if positional else ""


def _is_flag(option: str) -> bool:
    return option in _FLAGS or option.startswith("--no-")


def _option_value(words: list[str], *options: str) -> str:
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in options:
            return value if equals else "".join(words[number + 1 : number + 2])
    return ""


def _celery_application(_: Path, words: list[str], env: Mapping[str, str]) -> str:
    attached = next((word[2:] for word in words if re.match(r"-A\w", word)), "")
    value = attached or _option_value(words, "-A", "--app") or env.get("CELERY_APP", "")
    return _name_of_module(value) if value else ""


def _flask_application(_: Path, words: list[str], env: Mapping[str, str]) -> str:
    value = _option_value(words, "-A", "--app") or env.get("FLASK_APP", "")
    value = value.removesuffix(".py").replace("/", ".").lstrip(".")
    if not value:
        return next((name for name in ("wsgi", "app") if Path(f"{name}.py").exists()), "")
    return _name_of_module(value.replace(".py:", ":"))


def _fastapi_application(_: Path, words: list[str], env: Mapping[str, str]) -> str:
    if entry := _option_value(words, "-e", "--entrypoint"):
        return _name_of_module(entry)
    given = [word for word in words[1:] if word.endswith(".py")]
    # The files that it looks for itself.
    tried = ["main.py", "app.py", "api.py", "app/main.py", "app/app.py", "app/api.py"]
    for file in given or filter(os.path.exists, tried):
        path = Path(file)
        package = path.parent.name if path.parent.joinpath("__init__.py").exists() else ""
        return _name_of_module(f"{package}.{path.stem}" if package else path.stem)
    return ""


_SETTINGS = re.compile(r"DJANGO_SETTINGS_MODULE['\"]\s*,\s*['\"]([\w.]+)['\"]")


def _django_project(path: Path, words: list[str], env: Mapping[str, str]) -> str:
    settings = _option_value(words, "--settings") or env.get("DJANGO_SETTINGS_MODULE", "").strip()
    if not settings and path.suffix == ".py":
        try:
            match = _SETTINGS.search(path.read_text(errors="replace"))
        except OSError:
            match = None
        settings = match[1] if match else ""
    return _name_of_module(settings.partition(".")[0], path.parent) if settings else ""


def _script_argument(_: Path, words: list[str], env: Mapping[str, str]) -> str:
    return next((Path(word).stem for word in words if word.endswith(".py")), "")


_TOOLS: dict[str, Callable[[Path, list[str], Mapping[str, str]], str]] = {
    **dict.fromkeys(
        ("daphne", "dramatiq", "granian", "gunicorn", "hypercorn", "uvicorn", "waitress-serve"),
        _served_application,
    ),
    "celery": _celery_application,
    "django": _django_project,
    "django-admin": _django_project,
    "fastapi": _fastapi_application,
    "flask": _flask_application,
    "manage.py": _django_project,
    "streamlit": _script_argument,
}
"""How the application is found among the arguments of a tool."""
