"""From the journal into the storage: each slice once, whatever happens in between.

The steps of a slice, and what recovery concludes from a death of the process right after each:

========== ================================================ ======================================
step       what it does                                     what recovery then does
========== ================================================ ======================================
(before)   the slice is only in the segment                 stores it
1 intend   the header says which chunk is about to be       files: ``resolve_append`` looks at the
           stored, and where in the file it will start      file. It is not there: clears the
                                                            intent, stores it. Other storages: offer
                                                            the same chunk again, with the same
                                                            ``slice_id``
2 store    the lines are in the storage                     files: the whole write is there, so it
                                                            does step 3; a part of it is cut off,
                                                            and stored again. Other storages: offer
                                                            the slice again; they know its id
3 finish   the header says up to where the segment is       goes on after it
           stored and where the file ends; then the intent
           is cleared
4 sync     the storage is on the device, then the segments, goes on after it. After a loss of power
           then the headers' "at the last sync"             it goes back to the last sync, and looks
                                                            for each record in the storage before it
                                                            stores it
5 delete   the file of a segment that is stored to its end  nothing is left to do
           is removed
========== ================================================ ======================================

A segment is deleted only after a sync (unless the policy is "never"), and not while a span is being
recorded whose frame may be in it. Within step 3 the order of the stores makes a death harmless: see
``journal.format``.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from operator import attrgetter
from typing import NamedTuple

from rimp_otel.batch import TelemetryData, batch_of_lines, set_slice_id, skipped_count
from rimp_otel.collector.stats import RecordCounts
from rimp_otel.journal.format import SIGNAL_TAGS, Intent
from rimp_otel.journal.journal import Journal
from rimp_otel.journal.recovery import find_stored_records, segment_files
from rimp_otel.journal.segment import Segment, quarantine_file
from rimp_otel.journal.slices import Slice, Slicer, StoredRecords
from rimp_otel.journal.slots import Slot
from rimp_otel.journal.target import End, JournalTarget
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import LINE_SIZE, EncodedRecord, join_lines
from rimp_otel.process import Reporter
from rimp_otel.storage.base import TelemetryStorage
from rimp_otel.streaming.drain import BufferView, Drain

__all__ = ["JournalDrain", "Recovery", "recover_journal"]

_MAX_FINISHED = 4
# Segments that wait to be stored, and bytes.
_FAR_BEHIND, _LARGEST_SLICE = 3, 4 * 1024 * 1024
_MAX_ROUNDS = 10


class JournalDrain(Drain):
    """Empties a journal into its target, slice by slice; and what the journal could not take into
    the storage.

    Args:
        journal: what to empty.
        target: where it is drained into.
        counts: what becomes of the records.
        offer: called with each batch that was stored.
        reporter: reports what fails.
        buffer: what the journal could not take; None where nothing is collected.
        storage: what that is stored into; None where nothing is collected.
        sync_after: seconds between two syncs, 0 for one after each drain; None for no syncs.
        usual_slice: bytes of segments that are stored together if the drain is not far behind; by default, what
            the target says.
        clock: returns monotonic seconds.
    """

    def __init__(
        self,
        journal: Journal,
        target: JournalTarget,
        counts: RecordCounts,
        offer: Callable[[TelemetryData], object],
        reporter: Reporter,
        buffer: BufferView | None = None,
        storage: TelemetryStorage | None = None,
        sync_after: float | None = None,
        usual_slice: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._target = target
        self._sync_after = sync_after
        self._sync_due = 0.0
        self._usual_slice = target.slice_size if usual_slice is None else usual_slice
        super().__init__(buffer, storage, counts, offer, reporter, clock)

    def reset_after_fork(self) -> None:
        """Forget in a forked child what the parent was doing."""
        super().reset_after_fork()
        self._segment: Segment | None = None
        self._slicer: Slicer | None = None
        # Slicer of one chunk that are not dealt with yet.
        self._cut_slices: deque[Slice] = deque()
        self._counted: Slice | None = None
        # What is stored of it, if that was not noted yet, since there was no memory.
        self._unfinished: tuple[Slice, End, bool] | None = None
        self._damaged_segments: set[Segment] = set()
        self._slice_size = LINE_SIZE
        self._stored_records: StoredRecords | None = None
        self._synced_ends: dict[Signal, End] = {}
        # What each segment was when it was synced: its offset and its generation.
        self._synced: dict[Segment, tuple[int, int]] = {}

    def run_when_due(self) -> None:
        """Drain, unless the storage has just failed; sync if that is due."""
        super().run_when_due()
        with self._lock:
            self._journal.mark_alive()
            self._tidy_journal()  # also while the storage is down

    def run_if_free(self) -> None:
        """Drain, unless another thread is draining right now, and leave nothing behind on disk."""
        if sys.meta_path is None:
            return  # the interpreter takes itself apart: nothing can be imported, nor stored
        # Again, where another thread left its record to this one. But not for ever: what a thread
        # has counted that the interpreter's exit stopped before its append never comes.
        found = True
        while found and self._pending and self._lock.acquire(blocking=False):
            try:
                batches = self.batches
                if not self.run():
                    return
                self._journal.close()
                found = self.batches > batches
            finally:
                self._lock.release()

    def recover(self) -> None:
        """Take the journal's slot, and what its last owner left there."""
        self._journal.open()

    @property
    def damaged(self) -> int:
        """The number of an earlier process's segments and open-span tables that were damaged."""
        return self._journal.damaged

    @property
    def _pending(self) -> int:
        return self._counts.stats().pending

    def accept_points(self, data: TelemetryData) -> None:
        """Put data points that the stream collected into the journal."""
        encoded_records = data.encoded_records(Signal.METRICS)
        self.accept_encoded_points(encoded_records, skipped_count(data, Signal.METRICS))

    keeps_checkpoints = True

    def accept_encoded_points(self, records: list[EncodedRecord], failed: int = 0) -> bool:
        """Put encoded data points into the journal; return False if some wait in memory."""
        tag = SIGNAL_TAGS[Signal.METRICS]
        # Before they can be stored: what is pending is never less than nothing.
        self._counts.collect_points(len(records), failed)
        for taken, record in enumerate(records):
            if not self._journal.append(tag, record):
                rest = join_lines(Signal.METRICS, records[taken:])
                self._hold(TelemetryData.from_otlp_json(rest))
                return False
        return True

    def checkpoint(self, points: list[EncodedRecord]) -> bool:
        """Keep points in the journal's checkpoint."""
        return self._journal.checkpoint(points)

    def _store_waiting(self, taken: list[TelemetryData] | None) -> bool:
        try:
            return super()._store_waiting(taken) and self._store_journal(taken)
        finally:
            self._tidy_journal()

    def _store_journal(self, taken: list[TelemetryData] | None) -> bool:
        journal = self._journal
        # Many lines where it is far behind: each system call of a storage gives up the interpreter,
        # and gets it back late where other threads want it.
        is_far_behind = len(journal.segments) >= _FAR_BEHIND
        self._slice_size = _LARGEST_SLICE if is_far_behind else self._usual_slice
        # What arrives meanwhile is for the next time: this must end.
        for segment in list(journal.segments):
            if not self._store_segment(segment, taken):
                return False
            if segment is not journal.segments[-1]:
                # Frozen while it was drained, if it was not before: nothing is written any more.
                segment.freeze()
                if not self._store_segment(segment, taken):
                    return False
                self._finish_segment(segment)
        if self._buffer is not None:
            self._buffer.rearm()
        return True

    def _store_segment(self, segment: Segment, taken: list[TelemetryData] | None) -> bool:
        slicer = self._slicer_of(segment)
        end = slicer.end()
        while self._cut_slices or self._cut_chunk(slicer, end):
            while self._cut_slices:
                if not self._store_slice(segment, self._cut_slices[0], taken):
                    return False
                self._cut_slices.popleft()
            slicer.advance()
        return True

    def _cut_chunk(self, slicer: Slicer, end: int) -> bool:
        self._cut_slices.extend(slicer.cut(end, self._slice_size))
        return bool(self._cut_slices)

    def _slicer_of(self, segment: Segment) -> Slicer:
        if self._slicer is None or self._segment is not segment:
            if segment.is_recovered and self._stored_records is None:
                self._stored_records = find_stored_records(self._journal.recovered, self._target)
            self._segment, self._slicer = segment, Slicer(segment, self._stored_records)
        return self._slicer

    def _store_slice(
        self, segment: Segment, piece: Slice, taken: list[TelemetryData] | None
    ) -> bool:
        """Return True if the slice is dealt with: stored, or given up."""
        data = batch_of_lines(piece.signal, piece.lines, piece.records)
        if segment.is_recovered and piece is not self._counted:
            self._count_recovered(segment, piece)
        if self._unfinished is not None and self._unfinished[0] is piece:
            _, end, is_stored = self._unfinished
        else:
            end, is_stored = segment.header.file_end(piece.signal), bool(data)
            try:
                if is_stored:
                    end = self._store_data(segment, piece, data)
            except BaseException as error:
                if self._target.reverts_failed_store:
                    segment.header.clear_intent()
                if not self._give_up_or_wait(data, error):
                    return False
                is_stored = False
            self._unfinished = piece, end, is_stored
        self._finish_slice(segment, piece, end)
        if is_stored:
            self._count_stored(data)
            if taken is not None:
                taken.append(data)
        self._unfinished = None
        return True

    def _count_recovered(self, segment: Segment, piece: Slice) -> None:
        self._counted = piece
        self._counts.recover(piece.signal, piece.records, piece.damaged)
        if piece.damaged:
            self._damaged_segments.add(segment)
            what = "1 record is" if piece.damaged == 1 else f"{piece.damaged} records are"
            self._reporter.warn("damaged", f"{what} damaged in {segment.path}")

    def _store_data(self, segment: Segment, piece: Slice, data: TelemetryData) -> End:
        def before(start: End, length: int) -> None:
            segment.header.intend(Intent(piece.signal, piece.start, piece.stop, start, length))

        slice_id = f"{segment.identity}-{piece.signal.value}-{piece.start}-{piece.stop}"
        set_slice_id(data, slice_id)
        return self._target.store(piece.signal, data, before)

    def _finish_slice(self, segment: Segment, piece: Slice, end: End) -> None:
        old = segment.header.file_end(piece.signal)
        segment.header.finish(piece.signal, piece.stop, end, self._journal.next_generation())
        if end.file_id != old.file_id:
            # Another file was begun; the one before was synced when it was rotated.
            self._synced_ends[piece.signal] = start = End(end.file_id, 0)
            segment.header.set_synced({piece.signal: piece.start}, {piece.signal: start})

    def _finish_segment(self, segment: Segment) -> None:
        """Pass on what the header of a completely stored segment knows to the next one."""
        following = self._journal.segments[1]
        state = segment.state()
        # The files themselves know it better, where a loss of power was recovered from.
        ends = (self._target.ends() if segment.is_recovered else {}) or state.file_ends
        following.header.set_synced({}, self._synced_ends or state.synced_ends)
        following.header.set_file_ends(ends, self._journal.next_generation())
        self._journal.finished.append(self._journal.segments.popleft())
        if segment in self._damaged_segments:
            self._damaged_segments.remove(segment)
            quarantine_file(segment.path)

    def _tidy_journal(self) -> None:
        self._journal.note_in_memory(self._waiting + self.held)
        self._journal.prepare()
        if self._sync_after is None:
            self._journal.delete_finished()
        elif self._clock() >= self._sync_due or len(self._journal.finished) >= _MAX_FINISHED:
            self.sync()

    def sync(self) -> None:
        """Force to the device what is stored, and what is in the journal."""
        self._sync_due = self._clock() + (self._sync_after or 0.0)
        states = {segment: segment.state() for segment in list(self._journal.segments)}
        marks = {s: (s.offset, state.generation) for s, state in states.items()}
        try:
            self._target.sync()
            for segment, mark in marks.items():
                if self._synced.get(segment) != mark:
                    segment.sync()
            self._journal.sync_checkpoint()
        except Exception as error:
            self._reporter.warn("sync", f"a sync failed, so a loss of power may cost more: {error}")
        else:
            self._synced = marks
            for segment, state in states.items():
                segment.header.set_synced(state.stored_until, state.file_ends)
            newest = max(states.values(), key=attrgetter("generation"), default=None)
            self._synced_ends = {} if newest is None else newest.file_ends
        self._journal.delete_finished()

    def close(self) -> None:
        """Close journal and storage; leave nothing but the recording if all could be stored."""
        with self._lock:
            if self._sync_after is not None:
                self.sync()
            # What arrived meanwhile is stored too, as long as it can be.
            for _ in range(_MAX_ROUNDS):
                is_closed = self._journal.close()
                if (is_closed and not self._waiting) or not self.run():
                    break
            super().close()

    def report_unstored(self) -> None:
        """Report how many records stay in the journal, and how many are lost, if the process ends
        now."""
        in_memory = self._waiting + self.held
        kept = self._pending - in_memory
        if kept > 0 and self._journal.segments:
            self._reporter.warn(
                "kept",
                f"{kept} record{'s' * (kept != 1)} could not be stored, but kept in the journal, for"
                " the next process that records here",
            )
            self._report_lost(in_memory)
        else:
            super().report_unstored()


