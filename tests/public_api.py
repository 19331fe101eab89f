"""The public interface as text: ``python -m tests.public_api --write`` rewrites ``public_api.txt``."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, ForwardRef, Protocol

PUBLIC = [
    "rimp_otel",
    "rimp_otel.analysis",
    "rimp_otel.collector",
    "rimp_otel.config",
    "rimp_otel.convert",
    "rimp_otel.models",
    "rimp_otel.otlp",
    "rimp_otel.prometheus",
    "rimp_otel.sql",
    "rimp_otel.storage",
    "rimp_otel.streaming",
]
"""The packages whose ``__all__`` is public."""

LIST = Path(__file__).with_name("public_api.txt")


def public_names(package: str) -> dict[str, Any]:
    """Return the public names of a package, each with its object."""
    module = importlib.import_module(package)
    return {name: getattr(module, name) for name in sorted(getattr(module, "__all__", ()))}


def describe() -> str:
    """Return all public names and signatures, each object once, as ``public_api.txt`` has them."""
    lines = []
    described: dict[int, str] = {}
    for package in PUBLIC:
        lines += ["", package]
        for name, value in public_names(package).items():
            known = described.get(id(value))
            if known is not None:
                lines.append(f"    {name} = {known}")
                continue
            if inspect.isclass(value) or callable(value):
                described[id(value)] = f"{package}.{name}"
            lines += [f"    {line}" for line in describe_name(name, value)]
    return "\n".join(lines[1:]) + "\n"


def describe_name(name: str, value: Any) -> list[str]:
    """Return the lines for one name: its signature, and of a class what an editor would offer."""
    if inspect.isclass(value):
        if not value.__module__.startswith("rimp_otel"):
            return [f"class {name} of the SDK"]
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        is_made_by_users = not issubclass(value, (Enum, BaseException, Protocol))
        signature = signature_of(value) if is_made_by_users else ""
        head = f"class {name}{signature}" + (f": {bases}" if bases else "")
        return [head, *(f"    {line}" for line in describe_members(value))]
    if callable(value):
        return [f"def {name}{signature_of(value)}"]
    return [f"{name}: {type(value).__name__}"]


def describe_members(cls: type) -> list[str]:
    """Return a line for each member that an editor would offer, but for what foreign bases have."""
    names = {name for name in dir(cls) if not name.startswith("_")} | attributes_of(cls)
    foreign = [base for base in cls.__mro__ if not base.__module__.startswith("rimp_otel")]
    # Of the SDK's classes too, from one version or another on.
    names -= {"force_flush", "shutdown"} if len(foreign) > 1 else set()
    offered = {name for name in names if not any(hasattr(base, name) for base in foreign)}
    return [describe_member(cls, name) for name in sorted(offered)]


def describe_member(cls: type, name: str) -> str:
    """Return the line for one member of a class."""
    member = inspect.getattr_static(cls, name, None)
    if isinstance(member, property):
        kind = "property" if member.fset is None else "attribute"
        return f"{kind} {name}"
    if isinstance(member, (classmethod, staticmethod)):
        return f"{type(member).__name__} {name}{signature_of(getattr(cls, name))}"
    if inspect.isfunction(member):
        return f"def {name}{signature_of(member)}"
    if isinstance(member, cls) and isinstance(member, Enum):
        return f"{name} = {member.value!r}"
    return f"attribute {name}"


def attributes_of(cls: type) -> set[str]:
    """Return the public attributes that the class's own code or annotations give to its instances."""
    names: set[str] = set()
    for base in cls.__mro__:
        if not base.__module__.startswith("rimp_otel"):
            continue
        names |= set(vars(base).get("__annotations__", {}))
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError):
            continue
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            ):
                names.add(node.attr)
    return {name for name in names if not name.startswith("_")}


def signature_of(function: Callable[..., Any]) -> str:
    """Return a callable's signature, its annotations as they are written."""
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(
            annotation=_Shown.annotation(parameter.annotation),
            default=_Shown.default(parameter.default),
        )
        for parameter in signature.parameters.values()
        if parameter.name not in ("self", "cls")
    ]
    returned = signature.return_annotation
    if inspect.isclass(function) or returned is signature.empty or returned is None:
        returned = signature.empty
    else:
        returned = _Shown.annotation(returned)
    return str(signature.replace(parameters=parameters, return_annotation=returned))


class _Shown:
    """Stands in a signature for a value, and is shown as this text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text

    @classmethod
    def default(cls, value: Any) -> Any:
        """Return what stands for a default, where its own text is not the same each time."""
        return cls(str(sorted(value))) if isinstance(value, frozenset) else value

    @classmethod
    def annotation(cls, annotation: Any) -> Any:
        """Return what stands for an annotation, without quotes."""
        if annotation is inspect.Parameter.empty:
            return annotation
        if isinstance(annotation, ForwardRef):
            annotation = annotation.__forward_arg__
        is_text = isinstance(annotation, str)
        return cls(annotation if is_text else inspect.formatannotation(annotation))


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        LIST.write_text(describe())
    else:
        print(describe(), end="")
