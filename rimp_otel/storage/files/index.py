"""The index of a sealed file: which of its blocks and lines may hold what is looked for.

It is derived: whatever is wrong with it, the file is read without it. ``docs/format.md`` describes
its parts, each of which ends with its own CRC-32, so that a reader checks what it uses and no more::

    head      what file it is of, and how many of everything there are
    fan-out   for each bucket of trace ids, how many entries are before it
    blocks    where each begins, and the range of its times
    rows      for each block, the range of times of each of its lines
    buckets   of trace ids: 16 bits of a hash each, and the blocks that have them
    labels    services and names, and the blocks that have them, as JSON
"""

from __future__ import annotations

import json
import os
import struct
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import cached_property
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from zlib import crc32

from rimp_otel.fsutil import CREATE_NEW_FLAGS, READ_FLAGS
from rimp_otel.models.filters import Filter
from rimp_otel.otlp.scan import LATEST, LineSummary, summarize_line
from rimp_otel.storage.files.blocks import Gap, decompress_blocks, gather_blocks
from rimp_otel.storage.files.layout import SealedName

__all__ = [
    "BLOCK",
    "FAN",
    "HEAD",
    "MAGIC",
    "MAX_BLOCKS",
    "ROW",
    "TAIL",
    "DamagedIndexError",
    "IndexBlock",
    "IndexFault",
    "IndexHead",
    "IndexRow",
    "Indexer",
    "SealedFileIndex",
    "build_index",
    "find_index_fault",
    "hash_of_trace",
    "index_path",
    "make_index",
    "open_index",
    "with_checksum",
    "write_index",
]


MAGIC = b"rimpidx1"
HEAD = struct.Struct("<8sQQ8sIIIIII")
BLOCK = struct.Struct("<QIIIIQQQI")
ROW = struct.Struct("<IQQQ")
FAN = struct.Struct("<I")
_CHECK = struct.Struct("<I")
MAX_BLOCKS = 2**16


class DamagedIndexError(Exception):
    """It is no index, or damaged."""


class IndexHead(NamedTuple):
    """The head of an index: what it says about itself and its file."""

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


class IndexBlock(NamedTuple):
    """A block of a file; for its times, see ``LineSummary``."""

    offset: int
    #: Its size in bytes, in the file.
    compressed: int
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


class IndexRow(NamedTuple):
    """A line of a file; ``size`` is in bytes, with its end."""

    size: int
    first: int
    last: int
    most: int


def hash_of_trace(trace_id: int) -> int:
    """Return a hash of 32 bits: the upper half selects the bucket, the lower half stands in it."""
    return crc32(trace_id.to_bytes(16, "big"))


def with_checksum(part: bytes) -> bytes:
    """Return a part as it stands in the file, with its checksum."""
    return part + _CHECK.pack(crc32(part))


