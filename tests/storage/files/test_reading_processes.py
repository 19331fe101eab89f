"""Reading what several processes write, rotate and seal, some of which are killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter

import pytest

from rimp_otel import FileStorage
from rimp_otel.storage.files.recording import FileRecording
from tests.processes import ROOT

WRITER = """
import random, sys
from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream
path, name, number, compression = sys.argv[1:]
config = TelemetryConfig(
    storage_backend="file", storage_path=path, flush_interval=0.01, rotate_size=4_000,
    compression=compression, sync="never",
)
stream = TelemetryStream(TelemetryCollector(config))
stop = False
with stream:
    for i in range(int(number)):
        stream.collector.collect_event(name, f"{name}:{i}", metadata={"x": "y" * (i % 100)})
        # Also the pace: the reader takes a line before each look.
        print(i, flush=True)
"""


class Process:
    """One that writes, and says which number it has collected last."""

    def __init__(self, path, name, number, compression):
        command = [sys.executable, "-c", WRITER, str(path), name, str(number), compression]
        self.name = name
        self.last = -1
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, env=env)

    def go_on(self, lines):
        """Reads what it says; False once it says nothing more."""
        for _ in range(lines):
            line = self._process.stdout.readline()
            if not line.endswith(b"\n"):
                return False
            self.last = int(line)
        return True

    def kill(self):
        """With SIGKILL. What it said before counts."""
        self._process.kill()
        while self.go_on(1):
            pass
        self.wait()

    def wait(self):
        """Until it has ended."""
        self._process.stdout.close()
        self._process.wait()


def missing_and_doubled(found, processes):
    """What the processes have collected and is not found; what is found twice."""
    expected = {f"{p.name}:{i}" for p in processes for i in range(p.last + 1)}
    return expected - set(found), [message for message, times in found.items() if times > 1]


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_each_record_once_at_any_time(tmp_path, compression):
    """Polled and retrieved: never an error, none missing, none twice, no line damaged."""
    chance = random.Random(1)
    path = tmp_path / "t"
    processes = [Process(path, f"p{i}", 3_000, compression) for i in range(3)]
    alive, polled, reader = list(processes), Counter(), FileRecording(path)
    looks = 0
    while alive:
        for process in list(alive):
            if not process.go_on(chance.randrange(200)):
                process.wait()
                alive.remove(process)
        looks += 1
        if looks == 8:
            alive.pop(0).kill()
            processes.append(Process(path, "heir", 1_000, compression))
            alive.append(processes[-1])
        polled.update(event.message for data in reader.poll() for event in data.events)
        assert missing_and_doubled(polled, processes) == (set(), [])
        storage = FileStorage(path)
        retrieved = Counter(event.message for event in storage.retrieve().events)
        assert missing_and_doubled(retrieved, processes) == (set(), [])
        assert reader.damaged == storage.damaged == []
    assert reader.files()[0].kind == "sealed"
    assert sum(polled.values()) >= 7_000
