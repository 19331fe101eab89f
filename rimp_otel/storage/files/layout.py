"""Which files a recording is made of, and what their names say.

For ``telemetry``, a directory; for ``telemetry.jsonl``, a family of files beside each other::

    traces.jsonl    journal/     sealed/              telemetry-traces.jsonl    telemetry-journal/
    traces.1.jsonl  journal.1/                        telemetry-traces.1.jsonl  telemetry-sealed/

The number is the writer slot's; slot 0 has none. In the directory of sealed files::

    traces-<id>.jsonl                       rotated, and waiting to be sealed
    traces-<first>-<last>-<id>.jsonl.zst    sealed (.jsonl.gz, .jsonl)
    traces-<first>-<last>-<id>.idx          the index of a sealed file (derived)
    traces-<first>-<last>-<id>.parquet      its Parquet copy (derived)
    traces-<first>-<last>-<id>.rollup       its numbers by time and operation (derived)
    .traces-<id>.tmp-<pid>                  what a waiting file is being sealed into
    .<name>.parquet.tmp                     a Parquet copy that is being made

and in any of them ``.<name>.tmp-<pid>``, which is to replace the file ``<name>`` in a repair.
``first`` and ``last`` are nanoseconds since the epoch, a range that holds the times of all records
in the file, and may be wider. ``id`` is the fingerprint of the file: two files of one signal
with one id hold the same records, such as a waiting file and what was just sealed of it. Whatever
has another name is not the recording's, and is never touched. What lies in a journal's directory is
in ``rimp_otel.journal.slots``; ``damaged/`` has what repairs could not keep in its place.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from rimp_otel.errors import StorageError
from rimp_otel.journal.slots import JournalFileKind, classify_journal_file
from rimp_otel.models.records import Signal
from rimp_otel.process import importing
from rimp_otel.storage.base import RecordingLayout, UnreadableError, reading_errors

__all__ = [
    "DERIVED_SUFFIXES",
    "SUFFIXES",
    "FileEntry",
    "FileKind",
    "FileState",
    "Layout",
    "SealedName",
    "classify",
    "fingerprint",
    "is_unfinished",
    "list_entries",
    "sealing_stem",
]


SUFFIXES = {"zstd": ".jsonl.zst", "gzip": ".jsonl.gz", "none": ".jsonl"}
"""How the names of sealed files end, by their compression."""

_SIGNALS = "|".join(signal.value for signal in Signal)
_SLOT = r"(?:\.([1-9][0-9]{0,4}))?"
# Compiled when they are first used: who records looks at few names, or none.
_ACTIVE = rf"(?:{_SIGNALS}){_SLOT}\.jsonl"
_JOURNAL = rf"journal{_SLOT}"
_SEALED = (
    rf"({_SIGNALS})-(?:(0|[1-9][0-9]{{0,19}})-(0|[1-9][0-9]{{0,19}})-)?([0-9a-f]{{16}})"
    r"\.jsonl(\.zst|\.gz)?"
)
_SEALING = r"\.([a-z]+-[0-9a-f]{16})\.tmp-[0-9]+"
_REWRITE = r"\..+\.tmp-[0-9]+"
_COMPRESSIONS = {suffix.removeprefix(".jsonl"): name for name, suffix in SUFFIXES.items()}

DERIVED_SUFFIXES = (".idx", ".parquet", ".rollup")
"""How the names end of what is made of sealed files, and can be made again."""


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

    @property
    def damaged(self) -> Path:
        """The directory for what a repair could not keep in its place. Nothing reads it."""
        return self._named("damaged")

    @property
    def forward(self) -> Path:
        """The directory of what forwarders remember."""
        return self._named("forward")

    def file(self, signal: Signal, slot: int = 0) -> Path:
        """Return the path of the active file of one signal of a writer slot."""
        return self._named(f"{signal.value}{_slot_suffix(slot)}.jsonl")

    def journal(self, slot: int = 0) -> Path:
        """Return the directory of a writer slot's journal and of its lock."""
        return self._named(f"journal{_slot_suffix(slot)}")

    def make_directory(self) -> None:
        """Create the directory, private to its owner, if there is none.

        Raises:
            StorageError: it cannot be created.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot record into {self.directory}: {error.strerror or error}; "
                "give a path to a directory that can be written, or a file family ending in .jsonl"
            ) from error

    def _named(self, name: str) -> Path:
        return self.path.with_name(self.prefix + name) if self.is_family else self.path / name

    @property
    def prefix(self) -> str:
        """The start of the names of all files; empty but for a family."""
        return f"{self.path.stem}-" if self.is_family else ""

    def _slot_of(self, name: str) -> int | None:
        """Return the slot that a name belongs to; None for a name that is not the recording's."""
        if not name.startswith(self.prefix):
            return None
        rest = name.removeprefix(self.prefix)
        match = re.fullmatch(_JOURNAL, rest, re.ASCII) or re.fullmatch(_ACTIVE, rest, re.ASCII)
        return None if match is None else int(match[1] or 0)


