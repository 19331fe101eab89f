"""``rimp import``: OTLP files of anybody into a recording."""

from __future__ import annotations

import argparse
import io
import signal
import sys
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from rimp_otel.cli.options import (
    UsageError,
    add_color_option,
    add_json_option,
    add_path_option,
    path_from_args,
    style_from_args,
)
from rimp_otel.cli.output import Progress, counts_json, format_counts
from rimp_otel.errors import DecodeError, MissingExtraError, StorageError
from rimp_otel.models.records import Signal
from rimp_otel.render.format import format_count
from rimp_otel.render.terminal import Style, to_json

if TYPE_CHECKING:
    from rimp_otel.batch import TelemetryData

__all__ = ["DAMAGED", "Source", "Taken", "add_import_parser", "size_of", "sources_of", "take"]


# --- What ``rimp import`` is given: files, directories, archives, or standard input.

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)
"""What reading a damaged archive raises."""

_TAR = (".tar", ".tar.gz", ".tgz")


class Source(NamedTuple):
    """One file of OTLP messages."""

    #: As a person would name it: of a member of an archive, both.
    name: str
    open: Callable[[], AbstractContextManager[BinaryIO]]


def sources_of(text: str, read: Callable[[int], None]) -> Iterator[Source]:
    """The files that an argument stands for; ``-`` is standard input.

    Args:
        text: a path. Of a directory or an archive (``.tar``, ``.tar.gz``, ``.zip``), its files.
        read: told how many bytes of what lies on disk were read.

    Raises:
        UsageError: it is a recording with journals.
        StorageError: an archive is damaged.
        OSError: it cannot be read.
    """
    if text == "-":
        yield Source("standard input", lambda: nullcontext(sys.stdin.buffer))
        return
    path = Path(text)
    if path.is_dir():
        for file in _files(path):
            yield Source(str(file), lambda file=file: closing(_open(file, read)))  # type: ignore[misc]
    elif text.endswith(_TAR):
        yield from _of_tar(path, read)
    elif text.endswith(".zip"):
        yield from _of_zip(path)
        read(path.stat().st_size)
    else:
        yield Source(text, lambda: closing(_open(path, read)))


def size_of(text: str) -> int:
    """How many bytes an argument stands for; 0 of standard input.

    Raises:
        UsageError: there is no such file.
    """
    path = Path(text)
    if text == "-":
        return 0
    if not path.exists():
        raise UsageError(f"there is no file {path}")
    files = _files(path) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _files(directory: Path) -> list[Path]:
    if any(directory.glob("journal*/lock")):
        raise UsageError(
            f"{directory} is a recording: look at it with --path, or import its files one by one"
        )
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.name[0] != ".")


