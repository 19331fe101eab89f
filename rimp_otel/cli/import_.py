"""``rimp import``: add OTLP files to a recording."""

from __future__ import annotations

import argparse
import io
import re
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

from rimp_otel.cli.options import UsageError, add_output_options, path_from_args, style_from_args
from rimp_otel.cli.output import Progress, counts_json, format_counts
from rimp_otel.cli.signals import handle_signals
from rimp_otel.errors import DecodeError, MissingExtraError, StorageError
from rimp_otel.models.records import Signal
from rimp_otel.render.format import format_count
from rimp_otel.render.terminal import Style, to_json

if TYPE_CHECKING:
    from rimp_otel.batch import TelemetryData
    from rimp_otel.otlp.files import ReadLimits

__all__ = [
    "ARCHIVE_ERRORS",
    "ImportedFile",
    "InputFile",
    "add_import_arguments",
    "import_file",
    "input_files",
    "input_size",
    "parse_size",
]

ARCHIVE_ERRORS = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)
"""The exceptions that reading a damaged archive raises."""

_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_MAX_BATCH_SIZE = 32 * 1024 * 1024
_MAX_LINE_SIZE = 256 * 1024
_MAX_REASONS = 20
_MAX_UNPACKED = 4 * 1024**3
_MAX_RATIO, _MIN_SUSPICIOUS_SIZE = 500, 4 * 1024**2

_DESCRIPTION = """\
Add OTLP files to a recording: JSON (one message per line, or messages over several lines) or
protobuf (one message, or length-prefixed messages of the Collector's file exporter), optionally
compressed with zstd or gzip, also in directories and archives.
"""


