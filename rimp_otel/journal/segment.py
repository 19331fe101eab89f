"""Segments: files of a fixed size, mapped into memory, that frames are written into one by one."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable, Hashable
from itertools import count
from pathlib import Path
from typing import Any

from rimp_otel.fsutil import CREATE_NEW_FLAGS, READ_WRITE_FLAGS, preallocate, sync_directory
from rimp_otel.journal.format import (
    FRAME_ENDS,
    HEADER_SIZE,
    SIGNAL_TAGS,
    Header,
    HeaderState,
    encode_definition,
    is_segment_magic,
)
from rimp_otel.journal.slots import JournalFileKind, journal_file_name
from rimp_otel.otlp.lines import RecordEnvelopes

__all__ = ["FileMapping", "Segment", "quarantine_file"]

_KEEPS_NO_DESCRIPTOR = sys.version_info >= (3, 13)
_TRACKING: dict[str, Any] = {"trackfd": False} if _KEEPS_NO_DESCRIPTOR else {}
# Mappings whose descriptor was closed by somebody else: if they went, they would close it again.
_unclosable: list[FileMapping] = []

_IDENTITY = HEADER_SIZE - 8
# Bytes that ends of frames are looked for in at once.
_WINDOW = 4_096


class FileMapping(mmap.mmap):
    """A file that is mapped into memory, for reading and writing.

    It never touches a descriptor that is not its own any more.
    """

    _descriptor: int
    _opened: os.stat_result

    @classmethod
    def of(cls, file: int, size: int, offset: int = 0) -> FileMapping:
        """Map an open file, which may be closed after.

        Raises:
            OSError: it cannot be mapped.
        """
        copy = -1 if _KEEPS_NO_DESCRIPTOR else _next_descriptor(file)
        memory = cls(file, size, offset=offset, **_TRACKING)
        memory._opened = os.fstat(file)
        memory._descriptor = copy if _is_same_file(copy, memory._opened) else -1
        return memory

    def close(self) -> None:
        """Unmap it, unless that would close somebody else's file."""
        if self._descriptor < 0 or self.closed or _is_same_file(self._descriptor, self._opened):
            super().close()
        elif self not in _unclosable:
            self.seek(0, os.SEEK_END)  # so that nobody writes any more
            _unclosable.append(self)


def _next_descriptor(file: int) -> int:
    """Return the lowest free descriptor: a copy that is made now gets it."""
    copy = os.dup(file)
    os.close(copy)
    return copy


def _is_same_file(descriptor: int, opened: os.stat_result) -> bool:
    """Return True if a descriptor is of that file."""
    try:
        return os.path.samestat(os.fstat(descriptor), opened)
    except OSError:
        return False


