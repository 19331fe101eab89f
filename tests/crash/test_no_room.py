"""A disk that becomes full, or has no inodes left, while a process records: what is safe, and what is said.

On file systems made for it, where that is allowed (root).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from rimp_otel import FileStorage
from tests.crash.full import can_mount, small_disk
from tests.processes import run, run_process

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not can_mount(), reason="needs to mount a file system"
)

MEBIBYTE = 1024 * 1024

SETUP = """
import json, os, signal, sys
from rimp_otel import FileStorage, TelemetryCollector, TelemetryConfig, TelemetryStream

disk, path = sys.argv[1], sys.argv[1] + "/telemetry"
config = TelemetryConfig(flush_interval=1e6, buffer_size=10**6, record_open_spans=False)
collector = TelemetryCollector(config)
stream = TelemetryStream(collector, FileStorage(path, retain_size=None), interval=1e6)

def fill_disk():
    with open(disk + "/ballast", "wb", buffering=0) as file:
        try:
            while file.write(bytes(65536)):
                pass
        except OSError:
            pass

def say(**more):
    stats = collector.stats()
    assert stats.collected == stats.stored + stats.pending + sum(stats.dropped.values()), stats
    print(json.dumps({**stats._asdict(), **more}), flush=True)
"""

FILL_AND_DIE = """
for number in range(10):
    collector.collect_event("full", "before")
stream.flush()
fill_disk()
# Until the first record that has no room on disk any more.
number = 0
while not collector.stats().in_memory:
    collector.collect_event("full", f"{number:06d}", metadata={"text": "x" * 400})
    number += 1
for more in range(number, number + 99):
    collector.collect_event("full", f"{more:06d}", metadata={"text": "x" * 400})
stream.force_flush()
say(recorded=number + 99)
if sys.argv[2] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def messages(path):
    """Return the messages of what was recorded after the disk was full, in order."""
    found = FileStorage(path).retrieve().events
    return [event.message for event in found if event.message != "before"]


@pytest.mark.parametrize(("end", "code"), [("kill", -9), ("exit", 0)])
def test_the_reserve(tmp_path, end, code):
    """A segment's worth of records is safe on a disk that is full; what is not is counted, and said."""
    with small_disk(tmp_path, 24 * MEBIBYTE) as disk:
        said = json.loads(run(SETUP + FILL_AND_DIE, disk, end, code=code))
        # Two segments of 4 MiB, one in use and one in reserve; records of some 600 bytes.
        assert said["in_memory"] == 100
        assert said["recorded"] - 100 > 7 * MEBIBYTE // 700
        assert said["stored"] == 10
        command = [sys.executable, "-m", "rimp_otel", "stats", "--path", str(disk / "telemetry")]
        done = run_process(command)
        assert not done.returncode, done.stderr
        shown = done.stdout
        assert "100 records without room on disk, in memory: lost with the process" in shown
        journals = json.loads(run_process([*command, "--json"]).stdout)["journals"]
        assert sum(journal["in_memory"] for journal in journals) == 100
        os.unlink(disk / "ballast")
        next_one = SETUP + "stream.start(); stream.stop(); say()"
        done = run_process([sys.executable, "-c", next_one, str(disk)])
        assert "100 records had no room on disk when the process ended" in done.stderr
        expected = [f"{number:06d}" for number in range(said["recorded"] - 100)]
        assert messages(disk / "telemetry") == expected


def test_records_in_memory_while_their_process_lives(tmp_path):
    """``rimp stats`` says how many are not safe; nothing is once they are stored."""
    script = (
        FILL_AND_DIE
        + """
sys.stdin.readline()
os.unlink(disk + "/ballast")
collector._journal._not_before = 0.0  # as it is after a second
print(stream.force_flush(), flush=True)
say()
sys.stdin.readline()
"""
    )
    with small_disk(tmp_path, 24 * MEBIBYTE) as disk:
        child = subprocess.Popen(
            [sys.executable, "-c", SETUP + script, str(disk), "live"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            recorded = json.loads(child.stdout.readline())["recorded"]
            command = [
                sys.executable,
                "-m",
                "rimp_otel",
                "stats",
                "--path",
                str(disk / "telemetry"),
            ]
            done = run_process(command)
            assert not done.returncode, done.stderr
            shown = done.stdout
            assert "100 records without room on disk, in memory: not safe from a kill" in shown
            child.stdin.write("\n")
            child.stdin.flush()
            assert child.stdout.readline() == "True\n"
            said = json.loads(child.stdout.readline())
            assert said["in_memory"] == said["pending"] == 0
            assert said["stored"] == recorded + 10
            assert "in memory" not in run_process(command).stdout
        finally:
            child.communicate("\n", timeout=60)
        assert sorted(messages(disk / "telemetry")) == [f"{n:06d}" for n in range(recorded)]


NO_INODES = """
import contextlib, subprocess
from rimp_otel import StorageError
from opentelemetry.sdk.trace import TracerProvider

provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(collector)
tracer = provider.get_tracer("inodes")
recorded = 0

def record(records=50):
    global recorded
    for _ in range(records):
        with tracer.start_as_current_span("span"):
            collector.collect_event("inodes", "event", metadata={"text": "x" * 3000})
        collector.collect_metric("metric", 1.0)
        recorded += 3

if sys.argv[3] == "sealing":
    record()
    assert stream.force_flush()
# Whatever is there can be used, nothing more.
for number in range(100):
    try:
        open(f"{disk}/ballast{number}", "x").close()
    except OSError:
        break
for number in range(int(sys.argv[2])):
    os.unlink(f"{disk}/ballast{number}")
for _ in range(4):
    record()
    stream.flush()
    if sys.argv[3] == "sealing":
        with contextlib.suppress(StorageError):
            stream.storage.rotate()
    stats = collector.stats()
    assert stats.collected == recorded, stats
    say()
    collector._journal._not_before = 0.0  # as it is after a second
subprocess.run(["mount", "-o", "remount,nr_inodes=1000", disk], check=True)
collector._journal._not_before = 0.0
record()
assert stream.stop(20.0)
say(recorded=recorded)
"""


@pytest.mark.parametrize("inodes", [0, 1, 3, 5])
@pytest.mark.parametrize("stage", ["start", "sealing"])
def test_no_inodes(tmp_path, stage, inodes):
    """A disk with too few inodes hangs nothing; what is recorded on it is stored once it has some."""
    with small_disk(tmp_path, 64 * MEBIBYTE, "nr_inodes=60") as disk:
        *_, last = run(SETUP + NO_INODES, disk, inodes, stage).splitlines()
        said = json.loads(last)
        assert said["stored"] == said["recorded"] == said["collected"]
        assert not said["dropped"]
        found = FileStorage(disk / "telemetry").retrieve()
        assert len(found) == said["recorded"]
