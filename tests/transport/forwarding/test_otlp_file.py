"""The destination that is a file or a directory of OTLP JSON lines."""

from __future__ import annotations

import os
import stat

import pytest

from rimp_otel.errors import ConfigurationError
from rimp_otel.models.records import Signal
from rimp_otel.transport.forwarding.destination import (
    Batch,
    Delivered,
    RetryLater,
    Stopped,
    open_destination,
)
from rimp_otel.transport.forwarding.destination_options import DestinationOptions

SPANS, LOGS = b'{"resourceSpans":[{}]}', b'{"resourceLogs":[{}]}'
PATIENCE = 20.0


def open_at(url):
    """Return a destination."""
    return open_destination(str(url), DestinationOptions())


def send(url, *batches):
    """Return what became of batches."""
    destination = open_at(url)
    try:
        return [destination.send(batch, PATIENCE) for batch in batches]
    finally:
        destination.close()


TRACES, RECORDS = Batch(Signal.TRACES, [SPANS, SPANS], 2), Batch(Signal.LOGS, [LOGS], 1)


@pytest.mark.parametrize("as_url", [True, False])
def test_a_directory_has_a_file_for_each_signal(tmp_path, as_url):
    """It is made, private to its owner; what is sent again is appended."""
    path = tmp_path / "out put"
    url = f"file://{tmp_path}/out%20put" if as_url else path
    assert send(url, TRACES, RECORDS) == [Delivered(), Delivered()]
    assert send(url, RECORDS) == [Delivered()]
    assert (path / "traces.jsonl").read_bytes() == SPANS + b"\n" + SPANS + b"\n"
    assert (path / "logs.jsonl").read_bytes() == (LOGS + b"\n") * 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((path / "logs.jsonl").stat().st_mode) == 0o600


def test_a_file_has_all_signals(tmp_path):
    """Its directory is made too."""
    path = tmp_path / "a" / "b.jsonl"
    assert send(path, TRACES, RECORDS) == [Delivered(), Delivered()]
    assert path.read_bytes() == SPANS + b"\n" + SPANS + b"\n" + LOGS + b"\n"


def test_the_name_is_the_absolute_path(tmp_path, monkeypatch):
    """Which identifies the cursor, wherever it is started."""
    monkeypatch.chdir(tmp_path)
    destination = open_at("out.jsonl")
    assert destination.name == f"file://{tmp_path}/out.jsonl"
    destination.close()


def test_a_torn_end_does_not_spoil_what_is_appended(tmp_path):
    """A forwarder that was killed has left a part of a line."""
    path = tmp_path / "b.jsonl"
    path.write_bytes(SPANS + b"\n" + SPANS[:9])
    assert send(path, RECORDS) == [Delivered()]
    assert path.read_bytes().splitlines() == [SPANS, SPANS[:9], LOGS]


def test_a_file_is_of_one_forwarder(tmp_path):
    """Another one waits until the first has closed it."""
    path = tmp_path / "b.jsonl"
    first, second = open_at(path), open_at(path)
    assert first.send(RECORDS, PATIENCE) == Delivered()
    assert second.send(RECORDS, PATIENCE) == RetryLater(f"another process forwards into {path}")
    first.close()
    assert second.send(RECORDS, PATIENCE) == Delivered()
    second.close()


def test_a_file_that_was_moved_away_is_made_anew(tmp_path):
    """As by logrotate."""
    path = tmp_path / "b.jsonl"
    destination = open_at(path)
    destination.send(RECORDS, PATIENCE)
    path.rename(tmp_path / "old")
    assert destination.send(RECORDS, PATIENCE) == Delivered()
    destination.close()
    assert path.read_bytes() == (tmp_path / "old").read_bytes() == LOGS + b"\n"


def test_what_is_no_file_stops(tmp_path):
    """Nothing is acknowledged that a device has swallowed."""
    path = tmp_path / "b.jsonl"
    os.mkfifo(path)
    (outcome,) = send(path, RECORDS)
    assert outcome == Stopped(f"cannot write {path}: Not a regular file")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("{}/x.jsonl.zst", "cannot be compressed"),
        ("file://host{}/x", "must be given as its path"),
        ("{}/there/below", "Not a directory"),
        ("{}/recording", "is a recording"),
        ("{}/recording/x.jsonl", "is a recording"),
    ],
)
def test_a_path_that_is_not_allowed_is_refused(tmp_path, url, why):
    """Before anything is sent."""
    (tmp_path / "there").write_text("")
    (tmp_path / "recording" / "journal").mkdir(parents=True)
    (tmp_path / "recording" / "journal" / "lock").write_text("")
    with pytest.raises(ConfigurationError, match=why):
        open_at(url.format(tmp_path))
