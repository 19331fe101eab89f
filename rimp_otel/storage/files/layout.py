"""Which files a recording is made of, and what their names say.

For ``telemetry``, a directory; for ``telemetry.jsonl``, a family of files beside each other::

    traces.jsonl    journal/     sealed/              telemetry-traces.jsonl    telemetry-journal/
    traces.1.jsonl  journal.1/                        telemetry-traces.1.jsonl  telemetry-sealed/

The number is the writer slot's; slot 0 has none. In the directory of sealed files::

    traces-<id>.jsonl                       rotated, and waiting to be sealed
    traces-<first>-<last>-<id>.jsonl.zst    sealed (.jsonl.gz, .jsonl)

``first`` and ``last`` are nanoseconds since the epoch, a range that holds the times of all records
in the file, and may be wider. ``id`` is the fingerprint of the content: two files of one signal
with one id hold the same records, such as a waiting file and what was just sealed of it. Whatever
has another name is not the recording's, and is never touched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from rimp_otel.errors import StorageError
from rimp_otel.journal.segment import DAMAGED
from rimp_otel.journal.slots import LOCK
from rimp_otel.models.records import Signal
from rimp_otel.process import importing
from rimp_otel.storage.base import RecordingLayout, reading_errors

__all__ = [
    "DERIVED",
    "SUFFIXES",
    "TEMPORARY",
    "Kind",
    "Layout",
    "Place",
    "SealedName",
    "damaged_directory",
    "fingerprint",
    "is_unfinished",
    "places",
]


# --- Which files a recording is made of, and what their names say.

SUFFIXES = {"zstd": ".jsonl.zst", "gzip": ".jsonl.gz", "none": ".jsonl"}
"""How the names of sealed files end, by their compression."""

_SIGNALS = "|".join(signal.value for signal in Signal)
_SLOT = r"(?:\.([1-9][0-9]{0,4}))?"
# Compiled when they are first used: who records looks at few names, or none.
_ACTIVE = rf"journal{_SLOT}|(?:{_SIGNALS}){_SLOT}\.jsonl"
_SEALED = (
    rf"({_SIGNALS})-(?:(0|[1-9][0-9]{{0,19}})-(0|[1-9][0-9]{{0,19}})-)?([0-9a-f]{{16}})"
    r"\.jsonl(\.zst|\.gz)?"
)
_COMPRESSIONS = {suffix.removeprefix(".jsonl"): name for name, suffix in SUFFIXES.items()}

TEMPORARY = r"\.([a-z]+-[0-9a-f]{16})\.tmp-[0-9]+"
"""The names of what a waiting file is being sealed into; the group is that file's stem."""


class Layout(RecordingLayout):
    """The files of the recording at ``path``: one for each signal and writer slot, as the
    OpenTelemetry file exporter specification demands one for each signal.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self.is_family = self.path.suffix == ".jsonl"

    @property
    def directory(self) -> Path:
        """The directory that the files lie in."""
        return self.path.parent if self.is_family else self.path

    @property
    def sealed(self) -> Path:
        """The directory of the files that nobody appends to any more."""
        return self._named("sealed")

    def file(self, signal: Signal, slot: int = 0) -> Path:
        """The active file of one signal of a writer slot."""
        return self._named(f"{signal.value}{_dotted(slot)}.jsonl")

    def journal(self, slot: int = 0) -> Path:
        """The directory of a writer slot's journal and of its lock."""
        return self._named(f"journal{_dotted(slot)}")

    def make_directory(self) -> None:
        """Makes the directory, private to its owner, where there is none.

        Raises:
            StorageError: it cannot be made.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot record into {self.directory}: {error.strerror or error}; "
                "give a path to a directory that can be written, or a file family ending in .jsonl"
            ) from error

    def _named(self, name: str) -> Path:
        return self.path.with_name(self._prefix + name) if self.is_family else self.path / name

    @property
    def _prefix(self) -> str:
        return f"{self.path.stem}-" if self.is_family else ""

    def _slot_of(self, name: str) -> int | None:
        """The slot that a name belongs to; None of a name that is not the recording's."""
        match = re.fullmatch(_ACTIVE, name.removeprefix(self._prefix), re.ASCII)
        if match is None or not name.startswith(self._prefix):
            return None
        return int(match[1] or match[2] or 0)


class SealedName(NamedTuple):
    """What the name of a file among the sealed ones says."""

    signal: Signal
    #: The fingerprint of the content.
    id: str
    #: Nanoseconds since the epoch; None of a file that waits to be sealed.
    first: int | None = None
    #: Nanoseconds since the epoch; None of a file that waits to be sealed.
    last: int | None = None
    #: One of ``SUFFIXES``.
    compression: str = "none"

    @classmethod
    def parse(cls, name: str) -> SealedName | None:
        """What a name says; None of one that is not the recording's."""
        match = re.fullmatch(_SEALED, name, re.ASCII)
        if match is None:
            return None
        signal, first, last, id, suffix = match.groups()
        if first is None:
            return None if suffix else cls(Signal(signal), id)
        return cls(Signal(signal), id, int(first), int(last), _COMPRESSIONS[suffix or ""])

    @property
    def is_waiting(self) -> bool:
        """Whether the file was rotated, and is not sealed yet."""
        return self.last is None

    @property
    def stem(self) -> str:
        """The name without its suffixes: what is derived from the file is named after it."""
        range = "" if self.is_waiting else f"{self.first}-{self.last}-"
        return f"{self.signal.value}-{range}{self.id}"

    def __str__(self) -> str:
        return self.stem + SUFFIXES[self.compression]


