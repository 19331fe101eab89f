"""Modules that a recorder imports while it runs, under ``process.importing``."""

from __future__ import annotations

import os

import pytest

from tests.processes import run

FORBID = """
import os, sys
import opentelemetry.sdk.metrics.export
from opentelemetry import metrics, trace
from rimp_otel import TelemetryConfig, install

class Forbidding:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("rimp_otel") or name in ("hashlib", "_hashlib"):
            print("imports", name, flush=True)
        return None

def record(number):
    tracer = trace.get_tracer("test")
    with tracer.start_as_current_span(f"span {number}", attributes={"number": number}):
        telemetry.collector.collect_event("test", f"event {number}", metadata={"number": number})
        telemetry.collector.collect_metric("metric", number)
    for odd in ({"a": "\\ud800"}, {"a": ["b", "\\ud800"]}, {"a": 2**70}):
        tracer.start_span("odd", attributes=odd).end()
    logging.getLogger("test").warning("log %d", number)
    counter.add(1)

import logging
path, backend = sys.argv[1:]
telemetry = install(TelemetryConfig(
    storage_backend=backend, storage_path=path if backend != "memory" else None,
    metric_interval=0.1, realtime_mode=True,
))
counter = metrics.get_meter("test").create_counter("counter")
"""


@pytest.mark.parametrize("backend", ["file", "sqlite", "memory"])
def test_nothing_is_imported_once_a_stream_has_drained(backend, tmp_path):
    """Neither by recording, nor by the stream's thread, in a forked child, or at exit."""
    script = f"""{FORBID}
record(1)
telemetry.stream.flush()
sys.meta_path.insert(0, Forbidding())
record(2)
telemetry.stream.flush()
record(3)
if os.fork() == 0:
    record(4)
    sys.exit()
os.wait()
record(5)
"""
    assert run(script, tmp_path / "recorded", backend) == ""


def test_consumers_and_listeners_import_nothing(tmp_path):
    """Adding one imports what makes objects of records."""
    script = f"""{FORBID}
def read(data):
    return data.spans, data.events, data.metrics, data.log_records, data.metrics_data

record(1)
telemetry.stream.force_flush()
telemetry.stream.add_consumer(read)
telemetry.collector.add_listener(read)
sys.meta_path.insert(0, Forbidding())
record(2)
telemetry.stream.force_flush()
assert telemetry.stream.stats().consumers[0].failed == 0
"""
    assert run(script, tmp_path / "recorded", "file") == ""


def test_all_is_stored_of_a_program_that_ends_at_once(tmp_path):
    """Its first drain is the last one, at exit."""
    script = f"""{FORBID}
record(1)
"""
    run(script, tmp_path / "recorded", "file")
    counted = """
import sys
from rimp_otel import FileStorage
data = FileStorage(sys.argv[1]).retrieve()
print(len(data.spans), [event.message for event in data.events])
"""
    found = run(counted, tmp_path / "recorded")
    assert found == "4 ['event 1', 'log 1']\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_waits_for_an_import(tmp_path):
    """The child finds the module whole, although the thread that imported it is not there."""
    (tmp_path / "slow_module.py").write_text(
        "import import_events as events\nevents.begun.set()\nevents.go_on.wait(30)\nDONE = True\n"
    )
    (tmp_path / "import_events.py").write_text(
        "import threading\nbegun, go_on = threading.Event(), threading.Event()\n"
    )
    script = """
import os, sys, threading
sys.path.insert(0, sys.argv[1])
import import_events as events
from rimp_otel import process
process._MAX_IMPORT_WAIT = 30.0

def use_slow_module():
    with process.importing():
        import slow_module
    return slow_module.DONE

thread = threading.Thread(target=use_slow_module)
thread.start()
events.begun.wait()
os.register_at_fork(before=events.go_on.set)  # called before those that were registered earlier
child = os.fork()
if child == 0:
    os._exit(0 if use_slow_module() else 1)
print(os.waitpid(child, 0)[1])
"""
    assert run(script, tmp_path) == "0\n"
