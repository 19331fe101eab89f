"""Lives: processes that record, step by step as a seed says, and end at any system call.

Each life is a forked child. It announces what it has collected on a pipe, which outlives it.
"""

from __future__ import annotations

import os
import random
import re
import select
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.sdk.trace import TracerProvider

from rimp_otel import (
    FileStorage,
    TelemetryCollector,
    TelemetryConfig,
    TelemetryData,
    TelemetryStream,
    fsutil,
)
from rimp_otel.journal.format import Header
from rimp_otel.models.records import TelemetryEvent
from rimp_otel.storage.files.sealer import Sealer
from tests.crash.audit import by_reader, compare
from tests.crash.marks import check_of
from tests.crash.running import reap

__all__ = ["CALLS", "Died", "Life", "Writer", "intercept", "is_torn", "live"]

CALLS = (
    *("open", "write", "writev", "pwrite", "ftruncate"),
    *("rename", "unlink", "mkdir", "fdatasync", "fsync"),
)
"""System calls after or before which a life may end."""

_LONGEST = 60.0
"""Seconds that one may take."""

_STEPS = (
    *("initialize", "complete", "intend", "finish", "set_stored_until", "set_file_ends"),
    *("set_synced", "clear_intent"),
)


class Died(NamedTuple):
    """The marks that a life left behind, and its error."""

    #: By the letter that announced it: F finished, S started, D on the device, C open at a close.
    marks: dict[str, set[str]]
    #: Of whatever raised.
    error: str


def live(function: Callable[..., object], *args: object, deadline: float = _LONGEST) -> Died:
    """Run ``function(say, *args)`` in a forked child, which ends at once when it returns."""
    inward, outward = os.pipe()
    child = os.fork()
    if child == 0:
        _live(function, args, outward)
    os.close(outward)
    said = bytearray()
    until = time.monotonic() + deadline
    while select.select([inward], [], [], max(0.0, until - time.monotonic()))[0]:
        if not (block := os.read(inward, 1024 * 1024)):
            break
        said += block
    else:
        os.kill(child, 9)
        said += b"E " + f"took longer than {deadline} s\n".encode()
    os.close(inward)
    code = reap(child)
    died = _parse(said.decode())
    return died if code in (0, 9) or died.error else died._replace(error=f"ended with {code}")


def _live(function: Callable[..., object], args: tuple[object, ...], outward: int) -> None:
    write = os.write  # as it is before anything is intercepted
    code = 0
    try:
        function(lambda kind, mark: write(outward, f"{kind} {mark}\n".encode()), *args)
    except BaseException:
        code = 1
        write(outward, b"E " + traceback.format_exc().encode())
    finally:
        os._exit(code)


def _parse(said: str) -> Died:
    text, _, error = ("\n" + said).partition("\nE ")
    marks: dict[str, set[str]] = {letter: set() for letter in "FSDC"}
    for line in text.split("\n"):
        if line:
            marks[line[0]].add(line[2:])
    return Died(marks, error)


