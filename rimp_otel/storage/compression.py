"""Compressing lines in blocks, each of which can be read without the others.

A block is a standard zstd frame with its size and a checksum, or a gzip member: a file of them is
one that ``zstdcat`` or ``zcat`` reads, and damage to one block leaves the others readable.
"""

from __future__ import annotations

import gzip
import importlib
from collections.abc import Callable, Iterable, Iterator

__all__ = ["BLOCK_SIZE", "blocks", "compressor"]

BLOCK_SIZE = 256 * 1024
"""Bytes of text after which a block ends, with the line that passes them."""

_ZSTD_LEVEL = 3
_GZIP_LEVEL = 6

Compress = Callable[[bytes], bytes]


def compressor(compression: str) -> tuple[str, Compress]:
    """What makes a block of a text, and the name of how it does.

    Args:
        compression: "zstd" or "gzip"; "zstd" where it is not installed is "gzip".
    """
    if compression == "zstd":
        try:
            # Not at the top: most processes never seal a file.
            zstandard = importlib.import_module("zstandard")
        except ImportError:
            return "gzip", _gzip
        made = zstandard.ZstdCompressor(
            level=_ZSTD_LEVEL, write_checksum=True, write_content_size=True
        )
        return "zstd", made.compress
    return "gzip", _gzip


def _gzip(text: bytes) -> bytes:
    return gzip.compress(text, _GZIP_LEVEL, mtime=0)


def blocks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines, with their ends, put together to texts of about ``BLOCK_SIZE``."""
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
