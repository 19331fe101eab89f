"""A real program, killed at random moments: nothing that was collected is lost, nothing is twice.

``python -m tests.crash.kill --rounds 1000 --backend sqlite``. A round starts one to three victims (``victim.py``) on
one directory, lets each die in a random way once it has announced a random number of records,
reads the recording without changing it, has it recovered (the recovering process is killed too, up
to three times in a row), and counts again, by the reader and in the files.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream
from rimp_otel.journal.format import HEADER_SIZE
from tests.crash import victim
from tests.crash.audit import Found, compare
from tests.crash.backends import BACKENDS, Backend
from tests.crash.running import Outcome, Program, directory, each_seed, reap
from tests.processes import ROOT

DEADLINE = 60.0
SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM}
WAYS = ["kill"] * 5 + ["term", "exit", "segv", "bus", "abort"]
SEGMENT = ".seg"
_PLACE = re.compile(r"at byte ([0-9]+)")
_NULS = re.compile(rb"\0+")
FILE = BACKENDS["file"]


class Victim:
    """A running victim, and the marks that it has announced.

    Args:
        path: of the recording.
        name: of the victim; its marks begin with it.
        config: a TelemetryConfig's fields.
        forks: whether it is a child of this process, which has everything imported; otherwise a
            program of its own, which takes longer to start than most of them live.
    """

    def __init__(self, path: Path, name: str, config: dict[str, Any], forks: bool) -> None:
        self.pipe, outward = os.pipe()
        inward, self.stdin = os.pipe()
        self.said = bytearray()
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        argv = [str(Path(victim.__file__)), name, str(outward), json.dumps(config)]
        os.set_inheritable(outward, True)
        self.pid = os.fork()
        if self.pid == 0:
            self._become(argv, inward, path.parent, forks)
        os.close(outward)
        os.close(inward)

    def _become(self, argv: list[str], stdin: int, directory: Path, forks: bool) -> None:
        try:
            os.chdir(directory)
            os.dup2(stdin, 0)
            os.dup2(self.errors.fileno(), 2)
            if not forks:
                environment = {**os.environ, "PYTHONPATH": str(ROOT)}
                os.execve(sys.executable, [sys.executable, *argv], environment)
            sys.stdin, sys.argv = open(0), argv  # noqa: SIM115
            victim.main()
        finally:
            os._exit(1)

    def hear(self, records: int) -> bool:
        """Wait until it has announced so many records; return False if it died before."""
        until = time.monotonic() + DEADLINE
        heard = self.said.count(b"\n")
        while heard < records:
            readable, _, _ = select.select([self.pipe], [], [], max(0.0, until - time.monotonic()))
            assert readable, f"silent for {DEADLINE} s after {heard} records: {self.complaints()}"
            block = os.read(self.pipe, 65_536)
            if not block:
                return False
            self.said += block
            heard += block.count(b"\n")
        return True

    def die(self, way: str) -> int:
        """Kill it, or make it kill itself; return the exit code."""
        if way in SIGNALS:
            os.kill(self.pid, SIGNALS[way])
        else:
            with contextlib.suppress(BrokenPipeError):
                os.write(self.stdin, f"{way}\n".encode())
        self.hear(sys.maxsize)  # until the other end is closed
        os.close(self.pipe)
        os.close(self.stdin)
        return reap(self.pid)

    def announced(self) -> tuple[set[str], set[str]]:
        """Return the marks of finished records, and of spans that were started."""
        finished, started = set(), set()
        for line in self.said.decode().splitlines():
            kind, mark = line.split()
            (finished if kind == "F" else started).add(mark)
        return finished, started

    def complaints(self) -> str:
        """Return what it wrote to standard error, but for its log records."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith("v"))


def configuration(
    chance: random.Random, path: Path, small: bool, backend: Backend = FILE
) -> dict[str, Any]:
    """Return a random configuration of victims and of whoever recovers."""
    return {
        "storage_backend": backend.name,
        "storage_path": str(path),
        "flush_interval": chance.choice([0.002, 0.02, 0.2, 600.0]),
        "buffer_size": chance.choice([16, 2_048, 10_000_000]),
        "journal_size": chance.choice([32, 64, 256]) * 1024 * 1024,
        "rotate_size": chance.choice([64 * 1024, 256 * 1024, 64 * 1024 * 1024]),
        "compression": chance.choice(["zstd", "gzip", "none"]),
        "sync": chance.choice(["interval", "interval", "always", "never"]),
        "sync_interval": chance.choice([0.01, 5.0]),
        "record_crashes": chance.random() < 0.3,
    }


def recover(config: dict[str, Any], slots: int = 1, may_be_damaged: bool = False) -> None:
    """Take over what dead processes have left in so many slots, and store it."""
    streams = [
        TelemetryStream(TelemetryCollector(TelemetryConfig(**config, flush_timeout=50.0)))
        for _ in range(slots)
    ]
    for stream in streams:
        stream.start()
    stopped = [stream.stop() for stream in streams]
    assert all(stopped), "what was left could not be stored in time"
    for stream in streams:
        stats = stream.collector.stats()
        assert not stats.pending, stats
        assert stats.dropped.keys() <= ({"damaged"} if may_be_damaged else set()), stats


