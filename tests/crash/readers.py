"""Readers while others write: ``python -m tests.crash.readers``.

Four processes collect, rotate small files and seal them; now and then one is killed, and another
takes its place, and its slot. Meanwhile one reader polls, and ``retrieve`` is called again and again:
whatever had been announced before is there, whole, and once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import select
import signal
from collections import Counter
from pathlib import Path

from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream
from rimp_otel.storage.files.recording import FileRecording
from tests.crash.audit import Found, by_reader, compare, found_in, in_files
from tests.crash.kill import recover
from tests.crash.marks import check_of
from tests.crash.running import Outcome, Program, call_in_child, directory, reap

WRITERS = 4
_PER_LIFE = 2_000


class Process:
    """A writer that announces each record on a pipe.

    Args:
        path: of the recording.
        name: its marks begin with it.
        records: how many it collects before it ends.
    """

    def __init__(self, path: Path, name: str, records: int) -> None:
        self.pipe, outward = os.pipe()
        # A small pipe: it waits for the readers now and then, so that these read often.
        fcntl.fcntl(outward, fcntl.F_SETPIPE_SZ, 4_096)
        self.said = b""
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self.pipe)
                write(path, name, records, outward)
                code = 0
            finally:
                os._exit(code)
        os.close(outward)
        os.set_blocking(self.pipe, False)

    def announced(self) -> list[str]:
        """Return the marks announced since the last time."""
        with contextlib.suppress(BlockingIOError):
            while block := os.read(self.pipe, 1024 * 1024):
                self.said += block
        *lines, self.said = self.said.split(b"\n")
        return [line.decode() for line in lines]

    def has_ended(self) -> bool:
        """Return True if it has ended by itself."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def write(path: Path, name: str, records: int, outward: int) -> None:
    """Record as a writer does."""
    collector = TelemetryCollector(TelemetryConfig(flush_interval=0.01, flush_timeout=60.0))
    storage = FileStorage(path, rotate_size=48 * 1024)
    with TelemetryStream(collector, storage):
        for i in range(records):
            mark = f"{name}-{i}"
            collector.collect_event("r", mark, metadata={"check": check_of(mark)})
            os.write(outward, f"{mark}\n".encode())
    assert not collector.stats().dropped


class Load:
    """The writers, kept alive, and the readers.

    Args:
        chance: chooses when to kill.
        path: of the recording.
        lives: how many writers there are in all.
    """

    def __init__(self, chance: random.Random, path: Path, lives: int) -> None:
        self.chance, self.path, self.lives = chance, path, lives
        self.begun = 0
        self.processes: list[Process] = []
        self.announced: set[str] = set()
        self.polled = Found(Counter(), Counter(), [], [])
        self.reader = FileRecording(path)
        self.figures: Counter[str] = Counter()
        self.failures: list[str] = []

    def run(self) -> Outcome:
        """Run until all lives have ended, and count everything."""
        while len(self.processes) < WRITERS:
            self.begin()
        while self.processes:
            select.select([process.pipe for process in self.processes], [], [], 30.0)
            self.tend()
            self.read()
        slots = call_in_child(_slots, self.path)
        config = {"storage_backend": "file", "storage_path": self.path}
        call_in_child(recover, config, slots)
        self.read()
        self.judge("at the end, polled", self.polled)
        self.judge("at the end, in the files", in_files(self.path))
        self.figures["records announced"] = len(self.announced)
        return Outcome(self.figures, self.failures)

    def begin(self) -> None:
        """Start a writer."""
        self.processes.append(Process(self.path, f"p{self.begun}", _PER_LIFE))
        self.begun += 1

    def tend(self) -> None:
        """Hear the writers, kill one now and then, and replace those that have ended."""
        if self.chance.random() < 0.3 and self.begun < self.lives:
            victim = self.chance.choice(self.processes)
            os.kill(victim.pid, signal.SIGKILL)
            self.figures["writers killed"] += 1
        for process in list(self.processes):
            ended = process.has_ended()
            self.announced.update(process.announced())
            if ended:
                code = reap(process.pid)
                self.announced.update(process.announced())
                os.close(process.pipe)
                self.processes.remove(process)
                if code not in (0, -signal.SIGKILL):
                    self.failures.append(f"a writer ended with {code}")
                if self.begun < self.lives:
                    self.begin()

    def read(self) -> None:
        """Read both ways; all that had been announced before must be there."""
        for data in self.reader.poll():
            found_in(data, self.polled)
        self.polled.damaged[:] = [str(damage) for damage in self.reader.damaged]
        self.judge("polled", self.polled)
        self.judge("retrieved", by_reader(self.path))
        self.figures["reads of both kinds"] += 1

    def judge(self, when: str, found: Found) -> None:
        """Compare."""
        for what, marks in compare(found, self.announced).items():
            self.figures[f"{what}, {when}"] += len(marks)
            if marks and len(self.failures) < 50:
                self.failures.append(f"{when}: {len(marks)} {what}: {marks[:5]}")


def _slots(path: Path) -> int:
    return max(1, len(FileStorage(path).layout.slots()))


def main() -> None:
    """Print the figures."""
    program = Program(__doc__, 60, 8)
    options = program.options()
    with directory() as parent:
        load = Load(random.Random(options.seed), parent / "telemetry", options.rounds)
        program.finish(load.run())


if __name__ == "__main__":
    main()
