"""Resources, scopes and metrics by number: each text once, however many records refer to it."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from rimp_otel.otlp.fragment import Wrapping
from rimp_otel.storage.sqlite.connection import Connection
from rimp_otel.storage.sqlite.rows import Part

__all__ = ["Numbers", "Wrappings"]

_MOST_KNOWN = 4_096


class Numbers:
    """Gives the numbers of parts, within transactions that write.

    What is remembered from one to the next may be wrong by then: a transaction was rolled back,
    or another process has deleted what no record referred to any more. ``use`` finds that out.
    """

    def __init__(self) -> None:
        self._known: dict[Part, int] = {}

    def forget(self) -> None:
        """After a transaction that was rolled back."""
        self._known.clear()

    def use(self, db: Connection, parts: Iterable[Part], record: int) -> dict[Part, int]:
        """The numbers of all parts, new ones included, noted to be in use up to a record.

        Raises:
            StorageError: they could not be written.
        """
        if len(self._known) > _MOST_KNOWN:
            self.forget()
        return {part: self._use(db, part, record) for part in parts}

    def _use(self, db: Connection, part: Part, record: int) -> int:
        number = self._known.get(part)
        if number is None:
            number = self._known[part] = _number(db, part, record)
        if not db.change("UPDATE origins SET last_record = ? WHERE id = ?", (record, number)):
            number = self._known[part] = _number(db, part, record)
        return number


def _number(db: Connection, part: Part, record: int) -> int:
    head, tail = part.wrapping
    digest = blake2b(f"{part.kind}\0{head}\0{tail}".encode(), digest_size=16).digest()
    found = db.execute("SELECT id FROM origins WHERE digest = ?", (digest,))
    if not found:
        db.change(
            "INSERT INTO origins (kind, digest, name, head, tail, last_record)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (part.kind, digest, part.name, head, tail, record),
        )
        found = db.execute("SELECT last_insert_rowid()")
    return int(found[0][0])


class Wrappings:
    """Gives what numbers stand for, within one transaction that reads."""

    def __init__(self, db: Connection) -> None:
        self._db = db
        self._known: dict[int, Wrapping] = {}

    def __getitem__(self, number: int) -> Wrapping:
        found = self._known.get(number)
        if found is None:
            rows = self._db.execute("SELECT head, tail FROM origins WHERE id = ?", (number,))
            # None only where the file is damaged; then the record cannot be read either.
            found = self._known[number] = Wrapping(*rows[0]) if rows else Wrapping("", "")
        return found
