"""Running many rounds, in processes of their own, and saying what came of them."""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import pickle
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Outcome", "Program", "call_in_child", "directory", "each_seed", "reap"]


class Outcome(NamedTuple):
    """The outcome of one round, or of many."""

    figures: Counter[str]
    failures: list[str]

    def __add__(self, other: object) -> Outcome:
        """Return the sum of both."""
        assert isinstance(other, Outcome)
        figures = Counter(self.figures)
        figures.update(other.figures)  # the sum of Counters would leave out what is 0
        return Outcome(figures, self.failures + other.failures)


class Program:
    """The command line of one suite; ``--short`` is the form that runs as a test.

    Args:
        description: the module's docstring.
        rounds: how many there are of whatever it does, in the long form and in the short.
    """

    def __init__(self, description: str | None, rounds: int, short: int) -> None:
        self._parser = argparse.ArgumentParser(description=description)
        add = self.add = self._parser.add_argument
        add("--rounds", type=int, default=None, help=f"{rounds:,} unless told otherwise")
        add("--short", action="store_true", help=f"{short:,} rounds, and small ones")
        add("--seed", type=int, default=0, help="the first round's")
        add("--jobs", type=int, default=2, help="processes at the same time")
        self._rounds = rounds, short
        self._began = time.monotonic()

    def options(self, argv: list[str] | None = None) -> argparse.Namespace:
        """Return the options of the command line."""
        options = self._parser.parse_args(argv)
        if options.rounds is None:
            options.rounds = self._rounds[options.short]
        return options

    def finish(self, outcome: Outcome) -> None:
        """Print the figures and the failures; exit with 1 if there are any."""
        for failure in outcome.failures[:200]:
            print(f"FAILED {failure}")
        for name, figure in sorted(outcome.figures.items()):
            print(f"{name:>40} {figure:>14,}")
        print(f"{'failures':>40} {len(outcome.failures):>14,}")
        print(f"{'seconds':>40} {time.monotonic() - self._began:>14,.0f}")
        sys.stdout.flush()
        raise SystemExit(1 if outcome.failures else 0)


def each_seed(
    function: Callable[..., Outcome], options: argparse.Namespace, *given: object
) -> Outcome:
    """Call ``function(seed, short, *given)`` for each round, several at the same time."""
    seeds = range(options.seed, options.seed + options.rounds)
    calls = [(function, seed, options.short, *given) for seed in seeds]
    total = Outcome(Counter(), [])
    for ending in (signal.SIGINT, signal.SIGTERM):  # also where a shell has it ignored
        signal.signal(ending, signal.default_int_handler)
    with (
        multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=100) as pool,
        contextlib.suppress(KeyboardInterrupt),  # what there is by then is told
    ):
        for number, done in enumerate(pool.imap_unordered(_guarded, calls), 1):
            total += done
            if not options.short and number % max(1, len(seeds) // 20) == 0:
                told = f"{number} of {len(seeds)}: {len(total.failures)} failures"
                print(told, file=sys.stderr)
    return total


def _guarded(call: tuple[Any, ...]) -> Outcome:
    function, seed, *rest = call
    try:
        outcome: Outcome = function(seed, *rest)
    except BaseException:
        return Outcome(Counter(rounds=1), [f"--seed {seed}: {traceback.format_exc()}"])
    failures = [f"--seed {seed}: {failure}" for failure in outcome.failures]
    return Outcome(Counter(rounds=1), failures) + Outcome(outcome.figures, [])


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    """Yield a directory for one round, in memory if the system has one there."""
    shm = Path("/dev/shm")
    parent = shm if shm.is_dir() and os.access(shm, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="rimp-crash-", dir=os.environ.get("CRASH_DIR", parent)))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def call_in_child(function: Callable[..., Any], *args: Any, deadline: float = 60.0) -> Any:
    """What a function returns that is called in a forked child, which then ends at once; None
    where it ended before. What the child leaves behind is as after a death.

    Raises:
        AssertionError: it raised, or took longer than the deadline.
    """
    inward, outward = os.pipe()
    child = os.fork()
    if child == 0:
        _run_and_die(function, args, outward)
    os.close(outward)
    answer = bytearray()
    until = time.monotonic() + deadline
    while select.select([inward], [], [], max(0.0, until - time.monotonic()))[0]:
        if not (block := os.read(inward, 1024 * 1024)):
            break
        answer += block
    else:
        os.kill(child, signal.SIGABRT)
        answer[:] = pickle.dumps((False, f"took longer than {deadline} s"))
    os.close(inward)
    reap(child)
    if not answer:
        return None
    good, value = pickle.loads(answer)
    assert good, value
    return value


def _run_and_die(function: Callable[..., Any], args: Any, outward: int) -> None:
    try:
        answer = pickle.dumps((True, function(*args)))
    except BaseException:
        answer = pickle.dumps((False, traceback.format_exc()))
    view = memoryview(answer)
    while view:
        view = view[os.write(outward, view) :]
    os._exit(0)


def reap(child: int) -> int:
    """Wait for a child process, and return its exit code; negative, if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
