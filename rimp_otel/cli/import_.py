"""``rimp import``: OTLP files of anybody into a recording."""

from __future__ import annotations

import argparse
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from rimp_otel.cli.options import add_color, add_json, add_path, output_style, recording_path
from rimp_otel.cli.progress import Progress
from rimp_otel.cli.recording import counts_json, counts_text
from rimp_otel.cli.render import Style, plural, to_json
from rimp_otel.cli.sources import DAMAGED, Source, size_of, sources_of
from rimp_otel.errors import DecodeError, MissingExtraError, StorageError
from rimp_otel.otlp.signals import Signal

if TYPE_CHECKING:
    from rimp_otel.data import TelemetryData

__all__ = ["Taken", "add_import_parser", "take"]

_AT_ONCE = 32 * 1024 * 1024
_LONG_LINE = 256 * 1024
_MOST_SHOWN = 20
_DESCRIPTION = """\
Add OTLP files to a recording: JSON (lines, or messages that go over lines), protobuf (a message,
or the Collector's file exporter's messages with their lengths in front), packed with zstd or gzip
or not; directories and archives of them; - is standard input.
"""


def add_import_parser(subparsers: Any) -> None:
    """``rimp import``."""
    parser = subparsers.add_parser(
        "import",
        help="add OTLP files to a recording",
        description=_DESCRIPTION,
    )
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="an OTLP file, a directory or archive of them, or -",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be taken, and write nothing"
    )
    add_path(parser)
    add_json(parser, "what was taken from each file")
    add_color(parser)
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
    path = recording_path(args)
    total = sum(map(size_of, args.files))
    store, close = (_count, _nothing) if args.dry_run else _storage(path)
    style, taken = output_style(args), list[Taken]()
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
    from rimp_otel.storage import FileStorage, SQLiteStorage
    from rimp_otel.storage.sqlite.reader import is_database

    storage = SQLiteStorage(path) if is_database(path) else FileStorage(path)
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
        from rimp_otel.data import TelemetryData

        try:
            data = TelemetryData.decoded(line)
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
        from rimp_otel.data import TelemetryData

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
    print(f"{name}: {counts_text(taken.records)}", flush=True)


def _summary(taken: list[Taken], path: str, dry_run: bool, style: Style) -> str:
    records: Counter[Signal] = Counter()
    for one in taken:
        records.update(one.records)
    text = f"{style.paint(style.clean(path), 'bold')}: {'would take' if dry_run else 'took'} {counts_text(records)}"
    text += f" from {plural(len(taken), 'file')}"
    refused = sum(one.refused for one in taken)
    failed = sum(bool(one.failure) for one in taken)
    if refused:
        text += ", " + style.paint(f"refused {plural(refused, 'message')}", "red")
    if failed:
        text += ", " + style.paint(f"{plural(failed, 'file')} not to the end", "red")
    return text
