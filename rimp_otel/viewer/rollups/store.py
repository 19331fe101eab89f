"""The rollups of a recording: those of sealed files, kept beside them, and of all that is not sealed yet.

A sealed file never changes, so that its rollup is made once, in the background, the newest first. Files
that are written are read on from where the last question stopped; what journals hold is read each time.
A database has no files: its records are read once, in portions, and then those that are new.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar
from weakref import WeakValueDictionary

from rimp_otel.models.filters import Filter
from rimp_otel.models.records import Signal
from rimp_otel.models.times import Window
from rimp_otel.storage.base import Selection
from rimp_otel.storage.files.chunks import open_chunks
from rimp_otel.storage.files.layout import Layout
from rimp_otel.storage.files.lines import DataFile, FileKey, read_lines
from rimp_otel.storage.files.snapshot import Snapshot
from rimp_otel.storage.reading import LineDecoder, count_line
from rimp_otel.storage.recording import is_database
from rimp_otel.storage.sqlite.recording import SQLiteRecording
from rimp_otel.storage.sqlite.schema import open_for_reading
from rimp_otel.viewer.questions import PreparingError, check_time
from rimp_otel.viewer.rollups.builder import RollupBuilder
from rimp_otel.viewer.rollups.rollup import CallTable, OpenCall, Rollup, RollupFacts
from rimp_otel.viewer.rollups.rollup_file import (
    DamagedRollupError,
    count_sealed_file,
    read_rollup,
    rollup_path,
    write_rollup,
)
from rimp_otel.viewer.rollups.terms import TermIndex

__all__ = ["RollupStore", "open_rollups"]

_ResultT = TypeVar("_ResultT")

_PATIENCE = 0.25
_PORTION_TIME = 1.0
_PORTION = 100_000
_MAX_NARROW = 64
_MAX_RESOLVED = 1_024
_WHAT = "summaries of sealed files"
_NO_CALLS = CallTable((), (), (), [])
_NOTHING = Rollup([], {}, dict, lambda: _NO_CALLS, RollupFacts(damaged=1))
_SLACK = 60 * 10**9


class _CallsKey(NamedTuple):
    rollup: int
    near: tuple[int, ...]
    window: Window
    step: int


class RollupStore:
    """The rollups of a recording, whatever it lies in. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._resolved: dict[_CallsKey, tuple[Rollup, list[Rollup]]] = {}

    def rollups(self, signal: Signal, window: Window, step: int | None = None) -> list[Rollup]:
        """Return rollups that together have each record of a window once, and perhaps others.

        Args:
            signal: of the records.
            window: of which records are wanted.
            step: of which each rollup has a level that divides it; None for any. With a step, the
                window has both ends.

        Raises:
            PreparingError: some have to be made first.
            StorageError: the recording cannot be read.
        """
        raise NotImplementedError

    def calls(self, window: Window, step: int) -> list[Rollup]:
        """Return rollups of the calls whose two spans are not in the same of ``rollups``.

        Args:
            window, step: as for ``rollups``.

        Raises:
            PreparingError: some have to be made first.
            StorageError: the recording cannot be read.
        """
        # A call may have begun just before.
        wide = window.widened(_SLACK)

        def join() -> list[Rollup]:
            rollups = self.rollups(Signal.TRACES, wide)
            return [self._calls_of(rollup, rollups, window, step) for rollup in rollups]

        return self.retry(join)

    def terms(self, content: DataFile) -> TermIndex | None:
        """Return what finds blocks of a sealed file; None where there is none yet."""
        return None

    def retry(self, ask: Callable[[], _ResultT]) -> _ResultT:
        """Return what ``ask`` does, which looks into rollups; ask again if one was damaged or deleted.

        Raises:
            PreparingError: a rollup has to be made again.
        """
        for _ in range(3):
            try:
                return ask()
            except DamagedRollupError as error:
                self._forget(error.args[0])
        raise PreparingError(0, 1, _WHAT)

    def _forget(self, path: Path) -> None:
        """Take a rollup's file for missing."""

    def _calls_of(self, rollup: Rollup, others: list[Rollup], window: Window, step: int) -> Rollup:
        """Return the calls of a rollup whose callers are in others, of about the same time."""
        check_time()
        first, last = rollup.facts.first - _SLACK, rollup.facts.last + _SLACK
        near = [
            other
            for other in others
            if other is not rollup and other.facts.first <= last and other.facts.last >= first
        ]
        key = _CallsKey(id(rollup), tuple(map(id, near)), window, step)
        known = self._resolved.get(key)
        if known is not None:
            return known[0]
        made = _join_calls(rollup, near, window, step)
        with self._lock:
            # The rollups are kept, so that no other gets the same id.
            self._resolved[key] = made, [rollup, *near]
            while len(self._resolved) > _MAX_RESOLVED:
                del self._resolved[next(iter(self._resolved))]
        return made


