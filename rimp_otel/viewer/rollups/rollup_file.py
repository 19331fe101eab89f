"""The rollup of a sealed file, kept beside it: ``traces-<first>-<last>-<id>.rollup``.

It is derived: whatever is wrong with it, it is made again. ``docs/format.md`` describes its parts, each of
which is compressed, and has a checksum in the head, so that a reader checks what it uses and no more.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from rimp_otel.errors import StorageError
from rimp_otel.fsutil import CREATE_NEW_FLAGS, READ_FLAGS
from rimp_otel.models.records import Signal
from rimp_otel.storage.files.index import DamagedIndexError, open_index
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.lines import DataFile, open_data_file, open_regular_file, read_lines
from rimp_otel.viewer.rollups.builder import RollupBuilder
from rimp_otel.viewer.rollups.rollup import (
    AttributeCounts,
    AttributeTable,
    CallKey,
    CallTable,
    FailureKey,
    Level,
    LogKey,
    OpenCall,
    OperationKey,
    Rollup,
    RollupCell,
    RollupFacts,
    RollupKey,
)
from rimp_otel.viewer.rollups.terms import (
    FileState,
    TermIndex,
    TermTable,
    TermTableBuilder,
    file_state,
    read_unchanged,
)

__all__ = [
    "DamagedRollupError",
    "SealedCounts",
    "count_sealed_file",
    "read_rollup",
    "rollup_path",
    "write_rollup",
]

_MAGIC = b"rimprol4"
_START = struct.Struct("<8sII")
_CALL = struct.Struct("<IIQH?")
_CELL = struct.Struct("<qIIIII")
_SAMPLE = 4_096
_MAX_HEAD = 64 * 1024 * 1024
_CACHE_SIZE = 48 * 1024 * 1024


class DamagedRollupError(Exception):
    """A rollup that was read before is damaged or gone: it is to be made again."""


class _Section(msgspec.Struct, array_like=True):
    """A part of the file: its offset and size in bytes, and its checksum."""

    offset: int
    size: int
    check: int


class _Head(msgspec.Struct):
    """What the head says, as JSON."""

    #: The name, the size in bytes, and a hash of both ends of the sealed file.
    sealed: str
    size: int
    check: str
    facts: list[int]
    operations: list[tuple[int, str, str, str, bool]]
    calls: list[tuple[int, str, str]]
    logs: list[tuple[int, str, str]]
    failures: list[tuple[int, str, str, str, str, bool]]
    #: By the step in nanoseconds.
    levels: list[tuple[int, _Section]]
    attributes: _Section
    #: Names that calls refer to by their numbers.
    services: list[str]
    calls_left: _Section
    #: Bits and blocks of the table of terms; 0 without one.
    term_bits: int
    term_blocks: int
    terms: _Section


_HEAD = msgspec.json.Decoder(_Head)
_ATTRIBUTES = msgspec.json.Decoder(list[tuple[str, str, str, int, list[tuple[Any, int]]]])


def rollup_path(content: DataFile) -> Path:
    """Return the path of the rollup of a sealed file, which may not exist yet."""
    assert content.name is not None
    return content.path.with_name(content.name.stem + ".rollup")


class SealedCounts(NamedTuple):
    """What was counted of a sealed file."""

    rollup: Rollup
    #: None if the file is not divided into blocks.
    terms: TermTable | None


def count_sealed_file(
    content: DataFile, layout: Layout, pause: Callable[[], None] = lambda: None
) -> SealedCounts | None:
    """Return what is counted of a file; None if it is gone.

    Args:
        content: the file.
        layout: of the recording.
        pause: called now and then.

    Raises:
        StorageError: it cannot be read.
    """
    found = open_data_file(content, layout.sealed)
    if found is None:
        return None
    ends = _ends_of_blocks(content) if content.signal is Signal.TRACES else []
    terms = TermTableBuilder(len(ends)) if ends else None
    builder = RollupBuilder(terms=terms)
    with found.file:
        for line in read_lines(found, 0, 0, None, torn=True):
            if terms is not None:
                while line.number > ends[terms.block] and terms.block + 1 < len(ends):
                    terms.block += 1
            if line.text is None:
                builder.damaged += 1
            elif text := line.text.strip():
                builder.add_line(text)
            if not line.number % 64:
                pause()
    # A line that cannot be read may be counted as several.
    is_whole = terms is not None and not builder.damaged
    return SealedCounts(builder.build(), terms.build() if terms and is_whole else None)


def _ends_of_blocks(content: DataFile) -> list[int]:
    """Return the number of the last line of each block; none if that is not known."""
    assert content.name is not None
    with open_index(content.path, content.name) as index:
        try:
            if index is None or index.is_blank:
                return []
            return [block.number + block.lines - 1 for block in index.blocks]
        except DamagedIndexError:
            return []


def write_rollup(content: DataFile, counts: SealedCounts) -> None:
    """Write the rollup of a sealed file in its place. It needs no sync, since it is checked.

    Raises:
        OSError: it cannot be written.
    """
    assert content.name is not None
    data = _encode(content, *counts)
    path = rollup_path(content)
    made = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    made.unlink(missing_ok=True)
    file = os.open(made, CREATE_NEW_FLAGS, 0o600)
    try:
        with os.fdopen(file, "wb") as target:
            target.write(data)
        if content.path.exists():  # else retention took it meanwhile
            os.rename(made, path)
        else:
            made.unlink()
    except BaseException:
        made.unlink(missing_ok=True)
        raise


def _encode(content: DataFile, rollup: Rollup, terms: TermTable | None) -> bytes:
    sections: list[bytes] = []
    place = 0
    calls, services = _encode_calls(rollup.calls)

    def add(data: bytes, level: int = 1) -> _Section:
        nonlocal place
        packed = zlib.compress(data, level) if level else data
        sections.append(packed)
        section = _Section(place, len(packed), zlib.crc32(packed))
        place += len(packed)
        return section

    size, check = _identify(content.path)
    numbered = list(enumerate(rollup.keys))
    head = _Head(
        str(content.name),
        size,
        check,
        list(rollup.facts),
        [(n, *key) for n, key in numbered if isinstance(key, OperationKey)],
        [(n, *key) for n, key in numbered if isinstance(key, CallKey)],
        [(n, *key) for n, key in numbered if isinstance(key, LogKey)],
        [(n, *key) for n, key in numbered if isinstance(key, FailureKey)],
        [(step, add(_encode_level(level))) for step, level in rollup.levels.items()],
        add(_pack_attributes(rollup.attributes)),
        services,
        add(calls),
        0 if terms is None else terms.bits,
        0 if terms is None else terms.blocks,
        add(b"" if terms is None else terms.data, 0),
    )
    packed = zlib.compress(msgspec.json.encode(head), 1)
    return b"".join([_START.pack(_MAGIC, len(packed), zlib.crc32(packed)), packed, *sections])


def _encode_level(level: Level) -> bytes:
    rows, bodies = [], []
    for bucket, cells in level.items():
        for number, cell in cells.items():
            words = cell.histogram
            # Only from the first to the last bin that is not empty.
            low = ((words & -words).bit_length() - 1) // 32 if words else 0
            words >>= 32 * low
            body = words.to_bytes(-(-words.bit_length() // 32) * 4, "little")
            rows.append(_CELL.pack(bucket, number, cell.records, cell.errors, low, len(body)))
            bodies.append(body)
    return b"".join([struct.pack("<I", len(rows)), *rows, *bodies])


def _decode_level(data: bytes) -> Level:
    (count,) = struct.unpack_from("<I", data)
    level: Level = {}
    at = 4 + count * _CELL.size
    for bucket, number, spans, errors, low, size in _CELL.iter_unpack(data[4:at]):
        words = int.from_bytes(data[at : at + size], "little") << (32 * low)
        at += size
        level.setdefault(bucket, {})[number] = RollupCell(spans, errors, words)
    return level


def _pack_attributes(table: AttributeTable) -> bytes:
    rows = [
        (*key, counts.records, [item for item in counts.values.items() if _fits(item[0])])
        for key, counts in table.items()
    ]
    return msgspec.json.encode(rows)


def _encode_calls(table: CallTable) -> tuple[bytes, list[str]]:
    services = list(dict.fromkeys([*table.services, *(call.service for call in table.open_calls)]))
    numbers = {name: number for number, name in enumerate(services)}
    count = len(table.callers)
    calls = [
        _CALL.pack(call.parent, numbers[call.service], call.start, call.bin, call.is_error)
        for call in table.open_calls
    ]
    parts = [
        struct.pack("<I", count),
        struct.pack(f"<{count}I", *table.callers),
        struct.pack(f"<{count}I", *table.numbers),
    ]
    return b"".join([*parts, *calls]), services


def _decode_calls(data: bytes, services: list[str]) -> CallTable:
    (count,) = struct.unpack_from("<I", data)
    end = 4 + 8 * count
    return CallTable(
        struct.unpack_from(f"<{count}I", data, 4),
        struct.unpack_from(f"<{count}I", data, 4 + 4 * count),
        services,
        [
            OpenCall(parent, services[number], *rest)
            for parent, number, *rest in _CALL.iter_unpack(data[end:])
        ],
    )


def _fits(value: Any) -> bool:
    return not isinstance(value, float) or value - value == 0.0  # JSON has no other


def _unpack_attributes(data: bytes) -> AttributeTable:
    table: AttributeTable = {}
    for scope, key, kind, count, values in _ATTRIBUTES.decode(data):
        convert = float if kind == "double" else lambda value: value
        table[scope, key, kind] = AttributeCounts(count, {convert(v): n for v, n in values})
    return table


def _identify(path: Path) -> tuple[int, str]:
    """Return the size of a sealed file, and a hash of both its ends."""
    file = os.open(path, READ_FLAGS)
    try:
        size = os.fstat(file).st_size
        ends = os.pread(file, _SAMPLE, 0) + os.pread(file, _SAMPLE, max(size - _SAMPLE, 0))
    finally:
        os.close(file)
    return size, blake2b(ends, digest_size=8).hexdigest()


def read_rollup(content: DataFile) -> Rollup | None:
    """Return the rollup of a sealed file; None if there is none, or it is damaged or another file's.

    Its parts are checked now, and read when they are needed; ``DamagedRollupError`` is raised then if they
    have been damaged or deleted since.
    """
    path = rollup_path(content)
    try:
        opened = open_regular_file(path)
        if opened is None:
            return None
        with opened as file:
            data = file.read(_START.size)
            magic, size, check = _START.unpack(data)
            packed = file.read(min(size, _MAX_HEAD))
            state = file_state(file.fileno())
        if magic != _MAGIC or zlib.crc32(packed) != check:
            return None
        head = _HEAD.decode(zlib.decompress(packed))
        if head.sealed != str(content.name) or (head.size, head.check) != _identify(content.path):
            return None
        sections = [*(section for _, section in head.levels), head.attributes, head.calls_left]
        for section in sections:
            _read_section(path, _START.size + size, section)
        _read_packed(path, _START.size + size, head.terms)
    except (DamagedRollupError, OSError, StorageError, ValueError, struct.error, zlib.error):
        return None
    start = _START.size + size

    def attributes() -> AttributeTable:
        return _unpack_attributes(_read_section(path, start, head.attributes))

    def calls() -> CallTable:
        return _decode_calls(_read_section(path, start, head.calls_left), head.services)

    keys: dict[int, RollupKey] = {}
    keys |= {row[0]: OperationKey(*row[1:]) for row in head.operations}
    keys |= {row[0]: CallKey(*row[1:]) for row in head.calls}
    keys |= {row[0]: LogKey(*row[1:]) for row in head.logs}
    keys |= {row[0]: FailureKey(*row[1:]) for row in head.failures}
    return Rollup(
        [keys[number] for number in range(len(keys))],
        _StoredLevels(path, start, dict(head.levels)),
        attributes,
        calls,
        RollupFacts(*head.facts),
        _term_index(path, start + head.terms.offset, state, head),
    )


def _term_index(path: Path, start: int, state: FileState, head: _Head) -> TermIndex | None:
    if not head.term_bits:
        return None
    return TermIndex(head.term_bits, head.term_blocks, read_unchanged(path, start, state))


def _read_section(path: Path, start: int, section: _Section) -> bytes:
    try:
        return zlib.decompress(_read_packed(path, start, section))
    except zlib.error:
        raise DamagedRollupError(path) from None


def _read_packed(path: Path, start: int, section: _Section) -> bytes:
    try:
        with open(os.open(path, READ_FLAGS), "rb") as file:
            file.seek(start + section.offset)
            packed = file.read(section.size)
    except OSError:
        raise DamagedRollupError(path) from None
    if len(packed) != section.size or zlib.crc32(packed) != section.check:
        raise DamagedRollupError(path)
    return packed


class _StoredLevels(Mapping[int, Level]):
    """The levels of a rollup, each of which is read when it is needed; those used last stay in memory."""

    def __init__(self, path: Path, start: int, sections: dict[int, _Section]) -> None:
        self._path, self._start, self._sections = path, start, sections

    def __getitem__(self, step: int) -> Level:
        section = self._sections[step]
        key = self._path, section.check, step
        level = _LEVELS.get(key)
        if level is None:
            data = _read_section(self._path, self._start, section)
            level = _decode_level(data)
            _LEVELS.put(key, level, len(data))
        return level

    def __iter__(self) -> Iterator[int]:
        return iter(self._sections)

    def __len__(self) -> int:
        return len(self._sections)


class _LevelCache:
    """Levels that were used last, up to a size in bytes. Thread-safe."""

    def __init__(self, size: int) -> None:
        self._most = size
        self._size = 0
        self._lock = threading.Lock()
        self._levels: OrderedDict[Any, tuple[Level, int]] = OrderedDict()

    def get(self, key: Any) -> Level | None:
        with self._lock:
            found = self._levels.get(key)
            if found is None:
                return None
            self._levels.move_to_end(key)
            return found[0]

    def put(self, key: Any, level: Level, size: int) -> None:
        with self._lock:
            _, before = self._levels.pop(key, (None, 0))
            self._levels[key] = level, size
            self._size += size - before
            while self._size > self._most and len(self._levels) > 1:
                _, (_, freed) = self._levels.popitem(last=False)
                self._size -= freed


_LEVELS = _LevelCache(_CACHE_SIZE)
