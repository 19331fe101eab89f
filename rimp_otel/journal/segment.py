"""Segments: files of a fixed size, mapped into memory, that frames are written into one by one."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable, Hashable
from itertools import count
from pathlib import Path
from typing import Any, Final

from rimp_otel.journal.format import HEADER_SIZE, LETTERS, Header, State, definition, is_magic
from rimp_otel.otlp.lines import Envelopes

__all__ = [
    "DAMAGED",
    "Mapping",
    "Segment",
    "put_aside",
    "segment_name",
    "segment_number",
    "sync_names",
]


# --- Files in memory, whose mapping never touches a descriptor that is not its own any more.

_KEEPS_NONE = sys.version_info >= (3, 13)
_TRACKING: dict[str, Any] = {"trackfd": False} if _KEEPS_NONE else {}
# Mappings whose descriptor was closed by somebody else: if they went, they would close it again.
_orphans: list[Mapping] = []


class Mapping(mmap.mmap):
    """A file that is mapped into memory, for reading and writing."""

    _descriptor: int
    _opened: os.stat_result

    @classmethod
    def of(cls, file: int, size: int, offset: int = 0) -> Mapping:
        """Maps an open file, which may be closed after.

        Raises:
            OSError: it cannot be mapped.
        """
        copy = -1 if _KEEPS_NONE else _next_descriptor(file)
        memory = cls(file, size, offset=offset, **_TRACKING)
        memory._opened = os.fstat(file)
        memory._descriptor = copy if _is(copy, memory._opened) else -1
        return memory

    def close(self) -> None:
        """Unmaps it, unless that would close somebody else's file."""
        if self._descriptor < 0 or self.closed or _is(self._descriptor, self._opened):
            super().close()
        elif self not in _orphans:
            self.seek(0, os.SEEK_END)  # so that nobody writes any more
            _orphans.append(self)


def _next_descriptor(file: int) -> int:
    """The lowest number that is free: a copy that is made now gets it."""
    copy = os.dup(file)
    os.close(copy)
    return copy


def _is(descriptor: int, opened: os.stat_result) -> bool:
    """Whether a descriptor is of that file."""
    try:
        return os.path.samestat(os.fstat(descriptor), opened)
    except OSError:
        return False


# --- Segments: files of a fixed size, mapped into memory, that frames are written into one by one.

_SUFFIX = ".seg"
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_IDENTITY = HEADER_SIZE - 8
# In one call, since each gives up the interpreter. It takes no memory: its pages are never written.
_ZEROS = bytes(4 * 1024 * 1024)