class _Counted(io.RawIOBase):
    """A file that tells how much of it is read."""

    def __init__(self, file: Any, read: Callable[[int], None]) -> None:
        self._file, self._read = file, read

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer."""
        count: int = self._file.readinto(buffer)
        self._read(count)
        return count

    def close(self) -> None:
        """Closes the file, too."""
        self._file.close()
        super().close()


def _open(path: Path, read: Callable[[int], None]) -> Any:
    return _Counted(open(path, "rb", buffering=0), read)


def _of_tar(path: Path, read: Callable[[int], None]) -> Iterator[Source]:
    with closing(_open(path, read)) as packed:
        try:
            # As a stream: nothing is unpacked to disk, whatever the names in it say.
            with tarfile.open(fileobj=io.BufferedReader(packed), mode="r|*") as archive:
                for member in archive:
                    file = archive.extractfile(member) if member.isfile() else None
                    if file is not None:
                        yield Source(f"{path}/{member.name}", lambda file=file: closing(file))  # type: ignore[misc]
        except DAMAGED as error:
            raise StorageError(f"no tar archive, or damaged: {error}") from None


def _member_of(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> Callable[[], AbstractContextManager[BinaryIO]]:
    return lambda: closing(cast(BinaryIO, archive.open(member)))


def _of_zip(path: Path) -> Iterator[Source]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    yield Source(f"{path}/{member.filename}", _member_of(archive, member))
    except DAMAGED as error:
        raise StorageError(f"no zip archive, or damaged: {error}") from None


# --- ``rimp import``: OTLP files of anybody into a recording.

_AT_ONCE = 32 * 1024 * 1024
_LONG_LINE = 256 * 1024
_MOST_SHOWN = 20
_DESCRIPTION = """\
Add OTLP files to a recording: JSON (one message per line, or messages over several lines) or
protobuf (one message, or length-prefixed messages of the Collector's file exporter), optionally
compressed with zstd or gzip, also in directories and archives.
"""


def add_import_parser(subparsers: Any) -> None:
    """Add ``rimp import`` to the commands."""
    parser = subparsers.add_parser(
        "import",
        help="add OTLP files to a recording",
        description=_DESCRIPTION,
    )
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="OTLP file, directory or archive to import; - reads standard input",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="report what would be imported, but write nothing"
    )
    add_path_option(parser)
    add_json_option(parser, "what was imported from each file")
    add_color_option(parser)
    parser.set_defaults(command=_run_import)


@dataclass
class Taken:
    """What was taken out of one file."""

    name: str
    records: Counter[Signal] = field(default_factory=Counter)
    messages: int = 0
    #: How many messages were refused, and the first of them: what counts places, where, why.
    refused: int = 0
    reasons: list[tuple[str, int, str]] = field(default_factory=list)
    #: Why the file was not taken to its end; empty if it was.
    failure: str = ""

    def refuse(self, unit: str, number: int, reason: str) -> None:
        """One more message was refused."""
        self.refused += 1
        if len(self.reasons) < _MOST_SHOWN:
            self.reasons.append((unit, number, reason))

    def as_json(self) -> dict[str, Any]:
        """What ``rimp import --json`` says about a file."""
        return {
            "file": self.name,
            "taken": counts_json(self.records),
            "messages": self.messages,
            "refused": self.refused,
            "reasons": [{unit: number, "reason": reason} for unit, number, reason in self.reasons],
            "failure": self.failure,
        }


def _run_import(args: argparse.Namespace) -> int:
    path = path_from_args(args)
    total = sum(map(size_of, args.files))
    store, close = (_count, _nothing) if args.dry_run else _storage(path)
    style, taken = style_from_args(args), list[Taken]()
    try:
        with Progress("importing", total, "bytes") as progress, _interruptible() as check:
            for source in _sources(args.files, progress):
                taken.append(Taken(source.name))
                take(source, taken[-1], store, check)
                progress.clear()
                _print(taken[-1], args, style)
    except KeyboardInterrupt:
        if taken:
            taken[-1].failure = "interrupted"
            _print(taken[-1], args, style)
        raise
    finally:
        close()
        if not args.json:
            print(_summary(taken, str(path), args.dry_run, style))
    return 1 if any(one.refused or one.failure for one in taken) else 0


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Has Ctrl-C wait for a moment at which what is stored is what is said to be; the second does
    not wait. Gives what is to be called at such moments."""
    pressed: list[int] = []

    def note(number: int, frame: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield check
        check()
    finally:
        signal.signal(signal.SIGINT, before)


def _sources(files: list[str], progress: Progress) -> Iterator[Source]:
    for text in files:
        try:
            yield from sources_of(text, progress.advance)
        except (StorageError, OSError) as error:
            yield Source(text, _raising(error))


def _raising(error: Exception) -> Callable[[], Any]:
    def open() -> Any:
        raise error

    return open


def _storage(path: Any) -> tuple[Callable[[TelemetryData], None], Callable[[], None]]:
    from rimp_otel.storage.recording import open_storage

    storage = open_storage(path)
    return storage.store, storage.close


def _count(data: TelemetryData) -> None:
    pass


def _nothing() -> None:
    pass


def take(
    source: Source,
    taken: Taken,
    store: Callable[[TelemetryData], None],
    check: Callable[[], None] = _nothing,
) -> None:
    """Stores what can be read of a file, and notes in ``taken`` what that was: at any moment, no
    more and no less than what is stored. A file of up to 32 MiB is stored at once, or not at all.

    Args:
        source: the file.
        taken: what is known of it, which is added to.
        store: as a storage has it.
        check: called between messages; may raise.
    """
    try:
        with source.open() as file:
            _take(file, taken, store, check)
    except (MissingExtraError, StorageError, OSError, *DAMAGED) as error:
        taken.failure = str(error)


def _take(
    file: BinaryIO,
    taken: Taken,
    store: Callable[[TelemetryData], None],
    check: Callable[[], None],
) -> None:
    from rimp_otel.otlp.files import read_messages

    waiting = _Waiting(store)
    for message in read_messages(file):
        check()
        if message.line is None or (why := waiting.add(message.line)):
            taken.refuse(message.unit, message.number, why if message.line else message.reason)
        elif waiting.size > _AT_ONCE:
            waiting.flush(taken)
    waiting.flush(taken)


class _Waiting:
    """Messages that were read and are not stored yet."""

    def __init__(self, store: Callable[[TelemetryData], None]) -> None:
        self._store = store
        self._clear()

    def _clear(self) -> None:
        self.size = 0
        self._messages = 0
        self._lines: list[bytes] = []
        self._records: Counter[Signal] = Counter()

    def add(self, line: bytes) -> str:
        """One more message, if it can be read; why it cannot, else."""
        from rimp_otel.batch import TelemetryData, decode_batch

        try:
            data = decode_batch(line)
        except DecodeError as error:
            return error.reason
        one = next(filter(data.count_of, Signal), None)
        if one is not None and len(line) > _LONG_LINE:
            # Into lines of a length that readers like.
            whole = TelemetryData(events=data.events, metrics=data.metrics, spans=data.spans)
            self._lines += whole.otlp_json(one)
        elif one is not None:
            self._lines.append(line)
        self.size += len(line)
        self._messages += 1
        self._records.update({one: len(data)} if one else {})
        return ""

    def flush(self, taken: Taken) -> None:
        """Stores all of them, and notes that."""
        from rimp_otel.batch import TelemetryData

        if self._lines:
            self._store(TelemetryData.from_otlp_json(self._lines))
        taken.messages += self._messages
        taken.records.update(self._records)
        self._clear()


def _print(taken: Taken, args: argparse.Namespace, style: Style) -> None:
    if args.json:
        print(to_json(taken.as_json()), flush=True)
        return
    name = style.clean(taken.name)
    for unit, number, reason in taken.reasons:
        place = (
            f"{name}:{number}"
            if unit == "line"
            else f"{name}: message {number}"
            if number
            else name
        )
        print(style.paint(f"{place}: {style.clean(reason)}", "red"))
    if more := taken.refused - len(taken.reasons):
        print(style.paint(f"{name}: and {more:,} more are refused", "red"))
    if taken.failure:
        print(style.paint(f"{name}: {style.clean(taken.failure)}", "red"))
    print(f"{name}: {format_counts(taken.records)}", flush=True)


def _summary(taken: list[Taken], path: str, dry_run: bool, style: Style) -> str:
    records: Counter[Signal] = Counter()
    for one in taken:
        records.update(one.records)
    text = f"{style.paint(style.clean(path), 'bold')}: {'would take' if dry_run else 'took'} {format_counts(records)}"
    text += f" from {format_count(len(taken), 'file')}"
    refused = sum(one.refused for one in taken)
    failed = sum(bool(one.failure) for one in taken)
    if refused:
        text += ", " + style.paint(f"refused {format_count(refused, 'message')}", "red")
    if failed:
        text += ", " + style.paint(f"{format_count(failed, 'file')} not to the end", "red")
    return text
