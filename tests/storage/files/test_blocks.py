"""Unpacking sealed files, whatever became of them."""

from __future__ import annotations

import gzip
import sys

import pytest
import zstandard

from rimp_otel.storage.files.blocks import Gap, choose_compressor, decompress

TEXTS = [b"one\n" * 9, b"two\nand more\n", bytes(range(256)) * 2 + b"\n", b"four\n"]


@pytest.fixture(params=["zstd", "gzip"])
def compression(request):
    """The compressions of sealed files."""
    return request.param


@pytest.fixture
def blocks(compression):
    """Return a compressed block for each text."""
    _, compress = choose_compressor(compression)
    return [compress(text) for text in TEXTS]


def texts_in(packed, compression):
    """Return the texts that could be decompressed."""
    return [piece for piece in decompress(packed, compression) if not isinstance(piece, Gap)]


def test_each_block(blocks, compression):
    """Each block returns its text."""
    assert list(decompress(b"".join(blocks), compression)) == TEXTS


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("size", [True, False])
def test_what_the_zstd_library_makes_in_other_ways(threads, size):
    """Large frames are read, with and without their size and checksum."""
    text = b"".join(b"%d\n" % number for number in range(200_000))
    packed = zstandard.ZstdCompressor(
        threads=threads, write_content_size=size, write_checksum=not size
    ).compress(text)
    skippable = b"\x5a\x2a\x4d\x18\x03\0\0\0abc"
    assert b"".join(decompress(packed + skippable + packed, "zstd")) == text * 2


def test_what_gzip_makes():
    """One large member with a name in it is read."""
    text = b"".join(b"%d\n" % number for number in range(200_000))
    assert b"".join(decompress(gzip.compress(text), "gzip")) == text


def test_cut_at_every_offset(blocks, compression):
    """All complete blocks are read, and one gap says where the rest begins."""
    packed = b"".join(blocks)
    ends = [sum(map(len, blocks[:count])) for count in range(len(blocks) + 1)]
    for size in range(1, len(packed)):
        whole = sum(end <= size for end in ends) - 1
        *texts, last = decompress(packed[:size], compression)
        if size in ends:
            assert [*texts, last] == TEXTS[:whole]
        else:
            assert texts == TEXTS[:whole]
            assert isinstance(last, Gap)
            assert last.offset == ends[whole]


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_one_byte_flipped_at_every_offset(blocks, compression, flip):
    """All other blocks are read; the block is a gap unless the byte does not matter."""
    packed = b"".join(blocks)
    ends = [sum(map(len, blocks[: count + 1])) for count in range(len(blocks))]
    for offset in range(len(packed)):
        damaged = bytearray(packed)
        damaged[offset] ^= flip
        hit = sum(end <= offset for end in ends)
        pieces = list(decompress(bytes(damaged), compression))
        texts = [piece for piece in pieces if not isinstance(piece, Gap)]
        assert texts in (TEXTS, TEXTS[:hit] + TEXTS[hit + 1 :]), offset
        assert len(pieces) - len(texts) == 1 or texts == TEXTS


def test_a_gap_says_where_and_how_much(blocks, compression):
    """A gap has the size of the missing text if the header is whole and says it."""
    blocks[1] = blocks[1][:-1] + bytes([blocks[1][-1] ^ 0xFF])
    start = len(blocks[0])
    stop = start + len(blocks[1])
    (gap,) = [
        piece for piece in decompress(b"".join(blocks), compression) if isinstance(piece, Gap)
    ]
    assert gap.offset == start
    assert gap.size == (len(TEXTS[1]) if compression == "zstd" else 0)
    assert gap.reason == f"bytes {start} to {stop} cannot be decompressed"


def test_what_is_nothing_of_the_kind(compression):
    """Foreign data is one gap."""
    assert list(decompress(b"", compression)) == [Gap(0, 0, "it is empty")]
    for garbage in (b"x", b"\0" * 100, b"\x28\xb5\x2f\xfd" * 9, b"\x1f\x8b\x08" * 9):
        assert texts_in(garbage, compression) == []
        assert any(isinstance(piece, Gap) for piece in decompress(garbage, compression))


def test_a_header_that_asks_for_all_memory():
    """A header that asks for too much memory is a gap."""
    header = b"\x28\xb5\x2f\xfd\xe0" + (2**60).to_bytes(8, "little")
    assert [type(piece) for piece in decompress(header + b"\x01\0\0", "zstd")] == [Gap]


def test_without_the_package(blocks, monkeypatch):
    """A gap says which package is missing."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    (gap,) = decompress(blocks[0], "zstd")
    assert gap.reason == "reading it takes the package zstandard, which is not installed"