def intercept(step: Callable[[str, Callable[[], Any], tuple[Any, ...]], Any]) -> None:
    """Has ``step(name, call, args)`` called in place of each system call that changes a file, and
    of each step in a journal's header; in this process, for good."""

    def wrap(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def called(*args: Any, **kwargs: Any) -> Any:
            return step(name, lambda: original(*args, **kwargs), args)

        setattr(owner, name, called)

    for name in CALLS:
        wrap(os, name)
    for name in _STEPS:
        wrap(Header, name)
    fsutil._sync = os.fdatasync  # which it had taken before


def is_torn(damage: str) -> bool:
    """Whether a damaged line may be one that ``store`` was writing at a death: only events are
    stored so here. What a journal stores is never torn, since it is cut off."""
    return re.search(r"\blogs[^/]*\.jsonl", damage) is not None


class Writer:
    """One recorder of a life: a collector with a stream that is not started, so that it drains
    when told.

    Args:
        say: announces marks.
        name: marks begin with it.
        path: of the recording.
        options: of the storage.
        journal: fields of the TelemetryConfig.
    """

    def __init__(
        self,
        say: Callable[[str, str], object],
        name: str,
        path: Path,
        options: dict[str, Any],
        journal: dict[str, Any],
    ) -> None:
        self.say, self.name, self.number = say, name, 0
        self.storage = FileStorage(path, **options)
        sync = {"sync": options.get("sync", "interval"), "sync_interval": 1e6}
        self.collector = TelemetryCollector(
            TelemetryConfig(flush_interval=1e6, buffer_size=1_000_000, **journal, **sync)
        )
        self.stream = TelemetryStream(self.collector, self.storage, interval=1e6)
        self.drain = self.stream._drain
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(self.collector)
        self.tracer = provider.get_tracer("life")
        self.open: list[Any] = []
        self.collected: set[str] = set()

    def mark(self) -> str:
        """Return the next record's mark."""
        self.number += 1
        return f"{self.name}-{self.number}"

    def collect(self, chance: random.Random) -> None:
        """Collect one record, or the start of a span, or the end of one."""
        kind = chance.random()
        if kind < 0.2 and len(self.open) < 8:
            mark = self.mark()
            attributes = {"mark": mark, "check": check_of(mark)}
            self.open.append((mark, self.tracer.start_span(mark, attributes=attributes)))
            self.say("S", mark)
            return
        if kind < 0.4 and self.open:
            mark, span = self.open.pop(chance.randrange(len(self.open)))
            span.end()
        elif kind < 0.55:
            mark = self.mark()
            self.collector.collect_metric("m", 1, tags={"mark": mark, "check": check_of(mark)})
        else:
            mark = self.mark()
            self.collector.collect_event(
                chance.choice("abc"), mark, metadata={"check": check_of(mark)}
            )
        self.say("F", mark)
        self.collected.add(mark)

    def store(self, chance: random.Random) -> None:
        """Store a batch, without a collector."""
        marks = [self.mark() for _ in range(chance.randint(1, 5))]
        events = [
            TelemetryEvent("store", mark, metadata={"check": check_of(mark)}) for mark in marks
        ]
        self.storage.store(TelemetryData(events=events))
        for mark in marks:
            self.say("F", mark)
            if self.storage.policy.sync == "always":
                self.say("D", mark)

    def close(self, stop: bool) -> None:
        """End in order: then nothing is left of spans that never end."""
        for mark, _ in self.open:
            self.say("C", mark)
        if stop:
            # Before the life ends: a thread that still stored would see its files change.
            assert self.stream.stop(_LONGEST), "not all was stored in time"
        else:
            self.drain.run()
            self.drain.close()

    def sync(self) -> None:
        """Sync, so that what was collected up to now is on the device."""
        self.drain.sync()
        for mark in self.collected:
            self.say("D", mark)


class Life:
    """A random life.

    Args:
        say: announces marks.
        seed: of what it does.
        name: marks begin with it.
        path: of the recording.
        options: of the storage.
        journal: fields of the TelemetryConfig.
        known: marks that are in the recording already, which it checks when it reads.
    """

    def __init__(
        self,
        say: Callable[[str, str], object],
        seed: int,
        name: str,
        path: Path,
        options: dict[str, Any],
        journal: dict[str, Any],
        known: frozenset[str] = frozenset(),
    ) -> None:
        self.chance, self.path, self.known = random.Random(seed), path, known
        self.said: dict[str, set[str]] = {letter: set() for letter in "FSDC"}
        self._say = say
        Sealer.wake = lambda self: None  # type: ignore[method-assign] # no thread: when told
        self.writers = [
            Writer(self.say, f"{name}{letter}", path, options, journal)
            for letter in "xy"[: self.chance.choice([1, 1, 2])]
        ]
        self.reads = True

    def say(self, kind: str, mark: str) -> None:
        """Announce a mark, and remember it."""
        self._say(kind, mark)
        self.said[kind].add(mark)

    def run(self, steps: int) -> None:
        """Take so many steps; then end in order, or not at all."""
        for _ in range(steps):
            self.step()
        if self.chance.random() < 0.2:
            for writer in self.writers:
                writer.close(stop=True)

    def step(self) -> None:
        """Take one step."""
        chance = self.chance
        writer = chance.choice(self.writers)
        what = chance.random()
        if what < 0.5:
            for _ in range(int(10 ** chance.uniform(0.0, 2.2))):
                writer.collect(chance)
        elif what < 0.7:
            writer.drain.run()
        elif what < 0.77:
            writer.sync()
        elif what < 0.84:
            writer.store(chance)
        elif what < 0.88:
            writer.storage.rotate()
        elif what < 0.92:
            writer.storage._writer.sealer.run()
        elif what < 0.94:
            writer.close(stop=False)
        elif self.reads:
            self.read()

    def read(self) -> None:
        """Check that everything is there once that was collected in this life, and before."""
        found = by_reader(self.path)
        wrong = compare(found, self.known | self.said["F"], maybe=True)
        wrong["damaged"] = [what for what in wrong["damaged"] if not is_torn(what)]
        bad = {what: marks[:5] for what, marks in wrong.items() if marks}
        assert not bad, f"read within a life: {bad}"
