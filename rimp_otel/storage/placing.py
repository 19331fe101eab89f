"""What lies in a recording's directories: what belongs there, what was left, what is foreign."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from rimp_otel.errors import StorageError
from rimp_otel.journal.aside import DAMAGED
from rimp_otel.slots import LOCK
from rimp_otel.storage.layout import SUFFIXES, Layout, SealedName
from rimp_otel.storage.problems import Problem
from rimp_otel.storage.retention import DERIVED

__all__ = ["Kind", "Place", "damaged_directory", "exposed", "places"]

_ACTIVE = re.compile(r"(?:traces|logs|metrics)(?:\.[1-9][0-9]{0,4})?\.jsonl", re.ASCII)
_REWRITTEN = re.compile(r"\..+\.tmp-[0-9]+", re.ASCII)
_SEALING = re.compile(r"\.([a-z]+-[0-9a-f]{16})\.tmp-[0-9]+", re.ASCII)
_NUMBERED = re.compile(r"[0-9]{6,}\.(?:seg|open|crash)", re.ASCII)
_OTHERS_CAN = stat.S_IRWXG | stat.S_IRWXO
_user = getattr(os, "geteuid", lambda: 0)


class Kind(Enum):
    """What a name stands for."""

    OWN = "the recording's"
    ASIDE = "put aside by a recovery"
    LEFT = "left by something that did not end"
    FOREIGN = "not the recording's"


class Place(NamedTuple):
    """Something that lies there."""

    path: Path
    kind: Kind


def damaged_directory(layout: Layout) -> Path:
    """Where ``rimp repair`` keeps what it cannot mend. Nothing reads it."""
    sealed = layout.sealed
    return sealed.with_name(sealed.name.removesuffix("sealed") + "damaged")


def places(layout: Layout) -> Iterator[Place]:
    """All that lies in the directories of a recording; of a family of files, what is named so.

    Raises:
        StorageError: it is not possible to look.
    """
    prefix = layout.sealed.name.removesuffix("sealed")
    for path in _entries(layout.directory):
        if path.name.startswith((prefix, f".{prefix}")):
            yield Place(path, _at_top(path.name, prefix))
    for slot in layout.slots():
        for path in _entries(layout.journal(slot)):
            yield Place(path, _in_journal(path.name))
    for path in _entries(layout.sealed):
        yield Place(path, _among_sealed(path))


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StorageError(f"cannot read {directory}: {error.strerror or error}") from error


def _at_top(name: str, prefix: str) -> Kind:
    rest = name.removeprefix(prefix)
    if rest in ("sealed", "damaged", "cursors") or _ACTIVE.fullmatch(rest):
        return Kind.OWN
    if re.fullmatch(r"journal(?:\.[1-9][0-9]{0,4})?", rest) or (not prefix and name[0] == "."):
        return Kind.LEFT if _REWRITTEN.fullmatch(name) else Kind.OWN
    return Kind.LEFT if _REWRITTEN.fullmatch(name) else Kind.FOREIGN


def _in_journal(name: str) -> Kind:
    if name == LOCK or _NUMBERED.fullmatch(name):
        return Kind.OWN
    if name.endswith(DAMAGED):
        return Kind.ASIDE
    return Kind.LEFT if name.endswith(".tmp") else Kind.FOREIGN


def _among_sealed(path: Path) -> Kind:
    stem, suffix = os.path.splitext(path.name)
    if SealedName.parse(path.name):
        return Kind.OWN
    if suffix in DERIVED and SealedName.parse(stem + ".jsonl"):
        of = [path.with_name(stem + ending) for ending in SUFFIXES.values()]
        return Kind.OWN if any(map(os.path.lexists, of)) else Kind.LEFT
    if suffix == ".tmp" and stem.startswith(".") and stem.endswith(DERIVED):
        own = SealedName.parse(os.path.splitext(stem[1:])[0] + ".jsonl")
        return Kind.OWN if own else Kind.FOREIGN  # being made; 'rimp seal' removes what is left
    found = _SEALING.fullmatch(path.name)
    if found is None:
        return Kind.LEFT if _REWRITTEN.fullmatch(path.name) else Kind.FOREIGN
    # Whoever makes it holds the lock of the file that it is made of; that is its own business.
    is_left = not os.path.lexists(path.with_name(f"{found[1]}.jsonl"))
    return Kind.LEFT if is_left else Kind.OWN


def exposed(path: Path) -> Problem | None:
    """A remark on a file or directory that is not its owner's alone, or is a link to one."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    reason = ""
    if stat.S_ISLNK(status.st_mode):
        reason = "it is a link, through which nothing is recorded"
    elif status.st_uid != _user():
        reason = "it belongs to another user"
    elif status.st_mode & _OTHERS_CAN:
        right = "700" if stat.S_ISDIR(status.st_mode) else "600"
        mode = f"{stat.S_IMODE(status.st_mode):o}"
        reason = f"others may use it (mode {mode}); 'chmod {right}' makes it private"
    return Problem(path, reason, is_damage=False) if reason else None
