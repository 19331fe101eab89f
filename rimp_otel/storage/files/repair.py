"""Repairs a recording: what can be repaired is, the rest is kept; living writers are left alone.

Each step leaves the recording whole or as it was, so that a repair may be killed at any moment, and
run again; run again on what is whole, it changes nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from rimp_otel.errors import StorageError
from rimp_otel.fsutil import (
    FOLLOWING_FLAGS,
    READ_FLAGS,
    find_directory_obstacle,
    find_obstacle,
    list_directory,
    lock_file,
)
from rimp_otel.journal.format import (
    FRAME_ENDS,
    HEADER_SIZE,
    Definitions,
    Frame,
    HeaderState,
    find_frames_end,
    line_of_frames,
    parse_frames,
    read_header,
    readable_frames,
)
from rimp_otel.journal.slices import StoredRecords
from rimp_otel.journal.slots import (
    DATA_KINDS,
    LOCK,
    JournalFileKind,
    Slot,
    classify_journal_file,
    is_owned,
)
from rimp_otel.models.records import Signal
from rimp_otel.storage.files.index import find_index_fault, index_path, make_index
from rimp_otel.storage.files.journal_target import SlotTakenError, SlotTarget, take_slot
from rimp_otel.storage.files.layout import FileEntry, FileState, Layout, SealedName, list_entries
from rimp_otel.storage.files.policy import FilePolicy
from rimp_otel.storage.files.retention import list_sealed
from rimp_otel.storage.files.rewrite import (
    Rewritten,
    move_to_damaged,
    remove_temporary_files,
    rewrite_active,
    rewrite_sealed,
)
from rimp_otel.storage.files.sealer import Sealer
from rimp_otel.storage.files.verify import parse_line
from rimp_otel.storage.slots import inspect_slots

__all__ = ["Action", "ActionCode", "Recover", "Repair", "store_quarantined"]


# --- Quarantined segments: the records that are only in them are stored after all.

_SLICE = 90


def store_quarantined(path: Path, target: SlotTarget) -> int:
    """Store the records of a quarantined segment that are in no file yet.

    Args:
        path: of the segment.
        target: the files of the slot that it belonged to.

    Returns:
        How many records there were.

    Raises:
        OSError: it cannot be read.
        StorageError: they could not be stored, or the recording cannot be read.
    """
    stored = 0
    for signal, frames in _readable_frames(path).items():
        # Not if there are none: all files of the recording are read for this.
        if frames:
            stored_records = StoredRecords({signal: target.lines_since(signal, 0)})
            frames = stored_records.remove_from(signal, frames)
        for start in range(0, len(frames), _SLICE):
            line = line_of_frames(signal, frames[start : start + _SLICE])
            target.append_line(signal, line)
        stored += len(frames)
    return stored


def _readable_frames(path: Path) -> dict[Signal, list[Frame]]:
    """Return the records of a segment that can be read, and are not known to be stored."""
    with os.fdopen(os.open(path, READ_FLAGS), "rb") as file:
        data = file.read()
    text = data[HEADER_SIZE:]
    found = parse_frames(text[: find_frames_end(text).stop], HEADER_SIZE, Definitions())
    state = read_header(data[:HEADER_SIZE])
    return {
        signal: readable_frames(
            signal, found.of_signal(signal, _stored_until(state, signal, data))
        )[0]
        for signal in Signal
    }


def _stored_until(state: HeaderState | None, signal: Signal, data: bytes) -> int:
    """Return up to where its records are stored; 0 if the header does not say it any more."""
    offset = state.stored_until[signal] if state else 0
    return offset if data[max(offset - 1, 0) : offset] in FRAME_ENDS else 0


# --- Repairing a recording.

_NEVER = 1e9
"""Seconds."""

Recover = Callable[[Slot, SlotTarget], "tuple[int, int, str]"]
"""Stores what a slot's journal holds. Returns how many records were stored, how many could not be
read, and why not all were stored; that is empty if all were."""


class ActionCode(str, Enum):
    """Kinds of actions. ``Action.number`` counts what is in parentheses."""

    #: Stored what a process that died had left in a journal (records).
    RECOVERED = "recovered"
    #: Could not read a part of a journal (records).
    LOST = "lost"
    #: Stored what a quarantined file alone held, and moved the file (records).
    MOVED_FILE = "moved_file"
    #: Moved what was in the place of a file or a directory; ``detail`` says what.
    SET_ASIDE = "set_aside"
    #: Moved damaged lines out of a file (lines).
    MOVED_LINES = "moved_lines"
    #: Corrected the name of a file.
    RENAMED = "renamed"
    #: Ended the last line of a file (1).
    ENDED = "ended"
    #: Removed a temporary file of a process that died.
    REMOVED = "removed"
    #: Removed what was derived from a sealed file that is gone.
    REMOVED_ORPHAN = "removed_orphan"
    #: Sealed rotated files (files).
    SEALED = "sealed"
    #: Made the index of a sealed file (1).
    INDEXED = "indexed"
    #: Left a slot alone, since a living process records into it.
    LEFT_IN_USE = "left_in_use"
    #: Left a slot alone that another user or another machine was the last to hold.
    LEFT_TO_OTHERS = "left_to_others"
    #: Left the sealed files alone, since another process repairs them.
    LEFT_TO_REPAIR = "left_to_repair"
    #: Could not do it; ``detail`` says why.
    FAILED = "failed"
    #: Could not store all that a journal held; ``detail`` says why.
    NOT_ALL_STORED = "not_all_stored"


_FAILURES = {ActionCode.FAILED, ActionCode.NOT_ALL_STORED}


class Action(NamedTuple):
    """Something that was done, or could not be done."""

    code: ActionCode
    #: The file or directory that it was done to.
    path: Path
    #: Records, lines or files that it concerned.
    number: int = 0
    #: Its new path, if it was moved or renamed; None if nothing of it is left.
    target: Path | None = None
    #: Why it could not be done.
    detail: str = ""

    @property
    def has_failed(self) -> bool:
        """True if it could not be done."""
        return self.code in _FAILURES


class Repair:
    """Repairs one recording.

    Args:
        layout: of the recording.
        policy: how its files are kept.
        recover: stores what a journal holds.
        take_over: True to take slots that another machine was the last to hold.
    """

    def __init__(
        self, layout: Layout, policy: FilePolicy, recover: Recover, take_over: bool = False
    ) -> None:
        self._layout = layout
        # A repair rotates and deletes nothing by age or size.
        self._policy = policy._replace(
            rotate_age=_NEVER, retain_size=None, retain_age=None, parquet=False
        )
        self._recover = recover
        self._take_over = take_over
        self._damaged = layout.damaged

    def run(self) -> Iterator[Action]:
        """Repair the recording; yield what is done.

        Raises:
            StorageError: the recording cannot be read at all.
        """
        for slot in self._layout.slots():
            yield from self._slot(slot)
        yield from self._sealed()

    def _slot(self, number: int) -> Iterator[Action]:
        journal = self._layout.journal(number)
        lock = journal / LOCK
        if (reason := find_directory_obstacle(journal)) is not None:
            moved = self._set_aside(journal, reason, stat.S_ISDIR)
            yield moved
            if moved.has_failed:
                return
        elif (reason := find_obstacle(lock)) is not None and not is_owned(journal):
            yield self._set_aside(lock, reason, stat.S_ISREG)
        try:
            slot = take_slot(self._layout, number, self._take_over)
        except SlotTakenError as error:
            code = ActionCode.LEFT_IN_USE if error.is_in_use else ActionCode.LEFT_TO_OTHERS
            yield Action(code, journal)
            return
        except StorageError as error:
            yield Action(ActionCode.FAILED, journal, detail=str(error))
            return
        try:
            yield from self._held(slot)
        finally:
            slot.release()

    def _held(self, slot: Slot) -> Iterator[Action]:
        target = SlotTarget(self._layout, self._policy, slot)
        try:
            obstacles = self._obstacles(slot)
            yield from obstacles
            if any(action.has_failed for action in obstacles):
                return
            recovery = self._journal(slot, target)
            yield from recovery
            if not any(action.has_failed for action in recovery):
                yield from self._files(slot, target)
        except (OSError, StorageError) as error:
            yield Action(ActionCode.FAILED, slot.directory, detail=_describe_failure(error))
        finally:
            target.release_slot()

    def _obstacles(self, slot: Slot) -> list[Action]:
        """Move what is in the place of the slot's files, before anything is stored into them."""
        found = [self._layout.file(signal, slot.number) for signal in Signal]
        done = [
            self._set_aside(path, reason, stat.S_ISREG)
            for path in found
            if (reason := find_obstacle(path, FOLLOWING_FLAGS)) is not None
        ]
        for name in sorted(list_directory(slot.directory)):
            path = slot.directory / name
            if classify_journal_file(name).kind in DATA_KINDS:
                reason = find_obstacle(path)
                if reason is not None:
                    done.append(self._set_aside(path, reason, stat.S_ISREG))
        return done

    def _journal(self, slot: Slot, target: SlotTarget) -> list[Action]:
        """Empty the slot's journal, if it holds anything."""
        (state,) = [s for s in inspect_slots(self._layout) if s.number == slot.number]
        if not state.size:
            return []
        records, damaged, failure = self._recover(slot, target)
        done = []
        if records or not failure:
            done.append(Action(ActionCode.RECOVERED, slot.directory, records))
        if damaged:
            done.append(Action(ActionCode.LOST, slot.directory, damaged))
        if failure:
            done.append(Action(ActionCode.NOT_ALL_STORED, slot.directory, detail=failure))
        return done

    def _files(self, slot: Slot, target: SlotTarget) -> Iterator[Action]:
        for entry in list(list_entries(self._layout)):
            if entry.path.parent == slot.directory:
                yield from self._beside(entry, target)
        target.release_slot()  # closes its files, which are replaced now
        for signal in Signal:
            path = self._layout.file(signal, slot.number)
            for left in remove_temporary_files(path):
                yield Action(ActionCode.REMOVED, left)
            if path.exists() and not path.is_symlink():
                sealed = self._layout.sealed
                rewritten = rewrite_active(
                    path, signal, slot.number, parse_line, sealed, self._damaged
                )
                yield from _actions_for(path, rewritten)

    def _set_aside(self, path: Path, reason: str, is_right: Callable[[int], bool]) -> Action:
        """Move what cannot be read, unless it is the right thing and only must be made readable.

        Args:
            path: the place of a file or a directory.
            reason: why what is there cannot be read.
            is_right: returns True for the mode of what belongs there.
        """
        try:
            if not is_right(os.lstat(path).st_mode):
                kept = move_to_damaged(path, self._damaged)
                return Action(ActionCode.SET_ASIDE, path, target=kept, detail=reason)
        except OSError as error:
            return Action(ActionCode.FAILED, path, detail=_describe_failure(error))
        detail = f"cannot be read: {reason}; make it readable, and run this again"
        return Action(ActionCode.FAILED, path, detail=detail)

    def _beside(self, entry: FileEntry, target: SlotTarget) -> Iterator[Action]:
        path, state = entry
        if state is FileState.STALE:
            path.unlink(missing_ok=True)
            yield Action(ActionCode.REMOVED, path)
        elif state is FileState.QUARANTINED:
            records = 0
            is_segment = classify_journal_file(path.name).former_kind is JournalFileKind.SEGMENT
            if is_segment and find_obstacle(path) is None:
                records = store_quarantined(path, target)
                target.sync()
            kept = move_to_damaged(path, self._damaged)
            yield Action(ActionCode.MOVED_FILE, path, records, kept)

    def _sealed(self) -> Iterator[Action]:
        directory = self._layout.sealed
        if (reason := find_directory_obstacle(directory)) is not None:
            yield self._set_aside(directory, reason, stat.S_ISDIR)
            return
        if not directory.is_dir():
            return
        lock = os.open(directory, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        try:
            if not lock_file(lock):
                yield Action(ActionCode.LEFT_TO_REPAIR, directory)
                return
            yield from self._seal()
            yield from self._mend_sealed()
            yield from self._index_sealed()
        except OSError as error:
            yield Action(ActionCode.FAILED, directory, detail=_describe_failure(error))
        finally:
            os.close(lock)

    def _seal(self) -> Iterator[Action]:
        sealer = Sealer(self._layout, self._policy)
        not_needed = (FileState.STALE, FileState.ORPHANED)
        left = [entry for entry in list_entries(self._layout) if entry.state in not_needed]
        sealer.run()
        if sealed := sealer.stats().sealed:
            yield Action(ActionCode.SEALED, self._layout.sealed, sealed)
        for path, state in left:
            if path.parent == self._layout.sealed:
                path.unlink(missing_ok=True)
                is_stale = state is FileState.STALE
                yield Action(ActionCode.REMOVED if is_stale else ActionCode.REMOVED_ORPHAN, path)

    def _mend_sealed(self) -> Iterator[Action]:
        names = [SealedName.parse(path.name) for path in sorted(self._layout.sealed.iterdir())]
        known = [name for name in names if name is not None]
        # A waiting file is being sealed by another process, or could not be sealed.
        waiting = {(name.signal, name.id) for name in known if name.is_waiting}
        for name in known:
            path = self._layout.sealed / str(name)
            if (reason := find_obstacle(path, FOLLOWING_FLAGS)) is not None:
                yield self._set_aside(path, reason, stat.S_ISREG)
                continue
            if (name.signal, name.id) in waiting or path.is_symlink() or not _can_read(name):
                continue
            try:
                yield from _actions_for(path, rewrite_sealed(path, name, parse_line, self._damaged))
            except FileNotFoundError:  # a living process's retention was faster
                continue

    def _index_sealed(self) -> Iterator[Action]:
        for found in list_sealed(self._layout.sealed):
            if found.name.is_waiting or not _can_read(found.name):
                continue
            try:
                if find_index_fault(found.path, found.name) is not None:
                    make_index(found.path, found.name)
                    path = index_path(found.path, found.name)
                    yield Action(ActionCode.INDEXED, path, 1)
            except FileNotFoundError:  # a living process's retention was faster
                continue


def _can_read(name: SealedName) -> bool:
    return name.compression != "zstd" or find_spec("zstandard") is not None


def _actions_for(path: Path, rewritten: Rewritten | None) -> Iterator[Action]:
    if rewritten is None:
        return
    if rewritten.path == path and rewritten.kept is None:
        yield Action(ActionCode.ENDED, path, 1)
    elif rewritten.kept is None:
        yield Action(ActionCode.RENAMED, path, target=rewritten.path)
    else:
        yield Action(ActionCode.MOVED_LINES, path, rewritten.damaged, rewritten.kept)


def _describe_failure(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"cannot repair {error.filename}: {error.strerror}"
    return str(error)
