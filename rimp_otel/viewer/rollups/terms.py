"""Which blocks of a sealed file may have an attribute with a certain value: a filter by hashes, in bits.

Each block has the bits of its attributes set, as in a Bloom filter; stored are not the filters of blocks, but
for each bit the blocks that have it, so that a look-up reads a few bytes of a file of any size. A block that
is not found has no such attribute; of those that are found, one in some hundred has not.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from rimp_otel.errors import DecodeError
from rimp_otel.otlp.decode_common import any_value
from rimp_otel.otlp.messages import KeyValue

__all__ = [
    "FileState",
    "TermIndex",
    "TermTable",
    "TermTableBuilder",
    "file_state",
    "hash_of_term",
    "read_unchanged",
]

_HASHES = 5
_BITS_PER_TERM = 12
_MIN_BITS = 64
_MAX_BITS = 2**17
_MAX_KNOWN = 50_000
_MIX = 0x9E3779B1

_PLAIN = re.compile(r"[ !#-\[\]-~]*")
# As it is written here; others are decoded, and written so.
_CANONICAL = re.compile(
    rb'\{"key":"[ !#-\[\]-~]*","value":\{"(?:stringValue":"[ !#-\[\]-~]*"|intValue":"-?[0-9]+"'
    rb'|boolValue":(?:true|false))\}\}'
)
_ATTRIBUTE = msgspec.json.Decoder(KeyValue, strict=False)


def hash_of_term(key: str, value: Any) -> int | None:
    """Return the hash of an attribute; None for one that is in no table.

    A number with a fraction, and what has other characters than printable ASCII, is in none.
    """
    if not _PLAIN.fullmatch(key):
        return None
    if isinstance(value, bool):
        text = f'boolValue":{str(value).lower()}'
    elif isinstance(value, (int, float)) and value - value == 0 and value == int(value):
        text = f'intValue":"{int(value)}"'
    elif isinstance(value, str) and _PLAIN.fullmatch(value):
        text = f'stringValue":"{value}"'
    else:
        return None
    return crc32(f'{{"key":"{key}","value":{{"{text}}}}}'.encode())


def _hash_of_raw(raw: bytes) -> int | None:
    if _CANONICAL.fullmatch(raw):
        return crc32(raw)
    try:
        pair = _ATTRIBUTE.decode(raw)
        return hash_of_term(pair.key or "", any_value(pair.value, list))
    except (msgspec.MsgspecError, DecodeError, UnicodeError):
        return None


class TermTable(NamedTuple):
    """For each bit the blocks that have it."""

    bits: int
    #: How many blocks there are.
    blocks: int
    data: bytes


def _row_width(blocks: int) -> int:
    """Return the size in bytes of what a table has for one bit."""
    return -(-blocks // 8)


class TermTableBuilder:
    """Makes the table of a file.

    Args:
        blocks: how many it has.
    """

    def __init__(self, blocks: int) -> None:
        self._terms: list[set[int]] = [set() for _ in range(blocks)]
        self._known: dict[bytes, int | None] = {}
        #: The block that is added to.
        self.block = 0

    def add(self, raws: Iterable[bytes]) -> None:
        """Add attributes, as they stand in the text, to the block."""
        known, terms = self._known, self._terms[self.block]
        for raw in raws:
            try:
                hashed = known[raw]
            except KeyError:
                if len(known) >= _MAX_KNOWN:
                    known.clear()
                hashed = known[raw] = _hash_of_raw(raw)
            if hashed is not None:
                terms.add(hashed)

    def build(self) -> TermTable:
        """Return the table of what was added."""
        most = max(map(len, self._terms), default=0)
        bits = min(max(_MIN_BITS, most * _BITS_PER_TERM), _MAX_BITS)
        rows = [0] * bits
        for block, terms in enumerate(self._terms):
            own = 1 << block
            for hashed in terms:
                step = _step_of(hashed)
                for number in range(_HASHES):
                    rows[(hashed + number * step) % bits] |= own
        width = _row_width(len(self._terms))
        data = b"".join([row.to_bytes(width, "little") for row in rows])
        return TermTable(bits, len(self._terms), data)


def _step_of(hashed: int) -> int:
    return (hashed * _MIX & 0xFFFFFFFF) >> 5 | 1


class TermIndex:
    """Looks up which blocks may have an attribute.

    Args:
        bits, blocks: of the table.
        read: returns so many bytes of its data from an offset on.
    """

    def __init__(self, bits: int, blocks: int, read: Callable[[int, int], bytes]) -> None:
        self.blocks = blocks
        self._bits = bits
        self._read = read

    @property
    def everywhere(self) -> int:
        """All blocks, as bits."""
        return (1 << self.blocks) - 1

    def find(self, hashed: int) -> int:
        """Return the blocks that may have an attribute with this hash, as bits."""
        width, found = _row_width(self.blocks), self.everywhere
        step = _step_of(hashed)
        for number in range(_HASHES):
            row = (hashed + number * step) % self._bits
            found &= int.from_bytes(self._read(row * width, width), "little")
            if not found:
                break
        return found


FileState = tuple[int, int, int]
"""What tells that a file was replaced or changed: its inode, its size, when it was changed."""


def file_state(file: int) -> FileState:
    """Return the state of an open file."""
    status = os.fstat(file)
    return status.st_ino, status.st_size, status.st_mtime_ns


def read_unchanged(path: Path, start: int, state: FileState) -> Callable[[int, int], bytes]:
    """Return what reads so many bytes of a file from an offset on, which is counted from ``start``.

    It raises an OSError if the file has another state by then.
    """

    def read(offset: int, size: int) -> bytes:
        with path.open("rb", buffering=0) as file:
            if file_state(file.fileno()) != state:
                raise OSError(errno.ESTALE, "the file was replaced", path)
            return os.pread(file.fileno(), size, start + offset)

    return read