class Segment:
    """A mapped segment. ``write`` is safe from any thread, signal handler or finaliser.

    Args:
        path: of the file.
        memory: its mapping.
        is_recovered: whether another process wrote it.
    """

    def __init__(self, path: Path, memory: FileMapping, is_recovered: bool) -> None:
        self.path = path
        self.size = len(memory)
        self.is_recovered = is_recovered
        #: Appends bytes. Offset, copy and advance are one call into C that keeps the interpreter:
        #: there is nothing that another thread or a signal handler could interrupt.
        #: Raises ValueError where there is no room, or no segment any more.
        self.write: Callable[[bytes], int] = memory.write
        #: The texts that stand before a record's, by its signal's tag and its envelopes; see
        #: ``frame_head``.
        self.heads: dict[tuple[str, RecordEnvelopes], str] = {}
        #: By the tag, and then by a key that is faster to compare than envelopes: the head, the
        #: resource, and an object that must be kept so that the key stays its own.
        self.known: dict[str, dict[Hashable, tuple[str, object, object]]] = {
            tag: {} for tag in SIGNAL_TAGS.values()
        }
        self._numbers = count(1)
        # Whether its name is on the device.
        self._is_name_synced = False
        self._memory = memory
        self._words = memoryview(memory)[:HEADER_SIZE].cast("Q")
        self._identity = int.from_bytes(memory[_IDENTITY : _IDENTITY + 8], "little")
        self.header = Header(self._words)  # type: ignore[arg-type]

    @classmethod
    def create(cls, directory: Path, number: int, size: int) -> Segment:
        """Make an empty segment, all of whose pages exist.

        Raises:
            OSError: it could not be made, such as on a full disk.
        """
        path = directory / journal_file_name(number, JournalFileKind.SEGMENT)
        file = os.open(path, CREATE_NEW_FLAGS, 0o600)
        try:
            preallocate(file, size)
            memory = FileMapping.of(file, size)
            memory[_IDENTITY : _IDENTITY + 8] = os.urandom(8)
            segment = cls(path, memory, is_recovered=False)
            memory.seek(HEADER_SIZE)
            segment.header.initialize(number)
            segment.header.complete()
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(file)
        return segment

    @classmethod
    def open(cls, path: Path) -> Segment | None:
        """Open a segment that another process left; None if it was never completed, nor used.

        Raises:
            OSError: it cannot be read.
            ValueError: it is no segment: something else, or damaged.
        """
        file = os.open(path, READ_WRITE_FLAGS)
        try:
            size = os.fstat(file).st_size
            memory = FileMapping.of(file, size) if size else None
        finally:
            os.close(file)
        if memory is None or not is_segment_magic(int.from_bytes(memory[:8], "little")):
            _check_never_used(memory)
            return None
        if size < HEADER_SIZE:
            raise ValueError("it is cut off within its header")
        segment = cls(path, memory, is_recovered=True)
        segment.freeze()
        return segment

    def frame_head(self, tag: str, envelopes: RecordEnvelopes) -> tuple[str, str]:
        """Return what must stand before a record's text.

        Returns:
            The frame's head; and the definition of the head's number, if this segment does not have
            it yet. Then call ``set_head`` once that is written.
        """
        head = self.heads.get((tag, envelopes))
        if head is not None:
            return head, ""
        number = next(self._numbers)
        return f"{tag}{number} ", encode_definition(number, envelopes)

    def set_head(self, tag: str, envelopes: RecordEnvelopes, head: str) -> None:
        """Note that the head's definition is in the segment.

        Not before it is: another thread may use the head at once.
        """
        self.heads[tag, envelopes] = head

    def holds(self, frame: bytes) -> bool:
        """Return True if a frame is in it, whose ``write`` raised MemoryError: there may have been no room
        for the number that it returns."""
        try:
            return self._memory.rfind(frame, HEADER_SIZE) >= 0
        except MemoryError:
            return True  # more likely than not

    def freeze(self) -> None:
        """Let nobody write any more: a late writer gets a ValueError."""
        self._memory.seek(0, os.SEEK_END)

    def unfreeze(self) -> None:
        """Let writers go on where they stopped."""
        self._memory.seek(self.frames_end())

    @property
    def offset(self) -> int:
        """Where the next frame will be written; the size, if the segment is frozen."""
        return self._memory.tell()

    def frames_end(self) -> int:
        """Return where the frames end. What comes after is zero."""
        offset = self.offset
        if offset < self.size:
            return offset
        end = self._memory.find(b"\0", HEADER_SIZE)
        return self.size if end < 0 else end

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes between two offsets."""
        return self._memory[start:stop]

    def next_frame_start(self, start: int, stop: int) -> int:
        """Return the offset after the first end of a frame from ``start`` on and before ``stop``, or
        ``stop``."""
        for begin in range(start, stop, _WINDOW):  # a write may be megabytes without a line end
            found, until = -1, min(begin + _WINDOW, stop)
            for end in FRAME_ENDS:
                at = self._memory.find(end, begin, until)
                if at >= 0:
                    found = until = at
            if found >= 0:
                return found + 1
        return stop

    def is_frame_start(self, offset: int) -> bool:
        """Return True if a frame may begin there."""
        if offset == HEADER_SIZE:
            return True
        inside = HEADER_SIZE < offset <= self.size
        return inside and self._memory[offset - 1 : offset] in FRAME_ENDS

    def state(self) -> HeaderState:
        """Return what the header says."""
        return self.header.state()

    @property
    def identity(self) -> str:
        """Text that tells the segment from every other, also of other journals."""
        return f"{self._identity:016x}"

    def sync(self) -> None:
        """Force its pages to the device.

        Raises:
            OSError: that failed.
        """
        # Not mmap.flush(), which keeps the interpreter while it waits. Opened anew each time, since
        # a program that makes itself a daemon closes all descriptors.
        file = os.open(self.path, READ_WRITE_FLAGS)
        try:
            os.fdatasync(file)
        finally:
            os.close(file)
        if not self._is_name_synced:
            sync_directory(self.path.parent)
            self._is_name_synced = True

    def close(self) -> None:
        """Unmap it."""
        self._words.release()
        try:
            self._memory.close()
        except BufferError:
            # Of a fork: a thread that is not in the child was looking at the header.
            self.freeze()

    def delete(self) -> None:
        """Remove the file, and unmap it."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:  # somebody removed the directory
            pass
        self.close()


def _check_never_used(memory: FileMapping | None) -> None:
    """Raise ValueError if anything was ever written into what has no magic number."""
    if memory is None:
        return
    content = any(memory[HEADER_SIZE:].strip(b"\0")[:1]) if len(memory) > HEADER_SIZE else False
    memory.close()
    if content:
        raise ValueError("its magic number is wrong")


def quarantine_file(path: Path) -> None:
    """Rename a damaged file, so that nothing meets it again but ``rimp repair``."""
    try:
        path.rename(path.with_name(path.name + JournalFileKind.QUARANTINED.value))
    except OSError:
        pass  # a directory that went away, or cannot be written: then it is met again
