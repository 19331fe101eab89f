"""Rotation: the active file becomes one of those that nobody appends to any more.

It is renamed into the directory of sealed files, under the fingerprint of its first line, which
is atomic: whatever happens around it, the records are in one place. So that no two files have one
fingerprint, the first line of a file differs from those of all others: if it would not, it gets
spaces and tabs at its end, which JSON allows.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from rimp_otel.otlp.signals import Signal
from rimp_otel.storage.appender import Appender
from rimp_otel.storage.durability import sync_directory
from rimp_otel.storage.layout import SealedName, fingerprint

__all__ = ["make_unique", "rotate"]

# More than there are slots.
_STEP = 1_024


def rotate(appender: Appender, signal: Signal, sealed: Path, syncs: bool) -> None:
    """Moves the active file, which must not be empty, into the directory of sealed files.

    Args:
        appender: whose file is open and whole.
        signal: whose records it holds.
        sealed: the directory, made here where it is missing.
        syncs: whether to return only once the move is on the device.

    Raises:
        OSError: it could not be moved; it is as it was.
    """
    _make_private(sealed)
    appender.sync()
    id = fingerprint(appender.first_line())
    if _is_taken(id, signal, _names(sealed)):
        # Its first line is none of ours, such as an empty one. It must not replace another file.
        id = os.urandom(8).hex()
    os.rename(appender.path, sealed / str(SealedName(signal, id)))
    appender.close()
    if syncs:
        sync_directory(sealed)
        sync_directory(appender.path.parent)


def make_unique(line: bytes, signal: Signal, sealed: Path, slot: int) -> bytes:
    """The line, such that no other file of the signal begins with it: not one of another slot,
    which has another number of them at its end, nor one that was sealed."""
    names = _names(sealed)
    number, unique = slot, line + _blanks(slot)
    while _is_taken(fingerprint(unique), signal, names):
        number += _STEP
        unique = line + _blanks(number)
    return unique


def _blanks(number: int) -> bytes:
    """A number in binary, in spaces and tabs; nothing for 0."""
    return f"{number:b}".encode().translate(_TO_BLANKS) if number else b""


_TO_BLANKS = bytes.maketrans(b"01", b" \t")


def _names(sealed: Path) -> list[str]:
    try:
        return os.listdir(sealed)
    except FileNotFoundError:
        return []


def _is_taken(id: str, signal: Signal, names: list[str]) -> bool:
    # There may be many files, but hardly another of this id.
    found = (SealedName.parse(name) for name in names if id in name)
    return any(name is not None and (name.signal, name.id) == (signal, id) for name in found)


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(directory).st_mode):
            raise
