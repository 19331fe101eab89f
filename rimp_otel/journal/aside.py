"""Damaged files of a journal, which are put aside."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["DAMAGED", "put_aside"]

DAMAGED: Final = ".damaged"
"""What the names of files end with that were put aside."""


def put_aside(path: Path) -> None:
    """Renames a damaged file, so that nothing meets it again but ``rimp repair``."""
    try:
        path.rename(path.with_name(path.name + DAMAGED))
    except OSError:
        pass  # a directory that went away, or cannot be written: then it is met again