def add_import_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp import``."""
    parser.description = _DESCRIPTION
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="OTLP file, directory or archive to import; - reads standard input",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="report what would be imported, but write nothing"
    )
    parser.add_argument(
        "--max-message",
        metavar="SIZE",
        type=parse_size,
        default=32 * 1024**2,
        help="largest message to import, such as 100MB (default: 32 MiB)",
    )
    parser.add_argument(
        "--max-unpacked",
        metavar="SIZE",
        type=parse_size,
        default=_MAX_UNPACKED,
        help="most that a compressed file or an archive may hold (default: 4 GiB)",
    )
    add_output_options(parser, "what was imported from each file")
    parser.set_defaults(command=_run_import)


@dataclass
class ImportedFile:
    """What was imported from a file."""

    name: str
    records: Counter[Signal] = field(default_factory=Counter)
    messages: int = 0
    #: The number of refused messages, and of the first: the unit of the place, the place, and why.
    refused: int = 0
    reasons: list[tuple[str, int, str]] = field(default_factory=list)
    #: Why the rest of the file was not imported; empty if all was.
    failure: str = ""

    def refuse(self, unit: str, number: int, reason: str) -> None:
        """Count a refused message."""
        self.refused += 1
        if len(self.reasons) < _MAX_REASONS:
            self.reasons.append((unit, number, reason))

    def as_json(self) -> dict[str, Any]:
        """Return what ``rimp import --json`` prints about the file."""
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
    total = sum(map(input_size, args.files))
    limits = _limits_from_args(args)
    store, close = (_discard, _do_nothing) if args.dry_run else _open_storage(path)
    style, imported = style_from_args(args), list[ImportedFile]()
    try:
        with Progress("importing", total, "bytes") as progress, _interruptible() as check:
            for file in _all_input_files(args.files, progress, args.max_unpacked):
                imported.append(ImportedFile(file.name))
                import_file(file, imported[-1], store, check, limits=limits)
                progress.clear()
                _print_file(imported[-1], args, style)
    except KeyboardInterrupt:
        if imported:
            imported[-1].failure = "interrupted"
            _print_file(imported[-1], args, style)
        raise
    finally:
        close()
        if not args.json:
            print(_format_total(imported, str(path), args.dry_run, style))
    return 1 if any(one.refused or one.failure for one in imported) else 0


def _limits_from_args(args: argparse.Namespace) -> ReadLimits:
    from rimp_otel.otlp.files import ReadLimits

    return ReadLimits(
        args.max_message, args.max_unpacked, "; see --max-message", "; see --max-unpacked"
    )


_SIZE = re.compile(r"([0-9]{1,12})\s*(?:([kKMGT])i?B?|B)?")


def parse_size(text: str) -> int:
    """Return a number of bytes such as ``100MB``, in which a MB has 1,024 * 1,024."""
    size = _SIZE.fullmatch(text.strip())
    if size is None or not int(size[1]):
        raise argparse.ArgumentTypeError(f"expected a size such as 500kB or 2GB, got {text!r}")
    power = "kMGT".index(size[2].replace("K", "k")) + 1 if size[2] else 0
    scale: int = 1024**power
    return int(size[1]) * scale


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """Delay Ctrl-C to moments at which the report agrees with what is stored; a second one is immediate.

    Yields a function to be called at such moments, which raises KeyboardInterrupt.
    """
    pressed: list[int] = []

    def note(number: int, frame: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    with handle_signals({signal.SIGINT: note}):
        yield check
        check()


def _all_input_files(
    files: list[str], progress: Progress, max_unpacked: int
) -> Iterator[InputFile]:
    for text in files:
        try:
            yield from input_files(text, progress.advance, max_unpacked)
        except (StorageError, OSError) as error:
            yield InputFile(text, _opener_that_raises(error))


def _opener_that_raises(error: Exception) -> Callable[[], Any]:
    def open() -> Any:
        raise error

    return open


def _open_storage(path: Any) -> tuple[Callable[[TelemetryData], None], Callable[[], None]]:
    from rimp_otel.storage.recording import open_storage

    storage = open_storage(path)
    return storage.store, storage.close


def _discard(data: TelemetryData) -> None:
    pass


def _do_nothing() -> None:
    pass


def import_file(
    file: InputFile,
    imported: ImportedFile,
    store: Callable[[TelemetryData], None],
    check: Callable[[], None] = _do_nothing,
    batch_size: int = _MAX_BATCH_SIZE,
    limits: ReadLimits | None = None,
) -> None:
    """Store the messages of a file, and count in ``imported`` exactly what is stored.

    A file of up to ``batch_size`` bytes is stored as a whole or not at all.

    Args:
        file: the file.
        imported: the counts to add to.
        store: stores a batch.
        check: called between messages; may raise.
        batch_size: bytes of messages that are stored together.
        limits: how much of the file is read; those of `read_messages` by default.
    """
    try:
        with file.open() as content:
            _import_messages(content, imported, store, check, batch_size, limits)
    except (MissingExtraError, StorageError, OSError, *ARCHIVE_ERRORS) as error:
        imported.failure = str(error)


def _import_messages(
    file: BinaryIO,
    imported: ImportedFile,
    store: Callable[[TelemetryData], None],
    check: Callable[[], None],
    batch_size: int,
    limits: ReadLimits | None,
) -> None:
    from rimp_otel.otlp.files import ReadLimits, read_messages

    batches = _Batches(store)
    for message in read_messages(file, limits or ReadLimits()):
        check()
        if message.line is None or (why := batches.add(message.line)):
            imported.refuse(message.unit, message.number, why if message.line else message.reason)
        elif batches.size > batch_size:
            batches.flush(imported)
    batches.flush(imported)


class _Batches:
    """Messages that were read, to be stored together."""

    def __init__(self, store: Callable[[TelemetryData], None]) -> None:
        self._store = store
        self._clear()

    def _clear(self) -> None:
        self.size = 0
        self._messages = 0
        self._lines: list[bytes] = []
        self._records: Counter[Signal] = Counter()

    def add(self, line: bytes) -> str:
        """Add a message; return why if it cannot be decoded, else an empty text."""
        from rimp_otel.batch import TelemetryData, decode_batch

        try:
            data = decode_batch(line)
        except DecodeError as error:
            return error.reason
        one = next(filter(data.count_of, Signal), None)
        if one is not None and len(line) > _MAX_LINE_SIZE:
            # Cut to lines that readers can decode one by one.
            whole = TelemetryData(events=data.events, metrics=data.metrics, spans=data.spans)
            self._lines += whole.otlp_json(one)
        elif one is not None:
            self._lines.append(line)
        self.size += len(line)
        self._messages += 1
        self._records.update({one: len(data)} if one else {})
        return ""

    def flush(self, imported: ImportedFile) -> None:
        """Store the messages, and count them."""
        from rimp_otel.batch import TelemetryData

        if self._lines:
            self._store(TelemetryData.from_otlp_json(self._lines))
        imported.messages += self._messages
        imported.records.update(self._records)
        self._clear()


def _print_file(imported: ImportedFile, args: argparse.Namespace, style: Style) -> None:
    if args.json:
        print(to_json(imported.as_json()), flush=True)
        return
    name = style.clean(imported.name)
    for unit, number, reason in imported.reasons:
        place = (
            f"{name}:{number}"
            if unit == "line"
            else f"{name}: message {number}"
            if number
            else name
        )
        print(style.paint(f"{place}: {style.clean(reason)}", "red"))
    if more := imported.refused - len(imported.reasons):
        print(style.paint(f"{name}: and {more:,} more refused messages", "red"))
    if imported.failure:
        print(style.paint(f"{name}: {style.clean(imported.failure)}", "red"))
    print(f"{name}: {format_counts(imported.records)}", flush=True)


def _format_total(imported: list[ImportedFile], path: str, dry_run: bool, style: Style) -> str:
    records: Counter[Signal] = Counter()
    for one in imported:
        records.update(one.records)
    text = f"{style.paint(style.clean(path), 'bold')}: {'would import' if dry_run else 'imported'} {format_counts(records)}"
    text += f" from {format_count(len(imported), 'file')}"
    refused = sum(one.refused for one in imported)
    failed = sum(bool(one.failure) for one in imported)
    if refused:
        text += ", " + style.paint(f"refused {format_count(refused, 'message')}", "red")
    if failed:
        text += ", " + style.paint(f"{format_count(failed, 'file')} incomplete", "red")
    return text


# The files that arguments name.


class InputFile(NamedTuple):
    """A file of OTLP messages."""

    #: The path as given; of a member of an archive, its path after that of the archive.
    name: str
    open: Callable[[], AbstractContextManager[BinaryIO]]


def input_files(
    text: str, read: Callable[[int], None], max_unpacked: int = _MAX_UNPACKED
) -> Iterator[InputFile]:
    """Iterate over the files that an argument names; each must be read before the next.

    Args:
        text: the path of a file, a directory or an archive (``.tar``, ``.tar.gz``, ``.zip``); ``-``
            is standard input.
        read: called with the number of bytes that were read from disk.
        max_unpacked: the most bytes that an archive may hold.

    Raises:
        UsageError: the directory is a recording.
        StorageError: an archive is damaged, or holds too much.
        OSError: a file cannot be read.
    """
    if text == "-":
        yield InputFile("standard input", lambda: nullcontext(sys.stdin.buffer))
        return
    path = Path(text)
    if path.is_dir():
        for file in _list_files_below(path):
            yield InputFile(str(file), lambda file=file: closing(_open_counted(file, read)))  # type: ignore[misc]
    elif text.endswith(_TAR_SUFFIXES):
        yield from _files_in_tar(path, read, max_unpacked)
    elif text.endswith(".zip"):
        yield from _files_in_zip(path, max_unpacked)
        read(path.stat().st_size)
    else:
        yield InputFile(text, lambda: closing(_open_counted(path, read)))


def input_size(text: str) -> int:
    """Return the size of an argument's files in bytes; 0 for standard input.

    Raises:
        UsageError: the file does not exist, or is a pipe or a device, which may never end.
    """
    path = Path(text)
    if text == "-":
        return 0
    if not path.exists():
        raise UsageError(f"no such file: {path}")
    if not path.is_dir() and not path.is_file():
        raise UsageError(
            f"{path} is a pipe or a device, not a file: redirect it to standard input, and give -"
        )
    files = _list_files_below(path) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _list_files_below(directory: Path) -> list[Path]:
    if any(directory.glob("journal*/lock")):
        raise UsageError(
            f"{directory} is a recording: read it with --path, or import its files one by one"
        )
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.name[0] != ".")


class _CountedFile(io.RawIOBase):
    """A file that reports how many bytes are read of it."""

    def __init__(self, file: Any, read: Callable[[int], None]) -> None:
        self._file, self._read = file, read

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into the buffer, and report it."""
        count: int = self._file.readinto(buffer)
        self._read(count)
        return count

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def _open_counted(path: Path, read: Callable[[int], None]) -> Any:
    return _CountedFile(open(path, "rb", buffering=0), read)


