"""Reads files of OTLP messages from other tools: JSON lines, JSON, protobuf, compressed or not.

These forms are read: one JSON message a line; one or several JSON messages over several lines; a
protobuf message; length-delimited messages (four bytes before each, big endian), as the Collector's
file exporter writes protobuf and everything that it compresses; all of these in zstd or gzip. The
content of a file tells its form, and each message its signal.
"""

from __future__ import annotations

import gzip
import importlib
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec

from rimp_otel.errors import DecodeError
from rimp_otel.otlp.protobuf import line_from_protobuf, normalize_line, signal_of_protobuf
from rimp_otel.otlp.scan import signal_of_line

__all__ = ["MAX_FILE_SIZE", "MAX_MESSAGE_SIZE", "FileMessage", "ReadLimits", "read_messages"]

MAX_MESSAGE_SIZE = 32 * 1024 * 1024
"""The most bytes of a message, decompressed, by default: decoding one takes several times as much."""
MAX_FILE_SIZE = 4 * 1024 * 1024 * 1024
"""The most bytes that a compressed file may hold, by default."""
_MAX_RATIO = 500
_MIN_SUSPICIOUS_SIZE = 4 * 1024 * 1024
_MAX_EMPTY_MESSAGES = 1_000
_LARGEST_MESSAGE = 1024 * 1024 * 1024

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_BOM = b"\xef\xbb\xbf"
_BLOCK = 1024 * 1024
_COMPRESSED_BLOCK = 4 * 1024  # of which a few bytes can become 128 KiB each
_JSON = re.compile(rb'\s*(\{\s*("resource|$)|$)')
_PROTOBUF = 0x0A  # field 1, with a length: what each of the three messages begins with
_HEAD = 64
_FOREIGN = (
    "neither OTLP JSON (a message, or one a line) nor OTLP protobuf (a message, or messages "
    "with their lengths in front)"
)


class FileMessage(NamedTuple):
    """A message of a file, or the reason why it is refused."""

    #: Counted from 1: the line that it begins in, or the number of a protobuf message.
    number: int
    #: Strict OTLP JSON on one line, without its end; None if it is refused.
    line: bytes | None
    #: Why it is refused, else empty.
    reason: str = ""
    #: What ``number`` counts: "line" or "message".
    unit: str = "line"


class ReadLimits(NamedTuple):
    """How much of a file is read; a strange file can hold a thousand times its size."""

    #: Bytes of a message.
    message: int = MAX_MESSAGE_SIZE
    #: Bytes that a compressed file may hold.
    file: int = MAX_FILE_SIZE
    #: How to raise the two, such as the names of options; added to the reasons of refusals.
    message_advice: str = ""
    file_advice: str = ""

    def refuse_message(self) -> str:
        """Return the reason for refusing a message that is too long."""
        size = f"{self.message / 1024 / 1024:g} MiB"
        return f"longer than {size}, the limit of a message{self.message_advice}"


