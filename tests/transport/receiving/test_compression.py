"""Bodies are decompressed in parts, each of which may be the last that is allowed."""

from __future__ import annotations

import gzip
import os
import zlib

import pytest
import zstandard

from rimp_otel.errors import DecodeError
from rimp_otel.transport.receiving.compression import ENCODINGS, SizeLimitError, decompress_body

TEXT = os.urandom(200_000) + b"a" * 3_000_000

COMPRESS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_bodies_of_each_encoding(encoding):
    """All of a body comes out, in parts of a megabyte at most."""
    sizes = []
    assert decompress_body(encoding, COMPRESS[encoding](TEXT), sizes.append) == TEXT
    assert sum(sizes) == len(TEXT)
    assert max(sizes) <= 1024 * 1024
    assert decompress_body(encoding, COMPRESS[encoding](b""), sizes.append) == b""


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_bodies_of_several_parts(encoding):
    """Gzip members and zstd frames may follow one another."""
    compress = COMPRESS[encoding]
    body = compress(b"one ") + compress(b"") + compress(b"two")
    assert decompress_body(encoding, body, lambda size: None) == b"one two"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_bodies_that_are_damaged(encoding):
    """What is cut off, has more after its end, or is something else, is refused with its encoding."""
    body = COMPRESS[encoding](TEXT)
    for damaged in (b"", b"{}", body[:-1], body[:-9], body[: len(body) // 2], body + b"more"):
        with pytest.raises(DecodeError, match=f"the body is not {encoding}: "):
            decompress_body(encoding, damaged, lambda size: None)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_is_given_up(encoding):
    """A small body that would be a large one takes no more than is allowed."""
    bomb = COMPRESS[encoding](b"\0" * 100_000_000)
    sizes = []

    def grow(size):
        sizes.append(size)
        if sum(sizes) > 5_000_000:
            raise SizeLimitError

    with pytest.raises(SizeLimitError):
        decompress_body(encoding, bomb, grow)
    assert sum(sizes) <= 6_100_000
