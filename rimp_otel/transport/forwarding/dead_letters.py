"""Dead letters: records that a destination refused, in files that can be sent again.

Each line is OTLP JSON with one record, and one further key, which readers of OTLP JSON ignore::

    {"resourceSpans":[...],"rimp.refused":{"reason":"by_destination","message":"...","time":"..."}}

So ``rimp import`` takes such a file, as does every program that reads OTLP JSON lines. What counts
of a file is in the cursor: a death between the two cuts off what the cursor does not know.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rimp_otel.fsutil import CREATE_FLAGS, READ_FLAGS, sync_directory, sync_file
from rimp_otel.models.records import Signal
from rimp_otel.transport.forwarding.cursor import Cursor
from rimp_otel.transport.forwarding.delivery import Letter

__all__ = ["DEAD_LETTER_KEY", "DeadLetters"]

DEAD_LETTER_KEY = "rimp.refused"
"""The key beside the record's own, with the reason."""

_MAX_SIZE = 256 * 1024 * 1024
_MAX_MESSAGE = 2_000


class DeadLetters:
    """The dead-letter file of one destination and one signal.

    Args:
        signal: of the records.
        cursor: says which file it is, and how much of it counts.
        max_size: bytes after which further records are only counted; they lie in the recording still.
    """

    def __init__(self, signal: Signal, cursor: Cursor, max_size: int = _MAX_SIZE) -> None:
        self._signal = signal
        self._cursor = cursor
        self._max_size = max_size

    @property
    def path(self) -> Path:
        """The path of the file, which need not exist."""
        return self._path_of(self._cursor.letters[0])

    def _path_of(self, number: int) -> Path:
        return self._cursor.path.with_name(f"refused-{self._signal.value}-{number}.jsonl")

    def append(self, letters: Sequence[Letter], time_unix_nano: int) -> None:
        """Append letters, and force them to the device. They count once the cursor is saved.

        Args:
            letters: what was refused.
            time_unix_nano: now.

        Raises:
            OSError: they could not be appended; none of them counts.
        """
        number, size = self._cursor.letters
        text = b"".join(_encode_letter(letter, time_unix_nano) for letter in letters)
        if not text or size + len(text) > self._max_size:
            return
        file = os.open(self.path, CREATE_FLAGS, 0o600)
        try:
            os.ftruncate(file, size)
            view = memoryview(text)
            offset = size
            while view:
                written = os.pwrite(file, view, offset)
                view, offset = view[written:], offset + written
            sync_file(file)
        finally:
            os.close(file)
        if not size:
            sync_directory(self.path.parent)
        self._cursor.letters = (number, offset)

    def __iter__(self) -> Iterator[Letter]:
        """Iterate over the letters that count."""
        size = self._cursor.letters[1]
        if not size:
            return
        with os.fdopen(os.open(self.path, READ_FLAGS), "rb") as file:
            while size > 0 and (line := file.readline()):
                size -= len(line)
                if size >= 0:
                    yield _decode_letter(line)

    def replace(self, letters: Sequence[Letter], time_unix_nano: int) -> Path:
        """Begin another file with these letters. It counts once the cursor is saved.

        Returns:
            The path of the file before, to be removed then.

        Raises:
            OSError: it could not be written.
        """
        before, (number, _) = self.path, self._cursor.letters
        self._cursor.letters = (number + 1, 0)
        self.append(letters, time_unix_nano)
        return before


def _encode_letter(letter: Letter, time_unix_nano: int) -> bytes:
    why = {
        "reason": letter.reason,
        "message": letter.message[:_MAX_MESSAGE],
        "time": str(time_unix_nano),
    }
    head = letter.line.rstrip()
    assert head.endswith(b"}")
    return b'%b,"%b":%b}\n' % (head[:-1], DEAD_LETTER_KEY.encode(), json.dumps(why).encode())


def _decode_letter(line: bytes) -> Letter:
    head, _, why = line.rstrip().rpartition(b',"%b":' % DEAD_LETTER_KEY.encode())
    found: dict[str, Any] = json.loads(why[:-1])
    return Letter(head + b"}", str(found["reason"]), str(found["message"]))