def _check_unpacked_size(size: int, path: Path, most: int) -> None:
    """Raise StorageError if an archive holds so many bytes as no archive of telemetry does."""
    if size > most:
        raise StorageError(f"unpacks to more than {most:,} bytes; see --max-unpacked")
    if size > max(_MIN_SUSPICIOUS_SIZE, _MAX_RATIO * path.stat().st_size):
        raise StorageError(
            f"unpacks to more than {_MAX_RATIO:,} times its size, as no telemetry does: "
            "unpack it yourself if you trust it"
        )


def _files_in_tar(
    path: Path, read: Callable[[int], None], max_unpacked: int
) -> Iterator[InputFile]:
    size = 0
    with closing(_open_counted(path, read)) as packed:
        try:
            # As a stream: nothing is extracted to disk, whatever the names in the archive are.
            with tarfile.open(fileobj=io.BufferedReader(packed), mode="r|*") as archive:
                for member in archive:
                    size += member.size
                    _check_unpacked_size(size, path, max_unpacked)
                    file = archive.extractfile(member) if member.isfile() else None
                    if file is not None:
                        yield InputFile(f"{path}/{member.name}", lambda file=file: closing(file))  # type: ignore[misc]
        except ARCHIVE_ERRORS as error:
            raise StorageError(f"not a tar archive, or damaged: {error}") from None


def _opener_of(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> Callable[[], AbstractContextManager[BinaryIO]]:
    return lambda: closing(cast(BinaryIO, archive.open(member)))


def _files_in_zip(path: Path, max_unpacked: int) -> Iterator[InputFile]:
    size = 0
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    size += member.file_size
                    _check_unpacked_size(size, path, max_unpacked)
                    yield InputFile(f"{path}/{member.filename}", _opener_of(archive, member))
    except ARCHIVE_ERRORS as error:
        raise StorageError(f"not a zip archive, or damaged: {error}") from None
