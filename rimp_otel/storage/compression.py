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

# Of zstd's, for blocks of this size: level 3 leaves a quarter more, level 9 takes a third longer.
# The shortest match is longer than in any level, since ids in hexadecimal are full of short ones
# that lead nowhere.
_ZSTD = {"window_log": 18, "hash_log": 17, "chain_log": 18, "search_log": 3, "min_match": 6}
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
        parameters = zstandard.ZstdCompressionParameters(
            **_ZSTD, strategy=zstandard.STRATEGY_LAZY2, write_checksum=True, write_content_size=True
        )
        return "zstd", zstandard.ZstdCompressor(compression_params=parameters).compress
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
