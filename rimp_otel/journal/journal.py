"""The journal: a collector's buffer on disk, appended to without a lock.

Which thread calls what of ``Journal``, and what it may meet there:

======================== ==================== ============= ======================== ==============
method                   threads              lock          may block                may raise
======================== ==================== ============= ======================== ==============
append, append_all       any (1)              (2), to open  on the disk, to open or  nothing
                                              only          to make a segment
append_known,            any (1)              none          no                       nothing
append_span, learn_head,
mark_span_ending,
mark_span_recorded
add_open_span            any (1)              (2), to open  on the disk, to open     nothing
                                              only
open                     any (1), and the     (2)           on the disk; 1 s while   nothing: it
                         draining one                       another thread opens it  reports
is_open, is_full,        any (1)              none          no                       nothing
capacity, damaged,
note_in_memory
segments, finished,      the draining one     none          no                       nothing
recovered, mark_alive,
next_generation,
allocated
prepare                  the draining one     none          on the disk              nothing: it
                                                                                     reports
delete_finished          the draining one     none          on the disk              OSError
checkpoint               any that may block   (2)           on the disk              nothing: it
                                                                                     reports
sync_checkpoint          the draining one     none          on the disk              OSError
close                    the draining one     (2)           on the disk, and while   OSError,
                                                            another thread opens it  StorageError
reset_after_fork         the only one of a    none          no                       nothing
                         forked child
======================== ==================== ============= ======================== =======
(1) Also signal handlers and finalisers, at any moment, even in the middle of another call.
(2) ``_lifecycle``, which is reentrant: code that interrupts its holder sees ``_opening``.

"Nothing" is raised by the journal itself; an exception of a signal handler goes to the application.

``append``, ``append_known`` and ``append_span`` raise RecursionError and MemoryError where the application has
left no room on the stack, or in memory; then the record is not in the journal.

``append`` needs no lock, since each step that others can see is one call into C, which nothing
interrupts: ``Segment.write`` takes the place and copies the bytes in one, ``_active`` is replaced
in one. If two threads find a segment full, both may make the next one; both segments are drained.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Hashable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from rimp_otel.errors import StorageError
from rimp_otel.journal.checkpoint import MetricCheckpoint, encode_checkpoint
from rimp_otel.journal.format import (
    FRAME_SEPARATOR,
    HEADER_SIZE,
    SIGNAL_TAGS,
    encode_definition,
)
from rimp_otel.journal.interrupted import CrashFile
from rimp_otel.journal.open_spans import OpenSpanTable
from rimp_otel.journal.recovery import Recovered, next_file_number, recover_slot
from rimp_otel.journal.segment import Segment
from rimp_otel.journal.target import JournalTarget
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import EncodedRecord, RecordEnvelopes
from rimp_otel.otlp.values import to_bytes
from rimp_otel.process import Reporter, make_process_mark

__all__ = ["Journal"]

_LARGEST_SEGMENT = 4 * 1024 * 1024
_MANY_SEGMENTS, _FACTOR = 16, 4
# To append many records to a segment that others append to.
_MAX_ATTEMPTS = 3
# Seconds.
_PAUSE_AFTER_FAILURE = 1.0
_MAX_OPENING_WAIT = 1.0
# One over the part of its size that may be kept although it is stored.
_FINISHED_PART = 8
_SPAN_TAG = SIGNAL_TAGS[Signal.TRACES]


class Journal:
    """Holds records until they are stored, in files that survive the process.

    ``append`` takes no lock, and is safe from any thread, signal handler or finaliser; the table at
    the top of this module says which thread may call what else.

    Args:
        target: where it lives. Its slot is taken with the first record, or by ``open``.
        size: bytes that it may take on disk; past it ``append`` refuses.
        reporter: reports what cannot be written.
        open_spans: record the spans that have started, in a table beside the segments.
        crashes: have ``faulthandler`` write into a file beside the segments.
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
        #: True if it records the spans that have started.
        self.records_open_spans = open_spans
        self._records_crashes = crashes
        #: Segments and tables of an earlier process that were found damaged.
        self.damaged = 0
        self._reset()

    def reset_after_fork(self) -> None:
        """Close everything in a forked child, whose parent goes on with it."""
        for segment in [*self.segments, *self.finished, *self._spares]:
            segment.close()
        for file in (self.open_spans, self._crash_file, self._checkpoint):
            if file is not None:
                file.release()
        self._reset()

    def _reset(self) -> None:
        #: Oldest first. Appended to by whoever needs room, taken from by the one that drains.
        self.segments: deque[Segment] = deque()
        #: What the last owner of the slot left.
        self.recovered = Recovered([], 0)
        #: Drained, and waiting to be deleted.
        self.finished: deque[Segment] = deque()
        self.open_spans: OpenSpanTable | None = None
        self._crash_file: CrashFile | None = None
        self._checkpoint: MetricCheckpoint | None = None
        # What it holds.
        self._points: Sequence[EncodedRecord] = ()
        self._spares: deque[Segment] = deque()
        self._active: Segment | None = None
        self._directory: Path | None = None
        self._is_ours = make_process_mark()
        self._lifecycle = threading.RLock()
        self._opening = False
        self._is_held_up = False
        self._not_before = 0.0
        self._in_memory = 0
        #: True while it refuses records because its size is reached.
        self.is_full = False

    @property
    def is_open(self) -> bool:
        """True if there is a segment to append to."""
        return self._active is not None and bool(self._is_ours[0])

    def append(self, tag: str, record: EncodedRecord) -> bool:
        """Append a record; return False if that is not possible.

        Args:
            tag: its signal's, of ``SIGNAL_TAGS``.
            record: its text, and what it belongs to.
        """
        _, resource, scope, metric, text = record
        envelopes = (resource, scope, metric)
        # A fork from C runs no hooks.
        segment = self._active if self._is_ours[0] else None
        while True:
            if segment is None:
                segment = self._open_if_closed()
                if segment is None:
                    return False
            head, definition = segment.frame_head(tag, envelopes)
            frame = f"{definition}{head}{text}\n"
            try:
                encoded = frame.encode()
            except UnicodeEncodeError:
                encoded = to_bytes(frame)
            try:
                segment.write(encoded)
            except MemoryError:
                if not segment.holds(encoded):
                    raise
            except ValueError:  # full, or frozen
                # In the next segment it comes with its definition.
                more = 0 if definition else len(to_bytes(encode_definition(0, envelopes)))
                segment = self._next_segment(segment, len(encoded) + more)
                if segment is None and self._active is not None:
                    return False
                continue
            if definition:
                try:
                    segment.set_head(tag, envelopes, head)
                except (RecursionError, MemoryError):
                    pass  # the next record defines it anew
            return True

    def append_all(self, tag: str, records: Sequence[EncodedRecord]) -> bool:
        """Append records of one signal in one write; return False if none of them could be.

        Args:
            tag: their signal's, of ``SIGNAL_TAGS``.
            records: their texts, and what they belong to.
        """
        if not records:
            return True
        segment = self._active if self._is_ours[0] else None
        frames = b""
        for _ in range(_MAX_ATTEMPTS):
            if segment is None:
                segment = self._open_if_closed()
                if segment is None:
                    return False
            frames, defined = _join_frames(segment, tag, records)
            try:
                _write_frames(segment, tag, frames, defined)
            except ValueError:  # full, or frozen
                full, segment = segment, self._active
                if segment is full:
                    break
            else:
                return True
        return self._append_in_new_segment(tag, records, len(frames))

    def _append_in_new_segment(
        self, tag: str, records: Sequence[EncodedRecord], needed: int
    ) -> bool:
        """Append records to a segment that nobody else knows before they are in it.

        Joining many takes a while, in which others would fill a segment that they know, each time.
        """
        # It has none of the definitions that the one before may have had.
        more = sum(len(to_bytes(encode_definition(0, key))) + 20 for key in _owners(records))
        following = self._make_room(needed + more + HEADER_SIZE)
        if following is None:
            return False
        try:
            frames, defined = _join_frames(following, tag, records)
            _write_frames(following, tag, frames, defined)
        finally:
            # In any case: it takes its room on disk.
            self.segments.append(following)
            self._active = following
        return True

    def append_known(self, tag: str, key: Hashable, resource: object, text: str) -> bool:
        """Append a record in a fifth of the time of ``append``, if its head is known.

        Args:
            tag: its signal's.
            key: as given to ``learn_head``.
            resource: the object that the head was learnt with.
            text: the record's.

        Returns:
            False if the caller must ``append`` it.
        """
        segment = self._active
        if segment is None or not self._is_ours[0]:
            return False
        known = segment.known[tag].get(key)
        if known is None or known[1] is not resource:
            return False
        try:
            frame = f"{known[0]}{text}\n".encode()
        except ValueError:  # a lone surrogate
            return False
        try:
            segment.write(frame)
        except ValueError:  # full, or frozen
            return False
        except MemoryError:
            return segment.holds(frame)
        return True

    def append_span(self, span: Any, resource: object, scope: object, text: str) -> bool:
        """Append a span that has ended as ``append_known`` does, and free its entry once it is in."""
        spans = self.open_spans
        if spans is None or not self._is_ours[0]:
            return self.append_known(_SPAN_TAG, id(scope), resource, text)
        key = spans.mark_ending(span)
        is_in = self.append_known(_SPAN_TAG, id(scope), resource, text)
        if is_in and key is not None:
            try:
                spans.remove(key)
            except (RecursionError, MemoryError):
                pass  # the span is recorded
        return is_in

    def mark_span_ending(self, span: Any) -> tuple[int, int] | None:
        """Note that a span's end is about to be appended.

        Returns:
            What to give to ``mark_span_recorded`` once it has been.
        """
        spans = self.open_spans
        return None if spans is None or not self._is_ours[0] else spans.mark_ending(span)

    def mark_span_recorded(self, key: tuple[int, int] | None) -> None:
        """Note that a span's end has been appended."""
        spans = self.open_spans
        if key is not None and spans is not None:
            spans.remove(key)

    def add_open_span(self, span: Any) -> None:
        """Record a span that has started, if open spans are recorded."""
        if self.records_open_spans:
            if self._active is None or not self._is_ours[0]:
                self.open()
            if self.open_spans is not None:
                self.open_spans.add(span)

    def learn_head(
        self, tag: str, key: Hashable, resource: object, owner: object, record: EncodedRecord
    ) -> None:
        """Have ``append_known`` know the head of a record that has been appended.

        Args:
            tag: its signal's.
            key: tells its scope, and its metric, from all others of the signal.
            resource: compared by identity.
            owner: kept as long as the key is known, for keys that are identities.
            record: the record.
        """
        segment = self._active
        if segment is not None:
            head = segment.heads.get((tag, (record.resource, record.scope, record.metric)))
            if head is not None:
                segment.known[tag][key] = head, resource, owner

    def _next_segment(self, segment: Segment, needed: int) -> Segment | None:
        """Return the segment to go on with; make one if nobody else has."""
        active = self._active
        if active is not segment:
            return active
        following = self._make_room(needed + HEADER_SIZE)
        if following is not None:
            self.segments.append(following)
            # Two threads may do this at once: the segment of one of them is drained as it is.
            self._active = following
        return following

    def _make_room(self, needed: int) -> Segment | None:
        """Return an empty segment of so many bytes: the spare, or one that is made now."""
        usual = self._segment_size
        # Larger if many wait: before Python 3.13, each that is mapped holds a descriptor.
        wanted = usual * _FACTOR if len(self.segments) >= _MANY_SEGMENTS else usual
        if wanted > usual or needed > usual:
            following = self._create_segment(max(wanted, needed))
            if following is not None or needed > usual:
                return following
        try:
            following = self._spares.pop()
        except IndexError:
            return self._create_segment(usual)
        self.is_full = False  # if a larger one is refused, the spare is there all the same
        return following

    def _create_segment(self, size: int) -> Segment | None:
        if self.is_full or time.monotonic() < self._not_before:
            return None
        if self.allocated + size > self._limit:
            # Noted, not found out again for each record. One record may be too large alone.
            self.is_full = size <= self._limit
            return None
        if self._directory is None:
            return None
        try:
            return Segment.create(self._directory, next(self._numbers), size)
        except OSError as error:
            self._report_failure(error)
            return None

    def _report_failure(self, error: BaseException) -> None:
        self._not_before = time.monotonic() + _PAUSE_AFTER_FAILURE
        self._reporter.warn("journal", f"the journal cannot be written: {error}")

    def note_in_memory(self, records: int) -> None:
        """Note how many records wait in memory, for readers and for the next owner of the slot."""
        self._in_memory = records
        active = self._active
        if active is not None and self._is_ours[0]:
            try:
                active.header.waiting_in_memory = records
            except ValueError:  # closed meanwhile
                pass

    def checkpoint(self, points: Sequence[EncodedRecord]) -> bool:
        """Keep data points for the next owner of the slot, should this process die.

        Args:
            points: replace those that were kept before; empty if all is stored.

        Returns:
            False if that was not possible; then those from before are still kept.
        """
        frames = encode_checkpoint(points)
        with self._lifecycle:
            self._points = points
            file = self._checkpoint if self.is_open else None
            if not frames:
                return file is None or self._write_checkpoint(file, frames)
            if not self.is_open:
                self.open()
            if self._active is None or self._directory is None:
                return False
            if file is not None and len(frames) <= file.room:
                return self._write_checkpoint(file, frames)
            try:
                number = next(self._numbers)
                following = MetricCheckpoint.create(self._directory, number, len(frames))
            except OSError as error:
                self._reporter.warn("checkpoint", f"measurements are not safe yet: {error}")
                return False
            # Both are there for a moment: a death then stores the older points as well.
            self._write_checkpoint(following, frames)
            self._checkpoint = following
            if file is not None:
                file.close()
            return True

    def _write_checkpoint(self, file: MetricCheckpoint, frames: bytes) -> bool:
        try:
            file.write(frames)
        except ValueError:  # closed meanwhile
            return False
        return True

    def sync_checkpoint(self) -> None:
        """Force the points that are kept to the device."""
        checkpoint = self._checkpoint
        if checkpoint is not None:
            try:
                checkpoint.sync()
            except FileNotFoundError:  # replaced by a larger one meanwhile
                pass

    def delete_finished(self) -> None:
        """Delete the segments that have been drained."""
        spans = self.open_spans
        size = sum(segment.size for segment in self.finished)
        if spans is not None and spans.is_ending and size <= self._limit // _FINISHED_PART:
            # One of them may hold the frame of a span that the table still calls unfinished. Up to a
            # bound: if an exception of a signal handler broke its end off, the entry stays so.
            return
        while self.finished:
            self.finished.popleft().delete()
        self.is_full = False

    @property
    def allocated(self) -> int:
        """Bytes that the segments take on disk."""
        kept = [*self.segments, *self.finished, *self._spares]
        return sum(segment.size for segment in kept)

    @property
    def capacity(self) -> int:
        """Bytes that the segments may take on disk."""
        return self._limit

    # Which segments there are.

    def open(self) -> Recovered | None:
        """Take the slot, and what its last owner left there. Does nothing if it is open.

        Returns:
            What was found; None if it was open, or could not be opened.
        """
        if not self._is_ours[0]:
            self.reset_after_fork()
        # Once, not for each record, where another thread does it and the file system hangs.
        if not self._lifecycle.acquire(timeout=0.0 if self._is_held_up else _MAX_OPENING_WAIT):
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
                self._report_failure(error)
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
        self._create_companions(self._directory)
        active = Segment.create(self._directory, next(self._numbers), self._segment_size)
        if not self.segments:
            ends = self._target.ends()
            active.header.set_synced({}, ends)
            active.header.set_file_ends(ends, self.next_generation())
        self.segments.append(active)
        self._active = active
        return recovered

    def _recover(self) -> Recovered:
        slot = self._target.take_slot()
        directory = slot.directory
        recovered = recover_slot(slot, self._target, self._reporter)
        slot.confirm()
        self.damaged += recovered.damaged
        if lost := max((s.header.waiting_in_memory for s in recovered.segments), default=0):
            self._reporter.warn(
                "in memory",
                f"{lost} record{'s' * (lost != 1)} had no room on disk when the process ended that"
                " recorded here before: what waited in its memory is lost",
            )
        self._numbers = count(next_file_number(directory))
        generations = [segment.state().generation for segment in recovered.segments]
        self._generations = count(max(generations, default=0) + 1)
        # Also where the disk is full: what the last owner left is drained all the same.
        self.segments.extend(recovered.segments)
        self.recovered = recovered
        self._directory = directory
        return recovered

    def _create_companions(self, directory: Path) -> None:
        """Make the files beside segments that are of use after a death."""
        wants_spans = self.records_open_spans and self.open_spans is None
        wants_crashes = self._records_crashes and self._crash_file is None
        if not (wants_spans or wants_crashes):
            return
        number = next(self._numbers)
        try:
            if wants_spans:
                self.open_spans = OpenSpanTable.create(directory, number)
            if wants_crashes:
                self._crash_file = CrashFile.create(directory, number)
        except (OSError, RuntimeError) as error:
            self._reporter.warn("beside", f"open spans or crashes are not recorded: {error}")

    def next_generation(self) -> int:
        """Return a number that is higher than all before."""
        return next(self._generations)

    def prepare(self) -> None:
        """Make the spare segment, if there is none: on a disk that is full then, or with no descriptor
        left, records have room in it.

        If somebody has removed the journal's directory, make it anew.
        """
        if self._active is None:
            return
        if not os.path.lexists(self._active.path):
            self._move_to_new_directory()
        # Two threads, or a thread and what interrupts it, may have begun one at once.
        active = self._active = self.segments[-1]
        for segment in list(self.segments):
            segment.header.waiting_in_memory = self._in_memory if segment is active else 0
        # A process that records nothing needs none.
        if self._spares or active.offset <= HEADER_SIZE:
            return
        if self.allocated + self._segment_size <= self._limit:
            spare = self._create_segment(self._segment_size)
            if spare is not None:
                self._spares.append(spare)

    def _move_to_new_directory(self) -> None:
        """Go on where a death of the process loses nothing again."""
        try:
            self._directory = self._target.take_slot().directory
        except StorageError as error:
            self._report_failure(error)
            return
        following = self._create_segment(self._segment_size)
        if following is None:
            return
        self.segments.append(following)
        with self._lifecycle:
            companions = (self.open_spans, self._crash_file, self._checkpoint)
            self.open_spans = self._crash_file = self._checkpoint = None
            for file in companions:
                if file is not None:
                    file.release()
            self._create_companions(self._directory)
            self.checkpoint(self._points)

    def mark_alive(self) -> None:
        """Note that the process lives, if a span is open that would end with it."""
        spans = self.open_spans
        if spans is not None and spans.tracked:
            spans.mark_alive(time.time_ns())

    def close(self) -> bool:
        """Delete the journal's files and release its slot, if all of it has been drained.

        Returns:
            False if something has not been: then it stays open.
        """
        with self._lifecycle:
            active = self._active
            if active is None:
                return not self.segments
            if list(self.segments) != [active]:
                return False
            self._active = None
            active.freeze()
            end = active.frames_end()
            if any(active.header.stored_until(signal) < end for signal in Signal):
                if self._active is None:
                    active.unfreeze()
                    self._active = active
                return False
            return self._delete_all(active)

    def _delete_all(self, active: Segment) -> bool:
        """Return False if a finaliser, or a signal handler, has begun another segment meanwhile."""
        companions = (self.open_spans, self._crash_file, self._checkpoint)
        self.open_spans = self._crash_file = self._checkpoint = None
        for file in companions:
            if file is not None:
                file.close()
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


