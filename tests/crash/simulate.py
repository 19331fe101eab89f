"""A random simulation of the storage against a model: ``python -m tests.crash.simulate``.

Several lives, one after the other, on one recording, each of one or two recorders that append,
drain, store, rotate, seal, sync, close and read, and each ended at a random system call (of a write:
in the middle of it). Between them retention deletes, and a reader polls that has been there from
the start. The model is a set of marks.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rimp_otel import FileStorage
from rimp_otel.models.records import Signal
from rimp_otel.storage.files.layout import Layout, SealedName
from rimp_otel.storage.files.recording import FileRecording
from tests.crash.audit import Found, by_reader, compare, found_in, in_files
from tests.crash.kill import recover
from tests.crash.lives import Life, intercept, is_torn, live
from tests.crash.running import Outcome, Program, call_in_child, directory, each_seed


def policy(chance: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return options of the storage, and fields of the configuration."""
    options = {
        "rotate_size": chance.choice([4 * 1024, 32 * 1024, 10**9]),
        "compression": chance.choice(["zstd", "gzip", "none"]),
        "sync": chance.choice(["interval", "always", "never"]),
        "sync_interval": 1e6,
    }
    journal = {
        "journal_size": chance.choice([4, 32]) * 1024 * 1024,
        "record_open_spans": chance.random() < 0.5,
    }
    return options, journal


def mortal(say: Callable[[str, str], object], death: int, seed: int, *args: Any) -> None:
    """Run a life that ends at its ``death``-th system call, or before."""
    life = Life(say, seed, *args)
    chance = random.Random(seed + 1)
    left = [death]

    def step(name: str, call: Callable[[], Any], given: tuple[Any, ...]) -> Any:
        left[0] -= 1
        if left[0]:
            return call()
        if name in ("write", "writev") and chance.random() < 0.5:
            text = bytes(given[1]) if name == "write" else b"".join(given[1])
            whole.write(given[0], text[: chance.randrange(len(text) + 1)])
        elif chance.random() < 0.5:
            call()
        os._exit(0)

    whole = _Originals()
    intercept(step)
    life.run(chance.randint(1, 40))


class _Originals:
    """The system calls as they are before they are intercepted."""

    def __init__(self) -> None:
        self.write = os.write


class Simulation:
    """One simulation, from its seed.

    Args:
        chance: makes the choices.
        path: of the recording.
    """

    def __init__(self, chance: random.Random, path: Path) -> None:
        self.chance, self.path = chance, path
        self.options, self.journal = policy(chance)
        self.finished: set[str] = set()
        self.started: set[str] = set()
        self.gone: set[str] = set()
        self.reader = FileRecording(path)
        self.polled = Found(Counter(), Counter(), [], [])
        self.failures: list[str] = []
        self.figures: Counter[str] = Counter()

    def run(self, lives: int) -> Outcome:
        """Run all of it."""
        for number in range(lives):
            self.live(number)
            self.check(f"after life {number}", by_reader(self.path))
            if self.chance.random() < 0.5:
                self.poll(f"polled after life {number}")
            if self.chance.random() < 0.15:
                self.retain()
            if self.failures:
                break
        if not self.failures:
            self.end()
        if self.failures:
            self.failures.append(f"with {self.options} {self.journal}")
        self.figures["records"] += len(self.finished)
        return Outcome(self.figures, self.failures)

    def live(self, number: int) -> None:
        """Live one life."""
        death = int(10 ** self.chance.uniform(0.3, 3.5))
        known = frozenset(self.finished - self.gone)
        given = (f"life{number}", self.path, self.options, self.journal, known)
        died = live(mortal, death, self.chance.randrange(2**32), *given)
        self.finished |= died.marks["F"]
        self.started |= died.marks["S"] - died.marks["C"]
        self.figures["lives"] += 1
        if died.error:
            self.failures.append(f"life {number}, death at {death}: {died.error}")

    def end(self) -> None:
        """Recover everything, and count once more."""
        slots = max(1, len(Layout(self.path).slots()))
        config = {"storage_backend": "file", "storage_path": self.path, **self.options}
        call_in_child(recover, config, slots)
        self.check("after recovery", by_reader(self.path))
        self.check("in the files", in_files(self.path))
        self.poll("polled after recovery")

    def poll(self, when: str) -> None:
        """Poll with the reader that has been there from the start: it gets each record once."""
        for data in self.reader.poll():
            found_in(data, self.polled)
        damaged = [str(damage) for damage in self.reader.damaged]
        self.check(when, self.polled._replace(damaged=damaged), polled=True)

    def check(self, when: str, found: Found, polled: bool = False) -> None:
        """Compare with the model."""
        started = self.started if self.journal["record_open_spans"] else set()
        if polled:  # what retention deleted may have been seen
            expected = self.finished - self.gone, started - self.gone
        else:
            expected = self.finished - self.gone, started - self.gone
            found.damaged.extend(f"back again: {mark}" for mark in self.gone & found.all().keys())
        wrong = compare(found, *expected)
        self.figures["torn lines"] += sum(map(is_torn, wrong["damaged"]))
        wrong["damaged"] = [what for what in wrong["damaged"] if not is_torn(what)]
        for what, marks in wrong.items():
            self.figures[what] += len(marks)
            if marks:
                self.failures.append(f"{when}: {len(marks)} {what}: {marks[:5]}")

    def retain(self) -> None:
        """Delete the oldest sealed files, and their marks from the model."""
        before = by_reader(self.path).all().keys()
        size = self.chance.choice([0, 2_000, 20_000])
        call_in_child(_retain, self.path, {**self.options, "retain_size": size})
        sealed = Layout(self.path).sealed
        files = list(sealed.iterdir()) if sealed.exists() else []
        left = sum(path.stat().st_size for path in files if SealedName.parse(path.name))
        self.figures["retentions"] += 1
        if left > size:
            self.failures.append(f"{left} bytes of sealed files are kept, with retain_size={size}")
        self.gone |= before - by_reader(self.path).all().keys()
        self.figures["records deleted by retention"] = len(self.gone)
        in_journals_or_active = _in_active(self.path)
        if wrongly := self.gone & in_journals_or_active:
            self.failures.append(f"retention hid {sorted(wrongly)[:5]}")


def _retain(path: Path, options: dict[str, Any]) -> None:
    FileStorage(path, **options)._writer.sealer.run()


def _in_active(path: Path) -> set[str]:
    """Return the marks in active files, which retention leaves alone."""
    layout = Layout(path)
    found: set[str] = set()
    text = b"".join(
        layout.file(signal, slot).read_bytes()
        for slot in layout.slots()
        for signal in Signal
        if layout.file(signal, slot).exists()
    )
    for part in text.split(b'"life')[1:]:
        found.add("life" + part.split(b'"', 1)[0].decode(errors="replace"))
    return found


def round_of(seed: int, short: bool) -> Outcome:
    """Run one simulation."""
    chance = random.Random(seed)
    with directory() as parent:
        return Simulation(chance, parent / "telemetry").run(chance.randint(2, 5 if short else 8))


def main() -> None:
    """Print the figures."""
    program = Program(__doc__, 1_000, 25)
    program.finish(each_seed(round_of, program.options()))


if __name__ == "__main__":
    main()
