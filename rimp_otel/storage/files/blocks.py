"""Compressed blocks of a sealed file: write them, read them, read on after a damaged one.

A block is a zstd frame or a gzip member. Any file that ``zstd`` or ``gzip`` made is read too.
Damage costs the block that it is in: the next one is looked for by its magic number.
"""

from __future__ import annotations

import gzip
import importlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

__all__ = [
    "BLOCK_SIZE",
    "CompressedBlock",
    "Gap",
    "choose_compressor",
    "decompress",
    "decompress_blocks",
    "gather_blocks",
]


BLOCK_SIZE = 256 * 1024
"""Bytes of text after which a block ends, with the line that passes them."""

# Of zstd's, for blocks of this size: level 3 leaves a quarter more, level 9 takes a third longer.
# The shortest match is longer than in any level, since ids in hexadecimal are full of short ones
# that lead nowhere.
_ZSTD = {"window_log": 18, "hash_log": 17, "chain_log": 18, "search_log": 3, "min_match": 6}
_GZIP_LEVEL = 6

Compress = Callable[[bytes], bytes]


def choose_compressor(compression: str) -> tuple[str, Compress]:
    """Return the name of a compression, and the function that compresses a block by it.

    Args:
        compression: "zstd" or "gzip"; "gzip" is used if zstandard is not installed.
    """
    if compression == "zstd":
        try:
            # Not at the top: most processes never seal a file.
            zstandard = importlib.import_module("zstandard")
        except ImportError:
            return "gzip", _compress_gzip
        parameters = zstandard.ZstdCompressionParameters(
            **_ZSTD, strategy=zstandard.STRATEGY_LAZY2, write_checksum=True, write_content_size=True
        )
        return "zstd", zstandard.ZstdCompressor(compression_params=parameters).compress
    return "gzip", _compress_gzip


def _compress_gzip(text: bytes) -> bytes:
    return gzip.compress(text, _GZIP_LEVEL, mtime=0)


