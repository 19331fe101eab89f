"""The journal: a collector's buffer on disk, appended to without a lock."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Hashable
from itertools import count
from pathlib import Path
from typing import Any

from rimp_otel.errors import StorageError
from rimp_otel.journal.format import HEADER_SIZE, LETTERS
from rimp_otel.journal.format import definition as definition_of
from rimp_otel.journal.interrupted import CrashFile
from rimp_otel.journal.open_spans import OpenSpans
from rimp_otel.journal.recovery import Recovered, next_number, recover
from rimp_otel.journal.segment import Segment
from rimp_otel.journal.target import JournalTarget
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import EncodedRecord
from rimp_otel.otlp.values import to_bytes
from rimp_otel.process import Reporter, process_mark

__all__ = ["Journal"]

_LARGEST_SEGMENT = 4 * 1024 * 1024
_MANY_SEGMENTS, _FACTOR = 16, 4
_PAUSE_AFTER_ERROR = 1.0
_LONGEST_WAIT = 1.0
# The part of its size that may be kept although it is stored.
_MOST_FINISHED = 8
_SPAN = LETTERS[Signal.TRACES]


class Journal:
    """Holds records until they are stored, in files that survive the process.

    ``append`` takes no lock, waits for nothing, and is safe from any thread, signal handler or
    finaliser. All else is for the one that drains, one thread at a time.

    Args:
        target: where it lives. Its slot is taken with the first record, or by ``open``.
        size: bytes that it may take on disk; past it ``append`` refuses.
        reporter: says what cannot be written.
        open_spans: whether to note spans that have started.
        crashes: whether to have ``faulthandler`` write into it.
    """

    def __init__(
        self,
        target: JournalTarget,
        size: int,
        reporter: Reporter,
        open_spans: bool = True,
        crashes: bool = False,
    ) -> None:
        self._target = target
        self._limit = size
        self._segment_size = min(_LARGEST_SEGMENT, max(size // 8, 64 * 1024))
        self._reporter = reporter
        #: Whether it does.
        self.notes_open_spans = open_spans
        self._notes_crashes = crashes
        #: Segments that were found damaged and put aside.
        self.damaged = 0
        self._reset()

    def renew(self) -> None:
        """Lets go of everything, as in a forked child, whose parent goes on with it."""
        for segment in [*self.segments, *self.finished, *self._spares]:
            segment.close()
        for note in (self.open_spans, self._crash_file):
            if note is not None:
                note.abandon()
        self._reset()

    def _reset(self) -> None:
        #: Oldest first. Appended to by whoever needs room, taken from by the one that drains.
        self.segments: deque[Segment] = deque()
        #: What the last owner of the slot left.
        self.recovered = Recovered([], 0)
        #: Drained, and waiting to be deleted.
        self.finished: deque[Segment] = deque()
        self.open_spans: OpenSpans | None = None
        self._crash_file: CrashFile | None = None
        self._spares: deque[Segment] = deque()
        self._active: Segment | None = None
        self._directory: Path | None = None
        self._is_ours = process_mark()
        self._lifecycle = threading.RLock()
        self._opening = False
        self._is_held_up = False
        self._not_before = 0.0
        #: Whether it refuses records because its size is reached.
        self.is_full = False

    @property
    def is_open(self) -> bool:
        """Whether there is a segment to append to."""
        return self._active is not None and bool(self._is_ours[0])

    def append(self, signal: str, fragment: EncodedRecord) -> bool:
        """Takes in a record; False where it cannot.

        Args:
            signal: its letter, of ``frames.LETTERS``.
            fragment: its text.
        """
        _, resource, scope, metric, text = fragment
        origin = (resource, scope, metric)
        # A fork from C runs no hooks.
        segment = self._active if self._is_ours[0] else None
        while True:
            if segment is None:
                segment = self._open_if_closed()
                if segment is None:
                    return False
            head, definition = segment.head(signal, origin)
            frame = f"{definition}{head}{text}\n"
            try:
                encoded = frame.encode()
            except UnicodeEncodeError:
                encoded = to_bytes(frame)
            try:
                segment.write(encoded)
            except ValueError:  # full, or sealed
                # In the next segment it comes with its definition.
                more = 0 if definition else len(to_bytes(definition_of(0, origin)))
                segment = self._after(segment, len(encoded) + more)
                if segment is None and self._active is not None:
                    return False
                continue
            if definition:
                segment.define(signal, origin, head)
            return True

    def append_known(self, letter: str, key: Hashable, resource: object, text: str) -> bool:
        """Takes in a record in a fifth of the time of ``append``, where ``learn`` was called for
        its origin; False where the caller must ``append`` it.

        Args:
            letter: its signal's.
            key: as given to ``learn``.
            resource: the object that it was learnt with.
            text: the record's.
        """
        segment = self._active
        if segment is None or not self._is_ours[0]:
            return False
        known = segment.known[letter].get(key)
        if known is None or known[1] is not resource:
            return False
        try:
            segment.write(f"{known[0]}{text}\n".encode())
        except ValueError:  # full, or sealed, or a lone surrogate
            return False
        return True

    def append_ended(self, span: Any, resource: object, scope: object, text: str) -> bool:
        """The same for a span: its entry among the open ones is freed once it is in."""
        spans = self.open_spans
        if spans is None or not self._is_ours[0]:
            return self.append_known(_SPAN, id(scope), resource, text)
        key = spans.ending(span)
        is_in = self.append_known(_SPAN, id(scope), resource, text)
        if is_in and key is not None:
            spans.free(key)
        return is_in

    def ending(self, span: Any) -> tuple[int, int] | None:
        """Says that a span's end is about to be appended; returns what ``ended`` is to be given."""
        spans = self.open_spans
        return None if spans is None or not self._is_ours[0] else spans.ending(span)

    def ended(self, key: tuple[int, int] | None) -> None:
        """Says that it has been."""
        spans = self.open_spans
        if key is not None and spans is not None:
            spans.free(key)

    def span_started(self, span: Any) -> None:
        """Notes an open span, where that is done."""
        if self.notes_open_spans:
            if self._active is None or not self._is_ours[0]:
                self.open()
            if self.open_spans is not None:
                self.open_spans.opened(span)

    def learn(
        self, letter: str, key: Hashable, resource: object, owner: object, fragment: EncodedRecord
    ) -> None:
        """Has ``append_known`` know the origin of a record that has been appended.

        Args:
            letter: its signal's.
            key: tells its scope, and its metric, from all others of the signal.
            resource: compared by identity.
            owner: kept as long as the key is known, for keys that are identities.
            fragment: the record.
        """
        segment = self._active
        if segment is not None:
            head = segment.heads.get((letter, (fragment.resource, fragment.scope, fragment.metric)))
            if head is not None:
                segment.known[letter][key] = head, resource, owner

    def _after(self, segment: Segment, needed: int) -> Segment | None:
        """The segment to go on with; makes one, where nobody else has."""
        active = self._active
        if active is not segment:
            return active
        size = max(self._following_size, needed + HEADER_SIZE)
        try:
            following = self._spares.pop() if size == self._segment_size else self._make(size)
        except IndexError:
            following = self._make(size)
        if following is not None:
            self.segments.append(following)
            # Two threads may do this at once: the segment of one of them is drained as it is.
            self._active = following
        return following

    @property
    def _following_size(self) -> int:
        """Larger ones far behind: before Python 3.13, each that is mapped holds a descriptor."""
        behind = len(self.segments) >= _MANY_SEGMENTS
        return self._segment_size * _FACTOR if behind else self._segment_size

    def _make(self, size: int) -> Segment | None:
        if self.is_full or time.monotonic() < self._not_before:
            return None
        if self.allocated + size > self._limit:
            # Said once, not found out again for each record. One may be too large alone.
            self.is_full = size <= self._limit
            return None
        if self._directory is None:
            return None
        try:
            return Segment.create(self._directory, next(self._numbers), size)
        except OSError as error:
            self._fail(error)
            return None

    def _fail(self, error: BaseException) -> None:
        self._not_before = time.monotonic() + _PAUSE_AFTER_ERROR
        self._reporter.say("journal", f"the journal cannot be written: {error}")

    def delete_finished(self) -> None:
        """Deletes what has been drained."""
        spans = self.open_spans
        size = sum(segment.size for segment in self.finished)
        if spans is not None and spans.is_ending and size <= self._limit // _MOST_FINISHED:
            # The frame may be in one of them of a span that its table still calls unfinished. Up to
            # a bound: where an exception of a signal handler's broke that off, it stays so.
            return
        while self.finished:
            self.finished.popleft().delete()
        self.is_full = False

    @property
    def allocated(self) -> int:
        """Bytes that its segments take on disk."""
        kept = [*self.segments, *self.finished, *self._spares]
        return sum(segment.size for segment in kept)

    @property
    def capacity(self) -> int:
        """Bytes that it may take on disk."""
        return self._limit

    # What follows changes which segments there are.

    def open(self) -> Recovered | None:
        """Takes the slot, and in it what its last owner left. Does nothing if it is open.

        Returns:
            What was found; None if it was open, or could not be opened.
        """
        if not self._is_ours[0]:
            self.renew()
        # Once, not for each record, where another thread does it and the file system hangs.
        if not self._lifecycle.acquire(timeout=0.0 if self._is_held_up else _LONGEST_WAIT):
            self._is_held_up = True
            return None
        self._is_held_up = False
        try:
            if self._active is not None or self._opening:
                return None  # also for a signal handler that interrupts the opening
            if time.monotonic() < self._not_before:
                return None
            self._opening = True
            try:
                return self._open()
            except Exception as error:
                self._fail(error)
                return None
            finally:
                self._opening = False
        finally:
            self._lifecycle.release()

    def _open_if_closed(self) -> Segment | None:
        self.open()
        return self._active

    def _open(self) -> Recovered | None:
        recovered = self._recover() if self._directory is None else None
        assert self._directory is not None
        self._note_beside(self._directory)
        active = Segment.create(self._directory, next(self._numbers), self._segment_size)
        if not self.segments:
            ends = self._target.ends()
            active.header.set_synced({}, ends)
            active.header.set_ends(ends, self.next_cycle())
        self.segments.append(active)
        self._active = active
        return recovered

    def _recover(self) -> Recovered:
        slot = self._target.take_slot()
        directory = slot.directory
        recovered = recover(slot, self._target, self._reporter)
        slot.confirm()
        self.damaged += recovered.damaged
        self._numbers = count(next_number(directory))
        self._cycles = count(max((s.state().cycle for s in recovered.segments), default=0) + 1)
        # Also where the disk is full: what the last owner left is drained all the same.
        self.segments.extend(recovered.segments)
        self.recovered = recovered
        self._directory = directory
        return recovered

    def _note_beside(self, directory: Path) -> None:
        """What else than records is of use after a death."""
        wants_spans = self.notes_open_spans and self.open_spans is None
        wants_crashes = self._notes_crashes and self._crash_file is None
        if not (wants_spans or wants_crashes):
            return
        number = next(self._numbers)
        try:
            if wants_spans:
                self.open_spans = OpenSpans.create(directory, number)
            if wants_crashes:
                self._crash_file = CrashFile.create(directory, number)
        except (OSError, RuntimeError) as error:
            self._reporter.say("beside", f"open spans or crashes are not recorded: {error}")

    def next_cycle(self) -> int:
        """A number that is higher than all before."""
        return next(self._cycles)

    def prepare(self) -> None:
        """Makes a spare segment, if one will be needed soon; and the journal's directory anew, if
        somebody has removed it."""
        if self._active is None:
            return
        if not os.path.lexists(self._active.path):
            self._move()
        # Two threads, or a thread and what interrupts it, may have begun one at once.
        active = self._active = self.segments[-1]
        if self._spares or active.position < active.size // 2:
            return
        spare = self._make(self._segment_size)
        if spare is not None:
            self._spares.append(spare)

    def _move(self) -> None:
        """Goes on where a death of the process loses nothing again."""
        try:
            self._directory = self._target.take_slot().directory
        except StorageError as error:
            self._fail(error)
            return
        following = self._make(self._segment_size)
        if following is None:
            return
        self.segments.append(following)
        notes = (self.open_spans, self._crash_file)
        self.open_spans = self._crash_file = None
        for note in notes:
            if note is not None:
                note.abandon()
        self._note_beside(self._directory)

    def set_alive(self) -> None:
        """Notes that the process lives, where a span is open that would end with it."""
        spans = self.open_spans
        if spans is not None and spans.tracked:
            spans.alive(time.time_ns())

    def close(self) -> bool:
        """Deletes its files and gives the slot back, if all of it has been drained.

        Returns:
            False where something has not been: then it stays open.
        """
        with self._lifecycle:
            active = self._active
            if active is None:
                return not self.segments
            if list(self.segments) != [active]:
                return False
            self._active = None
            active.seal()
            if any(active.header.done(signal) < active.end() for signal in Signal):
                if self._active is None:
                    active.unseal()
                    self._active = active
                return False
            return self._delete_all(active)

    def _delete_all(self, active: Segment) -> bool:
        """False where a finaliser, or a signal handler, has begun another segment meanwhile."""
        beside = (self.open_spans, self._crash_file)
        self.open_spans = self._crash_file = None
        for note in beside:
            if note is not None:
                note.close()
        for segments in (self.finished, self._spares):
            while segments:
                segments.popleft().delete()
        self.segments.remove(active)
        active.delete()
        self._opening = True  # what comes in from here on waits in memory
        try:
            if self._active is not None:
                return False
            self._directory = None
            self._target.release_slot()
            return True
        finally:
            self._opening = False