class SealedFileIndex:
    """An index that is read piece by piece. Any of its methods may find that it is damaged.

    Args:
        read: returns as many bytes from an offset on, or fewer at the end of the file.

    Raises:
        DamagedIndexError: it is damaged, or something else.
    """

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read
        self.head = IndexHead(*HEAD.unpack(self._part(0, HEAD.size)))
        if self.head.magic != MAGIC:
            raise DamagedIndexError

    @classmethod
    def of_bytes(cls, data: bytes) -> SealedFileIndex:
        """Return an index that is in memory."""
        return cls(lambda offset, size: data[offset : offset + size])

    @classmethod
    def of_file(cls, file: int) -> SealedFileIndex:
        """Return an index in an open file, which must stay open."""
        return cls(lambda offset, size: os.pread(file, size, offset))

    @cached_property
    def blocks(self) -> list[IndexBlock]:
        """The blocks, in their order in the file."""
        if not self.head.blocks:
            return []
        part = self._part(self._blocks_at, self.head.blocks * BLOCK.size)
        return [IndexBlock(*values) for values in BLOCK.iter_unpack(part)]

    def rows(self, number: int) -> list[IndexRow]:
        """Return the lines of one block."""
        before = sum(block.lines for block in self.blocks[:number])
        offset = self._rows_at + before * ROW.size + number * _CHECK.size
        part = self._part(offset, self.blocks[number].lines * ROW.size)
        return [IndexRow(*values) for values in ROW.iter_unpack(part)]

    @property
    def is_blank(self) -> bool:
        """True if it says only that the file has to be read as a whole."""
        return not self.head.blocks

    def candidates(self, filter: Filter) -> list[int]:
        """Return the numbers of the blocks that can hold a matching record; not for a blank index."""
        everything = (1 << self.head.blocks) - 1
        found = everything
        if filter.trace_id is not None:
            found &= self._holding(filter.trace_id)
        if filter.service is not None or filter.name is not None:
            found &= self._labelled(filter)
        if found != everything and self.head.unknown:
            found |= sum(1 << i for i, block in enumerate(self.blocks) if not block.is_known)
        most = max(filter.min_duration or 0, filter.severity or 0)
        return [i for i in _bits_of(found) if not most or self.blocks[i].most >= most]

    def _holding(self, trace_id: int) -> int:
        """Return the blocks that have a trace, as bits."""
        head, hashed = self.head, hash_of_trace(trace_id)
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

    def blocks_of_traces(self, trace_ids: Iterable[int]) -> list[int]:
        """Return the numbers of the blocks that can hold a span of one of the traces; not for a blank
        index."""
        fan = self._part(_FAN_AT, (self.head.buckets + 1) * FAN.size)
        found: set[int] = set()
        for trace_id in trace_ids:
            hashed = hash_of_trace(trace_id)
            bucket = hashed >> 16 & (self.head.buckets - 1)
            start, end = struct.unpack_from("<II", fan, bucket * FAN.size)
            offset = self._buckets_at + start * 4 + bucket * _CHECK.size
            part = self._part(offset, (end - start) * 4)
            print, middle = struct.pack("<H", hashed & 0xFFFF), len(part) // 2
            at = part.find(print, 0, middle)
            while at >= 0:
                if at % 2 == 0:
                    found.add(int.from_bytes(part[middle + at : middle + at + 2], "little"))
                at = part.find(print, at + 1, middle)
        if self.head.unknown:
            found.update(i for i, block in enumerate(self.blocks) if not block.is_known)
        return sorted(found)

    def operations(self) -> dict[str, set[str]] | None:
        """Return the names by service; None if the index does not know all of them.

        A name counts for each service that it shares a block with.
        """
        labels = json.loads(self._part(self._labels_at, self.head.labels))
        services, names = labels["services"], labels["names"]
        if services is None or names is None or self.head.unknown or self.is_blank:
            return None
        blocks = {name: int(found, 16) for name, found in names.items()}
        return {
            service: {name for name, found in blocks.items() if found & int(own, 16)}
            for service, own in services.items()
        }

    def _labelled(self, filter: Filter) -> int:
        """Return the blocks that have the service and the name, as bits."""
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


def _bits_of(number: int) -> list[int]:
    found: list[Any] = []
    while number:
        low = number & -number
        found.append(low.bit_length() - 1)
        number ^= low
    return found


# --- Making an index, while the file is sealed or later, and finding it again.

TAIL = 8
"""Bytes at the end of a block that tell it from others: with zstd and gzip, its checksum."""
_BUCKET = 256
_MAX_LABELS = 512
_MAX_LABEL_LENGTH = 512
_MAX_SIZE = 2**32 - 1