class SealedName(NamedTuple):
    """The name of a file among the sealed ones."""

    signal: Signal
    #: The fingerprint of the file.
    id: str
    #: Nanoseconds since the epoch; None for a file that waits to be sealed.
    first: int | None = None
    #: Nanoseconds since the epoch; None for a file that waits to be sealed.
    last: int | None = None
    #: One of ``SUFFIXES``.
    compression: str = "none"

    @classmethod
    def parse(cls, name: str) -> SealedName | None:
        """Parse a name; return None for one that is not the recording's."""
        match = re.fullmatch(_SEALED, name, re.ASCII)
        if match is None:
            return None
        signal, first, last, id, suffix = match.groups()
        if first is None:
            return None if suffix else cls(Signal(signal), id)
        return cls(Signal(signal), id, int(first), int(last), _COMPRESSIONS[suffix or ""])

    @property
    def is_waiting(self) -> bool:
        """True if the file was rotated, and is not sealed yet."""
        return self.last is None

    @property
    def stem(self) -> str:
        """The name without its suffixes: what is derived from the file is named after it."""
        range = "" if self.is_waiting else f"{self.first}-{self.last}-"
        return f"{self.signal.value}-{range}{self.id}"

    def __str__(self) -> str:
        return self.stem + SUFFIXES[self.compression]


def sealing_stem(name: str) -> str | None:
    """Return the stem of the waiting file that a temporary file is made of; None if it is none."""
    match = re.fullmatch(_SEALING, name, re.ASCII)
    return None if match is None else match[1]


def is_unfinished(name: str) -> bool:
    """Return True for what waits to be sealed, and for what sealing it had begun to write."""
    return classify(name) in (FileKind.WAITING, FileKind.SEALING)


def fingerprint(first_line: bytes) -> str:
    """Return a file's id by its first line, without the line's end: 16 hexadecimal digits."""
    with importing():
        from hashlib import blake2b
    return blake2b(first_line.removesuffix(b"\n"), digest_size=8).hexdigest()


def _slot_suffix(slot: int) -> str:
    return f".{slot}" if slot else ""


# --- What lies in the directories of a recording.


class FileKind(Enum):
    """The meaning of a file's name."""

    ACTIVE = "active"
    #: The directory of a writer slot's journal.
    JOURNAL = "journal"
    #: The directory of sealed files, of damaged files, or of what forwarders remember.
    DIRECTORY = "directory"
    #: Rotated, and not sealed yet.
    WAITING = "waiting"
    SEALED = "sealed"
    #: Made of a sealed file: its index, its Parquet copy or its rollup.
    DERIVED = "derived"
    #: Temporary: a waiting file is being sealed into it.
    SEALING = "sealing"
    #: Temporary: a Parquet copy is being written into it.
    PARQUET = "parquet"
    #: Temporary: it is to replace a file in a repair.
    REWRITE = "rewrite"
    FOREIGN = "foreign"


class FileState(Enum):
    """The state of a file that lies in a recording's directory."""

    #: It belongs there.
    OWN = "own"
    #: A recovery found it damaged and moved it aside.
    QUARANTINED = "quarantined"
    #: Temporary, of a process that died.
    STALE = "stale"
    #: Derived from a file that is gone.
    ORPHANED = "orphaned"
    #: Not the recording's.
    FOREIGN = "foreign"


