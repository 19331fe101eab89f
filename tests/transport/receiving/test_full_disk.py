"""A disk that is full: requests are refused for as long as it is, and nothing that was answered is lost."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.crash.full import can_mount, small_disk
from tests.transport.serving import DEADLINE, Served, span, span_names, traces

MEBIBYTE = 1024 * 1024


def request(number):
    """Return a request of a hundred spans with names of their own."""
    spans = [span(n, attributes=PAD) for n in range(number * 100, number * 100 + 100)]
    return traces(*spans)


PAD = [{"key": "pad", "value": {"stringValue": "x" * 1_000}}]


@pytest.mark.parametrize("name", ["telemetry", "telemetry.db"])
def test_requests_on_a_full_disk(tmp_path, name):
    """503 with Retry-After, never a success that is none; 200 again once there is room."""
    if not can_mount():
        pytest.skip("no file system can be mounted here")
    # Kept are a tenth of the disk, unless told otherwise.
    with small_disk(tmp_path, 20 * MEBIBYTE) as disk:
        path = disk / name
        with Served(path, "--retain", "none") as running:
            taken, refused = [], None
            connection = running.connect()
            for number in range(1_000):
                answer = running.post(request(number), connection=connection)
                if answer.status != 200:
                    refused = answer
                    break
                taken.append(number)
            assert refused is not None
            assert (refused.status, refused.json["code"]) == (503, 14)
            assert int(refused.headers["retry-after"]) > 0
            assert "its disk is full" in refused.json["message"]
            assert len(taken) > 20
            assert span_names(path) == names_of(taken)
            resize(disk, 200 * MEBIBYTE)
            taken.append(1_000)
            deadline = time.monotonic() + DEADLINE
            while running.post(request(1_000), connection=connection).status != 200:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            connection.close()
            said = running.end()
        assert f"{len(taken)} requests: {len(taken) * 100:,} spans" in said
        assert span_names(path) == names_of(taken)


def names_of(numbers):
    """Return the names of the spans in requests, sorted."""
    return sorted(f"span-{number * 100 + n}" for number in numbers for n in range(100))


def resize(disk, size):
    """Make the file system larger."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)
