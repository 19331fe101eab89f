"""Children: each records its own, and repeats nothing of its parent's."""

from __future__ import annotations

import sys

import pytest

from rimp_otel import FileStorage
from tests.processes import run, run_process, skip_without

LOAD = """
import os, signal, sys, threading, time
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream

config = TelemetryConfig(flush_interval=0.005, metric_interval=0.01, flush_timeout=200.0,
                         buffer_limit=10_000_000)
collector = TelemetryCollector(config)
stream = TelemetryStream(collector, FileStorage(sys.argv[1]))
heard = []
stream.add_consumer(lambda data: heard.extend(e.message for e in data.events))
provider = TracerProvider()
provider.add_span_processor(collector)
meters = MeterProvider(metric_readers=[stream])
counter = meters.get_meter("m").create_counter("c")
stream.start()
done = threading.Event()

def load(name):
    i = 0
    while not done.is_set():
        collector.collect_event(name, str(i))
        provider.get_tracer("t").start_span(name).end()
        counter.add(1, {"thread": name})
        i += 1
    counts[name] = i

counts = {}
threads = [threading.Thread(target=load, args=(f"parent {n}",)) for n in range(3)]
for thread in threads:
    thread.start()
children = []
for n in range(12):
    recorded = collector.stats().collected
    while collector.stats().collected < recorded + 100:
        time.sleep(0.001)
    if (child := os.fork()) == 0:
        for i in range(500):
            collector.collect_event(f"child {n}", str(i))
        data = collector.flush()
        collector.collect_event(f"child {n}", "last")
        stopped, pending = stream.stop(), collector.stats().pending
        if not stopped or pending or "last" not in heard:
            print(f"child {n}: {stopped=} {pending=} {stream.stats()}", file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
# Else the slower the machine is, the more there would be to do.
done.set()
codes = [os.waitpid(child, 0)[1] for child in children]
for thread in threads:
    thread.join()
assert stream.stop()
stats = collector.stats()
assert stats.pending == 0 and not stats.dropped, stats
print(codes, sum(counts.values()))
"""


def test_fork_in_the_middle_of_load(tmp_path):
    """Twelve forks with threads, metrics and a consumer at work: nothing hangs or is repeated."""
    out = run(LOAD, tmp_path / "t", timeout=280.0)
    codes, total = out.rsplit("]", 1)
    assert codes == "[" + ", ".join(["0"] * 12)
    storage = FileStorage(tmp_path / "t")
    data = storage.retrieve()
    assert storage.damaged == []
    of_parent = [(e.source, e.message) for e in data.events if e.source.startswith("parent")]
    assert len(of_parent) == len(set(of_parent)) == int(total)
    assert len(data.spans) == int(total)
    for n in range(12):
        found = [event.message for event in data.events if event.source == f"child {n}"]
        assert found == [*map(str, range(500)), "last"]


FORKED = """
import os, sys
from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream
collector = TelemetryCollector(TelemetryConfig(flush_interval=600.0))
stream = TelemetryStream(collector, FileStorage(sys.argv[1]))
if sys.argv[2] == "started":
    stream.start()
collector.collect_event("parent", "before")
child = os.fork()
who = "parent" if child else "child"
collector.collect_event(who, "after")
if child:
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize("state", ["started", "never started"])
def test_forked_child_that_exits_as_usual(tmp_path, state):
    """A child stores its own records at its exit, and its parent its own."""
    run(FORKED, tmp_path / "t", state)
    found = [(e.source, e.message) for e in FileStorage(tmp_path / "t").retrieve().events]
    assert sorted(found) == [("child", "after"), ("parent", "after"), ("parent", "before")]


WHILE_COLLECTING = """
import os, sys, threading
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream

config = TelemetryConfig(metric_interval=0.01, flush_timeout=20.0)
stream = TelemetryStream(TelemetryCollector(config), FileStorage(sys.argv[1]))
meter = MeterProvider(metric_readers=[stream]).get_meter("m")
parent, inside, go_on = os.getpid(), threading.Event(), threading.Event()

def observe(options):
    if os.getpid() == parent:
        inside.set()
        go_on.wait()
    return [Observation(1)]

meter.create_observable_gauge("g", [observe])
counter = meter.create_counter("c")
stream.start()
assert inside.wait(60)
if (child := os.fork()) == 0:
    counter.add(5)
    os._exit(0 if stream.stop() else 1)
code = os.waitpid(child, 0)[1]
go_on.set()
assert stream.stop()
print(code)
"""


def test_fork_while_instruments_are_collected(tmp_path):
    """A child measures and stops, though a thread of its parent held the SDK's locks at the fork."""
    assert run(WHILE_COLLECTING, tmp_path / "t").strip() == "0"
    points = FileStorage(tmp_path / "t").retrieve().metrics
    # Each point says the whole sum; the last regular collection may have stored one before the end did.
    assert {metric.value for metric in points if metric.name == "c"} == {5}


MULTIPROCESSING = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream

collector = TelemetryCollector(TelemetryConfig(flush_interval=600.0))
stream = TelemetryStream(collector, FileStorage(sys.argv[1]))

def work(i):
    collector.collect_event("child", str(i))
    if i == 1:
        raise SystemExit(0)

