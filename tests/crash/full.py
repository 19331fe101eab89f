"""A disk that is full, at every stage: ``python -m tests.crash.full``.

A scenario (journal, appends, rotation, sealing) on a small file system, made for it where that is
allowed (root), or under a limit to the size of files. The room grows step by step from round to
round, so that it ends at every stage. Nothing may raise; what was collected is stored, pending or
dropped and counted; the files are whole; and once there is room, what is pending is stored.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream
from rimp_otel.storage.files.sealer import Sealer
from tests.crash.audit import by_reader, compare, in_files
from tests.crash.marks import check_of
from tests.crash.running import Outcome, Program, call_in_child, directory, each_seed

RECORDS = 1_500
_PAGE = 4_096
_ENOUGH = 64 * 1024 * 1024


@contextlib.contextmanager
def small_disk(parent: Path, size: int, *options: str) -> Iterator[Path]:
    """Mount a file system of so many bytes."""
    path = parent / "disk"
    path.mkdir()
    every = ",".join([f"size={size}", "mode=700", *options])
    subprocess.run(["mount", "-t", "tmpfs", "-o", every, "rimp-crash", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def can_mount() -> bool:
    """Return True if this process may mount."""
    try:
        with directory() as parent, small_disk(parent, 1024 * 1024):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


class Scenario:
    """What is recorded, in steps."""

    def __init__(self, path: Path, compression: str) -> None:
        self.path = path
        config = TelemetryConfig(
            journal_size=1024 * 1024,
            flush_interval=1e6,
            buffer_size=10_000_000,
            record_open_spans=False,
            sync_interval=1e6,
        )
        Sealer.wake = lambda self: None  # type: ignore[method-assign]
        self.collector = TelemetryCollector(config)
        self.storage = FileStorage(
            path, rotate_size=64 * 1024, compression=compression, retain_size=None
        )
        self.stream = TelemetryStream(self.collector, self.storage, interval=1e6)
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self.collector)
        self.tracer = self.provider.get_tracer("full")
        self.marks: list[str] = []

    def collect(self, number: int) -> None:
        """Collect one record."""
        mark = f"full-{number}"
        check = check_of(mark)
        if number % 3 == 0:
            self.tracer.start_span(mark, attributes={"mark": mark, "check": check}).end()
        elif number % 3 == 1:
            self.collector.collect_event("full", mark, metadata={"check": check})
        else:
            self.collector.collect_metric("m", 1.0, tags={"mark": mark, "check": check})
        self.marks.append(mark)

    def run(self) -> list[str]:
        """Run all of it; return what is wrong."""
        failures = []
        for number in range(RECORDS):
            self.collect(number)
            if number % 50 == 49:
                self.stream._drain.run()
                self.storage._writer.sealer.run()
                stats = self.collector.stats()
                known = stats.stored + stats.pending + sum(stats.dropped.values())
                if stats.collected != number + 1 or known != stats.collected or stats.pending < 0:
                    failures.append(f"after {number + 1}: {stats}")
        return failures

    def judge(self, when: str, ended: bool) -> tuple[list[str], Counter[str]]:
        """Compare what is found with what was counted."""
        stats = self.collector.stats()
        found, failures = (in_files if ended else by_reader)(self.path), []
        wrong = compare(found, [], maybe=True)
        failures += [f"{when}: {what}: {marks[:5]}" for what, marks in wrong.items() if marks]
        if stranger := found.all().keys() - set(self.marks):
            failures.append(f"{when}: unknown {sorted(stranger)[:5]}")
        count = sum(found.all().values())
        if ended and (count != stats.stored or stats.pending):
            failures.append(f"{when}: {count} in the files, {stats}")
        if not stats.stored <= count <= stats.stored + stats.pending:
            failures.append(f"{when}: {count} found, {stats}")
        figures = {f"{when}: found": count, f"{when}: pending": stats.pending}
        figures[f"{when}: dropped"] = sum(stats.dropped.values())
        return failures, Counter(figures)


def in_little_room(path: Path, compression: str, make_room: Any) -> tuple[list[str], Counter[str]]:
    """Run the scenario in a process of its own; then again with room."""
    if os.environ.get("CRASH_QUIET", "1") == "1":
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what could not be written is reported there
    scenario = Scenario(path, compression)
    failures = scenario.run()
    full, figures = scenario.judge("full", ended=False)
    make_room()
    assert scenario.collector._journal is not None
    scenario.collector._journal._not_before = 0.0  # as it is after a second
    extra = f"full-{RECORDS}"
    scenario.collect(RECORDS)
    if not scenario.stream.stop(30.0):
        failures.append("stop() says that not all could be stored, with room")
    scenario.storage.rotate()
    again, more = scenario.judge("with room", ended=True)
    if extra not in in_files(path).finished:
        failures.append("what was collected with room is not there")
    figures.update(more)
    figures["full: something did not fit"] += figures["full: pending"] > 0
    return failures + full + again, figures


def limited(path: Path, compression: str, size: int) -> tuple[list[str], Counter[str]]:
    """Run it under a limit to the size of files."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    return in_little_room(
        path, compression, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    )


def mounted(path: Path, compression: str) -> tuple[list[str], Counter[str]]:
    """Run it on a small file system."""

    def make_room() -> None:
        command = ["mount", "-o", f"remount,size={_ENOUGH}", str(path.parent)]
        subprocess.run(command, check=True)

    return in_little_room(path, compression, make_room)


def round_of(seed: int, short: bool, rounds: int, mounts: bool) -> Outcome:
    """Try one size of the disk, and one limit."""
    failures: list[str] = []
    figures: Counter[str] = Counter()
    compression = ("zstd", "gzip", "none")[seed % 3]
    # From room for nothing to room for everything.
    pages = 1 + seed * 640 // rounds
    with directory() as parent:
        if mounts:
            with small_disk(parent, pages * _PAGE) as disk:
                wrong, counted = call_in_child(mounted, disk / "telemetry", compression)
            failures += [f"{pages} pages: {failure}" for failure in wrong]
            figures.update({f"disk, {name}": count for name, count in counted.items()})
        size = 1 + seed * 160 * 1024 // rounds
        wrong, counted = call_in_child(limited, parent / "telemetry", compression, size)
        failures += [f"files of {size} bytes: {failure}" for failure in wrong]
        figures.update({f"limit, {name}": count for name, count in counted.items()})
    return Outcome(figures, failures)


def main() -> None:
    """Print the figures."""
    program = Program(__doc__, 640, 12)
    options = program.options()
    mounts = can_mount()
    if not mounts:
        print("no file system can be mounted here: only the size of files is limited")
    program.finish(each_seed(round_of, options, options.rounds, mounts))


if __name__ == "__main__":
    main()
