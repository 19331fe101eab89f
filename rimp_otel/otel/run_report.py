"""What ``rimp run`` asks the processes of a program for, and what they tell it, which it says at the end.

One line of text in a file for each finding, so that nothing is lost with a process that is killed.
"""

from __future__ import annotations

import os

__all__ = ["REPORT_VARIABLE", "ROOT_SPAN_VARIABLE", "add_to_report", "read_report"]

REPORT_VARIABLE = "RIMP_RUN_REPORT"
"""The variable with the path of the file; a process without it reports to nobody."""

ROOT_SPAN_VARIABLE = "RIMP_RUN_ROOT_SPAN"
"""The variable that asks the first process for a span around it; that process takes the variable away."""


def add_to_report(kind: str, text: str) -> None:
    """Tell ``rimp run`` something, if it is there; raises nothing."""
    path = os.environ.get(REPORT_VARIABLE)
    if not path:
        return
    try:
        # Not made anew: it is gone with the `rimp run` that a background process outlives.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, f"{kind} {' '.join(text.split())}\n".encode(errors="replace"))
        finally:
            os.close(descriptor)
    except OSError:
        pass


def read_report(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Return what was told, each text once, by its kind."""
    found: dict[str, list[str]] = {}
    try:
        with open(path, errors="replace") as file:
            for line in file:
                kind, _, text = line.rstrip("\n").partition(" ")
                texts = found.setdefault(kind, [])
                if text not in texts:
                    texts.append(text)
    except OSError:
        pass
    return found