class Segment:
    """A mapped segment. ``write`` is safe from any thread, signal handler or finaliser.

    Args:
        path: of the file.
        memory: its mapping.
        recovered: whether another process wrote it.
    """

    def __init__(self, path: Path, memory: Mapping, recovered: bool) -> None:
        self.path = path
        self.size = len(memory)
        self.recovered = recovered
        #: Appends bytes. Position, copy and advance are one call into C that keeps the
        #: interpreter: there is nothing that another thread or a signal handler could interrupt.
        #: Raises ValueError where there is no room, or no segment any more.
        self.write: Callable[[bytes], int] = memory.write
        #: What stands before a record's text, by its signal and origin; see ``head``.
        self.heads: dict[tuple[str, Envelopes], str] = {}
        #: The same by the letter and then whatever tells an origin from others faster than its
        #: text does: the head, the resource, and what must be kept so that the key stays its own.
        self.known: dict[str, dict[Hashable, tuple[str, object, object]]] = {
            letter: {} for letter in LETTERS.values()
        }
        self._numbers = count(1)
        # Whether its name is on the device.
        self._is_named = False
        self._memory = memory
        self._words = memoryview(memory)[:HEADER_SIZE].cast("Q")
        self._identity = int.from_bytes(memory[_IDENTITY : _IDENTITY + 8], "little")
        self.header = Header(self._words)  # type: ignore[arg-type]

    @classmethod
    def create(cls, directory: Path, number: int, size: int) -> Segment:
        """Makes an empty segment.

        Its pages are there, on the device and in memory, before it is used: a write into a hole
        would be a SIGBUS on a full disk, and the first touch of a page costs 3 µs.

        Raises:
            OSError: it could not be made, such as on a full disk.
        """
        path = directory / segment_name(number)
        file = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _fill(file, size)
            memory = Mapping.of(file, size)
            memory[_IDENTITY : _IDENTITY + 8] = os.urandom(8)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(file)
        segment = cls(path, memory, recovered=False)
        memory.seek(HEADER_SIZE)
        segment.header.start(number)
        segment.header.complete()
        return segment

    @classmethod
    def open(cls, path: Path) -> Segment | None:
        """A segment that another process left; None if it was not complete yet, and so never used.

        Raises:
            OSError: it cannot be read.
            ValueError: it is no segment: something else, or damaged.
        """
        file = os.open(path, _FLAGS)
        try:
            size = os.fstat(file).st_size
            memory = Mapping.of(file, size) if size else None
        finally:
            os.close(file)
        if memory is None or not is_magic(int.from_bytes(memory[:8], "little")):
            _reject(memory)
            return None
        if size < HEADER_SIZE:
            raise ValueError("it is cut off within its header")
        segment = cls(path, memory, recovered=True)
        segment.seal()
        return segment

    def head(self, signal: str, origin: Envelopes) -> tuple[str, str]:
        """What must stand before a record's text: its head, and the definition of the head's number,
        where this segment does not have it yet (then call ``define`` once it is written)."""
        head = self.heads.get((signal, origin))
        if head is not None:
            return head, ""
        number = next(self._numbers)
        return f"{signal}{number} ", definition(number, origin)

    def define(self, signal: str, origin: Envelopes, head: str) -> None:
        """The definition is in the segment. Not before: another thread may use it at once."""
        self.heads[signal, origin] = head

    def seal(self) -> None:
        """Lets nobody write any more: a late writer gets a ValueError."""
        self._memory.seek(0, os.SEEK_END)

    def unseal(self) -> None:
        """Lets writers go on where they stopped."""
        self._memory.seek(self.end())

    @property
    def position(self) -> int:
        """Where the next frame will be written; the size, if it is sealed."""
        return self._memory.tell()

    def end(self) -> int:
        """Where the frames end. What comes after is zero."""
        position = self.position
        if position < self.size:
            return position
        end = self._memory.find(b"\0", HEADER_SIZE)
        return self.size if end < 0 else end

    def read(self, start: int, stop: int) -> bytes:
        """The bytes between two positions."""
        return self._memory[start:stop]

    def find_newline(self, start: int, stop: int) -> int:
        """The first line end at ``start`` or after it, before ``stop``; -1 where there is none."""
        return self._memory.find(b"\n", start, stop)

    def is_boundary(self, position: int) -> bool:
        """Whether a frame may begin there."""
        if position == HEADER_SIZE:
            return True
        inside = HEADER_SIZE < position <= self.size
        return inside and self._memory[position - 1 : position] == b"\n"

    def state(self) -> State:
        """What the header says."""
        return self.header.state()

    @property
    def identity(self) -> str:
        """Tells it from every other segment, also of other journals."""
        return f"{self._identity:016x}"

    def sync(self) -> None:
        """Forces its pages to the device.

        Raises:
            OSError: that failed.
        """
        # Not mmap.flush(), which keeps the interpreter while it waits. Opened anew each time, since
        # a program that makes itself a daemon closes all descriptors.
        file = os.open(self.path, _FLAGS)
        try:
            os.fdatasync(file)
        finally:
            os.close(file)
        if not self._is_named:
            sync_names(self.path.parent)
            self._is_named = True

    def close(self) -> None:
        """Unmaps it."""
        self._words.release()
        try:
            self._memory.close()
        except BufferError:
            # Of a fork: a thread that is not in the child was looking at the header.
            self.seal()

    def delete(self) -> None:
        """Removes the file, and unmaps it."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:  # somebody removed the directory
            pass
        self.close()


def sync_names(directory: Path) -> None:
    """Forces the names in a directory to the device, where the system can do that.

    Raises:
        OSError: that failed.
    """
    if not hasattr(os, "O_DIRECTORY"):  # pragma: no cover - Windows
        return
    file = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(file)
    finally:
        os.close(file)


def segment_name(number: int) -> str:
    """The name of a segment's file."""
    return f"{number:06d}{_SUFFIX}"


def segment_number(name: str) -> int | None:
    """The number in the name of a segment's file; None for other files."""
    stem, suffix = os.path.splitext(name)
    return int(stem) if suffix == _SUFFIX and stem.isdecimal() and stem.isascii() else None


def _fill(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    for offset in range(0, size, len(_ZEROS)):
        rest = memoryview(_ZEROS)[: size - offset]
        while rest:
            written = os.pwrite(file, rest, offset)
            offset, rest = offset + written, rest[written:]


def _reject(memory: Mapping | None) -> None:
    """Nothing, if nothing was ever written; raises otherwise."""
    if memory is None:
        return
    content = any(memory[HEADER_SIZE:].strip(b"\0")[:1]) if len(memory) > HEADER_SIZE else False
    memory.close()
    if content:
        raise ValueError("its magic number is wrong")


# --- Damaged files of a journal, which are put aside.

DAMAGED: Final = ".damaged"
"""What the names of files end with that were put aside."""


def put_aside(path: Path) -> None:
    """Renames a damaged file, so that nothing meets it again but ``rimp repair``."""
    try:
        path.rename(path.with_name(path.name + DAMAGED))
    except OSError:
        pass  # a directory that went away, or cannot be written: then it is met again
