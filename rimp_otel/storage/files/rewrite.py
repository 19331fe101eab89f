"""Rewrites one damaged file: what can be read stays in it, the rest is kept in ``damaged/``.

First what cannot be read is written there; then the file is replaced by one without it, which is
one rename. So whenever it is interrupted, everything is where it was, or where it belongs; run
again, it writes the same under the same name.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from glob import escape
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

from rimp_otel.errors import DecodeError
from rimp_otel.fsutil import CREATE_NEW_FLAGS, READ_FLAGS, sync_directory, sync_file
from rimp_otel.models.records import Signal
from rimp_otel.otlp.scan import TimeRange
from rimp_otel.storage.files.blocks import choose_compressor, gather_blocks
from rimp_otel.storage.files.index import make_index
from rimp_otel.storage.files.layout import DERIVED_SUFFIXES, SUFFIXES, SealedName, fingerprint
from rimp_otel.storage.files.lines import Line, OpenFile, read_lines
from rimp_otel.storage.files.verify import ParseLine
from rimp_otel.storage.files.writer import make_unique_line

__all__ = [
    "Rewritten",
    "move_to_damaged",
    "remove_temporary_files",
    "rewrite_active",
    "rewrite_sealed",
]

_SUFFIXES = sorted(SUFFIXES.values(), key=len, reverse=True)


class Rewritten(NamedTuple):
    """The result of rewriting a file."""

    #: Where it is now; None if nothing of it could be read.
    path: Path | None
    #: Lines and blocks that could not be read.
    damaged: int
    #: Where they are now; None if there were none.
    kept: Path | None


def rewrite_active(
    path: Path, signal: Signal, slot: int, parse: ParseLine, sealed: Path, damaged: Path
) -> Rewritten | None:
    """Rewrite an active file whose slot is held, and whose journal is empty.

    Args:
        path: of the file.
        signal: whose records it holds.
        slot: its number.
        parse: reads a line.
        sealed: the directory of sealed files.
        damaged: the directory for what cannot be read; created if it is missing.

    Returns:
        What was done; None if there was nothing to do.

    Raises:
        OSError: it could not be done; all is as it was, or done in part.
    """
    with _open_for_rewrite(path) as file:
        found = OpenFile(path, file, "none", is_sealed=False)
        contents = _Contents(found, parse)
        if not contents.damaged:
            return Rewritten(path, 0, None) if _end_last_line(path, file) else None
        kept = _keep_damaged(contents, found, parse, damaged)
        with _temporary_file(path) as (made, target):
            good = _good_lines(found, parse)
            if contents.begins_damaged:
                good = _with_first_line(
                    good, lambda first: make_unique_line(first, signal, sealed, slot)
                )
            _write_texts(target, good)
            _replace_file(made, target, path)
    return Rewritten(path, contents.damaged, kept)


def rewrite_sealed(
    path: Path, name: SealedName, parse: ParseLine, damaged: Path
) -> Rewritten | None:
    """Rewrite a sealed file, or correct its name.

    The arguments, results and errors are those of ``rewrite_active``.
    """
    with _open_for_rewrite(path) as file:
        found = OpenFile(path, file, name.compression, is_sealed=True)
        contents = _Contents(found, parse)
        if not contents.damaged:
            return _rename_sealed(path, _correct_name(path, name, contents))
        kept = _keep_damaged(contents, found, parse, damaged)
        return _replace_sealed(found, name, parse, contents, kept)


class _Contents:
    """The contents of a file: how many lines can be read, and what its name should be."""

    def __init__(self, found: OpenFile, parse: ParseLine) -> None:
        #: Lines and blocks that cannot be read.
        self.damaged = 0
        #: True if a part cannot be decompressed.
        self.has_gaps = False
        #: True if the first line is damaged.
        self.begins_damaged = False
        #: Lines that can be read.
        self.good = 0
        #: The first line, if it is not damaged.
        self.first = b""
        #: The times of the lines that can be read.
        self.times = TimeRange()
        for line in _all_lines(found):
            self._add(line, _is_good(line, parse))

    def _add(self, line: Line, is_good: bool) -> None:
        text = line.text or b""
        if not is_good:
            self.damaged += 1
            self.has_gaps = self.has_gaps or line.text is None
            self.begins_damaged = self.begins_damaged or line.number == 1
            return
        self.good += 1
        if line.number == 1:
            self.first = text
        if text.strip():
            self.times.add(text.strip())


def _replace_sealed(
    found: OpenFile, name: SealedName, parse: ParseLine, contents: _Contents, kept: Path
) -> Rewritten:
    path = found.path
    if not contents.good:
        _delete_sealed(path)
        return Rewritten(None, contents.damaged, kept)
    good = _good_lines(found, parse)
    if contents.begins_damaged:  # then the file begins with another line, and has another id
        first = make_unique_line(next(good).rstrip(b"\n"), name.signal, path.parent, 0)
        good = chain([first + b"\n"], good)
        name = name._replace(id=fingerprint(first))
    else:
        name = _correct_name(path, name, contents)
    with _temporary_file(path) as (made, target):
        _write_texts(target, _compress_lines(good, name.compression))
        # Under the old name first: no two files hold the same at any time.
        _replace_file(made, target, path)
    _remove_derived(path)
    make_index(path, SealedName.parse(path.name) or name)
    renamed = _rename_sealed(
        path, name._replace(first=contents.times.first, last=contents.times.last)
    )
    return Rewritten(renamed.path if renamed else path, contents.damaged, kept)


def _all_lines(found: OpenFile) -> Iterator[Line]:
    return read_lines(found, 0, 0, None, torn=True)


def _is_good(line: Line, parse: ParseLine) -> bool:
    if line.text is None:
        return False
    text = line.text.strip()
    try:
        return not text or parse(text) >= 0
    except DecodeError:
        return False


def _good_lines(found: OpenFile, parse: ParseLine) -> Iterator[bytes]:
    """Iterate over the lines that can be read, each with its end."""
    for line in _all_lines(found):
        if line.text is not None and _is_good(line, parse):
            yield line.text if line.text.endswith(b"\n") else line.text + b"\n"


def _with_first_line(lines: Iterable[bytes], change: Callable[[bytes], bytes]) -> Iterator[bytes]:
    for number, line in enumerate(lines):
        yield line if number else change(line.rstrip(b"\n")) + b"\n"


def _compress_lines(lines: Iterable[bytes], compression: str) -> Iterator[bytes]:
    if compression == "none":
        return iter(lines)
    _, compress = choose_compressor(compression)
    return (compress(text) for text in gather_blocks(lines))


def _end_last_line(path: Path, file: BinaryIO) -> bool:
    """End a last line that lacks nothing else; return True if there was one."""
    size = os.fstat(file.fileno()).st_size
    if not size or os.pread(file.fileno(), 1, size - 1) == b"\n":
        return False
    with path.open("ab") as target:
        target.write(b"\n")
    return True


def _correct_name(path: Path, name: SealedName, contents: _Contents) -> SealedName:
    id = fingerprint(contents.first)
    if id != name.id and not any(path.parent.glob(f"{name.signal.value}-*{id}.jsonl*")):
        name = name._replace(id=id)
    if not contents.times.last or name.first is None or name.last is None:
        return name
    first, last = min(name.first, contents.times.first), max(name.last, contents.times.last)
    return name._replace(first=first, last=last)


def _rename_sealed(path: Path, name: SealedName) -> Rewritten | None:
    if str(name) == path.name:
        return None
    target = path.with_name(str(name))
    os.rename(path, target)
    _move_derived(path, name)
    sync_directory(path.parent)
    return Rewritten(target, 0, None)


def _remove_derived(path: Path) -> None:
    name = SealedName.parse(path.name)
    if name is not None:
        for suffix in DERIVED_SUFFIXES:
            path.with_name(name.stem + suffix).unlink(missing_ok=True)


def _move_derived(path: Path, name: SealedName) -> None:
    before = SealedName.parse(path.name) or name
    for suffix in DERIVED_SUFFIXES:
        try:
            os.rename(path.with_name(before.stem + suffix), path.with_name(name.stem + suffix))
        except FileNotFoundError:
            pass


def _delete_sealed(path: Path) -> None:
    path.unlink()
    _remove_derived(path)
    sync_directory(path.parent)


def _keep_damaged(contents: _Contents, found: OpenFile, parse: ParseLine, damaged: Path) -> Path:
    """Copy what cannot be read byte for byte: lines; or a whole file that has a damaged block."""
    path = found.path
    if contents.has_gaps:
        return move_to_damaged(path, damaged, moved=False)
    target = _free_name(path, damaged, ".jsonl")
    with _temporary_file(target) as (made, file):
        _write_texts(
            file, (line.text or b"" for line in _all_lines(found) if not _is_good(line, parse))
        )
        _replace_file(made, file, target)
    return target


def move_to_damaged(path: Path, damaged: Path, moved: bool = True) -> Path:
    """Move or copy a whole file to the directory for damaged ones, creating that if needed.

    Raises:
        OSError: that failed; it is where it was.
    """
    suffix = next((end for end in _SUFFIXES if path.name.endswith(end)), "")
    target = _free_name(path, damaged, suffix)
    if moved:
        os.rename(path, target)
        sync_directory(path.parent)
    else:
        with _temporary_file(target) as (made, file):
            with path.open("rb") as source:
                shutil.copyfileobj(source, file)
            _replace_file(made, file, target)
    sync_directory(damaged)
    return target


def _free_name(path: Path, damaged: Path, suffix: str) -> Path:
    """Return a name that says what was damaged, and when it was last changed.

    It is the same again if this is run again after an interruption.
    """
    damaged.mkdir(mode=0o700, exist_ok=True)
    changed = os.lstat(path).st_mtime_ns
    when = time.strftime("%Y%m%dT%H%M%S", time.gmtime(changed // 10**9))
    stem = path.name
    for end in _SUFFIXES:
        stem = stem.removesuffix(end)
    return damaged / f"{stem}-{when}.{changed % 10**9:09d}Z{suffix}"


@contextmanager
def _open_for_rewrite(path: Path) -> Iterator[BinaryIO]:
    with os.fdopen(os.open(path, READ_FLAGS), "rb") as file:
        yield file


@contextmanager
def _temporary_file(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Create a file beside ``path``; remove it at the end, unless it was renamed.

    Whoever else began one is dead, since its lock is ours.
    """
    remove_temporary_files(path)
    made = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with os.fdopen(os.open(made, CREATE_NEW_FLAGS, 0o600), "wb") as file:
            yield made, file
    finally:
        made.unlink(missing_ok=True)


def remove_temporary_files(path: Path) -> list[Path]:
    """Remove what was to replace ``path`` and did not; return the paths."""
    left = list(path.parent.glob(f".{escape(path.name)}.tmp-*"))
    for found in left:
        found.unlink(missing_ok=True)
    return left


def _write_texts(file: BinaryIO, texts: Iterable[bytes]) -> None:
    for text in texts:
        file.write(text)


def _replace_file(made: Path, file: BinaryIO, path: Path) -> None:
    file.flush()
    sync_file(file.fileno())
    os.rename(made, path)
    sync_directory(path.parent)
