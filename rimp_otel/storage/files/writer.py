"""The writer of one slot: its lock, and its three active files.

Every file has one writer, the holder of its slot's lock, so that nobody waits for anybody in order
to append, rotate or cut off what a failed append left. A slot is taken with the first append. In a
forked child the writer releases what it inherited, and takes a slot of its own.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rimp_otel.errors import StorageError
from rimp_otel.fsutil import sync_directory
from rimp_otel.journal.slots import JournalFileKind, Slot, classify_journal_file
from rimp_otel.journal.target import End
from rimp_otel.models.records import Signal
from rimp_otel.process import ProcessLock, Reporter, call_in_forked_child
from rimp_otel.storage.files.appender import Appender
from rimp_otel.storage.files.layout import Layout, SealedName, fingerprint
from rimp_otel.storage.files.policy import FilePolicy, FileStats
from rimp_otel.storage.files.sealer import Sealer

__all__ = ["SlotWriter", "make_unique_line", "rotate_file"]


# --- Rotation: the active file becomes a waiting one, which nobody appends to any more.

# More than there are slots.
_STEP = 1_024


def rotate_file(appender: Appender, signal: Signal, sealed: Path, syncs: bool) -> None:
    """Move the active file, which must not be empty, into the directory of sealed files.

    Args:
        appender: of the file, which is open and whole.
        signal: whose records it holds.
        sealed: the directory; created if it is missing.
        syncs: True to return only once the move is on the device.

    Raises:
        OSError: it could not be moved; it is as it was.
    """
    _make_private(sealed)
    appender.sync()
    id = fingerprint(appender.first_line())
    if _is_taken(id, signal, _list_names(sealed)):
        # Its first line is none of ours, such as an empty one. It must not replace another file.
        id = os.urandom(8).hex()
    os.rename(appender.path, sealed / str(SealedName(signal, id)))
    appender.close()
    if syncs:
        sync_directory(sealed)
        sync_directory(appender.path.parent)


def make_unique_line(line: bytes, signal: Signal, sealed: Path, slot: int) -> bytes:
    """Return the line, changed so that no other file of the signal begins with it.

    That is: none of another slot, which has another number of blanks at its end, and none that was
    sealed.
    """
    names = _list_names(sealed)
    number, unique = slot, line + _number_in_blanks(slot)
    while _is_taken(fingerprint(unique), signal, names):
        number += _STEP
        unique = line + _number_in_blanks(number)
    return unique


def _number_in_blanks(number: int) -> bytes:
    """Return a number in binary, in spaces and tabs; empty for 0."""
    return f"{number:b}".encode().translate(_TO_BLANKS) if number else b""


_TO_BLANKS = bytes.maketrans(b"01", b" \t")


def _list_names(sealed: Path) -> list[str]:
    try:
        return os.listdir(sealed)
    except FileNotFoundError:
        return []


def _is_taken(id: str, signal: Signal, names: list[str]) -> bool:
    # There may be many files, but hardly another of this id.
    found = (SealedName.parse(name) for name in names if id in name)
    return any(name is not None and (name.signal, name.id) == (signal, id) for name in found)


def _make_private(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        if not stat.S_ISDIR(os.lstat(directory).st_mode):
            raise


class SlotWriter:
    """Appends to the active files of one slot. Safe from several threads, and in forked children.

    Args:
        layout: of the recording.
        policy: how its files are kept.
        sealer: seals what was rotated; None leaves that to others.
        for_journal: True to take a slot with what its last owner left in the journal. Without a
            journal that would be wrong: what is appended there must be drained first.
        slot: the slot to write, held and later released by the caller; by default, the writer
            takes one with the first append.
        clock: returns seconds since the epoch.
        monotonic: returns seconds that never go back.
    """

    def __init__(
        self,
        layout: Layout,
        policy: FilePolicy,
        sealer: Sealer | None,
        for_journal: bool = False,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        slot: Slot | None = None,
    ) -> None:
        self.layout = layout
        self.policy = policy
        self.sealer = sealer
        self._for_journal = for_journal
        self._fixed_slot = slot
        self._clock = clock
        self._monotonic = monotonic
        self._lock = ProcessLock()
        self._reporter = Reporter()
        self._spare: SlotWriter | None = None
        # The slot of the journal that this writer belongs to, until it is closed.
        self._claimed: int | None = None
        self._slot: Slot | None = None
        self._appenders: dict[Signal, Appender] = {}
        self._begin()
        call_in_forked_child(self._after_fork)

    def _begin(self) -> None:
        self._busy = False
        self._stats = FileStats()
        self._synced = self._monotonic()
        self._pid = os.getpid()

    @property
    def is_open(self) -> bool:
        """True if it has a slot, in this process."""
        return self._slot is not None and self._pid == os.getpid()

    def take(self) -> Slot:
        """Return the slot; take it if it was not, or if its lock was removed from outside.

        Raises:
            StorageError: none could be taken; or a journal's slot is another process's now.
        """
        with self._alone("record into", self.layout.directory):
            return self._take()

    def append_all(self, lines: Mapping[Signal, Sequence[bytes]]) -> None:
        """Append all lines to their signals' files, or none of them.

        Called by code that interrupts an append of its own thread, such as a signal handler, it
        appends by another writer.

        Raises:
            StorageError: they could not be appended; the files are as they were.
        """
        with self._lock():
            if self._busy and self._pid == os.getpid():
                return self._other().append_all(lines)
            with self._alone("append to", self.layout.directory):
                self._append_all(
                    {signal: signal_lines for signal, signal_lines in lines.items() if signal_lines}
                )
        return None

    def append(
        self, signal: Signal, lines: Sequence[bytes], before: Callable[[End, int], None]
    ) -> End:
        """Append all lines to the signal's file, or none; as ``JournalTarget.store`` says."""
        with self._alone("append to", self.layout.directory):
            self._take()
            return self._append(signal, lines, before)[1]

    def resolve_append(self, signal: Signal, start: End, length: int) -> bool:
        """Return True if an interrupted append is complete; else cut off its part."""
        with self._alone("repair", self.layout.file(signal)):
            self._take()
            return self._appenders[signal].resolve_append(start, length)

    def end_of(self, signal: Signal) -> End:
        """Return where the active file ends, once its tail is repaired; (0, 0) if there is none."""
        with self._alone("repair", self.layout.file(signal)):
            self._take()
            return self._appenders[signal].end(create=False)

    def lines_after(self, signal: Signal, start: End) -> list[bytes]:
        """Return the complete lines from there on."""
        with self._alone("read", self.layout.file(signal)):
            self._take()
            return self._appenders[signal].lines_after(start)

    def sync(self) -> None:
        """Force to the device what was appended since the last time; nothing under the policy
        "never".

        Raises:
            StorageError: the device refused. It is tried again the next time.
        """
        if self.is_open:
            with self._alone("sync", self.layout.directory):
                self._sync()

    def rotate(self) -> None:
        """Rotate the files that hold anything.

        Raises:
            StorageError: one could not be rotated; it is appended to as before.
        """
        if not self.layout.slots():
            return
        with self._alone("rotate the files of", self.layout.directory):
            self._take()
            for signal, appender in self._appenders.items():
                if appender.end(create=False).offset:
                    self._rotate(signal)

    def close(self, sync: bool = True) -> None:
        """Close the files and release the slot; the next append takes one again."""
        with self._lock():
            if self._busy and self._pid == os.getpid():
                return  # by code that interrupts it
            try:
                with self._alone("sync", self.layout.directory):
                    if sync:
                        self._sync()
            finally:
                self._let_go()
                self._claimed = None
                if self._spare is not None:
                    self._spare.close(sync)

    def stats(self) -> FileStats:
        """Return what it has done, without what the sealer has."""
        repaired = sum(appender.repaired for appender in list(self._appenders.values()))
        stats = self._stats._replace(repaired=self._stats.repaired + repaired)
        return stats if self._spare is None else stats + self._spare.stats()

    def __del__(self) -> None:
        try:
            self.close()
        except Exception:  # half made, or the interpreter is being taken down
            pass

    @contextmanager
    def _alone(self, what: str, path: Path) -> Iterator[None]:
        with self._lock():
            if self._pid != os.getpid():
                self._after_fork()
            if self._busy:
                raise StorageError(f"cannot {what} {path}: the interrupted code is using it")
            self._busy = True
            try:
                yield
            except OSError as error:
                named = error.filename if isinstance(error.filename, str) else path
                raise StorageError(f"cannot {what} {named}: {error.strerror or error}") from error
            finally:
                self._busy = False

    def _after_fork(self) -> None:
        """Close what was inherited from the parent, which continues with it."""
        self._let_go()
        self._claimed = self._spare = None
        self._begin()

    def _let_go(self) -> None:
        for appender in self._appenders.values():
            appender.close()
        self._count(repaired=sum(appender.repaired for appender in self._appenders.values()))
        self._appenders = {}
        slot, self._slot = self._slot, None
        if slot is not None and slot is not self._fixed_slot:
            slot.release()

    def _take(self) -> Slot:
        slot = self._slot
        if slot is not None and slot.is_held:  # the lock may have been removed, or closed
            return slot
        if slot is not None:
            self._count(slots_lost=1)
            self._let_go()
        return self._begin_slot(self._take_new())

    def _take_new(self) -> Slot:
        if self._fixed_slot is not None:
            return self._fixed_slot
        taken = self._take_from(self._claimed or 0)
        if self._claimed is not None and taken.number != self._claimed:
            taken.release()
            raise StorageError(
                f"cannot append to {self.layout.file(Signal.TRACES, self._claimed)}: another"
                " process has taken its slot, since the lock file was removed"
            )
        if self._for_journal:
            self._claimed = taken.number
        return taken

    def _take_from(self, first: int) -> Slot:
        while True:
            slot = Slot.take(self.layout.journal, first)
            if self._for_journal or not _has_records(slot.directory):
                return slot
            # Its readers, and whoever recovers it, rely on the files being as the journal says.
            slot.release()
            first = slot.number + 1

    def _begin_slot(self, slot: Slot) -> Slot:
        self._slot = slot
        self._appenders = {
            signal: Appender(
                self.layout.file(signal, slot.number), self.policy.syncs, clock=self._clock
            )
            for signal in Signal
        }
        if self.sealer is not None:
            self.sealer.look()
        return slot

    def _append_all(self, lines: Mapping[Signal, Sequence[bytes]]) -> None:
        if not lines:
            return
        self._take()
        done: list[tuple[Signal, End]] = []
        before = self._stats
        try:
            for signal, signal_lines in lines.items():
                done.append((signal, self._append(signal, signal_lines, _ignore_write)[0]))
        except BaseException:
            for signal, start in done:
                self._appenders[signal].take_back(start)
            self._stats = self._stats._replace(lines=before.lines, bytes=before.bytes)
            raise
        self._sync_if_due()

    def _append(
        self, signal: Signal, lines: Sequence[bytes], before: Callable[[End, int], None]
    ) -> tuple[End, End]:
        """Append lines; return where they begin and where they end."""
        appender = self._appenders[signal]
        lines = [line.replace(b"\n", b" ") if b"\n" in line else line for line in lines]
        size = sum(map(len, lines)) + len(lines)
        try:
            start = self._make_room(signal, appender, size)
            if not start.offset:
                slot = self._slot.number if self._slot else 0
                first = make_unique_line(lines[0], signal, self.layout.sealed, slot)
                lines = [first, *lines[1:]]
            end = appender.append(lines, before)
            if self.policy.sync == "always":
                self._force(appender, start)
        except OSError as error:
            appender.close()
            error.filename = str(appender.path)
            raise
        self._count(lines=len(lines), bytes=end.offset - start.offset)
        return start, end

    def _force(self, appender: Appender, start: End) -> None:
        try:
            appender.sync()
        except OSError:
            self._count(sync_failures=1)
            appender.take_back(start)
            raise

    def _make_room(self, signal: Signal, appender: Appender, size: int) -> End:
        """Rotate the file if it is due; return where the next line will begin."""
        if self.sealer is not None:
            self.sealer.look_again()
        end = appender.end()
        if not end.offset:
            return end
        full = end.offset + size > self.policy.rotate_size
        if full or self._clock() - appender.born >= self.policy.rotate_age:
            try:
                self._rotate(signal)
            except OSError as error:
                # Better a file that is too long than a record that is not there.
                self._reporter.warn("rotate", f"cannot rotate {appender.path}: {error}")
            end = appender.end()
        return end

    def _rotate(self, signal: Signal) -> None:
        try:
            rotate_file(self._appenders[signal], signal, self.layout.sealed, self.policy.syncs)
        except OSError:
            self._count(rotate_failures=1)
            raise
        self._count(rotated=1)
        if self.sealer is not None:
            self.sealer.wake()

    def _sync_if_due(self) -> None:
        if self.policy.sync != "interval":
            return
        if self._monotonic() - self._synced < self.policy.sync_interval:
            return
        try:
            self._sync()
        except OSError as error:
            # The batch is stored: offered again, it would be there twice.
            self._reporter.warn("sync", f"cannot sync {self.layout.directory}: {error}")

    def _sync(self) -> None:
        self._synced = self._monotonic()
        try:
            for appender in self._appenders.values():
                appender.sync()
        except OSError:
            self._count(sync_failures=1)
            raise

    def _count(self, **more: int) -> None:
        stats = self._stats
        self._stats = stats._replace(**{name: getattr(stats, name) + more[name] for name in more})

    def _other(self) -> SlotWriter:
        if self._spare is None:
            self._spare = SlotWriter(
                self.layout, self.policy, self.sealer, False, self._clock, self._monotonic
            )
        return self._spare


def _ignore_write(end: End, length: int) -> None:
    """Do nothing: without a journal, nobody has to know of a write beforehand."""


def _has_records(journal: Path) -> bool:
    """Return True if the last owner of a journal may have left records that are in no file yet."""
    kinds = [classify_journal_file(name).kind for name in os.listdir(journal)]
    return JournalFileKind.SEGMENT in kinds