class Indexer:
    """Gathers what an index says, line by line.

    A file that is not whole lines in whole blocks, or is larger than an index can say, gets a blank
    index, and is read as a whole.
    """

    def __init__(self) -> None:
        self._blocks: list[IndexBlock] = []
        self._rows: list[bytes] = []
        self._pending: list[tuple[int, LineSummary]] = []
        self._offset, self._lines = 0, 0
        self._check = blake2b(digest_size=8)
        self._hashes, self._numbers = array("I"), array("H")
        self._services: dict[str, int] | None = {}
        self._names: dict[str, int] | None = {}
        self._is_torn = False
        self._is_possible = True

    def add(self, line: bytes, summary: LineSummary) -> None:
        """Add a line, with its end if it has one."""
        if self._is_torn:
            self.give_up()
        self._is_torn = not line.endswith(b"\n")
        self._pending.append((len(line), summary))

    def give_up(self) -> None:
        """Note that the file cannot be indexed."""
        self._is_possible = False

    def end_block(self, compressed: int, tail: bytes) -> None:
        """End a block of the lines since the last one: its compressed size, and the bytes at its
        end."""
        lines, self._pending = self._pending, []
        size = sum(size for size, _ in lines)
        if max(size, compressed, self._lines) > _MAX_SIZE or len(self._blocks) >= MAX_BLOCKS:
            self.give_up()
        if not self._is_possible:
            return
        rows = [
            IndexRow(size, summary.first, summary.last, summary.most) for size, summary in lines
        ]
        self._rows.append(with_checksum(b"".join(ROW.pack(*row) for row in rows)))
        self._blocks.append(
            IndexBlock(
                self._offset,
                compressed,
                size,
                self._lines + 1,
                len(rows),
                min((row.first for row in rows), default=LATEST),
                max((row.last for row in rows), default=0),
                max((row.most for row in rows), default=0),
                int(all(summary.is_known for _, summary in lines)),
            )
        )
        self._note(len(self._blocks) - 1, [summary for _, summary in lines])
        self._offset += compressed
        self._lines += len(rows)
        self._check.update(tail[-TAIL:])

    def _note(self, number: int, lines: list[LineSummary]) -> None:
        hashes = {hash_of_trace(trace_id) for summary in lines for trace_id in summary.trace_ids}
        self._hashes.extend(hashes)
        self._numbers.extend([number] * len(hashes))
        for summary in lines:
            self._services = _add_labels(self._services, summary.services, number)
            self._names = _add_labels(self._names, summary.names, number)

    def build(self, size: int, changed: int) -> bytes:
        """Return the index.

        Args:
            size: of the file, in bytes.
            changed: when it was last changed, in nanoseconds since the epoch.
        """
        if not self._is_possible or self._pending or self._offset != size:
            return _blank_index(size, changed)
        buckets = self._buckets()
        fan, before = [], 0
        for prints, _ in [*buckets, (array("H"), None)]:
            fan.append(FAN.pack(before))
            before += len(prints)
        labels = json.dumps(
            {"services": _labels_in_hex(self._services), "names": _labels_in_hex(self._names)}
        ).encode()
        head = IndexHead(
            MAGIC,
            size,
            changed,
            self._check.digest(),
            len(self._blocks),
            self._lines,
            sum(not block.is_known for block in self._blocks),
            len(buckets),
            before,
            len(labels),
        )
        parts = [
            with_checksum(HEAD.pack(*head)),
            with_checksum(b"".join(fan)),
            with_checksum(b"".join(BLOCK.pack(*block) for block in self._blocks)),
            *self._rows,
            *(
                with_checksum(_pack_shorts(prints) + _pack_shorts(numbers))
                for prints, numbers in buckets
            ),
            with_checksum(labels),
        ]
        return b"".join(parts)

    def _buckets(self) -> list[tuple[array[int], array[int]]]:
        count = 1
        while count * _BUCKET < len(self._hashes) and count < 2**16:
            count *= 2
        buckets = [(array("H"), array("H")) for _ in range(count)]
        for i, (hashed, number) in enumerate(zip(self._hashes, self._numbers, strict=True)):
            prints, numbers = buckets[hashed >> 16 & (count - 1)]
            prints.append(hashed & 0xFFFF)
            numbers.append(number)
            if not i % 4_096:
                time.sleep(0)  # others want the interpreter too
        return buckets


def _add_labels(
    labels: dict[str, int] | None, found: Iterable[str], number: int
) -> dict[str, int] | None:
    """Set the block's bit for each label that it has; return None for too many labels."""
    if labels is None:
        return None
    for label in found:
        labels[label] = labels.get(label, 0) | 1 << number
        if len(labels) > _MAX_LABELS or len(label) > _MAX_LABEL_LENGTH:
            return None
    return labels


def _labels_in_hex(labels: dict[str, int] | None) -> dict[str, str] | None:
    return None if labels is None else {key: f"{bits:x}" for key, bits in sorted(labels.items())}


def _pack_shorts(numbers: array[int]) -> bytes:
    return struct.pack(f"<{len(numbers)}H", *numbers)


def _blank_index(size: int, changed: int) -> bytes:
    check = blake2b(digest_size=8).digest()
    return with_checksum(HEAD.pack(*IndexHead(MAGIC, size, changed, check, 0, 0, 0, 0, 0, 0)))