def _join_calls(rollup: Rollup, near: list[Rollup], window: Window, step: int) -> Rollup:
    builder = RollupBuilder(window, step)
    left: dict[int, list[OpenCall]] = {}
    for call in rollup.calls.open_calls:
        if window.contains(call.start):
            left.setdefault(call.parent, []).append(call)
    for other in near:
        if not left:
            break
        for hashed, caller in list(other.calls.find_callers(left.keys())):
            for call in left.pop(hashed):
                if caller != call.service:
                    builder.add_call(caller, call)
    return builder.build()


_STORES: WeakValueDictionary[tuple[Path, bool], RollupStore] = WeakValueDictionary()
_STORES_LOCK = threading.Lock()


def open_rollups(path: Path) -> RollupStore:
    """Return the rollups of the recording at a path, where there need be nothing yet.

    They are shared by all in this process that ask for them.
    """
    key = Path(os.path.abspath(path)), is_database(path)
    with _STORES_LOCK:
        store = _STORES.get(key)
        if store is None:
            store = _DatabaseRollups(path) if key[1] else _FileRollups(path)
            _STORES[key] = store
        return store


class _Growing:
    """A file that is appended to, and how far it has been read."""

    def __init__(self) -> None:
        self.builder = RollupBuilder()
        self.offset = self.lines = 0
        self.rollup: Rollup | None = None


class _NarrowKey(NamedTuple):
    key: FileKey
    window: Window
    step: int


