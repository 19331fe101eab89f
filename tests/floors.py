"""The oldest versions that we say we work with: ``python -m tests.floors`` prints them for pip.

Of every package that is needed to run, with all extras, not of the tools of the tests. The floor
job of ``.ci/run`` installs them all at once.
"""

from __future__ import annotations

import re
from importlib.metadata import requires

TOOLS = ("test", "peers", "browser")
"""The extras whose packages run in no program of a user's."""


def floors() -> dict[str, str]:
    """Return the oldest version of each required package that all requirements allow, by its name."""
    found: dict[str, str] = {}
    for requirement in requires("rimp-otel") or ():
        wanted, _, marker = requirement.partition(";")
        match = re.fullmatch(r"([\w-]+)>=([\w.]+)", wanted.strip())
        is_tool = any(f"extra == '{extra}'" in marker.replace('"', "'") for extra in TOOLS)
        if match and not is_tool:
            found[match[1]] = max(match[2], found.get(match[1], "0"), key=_numbers)
    return found


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


if __name__ == "__main__":
    for name, version in sorted(floors().items()):
        print(f"{name}=={version}")