def is_unfinished(name: str) -> bool:
    """Whether a name is of what is still to be sealed, or of what was begun."""
    parsed = SealedName.parse(name)
    return parsed.is_waiting if parsed else re.fullmatch(TEMPORARY, name) is not None


def fingerprint(first_line: bytes) -> str:
    """The id of a file's content, by its first line: 16 hexadecimal digits. Its end is left out."""
    with importing():
        from hashlib import blake2b
    return blake2b(first_line.removesuffix(b"\n"), digest_size=8).hexdigest()


def _dotted(slot: int) -> str:
    return f".{slot}" if slot else ""


# --- Retention: the oldest sealed files are deleted, so that a recording keeps within its bounds.

DERIVED = (".idx", ".parquet")


# --- What lies in a recording's directories: what belongs there, what was left, what is foreign.

_ACTIVE_NAME = re.compile(r"(?:traces|logs|metrics)(?:\.[1-9][0-9]{0,4})?\.jsonl", re.ASCII)
_REWRITTEN = re.compile(r"\..+\.tmp-[0-9]+", re.ASCII)
_SEALING = re.compile(r"\.([a-z]+-[0-9a-f]{16})\.tmp-[0-9]+", re.ASCII)
_NUMBERED = re.compile(r"[0-9]{6,}\.(?:seg|open|crash)", re.ASCII)


class Kind(Enum):
    """What a name stands for."""

    OWN = "the recording's"
    ASIDE = "put aside by a recovery"
    LEFT = "left by something that did not end"
    FOREIGN = "not the recording's"


class Place(NamedTuple):
    """Something that lies there."""

    path: Path
    kind: Kind


def damaged_directory(layout: Layout) -> Path:
    """Where ``rimp repair`` keeps what it cannot mend. Nothing reads it."""
    sealed = layout.sealed
    return sealed.with_name(sealed.name.removesuffix("sealed") + "damaged")


def places(layout: Layout) -> Iterator[Place]:
    """All that lies in the directories of a recording; of a family of files, what is named so.

    Raises:
        StorageError: it is not possible to look.
    """
    prefix = layout.sealed.name.removesuffix("sealed")
    for path in _entries(layout.directory):
        if path.name.startswith((prefix, f".{prefix}")):
            yield Place(path, _at_top(path.name, prefix))
    for slot in layout.slots():
        for path in _entries(layout.journal(slot)):
            yield Place(path, _in_journal(path.name))
    for path in _entries(layout.sealed):
        yield Place(path, _among_sealed(path))


def _entries(directory: Path) -> list[Path]:
    with reading_errors(directory):
        try:
            return sorted(directory.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []


def _at_top(name: str, prefix: str) -> Kind:
    rest = name.removeprefix(prefix)
    if rest in ("sealed", "damaged", "cursors") or _ACTIVE_NAME.fullmatch(rest):
        return Kind.OWN
    if re.fullmatch(r"journal(?:\.[1-9][0-9]{0,4})?", rest) or (not prefix and name[0] == "."):
        return Kind.LEFT if _REWRITTEN.fullmatch(name) else Kind.OWN
    return Kind.LEFT if _REWRITTEN.fullmatch(name) else Kind.FOREIGN


def _in_journal(name: str) -> Kind:
    if name == LOCK or _NUMBERED.fullmatch(name):
        return Kind.OWN
    if name.endswith(DAMAGED):
        return Kind.ASIDE
    return Kind.LEFT if name.endswith(".tmp") else Kind.FOREIGN


def _among_sealed(path: Path) -> Kind:
    stem, suffix = os.path.splitext(path.name)
    if SealedName.parse(path.name):
        return Kind.OWN
    if suffix in DERIVED and SealedName.parse(stem + ".jsonl"):
        of = [path.with_name(stem + ending) for ending in SUFFIXES.values()]
        return Kind.OWN if any(map(os.path.lexists, of)) else Kind.LEFT
    if suffix == ".tmp" and stem.startswith(".") and stem.endswith(DERIVED):
        own = SealedName.parse(os.path.splitext(stem[1:])[0] + ".jsonl")
        return Kind.OWN if own else Kind.FOREIGN  # being made; 'rimp parquet' removes what is left
    found = _SEALING.fullmatch(path.name)
    if found is None:
        return Kind.LEFT if _REWRITTEN.fullmatch(path.name) else Kind.FOREIGN
    # Whoever makes it holds the lock of the file that it is made of; that is its own business.
    is_left = not os.path.lexists(path.with_name(f"{found[1]}.jsonl"))
    return Kind.LEFT if is_left else Kind.OWN