class _FileRollups(RollupStore):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._layout = Layout(path)
        self._sealed: dict[FileKey, tuple[DataFile, Rollup]] = {}
        self._growing: dict[FileKey, _Growing] = {}
        self._narrow: dict[_NarrowKey, Rollup] = {}
        self._maker = _RollupMaker(self._layout)

    def __del__(self) -> None:
        self._maker.close()

    def rollups(self, signal: Signal, window: Window, step: int | None = None) -> list[Rollup]:
        return self.retry(lambda: self._look(signal, window, step))

    def terms(self, content: DataFile) -> TermIndex | None:
        if content.name is None or content.name.is_waiting:
            return None
        with self._lock:
            known = self._sealed.get(content.key)
            if known is not None and known[0].name == content.name:
                rollup: Rollup | None = known[1]
                if known[1].terms is None:
                    rollup = self._maker.take(content.key) or rollup
            else:
                rollup = read_rollup(content)
            if rollup is not None:
                self._sealed[content.key] = content, rollup
        return None if rollup is None else rollup.terms

    def _forget(self, path: Path) -> None:
        with self._lock:
            for key, (content, _) in list(self._sealed.items()):
                if rollup_path(content) == path:
                    del self._sealed[key]
        try:
            path.unlink(missing_ok=True)
        except OSError:
            pass  # it is replaced

    def _look(self, signal: Signal, window: Window, step: int | None) -> list[Rollup]:
        with Snapshot(self._layout, LineDecoder()) as snapshot:
            sealed = [one for one in snapshot.sealed if one.signal is signal]
            wanted = [one for one in sealed if _may_have(one, window)]
            active = [one for one in snapshot.active if one.signal is signal]
            found: list[tuple[DataFile, Rollup]] = []
            missing: list[DataFile] = []
            with self._lock:
                self._drop_all_but(signal, {one.key for one in [*sealed, *active]})
                for one in [*wanted, *active]:
                    check_time()
                    rollup = self._known(snapshot, one)
                    if rollup is None:
                        missing.append(one)
                    else:
                        found.append((one, rollup))
            if missing:
                found += self._wait_for(missing)
            rollups = [self._divided(snapshot, *one, window, step) for one in found]
            lines = [line.text for line in snapshot.in_journals if line.signal is signal]
        if lines:
            builder = RollupBuilder() if step is None else RollupBuilder(window, step)
            for line in lines:
                builder.add_line(line)
            rollups.append(builder.build())
        return rollups

    def _drop_all_but(self, signal: Signal, keys: set[FileKey]) -> None:
        gone = {
            key for key in self._sealed.keys() | self._growing.keys() if key[0] is signal
        } - keys
        for key in gone:
            self._sealed.pop(key, None)
            self._growing.pop(key, None)

    def _known(self, snapshot: Snapshot, content: DataFile) -> Rollup | None:
        """Return the rollup of a file; None if it has to be made."""
        if content.name is None or content.name.is_waiting:
            return self._grow(snapshot, content)
        known = self._sealed.get(content.key)
        if known is not None and known[0].name == content.name:
            return known[1]
        rollup = read_rollup(content)
        if rollup is None and content.key in self._growing:
            # It was read while it was written.
            rollup = self._grow(snapshot, content)
            self._maker.begin([content])
        if rollup is not None:
            self._growing.pop(content.key, None)
            self._sealed[content.key] = content, rollup
        return rollup

    def _grow(self, snapshot: Snapshot, content: DataFile) -> Rollup:
        growing = self._growing.setdefault(content.key, _Growing())
        opened = snapshot.open(content)
        if opened is None:
            return growing.rollup or _NOTHING
        begun, until = growing.offset, time.monotonic() + _PORTION_TIME
        with opened.file:
            is_whole = content.name is not None
            size = os.fstat(opened.file.fileno()).st_size
            for line in read_lines(
                opened, growing.offset, growing.lines, content.limit, torn=is_whole
            ):
                growing.offset, growing.lines = line.end, line.number
                if line.text is not None and (text := line.text.strip()):
                    growing.builder.add_line(text)
                check_time()
                if time.monotonic() > until:
                    growing.rollup = None
                    raise PreparingError(
                        min(growing.offset, size) >> 20, max(size >> 20, 1), "summaries (MB read)"
                    )
        if growing.rollup is None or growing.offset != begun:
            growing.rollup = growing.builder.build()
        return growing.rollup

    def _wait_for(self, missing: list[DataFile]) -> list[tuple[DataFile, Rollup]]:
        made = self._maker.make(missing, _PATIENCE)
        with self._lock:
            for content in missing:
                self._sealed[content.key] = content, made[content.key]
        return [(content, made[content.key]) for content in missing]

    def _divided(
        self,
        snapshot: Snapshot,
        content: DataFile,
        rollup: Rollup,
        window: Window,
        step: int | None,
    ) -> Rollup:
        """Return a file's rollup, or one of the window alone if that one's steps are too long."""
        if step is None or not rollup.levels or rollup.step_for(step) is not None:
            return rollup
        key = _NarrowKey(content.key, window, step)
        is_fixed = content.name is not None
        narrow = self._narrow.get(key) if is_fixed else None
        if narrow is None:
            narrow = self._read_window(snapshot, content, window, step)
            if is_fixed:
                with self._lock:
                    self._narrow[key] = narrow
                    while len(self._narrow) > _MAX_NARROW:
                        del self._narrow[next(iter(self._narrow))]
        return narrow

    def _read_window(
        self, snapshot: Snapshot, content: DataFile, window: Window, step: int
    ) -> Rollup:
        builder = RollupBuilder(window, step)
        wanted = Filter(signals=frozenset({content.signal}))
        with open_chunks(content, snapshot.open) as chunked:
            for chunk in chunked.chunks(wanted) if chunked is not None else ():
                if chunked is None or not window.overlaps(chunk.first, chunk.last):
                    continue
                check_time()
                for line in chunked.lines(chunk, wanted, window.overlaps):
                    if line.text is not None and (text := line.text.strip()):
                        builder.add_line(text)
        return builder.build()


def _may_have(content: DataFile, window: Window) -> bool:
    name = content.name
    if name is None or name.first is None or name.last is None:
        return True
    return window.overlaps(name.first, name.last)