if __name__ == "__main__":
    stream.start()
    collector.collect_event("parent", "before")
    context = multiprocessing.get_context(sys.argv[2])
    children = [context.Process(target=work, args=(i,)) for i in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        list(pool.map(work, range(10, 13)))
    collector.collect_event("parent", "after")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing(tmp_path, method):
    """Children that run no atexit functions store what they collected last, too."""
    program = tmp_path / "program.py"
    program.write_text(MULTIPROCESSING)
    command = [sys.executable, str(program), str(tmp_path / "t"), method]
    done = run_process(command, timeout=120.0)
    assert done.returncode == 0, done.stderr
    found = [(e.source, e.message) for e in FileStorage(tmp_path / "t").retrieve().events]
    assert sorted(found) == [
        *[("child", str(i)) for i in (0, 1, 10, 11, 12, 2)],
        ("parent", "after"),
        ("parent", "before"),
    ]


BILLIARD = """
import billiard, sys
from opentelemetry.sdk.metrics import MeterProvider
from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream
collector = TelemetryCollector(TelemetryConfig(flush_interval=600.0, metric_interval=600.0,
                                               metric_checkpoint_interval=None))
stream = TelemetryStream(collector, FileStorage(sys.argv[1]))
counter = MeterProvider(metric_readers=[stream]).get_meter("m").create_counter("count")
stream.start()
child = billiard.Process(target=counter.add, args=(3,))
child.start()
child.join()
assert child.exitcode == 0
"""


def test_child_of_billiard(tmp_path):
    """Celery's multiprocessing, whose children are none of multiprocessing's: they store too."""
    skip_without("billiard")
    run(BILLIARD, tmp_path / "t")
    found = [m.value for m in FileStorage(tmp_path / "t").retrieve().metrics]
    assert 3 in found


def test_stream_made_in_a_child_of_multiprocessing(tmp_path):
    """Each worker may have a stream of its own."""
    program = tmp_path / "program.py"
    program.write_text(
        """
import multiprocessing, sys

def work(path):
    from rimp_otel import FileStorage, TelemetryCollector, TelemetryStream
    collector = TelemetryCollector()
    TelemetryStream(collector, FileStorage(path), interval=600.0)
    collector.collect_event("child", "1")

if __name__ == "__main__":
    child = multiprocessing.get_context("fork").Process(target=work, args=(sys.argv[1],))
    child.start()
    child.join()
"""
    )
    done = run_process([sys.executable, str(program), str(tmp_path / "t")])
    assert done.returncode == 0, done.stderr
    assert [e.message for e in FileStorage(tmp_path / "t").retrieve().events] == ["1"]


SLOW_IMPORT = """
import importlib.machinery, os, sys, threading
from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream
from rimp_otel.process import importing

name, importing_now, go_on = sys.argv[2], threading.Event(), threading.Event()

class Slow:
    def find_spec(self, found, path=None, target=None):
        if found != name or threading.current_thread() is threading.main_thread():
            return None
        spec = importlib.machinery.PathFinder.find_spec(found, path)
        load = spec.loader.exec_module
        def load_slowly(module):
            importing_now.set()
            go_on.wait()
            load(module)
        spec.loader.exec_module = load_slowly
        return spec

def work():
    with importing():
        __import__(name)

sys.modules.pop(name, None)
sys.meta_path.insert(0, Slow())
collector = TelemetryCollector(TelemetryConfig(flush_interval=0.01))
stream = TelemetryStream(collector, FileStorage(sys.argv[1]))
stream.start()
collector.collect_event("parent", "before")
assert len(stream.flush()) <= 1
thread = threading.Thread(target=work)
thread.start()
importing_now.wait()
child = os.fork()
if child == 0:
    __import__(name)
    collector.collect_event("child", "1")
    stream.add_consumer(lambda data: data.events)
    os._exit(0 if stream.stop() else 1)
go_on.set()
code = os.waitpid(child, 0)[1]
thread.join()
assert stream.stop()
sys.exit(code)
"""


@pytest.mark.parametrize(
    "name", ["rimp_otel.otlp.decode", "rimp_otel.storage.files.recording", "zstandard"]
)
def test_fork_while_another_thread_imports_slowly(tmp_path, name):
    """The child imports the module anew, instead of waiting for a thread that it does not have."""
    run(SLOW_IMPORT, tmp_path / "t", name, timeout=120.0)
    found = [(e.source, e.message) for e in FileStorage(tmp_path / "t").retrieve().events]
    assert sorted(found) == [("child", "1"), ("parent", "before")]


def test_fork_inside_of_a_storage(tmp_path):
    """The child's stream is as good as new."""
    script = """
    import os, sys
    from rimp_otel import FileStorage, TelemetryCollector, TelemetryStream
    class Forking(FileStorage):
        child = None
        def store(self, data):
            if self.child is None:
                self.child = os.fork()
                if self.child == 0:
                    collector.collect_event("child", "1")
                    os._exit(0 if stream.stop() else 1)
            super().store(data)
    collector = TelemetryCollector()
    stream = TelemetryStream(collector, Forking(sys.argv[1]))
    stream.start()
    collector.collect_event("parent", "1")
    assert stream.stop()
    assert os.waitpid(stream.storage.child, 0)[1] == 0
    """
    run(script, tmp_path / "t", timeout=120.0)
    found = [(e.source, e.message) for e in FileStorage(tmp_path / "t").retrieve().events]
    assert sorted(found) == [("child", "1"), ("parent", "1")]
