"""Power loss, simulated: ``python -m tests.crash.power``.

A life records while a model of the disk looks on. Of each file it keeps every content that each
page of 4 KiB had since the file was last synced, and every size; of the names, every state since a
directory was last synced; or a file, as in file systems that keep a journal of the names (ext4, XFS:
``--strict`` does not count on that). Then the power fails: each page is as it was at any of these moments,
independently, and so is the size; a page that had not been allocated is zeros; the names are as they
were at one moment. The lock files say that the machine was started anew. Whoever records next must
find every record that had been collected before the last sync, unchanged, and none twice.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rimp_otel.storage.files.layout import Layout
from tests.crash.audit import by_reader, compare, in_files
from tests.crash.kill import recover
from tests.crash.lives import Life, intercept, live
from tests.crash.running import Outcome, Program, call_in_child, directory, each_seed
from tests.crash.simulate import policy

PAGE = 4_096
_Tree = dict[str, int]


class History:
    """The contents that a file may have after the power failed; a new one may be empty."""

    def __init__(self) -> None:
        self.sizes = [0]
        self.pages: dict[int, list[bytes]] = {}

    def look(self, content: bytes) -> None:
        """Note that the file has this content now."""
        if self.sizes[-1] != len(content):
            self.sizes.append(len(content))
        for number in range(0, len(content), PAGE):
            page = content[number : number + PAGE].ljust(PAGE, b"\0")
            versions = self.pages.setdefault(number, [bytes(PAGE)])
            if versions[-1] != page:
                versions.append(page)

    def synced(self) -> None:
        """Note that the content of now is on the device."""
        del self.sizes[:-1]
        for versions in self.pages.values():
            del versions[:-1]

    def any(self, chance: random.Random) -> bytes:
        """Return one of the contents that are possible."""
        size = chance.choice(self.sizes)
        pages = [
            chance.choice(self.pages.get(number, [bytes(PAGE)])) for number in range(0, size, PAGE)
        ]
        return b"".join(pages)[:size]


class Disk:
    """A model of the disk.

    Args:
        root: of all files.
        aside: where a link to each file is kept, so that it keeps its inode.
        strict: whether only the sync of a directory forces names to the device.
    """

    def __init__(self, root: Path, aside: Path, strict: bool) -> None:
        self.root, self.aside, self.strict = root, aside, strict
        self.files: dict[int, History] = {}
        self.trees: list[_Tree] = [{}]
        # What is there from the start is on the device.
        self.look()
        del self.trees[:-1]
        for history in self.files.values():
            history.synced()

    def look(self) -> None:
        """Looks at all files."""
        tree: _Tree = {}
        for parent, directories, names in os.walk(self.root):
            for name in directories:
                tree[os.path.relpath(os.path.join(parent, name), self.root)] = 0
            for name in names:
                path = os.path.join(parent, name)
                tree[os.path.relpath(path, self.root)] = self._look_at(path)
        if tree != self.trees[-1]:
            self.trees.append(tree)

    def _look_at(self, path: str) -> int:
        inode = os.stat(path).st_ino
        if inode not in self.files:
            self.files[inode] = History()
            os.link(path, self.aside / str(inode))
        with open(path, "rb") as file:
            self.files[inode].look(file.read())
        return inode

    def synced(self, file: int) -> None:
        """What the descriptor stands for is on the device; with a directory, all names are."""
        self.look()
        status = os.fstat(file)
        if status.st_ino in self.files:
            self.files[status.st_ino].synced()
        if status.st_ino not in self.files or not self.strict:
            del self.trees[:-1]

    def fail(self, chance: random.Random) -> None:
        """Give the files the contents that the failure of the power has left."""
        shutil.rmtree(self.root)
        self.root.mkdir(mode=0o700)
        tree = chance.choice(self.trees)
        for name, inode in sorted(tree.items()):
            path = self.root / name
            if not inode:
                path.mkdir(mode=0o700)
                continue
            os.link(self.aside / str(inode), path)
            content = self.files[inode].any(chance)
            path.write_bytes(_rebooted(content) if path.name == "lock" else content)


def _rebooted(lock: bytes) -> bytes:
    """Return a lock file as if it had been signed before the machine was started anew."""
    try:
        return json.dumps({**json.loads(lock), "boot": "another"}).encode() + b"\n"
    except ValueError:
        return lock


def observed(
    say: Callable[[str, str], object], root: Path, aside: Path, strict: bool, seed: int, *args: Any
) -> None:
    """Run a life that the disk watches, after whose last step the power fails."""
    disk, chance = Disk(root, aside, strict), random.Random(seed + 1)
    eager = chance.choice([0.02, 0.2, 1.0])
    inside = [False]

    def step(name: str, call: Callable[[], Any], given: tuple[Any, ...]) -> Any:
        if inside[0]:
            return call()
        inside[0] = True
        try:
            if chance.random() < eager:
                disk.look()
            result = call()
            if name in ("fdatasync", "fsync"):
                disk.synced(given[0])
            elif chance.random() < eager:
                disk.look()
            return result
        finally:
            inside[0] = False

    intercept(step)
    life = Life(say, seed, *args)
    life.reads = False
    life.run(chance.randint(1, 25))
    inside[0] = True
    disk.look()
    disk.fail(chance)


def round_of(seed: int, short: bool, strict: bool = False) -> Outcome:
    """Have the power fail once or twice, and recover after each."""
    chance = random.Random(seed)
    options, journal = policy(chance)
    journal["record_open_spans"] = chance.random() < 0.1
    with directory() as parent:
        root = parent / "telemetry"
        root.mkdir(mode=0o700)
        failures: list[str] = []
        figures: Counter[str] = Counter()
        finished: set[str] = set()
        started: set[str] = set()
        durable: set[str] = set()
        for number in range(chance.choice([1, 1, 2])):
            aside = parent / f"aside{number}"
            aside.mkdir()
            given = (f"life{number}", root, options, journal)
            died = live(observed, root, aside, strict, chance.randrange(2**32), *given)
            if died.error:
                failures.append(died.error)
                break
            finished |= died.marks["F"]
            started |= died.marks["S"]
            durable |= died.marks["D"] if options["sync"] != "never" else set()
            figures["power failures"] += 1
            read = by_reader(root)
            # What is missing, or twice, only whoever takes over the slots can know.
            _judge("read", read, durable, finished | started, figures)
            failures += [f"read: wrong: {mark}" for mark in read.wrong]
            slots = max(1, len(Layout(root).slots()))
            config = {"storage_backend": "file", "storage_path": root, **options}
            call_in_child(recover, config, slots, True)
            for when, found in (("recovered", by_reader(root)), ("in files", in_files(root))):
                failures += _judge(when, found, durable, finished | started, figures)
            kept = found.finished.keys()
            figures["collected"] += len(finished)
            figures["collected before the last sync"] += len(durable)
            figures["found again"] += len(kept & finished)
            if options["sync"] != "never":
                durable |= kept & finished  # what was recovered in order has been synced
    if failures:
        failures.append(f"with {options} {journal}")
    return Outcome(figures, failures)


def _judge(
    when: str, found: Any, durable: set[str], collected: set[str], figures: Counter[str]
) -> list[str]:
    wrong = compare(found, durable)
    wrong["damaged"] = []  # which is what happens to what was not synced
    wrong["unknown"] = sorted(found.all().keys() - collected)
    figures[f"damaged lines or frames, {when}"] += len(found.damaged)
    for what, marks in wrong.items():
        figures[f"{what}, {when}"] += len(marks)
    return [f"{when}: {len(marks)} {what}: {marks[:5]}" for what, marks in wrong.items() if marks]


def main() -> None:
    """Print the figures."""
    program = Program(__doc__, 2_000, 15)
    program.add("--strict", action="store_true", help="only a directory's sync forces names")
    options = program.options()
    program.finish(each_seed(round_of, options, options.strict))


if __name__ == "__main__":
    main()
