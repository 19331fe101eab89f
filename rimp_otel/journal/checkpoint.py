"""The checkpoint: what the instruments have measured and is not stored yet, for the process's death.

It is a file that is mapped into memory, beside the segments. What is written replaces what was
written before, in the other one of two halves; so a death in the middle leaves the one before.
Whoever takes over the slot makes a segment of the data points in it (``orphans``). An empty half
says that all is stored.

===== ========================================================================================
word  what
===== ========================================================================================
0     magic number; written last, once the file is complete
1     bytes that each half has room for
2     the sequence number that is being written, or was written last
3     the sequence number that was written last
4-6   of the half for even numbers: sequence number, bytes that it holds, a check of all of it
7-9   of the half for odd numbers
===== ========================================================================================

From byte 4,096 on come the two halves: frames, as in a segment (``format``), without a header.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

from rimp_otel.fsutil import (
    CREATE_NEW_FLAGS,
    READ_FLAGS,
    READ_WRITE_FLAGS,
    preallocate,
    sync_directory,
    sync_file,
)
from rimp_otel.journal.format import Definitions, encode_frames, parse_frames
from rimp_otel.journal.segment import FileMapping
from rimp_otel.journal.slots import JournalFileKind, journal_file_name
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import EncodedRecord, RecordEnvelopes, join_line
from rimp_otel.otlp.values import to_bytes

__all__ = [
    "CheckpointLeft",
    "MetricCheckpoint",
    "encode_checkpoint",
    "join_points",
    "parse_checkpoint",
    "read_checkpoint",
]

_MAGIC: Final = int.from_bytes(b"RIMPCHK1", "little")
_START: Final = 4_096
_ROOM, _BEGUN, _DONE, _HALVES = 1, 2, 3, 4
_WORDS_OF_HALF: Final = 3
_HEADER = Struct("=10Q")
_DESCRIPTION = Struct("=QQ")
_LEAST_ROOM: Final = 32 * 1024
_MAX_SIZE: Final = 256 * 1024 * 1024
_MAX_REREADS: Final = 5
_POINTS_OF_LINE: Final = 100


class CheckpointLeft(NamedTuple):
    """What a checkpoint holds."""

    #: Data points that are not stored. Their times are not filled in; their texts have them.
    records: list[EncodedRecord]
    #: True if a part of it made no sense, other than what was being written at a death.
    is_damaged: bool


class MetricCheckpoint:
    """The checkpoint of this process. One thread at a time writes it.

    Args:
        path: of the file.
        memory: its mapping.
        room: bytes that each half has room for.
    """

    def __init__(self, path: Path, memory: FileMapping, room: int) -> None:
        self.path = path
        self._memory = memory
        self._words = memoryview(memory)[:_START].cast("Q")
        self._room = room
        self._pid = os.getpid()
        self._sequence = self._synced = 0
        self._is_name_synced = False

    @classmethod
    def create(cls, directory: Path, number: int, needed: int) -> MetricCheckpoint:
        """Make an empty file, all of whose pages exist.

        Args:
            directory: of the journal.
            number: of the file.
            needed: bytes that it must have room for; it has more.

        Raises:
            OSError: it could not be made, such as on a full disk.
        """
        room = max(_LEAST_ROOM, 1 << (2 * needed).bit_length())
        path = directory / journal_file_name(number, JournalFileKind.CHECKPOINT)
        file = os.open(path, CREATE_NEW_FLAGS, 0o600)
        try:
            preallocate(file, _START + 2 * room)
            memory = FileMapping.of(file, _START + 2 * room)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(file)
        checkpoint = cls(path, memory, room)
        checkpoint._words[_ROOM] = room
        checkpoint._words[0] = _MAGIC
        return checkpoint

    @property
    def room(self) -> int:
        """Bytes of frames that can be written."""
        return self._room

    def write(self, frames: bytes) -> None:
        """Replace what was written before; nothing at all says that all is stored.

        Raises:
            ValueError: the file is closed, or has no room for so much.
        """
        if len(frames) > self._room:
            raise ValueError(f"no room for {len(frames)} bytes")
        sequence = self._sequence + 1
        half = sequence % 2
        start = _START + half * self._room
        words, first = self._words, _HALVES + half * _WORDS_OF_HALF
        # In this order: whatever a death cuts off, the other half is whole, and says so.
        words[_BEGUN] = sequence
        self._memory[start : start + len(frames)] = frames
        words[first], words[first + 1] = sequence, len(frames)
        words[first + 2] = _check_of(sequence, frames)
        words[_DONE] = sequence
        self._sequence = sequence

    def sync(self) -> None:
        """Force what was written to the device.

        Raises:
            OSError: that failed.
        """
        sequence = self._sequence
        if sequence == self._synced:
            return
        # Opened anew: a program that makes itself a daemon closes all descriptors.
        file = os.open(self.path, READ_WRITE_FLAGS)
        try:
            sync_file(file)
        finally:
            os.close(file)
        if not self._is_name_synced:
            sync_directory(self.path.parent)
            self._is_name_synced = True
        self._synced = sequence

    def close(self, delete: bool = True) -> None:
        """Close the file.

        Args:
            delete: also remove it. A process that did not make it never does.
        """
        self._words.release()
        try:
            self._memory.close()
        except BufferError:  # another thread is writing; gone with the last reference
            pass
        if delete and self._pid == os.getpid():
            self.path.unlink(missing_ok=True)

    def release(self) -> None:
        """Close the file in a forked child, whose parent goes on with it."""
        self.close(delete=False)


def read_checkpoint(path: Path) -> CheckpointLeft:
    """Read the checkpoint of a dead process, or of one that is writing it.

    Changes nothing, and tolerates any damage.

    Raises:
        OSError: the file cannot be read.
    """
    for _ in range(_MAX_REREADS):
        with os.fdopen(os.open(path, READ_FLAGS), "rb") as file:
            left = parse_checkpoint(file.read(_MAX_SIZE))
        if not left.is_damaged:
            break  # else a living owner may have written it while it was copied
    return left


def parse_checkpoint(data: bytes) -> CheckpointLeft:
    """Return what the content of a checkpoint's file says; see ``read_checkpoint``."""
    if len(data) < _HEADER.size:
        return CheckpointLeft([], bool(data.strip(b"\0")))
    magic, room, begun, done, *halves = _HEADER.unpack_from(data)
    if magic == 0 and not any(halves):
        return CheckpointLeft([], False)  # its owner died while it was made
    whole = dict(_whole_halves(data, room, halves))
    # At rest the half that was written last is whole. In the middle of writing it need not be.
    is_damaged = magic != _MAGIC or (begun == done and done > 0 and done not in whole)
    is_damaged |= begun > 1 and not whole
    frames = parse_frames(whole[max(whole)] if whole else b"", 0, Definitions())
    records = [
        EncodedRecord(0, *frame.envelopes, frame.text)
        for frame in frames.records
        if frame.signal is Signal.METRICS
    ]
    return CheckpointLeft(records, is_damaged or bool(frames.damaged))


