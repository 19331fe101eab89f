"""The stream of changes."""

from __future__ import annotations

import json
import threading

import pytest

pytest.importorskip("starlette")

from rimp_otel import TelemetryData
from rimp_otel.storage.recording import open_storage
from tests.transport.serving import DEADLINE, Served, logs, span, traces
from tests.viewer.shown import OURS, Shown


def store(path, *texts):
    """Add to a recording."""
    with open_storage(path) as storage:
        storage.store(TelemetryData.from_otlp_json(texts))


class Stream:
    """A stream of events; a context manager."""

    def __init__(self, connection, headers=OURS):
        self.connection = connection
        connection.request("GET", "/api/live", headers=dict(headers))
        self.response = connection.getresponse()
        assert self.response.status == 200
        assert self.response.getheader("content-type") == "text/event-stream; charset=utf-8"
        assert self.response.readline() == b": following\n"
        assert self.response.readline() == b"\n"

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.connection.close()
        self.response.close()

    def next(self):
        """Return the counts of the next event."""
        lines = [self.response.readline() for _ in range(3)]
        assert (lines[0], lines[2]) == (b"event: change\n", b"\n"), lines
        return json.loads(lines[1].removeprefix(b"data: "))

    def until(self, **counts):
        """Wait until so many records have been told of, and not more."""
        found = dict.fromkeys(("traces", "logs", "metrics"), 0)
        wanted = {**found, **counts}
        while found != wanted:
            for signal, count in self.next().items():
                found[signal] += count
                assert found[signal] <= wanted[signal]


@pytest.mark.parametrize("name", ["recording", "recording.db"])
def test_records_that_come(tmp_path, name):
    """Each listener is told of all that come after it has begun to listen, and of nothing before."""
    path = tmp_path / name
    store(path, traces(span(1)))
    with Shown(path) as shown, Stream(shown.connect()) as first:
        store(path, traces(span(2), span(3)), logs("a"))
        first.until(traces=2, logs=1)
        with Stream(shown.connect()) as second:
            store(path, traces(span(4)))
            first.until(traces=1)
            second.until(traces=1)
        store(path, logs("b", "c"))
        first.until(logs=2)


def test_from_a_journal(tmp_path):
    """What is received is told before it is stored; a recording may begin to exist meanwhile."""
    path = tmp_path / "t"
    with Shown(path) as shown, Stream(shown.connect()) as stream, Served(path) as served:
        assert served.post(traces(span(1), span(2))).status == 200
        stream.until(traces=2)
        with Stream(served.connect(), {}) as own:
            assert served.post(traces(span(3))).status == 200
            own.until(traces=1)
            stream.until(traces=1)
            served.end()  # which ends the stream, and does not wait for its listener
            assert own.response.read() == b""


def test_the_following_ends_with_the_listeners(tmp_path):
    """The thread is there while somebody listens; the next one begins anew."""
    store(tmp_path / "t", traces(span(1)))

    def threads():
        return [thread for thread in threading.enumerate() if thread.name == "rimp-live"]

    with Shown(tmp_path / "t") as shown:
        for _ in range(2):
            assert threads() == []
            with Stream(shown.connect()):
                (thread,) = threads()
            thread.join(DEADLINE)
            assert not thread.is_alive()


def test_head(tmp_path):
    """HEAD is answered at once."""
    with Shown(tmp_path / "t") as shown:
        assert shown.request("HEAD", "/api/live").status == 200
