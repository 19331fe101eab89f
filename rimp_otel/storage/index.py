"""The index of a sealed file: which of its blocks and lines may hold what is looked for.

It is derived: whatever is wrong with it, the file is read without it. ``docs/format.md`` describes
its parts, each of which ends with its own CRC-32, so that a reader checks what it uses and no more::

    head      what file it is of, and how many of everything there are
    fan-out   for each bucket of trace ids, how many entries are before it
    blocks    where each begins, and the range of its times
    rows      for each block, the same of its lines
    buckets   of trace ids: 16 bits of a hash each, and the blocks that have them
    labels    services and names, and the blocks that have them, as JSON
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple
from zlib import crc32

from rimp_otel.filters import Filter

__all__ = [
    "BLOCK",
    "FAN",
    "HEAD",
    "MAGIC",
    "MOST_BLOCKS",
    "ROW",
    "Block",
    "DamagedIndexError",
    "Head",
    "Index",
    "Row",
    "hash_of",
    "with_check",
]

MAGIC = b"rimpidx1"
HEAD = struct.Struct("<8sQQ8sIIIIII")
BLOCK = struct.Struct("<QIIIIQQQI")
ROW = struct.Struct("<IQQQ")
FAN = struct.Struct("<I")
_CHECK = struct.Struct("<I")
MOST_BLOCKS = 2**16


class DamagedIndexError(Exception):
    """It is no index, or damaged."""


class Head(NamedTuple):
    """What an index says about itself and its file."""

    magic: bytes
    #: Of the file, in bytes.
    size: int
    #: When the file was last changed, in nanoseconds since the epoch.
    changed: int
    #: A hash of the last bytes of all blocks, which are their checksums.
    check: bytes
    #: Blocks; 0 for a file that has to be read as a whole.
    blocks: int
    #: Lines in all blocks.
    lines: int
    #: Blocks with a line of which not all is known.
    unknown: int
    #: Buckets of trace ids, a power of two.
    buckets: int
    #: Entries in all buckets.
    entries: int
    #: Bytes of the labels.
    labels: int


class Block(NamedTuple):
    """A block of a file; for times, see ``Facts``."""

    offset: int
    #: Bytes in the file.
    packed: int
    #: Bytes of text.
    size: int
    #: Of its first line, counted from 1.
    number: int
    lines: int
    first: int
    last: int
    most: int
    #: 1 where all is known about all lines, else 0.
    is_known: int


class Row(NamedTuple):
    """A line; ``size`` is in bytes, with its end."""

    size: int
    first: int
    last: int
    most: int


def hash_of(trace_id: int) -> int:
    """32 bits: the upper half says the bucket, the lower is what stands in it."""
    return crc32(trace_id.to_bytes(16, "big"))


def with_check(part: bytes) -> bytes:
    """A part as it stands in the file."""
    return part + _CHECK.pack(crc32(part))


class Index:
    """An index that is read piece by piece. Any of its methods may find that it is damaged.

    Args:
        read: gives so many bytes from an offset on, or less where there are less.

    Raises:
        DamagedIndexError: it is damaged, or something else.
    """

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read
        self.head = Head(*HEAD.unpack(self._part(0, HEAD.size)))
        if self.head.magic != MAGIC:
            raise DamagedIndexError

    @classmethod
    def of_bytes(cls, data: bytes) -> Index:
        """One that is in memory."""
        return cls(lambda offset, size: data[offset : offset + size])

    @classmethod
    def of_file(cls, file: int) -> Index:
        """One in an open file, which must stay open."""
        return cls(lambda offset, size: os.pread(file, size, offset))

    @cached_property
    def blocks(self) -> list[Block]:
        """In their order in the file."""
        if not self.head.blocks:
            return []
        part = self._part(self._blocks_at, self.head.blocks * BLOCK.size)
        return [Block(*values) for values in BLOCK.iter_unpack(part)]

    def rows(self, number: int) -> list[Row]:
        """The lines of one block."""
        before = sum(block.lines for block in self.blocks[:number])
        offset = self._rows_at + before * ROW.size + number * _CHECK.size
        part = self._part(offset, self.blocks[number].lines * ROW.size)
        return [Row(*values) for values in ROW.iter_unpack(part)]

    @property
    def is_blank(self) -> bool:
        """Whether it says only that the file has to be read as a whole."""
        return not self.head.blocks

    def candidates(self, filter: Filter) -> list[int]:
        """The numbers of the blocks that may hold a record which matches; not of a blank one."""
        everything = (1 << self.head.blocks) - 1
        found = everything
        if filter.trace_id is not None:
            found &= self._holding(filter.trace_id)
        if filter.service is not None or filter.name is not None:
            found &= self._labelled(filter)
        if found != everything and self.head.unknown:
            found |= sum(1 << i for i, block in enumerate(self.blocks) if not block.is_known)
        most = max(filter.min_duration or 0, filter.severity or 0)
        return [i for i in _bits(found) if not most or self.blocks[i].most >= most]

    def _holding(self, trace_id: int) -> int:
        """The blocks that have a trace, as bits."""
        head, hashed = self.head, hash_of(trace_id)
        bucket = hashed >> 16 & (head.buckets - 1)
        fan = self._part(_FAN_AT, (head.buckets + 1) * FAN.size)
        start, end = struct.unpack_from("<II", fan, bucket * FAN.size)
        offset = self._buckets_at + start * 4 + bucket * _CHECK.size
        part = struct.unpack(f"<{2 * (end - start)}H", self._part(offset, (end - start) * 4))
        found = 0
        for print, block in zip(part[: end - start], part[end - start :], strict=True):
            if print == hashed & 0xFFFF:
                found |= 1 << block
        return found

    def _labelled(self, filter: Filter) -> int:
        """The blocks that have the service and the name, as bits."""
        labels = json.loads(self._part(self._labels_at, self.head.labels))
        found = (1 << self.head.blocks) - 1
        for kind, wanted in (("services", filter.service), ("names", filter.name)):
            if wanted is not None and labels[kind] is not None:
                found &= int(labels[kind].get(wanted, "0"), 16)
        return found

    def _part(self, offset: int, size: int) -> bytes:
        data = self._read(offset, size + _CHECK.size)
        part = data[:size]
        if len(data) < size + _CHECK.size or data[size:] != _CHECK.pack(crc32(part)):
            raise DamagedIndexError
        return part

    @property
    def _blocks_at(self) -> int:
        return _FAN_AT + (self.head.buckets + 1) * FAN.size + _CHECK.size

    @property
    def _rows_at(self) -> int:
        return self._blocks_at + self.head.blocks * BLOCK.size + _CHECK.size

    @property
    def _buckets_at(self) -> int:
        head = self.head
        return self._rows_at + head.lines * ROW.size + head.blocks * _CHECK.size

    @property
    def _labels_at(self) -> int:
        return self._buckets_at + self.head.entries * 4 + self.head.buckets * _CHECK.size


_FAN_AT = HEAD.size + _CHECK.size


def _bits(number: int) -> list[int]:
    found: list[Any] = []
    while number:
        low = number & -number
        found.append(low.bit_length() - 1)
        number ^= low
    return found
