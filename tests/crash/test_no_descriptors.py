"""A process with no descriptors left: nothing is dropped while there is room, and all is stored in the end."""

from __future__ import annotations

import json
import sys

import pytest

from rimp_otel import FileStorage, SQLiteStorage
from tests.processes import run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

SCRIPT = """
import json, os, resource, sys
from rimp_otel import FileStorage, SQLiteStorage, TelemetryCollector, TelemetryConfig, TelemetryStream

backend, path, free, stage = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
config = TelemetryConfig(flush_interval=1e6, buffer_size=10**6, journal_size=2**20)
collector = TelemetryCollector(config)
storage = FileStorage(path) if backend == "file" else SQLiteStorage(path)
stream = TelemetryStream(collector, storage, interval=1e6)
recorded = 0

def record(records=100):
    global recorded
    for _ in range(records):
        collector.collect_event("files", f"{recorded:06d}", metadata={"text": "x" * 300})
        recorded += 1

def say():
    stats = collector.stats()
    assert stats.collected == recorded, stats
    assert stats.collected == stats.stored + stats.pending + sum(stats.dropped.values()), stats
    print(json.dumps(stats._asdict()), flush=True)

if stage == "recording":
    record()
    assert stream.force_flush()
used = max(map(int, os.listdir("/proc/self/fd"))) + 1
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, hard))
kept = []
try:
    while True:
        kept.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for _ in range(free):
    os.close(kept.pop())
for _ in range(5):
    record()
    stream._drain._not_before = 0.0  # as it is after its pause
    stream.flush()
    say()
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
if collector._journal is not None:
    collector._journal._not_before = 0.0
record()
assert stream.stop(20.0)
say()
"""


@pytest.mark.parametrize("free", [0, 1, 2, 4])
@pytest.mark.parametrize("stage", ["start", "recording"])
@pytest.mark.parametrize("backend", ["file", "sqlite"])
def test_no_descriptors(tmp_path, backend, stage, free):
    """What is recorded with no descriptor left, or few, waits, and is stored once there are some."""
    path = tmp_path / "t.db" if backend == "sqlite" else tmp_path / "t"
    *_, last = map(json.loads, run(SCRIPT, backend, path, free, stage).splitlines())
    assert last["stored"] == last["collected"] == 600 + 100 * (stage == "recording")
    assert not last["dropped"]
    storage = SQLiteStorage(path) if backend == "sqlite" else FileStorage(path)
    found = [event.message for event in storage.retrieve().events]
    assert sorted(found) == [f"{number:06d}" for number in range(last["collected"])]