def read_messages(file: BinaryIO, limits: ReadLimits = ReadLimits()) -> Iterator[FileMessage]:  # noqa: B008
    """Yield the messages of a file, in its order.

    A damaged message costs itself alone, as long as the beginning of the next one can be found. What a
    compressed file holds beyond its limit, or beyond 500 times its own size, is refused.

    Raises:
        OSError: the file cannot be read.
        DecodeError: the file is zstd, and the package zstandard is not installed.
        MissingExtraError: the file is protobuf, and the extra ``protobuf`` is not installed.
    """
    text = _decompress(file, limits)
    try:
        yield from _read_messages(text, limits)
    except _TooMuchText as error:
        yield FileMessage(0, None, str(error), "message")
    except (_DamagedCompression, EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield FileMessage(0, None, f"decompression failed before the end: {error}", "message")


class _DamagedCompression(Exception):
    """Compressed data is damaged."""


class _TooMuchText(Exception):
    """A compressed file holds more than it may."""


class _BoundedText(io.RawIOBase):
    """The text of a compressed file, up to its limit."""

    def __init__(self, text: Any, packed: Any, limits: ReadLimits) -> None:
        self._text, self._packed, self._limits = text, packed, limits
        self._size = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as there is text; return the number of bytes."""
        count: int = self._text.readinto(buffer)
        self._size += count
        if self._size > self._limits.file:
            size = f"{self._limits.file / 1024 / 1024:g} MiB"
            raise _TooMuchText(
                f"unpacks to more than {size}, the limit of a file{self._limits.file_advice}"
            )
        if self._size > _MIN_SUSPICIOUS_SIZE and self._size > _MAX_RATIO * self._packed.size:
            raise _TooMuchText(
                f"unpacks to more than {_MAX_RATIO:,} times its size, as no telemetry does: "
                "unpack it yourself if you trust it"
            )
        return count


class _MeasuredFile:
    """A file that counts the bytes that are read of it."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """Read and count."""
        data = self._file.read(size)
        self.size += len(data)
        return data


class _ZstdFrames(io.RawIOBase):
    """A stream of zstd frames, one after the other, as the text in them."""

    def __init__(self, file: Any) -> None:
        self._zstandard = _import_zstandard()
        self._file = file
        self._frame: Any = None
        self._compressed = self._text = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as there is text; return the number of bytes."""
        while not self._text:
            compressed = self._compressed or self._file.read(_COMPRESSED_BLOCK)
            if not compressed:
                if self._frame is not None:
                    raise _DamagedCompression("the last zstd frame is truncated")
                return 0
            self._decompress(compressed)
        text = self._text[: len(buffer)]
        self._text = self._text[len(buffer) :]
        buffer[: len(text)] = text
        return len(text)

    def _decompress(self, compressed: bytes) -> None:
        if self._frame is None:
            self._frame = self._zstandard.ZstdDecompressor().decompressobj()
        try:
            self._text = self._frame.decompress(compressed)
        except self._zstandard.ZstdError as error:
            raise _DamagedCompression(str(error)) from None
        self._compressed = self._frame.unused_data if self._frame.eof else b""
        if self._frame.eof:
            self._frame = None


def _import_zstandard() -> Any:
    try:
        return importlib.import_module("zstandard")
    except ImportError:
        raise DecodeError("zstd needs the package zstandard, which is not installed") from None


def _decompress(file: BinaryIO, limits: ReadLimits) -> io.BufferedReader:
    raw = io.BufferedReader(cast(Any, file), _BLOCK)
    head = raw.peek(4)[:4]
    if head.startswith(_GZIP):
        packed = _MeasuredFile(raw)
        unpacked: Any = gzip.GzipFile(fileobj=cast(Any, packed), mode="rb")
    elif head == _ZSTD:
        packed = _MeasuredFile(raw)
        unpacked = _ZstdFrames(packed)
    else:
        return raw
    return io.BufferedReader(_BoundedText(unpacked, packed, limits), _BLOCK)


def _read_messages(file: io.BufferedReader, limits: ReadLimits) -> Iterator[FileMessage]:
    if file.peek(3)[:3] == _BOM:
        file.read(3)
    head = file.peek(_HEAD)[:_HEAD]
    if not head:
        return
    # A message in protobuf may begin as JSON with an empty line in front does.
    if head[0] == _PROTOBUF and not _JSON.match(head):
        yield _read_protobuf(1, file.read(limits.message + 1), limits)
    elif head[0] in b"{ \t\r\n":
        yield from _read_json(file, limits)
    else:
        yield from _read_delimited(file, limits)


def _read_json(file: io.BufferedReader, limits: ReadLimits) -> Iterator[FileMessage]:
    lines = _read_lines(file, limits)
    before = bytearray()
    count = 0
    for line in lines:
        if _is_line(line):
            break
        before += line
        count += 1
        if len(before) > limits.message:
            yield FileMessage(1, None, limits.refuse_message())
            return
    else:
        documents, wrong = _split_documents(bytes(before), limits)
        yield from [*documents, *([wrong] if wrong else [])]
        return
    # Before the first line that is a message there are messages over several lines, or damage.
    documents, wrong = _split_documents(bytes(before), limits)
    if wrong:
        yield from _read_each_line(io.BytesIO(bytes(before)), 1, limits)
    else:
        yield from documents
    yield from _read_each_line([line], count + 1, limits)
    yield from _read_each_line(lines, count + 2, limits)


def _read_lines(file: io.BufferedReader, limits: ReadLimits) -> Iterator[bytes]:
    while line := file.readline(limits.message + 1):
        yield line
        while len(line) > limits.message and not line.endswith(b"\n"):
            line = file.readline(_BLOCK)  # the rest of a line that is too long


def _read_each_line(
    lines: Iterable[bytes], first: int, limits: ReadLimits
) -> Iterator[FileMessage]:
    for number, line in enumerate(lines, first):
        text = line.strip()
        if text:
            yield _read_message(number, text, limits)


def _read_message(number: int, text: bytes, limits: ReadLimits, unit: str = "line") -> FileMessage:
    if len(text) > limits.message:
        return FileMessage(number, None, limits.refuse_message(), unit)
    try:
        return FileMessage(number, normalize_line(text), unit=unit)
    except DecodeError as error:
        return FileMessage(number, None, error.reason, unit)


def _is_line(line: bytes) -> bool:
    """Return True if a line is a message by itself: JSON that has the key of a signal."""
    if line.lstrip()[:1] != b"{":
        return False
    try:
        signal_of_line(line)
        msgspec.json.decode(line, type=msgspec.Raw)
    except (DecodeError, msgspec.DecodeError, RecursionError):
        return False
    return True


def _split_documents(
    text: bytes, limits: ReadLimits
) -> tuple[list[FileMessage], FileMessage | None]:
    """Return the JSON documents of a text, and the error after the last of them, if any."""
    found: list[FileMessage] = []
    try:
        rest = text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        return [], FileMessage(line, None, f"not UTF-8: {error.reason}")
    decoder, at = json.JSONDecoder(), 0
    while at < len(rest):
        start = at + len(rest[at:]) - len(rest[at:].lstrip())
        if start == len(rest):
            break
        try:
            _, at = decoder.raw_decode(rest, start)
        except json.JSONDecodeError as error:
            return found, FileMessage(error.lineno, None, f"JSON is malformed: {error.msg}")
        except RecursionError:
            return found, FileMessage(rest.count("\n", 0, start) + 1, None, "nested too deeply")
        found.append(_read_message(rest.count("\n", 0, start) + 1, rest[start:at].encode(), limits))
    return found, None


def _read_delimited(file: io.BufferedReader, limits: ReadLimits) -> Iterator[FileMessage]:
    number = empty = 0
    while head := file.read(4):
        number += 1
        size = int.from_bytes(head, "big")
        empty = empty + 1 if not size else 0
        if number > 1 and len(head) == 4 and limits.message < size <= _LARGEST_MESSAGE:
            yield FileMessage(number, None, limits.refuse_message(), "message")
            _skip(file, size)
            continue
        if len(head) < 4 or size > limits.message or empty > _MAX_EMPTY_MESSAGES:
            why = "not an OTLP message" if number > 1 else _FOREIGN
            yield FileMessage(number, None, why, "message")
            return
        body = file.read(size)
        if len(body) < size:
            missing = f"truncated: {size - len(body):,} of {size:,} bytes are missing"
            yield FileMessage(
                number,
                None,
                missing if number > 1 else f"{missing}; or {_FOREIGN}",
                "message",
            )
            return
        if body:
            yield _read_compressed_message(number, body, limits)


def _read_compressed_message(number: int, body: bytes, limits: ReadLimits) -> FileMessage:
    if body.startswith(_ZSTD):
        try:
            body = io.BufferedReader(_ZstdFrames(io.BytesIO(body))).read(limits.message + 1)
        except _DamagedCompression as error:
            return FileMessage(number, None, f"decompression failed: {error}", "message")
    if body.lstrip()[:1] == b"{":
        return _read_message(number, body.strip(), limits, "message")
    return _read_protobuf(number, body, limits)


def _read_protobuf(number: int, data: bytes, limits: ReadLimits) -> FileMessage:
    if len(data) > limits.message:
        return FileMessage(number, None, limits.refuse_message(), "message")
    try:
        return FileMessage(
            number, line_from_protobuf(signal_of_protobuf(data), data), unit="message"
        )
    except DecodeError as error:
        return FileMessage(number, None, error.reason, "message")


def _skip(file: io.BufferedReader, size: int) -> None:
    while size > 0 and (piece := file.read(min(size, _BLOCK))):
        size -= len(piece)
