"""The hop from the journal into the storage: each slice once, whatever happens in between."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from rimp_otel.batch import TelemetryData, batch_of_lines, set_slice_id, skipped_count
from rimp_otel.collector.collector import TelemetryCollector
from rimp_otel.config import TelemetryConfig
from rimp_otel.journal.format import LETTERS, Intent, State
from rimp_otel.journal.journal import Journal
from rimp_otel.journal.recovery import segment_files, twins_of
from rimp_otel.journal.segment import Segment, put_aside
from rimp_otel.journal.slices import Slice, Slices, Twins
from rimp_otel.journal.slots import Slot
from rimp_otel.journal.target import NO_FILE, Appendable, End, FileHome, Home
from rimp_otel.models.records import Signal
from rimp_otel.otlp.lines import LINE_SIZE, join_lines
from rimp_otel.process import Reporter
from rimp_otel.storage.base import TelemetryStorage
from rimp_otel.storage.files.journal_target import SlotStorage
from rimp_otel.streaming.drain import Drain

__all__ = ["JournalDrain", "Recovery", "recover_journal"]


# --- The hop from the journal into the storage: each slice once, whatever happens in between.

_MOST_FINISHED = 4
# Segments that wait to be stored, and bytes.
_FAR_BEHIND, _LARGEST_SLICE = 3, 4 * 1024 * 1024
_USUAL_SLICE = 4 * LINE_SIZE
_MOST_ROUNDS = 10


class JournalDrain(Drain):
    """Empties a journal into a storage, slice by slice; and what the journal could not take.

    A slice is noted in the segment's header before it is stored, and noted as stored after. Whoever
    finds the first note without the second finds out from the file whether it was stored; a storage
    that is none of files can tell by the batch's ``slice_id``, which is the same again.

    Args:
        journal: what to empty.
        home: where it lives.
        appendable: the storage's files, where it consists of such: then they decide whether a line
            was stored, not its id.
    """

    def __init__(
        self,
        collector: TelemetryCollector,
        storage: TelemetryStorage,
        offer: Callable[[TelemetryData], None],
        reporter: Reporter,
        journal: Journal,
        home: Home,
        appendable: Appendable | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._home = home
        self._appendable = appendable
        config = collector.config
        self._sync_after = {"always": 0.0, "interval": config.sync_interval}.get(config.sync)
        self._sync_due = 0.0
        super().__init__(collector, storage, offer, reporter, clock)

    def renew(self) -> None:
        """Forgets what it was doing, as in a forked child."""
        super().renew()
        self._segment: Segment | None = None
        self._slices: Slices | None = None
        self._waiting: deque[Slice] = deque()
        self._counted: Slice | None = None
        self._damaged: set[Segment] = set()
        self._most = LINE_SIZE
        self._twins: Twins | None = None
        self._synced_ends: dict[Signal, End] = {}
        # What each segment was when it was synced: its position and its cycle.
        self._synced: dict[Segment, tuple[int, int]] = {}

    def run_when_due(self) -> None:
        """Drains, unless the storage has just failed; syncs where that is due."""
        super().run_when_due()
        with self._lock:
            self._journal.set_alive()
            self._tidy()  # also while the storage is down

    def run_if_free(self) -> None:
        """Drains, unless that is being done right now, and leaves nothing behind on disk."""
        # Again, where another thread left its record to this one. But not for ever: what a thread
        # has counted that the interpreter's exit stopped before its append never comes.
        found = True
        while found and self._collector.pending and self._lock.acquire(blocking=False):
            try:
                batches = self.batches
                if not self.run():
                    return
                self._journal.close()
                found = self.batches > batches
            finally:
                self._lock.release()

    def recover(self) -> None:
        """Takes the journal's slot, and what its last owner left there."""
        self._journal.open()

    @property
    def damaged(self) -> int:
        """Segments, and notes of open spans, of an earlier process that were put aside."""
        return self._journal.damaged

    def take_in(self, data: TelemetryData) -> None:
        """Puts data points that the stream collected into the journal."""
        fragments = data.fragments(Signal.METRICS)
        letter = LETTERS[Signal.METRICS]
        # Before they can be stored: what is pending is never less than nothing.
        unencoded = skipped_count(data, Signal.METRICS)
        self._collector.counts.collect_points(len(fragments), unencoded)
        for taken, fragment in enumerate(fragments):
            if not self._journal.append(letter, fragment):
                rest = join_lines(Signal.METRICS, fragments[taken:])
                self._hold(TelemetryData.from_otlp_json(rest))
                return

    def _store_waiting(self, taken: list[TelemetryData] | None) -> bool:
        try:
            return super()._store_waiting(taken) and self._store_journal(taken)
        finally:
            self._tidy()

    def _store_journal(self, taken: list[TelemetryData] | None) -> bool:
        self._most = _slice_of(self._journal)
        # What arrives meanwhile is for the next time: this must end.
        for segment in list(self._journal.segments):
            if not self._store_segment(segment, taken):
                return False
            if segment is not self._journal.segments[-1]:
                # Sealed while it was drained, if it was not before: nothing is written any more.
                segment.seal()
                if not self._store_segment(segment, taken):
                    return False
                self._finish(segment)
        self._collector.rearm()
        return True

    def _store_segment(self, segment: Segment, taken: list[TelemetryData] | None) -> bool:
        slices = self._slices_of(segment)
        end = slices.end()
        while self._waiting or self._cut(slices, end):
            while self._waiting:
                if not self._store_slice(segment, self._waiting[0], taken):
                    return False
                self._waiting.popleft()
            slices.advance()
        return True

    def _cut(self, slices: Slices, end: int) -> bool:
        self._waiting.extend(slices.cut(end, self._most))
        return bool(self._waiting)

    def _slices_of(self, segment: Segment) -> Slices:
        if self._slices is None or self._segment is not segment:
            if segment.recovered and self._twins is None:
                self._twins = twins_of(self._journal.recovered, self._home)
            self._segment, self._slices = segment, Slices(segment, self._twins)
        return self._slices

    def _store_slice(
        self, segment: Segment, piece: Slice, taken: list[TelemetryData] | None
    ) -> bool:
        """Whether it is dealt with: stored, or given up."""
        data = batch_of_lines(piece.signal, piece.lines, piece.records)
        if segment.recovered and piece is not self._counted:
            self._count_recovered(segment, piece)
        end, is_stored = segment.header.end(piece.signal), bool(data)
        try:
            if is_stored:
                end = self._store_line(segment, piece, data)
        except BaseException as error:
            if self._appendable is not None:
                segment.header.give_up()  # the file is as it was
            if not self._failed(data, error):
                return False
            is_stored = False
        self._note(segment, piece, end)
        if is_stored:
            self._succeeded(data, taken)
        return True

    def _count_recovered(self, segment: Segment, piece: Slice) -> None:
        self._counted = piece
        self._collector.counts.recover(piece.signal, piece.records, piece.damaged)
        if piece.damaged:
            self._damaged.add(segment)
            records = f"{piece.damaged} records in {segment.path} are damaged"
            self._reporter.say("damaged", records)

    def _store_line(self, segment: Segment, piece: Slice, data: TelemetryData) -> End:
        def before(start: End, length: int) -> None:
            segment.header.intend(Intent(piece.signal, piece.since, piece.stop, start, length))

        if self._appendable is not None:
            return self._appendable.append(piece.signal, piece.lines, before)
        slice_id = f"{segment.identity}-{piece.signal.value}-{piece.since}-{piece.stop}"
        set_slice_id(data, slice_id)
        before(NO_FILE, 0)
        self._storage.store(data)
        return NO_FILE

    def _note(self, segment: Segment, piece: Slice, end: End) -> None:
        old = segment.header.end(piece.signal)
        segment.header.finish(piece.signal, piece.stop, end, self._journal.next_cycle())
        if end.file_id != old.file_id:
            # Another file was begun; the one before was synced when it was sealed.
            self._synced_ends[piece.signal] = start = End(end.file_id, 0)
            segment.header.set_synced({piece.signal: piece.since}, {piece.signal: start})

    def _succeeded(self, data: TelemetryData, taken: list[TelemetryData] | None) -> None:
        self._stored(data)
        if taken is not None:
            taken.append(data)

    def _finish(self, segment: Segment) -> None:
        """All of the segment is stored: what its header knows goes on in the next one."""
        following = self._journal.segments[1]
        state = segment.state()
        # The files themselves know it better, where a loss of power was recovered from.
        ends = (self._home.ends() if segment.recovered else {}) or state.ends
        following.header.set_synced({}, self._synced_ends or state.synced_ends)
        following.header.set_ends(ends, self._journal.next_cycle())
        self._journal.finished.append(self._journal.segments.popleft())
        if segment in self._damaged:
            self._damaged.remove(segment)
            put_aside(segment.path)

    def _tidy(self) -> None:
        self._journal.prepare()
        if self._sync_after is None:
            self._journal.delete_finished()
        elif self._clock() >= self._sync_due or len(self._journal.finished) >= _MOST_FINISHED:
            self.sync()

    def sync(self) -> None:
        """Forces what is stored, and what is in the journal, to the device."""
        self._sync_due = self._clock() + (self._sync_after or 0.0)
        states = {segment: segment.state() for segment in list(self._journal.segments)}
        marks = {s: (s.position, state.cycle) for s, state in states.items()}
        try:
            self._home.sync()
            for segment, mark in marks.items():
                if self._synced.get(segment) != mark:
                    segment.sync()
        except Exception as error:
            self._reporter.say("sync", f"a sync failed, so a loss of power may cost more: {error}")
        else:
            self._synced = marks
            for segment, state in states.items():
                segment.header.set_synced(state.done, state.ends)
            self._synced_ends = max(states.values(), key=_cycle).ends if states else {}
        self._journal.delete_finished()

    def close(self) -> None:
        """Leaves nothing behind but the recording, if all of it could be stored."""
        with self._lock:
            if self._sync_after is not None:
                self.sync()
            # What arrived meanwhile is stored too, as long as it can be.
            for _ in range(_MOST_ROUNDS):
                is_closed = self._journal.close()
                if (is_closed and not self._collector.waiting) or not self.run():
                    break
            super().close()

    def report_leftover(self) -> None:
        """Says what is not in the storage when the process ends now: what the journal has, and
        what is lost."""
        in_memory = self._collector.waiting + sum(map(len, self._held))
        kept = self._collector.stats().pending - in_memory
        if kept > 0 and self._journal.segments:
            self._reporter.say(
                "kept",
                f"{kept} records could not be stored; they are in the journal, for the next"
                " process that records here",
            )
            self._say_lost(in_memory)
        else:
            super().report_leftover()