class _RollupMaker:
    """Makes the rollups of sealed files, on a thread that runs as long as there are some to make."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._changed = threading.Condition()
        self._waiting: dict[FileKey, DataFile] = {}
        self._made: dict[FileKey, Rollup] = {}
        self._total = 0
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def make(self, contents: list[DataFile], patience: float) -> dict[FileKey, Rollup]:
        """Return the rollups of files, once they are made.

        Raises:
            PreparingError: they are not after ``patience`` seconds.
        """
        until = time.monotonic() + patience
        keys = {content.key for content in contents}
        self.begin(contents)
        with self._changed:
            while not keys <= self._made.keys():
                left = until - time.monotonic()
                if left <= 0 or self._is_closed:
                    done = self._total - len(self._waiting)
                    raise PreparingError(done, max(self._total, 1), _WHAT)
                self._changed.wait(left)
            return {key: self._made.pop(key) for key in keys}

    def begin(self, contents: list[DataFile]) -> None:
        """Have the rollups of files made."""
        with self._changed:
            for content in reversed(contents):  # the newest first
                if content.key not in self._made and content.key not in self._waiting:
                    self._waiting[content.key] = content
                    self._total += 1
            self._start()

    def take(self, key: FileKey) -> Rollup | None:
        """Return a rollup that was made and not asked for yet."""
        with self._changed:
            return self._made.pop(key, None)

    def close(self) -> None:
        """End the thread after the file that it is reading."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()

    def _start(self) -> None:
        if self._thread is None and self._waiting and not self._is_closed:
            self._thread = threading.Thread(target=self._run, name="rimp-rollup", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting or self._is_closed:
                    self._thread = None
                    self._total = 0
                    return
                content = next(iter(self._waiting.values()))
            rollup = self._make_one(content)
            with self._changed:
                self._made[content.key] = rollup
                self._waiting.pop(content.key, None)
                self._changed.notify_all()

    def _make_one(self, content: DataFile) -> Rollup:
        try:
            counts = count_sealed_file(content, self._layout, lambda: time.sleep(0))
        except Exception:  # whatever it is, the others are made all the same
            return _NOTHING
        if counts is None:
            return _NOTHING
        try:
            write_rollup(content, counts)
        except Exception:
            return counts.rollup  # somebody else's recording, or no space: made again next time
        return read_rollup(content) or counts.rollup


class _DatabaseRollups(RollupStore):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._portions: dict[Signal, list[RollupBuilder]] = {}
        self._recordings: dict[Signal, SQLiteRecording] = {}
        self._begun: dict[Signal, tuple[int, int]] = {}

    def rollups(self, signal: Signal, window: Window, step: int | None = None) -> list[Rollup]:
        with self._lock:
            self._read_new(signal)
            rollups = [
                rollup
                for rollup in [portion.build() for portion in self._portions[signal]]
                if window.overlaps(rollup.facts.first, rollup.facts.last)
            ]
        is_coarse = step is not None and any(one.step_for(step) is None for one in rollups)
        return [self._read_window(signal, window, step)] if is_coarse and step else rollups

    def _read_new(self, signal: Signal) -> None:
        first, last, inode = self._look_at_file()
        before = self._begun.get(signal)
        if before is None or before[1] != inode or first - before[0] > (last - before[0]) // 20:
            # Another file, or retention has taken a part.
            self._begun[signal] = first, inode
            self._recordings[signal] = SQLiteRecording(self._path, count_line)
            self._portions[signal] = [RollupBuilder()]
        portions = self._portions[signal]
        until = time.monotonic() + _PORTION_TIME
        for data in self._recordings[signal].poll(signal=signal):
            for line in data.otlp_json(signal):
                portions[-1].add_line(line)
            if portions[-1].records >= _PORTION:
                portions.append(RollupBuilder())
            check_time()
            if time.monotonic() > until:
                done = sum(portion.records for portion in portions)
                total = last - first + 1
                raise PreparingError(min(done, total), max(total, done), "summaries of records")

    def _look_at_file(self) -> tuple[int, int, int]:
        """Return the numbers of the first and the last record, and the file's inode."""
        with open_for_reading(self._path, _PORTION_TIME) as db:
            if db is None:
                return 0, 0, 0
            ((first, last),) = db.execute("SELECT min(id), max(id) FROM records")
            return first or 0, last or 0, os.stat(self._path).st_ino

    def _read_window(self, signal: Signal, window: Window, step: int) -> Rollup:
        builder = RollupBuilder(window, step)
        selection = Selection(window, None, Filter(signals=frozenset({signal})))
        for data in SQLiteRecording(self._path, count_line).batches(selection):
            for line in data.otlp_json(signal):
                builder.add_line(line)
            check_time()
        return builder.build()