_STATES_IN_JOURNAL = {
    JournalFileKind.QUARANTINED: FileState.QUARANTINED,
    JournalFileKind.TEMPORARY: FileState.STALE,
    JournalFileKind.FOREIGN: FileState.FOREIGN,
}


class FileEntry(NamedTuple):
    """Something that lies in a recording's directory."""

    path: Path
    state: FileState


def classify(name: str) -> FileKind:
    """Return what a name stands for; without the prefix of a family."""
    if name in ("sealed", "damaged", "forward"):
        return FileKind.DIRECTORY
    if re.fullmatch(_ACTIVE, name, re.ASCII):
        return FileKind.ACTIVE
    if re.fullmatch(_JOURNAL, name, re.ASCII):
        return FileKind.JOURNAL
    if parsed := SealedName.parse(name):
        return FileKind.WAITING if parsed.is_waiting else FileKind.SEALED
    if _sealed_stem(name):
        return FileKind.DERIVED
    if sealing_stem(name):
        return FileKind.SEALING
    if name.startswith(".") and name.endswith(".tmp") and _sealed_stem(name[1 : -len(".tmp")]):
        return FileKind.PARQUET
    return FileKind.REWRITE if re.fullmatch(_REWRITE, name, re.ASCII) else FileKind.FOREIGN


def _sealed_stem(name: str) -> str | None:
    """Return the stem of the sealed file that a derived one belongs to; None if it is none."""
    stem, suffix = os.path.splitext(name)
    is_derived = suffix in DERIVED_SUFFIXES and SealedName.parse(f"{stem}.jsonl") is not None
    return stem if is_derived else None


def list_entries(layout: Layout) -> Iterator[FileEntry]:
    """Iterate over all that lies in the directories of a recording.

    Of a family of files, that is what is named like it. A directory in it that cannot be read has nothing.

    Raises:
        StorageError: the recording's directory cannot be read.
    """
    for path in _paths_in(layout.directory):
        if path.name.startswith((layout.prefix, f".{layout.prefix}")):
            yield FileEntry(path, _state_at_top(path.name, layout.prefix))
    for slot in layout.slots():
        for path in _paths_below(layout.journal(slot)):
            yield FileEntry(path, _state_in_journal(path.name))
    for path in _paths_below(layout.sealed):
        yield FileEntry(path, _state_among_sealed(path))


def _paths_in(directory: Path) -> list[Path]:
    with reading_errors(directory):
        try:
            return sorted(directory.iterdir())
        except FileNotFoundError:
            return []


def _paths_below(directory: Path) -> list[Path]:
    try:
        return _paths_in(directory)
    except UnreadableError:
        return []


def _state_at_top(name: str, prefix: str) -> FileState:
    kind = classify(name.removeprefix(prefix))
    if kind in (FileKind.DIRECTORY, FileKind.ACTIVE, FileKind.JOURNAL):
        return FileState.OWN
    if re.fullmatch(_REWRITE, name, re.ASCII):
        return FileState.STALE
    # Hidden files in a directory of its own are somebody's settings, such as .gitignore.
    return FileState.OWN if not prefix and name.startswith(".") else FileState.FOREIGN


def _state_in_journal(name: str) -> FileState:
    return _STATES_IN_JOURNAL.get(classify_journal_file(name).kind, FileState.OWN)


def _state_among_sealed(path: Path) -> FileState:
    kind = classify(path.name)
    if kind in (FileKind.WAITING, FileKind.SEALED, FileKind.PARQUET):
        return FileState.OWN  # what is left of making a Parquet copy, the next one removes
    if kind is FileKind.DERIVED:
        own = [path.with_suffix(suffix) for suffix in SUFFIXES.values()]
        return FileState.OWN if any(map(os.path.lexists, own)) else FileState.ORPHANED
    if kind is FileKind.SEALING:
        # Whoever writes it holds the lock of the waiting file; that is its own business.
        is_left = not os.path.lexists(path.with_name(f"{sealing_stem(path.name)}.jsonl"))
        return FileState.STALE if is_left else FileState.OWN
    return FileState.STALE if kind is FileKind.REWRITE else FileState.FOREIGN
