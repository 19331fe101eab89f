"""Content encodings of requests, decompressed up to a bound: no small body becomes a large one."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

import zstandard

from rimp_otel.errors import DecodeError

__all__ = ["ENCODINGS", "SizeLimitError", "decompress_body"]

_PIECE = 64 * 1024
_STEP = 1024 * 1024
_MAX_WINDOW = 16 * 1024 * 1024
_GZIP, _ZLIB = 31, 15


class SizeLimitError(Exception):
    """A body has more bytes than it may have."""


def decompress_body(encoding: str, body: bytes, grow: Callable[[int], None]) -> bytes:
    """Return a body decompressed.

    Args:
        encoding: a key of ``ENCODINGS``.
        body: the body as it was sent.
        grow: called with the size of each part, a megabyte at most, before the next one is made; it may
            raise what stops it.

    Raises:
        DecodeError: the body is not encoded so, or not whole.
    """
    parts = []
    try:
        for part in ENCODINGS[encoding](body):
            grow(len(part))
            parts.append(part)
    except (zlib.error, zstandard.ZstdError) as error:
        raise DecodeError(f"the body is not {encoding}: {error}") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _inflate(body: bytes, window: int) -> Iterator[bytes]:
    """Yield the parts of a zlib stream, or of gzip members one after the other."""
    decompressor = zlib.decompressobj(window)
    view = memoryview(body)
    # In pieces: each call copies what it has not taken of its input.
    for start in range(0, len(view), _PIECE):
        piece: bytes | memoryview = view[start : start + _PIECE]
        while piece:
            if decompressor.eof:
                if window != _GZIP:
                    raise zlib.error("there are bytes after its end")
                decompressor = zlib.decompressobj(window)
            part = decompressor.decompress(piece, _STEP)
            if part:
                yield part
            piece = decompressor.unused_data if decompressor.eof else decompressor.unconsumed_tail
    # What the last call had no room for.
    while not decompressor.eof:
        part = decompressor.decompress(b"", _STEP)
        if not part:
            raise zlib.error("it ends too early")
        yield part


def _inflate_gzip(body: bytes) -> Iterator[bytes]:
    return _inflate(body, _GZIP)


def _inflate_zlib(body: bytes) -> Iterator[bytes]:
    return _inflate(body, _ZLIB)


def _inflate_zstd(body: bytes) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    if not body:
        raise zstandard.ZstdError("it ends too early")
    size = 0
    with decompressor.stream_reader(body, read_across_frames=True) as reader:
        while part := reader.read(_STEP):
            size += len(part)
            yield part
    # The reader does not tell; where the sender has noted the size, this does.
    if size < zstandard.frame_content_size(body):
        raise zstandard.ZstdError("it ends too early")


ENCODINGS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "gzip": _inflate_gzip,
    "x-gzip": _inflate_gzip,
    "deflate": _inflate_zlib,
    "zstd": _inflate_zstd,
}
"""The encodings by their names in ``Content-Encoding``."""
