"""What can be wrong with a recording, and how much of it was looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rimp_otel.errors import DecodeError
from rimp_otel.otlp.decode import decode_line
from rimp_otel.otlp.protobuf import protobuf_from_line
from rimp_otel.otlp.signals import Signal

__all__ = ["Parse", "Problem", "Tally", "parse", "parse_strictly"]

Parse = Callable[[bytes], int]
"""How many records a line holds. Raises DecodeError for one that cannot be read."""


class Problem(NamedTuple):
    """Something that is not as it should be."""

    path: Path
    #: What is wrong, in words.
    reason: str
    #: What ``rimp repair`` does about it, in words; empty for nothing.
    cure: str = ""
    #: Counted from 1.
    line: int | None = None
    #: In bytes.
    offset: int | None = None
    #: What cannot be read, in bytes; 0 where nothing is lost, or that is not known.
    lost_bytes: int = 0
    #: How many records that is, about; None where that is not known.
    lost_records: int | None = None
    #: Of the lost records.
    signal: Signal | None = None
    #: Whether the recording is not whole because of it; otherwise it is a remark.
    is_damage: bool = True

    @property
    def place(self) -> str:
        """Where it is: ``path:line``, ``path@offset``, or the path alone."""
        if self.line is not None:
            return f"{self.path}:{self.line}"
        return str(self.path) if self.offset is None else f"{self.path}@{self.offset}"


@dataclass
class Tally:
    """What was looked at."""

    files: int = 0
    lines: int = 0
    #: In files; those in journals are counted there.
    records: Counter[Signal] = field(default_factory=Counter)
    #: Of the files, as they lie on disk.
    bytes: int = 0
    #: Spans that ended with their process.
    interrupted: int = 0


def parse(line: bytes) -> int:
    """How many records a line holds, as this package reads it.

    Raises:
        DecodeError: it is not OTLP JSON.
    """
    return len(decode_line(line).records)


def parse_strictly(line: bytes) -> int:
    """The same, of a line that protobuf's own parser reads too. Needs the extra ``protobuf``.

    Raises:
        DecodeError: one of them cannot.
        MissingExtraError: the extra is not installed.
    """
    records = parse(line)
    try:
        protobuf_from_line(line)
    except DecodeError as error:
        raise DecodeError(f"protobuf: {error.reason}") from None
    return records
