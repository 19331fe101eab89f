"""A process of its own for each run, so that none finds threads, providers, caches or memory of
another.

A forked one: it has imported what its parent has, so that importing is not measured. The parent
has no threads, and runs no contender itself.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.model import Contender, Figures, Run, Task


class FailedError(Exception):
    """A contender did not do its work."""


def run_apart(contender: Contender, records: int, cache: Path) -> Figures:
    """Return the measurements of a contender that runs in a process of its own.

    Raises:
        FailedError: it raised, or died.
    """
    directory = Path(tempfile.mkdtemp(prefix="rimp-benchmark-"))
    try:
        return _in_child(contender, Task(records, directory, cache))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _in_child(contender: Contender, task: Task) -> Figures:
    reading, writing = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        os.close(reading)
        _child(contender.run, task, writing)
    os.close(writing)
    with open(reading, "rb") as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    if status or not text:
        raise FailedError(f"{contender.name}: {text.decode() or f'died with status {status}'}")
    figures: Figures = json.loads(text)
    return figures


def _child(run: Run, task: Task, writing: int) -> None:
    status = 1
    try:
        answer = json.dumps(run(task))
        status = 0
    except BaseException:
        answer = traceback.format_exc()
    with open(writing, "w") as pipe:
        pipe.write(answer)
    # What is registered for the interpreter's exit is the parent's.
    os._exit(status)


def measure_work(work: Callable[[], object], records: int) -> Figures:
    """Return CPU time of all threads and wall time, in microseconds a record, and records a second."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "cpu": cpu / records * 1e6,
        "wall": wall / records * 1e6,
        "rate": records / wall,
    }


def check(done: int, wanted: int, what: str = "records are in the files") -> None:
    """Raise `FailedError` unless the work was done."""
    if done != wanted:
        raise AssertionError(f"{done} {what}, and it should be {wanted}")
