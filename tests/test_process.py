"""Forks, marks, caches, counters, warnings and children of this process."""

from __future__ import annotations

import gc
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rimp_otel import process
from rimp_otel.process import (
    AUTORECORD_SITE,
    BoundedCache,
    Counter,
    Reporter,
    call_in_forked_child,
    child_environment,
)
from tests.processes import run


def test_methods_are_called_in_order_in_a_child():
    """Methods are called in order of registration, those with last=True after all others."""
    script = """
    import os
    from rimp_otel.process import call_in_forked_child
    class Part:
        def __init__(self, name, last=False):
            self.name = name
            call_in_forked_child(self.renew, last=last)
        def renew(self):
            print(self.name, flush=True)
    parts = [Part("first"), Part("thread", last=True), Part("second")]
    if (child := os.fork()) == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    """
    assert run(script).split() == ["first", "second", "thread"]


MARKS = """
import ctypes, os
from rimp_otel import process
if {plain}:
    process._MADV_WIPEONFORK = 9_999  # what a kernel does not know
mark = process.make_process_mark()
assert mark[0]
for fork in (os.fork, ctypes.PyDLL(None).fork):
    if (child := fork()) == 0:
        mine = process.make_process_mark()
        os._exit(10 if not mark[0] and mine[0] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
assert mark[0]
print(type(mark).__name__)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the page that is emptied is Linux's")
def test_mark_of_a_process():
    """It is unset in every child, also after a fork from C."""
    assert run(MARKS.replace("{plain}", "False")).split() == ["mmap"]


def test_mark_without_the_kernels_help():
    """The process's id is the mark of last resort."""
    assert run(MARKS.replace("{plain}", "True")).split() == ["_PidMark"]


def test_a_method_is_forgotten_with_its_object():
    """Registration keeps no object alive, and the method of one that is gone is not called."""

    class Part:
        def renew(self):
            os._exit(1)

    gc.collect()  # what other tests have left
    before = len(process._resets)
    for _ in range(200):
        call_in_forked_child(Part().renew)
    gc.collect()
    assert len(process._resets) == before
    if (child := os.fork()) == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_method_that_fails_keeps_no_other_from_being_called():
    """Its exception is printed, as Python does it with its own hooks."""
    script = """
    import os, sys
    from rimp_otel.process import call_in_forked_child
    class Part:
        def __init__(self, error):
            self.error = error
            call_in_forked_child(self.renew)
        def renew(self):
            print(self.error, flush=True)
            if self.error:
                raise ValueError(self.error)
    parts = [Part("broken"), Part("")]
    sys.excepthook = lambda kind, error, trace: print("said", error, flush=True)
    if (child := os.fork()) == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    """
    assert run(script).split("\n") == ["broken", "said broken", "", ""]


def test_a_bounded_cache_is_emptied_when_it_is_full():
    """The newest entry always stays; one that is replaced takes no room."""
    cache: BoundedCache[int, str] = BoundedCache(3)
    for key in range(3):
        cache[key] = str(key)
    assert cache.setdefault(2, "another") == "2"
    assert cache.entries == {0: "0", 1: "1", 2: "2"}
    assert cache.setdefault(3, "3") == "3"
    assert cache.entries == {3: "3"}
    for key in range(10):
        cache[key] = "x"
        assert cache.get(key) == "x"
        assert len(cache) <= 3


def test_threads_that_fill_a_bounded_cache_get_one_object_for_a_key():
    """Whoever is first decides, as long as the cache has room."""
    cache: BoundedCache[int, object] = BoundedCache(1_000)
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda _: [cache.setdefault(n, object()) for n in range(500)], range(4))
        )
    assert all(found[0] == other for other in found[1:])


def test_a_child_that_is_not_recorded():
    """Its environment lacks what makes this process record itself."""
    env = {
        "PATH": "/bin",
        "OTEL_PYTHON_CONFIGURATOR": "rimp",
        "RIMP_PARQUET": "1",
        "PYTHONPATH": os.pathsep.join([AUTORECORD_SITE, "/lib"]),
    }
    assert child_environment(env) == {
        "PATH": "/bin",
        "PYTHONPATH": "/lib",
        "OTEL_SDK_DISABLED": "true",
    }
    assert os.listdir(AUTORECORD_SITE)


def test_counter_counts():
    """Reading the value counts nothing."""
    counter = Counter()
    assert counter.value == 0
    for _ in range(3):
        counter.add_one()
    assert (counter.value, counter.value) == (3, 3)


def test_counter_loses_nothing_to_other_threads():
    """Four threads add, and the count is exact."""
    counter = Counter()

    def add():
        for _ in range(50_000):
            counter.add_one()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value == 200_000


def test_each_kind_of_warning_is_written_once_in_a_while(capsys):
    """A kind that was just written does not hold up another."""
    now = [100.0]
    reporter = Reporter(pause=60.0, clock=lambda: now[0])
    reporter.warn("store", "first")
    reporter.warn("store", "second")
    reporter.warn("close", "other")
    now[0] = 160.0
    reporter.warn("store", "third")
    assert capsys.readouterr().err == "rimp: first\nrimp: other\nrimp: third\n"


def test_a_warning_at_clock_zero(capsys):
    """The first warning is written, although a machine that has just started has a small clock."""
    Reporter(clock=lambda: 0.0).warn("store", "first")
    assert capsys.readouterr().err == "rimp: first\n"


def test_no_standard_error_is_no_error(monkeypatch):
    """It may be closed, or None as under pythonw."""
    monkeypatch.setattr(sys, "stderr", None)
    Reporter().warn("store", "unheard")

    class Closed:
        def write(self, text):
            raise ValueError("I/O operation on closed file")

    monkeypatch.setattr(sys, "stderr", Closed())
    Reporter().warn("store", "unheard")


def test_standard_error_of_the_applications(monkeypatch):
    """Whatever its write raises is ignored, such as for a signal handler within a write."""

    class Reentrant:
        def write(self, text):
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    monkeypatch.setattr(sys, "stderr", Reentrant())
    Reporter().warn("store", "unheard")


def test_full_pipe_keeps_nobody_waiting(monkeypatch):
    """A warning that finds no room is lost; the next one is written once there is some."""
    outward, inward = os.pipe()
    os.set_blocking(inward, False)
    os.write(inward, bytes(16 * 1024 * 1024))  # as much as it takes
    os.set_blocking(inward, True)
    reporter = Reporter(pause=0.0)
    with open(inward, "w", buffering=1) as stream, open(outward, "rb", buffering=0) as reader:
        monkeypatch.setattr("sys.stderr", stream)
        reporter.warn("a", "lost")
        reader.read(16 * 1024 * 1024)
        reporter.warn("a", "x" * 10_000)
        assert reader.read(1024 * 1024) == b"rimp: " + b"x" * 1_000 + b"\n"