def _join_frames(
    segment: Segment, tag: str, records: Sequence[EncodedRecord]
) -> tuple[bytes, dict[RecordEnvelopes, str]]:
    """Return the frames of records, and the heads that are defined in them."""
    defined: dict[RecordEnvelopes, str] = {}
    parts: list[str] = []
    last: tuple[object, object, object] = (parts, parts, parts)
    head = ""
    for _, resource, scope, metric, text in records:
        # Most records have the same envelopes as the one before.
        if resource is not last[0] or scope is not last[1] or metric is not last[2]:
            last = envelopes = (resource, scope, metric)
            known = defined.get(envelopes)
            if known is None:
                known, definition = segment.frame_head(tag, envelopes)
                if definition:
                    defined[envelopes] = known
                    parts.append(definition)
            head = known
        parts.append(f"{head}{text}{FRAME_SEPARATOR}")
    parts[-1] = parts[-1].removesuffix(FRAME_SEPARATOR) + "\n"
    frames = "".join(parts)
    try:
        return frames.encode(), defined
    except UnicodeEncodeError:  # a lone surrogate
        return to_bytes(frames), defined


def _write_frames(
    segment: Segment, tag: str, frames: bytes, defined: dict[RecordEnvelopes, str]
) -> None:
    """Write frames, and note the heads that are defined in them.

    Raises:
        ValueError: the segment is full, or frozen.
        MemoryError: they are not written.
    """
    try:
        segment.write(frames)
    except MemoryError:
        if not segment.holds(frames):
            raise
    try:
        for envelopes, head in defined.items():
            segment.set_head(tag, envelopes, head)
    except (RecursionError, MemoryError):
        pass  # the next record defines it anew


def _owners(records: Sequence[EncodedRecord]) -> set[RecordEnvelopes]:
    return {(record.resource, record.scope, record.metric) for record in records}