def gather_blocks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines, with their ends, to texts of about ``BLOCK_SIZE`` bytes."""
    gathered: list[bytes] = []
    size = 0
    for line in lines:
        gathered.append(line)
        size += len(line)
        if size >= BLOCK_SIZE:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


# --- Decompressing.

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_GZIP_MAGIC = b"\x1f\x8b\x08"
_MAX_HEADER = 18
_RAW, _RLE, _COMPRESSED = 0, 1, 2
# What the zstd command accepts too: a damaged header must not make it allocate all there is.
_MAX_WINDOW = 128 * 1024 * 1024
_CHUNK = 64 * 1024


class Gap(NamedTuple):
    """A part of a compressed file that cannot be decompressed."""

    #: In bytes, in the compressed file.
    offset: int
    #: Bytes of text that are missing; 0 if that is not known.
    size: int
    reason: str


class CompressedBlock(NamedTuple):
    """A block that could be decompressed."""

    text: bytes
    #: As it is in the file.
    compressed: memoryview


def decompress(compressed: bytes, compression: str) -> Iterator[bytes | Gap]:
    """Iterate over the texts of the blocks, with a gap for each one that is damaged. Raises
    nothing.

    Args:
        compressed: a whole file, or some of its blocks.
        compression: "zstd" or "gzip".
    """
    for block in decompress_blocks(compressed, compression):
        yield block if isinstance(block, Gap) else block.text


def decompress_blocks(compressed: bytes, compression: str) -> Iterator[CompressedBlock | Gap]:
    """Iterate over the blocks as ``decompress`` does, with their compressed form."""
    if not compressed:
        yield Gap(0, 0, "it is empty")
    elif compression == "gzip":
        yield from _decompress_blocks(compressed, _GZIP_MAGIC, _read_gzip_member)
    else:
        try:
            # Not at the top: most processes never read a sealed file.
            zstandard = importlib.import_module("zstandard")
        except ImportError:
            yield Gap(0, 0, "reading it takes the package zstandard, which is not installed")
            return
        yield from _decompress_blocks(compressed, _ZSTD_MAGIC, _ZstdReader(zstandard).read)


class _Block(NamedTuple):
    """A block, as far as it could be read."""

    #: Where it ends; -1 if that is not known.
    end: int
    #: None if it is damaged.
    text: bytes | None
    #: Bytes of its text according to its header; 0 if it does not say.
    size: int = 0


_DAMAGED = _Block(-1, None)


def _decompress_blocks(
    compressed: bytes, magic: bytes, read: Callable[[memoryview, int], _Block]
) -> Iterator[CompressedBlock | Gap]:
    view, position = memoryview(compressed), 0
    while position < len(compressed):
        block = read(view, position)
        if block.text is not None:
            yield CompressedBlock(block.text, view[position : block.end])
            position = block.end
            continue
        following = _find_magic(compressed, magic, position + 1)
        if block.end == following:
            size = block.size
        else:
            size = 0
            # What looks like a block in the middle of a damaged one is none.
            while following < len(compressed) and read(view, following).text is None:
                following = _find_magic(compressed, magic, following + 1)
        yield Gap(position, size, f"bytes {position} to {following} cannot be decompressed")
        position = following


def _find_magic(compressed: bytes, magic: bytes, position: int) -> int:
    """Return where the next block may begin; the end if there is none."""
    found = compressed.find(magic, position)
    return len(compressed) if found < 0 else found


class _ZstdReader:
    """Reads zstd frames.

    Their headers and those of their blocks say where they end, which is much faster than to pass
    all that follows, and tells one damaged frame from the next.
    """

    def __init__(self, zstandard: Any) -> None:
        self._zstandard = zstandard
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)

    def read(self, compressed: memoryview, start: int) -> _Block:
        """Read the frame that begins there."""
        if int.from_bytes(compressed[start : start + 4], "little") in _SKIPPABLE:
            end = start + 8 + int.from_bytes(compressed[start + 4 : start + 8], "little")
            return _Block(end, b"") if end <= len(compressed) else _DAMAGED
        try:
            head = bytes(compressed[start : start + _MAX_HEADER])
            header = self._zstandard.get_frame_parameters(head)
            first = start + self._zstandard.frame_header_size(head)
            end = _end_of_blocks(compressed, first, 4 if header.has_checksum else 0)
            if end < 0:
                return _DAMAGED
            size = header.content_size if header.content_size < 2**40 else 0
            return _Block(end, self._decompress(compressed[start:end]), size)
        except (self._zstandard.ZstdError, MemoryError):
            return _DAMAGED

    def _decompress(self, frame: memoryview) -> bytes | None:
        decompressor = self._decompressor.decompressobj()
        try:
            text: bytes = decompressor.decompress(frame)
        except self._zstandard.ZstdError:
            return None
        return text if decompressor.eof else None


def _end_of_blocks(compressed: memoryview, position: int, check: int) -> int:
    """Return where the frame ends whose first block is there; -1 if it does not end."""
    is_last = 0
    while not is_last:
        if position + 3 > len(compressed):
            return -1
        head = int.from_bytes(compressed[position : position + 3], "little")
        is_last, kind, size = head & 1, head >> 1 & 3, head >> 3
        if kind not in (_RAW, _RLE, _COMPRESSED):
            return -1
        position += 3 + (1 if kind == _RLE else size)
    return position + check if position + check <= len(compressed) else -1


def _read_gzip_member(compressed: memoryview, start: int) -> _Block:
    """Read the gzip member that begins there."""
    decompressor = zlib.decompressobj(wbits=31)
    pieces, position = [], start
    try:
        # In pieces: what follows the member is copied, as far as it was handed over.
        while not decompressor.eof and position < len(compressed):
            chunk = compressed[position : position + _CHUNK]
            pieces.append(decompressor.decompress(chunk))
            position += len(chunk)
    except (zlib.error, MemoryError):
        return _DAMAGED
    if not decompressor.eof:
        return _DAMAGED
    return _Block(position - len(decompressor.unused_data), b"".join(pieces))