def encode_checkpoint(records: Iterable[EncodedRecord]) -> bytes:
    """Return the frames of data points."""
    return encode_frames((Signal.METRICS, record) for record in records)


def join_points(records: list[EncodedRecord]) -> Iterator[tuple[bytes, int]]:
    """Yield data points as OTLP JSON lines, with how many each holds."""
    for start in range(0, len(records), _POINTS_OF_LINE):
        piece = records[start : start + _POINTS_OF_LINE]
        groups: dict[RecordEnvelopes, list[str]] = {}
        for _, resource, scope, metric, text in piece:
            groups.setdefault((resource, scope, metric), []).append(text)
        joined = {envelopes: to_bytes(",".join(texts)) for envelopes, texts in groups.items()}
        yield join_line(Signal.METRICS, joined), len(piece)


def _whole_halves(data: bytes, room: int, words: list[int]) -> Iterable[tuple[int, bytes]]:
    for half in (0, 1):
        sequence, length, check = words[half * _WORDS_OF_HALF : (half + 1) * _WORDS_OF_HALF]
        start = _START + half * room
        frames = data[start : start + min(length, room)]
        is_described = sequence > 0 and sequence % 2 == half and len(frames) == length
        if is_described and check == _check_of(sequence, frames):
            yield sequence, frames


def _check_of(sequence: int, frames: bytes) -> int:
    # Not 0, so that zeros are no empty half.
    return crc32(frames, crc32(_DESCRIPTION.pack(sequence, len(frames)))) | 1 << 32