# Recovery of a journal without recording anything.

# Of the segment that opening a journal makes, the smallest there is.
_JOURNAL_SIZE = 512 * 1024


class Recovery(NamedTuple):
    """The outcome of the recovery of a journal."""

    #: Stored now.
    records: int
    #: Records that could not be read; their segments were put into quarantine.
    damaged: int
    #: Why not all of it could be stored; empty where all was.
    failure: str


def recover_journal(slot: Slot, target: JournalTarget) -> Recovery:
    """Store all that the journal of a slot holds, as a recorder that starts there would, and delete
    its files.

    Args:
        slot: held by the caller.
        target: returns that slot from ``take_slot``, and does not release it.
    """
    said: list[str] = []
    reporter = Reporter(pause=0.0, write=said.append)
    journal = Journal(target, _JOURNAL_SIZE, reporter, open_spans=False)
    counts = RecordCounts()
    drain = JournalDrain(journal, target, counts, lambda data: None, reporter, sync_after=0.0)
    try:
        drain.recover()
        if journal.is_open:
            said.clear()  # of what was found, not of what fails
        drain.run()
    finally:
        drain.close()
    stats = counts.stats()
    damaged = stats.dropped.get("damaged", 0)
    failed = bool(segment_files(slot.directory))
    failure = (said or ["it is still in use"])[-1] if failed else ""
    return Recovery(stats.recovered - damaged, damaged, failure)