def recover_and_die(config: dict[str, Any], slots: int, after: float) -> int:
    """Recover in a forked child, and kill that after so many seconds; return its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            recover(config, slots)
            code = 0
        except BaseException as error:
            print(f"recovery: {error!r}", file=sys.stderr)
        finally:
            os._exit(code)
    ended = os.pidfd_open(child)
    select.select([ended], [], [], after)
    os.close(ended)
    os.kill(child, signal.SIGKILL)
    return reap(child)


def describe_damage(files: list[Path], damaged: list[str]) -> list[str]:
    """Return the bytes of a journal's files around the places that are damaged, and the NULs there."""
    told = []
    for file in files:
        for place in {
            int(at) for what in damaged if file.name in what for at in _PLACE.findall(what)
        }:
            data = file.read_bytes()
            end = len(data.rstrip(b"\0"))
            gaps = [gap.span() for gap in _NULS.finditer(data, HEADER_SIZE, end)]
            around = data[max(0, place - 200) : place + 400]
            told.append(
                f"{file.name} at byte {place}, of {end} that are used; NULs at {gaps[:20]}: {around!r}"
            )
    return told


def amount(chance: random.Random, short: bool) -> int:
    """Return how many records a victim may announce: as often few as many."""
    return int(10 ** chance.uniform(0.0, 3.3 if short else 4.2))


def round_of(seed: int, short: bool, backend: str = FILE.name) -> Outcome:
    """Run one round."""
    chance = random.Random(seed)
    with directory() as parent:
        return Round(chance, parent, short, BACKENDS[backend]).run()


class Round:
    """One round, on one directory."""

    def __init__(
        self, chance: random.Random, parent: Path, short: bool, backend: Backend = FILE
    ) -> None:
        self.chance, self.backend, self.short = chance, backend, short
        self.path = parent / backend.path
        self.config = configuration(chance, self.path, short, backend)
        self.figures: Counter[str] = Counter()
        self.failures: list[str] = []
        self.finished: set[str] = set()
        self.started: set[str] = set()
        self.complaints = ""

    def run(self) -> Outcome:
        """Kill, read, recover, count."""
        self.kill_all()
        self.figures["records announced"] += len(self.finished)
        open_spans = self.started - self.finished
        self.figures["spans open at the death"] += len(open_spans)
        left = [file for file in self.backend.left(self.path) if file.suffix == SEGMENT]
        self.figures["segments left in journals"] += len(left)
        self.check("read without recovery", self.backend.by_reader(self.path))
        for _ in range(self.chance.choice([0, 0, 1, 1, 2, 3])):
            code = recover_and_die(self.config, self.slots(), self.chance.uniform(0.0, 0.06))
            self.figures["recoveries killed"] += code == -signal.SIGKILL
            if code not in (0, -signal.SIGKILL):
                self.failures.append(f"a recovery that was to be killed failed: {code}")
            self.check("read after a killed recovery", self.backend.by_reader(self.path))
        code = recover_and_die(self.config, self.slots(), DEADLINE)
        if code:
            self.failures.append(f"recovery ended with {code}")
        found = self.backend.by_reader(self.path)
        self.check("read after recovery", found)
        counted = self.backend.counted(self.path)
        self.check("in the files", counted)
        if counted.all() != found.all():
            self.failures.append("the reader and the files disagree")
        if left := [file.name for file in self.backend.left(self.path)]:
            self.failures.append(f"left in journals after recovery: {left}")
        if self.failures:
            self.failures.append(f"with {self.config} {self.complaints[:2000]}")
        return Outcome(self.figures, self.failures)

    def kill_all(self) -> None:
        """Kill one victim; or two at the same time; or a third that follows the first of two."""
        running = [self.begin(0)]
        if self.chance.random() < 0.4:
            running.append(self.begin(1))
        followers = int(self.chance.random() < 0.25)
        number = len(running)
        while running:
            self.end(running.pop(0))
            if followers:
                followers -= 1
                running.append(self.begin(number))

    def begin(self, number: int) -> Victim:
        """Start a victim."""
        return Victim(self.path, f"v{number}", self.config, self.chance.random() < 0.75)

    def end(self, running: Victim) -> None:
        """Have it killed after some records."""
        way = self.chance.choice(WAYS)
        if not running.hear(amount(self.chance, self.short)):
            self.failures.append(f"the victim died by itself: {running.complaints()}")
        code = running.die(way)
        self.figures[f"deaths: {way} ({code})"] += 1
        finished, started = running.announced()
        self.finished |= finished
        self.started |= started
        self.complaints += running.complaints()

    def slots(self) -> int:
        """Return how many writers have left something."""
        return max(1, len(self.backend.layout(self.path).slots()))

    def check(self, when: str, found: Found) -> None:
        """Compare, and count what is wrong."""
        wrong = compare(found, self.finished, self.started)
        for what, marks in wrong.items():
            self.figures[f"{what}, {when}"] += len(marks)
            if marks:
                self.failures.append(f"{when}: {len(marks)} {what}, such as {marks[:5]}")
        if wrong["damaged"]:
            self.failures += describe_damage(self.backend.left(self.path), wrong["damaged"])
        self.figures[f"interrupted spans, {when}"] += len(found.interrupted)


def main() -> None:
    """Print the figures."""
    program = Program(__doc__, 1_000, 12)
    program.add("--backend", choices=BACKENDS, default=FILE.name, help="the storage")
    options = program.options()
    program.finish(each_seed(round_of, options, options.backend))


if __name__ == "__main__":
    main()