def _slice_of(journal: Journal) -> int:
    """Bytes that are stored together: many lines where it is far behind. Each system call of a
    storage gives up the interpreter, which comes back late where other threads want it."""
    behind = len(journal.segments)
    return _USUAL_SLICE if behind < _FAR_BEHIND else _LARGEST_SLICE


def _cycle(state: State) -> int:
    return state.cycle


# --- Stores what a process left in its journal, by the same code as a recorder that starts there.

# Of the segment that opening a journal makes, the smallest there is.
_SIZE = 512 * 1024


class Recovery(NamedTuple):
    """What became of a journal."""

    #: Stored now.
    records: int
    #: Records that could not be read; their segments were put aside.
    damaged: int
    #: Why not all of it could be stored; empty where all was.
    failure: str


def recover_journal(slot: Slot, storage: SlotStorage) -> Recovery:
    """Stores all that the journal of a slot holds, and deletes its files."""
    collector = TelemetryCollector(TelemetryConfig(storage_backend="file"))
    reporter = _Listener()
    home = FileHome(storage)
    journal = Journal(home, _SIZE, reporter, open_spans=False)
    collector.attach(_NoStream(), journal)
    drain = JournalDrain(collector, storage, _ignore, reporter, journal, home, storage)
    try:
        drain.recover()
        drain.run()
    finally:
        drain.close()
    stats = collector.stats()
    damaged = stats.dropped.get("damaged", 0)
    failed = bool(segment_files(slot.directory))
    failure = (reporter.said or ["it is still in use"])[-1] if failed else ""
    return Recovery(stats.recovered - damaged, damaged, failure)


class _Listener(Reporter):
    """Keeps what there is to say for the command, which says it in its own words."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, kind: str, message: str) -> None:
        self.said.append(message)


class _NoStream:
    """Of a collector that collects nothing."""

    def wake(self) -> None:
        """Nothing waits."""

    def flush(self) -> TelemetryData:
        """Nothing."""
        return TelemetryData()

    def drain(self, timeout: float, ending: bool = False) -> bool:
        """Nothing is left."""
        return True


def _ignore(data: TelemetryData) -> None:
    """There are no consumers."""