def build_index(file: BinaryIO, compression: str, changed: int | None = None) -> bytes:
    """Return the index of a sealed file, as sealing it would have made it.

    Args:
        file: the sealed file, open.
        compression: "zstd", "gzip" or "none".
        changed: when it was last changed, in nanoseconds; by default, what the file system says.

    Raises:
        OSError: it cannot be read.
    """
    status, indexer = os.fstat(file.fileno()), Indexer()
    file.seek(0)
    if compression == "none":
        for text in gather_blocks(file):
            _add_block(indexer, text, text)
    else:
        for block in decompress_blocks(file.read(), compression):
            if isinstance(block, Gap):
                indexer.give_up()
                break
            _add_block(indexer, *block)
    return indexer.build(status.st_size, status.st_mtime_ns if changed is None else changed)


def _add_block(indexer: Indexer, text: bytes, compressed: bytes | memoryview) -> None:
    for line in BytesIO(text):
        indexer.add(line, summarize_line(line))
    indexer.end_block(len(compressed), bytes(compressed[-TAIL:]))
    time.sleep(0)  # others want the interpreter too


def index_path(path: Path, name: SealedName) -> Path:
    """Return the path of the index of a sealed file."""
    return path.with_name(name.stem + ".idx")


def make_index(path: Path, name: SealedName) -> None:
    """Make the index of a sealed file, replacing any that is there.

    Raises:
        OSError: the file cannot be read, or the index cannot be written.
    """
    with os.fdopen(os.open(path, READ_FLAGS), "rb") as file:
        index = build_index(file, name.compression)
    write_index(path, name, index)


class IndexFault(Enum):
    """A fault that an index can have."""

    MISSING = "missing"
    #: Or it is that of another file.
    DAMAGED = "damaged"
    #: It does not agree with its file.
    WRONG = "wrong"


def find_index_fault(path: Path, name: SealedName) -> IndexFault | None:
    """Return what is wrong with the index of a sealed file; None for nothing.

    Raises:
        OSError: the file cannot be read.
    """
    with open_index(path, name) as index:
        if index is None:
            is_there = os.path.lexists(index_path(path, name))
            return IndexFault.DAMAGED if is_there else IndexFault.MISSING
        with path.open("rb") as file:
            expected = build_index(file, name.compression, index.head.changed)
    is_right = index_path(path, name).read_bytes() == expected
    return None if is_right else IndexFault.WRONG


def write_index(path: Path, name: SealedName, index: bytes) -> None:
    """Write the index of a sealed file in its place. It needs no sync, since it is checked.

    Raises:
        OSError: it could not be written.
    """
    made = path.with_name(f".{name.signal.value}-{name.id}.tmp-{os.getpid()}")
    file = os.open(made, CREATE_NEW_FLAGS, 0o600)
    try:
        with os.fdopen(file, "wb") as target:
            target.write(index)
        os.rename(made, index_path(path, name))
    except BaseException:
        made.unlink(missing_ok=True)
        raise


@contextmanager
def open_index(path: Path, name: SealedName) -> Iterator[SealedFileIndex | None]:
    """Open the index of a sealed file; yield None if there is none, or it is that of another file."""
    try:
        file = os.open(index_path(path, name), READ_FLAGS)
    except OSError:
        yield None
        return
    try:
        yield _matching_index(file, path, name)
    finally:
        os.close(file)


def _matching_index(file: int, path: Path, name: SealedName) -> SealedFileIndex | None:
    try:
        index, status = SealedFileIndex.of_file(file), os.stat(path)
        if index.head.size != status.st_size:
            return None
        if index.head.changed == status.st_mtime_ns:
            return index
        # Copied, perhaps. What is compressed has checksums, which tell whether it is the same.
        if name.compression != "none" and _checksum_of_blocks(path, index) == index.head.check:
            return index
    except (OSError, DamagedIndexError):
        pass
    return None


def _checksum_of_blocks(path: Path, index: SealedFileIndex) -> bytes:
    check = blake2b(digest_size=8)
    with path.open("rb", 0) as file:
        for block in index.blocks:
            start = block.offset + max(block.compressed - TAIL, 0)
            check.update(os.pread(file.fileno(), block.offset + block.compressed - start, start))
    return check.digest()
