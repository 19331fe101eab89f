"""What is not a file costs itself, is named, and the rest is answered."""

from __future__ import annotations

import os
import socket

import pytest

from rimp_otel import FileStorage, TelemetryData, TelemetryEvent, open_recording
from rimp_otel.cli.main import main


def make_socket(path):
    """Leave a socket at a path."""
    listener = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path has a short limit
    try:
        listener.bind(path.name)
    finally:
        os.chdir(here)
        listener.close()


PLACES = {
    "directory": (lambda path: path.mkdir(), "Is a directory"),
    "pipe": (os.mkfifo, "Not a regular file"),
    "link to a directory": (lambda path: path.symlink_to("/"), "Is a directory"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), "Not a regular file"),
    "links in a circle": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "socket": (make_socket, "No such device or address"),
    "0xFF": (lambda path: path.write_bytes(b"\xff" * 200_000), "JSON is malformed"),
}


@pytest.fixture(params=PLACES)
def place(request, tmp_path):
    """Return a path of an active file at which there is something else, and what is said of it."""
    storage = FileStorage(tmp_path / "telemetry")
    storage.store(TelemetryData([TelemetryEvent("a", "sealed")]))
    storage.rotate()
    storage.store(TelemetryData([TelemetryEvent("a", "active")]))
    storage.close()
    make, reason = PLACES[request.param]
    path = tmp_path / "telemetry" / "traces.jsonl"
    make(path)
    return path, reason


def messages(batches):
    """Return the messages of batches."""
    return sorted(event.message for data in batches for event in data.events)


def test_storage(place):
    """Whatever is retrieved is all the rest; what is there is named once."""
    path, reason = place
    storage = FileStorage(path.parent)
    for _ in range(2):
        assert messages([storage.retrieve()]) == ["active", "sealed"]
        assert messages(storage.iter_retrieve()) == ["active", "sealed"]
        ((found, line, said),) = storage.damaged
        assert (found, said[: len(reason)]) == (path, reason)
        assert line == (reason == "JSON is malformed")


def test_polls(place):
    """A reader that follows the recording goes on, and names it once."""
    path, _ = place
    recording = open_recording(path.parent)
    assert messages(recording.poll(final=True)) == ["active", "sealed"]
    assert messages(recording.poll(final=True)) == []
    assert [damaged.path for damaged in recording.damaged] == [path]


@pytest.mark.parametrize("command", ["logs", "stats", "traces"])
def test_commands(place, command, capsys):
    """A command shows the rest."""
    path, reason = place
    assert main([command, "--path", str(path.parent)]) == 0
    if command == "stats":
        assert reason in capsys.readouterr().out
